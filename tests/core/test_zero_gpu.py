"""Work on ZeroGPU: what crosses to the platform's process and back, and that nothing changes elsewhere."""

from __future__ import annotations

import json
import multiprocessing
import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest

from core import zero_gpu
from core.jobs import JobContext, JobStore
from core.zero_gpu import Failed, Reported, Returned, Stopped, gpu, on_accelerator, work_in_steps
from tests.core.zero_gpu_work import count, crash, refuse, until_stopped

ROOT = Path(__file__).resolve().parents[2]
SPAWNED = multiprocessing.get_context("spawn")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The folder for a job's results, as the store lays it out."""
    made = tmp_path / "job" / "artefacts"
    made.mkdir(parents=True)
    return made


def steps(run: Any, request: int, folder: Path, expected: tuple[type[Exception], ...] = ()) -> list[Any]:
    return list(work_in_steps(run, request, 10, expected, "a-job", str(folder)))


def test_off_zero_gpu_a_decorated_function_stays_what_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SPACES_ZERO_GPU", raising=False)
    assert gpu(lambda *_: 1)(count) is count


def test_off_zero_gpu_work_runs_where_it_is_called(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SPACES_ZERO_GPU", raising=False)
    said: list[dict[str, Any]] = []
    context = JobContext("a-job", folder, lambda **changes: said.append(changes), threading.Event())
    result = on_accelerator(count, 2, seconds=5)(context)
    assert result == {"counted": 2, "process": os.getpid()}
    assert [each["message"] for each in said if "message" in each] == ["number 0", "number 1"]


@pytest.mark.parametrize(("value", "expected"), [("1", True), ("true", True), ("T", True), ("0", False), ("", False)])
def test_the_variable_is_read_as_spaces_reads_it(monkeypatch: pytest.MonkeyPatch, value: str, expected: bool) -> None:
    monkeypatch.setenv("SPACES_ZERO_GPU", value)
    assert zero_gpu.active() is expected


def test_reports_come_in_order_and_the_result_comes_last(folder: Path) -> None:
    said = steps(count, 3, folder)
    previews = [each.changes["preview"]["number"] for each in said[:-1] if "preview" in each.changes]
    assert previews == [0, 1, 2]
    assert isinstance(said[-1], Returned)
    assert said[-1].result["counted"] == 3


def test_everything_that_comes_back_can_be_pickled(folder: Path) -> None:
    for step in (*steps(count, 2, folder), *steps(refuse, 2, folder, (ValueError,)), *steps(crash, 2, folder)):
        assert pickle.loads(pickle.dumps(step)) == step  # noqa: S301 (made here)


def test_an_expected_error_comes_back_with_its_message_and_any_other_with_its_trace(folder: Path) -> None:
    assert steps(refuse, 9, folder, (ValueError,))[-1] == Failed("9 is too many: give 2", expected=True)
    unexpected = steps(crash, 9, folder)[-1]
    assert isinstance(unexpected, Failed)
    assert not unexpected.expected
    assert "ZeroDivisionError: secret" in unexpected.message


def test_silent_work_still_gives_signs_of_life_and_ends_at_the_stop_file(folder: Path) -> None:
    going = work_in_steps(until_stopped, 0, 10, (), "a-job", str(folder))
    assert next(going) == Reported({"preview": {"began": True}})
    assert next(going) == Reported({})
    (folder.parent / ".stop").touch()
    last = list(going)[-1]
    assert isinstance(last, Returned)
    assert last.result["kept"]


def test_leaving_the_generator_stops_the_work(folder: Path) -> None:
    before = threading.active_count()
    going = work_in_steps(until_stopped, 0, 10, (), "a-job", str(folder))
    next(going)
    assert threading.active_count() == before + 1
    assert isinstance(going, Generator)
    going.close()
    assert threading.active_count() == before


@pytest.mark.parametrize(("seconds", "asked"), [(0.5, 10), (30.2, 31), (90, 90)])
def test_what_is_asked_of_the_platform_is_whole_seconds_and_not_too_few(seconds: float, asked: int) -> None:
    assert zero_gpu._requested(count, 1, seconds, (), "a-job", "/somewhere") == asked


def elsewhere(*arguments: Any) -> Iterator[Any]:
    """`work_in_steps` in a process of its own, item by item over a pipe."""
    receiver, sender = SPAWNED.Pipe(duplex=False)
    process = SPAWNED.Process(target=send_steps, args=(sender, *arguments))
    process.start()
    sender.close()
    try:
        while True:
            yield receiver.recv()
    except EOFError:
        return
    finally:
        process.join()


def send_steps(sender: Any, *arguments: Any) -> None:
    """What the other process does."""
    for step in work_in_steps(*arguments):
        sender.send(step)


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[JobStore]:
    """A store whose work runs in another process, as ZeroGPU lets it."""
    monkeypatch.setattr(zero_gpu, "active", lambda: True)
    monkeypatch.setattr(zero_gpu, "_work_in_steps", elsewhere)
    with JobStore(tmp_path / "jobs") as made:
        yield made


def test_a_job_in_another_process_leaves_its_result_and_its_files(store: JobStore) -> None:
    job = store.wait(store.submit("x", on_accelerator(count, 3, seconds=5), params={}), 60)
    assert job.status == "done"
    assert job.result is not None
    assert job.result["counted"] == 3
    assert job.result["process"] != os.getpid()
    assert [path.name for path in job.artefacts] == ["numbers.txt"]


def test_a_stop_reaches_the_other_process_and_what_is_done_is_kept(store: JobStore) -> None:
    job_id = store.submit("x", on_accelerator(until_stopped, 0, seconds=5), params={})
    for _ in range(600):
        if store.get(job_id).preview or store.get(job_id).over:
            break
        threading.Event().wait(0.05)
    store.stop(job_id)
    job = store.wait(job_id, 60)
    assert job.status == "stopped"
    assert job.result is not None
    assert job.result["kept"]


def test_an_error_in_the_other_process_is_shown_like_one_here(store: JobStore) -> None:
    job = store.wait(store.submit("x", on_accelerator(refuse, 7, seconds=5, expected=(ValueError,)), params={}), 60)
    assert (job.status, job.error) == ("failed", "7 is too many: give 2")


def test_what_a_visitor_has_to_know_of_the_platform_is_shown_to_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import gradio

    def no_quota(*arguments: Any) -> Iterator[Any]:
        raise gradio.Error("You have exceeded your ZeroGPU quota")
        yield Stopped()

    monkeypatch.setattr(zero_gpu, "active", lambda: True)
    monkeypatch.setattr(zero_gpu, "_work_in_steps", no_quota)
    with JobStore(tmp_path / "jobs") as made:
        job = made.wait(made.submit("x", on_accelerator(count, 1, seconds=5), params={}), 30)
    assert job.status == "failed"
    assert job.error is not None
    assert job.error.startswith("You have exceeded your ZeroGPU quota. Sign in")


def test_the_real_package_forks_streams_stops_and_refuses(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.core.zero_gpu_platform", str(tmp_path)]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert ran.returncode == 0, ran.stderr
    found = json.loads(ran.stdout.splitlines()[-1])
    outcomes = found["outcomes"]
    assert outcomes["count"]["status"] == "done"
    assert outcomes["count"]["result"]["process"] != found["own"]
    assert outcomes["count"]["artefacts"] == ["numbers.txt"]
    assert outcomes["refuse"]["error"] == "3 is too many: give 2"
    assert "larger than" in outcomes["greedy"]["error"] or "GPU" in outcomes["greedy"]["error"]
    assert outcomes["stopped"]["status"] == "stopped"
    assert outcomes["stopped"]["result"]["kept"]
    durations = [asked["durationSeconds"] for path, asked in found["asked"] if path == "/schedule"]
    assert durations[0] == durations[1] != durations[2]
