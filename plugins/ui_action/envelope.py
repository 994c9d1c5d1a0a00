"""What stands around the actions in a model's output: its thoughts, labels, tags and code fences.

    response = [thought] "Action" (":" | "：") actions
    thought  = "Thought:" T | "Reflection:" T "Action_Summary:" T | "Action_Summary:" T
             | "<Thought>" T "</Thought>" ["Action_Summary:" T] | "<think…>" T "</think…>"

or `<answer>T</answer>` in place of an action, and everything also inside `<computer_env>`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import get_args

from .actions import ActionType
from .errors import ParseError
from .scanning import Notes

# Every name that models use for an action, in lower case.
ALIASES: dict[str, ActionType] = {
    **{name: name for name in get_args(ActionType)},
    "left_single": "click",
    "left_click": "click",
    "double_click": "left_double",
    "right_click": "right_single",
    "move_to": "hover",
    "mouse_move": "hover",
    "select": "drag",
    "left_click_drag": "drag",
    "home": "press_home",
    "back": "press_back",
}

_BLANK = r"[^\S\n]*+"
_TAG = r"<(?:computer_env|Output)>"
_LINE = rf"^{_BLANK}(?:{_TAG}{_BLANK})?"
_MARKER = re.compile(rf"{_LINE}(?:Action([:：])|<answer>)", re.MULTILINE)
_INLINE_MARKER = re.compile(r"(?<!\w)Action([:：])")
_CALL = re.compile(r"([^\W\d]\w*+)\(")
_BARE_CALL = re.compile(_LINE + _CALL.pattern, re.MULTILINE)
_THINK = re.compile(r"\s*+<(think\w{0,40}+)>")
_OPENING = re.compile(rf"(?:\s++|```(?:\w++(?!\())?|{_TAG})*+")
_LABEL = re.compile(r"(Thought|Reflection|Action_Summary)[:：]|<Thought>")
_SUMMARY = re.compile(r"Action_Summary[:：]")
_NEXT_BLOCK = re.compile(rf"(?:Thought|Reflection|Action_Summary|Action)[:：]|<think|<Thought>|<answer>|{_TAG}")


@dataclass(frozen=True, slots=True)
class Envelope:
    """An output taken apart.

    Attributes:
        thought, reflection: without spaces around them; None if there are none.
        body: what follows the marker: the actions and what comes after them, or the text of an `<answer>`.
        is_answer: which of the two.
    """

    thought: str | None
    reflection: str | None
    body: str
    is_answer: bool


def open_envelope(text: str, notes: Notes) -> Envelope:
    """Find the thought and the first action block. Raises ParseError("no_action"), or "bad_syntax" for an open tag."""
    think, text = _take_think(text)
    begin, end = _find_marker(text, notes)
    spoken, reflection = _read_prose(text[:begin], notes)
    thought = "\n".join(part for part in (think, spoken) if part) or None
    if not text[:end].endswith("<answer>"):
        return Envelope(thought, reflection or None, text[end:], is_answer=False)
    closing = text.find("</answer>", end)
    if closing < 0:
        raise ParseError("bad_syntax", "an <answer> that does not end: close it with </answer>")
    return Envelope(thought, reflection or None, text[end:closing].strip(), is_answer=True)


def skip_opening(text: str, at: int = 0) -> int:
    """Behind spaces, code fences and tags that only wrap what follows."""
    found = _OPENING.match(text, at)
    return at if found is None else found.end()


def begins_block(text: str, at: int) -> bool:
    """Whether a second thought or action block begins here."""
    return _NEXT_BLOCK.match(text, at) is not None


def _take_think(text: str) -> tuple[str, str]:
    """What the model thought in `<think…>`, and the rest. Actions in there are not meant."""
    found = _THINK.match(text)
    if found is None:
        return "", text
    closing = f"</{found[1]}>"
    end = text.find(closing, found.end())
    if end < 0:
        raise ParseError("bad_syntax", f"thoughts that do not end: close them with {closing}")
    return text[found.end() : end].strip(), text[end + len(closing) :]


def _find_marker(text: str, notes: Notes) -> tuple[int, int]:
    """Where the line of the first marker begins, and where the actions or the answer begin."""
    opening = skip_opening(text)
    if _is_call(_CALL.match(text, opening)):
        return _without_marker(opening, notes)
    found = _MARKER.search(text)
    if found is None:
        found = _INLINE_MARKER.search(text)
        if found is None:
            return _find_bare_call(text, opening, notes)
        notes.allow("lenient:inline_action", "bad_syntax", "'Action:' within a line: begin a new line with it")
    if found[1] == "：":
        notes.allow("lenient:full_width_colon", "bad_syntax", "'Action：': write 'Action:'")
    return found.start(), found.end()


def _find_bare_call(text: str, opening: int, notes: Notes) -> tuple[int, int]:
    """The first line of a labelled thought that begins with a call."""
    if _LABEL.match(text, opening):
        for found in _BARE_CALL.finditer(text, opening):
            if _is_call(found):
                return _without_marker(found.start(1), notes)
    raise ParseError("no_action", "no action in this output: write 'Action: NAME(...)' on a line of its own")


def _without_marker(at: int, notes: Notes) -> tuple[int, int]:
    notes.allow("lenient:bare_call", "no_action", "an action without its marker: write 'Action: NAME(...)'")
    return at, at


def _is_call(found: re.Match[str] | None) -> bool:
    return found is not None and found[1].lower() in ALIASES


def _read_prose(text: str, notes: Notes) -> tuple[str, str]:
    """(thought, reflection), "" for each that is missing."""
    text = _without_last_opening(text[skip_opening(text) :].rstrip())
    label = _LABEL.match(text)
    if label is None:
        if text:
            notes.allow("lenient:unlabelled_thought", "bad_syntax", "text before the action: begin it with 'Thought:'")
        return text, ""
    rest = text[label.end() :]
    if label[1] == "Reflection":
        summary = _SUMMARY.search(rest)
        if summary is None:
            return "", rest.strip()
        return rest[summary.end() :].strip(), rest[: summary.start()].strip()
    if label[1] is None:
        inner, closed, after = rest.partition("</Thought>")
        if not closed:
            raise ParseError("bad_syntax", "a <Thought> that does not end: close it with </Thought>")
        summary = _SUMMARY.match(after.lstrip())
        after = after.lstrip()[summary.end() :] if summary else after
        return "\n".join(part for part in (inner.strip(), after.strip()) if part), ""
    return rest.strip(), ""


def _without_last_opening(text: str) -> str:
    """Without the tag or the code fence that opens around the actions behind it."""
    before, _, last = text.rpartition("\n")
    # Of fences in pairs, the last one closes a code block of the thought.
    if (last.startswith("```") and text.count("```") % 2) or last in ("<computer_env>", "<Output>"):
        return before.rstrip()
    return text
