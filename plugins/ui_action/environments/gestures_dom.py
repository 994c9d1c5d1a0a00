"""Actions carried out on a page: with mouse and keyboard, or, on "mobile", with a finger."""

from __future__ import annotations

import asyncio
import string
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from ..actions import LONG_PRESS_MILLISECONDS, Action, Platform, Point
from ..coordinates import clamp, is_inside
from ..errors import UIActionInputError
from ..gestures import Swipe, scroll_gesture
from ..keys import key_names
from ..screen import Screen

if TYPE_CHECKING:
    from playwright.async_api import CDPSession, Page

# The DOM's names of the keys in `keys.KEYS` that are no characters.
DOM_NAMES = {
    "ctrl": "Control",
    "up": "ArrowUp",
    "down": "ArrowDown",
    "left": "ArrowLeft",
    "right": "ArrowRight",
    "pageup": "PageUp",
    "pagedown": "PageDown",
}
# Keys by their place on a keyboard, so that a held Shift turns them into their other character.
PLACES = {
    **{letter: f"Key{letter.upper()}" for letter in string.ascii_lowercase},
    **{digit: f"Digit{digit}" for digit in string.digits},
    "-": "Minus",
    "=": "Equal",
    "[": "BracketLeft",
    "]": "BracketRight",
    ";": "Semicolon",
    "'": "Quote",
    ",": "Comma",
    ".": "Period",
    "/": "Slash",
    "\\": "Backslash",
    "`": "Backquote",
}
NAMED = ("enter", "tab", "space", "escape", "backspace", "delete", "insert", "home", "end", "shift", "alt", "meta")
FUNCTION = tuple(f"f{number}" for number in range(1, 13))
# The timing that agents of this kind use (UI-TARS-desktop).
CLICK_PAUSE = 0.1
MOVES, MOVE_PAUSE = 10, 0.03
KEY_PAUSE = 0.02

Between = Callable[[], None]


def key_name(key: str) -> str:
    """The DOM's name of a key or of its place on a keyboard. Raises UIActionInputError for one that none has."""
    (name,) = key_names((key,))
    if name in DOM_NAMES or name in PLACES:
        return DOM_NAMES.get(name) or PLACES[name]
    if name in NAMED or name in FUNCTION:
        return name.capitalize()
    if len(name) == 1 and "!" <= name <= "~":
        return name
    known = ", ".join(sorted((*DOM_NAMES, *NAMED)))
    raise UIActionInputError(f"key {key[:20]!r}: give one printable ASCII character, f1 to f12, or one of {known}")


def pixel(point: Point | None, screen: Screen, what: str) -> tuple[int, int]:
    """The pixel that is meant, rounded half to even. Raises UIActionInputError for a point beside the screen."""
    if point is None:
        raise UIActionInputError(f"{what} is missing: give (x, y) in pixels of the screen")
    if not is_inside(point, screen, tolerance=1):
        raise UIActionInputError(
            f"{what} ({point[0]:g}, {point[1]:g}) is not on the screen, {screen.width} x {screen.height} pixels"
        )
    x, y = clamp(point, screen)
    return round(x), round(y)


class Gestures:
    """Mouse, keyboard and finger of one page.

    Args:
        between: called before every move, key and step of a wait; what it raises ends the gesture.
        pace: how long its pauses are, 1 as described above, 0 for none.
    """

    def __init__(
        self, page: Page, session: CDPSession, screen: Screen, platform: Platform, *, between: Between, pace: float = 1
    ) -> None:
        self.page, self.session, self.screen, self.platform = page, session, screen, platform
        self.between, self.pace = between, pace
        self.held: list[str] = []
        self._pressed = False

    async def carry_out(self, action: Action) -> None:
        """One gesture; keys of `press` stay down, everything else is let go, also when it fails."""
        finger = self.platform == "mobile"
        match action.type:
            case "click":
                await (self._tap(action, 0) if finger else self._click(action))
            case "left_double":
                await self._click(action, count=2)
            case "right_single":
                await self._click(action, button="right")
            case "hover":
                await self._move(pixel(action.start, self.screen, "the point"))
            case "long_press":
                await self._tap(action, (action.milliseconds or LONG_PRESS_MILLISECONDS) / 1000)
            case "drag":
                await self._drag(action)
            case "scroll":
                await self._scroll(action)
            case "hotkey":
                await self._hotkey(action)
            case "press" | "release":
                await self._hold(action)
            case "type":
                await self._type(action)
            case _:
                raise UIActionInputError(f"{action.type} is no gesture of a page")

    async def let_go(self) -> None:
        """Release every held key and button."""
        while self.held:
            await self.page.keyboard.up(self.held.pop())
        if self._pressed:
            self._pressed = False
            await (self._finger("touchCancel") if self.platform == "mobile" else self.page.mouse.up())

    async def pause(self, seconds: float) -> None:
        """Wait, looking at `between` ten times a second."""
        end = asyncio.get_running_loop().time() + seconds
        self.between()
        while (left := end - asyncio.get_running_loop().time()) > 0:
            await asyncio.sleep(min(left, 0.1))
            self.between()

    async def _move(self, point: tuple[int, int]) -> None:
        self.between()
        await self.page.mouse.move(*point)

    async def _click(self, action: Action, *, button: str = "left", count: int = 1) -> None:
        point = pixel(action.start, self.screen, "the point")
        await self._move(point)
        await self.pause(CLICK_PAUSE * self.pace)
        await self.page.mouse.click(*point, button="right" if button == "right" else "left", click_count=count)

    async def _tap(self, action: Action, seconds: float) -> None:
        async with self._finger_down(pixel(action.start, self.screen, "the point")):
            await self.pause(seconds)

    async def _drag(self, action: Action) -> None:
        start = pixel(action.start, self.screen, "the start of the drag")
        end = pixel(action.end, self.screen, "the end of the drag")
        if self.platform == "mobile":
            await self._finger_path(start, end)
            return
        await self._move(start)
        self._pressed = True
        await self.page.mouse.down()
        for x, y in _between_points(start, end):
            await self.pause(MOVE_PAUSE * self.pace)
            await self.page.mouse.move(x, y)
        await self.page.mouse.up()
        self._pressed = False

    async def _scroll(self, action: Action) -> None:
        gesture = scroll_gesture(action, self.screen, self.platform)
        if isinstance(gesture, Swipe):
            start = pixel(gesture.start, self.screen, "the start of the swipe")
            await self._finger_path(start, pixel(gesture.end, self.screen, "the end of the swipe"))
            return
        await self._move(pixel(gesture.at, self.screen, "the point"))
        await self.page.mouse.wheel(gesture.dx, gesture.dy)

    async def _hotkey(self, action: Action) -> None:
        names = [key_name(key) for key in action.keys]
        if not names:
            raise UIActionInputError("hotkey without a key: name one to three")
        down: list[str] = []
        for name in names:
            self.between()
            down.append(name)
            self.held.append(name)
            await self.page.keyboard.down(name)
        for name in reversed(down):
            await self.page.keyboard.up(name)
            self.held.remove(name)

    async def _hold(self, action: Action) -> None:
        if len(action.keys) != 1:
            raise UIActionInputError(f"{action.type} with {len(action.keys)} keys: name one")
        name = key_name(action.keys[0])
        if action.type == "press":
            self.between()  # not before a release: that is always allowed
            if name not in self.held:
                self.held.append(name)
                await self.page.keyboard.down(name)
        elif name in self.held:
            await self.page.keyboard.up(name)
            self.held.remove(name)

    async def _type(self, action: Action) -> None:
        for letter in action.text:
            await self.pause(KEY_PAUSE * self.pace)
            await self.page.keyboard.type(letter)
        if action.submit:
            self.between()
            await self.page.keyboard.press("Enter")

    async def _finger_path(self, start: tuple[int, int], end: tuple[int, int]) -> None:
        async with self._finger_down(start):
            for point in _between_points(start, end):
                await self.pause(MOVE_PAUSE * self.pace)
                await self._finger("touchMove", point)

    @asynccontextmanager
    async def _finger_down(self, point: tuple[int, int]) -> AsyncGenerator[None]:
        self.between()
        self._pressed = True
        await self._finger("touchStart", point)
        yield
        await self._finger("touchEnd")
        self._pressed = False

    async def _finger(self, kind: str, point: Point | None = None) -> None:
        points = [{"x": point[0], "y": point[1]}] if point else []
        await self.session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})


def _between_points(start: tuple[int, int], end: tuple[int, int]) -> list[tuple[float, float]]:
    """`MOVES` points from `start`, left out, to `end`."""
    (x0, y0), (x1, y1) = start, end
    shares = [step / MOVES for step in range(1, MOVES + 1)]
    return [(x0 + (x1 - x0) * share, y0 + (y1 - y0) * share) for share in shares]
