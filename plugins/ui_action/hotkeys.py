"""Key combinations as a model writes them: `ctrl c`, `ctrl+c`, `Ctrl-Shift-T`."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

from .errors import ParseError
from .keys import key_names
from .scanning import shown

MAX_KEYS = 3
MAX_LETTERS = 20

# The keys that also separate others have a name of their own.
_SPELLED = {"+": "plus", "-": "minus"}
_SIGNS = {name: sign for sign, name in _SPELLED.items()}
_PARTS = re.compile(r"[+-]|[^\s+-]++")


def read_keys(text: str, most: int = MAX_KEYS) -> tuple[str, ...]:
    """The keys in order, under the names that `keys.KEYS` uses; whether they may be pressed is the policy's matter.

    Spaces, + and - separate keys. + or - is a key itself where no other can be meant: alone, at the end, or twice.

    Raises:
        ParseError: "too_many_keys", "bad_argument" for what can be no key, or "missing_argument" without any.
    """
    if len(text) > MAX_LETTERS * (MAX_KEYS + 1):
        raise ParseError("bad_argument", f"{shown(text)} is no combination of keys: write key='ctrl c'")
    keys: list[str] = []
    separated = True
    parts = _PARTS.findall(unicodedata.normalize("NFKC", text))
    for place, part in enumerate(parts):
        if part in _SPELLED and not separated and place < len(parts) - 1:
            separated = True
            continue
        separated = False
        if len(keys) == most:
            raise ParseError("too_many_keys", f"{shown(text)} is more than {most} at once: press fewer keys")
        keys.append(_key(part))
    if not keys:
        raise ParseError("missing_argument", "no key: write key='ctrl c'")
    return tuple(keys)


def spell_keys(keys: Sequence[str]) -> str:
    """The way to write them that `read_keys` understands."""
    return " ".join(_SPELLED.get(key, key) for key in keys)


def _key(name: str) -> str:
    name = key_names((_SIGNS.get(name.lower(), name),))[0]
    if not (name.isascii() and name.isprintable() and 0 < len(name) <= MAX_LETTERS):
        raise ParseError("bad_argument", f"{shown(name)} is no key: write names like ctrl, enter, f5 or a")
    return name
