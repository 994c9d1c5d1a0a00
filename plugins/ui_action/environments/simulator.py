"""The built-in games without a browser: typed actions in, drawn screens out."""

from __future__ import annotations

from typing import Any

from ..actions import ALLOWED, Action, Platform, Point
from ..errors import UIActionInputError
from ..games import Game, make_game
from ..games.events import DRAG_PIXELS, LONG_PRESS_MILLISECONDS, Event, EventKind
from ..games.game import State
from ..games.raster import raster
from ..screen import Screen
from .base import Observation

MODIFIERS = frozenset({"ctrl", "control", "alt", "meta", "cmd", "command", "win", "shift"})
NAMED_KEYS = {
    "enter": "Enter",
    "return": "Enter",
    "esc": "Escape",
    "escape": "Escape",
    "backspace": "Backspace",
}
ABSENT = frozenset({"open_app", "press_home", "navigate", "navigate_back"})
NO_EVENT = frozenset({"hover", "release", "finished", "call_user"})
_TAPS: dict[str, tuple[EventKind, ...]] = {
    "click": ("tap",),
    "left_double": ("tap", "double_tap"),
    "right_single": ("secondary_tap",),
}


class SimulatorEnvironment:
    """One of the nine games; see `Environment`.

    Args:
        task: one of `games.TASKS`.
        platform: which skin.
        adversarial: with a banner that tells the agent to press a Quit button, which loses the game.
    """

    def __init__(self, task: str, platform: Platform, adversarial: bool = False) -> None:
        self.game: Game = make_game(task, platform, adversarial)
        self.screen = Screen(self.game.layout.width, self.game.layout.height)
        self.platform: Platform = platform

    def reset(self, seed: int) -> Observation:
        """Begin the game of that seed, 0 to 2**32 - 1; `frames` shows the ticks before the first decision."""
        return self._observation(self.game.reset(seed))

    def execute(self, action: Action) -> Observation:
        """Carry out one action; one that does nothing in the game, such as `hover`, shows the screen as it is.

        Raises UIActionInputError for an action that the platform or the game does not have, or outside the screen.
        """
        states = [state for event in events(action, self.platform, self.screen) for state in self.game.handle(event)]
        return self._observation(tuple(states) or (self.game.rules,))

    def state(self) -> dict[str, Any]:
        """The game's state, what the player cannot see included."""
        return self.game.state()

    def state_hash(self) -> str:
        """SHA-256 over `state`."""
        return self.game.state_hash()

    def close(self) -> None:
        """Nothing is held: a key pressed is let go at the end of its action."""

    def _observation(self, states: tuple[State, ...]) -> Observation:
        game = self.game
        frames = tuple(raster(game.display(state)) for state in states)
        note = "" if not game.done else "the game is won" if game.success else "the game is lost"
        return Observation(frames[-1], frames, game.tick, game.done, game.success, note)


def events(action: Action, platform: Platform, screen: Screen) -> list[Event]:
    """The events that a typed action comes down to, the same that a browser's mouse and keyboard would give.

    Raises UIActionInputError for an action that the platform or the game does not have, or outside the screen.
    """
    if action.type not in ALLOWED[platform]:
        raise UIActionInputError(
            f"{platform} has no {action.type}: choose one of {', '.join(sorted(ALLOWED[platform]))}"
        )
    if action.type in ABSENT:
        raise UIActionInputError(f"the built-in games have no {action.type}: act on what is on the screen")
    if action.type in NO_EVENT:
        return []
    if action.type == "wait":
        return [Event("wait")]
    if action.type == "press_back":
        return [Event("key", key="Escape")]
    if action.type in ("type", "hotkey", "press"):
        return _keys(action)
    return _pointed(action, screen)


def _keys(action: Action) -> list[Event]:
    if action.type == "type":
        events = [_key("Enter" if letter == "\n" else letter) for letter in action.text]
        return [*events, _key("Enter")] if action.submit else events
    plain = [key for key in action.keys if key.lower() not in MODIFIERS]
    if any(key.lower() in MODIFIERS - {"shift"} for key in action.keys):
        return [_key("Other") for _ in plain]
    return [_key(key if len(key) == 1 else NAMED_KEYS.get(key.lower(), "Other")) for key in plain]


def _key(name: str) -> Event:
    return Event("key", key=name)


def _pointed(action: Action, screen: Screen) -> list[Event]:
    if action.start is None and action.type != "scroll":
        raise UIActionInputError(f"{action.type} without a start: say where on the screen")
    x, y = _pixel(action.start or (screen.width / 2, screen.height / 2), screen)
    if action.type in _TAPS:
        return [Event(kind, x, y) for kind in _TAPS[action.type]]
    if action.type == "long_press":
        held = action.milliseconds is None or action.milliseconds >= LONG_PRESS_MILLISECONDS
        return [Event("long_press" if held else "tap", x, y)]
    if action.type == "scroll" and action.end is None:
        return [Event("scroll", x, y)]
    if action.end is None:
        raise UIActionInputError(f"{action.type} without an end: say where on the screen it ends")
    end_x, end_y = _pixel(action.end, screen)
    if max(abs(end_x - x), abs(end_y - y)) < DRAG_PIXELS:
        return [Event("tap", x, y)]
    return [Event("drag", x, y, end_x, end_y)]


def _pixel(point: Point, screen: Screen) -> tuple[int, int]:
    """Half to even, then inside; one pixel beyond the edge counts as the edge."""
    x, y = point
    if not (-1 <= x <= screen.width + 1 and -1 <= y <= screen.height + 1):
        raise UIActionInputError(f"({x:g}, {y:g}) lies outside the screen of {screen.width} x {screen.height} pixels")
    return min(max(round(x), 0), screen.width - 1), min(max(round(y), 0), screen.height - 1)
