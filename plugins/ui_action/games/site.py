"""The games as pages on this machine, for a real browser."""

from __future__ import annotations

import threading
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlencode, urlsplit

from ..actions import Platform
from .assets import WEB

TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".css": "text/css; charset=utf-8",
}


@dataclass(frozen=True)
class GameSite:
    """A running server; `url` ends without a slash."""

    url: str

    def page(self, task: str, platform: Platform, *, seed: int = 0, adversarial: bool = False) -> str:
        """The address of one game."""
        asked = {"task": task, "platform": platform, "seed": seed, "adversarial": int(adversarial)}
        return f"{self.url}/index.html?{urlencode(asked)}"


class _Files(BaseHTTPRequestHandler):
    """The files of ../web by name, and nothing else: no folders, no other paths."""

    def do_GET(self) -> None:
        names = {f"/{path.name}": path for path in WEB.iterdir() if path.suffix in TYPES}
        found = names.get(urlsplit(self.path).path)
        if found is None:
            self.send_error(404)
            return
        body = found.read_bytes()
        self.send_response(200)
        self.send_header("Content-Type", TYPES[found.suffix])
        self.send_header("Content-Length", str(len(body)))
        self.send_header("X-Content-Type-Options", "nosniff")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Stay silent."""


@contextmanager
def serve_games() -> Generator[GameSite]:
    """Serve the pages on a free port of 127.0.0.1 until the block ends."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Files)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield GameSite(f"http://127.0.0.1:{server.server_port}")
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
