"""A small server of pages for tests of the real browser: a board that notes its events, and pages that want out."""

from __future__ import annotations

import json
import threading
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

WIDTH, HEIGHT = 240, 160

# Notes every event of mouse, keyboard and finger with its place, and shows by colour how many there were.
BOARD = """<!doctype html><style>
  html, body { margin: 0; height: 100%; background: #336699; touch-action: none; overflow: hidden }
  input { position: absolute; left: 10px; top: 120px; width: 100px }
</style><input id="text">
<script>
  const log = [];
  const place = (event) => [event.type, Math.round(event.clientX), Math.round(event.clientY)];
  for (const type of ["mousedown", "mouseup", "click", "dblclick", "contextmenu"])
    addEventListener(type, (event) => log.push([...place(event), event.detail]));
  addEventListener("mousemove", (event) => log.push([...place(event), event.buttons]));
  for (const type of ["pointerdown", "pointermove", "pointerup", "pointercancel"])
    addEventListener(type, (event) => { if (event.pointerType === "touch") log.push([...place(event), 0]); });
  addEventListener("wheel", (event) => log.push(["wheel", Math.round(event.deltaX), Math.round(event.deltaY), 0]));
  for (const type of ["keydown", "keyup"]) addEventListener(type, (event) => log.push([type, event.key]));
  const clear = () => {
    log.length = 0;
    document.activeElement.blur();
    document.getElementById("text").value = "";
  };
</script>"""
STATE = "({log, text: document.getElementById('text').value, ratio: devicePixelRatio, size: [innerWidth, innerHeight]})"

# A counter with a clock of its own: each click is a tick, each tick a frame.
GAME = """<!doctype html><style>html, body { margin: 0; background: #000 } canvas { display: block }</style>
<canvas width="240" height="160"></canvas>
<script>
  const canvas = document.querySelector("canvas"), brush = canvas.getContext("2d");
  const kept = (localStorage.kept || "") + document.cookie;
  localStorage.kept = 1;
  document.cookie = "kept=1";
  let seed = 0, tick = 0, frames = [];
  const draw = () => { brush.fillStyle = `rgb(${seed}, ${tick * 10}, 0)`; brush.fillRect(0, 0, 240, 160);
                       frames.push(canvas.toDataURL("image/png")); };
  const step = () => { tick += 1; draw(); };
  addEventListener("mousedown", () => { frames = []; step(); step(); });
  window.quartet = {
    reset: async (value) => { seed = value; tick = 0; frames = []; draw(); },
    state: () => ({seed, tick, kept}),
    stateHash: async () => [...new Uint8Array(await crypto.subtle.digest("SHA-256",
      new TextEncoder().encode(`${seed}/${tick}`)))].map((byte) => byte.toString(16).padStart(2, "0")).join(""),
    frames: () => frames,
    done: () => tick >= 4,
    success: () => tick >= 4 ? true : null,
    wait: (milliseconds) => { frames = []; for (let at = 0; at < milliseconds; at += 1000) step(); },
  };
</script>"""


@dataclass
class Site:
    """A running server.

    Attributes:
        url: without a path.
        pages: by path; tests add their own.
        redirects: from a path to an address.
        seen: the path of every request, in order.
    """

    url: str
    pages: dict[str, str]
    redirects: dict[str, str] = field(default_factory=dict)
    seen: list[str] = field(default_factory=list)

    def page(self, path: str, script: str) -> str:
        """The address of a new page that does this."""
        self.pages[path] = f"<!doctype html><body>here</body><script>{script}</script>"
        return self.url + path


@contextmanager
def serving() -> Generator[Site]:
    """A server on a free port of this machine."""
    site = Site("", {"/board": BOARD, "/game": GAME})

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            site.seen.append(self.path)
            if self.path in site.redirects:
                self.send_response(302)
                self.send_header("Location", site.redirects[self.path])
                self.end_headers()
                return
            body = site.pages.get(self.path, "not here").encode()
            self.send_response(200 if self.path in site.pages else 404)
            if self.path.startswith("/file"):
                self.send_header("Content-Disposition", "attachment")
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_POST(self) -> None:
            self.do_GET()

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    site.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield site
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def script_of(value: object) -> str:
    """A value as JavaScript writes it."""
    return json.dumps(value)
