"""A page in a real Chromium, shut off from everything but the hosts that it may reach."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import io
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

from PIL import Image

from ..actions import ALLOWED, PLATFORMS, WAIT_MILLISECONDS, Action, Platform
from ..errors import UIActionInputError
from ..screen import Screen
from .base import Observation
from .browser_guard import AllowList, BrowserEvents, Guard, quietly
from .chromium import Chromium, first_line
from .gestures_dom import KEY_PAUSE, Between, Gestures
from .page_hook import READ, READ_LIMIT, RESET, WAIT, PageState, read_answer

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from playwright.async_api import BrowserContext, Page, ViewportSize

Answer = TypeVar("Answer")

LARGEST_SIDE = 4096
FRAMES_LIMIT = 16
SHOT_PAUSES = (0.1, 0.3, 0.6)  # seconds between tries where a page is being replaced by another
LOAD_SECONDS, CLOSE_SECONDS, FRAMES_SECONDS = 5.0, 10.0, 1.0
TWO_FRAMES = "() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => done())))"
# Allowed on a platform, but nothing that a page has.
NOT_OF_A_PAGE = ("open_app", "press_home")


def _nothing() -> None:
    pass


class BrowserEnvironment:
    """A page on which actions become real events of mouse, keyboard and finger.

    Each reset opens the page in a new context without permissions, downloads, service workers or anything kept from
    before; popups and dialogs are closed. On "mobile" everything is a touch: a page must listen to pointer or touch
    events and, where it takes drags itself, set `touch-action: none`. Any thread may use an environment, one at a time.

    Args:
        url: http or https, on an allowed host.
        platform: which actions there are.
        width, height: of the viewport, css pixels; screenshots have this size.
        allowed_hosts: "name" or "name:port"; names of this machine without a port mean the port of `url`.
        chromium: a browser to share, or the path of one; found if left out. One that is shared is not closed here.
        state_script: JavaScript whose value is the state, for a page without `window.quartet` (see `page_hook`).
        offline_after_load: cut the network once the page is there.
        frames: how many screens to take after an action where the page tells none; 1: only the last one.
        frame_milliseconds: between them.
        settle_milliseconds: from the end of an action to the first of them.
        pace: of gestures: 1 like a person's, 0 without pauses.
        seconds: how long the page may take for one call, beyond the pauses that an action asks for.
        between: called before every move, press and pause, on the browser's thread; what it raises ends the action,
            such as `KillSwitch.check`.

    Raises:
        UIActionInputError: the address is not allowed, or a size or number is out of range.
    """

    def __init__(
        self,
        url: str,
        *,
        platform: Platform = "web",
        width: int,
        height: int,
        allowed_hosts: Iterable[str] = ("127.0.0.1", "localhost"),
        chromium: Chromium | str | None = None,
        state_script: str | None = None,
        offline_after_load: bool = False,
        frames: int = 1,
        frame_milliseconds: int = 200,
        settle_milliseconds: int = 100,
        pace: float = 1.0,
        seconds: float = 20.0,
        between: Callable[[], None] = _nothing,
    ) -> None:
        if platform not in PLATFORMS:
            raise UIActionInputError(f"platform {platform!r}: choose one of {', '.join(PLATFORMS)}")
        if max(width, height) > LARGEST_SIDE:
            raise UIActionInputError(f"a screen of {width} x {height} pixels: at most {LARGEST_SIDE} a side")
        if not 1 <= frames <= FRAMES_LIMIT:
            raise UIActionInputError(f"frames {frames}: give 1 to {FRAMES_LIMIT}")
        if min(frame_milliseconds, settle_milliseconds, pace) < 0 or not 0 < seconds < float("inf"):
            raise UIActionInputError("give no negative pauses or pace, and more than 0 seconds")
        self.url, self.platform = url, platform
        self.screen = Screen(width, height)
        self.between: Between = between
        self.seconds, self.pace, self.state_script = seconds, pace, state_script
        self.offline_after_load = offline_after_load
        self.frames, self.frame_seconds, self.settle = frames, frame_milliseconds / 1000, settle_milliseconds / 1000
        self._allowed = AllowList.of(allowed_hosts, url)
        self._chromium = chromium if isinstance(chromium, Chromium) else Chromium(chromium)
        self._shared = isinstance(chromium, Chromium)
        self._guard: Guard | None = None
        self._context: BrowserContext | None = None
        self._page: Page | None = None
        self._gestures: Gestures | None = None

    def __enter__(self) -> BrowserEnvironment:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def reset(self, seed: int) -> Observation:
        """Open the page anew; the seed reaches pages with `window.quartet.reset`.

        Raises:
            UIActionInputError: no browser, no answer from the address, or a page that does not come to rest.
        """
        self._close_context()
        self._chromium.start()
        return self._ask(self._open(int(seed)), self.seconds)

    def execute(self, action: Action) -> Observation:
        """Carry out one action. The note tells what was refused meanwhile, in our words.

        Raises:
            UIActionInputError: an action that the platform does not have, or that goes where it must not.
        """
        able = sorted(ALLOWED[self.platform].difference(NOT_OF_A_PAGE))
        if action.type not in able:
            raise UIActionInputError(f"a page as {self.platform!r} has no {action.type}: choose of {', '.join(able)}")
        before = self.events()
        observation = self._ask(self._act(action), self.seconds + self._length(action))
        return replace(observation, note=self.events().since(before))

    def state(self) -> dict[str, Any]:
        """What the page tells of its state now; {} if it tells nothing."""
        return self._ask(self._read(), self.seconds).state

    def state_hash(self) -> str:
        """SHA-256, hex: the page's own, else over its state, else over its pixels."""
        if told := self._ask(self._read(), self.seconds).hash:
            return told
        image = self._ask(self._shot(), self.seconds)
        size = f"{image.width}x{image.height}:".encode()
        return hashlib.sha256(size + image.tobytes()).hexdigest()

    def events(self) -> BrowserEvents:
        """What was refused since the reset."""
        return self._guard.events if self._guard is not None else BrowserEvents()

    def release(self) -> None:
        """Let go of held keys and buttons."""
        if self._gestures is not None:
            self._ask(self._gestures.let_go(), self.seconds)

    def close(self) -> None:
        """Let go of held keys, close the page, and the browser unless it is shared; may be called again."""
        self._close_context()
        if not self._shared:
            self._chromium.close()

    def _ask(self, work: Coroutine[Any, Any, Answer], seconds: float) -> Answer:
        """What `work` gives. A page that hangs or breaks is closed, so that nothing waits for it again."""
        from playwright.async_api import Error

        try:
            return self._chromium.run(work, seconds)
        except TimeoutError:
            self._close_context()
            raise UIActionInputError(
                f"the page did not come to rest within {seconds:g} s and was closed: reset, or give it more seconds"
            ) from None
        except Error as error:  # which may hold the page's words: not in a message that a model may get to read
            raise UIActionInputError("the page broke off, by an error of its own code or a crash: reset it") from error

    def _close_context(self) -> None:
        if self._guard is not None:
            with contextlib.suppress(TimeoutError, UIActionInputError):  # a browser that has ended holds nothing
                self._chromium.run(self._leave(), CLOSE_SECONDS)
        self._context = self._page = self._gestures = None

    async def _leave(self) -> None:
        if self._guard is not None:
            await self._guard.close()
        if self._gestures is not None:
            await quietly(asyncio.wait_for(self._gestures.let_go(), 1))
        if self._context is not None:
            await quietly(self._context.close())

    async def _open(self, seed: int) -> Observation:
        guard = self._guard = Guard(self._allowed)
        size: ViewportSize = {"width": self.screen.width, "height": self.screen.height}
        self._context = context = await self._chromium.browser.new_context(
            viewport=size,
            device_scale_factor=1,
            has_touch=self.platform == "mobile",
            java_script_enabled=True,
            accept_downloads=False,
            permissions=[],
            service_workers="block",
            proxy={"server": await guard.open_gate()},
        )
        self._page = page = await context.new_page()
        await guard.watch(context, page)
        session = await context.new_cdp_session(page)
        self._gestures = Gestures(
            page, session, self.screen, self.platform, between=lambda: self.between(), pace=self.pace
        )
        await self._goto(self.url)
        await self._evaluate(RESET, seed)
        if self.offline_after_load:
            guard.offline = True
            await context.set_offline(True)
        return await self._observe()

    async def _act(self, action: Action) -> Observation:
        _, gestures = self._open_page()
        try:
            match action.type:
                case "finished" | "call_user":
                    pass  # said to the one who runs the agent, not to the page
                case "wait":
                    await self._wait(action)
                case "navigate":
                    await self._navigate(action)
                case "navigate_back" | "press_back":
                    await self._back()
                case _:
                    await gestures.carry_out(action)
        except BaseException:
            await quietly(asyncio.wait_for(gestures.let_go(), 1))
            raise
        await self._input_arrives()
        await asyncio.sleep(self.settle)
        await self._settle()
        return await self._observe()

    async def _wait(self, action: Action) -> None:
        _, gestures = self._open_page()
        asked = WAIT_MILLISECONDS if action.milliseconds is None else action.milliseconds
        milliseconds = min(max(asked, 0), WAIT_MILLISECONDS)
        if not await self._evaluate(WAIT, milliseconds):
            await gestures.pause(milliseconds / 1000)

    async def _navigate(self, action: Action) -> None:
        if refusal := self._allowed.refusal(action.text):
            raise UIActionInputError(refusal)
        if self.offline_after_load:
            raise UIActionInputError("the network is cut for this page: it can go nowhere")
        await self._goto(action.text)

    async def _goto(self, url: str) -> None:
        from playwright.async_api import Error

        page, _ = self._open_page()
        try:
            response = await page.goto(url, wait_until="commit", timeout=self.seconds * 1000)
        except Error as error:
            raise UIActionInputError(
                f"{url} could not be opened ({first_line(error)}): is its server running, and does it stay on "
                f"{', '.join(self._allowed.hosts)}?"
            ) from None
        if response is not None and response.status >= 400:
            raise UIActionInputError(f"{url} answers {response.status}: correct the address")
        await self._settle()

    async def _back(self) -> None:
        """One page back, but not before the first; there a phone's back key is Escape, which closes what is open."""
        page, gestures = self._open_page()
        history = await gestures.session.send("Page.getNavigationHistory")
        before = history["entries"][: history["currentIndex"]]
        if before and before[-1]["url"] != "about:blank":
            await page.go_back(wait_until="commit", timeout=LOAD_SECONDS * 1000)
        elif self.platform == "mobile":
            await page.keyboard.press("Escape")

    async def _input_arrives(self) -> None:
        """Chromium hands moves, taps and turns of the wheel on with the next frames; a page that draws none is late."""
        page, _ = self._open_page()
        await quietly(asyncio.wait_for(page.evaluate(TWO_FRAMES), FRAMES_SECONDS))

    async def _settle(self) -> None:
        """Wait until a page that is loading is there, but not for one that never is."""
        page, _ = self._open_page()
        await quietly(page.wait_for_load_state("load", timeout=LOAD_SECONDS * 1000))

    async def _observe(self) -> Observation:
        shots = [await self._shot()]
        for _ in range(self.frames - 1):
            await asyncio.sleep(self.frame_seconds)
            shots.append(await self._shot())
        told, image = await self._read(), shots[-1]
        frames = (*told.frames[:-1], image) if told.frames else tuple(shots)
        return Observation(image, frames, told.tick, told.done, told.success)

    async def _read(self) -> PageState:
        text = await self._evaluate(READ, READ_LIMIT)
        if text is None and self.state_script is not None:
            text = await self._evaluate(f"async () => JSON.stringify({{state: await ({self.state_script})}})")
        return read_answer(text, (self.screen.width, self.screen.height))

    async def _evaluate(self, script: str, argument: object = None) -> object:
        """What a function gives, once more where the page went elsewhere meanwhile."""
        from playwright.async_api import Error

        page, _ = self._open_page()
        try:
            return await page.evaluate(script, argument)
        except Error as error:
            if "context was destroyed" not in str(error):
                raise
        await self._settle()
        return await page.evaluate(script, argument)

    async def _shot(self) -> Image.Image:
        png = await self._png()
        image = Image.open(io.BytesIO(png), formats=["PNG"])
        if image.size != (self.screen.width, self.screen.height):
            raise UIActionInputError(f"a screenshot of {image.size} pixels: the page is no longer {self.screen}")
        return image.convert("RGB")

    async def _png(self) -> bytes:
        """A screenshot, tried again where the page went elsewhere meanwhile: Chromium has none of a page in between."""
        from playwright.async_api import Error

        page, _ = self._open_page()
        for pause in SHOT_PAUSES:
            try:
                return await page.screenshot(scale="css", caret="initial", timeout=self.seconds * 1000)
            except Error as error:
                if "Unable to capture" not in str(error):
                    raise
            await asyncio.sleep(pause)
            await self._settle()
        return await page.screenshot(scale="css", caret="initial", timeout=self.seconds * 1000)

    def _open_page(self) -> tuple[Page, Gestures]:
        if self._page is None or self._gestures is None:
            raise UIActionInputError("no page is open: reset the environment first")
        return self._page, self._gestures

    def _length(self, action: Action) -> float:
        """Seconds that the action itself asks for."""
        asked = 0 if action.milliseconds is None else max(0, action.milliseconds) / 1000
        waits = WAIT_MILLISECONDS / 1000 if action.type == "wait" else asked
        return waits + self.settle + self.frames * self.frame_seconds + len(action.text) * KEY_PAUSE * 4
