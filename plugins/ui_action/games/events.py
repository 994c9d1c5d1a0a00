"""What reaches a game: the low-level events that typed actions and the browser's own events both come down to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

EventKind = Literal["tap", "double_tap", "secondary_tap", "long_press", "drag", "key", "scroll", "wait"]
EVENT_KINDS: tuple[str, ...] = get_args(EventKind)
# Keys that mean something to a game; every other key that prints nothing is "Other".
KEYS = ("Enter", "Escape", "Backspace", "Other")
DRAG_PIXELS = 6
LONG_PRESS_MILLISECONDS = 500


@dataclass(frozen=True, slots=True)
class Event:
    """One event.

    Attributes:
        kind: a double tap follows the tap that its first half was.
        x, y: where, pixels inside the screen; where a drag begins.
        end_x, end_y: where a drag ends.
        key: one letter or digit, or one of `KEYS`; a typed text is a row of these.
    """

    kind: EventKind
    x: int = 0
    y: int = 0
    end_x: int = 0
    end_y: int = 0
    key: str = ""
