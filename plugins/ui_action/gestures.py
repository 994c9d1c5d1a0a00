"""What a scroll means for a mouse wheel and for a finger."""

from __future__ import annotations

from dataclasses import dataclass

from .actions import Action, Direction, Platform, Point
from .errors import UIActionInputError
from .screen import Screen

SHARE = 0.8  # of the viewport, as UI-TARS-desktop scrolls

# On which side more content is to be revealed: x to the right, y down.
_SIDES: dict[Direction, tuple[int, int]] = {"up": (0, -1), "down": (0, 1), "left": (-1, 0), "right": (1, 0)}


@dataclass(frozen=True, slots=True)
class Wheel:
    """A turn of the wheel; css pixels.

    Attributes:
        at: where the mouse is.
        dx, dy: how much further content is revealed to the right and below; negative: to the left and above.
    """

    at: Point
    dx: float
    dy: float


@dataclass(frozen=True, slots=True)
class Swipe:
    """A finger's straight path; css pixels."""

    start: Point
    end: Point


def scroll_gesture(action: Action, screen: Screen, platform: Platform) -> Wheel | Swipe:
    """How to carry out a scroll: a finger on mobile screens, else a wheel.

    `direction` is the side on which more content is revealed (UI-TARS issue 129): the wheel's own sense, and against
    the finger's movement. A path from start to end is that of a finger on either.

    Raises:
        UIActionInputError: no scroll, or one with neither a direction nor a path.
    """
    start = action.start or (screen.width / 2, screen.height / 2)
    if action.type != "scroll" or (action.direction is None and action.end is None):
        raise UIActionInputError(f"{action.type} is no scroll with a direction or an end: give one of them")
    if action.end is not None:
        if platform == "mobile":
            return Swipe(start, action.end)
        return Wheel(start, start[0] - action.end[0], start[1] - action.end[1])
    x, y = _SIDES[action.direction or "down"]
    if platform != "mobile":
        return Wheel(start, x * SHARE * screen.width, y * SHARE * screen.height)
    from_x, to_x = _stroke(start[0], -x * SHARE * screen.width, screen.width)
    from_y, to_y = _stroke(start[1], -y * SHARE * screen.height, screen.height)
    return Swipe((from_x, from_y), (to_x, to_y))


def _stroke(start: float, length: float, side: int) -> tuple[float, float]:
    """From where to where along one side: begun at the point, or as near to it as leaves room for the length."""
    length = max(-(side - 1.0), min(side - 1.0, length))
    begin = min(max(start, -length, 0.0), side - 1.0 - max(length, 0.0))
    return begin, min(max(begin + length, 0.0), side - 1.0)
