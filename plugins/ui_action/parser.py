"""A model's output in UI-TARS's grammar, as typed actions.

What the model writes is data: it is read once, from left to right, and nothing of it is evaluated. Anything that is
not clearly an action of the closed set is a `ParseError`, and then nothing is carried out.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import get_args

from .actions import ALLOWED, LONG_PRESS_MILLISECONDS, WAIT_MILLISECONDS, Action, ActionType, Direction, Platform, Point
from .coordinates import clamp, decode, is_inside
from .envelope import ALIASES, begins_block, open_envelope, skip_opening
from .errors import ParseError
from .hotkeys import MAX_KEYS, read_keys
from .scanning import Notes, read_arguments, read_name, shown, skip_closing
from .screen import Screen

MAX_ACTIONS = 32
MAX_SECONDS = 60
TOLERANCE = 1.0
MAX_POINT_LETTERS = 200

# As models call their arguments, and what that is here.
_MEANINGS = {
    "start_box": "start",
    "start_point": "start",
    "point": "start",
    "end_box": "end",
    "end_point": "end",
    "hotkey": "key",
}
_POINTED = ("start",)
_ARGUMENTS: dict[ActionType, tuple[str, ...]] = {
    "click": _POINTED,
    "left_double": _POINTED,
    "right_single": _POINTED,
    "hover": _POINTED,
    "drag": ("start", "end"),
    "hotkey": ("key",),
    "press": ("key",),
    "release": ("key",),
    "type": ("content",),
    "scroll": ("start", "end", "direction"),
    "long_press": ("start", "time"),
    "open_app": ("app_name",),
    "navigate": ("content",),
    "wait": ("time",),
    "finished": ("content",),
}
_WRITTEN = {"start": "start_box", "end": "end_box"}
_WRAPPERS = (("<|box_start|>", "<|box_end|>"), ("<point>", "</point>"), ("<bbox>", "</bbox>"), ("(", ")"), ("[", "]"))
_NUMBER = re.compile(r"[+-]?[0-9]+(?:\.[0-9]+)?")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*+://")


@dataclass(frozen=True, slots=True)
class Response:
    """What a model answered.

    Attributes:
        thought: what it says it is about to do, verbatim but for the spaces around it; None if it says nothing.
        reflection: what it says about the last step; None if it says nothing.
        actions: at least one, in order.
        flags: what was read leniently or left out: "lenient:full_width_colon", "multi_block", "default_point",
            "extra_argument:button", ...; () for an output to the letter.
    """

    thought: str | None
    reflection: str | None
    actions: tuple[Action, ...]
    flags: tuple[str, ...] = ()


def parse_response(text: str, *, screen: Screen, platform: Platform | None = None, lenient: bool = True) -> Response:
    """Read one output; time grows linearly with its length.

    Of several thought and action blocks only the first counts. A point may lie a pixel beyond the screen and is then
    brought back to its edge.

    Args:
        screen: the one that the model saw: its coordinates are read in that screen's space.
        platform: whose actions there are; None: all.
        lenient: accept what would be flagged. If not, it is an error.

    Raises:
        ParseError: for anything else; its `code` says what is wrong.
    """
    notes = Notes(lenient)
    envelope = open_envelope(text, notes)
    if envelope.is_answer:
        actions = (Action(_allowed("finished", platform), text=envelope.body),)
    else:
        actions = _read_actions(envelope.body, screen, platform, notes)
    return Response(envelope.thought, envelope.reflection, actions, tuple(notes.flags))


def _read_actions(text: str, screen: Screen, platform: Platform | None, notes: Notes) -> tuple[Action, ...]:
    actions: list[Action] = []
    at = skip_opening(text)
    if skip_closing(text, at) == len(text):
        raise ParseError("no_action", "nothing follows 'Action:': write NAME(...), such as wait()")
    while True:
        if len(actions) == MAX_ACTIONS:
            raise ParseError("bad_syntax", f"more than {MAX_ACTIONS} actions in one output: give fewer")
        name, at = read_name(text, at)
        kind = _allowed(_known(name, notes), platform)
        arguments, at = read_arguments(text, at, notes)
        actions.append(_action(kind, _by_meaning(kind, arguments, notes), screen, notes))
        following = _next_action(text, at, notes)
        if following is None:
            return tuple(actions)
        at = following


def _next_action(text: str, at: int, notes: Notes) -> int | None:
    """Where the next action begins; None if that was the last one."""
    following = skip_closing(text, at)
    if following == len(text):
        return None
    newlines = text.count("\n", at, following)
    if begins_block(text, following):
        notes.allow("multi_block", "bad_syntax", "a second block after the actions: give one thought and one action")
        return None
    if not newlines:
        raise ParseError("bad_syntax", f"{shown(text[following:])} after an action: begin a new line")
    try:
        read_name(text, following)
    except ParseError as error:
        notes.allow("lenient:trailing_text", "bad_syntax", f"text after the actions: {error}")
        return None
    if newlines < 2:
        notes.allow("lenient:single_newline", "bad_syntax", "actions on lines that follow: put a blank line between")
    return following


def _known(name: str, notes: Notes) -> ActionType:
    kind = ALIASES.get(name.lower())
    if kind is None:
        raise ParseError("unknown_action", f"{shown(name)} is no action: use one of {', '.join(get_args(ActionType))}")
    if name != name.lower():
        notes.allow("lenient:upper_case", "unknown_action", f"{shown(name)}: write {name.lower()}")
    return kind


def _allowed(kind: ActionType, platform: Platform | None) -> ActionType:
    if platform is not None and kind not in ALLOWED[platform]:
        names = ", ".join(sorted(ALLOWED[platform]))
        raise ParseError("unknown_action", f"{kind} is no action of a {platform} screen: use one of {names}")
    return kind


def _by_meaning(kind: ActionType, arguments: Mapping[str, str], notes: Notes) -> dict[str, str]:
    """The arguments that this action has; others are left out."""
    found: dict[str, str] = {}
    for name, value in arguments.items():
        meaning = _MEANINGS.get(name, name)
        if meaning not in _ARGUMENTS.get(kind, ()):
            notes.allow(f"extra_argument:{name}", "bad_argument", f"{kind} has no argument {shown(name)}: leave it out")
        elif meaning in found:
            raise ParseError("bad_argument", f"{name} says what another argument of {kind} says: give one of them")
        else:
            found[meaning] = value
    return found


def _action(kind: ActionType, given: Mapping[str, str], screen: Screen, notes: Notes) -> Action:
    match kind:
        case "click" | "left_double" | "right_single" | "hover":
            return Action(kind, start=_point(kind, given, "start", screen))
        case "drag":
            return Action(kind, start=_point(kind, given, "start", screen), end=_point(kind, given, "end", screen))
        case "hotkey" | "press" | "release":
            return Action(kind, keys=read_keys(_needed(kind, given, "key"), MAX_KEYS if kind == "hotkey" else 1))
        case "type":
            if "content" not in given:
                raise ParseError("missing_argument", "type without its text: write type(content='...')")
            text = given["content"]
            return Action(kind, text=text.removesuffix("\n"), submit=text.endswith("\n"))
        case "scroll":
            return _scroll(given, screen, notes)
        case "long_press":
            held = _milliseconds(kind, given, LONG_PRESS_MILLISECONDS)
            return Action(kind, start=_point(kind, given, "start", screen), milliseconds=held)
        case "open_app":
            return Action(kind, text=_needed(kind, given, "app_name"))
        case "navigate":
            return Action(kind, text=_address(_needed(kind, given, "content")))
        case "wait":
            return Action(kind, milliseconds=_milliseconds(kind, given, WAIT_MILLISECONDS))
        case "finished":
            return Action(kind, text=given.get("content", ""))
        case _:
            return Action(kind)


def _scroll(given: Mapping[str, str], screen: Screen, notes: Notes) -> Action:
    """Either in a direction, from the centre of the screen if it says no point, or along the path of a finger."""
    if "end" in given:
        if "direction" in given:
            raise ParseError("bad_argument", "scroll with end_box and direction: give one of them")
        return Action(
            "scroll", start=_point("scroll", given, "start", screen), end=_point("scroll", given, "end", screen)
        )
    written = _needed("scroll", given, "direction").strip().lower()
    direction: Direction | None = next((side for side in get_args(Direction) if side == written), None)
    if direction is None:
        raise ParseError("bad_argument", f"direction {shown(written)}: use one of {', '.join(get_args(Direction))}")
    if "start" in given:
        return Action("scroll", start=_point("scroll", given, "start", screen), direction=direction)
    notes.allow("default_point", "missing_argument", "scroll without start_box: write start_box='(x,y)'")
    return Action("scroll", start=clamp((screen.width / 2, screen.height / 2), screen), direction=direction)


def _needed(kind: ActionType, given: Mapping[str, str], meaning: str) -> str:
    value = given.get(meaning, "")
    if not value.strip():
        name = _WRITTEN.get(meaning, meaning)
        raise ParseError("missing_argument", f"{kind} without {name}: write {kind}({name}='...')")
    return value


def _point(kind: ActionType, given: Mapping[str, str], meaning: str, screen: Screen) -> Point:
    """A point in css pixels, on the screen."""
    written = _needed(kind, given, meaning)
    point = decode(_written_point(written), screen)
    if not is_inside(point, screen, TOLERANCE):
        raise ParseError(
            "out_of_bounds",
            f"{shown(written)} is ({point[0]:.6g}, {point[1]:.6g}) on the screen of {screen.width} x {screen.height}"
            " pixels: give a point on it",
        )
    return clamp(point, screen)


def _written_point(written: str) -> Point:
    """The two numbers as the model wrote them, or the centre of the box of four. Raises ParseError."""
    refusal = ParseError("bad_coordinates", f"{shown(written)} is no point and no box: write (x,y) or (x1,y1,x2,y2)")
    if len(written) > MAX_POINT_LETTERS:
        raise refusal
    inner = written.strip()
    for opening, closing in _WRAPPERS:
        if inner.startswith(opening) and inner.endswith(closing):
            inner = inner[len(opening) : -len(closing)].strip()
    parts = [part.strip() for part in inner.split(",")] if "," in inner else inner.split()
    if len(parts) not in (2, 4) or not all(_NUMBER.fullmatch(part) for part in parts):
        raise refusal
    numbers = [float(part) for part in parts]
    return (numbers[0] + numbers[-2]) / 2, (numbers[1] + numbers[-1]) / 2


def _milliseconds(kind: ActionType, given: Mapping[str, str], default: int) -> int:
    """`time` is in seconds; without it, the default."""
    written = given.get("time", "").strip()
    if not written:
        return default
    seconds = float(written) if len(written) <= MAX_POINT_LETTERS and _NUMBER.fullmatch(written) else -1.0
    if not 0 <= seconds <= MAX_SECONDS:
        raise ParseError("bad_argument", f"time {shown(written)} of {kind}: give 0 to {MAX_SECONDS} seconds")
    return round(seconds * 1000)


def _address(written: str) -> str:
    """With https where it says no other; whether it may be opened is the policy's matter."""
    address = written.strip()
    return address if _SCHEME.match(address) else f"https://{address.lstrip('/')}"
