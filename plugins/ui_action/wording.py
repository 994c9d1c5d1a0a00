"""What a reasoner's sentence means, read back from the ways in which the expert says things."""

from __future__ import annotations

import re
from functools import cache

from .games import experts

_WAYS = {
    "select": experts.SELECT,
    "pick": experts.PICK,
    "place": experts.PLACE,
    "send": experts.SEND,
    "recall": experts.RECALL,
    "commit": experts.COMMIT,
    "capture": experts.CAPTURE,
    "wait": experts.WAIT,
}
_SLOT = re.compile(r"\\\{(\w+)\\\}")
_VALUES = {"units": r"1 unit|\d units", "cell": r"[A-Z]\d", "sector": "[A-D]", "front": r"\d"}


def meaning(sentence: str) -> dict[str, str] | None:
    """What a sentence says, by name as in `experts.Decision.slots`; None for text that no expert would say."""
    said = " ".join(sentence.split())
    for intent, pattern in _patterns():
        if found := pattern.fullmatch(said):
            return {"intent": intent} | found.groupdict()
    return None


def spans(sentence: str) -> list[tuple[int, int]]:
    """What an expert's sentence decides, as (first character, one after the last): the words that begin it, which say
    what to do, and its values. None in other text.
    """
    for _, pattern in _patterns():
        if found := pattern.fullmatch(sentence):
            opening = re.match(r"\S+(?: \S+){0,2}", sentence)
            return [opening.span() if opening else (0, 0), *(found.span(name) for name in found.groupdict())]
    return []


@cache
def _patterns() -> tuple[tuple[str, re.Pattern[str]], ...]:
    return tuple((intent, _pattern(way)) for intent, ways in _WAYS.items() for way in ways)


def _pattern(way: str) -> re.Pattern[str]:
    def slot(match: re.Match[str]) -> str:
        return f"(?P<{match[1]}>{_VALUES.get(match[1], r'[a-z]+')})"

    return re.compile(_SLOT.sub(slot, re.escape(way)))
