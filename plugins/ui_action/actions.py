"""What an agent may do: typed actions in UI-TARS's vocabulary, and which of them each platform has."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

Point = tuple[float, float]
Direction = Literal["up", "down", "left", "right"]
ActionType = Literal[
    "click",
    "left_double",
    "right_single",
    "hover",
    "drag",
    "hotkey",
    "press",
    "release",
    "type",
    "scroll",
    "long_press",
    "open_app",
    "press_home",
    "press_back",
    "navigate",
    "navigate_back",
    "wait",
    "finished",
    "call_user",
]
Platform = Literal["desktop", "mobile", "web"]
ACTION_TYPES: tuple[str, ...] = get_args(ActionType)
PLATFORMS: tuple[Platform, ...] = get_args(Platform)

_EVERYWHERE = ("click", "drag", "type", "scroll", "wait", "finished", "call_user")
_MOUSE = ("left_double", "right_single", "hover", "hotkey", "press", "release")
ALLOWED: dict[Platform, frozenset[str]] = {
    "desktop": frozenset((*_EVERYWHERE, *_MOUSE)),
    "mobile": frozenset((*_EVERYWHERE, "long_press", "open_app", "press_home", "press_back")),
    "web": frozenset((*_EVERYWHERE, *_MOUSE, "navigate", "navigate_back")),
}

WAIT_MILLISECONDS = 5000
LONG_PRESS_MILLISECONDS = 800


@dataclass(frozen=True, slots=True)
class Action:
    """One action; what its type has no use for is None, "" or ().

    Attributes:
        type: one of `ACTION_TYPES`.
        start: where, (x, y) in css pixels of the screen: the point clicked, or where a drag or scroll begins.
        end: where a drag, or the finger of a scroll, ends.
        text: typed text, the address of `navigate`, the app of `open_app`, the answer of `finished`.
        keys: of `hotkey`, `press` and `release`, lower case, in order.
        direction: of `scroll`: the side on which more is to be shown.
        submit: whether Enter follows the text.
        milliseconds: of `wait` and `long_press`.
    """

    type: ActionType
    start: Point | None = None
    end: Point | None = None
    text: str = ""
    keys: tuple[str, ...] = ()
    direction: Direction | None = None
    submit: bool = False
    milliseconds: int | None = None
