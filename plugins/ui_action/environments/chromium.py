"""A Chromium that runs on this machine: finding it, and running it on a thread of its own."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import threading
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, TypeVar

from ..errors import UIActionInputError

if TYPE_CHECKING:
    from playwright.async_api import Browser, Playwright

Answer = TypeVar("Answer")

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
# A browser that opens pages and does nothing of its own accord.
FLAGS = (
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
# Everything goes through the gate of `browser_guard`: no name is looked up here, and WebRTC opens no socket beside it.
GUARDED_FLAGS = (
    "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1",
    "--force-webrtc-ip-handling-policy=disable_non_proxied_udp",
    "--webrtc-ip-handling-policy=disable_non_proxied_udp",
)
INSTALL = (
    "install one (apt-get install chromium, brew install --cask chromium, or python -m playwright install chromium) "
    "or name one with QUARTET_CHROMIUM=/path/to/chrome"
)
START_SECONDS = 60.0
LINE_LIMIT = 200


def runs(path: str | None) -> bool:
    """Whether this is a browser that starts; a missing system library shows here, not in the first page."""
    if not path or not os.access(path, os.X_OK):
        return False
    try:
        return subprocess.run([path, "--version"], capture_output=True, timeout=60).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def find_installed() -> str | None:
    """A browser of this system that runs; one named in QUARTET_CHROMIUM is the only one looked at."""
    if named := os.environ.get("QUARTET_CHROMIUM"):
        return named if runs(named) else None
    return next((path for name in NAMES if runs(path := shutil.which(name))), None)


class Chromium:
    """A running headless Chromium that environments may share; it starts with the first thing asked of it.

    Playwright's objects belong to the thread that made them, and its calls may hang for as long as a page does. So they
    all run on one thread, and whoever asks, from whatever thread, waits no longer than it says.

    Args:
        path: the browser; found if left out: QUARTET_CHROMIUM, this system's, else the one that Playwright keeps.
        sandbox: Chromium's own sandbox; on unless this process runs as root, where Chromium cannot start with it.
    """

    def __init__(self, path: str | None = None, *, sandbox: bool | None = None) -> None:
        self.path = path
        is_root = hasattr(os, "geteuid") and os.geteuid() == 0
        self.sandbox = not is_root if sandbox is None else sandbox
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._playwright: Playwright | None = None
        self._browser: Browser | None = None
        self._lock = threading.Lock()

    @property
    def browser(self) -> Browser:
        """Playwright's browser, for what runs on this thread."""
        if self._browser is None:
            raise UIActionInputError("the browser is closed: reset the environment to start it again")
        return self._browser

    def start(self) -> None:
        """Start the browser unless it runs. Raises UIActionInputError where none can be started."""
        with self._lock:
            if self._browser is not None and self._browser.is_connected():
                return
            self._stop()
            self._loop = asyncio.new_event_loop()
            self._thread = threading.Thread(target=self._loop.run_forever, name="chromium", daemon=True)
            self._thread.start()
            try:
                self.run(self._launch(), START_SECONDS)
            except BaseException:
                self._stop()
                raise

    def run(self, work: Coroutine[Any, Any, Answer], seconds: float) -> Answer:
        """What `work` gives, run on the browser's thread. Raises TimeoutError after `seconds`."""
        if self._loop is None:
            work.close()
            raise UIActionInputError("the browser is closed: reset the environment to start it again")
        if threading.current_thread() is self._thread:
            work.close()
            raise UIActionInputError("a callback of the browser may not use it: raise, or set a flag, and return")
        return asyncio.run_coroutine_threadsafe(asyncio.wait_for(work, seconds), self._loop).result()

    def close(self) -> None:
        """End the browser and its thread; may be called again."""
        with self._lock:
            self._stop()

    async def _launch(self) -> None:
        try:
            from playwright.async_api import Error, async_playwright
        except ImportError as error:
            raise UIActionInputError("a real browser needs the package playwright: pip install playwright") from error

        named = self.path or os.environ.get("QUARTET_CHROMIUM")
        path = find_installed() if self.path is None else self.path if runs(self.path) else None
        if path is None and named:
            raise UIActionInputError(f"no Chromium runs here as {named}: {INSTALL}")
        self._playwright = await async_playwright().start()
        if path is None and not runs(path := self._playwright.chromium.executable_path):
            raise UIActionInputError(f"no Chromium runs here: {INSTALL}")
        try:
            self._browser = await self._playwright.chromium.launch(
                executable_path=path, chromium_sandbox=self.sandbox, args=[*FLAGS, *GUARDED_FLAGS]
            )
        except Error as error:
            hint = "pass sandbox=False if pages are trusted, or " if self.sandbox else ""
            raise UIActionInputError(f"{path} does not start ({first_line(error)}): {hint}{INSTALL}") from error

    def _stop(self) -> None:
        loop, thread = self._loop, self._thread
        if loop is None or thread is None:
            return
        try:
            self.run(self._quit(), 10)
        except TimeoutError:
            pass  # the thread ends all the same, and with it the pipe that keeps the driver and its browser alive
        finally:
            loop.call_soon_threadsafe(loop.stop)
            thread.join(10)
            if not thread.is_alive():
                loop.close()
            self._loop = self._thread = self._browser = self._playwright = None

    async def _quit(self) -> None:
        if self._browser is not None:
            await self._browser.close()
        if self._playwright is not None:
            await self._playwright.stop()


def first_line(error: BaseException) -> str:
    """A Playwright error in a short line, without its call log; it may hold words of the page."""
    line = (str(error).strip() or type(error).__name__).splitlines()[0]
    if line.startswith(("Page.", "BrowserType.", "Browser.")):
        line = line.partition(": ")[2] or line
    return "".join(letter for letter in line[:LINE_LIMIT] if letter.isprintable())
