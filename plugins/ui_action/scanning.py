"""Calls in a model's output, `NAME(argument='text', ...)`: read in one pass from left to right, never evaluated.

Every pattern is possessive (`*+`, `++`): none can go back over what it has read, so time grows with the length of the
text and no faster.
"""

from __future__ import annotations

import re

from .errors import ParseError

MAX_ARGUMENTS = 16
MAX_NAME = 64
MAX_INNER_QUOTES = 100

_SPACE = re.compile(r"\s*+")
_NAME = re.compile(r"[^\W\d][\w.]*+")
_ARGUMENT = re.compile(r"([^\W\d]\w*+)\s*+=\s*+(?=['\"])")
_CLOSING = r"(?:\s++|</s>|<\|im_end\|>|<\|endoftext\|>|```|</computer_env>|</Output>)*+"
_CLOSING_TOKENS = re.compile(_CLOSING)
# What may follow the quote that ends an argument. A quote before anything else is part of the text: 'it's'.
_AFTER_QUOTE = re.compile(rf"\s*+(?:\)|,\s*+[^\W\d]\w*+\s*+=\s*+['\"]|{_CLOSING}\Z)")
_UP_TO_QUOTE = {quote: re.compile(rf"(?:[^{quote}\\]++|\\.)*+", re.DOTALL) for quote in "'\""}


class Notes:
    """What had to be read leniently on the way through one output.

    Attributes:
        flags: each once, in order of appearance.
    """

    def __init__(self, lenient: bool) -> None:
        self.lenient = lenient
        self.flags: list[str] = []

    def allow(self, flag: str, code: str, message: str) -> None:
        """Note a reading that only a lenient parser makes. Raises ParseError in a strict one."""
        if not self.lenient:
            raise ParseError(code, message)
        if flag not in self.flags:
            self.flags.append(flag)


def shown(text: str, limit: int = 40) -> str:
    """Text from a model as it may stand in a message: quoted, one line, short."""
    return repr(text if len(text) <= limit else text[:limit] + "…")


def skip_space(text: str, at: int) -> int:
    """Where the next character that is no space is."""
    return _end(_SPACE, text, at)


def skip_closing(text: str, at: int) -> int:
    """Behind spaces and whatever ends a turn without being part of it: `</s>`, `<|im_end|>`, a code fence."""
    return _end(_CLOSING_TOKENS, text, at)


def read_name(text: str, at: int) -> tuple[str, int]:
    """The name of the call that begins here, and where its arguments begin. Raises ParseError("bad_syntax")."""
    found = _NAME.match(text, at)
    if found is None:
        raise ParseError("bad_syntax", f"{shown(text[at : at + 60])} is no call: write NAME(argument='text')")
    opening = skip_space(text, found.end())
    if not text.startswith("(", opening):
        raise ParseError("bad_syntax", f"{shown(found[0])} without arguments: write NAME(argument='text') or NAME()")
    return found[0], opening + 1


def read_arguments(text: str, at: int, notes: Notes) -> tuple[dict[str, str], int]:
    """The arguments from behind the opening parenthesis, as written, and where the text goes on after the call.

    Raises:
        ParseError: "missing_argument" for one without a name, "bad_argument" for one given twice, else "bad_syntax".
    """
    arguments: dict[str, str] = {}
    at = skip_space(text, at)
    if text.startswith(")", at):
        return arguments, at + 1
    while True:
        name, value, at = _read_argument(text, at, notes)
        if name in arguments:
            raise ParseError("bad_argument", f"{name} is given twice: give it once")
        if len(arguments) == MAX_ARGUMENTS:
            raise ParseError("bad_syntax", f"a call of more than {MAX_ARGUMENTS} arguments")
        arguments[name] = value
        at = skip_space(text, at)
        if text.startswith(")", at):
            return arguments, at + 1
        if text.startswith(",", at):
            at = skip_space(text, at + 1)
        elif skip_closing(text, at) == len(text):
            notes.allow("lenient:unclosed_call", "bad_syntax", "a call without its closing parenthesis: add ')'")
            return arguments, at
        else:
            raise ParseError("bad_syntax", f"{shown(text[at : at + 60])} after an argument: write ',' or ')'")


def _read_argument(text: str, at: int, notes: Notes) -> tuple[str, str, int]:
    found = _ARGUMENT.match(text, at)
    if found is None:
        if text[at : at + 1] in ("'", '"'):
            raise ParseError("missing_argument", "an argument without a name: write NAME='text'")
        raise ParseError("bad_syntax", f"{shown(text[at : at + 60])} is no argument: write NAME='text'")
    if len(found[1]) > MAX_NAME:
        raise ParseError("bad_syntax", f"an argument's name of {len(found[1])} characters: up to {MAX_NAME} are read")
    value, at = read_quoted(text, found.end(), notes)
    return found[1], value, at


def read_quoted(text: str, at: int, notes: Notes) -> tuple[str, int]:
    r"""The quoted text that begins here, without its escapes (\n, \', \" and \\), and where the text goes on.

    Raises:
        ParseError: "bad_syntax" if it never ends.
    """
    quote, begin, end = text[at], at + 1, at
    for _ in range(MAX_INNER_QUOTES + 1):
        end = _end(_UP_TO_QUOTE[quote], text, end + 1)
        if not text.startswith(quote, end):
            break
        if _AFTER_QUOTE.match(text, end + 1):
            return _unescape(text[begin:end]), end + 1
        notes.allow("lenient:inner_quote", "bad_syntax", rf"a quote inside a quoted text: write \{quote}")
    raise ParseError("bad_syntax", f"the text quoted from character {begin} on does not end: close it with {quote}")


def _unescape(text: str) -> str:
    r"""Other escapes stay as they are: in C:\temp the model meant no tab."""
    # Every second backslash of a run is taken first, so that \\n is a backslash and an n.
    parts = text.split("\\\\")
    return "\\".join(part.replace("\\n", "\n").replace("\\'", "'").replace('\\"', '"') for part in parts)


def _end(pattern: re.Pattern[str], text: str, at: int) -> int:
    """Of a pattern that also matches nothing."""
    found = pattern.match(text, at)
    return at if found is None else found.end()
