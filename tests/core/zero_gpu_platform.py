"""`python -m tests.core.zero_gpu_platform FOLDER`: jobs through the real package `spaces`, but for the GPU.

The platform's device service is a small server of this process: it grants what is asked for, and notes it. torch is
hidden, because `spaces` would move a tensor to the GPU that is not there; it forks, pickles and streams all the same.
What came of it is printed as JSON.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

ASKED: list[tuple[str, dict[str, str]]] = []
QUOTA = {"left": 5, "wait": 3600.0}


class DeviceService(BaseHTTPRequestHandler):
    """The four calls that `spaces` makes; a task of more than 60 seconds is over the visitor's quota."""

    def do_POST(self) -> None:
        address = urlsplit(self.path)
        asked = {name: values[0] for name, values in parse_qs(address.query).items()}
        ASKED.append((address.path, asked))
        body: dict[str, Any] = {}
        status = 200
        if address.path == "/schedule" and int(asked["durationSeconds"]) > 60:
            status, body = 429, QUOTA
        elif address.path == "/schedule":
            body = {"idle": False, "nvidiaIndex": 0, "nvidiaUUID": "GPU-0", "allowToken": "let me"}
        sent = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(sent)))
        self.end_headers()
        self.wfile.write(sent)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: standard output is for the result."""


def main(folder: Path) -> None:
    """Run one job that succeeds, one that is stopped, one that fails and one that asks for too much."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), DeviceService)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    os.environ["SPACES_ZERO_GPU"] = "true"
    os.environ["SPACES_ZERO_DEVICE_API_URL"] = f"http://127.0.0.1:{server.server_port}"
    os.environ["ZEROGPU_PROC_SELF_CGROUP_PATH"] = str(folder / "cgroup")
    (folder / "cgroup").write_text("0::/job\n4:devices:/job\n")
    sys.modules["torch"] = None  # ty: ignore[invalid-assignment]  # "not installed" for whoever imports it

    from core.jobs import JobStore
    from core.zero_gpu import on_accelerator
    from tests.core.zero_gpu_work import count, refuse, until_stopped

    outcomes = {}
    with JobStore(folder / "jobs") as store:
        for name, run, seconds in (("count", count, 20), ("refuse", refuse, 20), ("greedy", count, 200)):
            job = store.submit("x", on_accelerator(run, 3, seconds=seconds, expected=(ValueError,)), params={})
            outcomes[name] = outcome(store.wait(job, 60))
        job = store.submit("x", on_accelerator(until_stopped, 0, seconds=20), params={})
        while store.get(job).preview is None and not store.get(job).over:
            threading.Event().wait(0.05)
        store.stop(job)
        outcomes["stopped"] = outcome(store.wait(job, 60))
    print(json.dumps({"own": os.getpid(), "outcomes": outcomes, "asked": ASKED}))


def outcome(job: Any) -> dict[str, Any]:
    """What a test asks of a job."""
    return {
        "status": job.status,
        "result": job.result,
        "error": job.error,
        "artefacts": [path.name for path in job.artefacts],
    }


if __name__ == "__main__":
    main(Path(sys.argv[1]))
