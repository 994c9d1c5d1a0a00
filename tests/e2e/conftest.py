"""The real app in a process of its own, and a real browser in front of it."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.e2e import broken_plugins, outside_plugin

ROOT = Path(__file__).resolve().parents[2]
START_TIMEOUT = 90.0


@dataclass(frozen=True)
class RunningApp:
    """A started app; `seconds_to_open` run from the process's start to its first answer."""

    url: str
    seconds_to_open: float
    pid: int

    def get_json(self, path: str) -> Any:
        """What the app answers to a GET, read as JSON."""
        with urllib.request.urlopen(self.url + path, timeout=10) as response:
            return json.load(response)


def free_port() -> int:
    """A port of this machine that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_until_open(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    """Return at the app's first healthy answer; an app that ends or stays silent fails with its log."""
    limit = time.monotonic() + START_TIMEOUT
    while time.monotonic() < limit:
        if process.poll() is not None:
            break
        try:
            with urllib.request.urlopen(f"{url}/healthz", timeout=5):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.1)
    pytest.fail(f"the app did not open; its log:\n{log.read_text()[-4000:]}")


@contextmanager
def running_app(directory: Path, environment: Mapping[str, str]) -> Generator[RunningApp]:
    """Start `python app.py` with data folders of its own under `directory`; end it with the block."""
    port, log = free_port(), directory / "app.log"
    folders = {"QUARTET_DATA_DIR": str(directory / "data"), "GRADIO_TEMP_DIR": str(directory / "cache")}
    command = [sys.executable, "app.py", "--port", str(port)]
    settings = {**os.environ, **folders, **environment}
    began = time.monotonic()
    with log.open("wb") as out:
        process = subprocess.Popen(command, cwd=ROOT, env=settings, stdout=out, stderr=subprocess.STDOUT)
    try:
        url = f"http://127.0.0.1:{port}"
        wait_until_open(url, process, log)
        yield RunningApp(url, time.monotonic() - began, process.pid)
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)


@pytest.fixture(scope="session")
def app(tmp_path_factory: pytest.TempPathFactory) -> Generator[RunningApp]:
    """The app as people start it, with strict mode on: a plugin of ours that fails fails the tests."""
    with running_app(tmp_path_factory.mktemp("app"), {"QUARTET_STRICT": "1"}) as started:
        yield started


@pytest.fixture(scope="session")
def app_with_broken_plugins(tmp_path_factory: pytest.TempPathFactory) -> Generator[RunningApp]:
    """The app with three outside plugins: one does not import, one fails half-way through its page, one works."""
    directory = tmp_path_factory.mktemp("broken")
    packages = outside_plugin.install(broken_plugins.install(directory / "packages"))
    search = os.pathsep.join(filter(None, (str(packages), os.environ.get("PYTHONPATH"))))
    enabled = f"{broken_plugins.ENABLED},{outside_plugin.ENABLED}"
    environment = {"QUARTET_PLUGINS": enabled, "PYTHONPATH": search}
    with running_app(directory, {"QUARTET_STRICT": "0", **environment}) as started:
        yield started
