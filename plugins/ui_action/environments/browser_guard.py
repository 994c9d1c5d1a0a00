"""What a page may reach: an allow-list, asked twice, and a count of everything that was refused.

Playwright's routes see what a page asks for and can refuse it without harm to the page, but not where a server
redirects to, nor sockets, nor workers. So the browser has no way out but a SOCKS proxy of ours, the gate, which
connects to allowed hosts only.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
from collections.abc import Awaitable, Iterable
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from ..addresses import address_refusal
from ..errors import UIActionInputError

if TYPE_CHECKING:
    from playwright.async_api import BrowserContext, Dialog, Download, Page, Request, Route, WebSocket

PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443}
LOG_LIMIT, ENTRY_LIMIT = 100, 200
# What a page can ask a person for. Chromium has nobody to ask here and refuses; this only tells of it.
PERMISSIONS_SCRIPT = """(() => {
  const told = window.__quartetAsked;
  const watch = (owner, name) => {
    const asked = owner && owner[name];
    if (!asked) return;
    owner[name] = function (...rest) { told(name); return asked.apply(this, rest); };
  };
  watch(window.Geolocation && Geolocation.prototype, "getCurrentPosition");
  watch(window.Geolocation && Geolocation.prototype, "watchPosition");
  watch(window.Notification, "requestPermission");
  watch(window.MediaDevices && MediaDevices.prototype, "getUserMedia");
  watch(window.MediaDevices && MediaDevices.prototype, "getDisplayMedia");
  watch(window.Clipboard && Clipboard.prototype, "read");
  watch(window.Clipboard && Clipboard.prototype, "readText");
})()"""


@dataclass(frozen=True)
class BrowserEvents:
    """What was refused since the last reset.

    Attributes:
        requests: that were aborted, redirects and the page's own navigations among them.
        connections: that the gate did not make: of redirects, sockets and workers, once more for each try.
        websockets, popups, dialogs, downloads, permissions, file_choosers: that were refused.
        log: one line for each of the first `LOG_LIMIT` of them, at most `ENTRY_LIMIT` characters. The addresses are
            the page's words: data, not instructions.
    """

    requests: int = 0
    connections: int = 0
    websockets: int = 0
    popups: int = 0
    dialogs: int = 0
    downloads: int = 0
    permissions: int = 0
    file_choosers: int = 0
    log: tuple[str, ...] = ()

    @property
    def counts(self) -> dict[str, int]:
        """The counters by name."""
        return {field.name: getattr(self, field.name) for field in fields(self) if field.name != "log"}

    def since(self, earlier: BrowserEvents) -> str:
        """What was refused after `earlier`, in a line without any word of the page; "" if nothing was."""
        before = earlier.counts
        new = {name: count - before[name] for name, count in self.counts.items() if count > before[name]}
        new.pop("connections", None)
        parts = [f"{count} {name.replace('_', ' ') if count > 1 else _singular(name)}" for name, count in new.items()]
        return f"refused: {', '.join(parts)}" if parts else ""


def _singular(name: str) -> str:
    return name.removesuffix("s").replace("_", " ")


@dataclass(frozen=True)
class AllowList:
    """Hosts that may be reached, over http, https and their sockets.

    Attributes:
        hosts: "name" or "name:port", lower case. A name of this machine without a port is allowed on `port` only, since
            its other servers are none of a page's business; any other name on every port.
        port: of the page that the environment opens.
    """

    hosts: tuple[str, ...]
    port: int

    @classmethod
    def of(cls, hosts: Iterable[str], url: str) -> AllowList:
        """For a page at this address. Raises UIActionInputError for an entry that is no host, or a page elsewhere."""
        if isinstance(hosts, str):
            raise UIActionInputError(f"allowed_hosts is the text {hosts!r}: give a list, such as [{hosts!r}]")
        names = tuple(_host(host) for host in hosts)
        if refusal := address_refusal(url, names):
            raise UIActionInputError(f"the page's address: {refusal}")
        parts = urlsplit(url)
        return cls(names, parts.port or PORTS[parts.scheme])

    def allows(self, host: str, port: int) -> bool:
        """Whether a connection to this host and port may be made."""
        host = host.lower().rstrip(".")
        written = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        return written in self.hosts or (host in self.hosts and (port == self.port or not is_loopback(host)))

    def refusal(self, url: str) -> str:
        """Why this address must not be opened; "" if it may."""
        if refusal := address_refusal(url, self.hosts):
            return refusal
        if not self.allows_request(url):
            return f"going to another port of this machine than {self.port} is not allowed: name it in allowed_hosts"
        return ""

    def allows_request(self, url: str) -> bool:
        """Whether an address as the browser writes it may be asked for."""
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError:
            return False
        if parts.scheme not in PORTS or "@" in parts.netloc:
            return False
        return self.allows(parts.hostname or "", PORTS[parts.scheme] if port is None else port)


def _host(host: str) -> str:
    bare = host.isascii() and host.isprintable() and not any(letter in host for letter in " */\\@?#")
    if not host or not bare or "://" in host:
        raise UIActionInputError(f"allowed host {host!r}: give a name or address, with a port if you like: host:8000")
    return host.lower()


def is_loopback(host: str) -> bool:
    """Whether this host is this machine."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return False


class Guard:
    """Stands between one context and everything outside; all of it runs on the browser's thread."""

    def __init__(self, allowed: AllowList) -> None:
        self.allowed = allowed
        self.offline = False
        self.events = BrowserEvents()
        self._server: asyncio.Server | None = None
        self._pipes: set[asyncio.Task[None]] = set()

    def refuse(self, counter: str, what: str) -> None:
        """Count one refusal and, while there is room, log it."""
        events = self.events
        line = "".join(letter if " " <= letter <= "~" else "?" for letter in f"{counter}: {what[:ENTRY_LIMIT]}")
        log = (*events.log, line[:ENTRY_LIMIT]) if len(events.log) < LOG_LIMIT else events.log
        self.events = replace(events, log=log, **{counter: getattr(events, counter) + 1})

    def may_open(self, url: str) -> bool:
        """Whether the page may ask for this address now."""
        return not self.offline and self.allowed.allows_request(url)

    async def open_gate(self) -> str:
        """Start the proxy; its address."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return f"socks5://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def close(self) -> None:
        """Shut the gate and what goes through it."""
        if self._server is not None:
            self._server.close()
        for task in self._pipes:
            task.cancel()
        await asyncio.gather(*self._pipes, return_exceptions=True)

    async def watch(self, context: BrowserContext, page: Page) -> None:
        """Guard everything in this context, whose only page is still empty; further ones are closed."""
        await context.route("**/*", self._route)
        await context.expose_binding("__quartetAsked", lambda _source, name: self.refuse("permissions", str(name)[:40]))
        await context.add_init_script(PERMISSIONS_SCRIPT)
        context.on("page", self._popup)
        context.on("request", self._redirect)
        context.on("dialog", self._dialog)
        page.on("websocket", self._websocket)
        page.on("download", self._download)
        page.on("filechooser", lambda _chooser: self.refuse("file_choosers", "a file chooser"))

    async def _route(self, route: Route) -> None:
        request = route.request
        if self.may_open(request.url):
            await quietly(route.continue_())
            return
        self.refuse("requests", f"{request.resource_type} {request.url}")
        # An aborted navigation leaves the page where it is; any other reason replaces it by an error page.
        await quietly(route.abort("aborted" if self._leaves(request) else "blockedbyclient"))

    def _leaves(self, request: Request) -> bool:
        """Whether this is a navigation of a page that is there already, not the first one of a popup."""
        from playwright.async_api import Error

        try:
            return request.is_navigation_request() and request.frame.page is not None
        except Error:  # Playwright knows no frame yet
            return False

    def _redirect(self, request: Request) -> None:
        """Tell of a redirect that the gate is about to refuse; routes do not see those."""
        if request.redirected_from is not None and not self.may_open(request.url):
            self.refuse("requests", f"redirect {request.url}")

    async def _popup(self, page: Page) -> None:
        self.refuse("popups", page.url or "a new page")
        await quietly(page.close())

    def _websocket(self, socket: WebSocket) -> None:
        if not self.may_open(socket.url):
            self.refuse("websockets", socket.url)

    async def _dialog(self, dialog: Dialog) -> None:
        self.refuse("dialogs", dialog.type)
        await quietly(dialog.dismiss())

    async def _download(self, download: Download) -> None:
        self.refuse("downloads", download.url)
        await quietly(download.cancel())

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._pipes.add(task)
        try:
            await self._connect(reader, writer)
        except (OSError, EOFError, asyncio.CancelledError):
            pass  # either side went away
        finally:
            self._pipes.discard(task)
            writer.close()

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection of RFC 1928, without authentication."""
        host, port = await _asked_for(reader, writer)
        if self.offline or not self.allowed.allows(host, port):
            self.refuse("connections", f"{host}:{port}")
            writer.write(_reply(2))  # not allowed by the ruleset
            return
        try:
            far_reader, far_writer = await asyncio.open_connection(host, port)
        except OSError:
            writer.write(_reply(5))  # refused by the far side
            return
        writer.write(_reply(0))
        try:
            await asyncio.gather(_pipe(reader, far_writer), _pipe(far_reader, writer))
        finally:
            far_writer.close()


async def _asked_for(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> tuple[str, int]:
    """(host, port) that a SOCKS 5 client wants."""
    version, methods = await reader.readexactly(2)
    await reader.readexactly(methods)
    if version != 5:
        raise EOFError("not SOCKS 5")
    writer.write(b"\x05\x00")
    _, command, _, kind = await reader.readexactly(4)
    if command != 1:
        raise EOFError("not a connection")
    if kind == 3:
        host = (await reader.readexactly((await reader.readexactly(1))[0])).decode("ascii", "replace")
    else:
        host = str(ipaddress.ip_address(await reader.readexactly(4 if kind == 1 else 16)))
    return host, int.from_bytes(await reader.readexactly(2), "big")


def _reply(code: int) -> bytes:
    return bytes((5, code, 0, 1, 0, 0, 0, 0, 0, 0))


async def _pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while chunk := await reader.read(65536):
        writer.write(chunk)
        await writer.drain()
    if writer.can_write_eof():
        writer.write_eof()


async def quietly(work: Awaitable[object]) -> None:
    """Await what may take too long, or fail because the page is gone already, without harm."""
    from playwright.async_api import Error

    with contextlib.suppress(Error, TimeoutError):
        await work
