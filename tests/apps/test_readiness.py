"""`/healthz` and `/readyz` of a real server: alive at once, ready when what has to be in memory is there."""

from __future__ import annotations

import json
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any

import gradio as gr
import pytest

from apps import readiness
from apps.readiness import Startup
from apps.server import health_routes, speaks_mcp
from core.errors import InputError
from core.registry import PipelineCache


class Loading(PipelineCache):
    """A cache in the making, whose loading takes until the test lets it end."""

    def __init__(self) -> None:
        super().__init__(policy="eager")
        self.may_end = threading.Event()

    def made(self) -> PipelineCache:
        self.may_end.wait(30)
        return self


@pytest.fixture
def loading(monkeypatch: pytest.MonkeyPatch) -> Iterator[Loading]:
    cache = Loading()
    monkeypatch.setattr(readiness, "default_cache", cache.made)
    yield cache
    cache.may_end.set()


@pytest.fixture
def started(loading: Loading) -> Iterator[tuple[str, Startup]]:
    """Address of a server that has just been opened, and its start-up, which has not begun."""
    startup = Startup()
    with gr.Blocks() as blocks:
        gr.Markdown("Open")
    routes = {"routes": health_routes((), startup)}
    _, address, _ = blocks.launch(prevent_thread_lock=True, quiet=True, app_kwargs=routes, ssr_mode=False)
    yield address.rstrip("/"), startup
    blocks.close()


def ask(address: str) -> tuple[int, dict[str, Any]]:
    try:
        with urllib.request.urlopen(address, timeout=10) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def wait_for(address: str, status: int) -> dict[str, Any]:
    """The first answer of that status, or the last one after ten seconds."""
    for _ in range(200):
        found, body = ask(address)
        if found == status:
            return body
        threading.Event().wait(0.05)
    pytest.fail(f"still {found}: {body}")


def test_a_server_is_alive_before_it_is_ready_and_ready_when_everything_is_loaded(
    started: tuple[str, Startup], loading: Loading
) -> None:
    address, startup = started
    startup.run_beside()
    assert ask(f"{address}/healthz")[0] == 200
    assert ask(f"{address}/readyz") == (503, {"status": "starting", "loaded": []})
    loading.may_end.set()
    assert wait_for(f"{address}/readyz", 200) == {"status": "ready", "policy": "eager", "loaded": []}


def test_a_start_that_failed_on_a_setting_says_which(monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong() -> PipelineCache:
        raise InputError("QUARTET_LOAD_POLICY is 'sometimes': set it to lazy or eager, or leave it out.")

    monkeypatch.setattr(readiness, "default_cache", wrong)
    startup = Startup()
    startup.run()
    status, body = startup.answer()
    assert (status, body["status"]) == (503, "failed")
    assert "QUARTET_LOAD_POLICY" in str(body["reason"])


def test_a_start_that_failed_on_a_defect_tells_visitors_no_details(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> PipelineCache:
        raise OSError("/home/somebody/secret is not there")

    monkeypatch.setattr(readiness, "default_cache", broken)
    startup = Startup()
    startup.run()
    assert startup.answer()[0] == 503
    assert "secret" not in str(startup.answer())


def test_lazy_loading_is_ready_at_once() -> None:
    startup = Startup()
    startup.run()
    status, body = startup.answer()
    assert (status, body["status"], body["policy"]) == (200, "ready", "lazy")


def test_mcp_can_be_switched_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("QUARTET_MCP", raising=False)
    assert speaks_mcp() is (find_spec("mcp") is not None)
    monkeypatch.setenv("QUARTET_MCP", "0")
    assert not speaks_mcp()
