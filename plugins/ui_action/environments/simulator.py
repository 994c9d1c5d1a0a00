"""The built-in games without a browser: typed actions in, drawn screens out."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ..actions import ALLOWED, LONG_PRESS_MILLISECONDS, Action, Platform, Point
from ..coordinates import clamp, is_inside
from ..errors import UIActionInputError
from ..games import Game, make_game
from ..games import events as game_events
from ..games.events import DRAG_PIXELS, Event, EventKind
from ..games.game import State
from ..games.raster import raster
from ..gestures import Swipe, scroll_gesture
from ..keys import key_names
from ..screen import Screen
from .base import Observation
from .gestures_dom import key_name

# Each alters the keys pressed while it is held.
MODIFIERS = frozenset({"ctrl", "alt", "meta", "shift"})
NAMED_KEYS = {"enter": "Enter", "escape": "Escape", "backspace": "Backspace", "space": " "}
ABSENT = frozenset({"open_app", "press_home", "navigate"})
NO_EVENT = frozenset({"hover", "release", "finished", "call_user", "navigate_back"})
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

    Raises:
        UIActionInputError: an unknown task or platform.
    """

    def __init__(self, task: str, platform: Platform, adversarial: bool = False) -> None:
        self.game: Game = make_game(task, platform, adversarial)
        self.screen = Screen(self.game.layout.width, self.game.layout.height)
        self.platform: Platform = platform
        self.held: list[str] = []

    def reset(self, seed: int) -> Observation:
        """Begin the game of that seed, 0 to 2**32 - 1; `frames` shows the ticks before the first decision."""
        self.release()
        return self._observation(self.game.reset(seed))

    def execute(self, action: Action) -> Observation:
        """Carry out one action; one that does nothing in the game, such as `hover`, shows the screen as it is.

        Raises:
            UIActionInputError: an action that the platform or the game does not have, or outside the screen.
        """
        happened = events(action, self.platform, self.screen, self.held)
        self._hold(action)
        states = [state for event in happened for state in self.game.handle(event)]
        return self._observation(states or [self.game.rules])

    def state(self) -> dict[str, Any]:
        """The game's state, what the player cannot see included."""
        return self.game.state()

    def state_hash(self) -> str:
        """SHA-256 over `state`."""
        return self.game.state_hash()

    def release(self) -> None:
        """Let go of held keys."""
        self.held.clear()

    def close(self) -> None:
        """Let go of held keys."""
        self.release()

    def _hold(self, action: Action) -> None:
        for name in key_names(action.keys):
            if action.type == "press" and name not in self.held:
                self.held.append(name)
            elif action.type == "release" and name in self.held:
                self.held.remove(name)

    def _observation(self, states: Iterable[State]) -> Observation:
        game = self.game
        frames = tuple(raster(game.display(state)) for state in states)
        note = "" if not game.done else "the game is won" if game.success else "the game is lost"
        return Observation(frames[-1], frames, game.tick, game.done, game.success, note)


def events(action: Action, platform: Platform, screen: Screen, held: Iterable[str] = ()) -> list[Event]:
    """The events that a typed action comes down to, the same that it causes on the page in ../web.

    Args:
        held: names of the keys that are down.

    Raises:
        UIActionInputError: an action that the platform or the games do not have, or outside the screen.
    """
    if action.type not in ALLOWED[platform]:
        allowed = ", ".join(sorted(ALLOWED[platform]))
        raise UIActionInputError(f"{platform} has no {action.type}: choose one of {allowed}")
    if action.type in ABSENT:
        raise UIActionInputError(f"the built-in games have no {action.type}: act on what is on the screen")
    if action.type in NO_EVENT:
        return []
    if action.type == "wait":
        return [Event("wait")]
    if action.type == "press_back":
        return [_key("Escape")]
    if action.type in ("type", "hotkey", "press"):
        return _keys(action, tuple(held))
    return _pointed(action, platform, screen)


def _keys(action: Action, held: tuple[str, ...]) -> list[Event]:
    down, found = [*held], []
    if action.type == "type":
        letters = action.text.replace("\r", "\n") + ("\n" if action.submit else "")
        return [_struck("enter" if letter == "\n" else letter, down) for letter in letters]
    if not action.keys or (action.type == "press" and len(action.keys) > 1):
        raise UIActionInputError(f"{action.type} with {len(action.keys)} keys: name one, or up to three of a hotkey")
    for key, name in zip(action.keys, key_names(action.keys), strict=True):
        key_name(key)  # refuses what is no key
        if name not in MODIFIERS and not (action.type == "press" and name in held):
            found.append(_struck(name, down))
        down.append(name)
    return found


def _struck(name: str, down: list[str]) -> Event:
    """What a key comes down to while others are down: with Shift a digit is a sign, with Ctrl nothing is a letter."""
    plain = NAMED_KEYS.get(name, name if len(name) == 1 else "Other")
    if {"ctrl", "alt", "meta"}.intersection(down):
        return _key("Other")
    return _key("!" if "shift" in down and plain.isdigit() else plain)


def _key(name: str) -> Event:
    return Event("key", key=name)


def _pointed(action: Action, platform: Platform, screen: Screen) -> list[Event]:
    if action.type == "scroll":
        gesture = scroll_gesture(action, screen, platform)
        if isinstance(gesture, Swipe):
            return [_path(gesture.start, gesture.end, screen)]
        return [Event("scroll", *_pixel(gesture.at, screen, "the point"))]
    if action.type == "drag":
        return [_path(action.start, action.end, screen)]
    x, y = _pixel(action.start, screen, "the point")
    if action.type == "long_press":
        pressed = (action.milliseconds or LONG_PRESS_MILLISECONDS) >= game_events.LONG_PRESS_MILLISECONDS
        return [Event("long_press" if pressed else "tap", x, y)]
    return [Event(kind, x, y) for kind in _TAPS[action.type]]


def _path(start: Point | None, end: Point | None, screen: Screen) -> Event:
    x, y = _pixel(start, screen, "the start")
    end_x, end_y = _pixel(end, screen, "the end")
    if max(abs(end_x - x), abs(end_y - y)) < DRAG_PIXELS:
        return Event("tap", x, y)
    return Event("drag", x, y, end_x, end_y)


def _pixel(point: Point | None, screen: Screen, what: str) -> tuple[int, int]:
    """The pixel that is meant, rounded half to even."""
    if point is None:
        raise UIActionInputError(f"{what} is missing: give (x, y) in pixels of the screen")
    if not is_inside(point, screen, tolerance=1):
        size = f"{screen.width} x {screen.height}"
        raise UIActionInputError(f"{what} ({point[0]:g}, {point[1]:g}) is not on the screen, {size} pixels")
    x, y = clamp(point, screen)
    return round(x), round(y)
