"""What every test runs under: sleeping OpenMP threads, and no deadline on a shared machine."""

from __future__ import annotations

import os
import runpy
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from tests.e2e.browser import FLAGS, find_installed

ROOT = Path(__file__).resolve().parent.parent

# Before any test imports torch, which reads them once. Tests that run side by side share the cores, and so do the apps
# that they start.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
if workers > 1:
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // workers)))

# Jobs of the tests are kept apart from those of the person who runs them, and go with the session.
_data = tempfile.TemporaryDirectory(prefix="quartet-tests-", ignore_cleanup_errors=True)
os.environ["QUARTET_DATA_DIR"] = _data.name

# Hypothesis' deadline is wall time for one example; two busy cores break it without a defect.
settings.register_profile("quartet", deadline=None, print_blob=True)
settings.load_profile("quartet")


def pytest_itemcollected(item: pytest.Item) -> None:
    """Side by side, the tests of a file stay together, for its fixtures, and so do those with a browser.

    Two browsers and two apps at once are too much for two cores. Said here, because xdist reads the groups before any
    other look at the whole collection.
    """
    item.add_marker(pytest.mark.xdist_group("e2e" if item.get_closest_marker("e2e") else str(item.path)))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Those with a browser begin: they are the longest group. The Makefile keeps xdist from changing the order."""
    items.sort(key=lambda item: item.get_closest_marker("e2e") is None)


@pytest.fixture(scope="session")
def browser_type_launch_args(browser_type_launch_args: dict[str, Any]) -> dict[str, Any]:
    """pytest-playwright's launch arguments, for the Chromium of this system without its own traffic."""
    found = find_installed()
    path = {"executable_path": found} if found else {}
    return {**browser_type_launch_args, **path, "args": list(FLAGS)}


Run = Callable[[str], str]


@pytest.fixture
def run_here(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """What the lines print when they are run in this process, whose imports have been paid for."""
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING
    from transformers.models.auto.modeling_auto import MODEL_MAPPING

    monkeypatch.chdir(ROOT)
    for mapping in (CONFIG_MAPPING, MODEL_MAPPING):  # what the lines register, with trust_remote_code, ends with them
        monkeypatch.setattr(mapping, "_extra_content", dict(mapping._extra_content))

    def run(code: str) -> str:
        file = tmp_path / "lines.py"
        file.write_text(code, "utf-8")
        capsys.readouterr()
        runpy.run_path(str(file))
        return capsys.readouterr().out

    return run
