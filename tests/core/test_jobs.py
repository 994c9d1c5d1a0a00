import json
import logging
import threading
import time

import pytest

from core.errors import InputError, LimitError
from core.jobs import JobStore
from tests.core.job_work import PATIENCE, Gate, eventually, occupy, quick


@pytest.fixture
def store(tmp_path):
    with JobStore(tmp_path) as made:
        yield made


def test_a_job_runs_and_its_result_files_and_times_are_kept(store):
    def work(context):
        (context.directory / "table.csv").write_text("a,b\n1,2\n")
        (context.directory / "more").mkdir()
        (context.directory / "more" / "clip.mp4").write_bytes(b"\0")
        return {"synergy": 1.0}

    job = store.wait(store.submit("attribution", work, params={"seed": 3}), PATIENCE)
    assert (job.status, job.result, job.error) == ("done", {"synergy": 1.0}, None)
    assert (job.slug, job.params, job.progress, job.position) == ("attribution", {"seed": 3}, 1.0, None)
    assert [path.name for path in job.artefacts] == ["clip.mp4", "table.csv"]
    assert job.artefacts[1].read_text() == "a,b\n1,2\n"
    assert job.created <= job.started <= job.finished


def test_progress_message_and_preview_can_be_seen_while_the_job_runs(store):
    told, go = threading.Event(), threading.Event()

    def work(context):
        context.progress(0.25, "Step 1 of 4")
        context.preview({"frame": 1})
        context.progress(7)
        context.progress(0.5)
        told.set()
        go.wait(PATIENCE)
        return {}

    job_id = store.submit("toy", work, params={})
    assert told.wait(PATIENCE)
    job = store.get(job_id)
    assert (job.status, job.progress, job.message, job.preview) == (
        "running",
        0.5,
        "Step 1 of 4",
        {"frame": 1},
    )
    go.set()
    assert store.wait(job_id, PATIENCE).preview is None


@pytest.mark.parametrize(("told", "shown"), [(-1.0, 0.0), (2.0, 1.0), (float("nan"), 0.0), (0.3, 0.3)])
def test_progress_stays_between_nothing_and_all(store, told, shown):
    seen = []

    def work(context):
        context.progress(told)
        seen.append(store.get(context.id).progress)
        return {}

    store.wait(store.submit("toy", work, params={}), PATIENCE)
    assert seen == [shown]


def test_a_job_goes_on_when_whoever_asked_for_it_is_gone(store):
    gate, ids = Gate(), []
    client = threading.Thread(target=lambda: ids.append(store.submit("toy", gate, params={})))
    client.start()
    client.join()
    assert gate.entered.wait(PATIENCE)
    gate.opened.set()
    assert store.wait(ids[0], PATIENCE).status == "done"


def test_stop_ends_running_work_within_a_second_and_frees_the_worker(store):
    _, job_id = occupy(store)
    asked = time.monotonic()
    assert store.stop(job_id).message == "Stopping"
    assert store.wait(job_id, PATIENCE).status == "stopped"
    assert time.monotonic() - asked < 1
    assert store.wait(store.submit("toy", quick, params={}), PATIENCE).status == "done"


def test_reporting_progress_is_enough_to_be_stopped(store):
    def work(context):
        for step in range(1000):
            context.progress(step / 1000)
            time.sleep(0.005)
        return {}

    job_id = store.submit("toy", work, params={})
    eventually(lambda: store.get(job_id).progress > 0)
    store.stop(job_id)
    assert store.wait(job_id, 1.0).status == "stopped"


def test_a_job_stopped_while_it_waits_never_begins(store):
    gate, first = occupy(store)
    began = threading.Event()
    waiting = store.submit("toy", lambda context: began.set() or {}, params={})
    assert store.get(waiting).position == 1
    assert store.stop(waiting).status == "stopped"
    gate.opened.set()
    assert store.wait(first, PATIENCE).status == "done"
    store.wait(store.submit("toy", quick, params={}), PATIENCE)
    assert not began.is_set()
    assert store.get(waiting).started is None


def test_a_stopped_job_leaves_no_half_written_file(store):
    entered = threading.Event()

    def work(context):
        (context.directory / "clip.mp4").write_bytes(b"half")
        entered.set()
        while True:
            context.check()
            time.sleep(0.01)

    job_id = store.submit("toy", work, params={})
    assert entered.wait(PATIENCE)
    store.stop(job_id)
    assert store.wait(job_id, PATIENCE).artefacts == ()
    assert [path.name for path in (store.directory / job_id).rglob("*")] == ["job.json"]


def test_work_that_ends_by_itself_on_a_stop_keeps_what_it_has_and_is_not_called_done(store):
    entered = threading.Event()

    def work(context):
        entered.set()
        context.stop_event.wait(PATIENCE)
        return {"frames": 12}

    job_id = store.submit("toy", work, params={})
    assert entered.wait(PATIENCE)
    store.stop(job_id)
    job = store.wait(job_id, PATIENCE)
    assert (job.status, job.result) == ("stopped", {"frames": 12})


def test_a_librarys_own_cancellation_error_counts_as_stopped(store):
    entered = threading.Event()

    def work(context):
        entered.set()
        context.stop_event.wait(PATIENCE)
        raise RuntimeError("generation was interrupted")

    job_id = store.submit("toy", work, params={})
    assert entered.wait(PATIENCE)
    store.stop(job_id)
    job = store.wait(job_id, PATIENCE)
    assert (job.status, job.error) == ("stopped", None)


def test_stopping_a_job_that_is_over_changes_nothing(store):
    done = store.wait(store.submit("toy", quick, params={}), PATIENCE)
    assert store.stop(done.id) == done == store.get(done.id)


class PipelineError(ValueError):
    pass


@pytest.mark.parametrize("error", [InputError("too long: trim it"), PipelineError("one class only: add another")])
def test_an_expected_error_is_told_in_its_own_words(store, error):
    def work(context):
        raise error

    job = store.wait(store.submit("toy", work, params={}, expected=(PipelineError,)), PATIENCE)
    assert (job.status, job.error, job.result) == ("failed", str(error), None)


@pytest.mark.parametrize("error", [PipelineError("/srv/secret.bin"), KeyError("secret"), SystemExit("secret")])
def test_an_unexpected_error_is_logged_not_shown_and_the_worker_lives_on(store, caplog, error):
    def work(context):
        (context.directory / "half.csv").write_text("a")
        raise error

    with caplog.at_level(logging.ERROR):
        job = store.wait(store.submit("toy", work, params={}), PATIENCE)
    assert job.status == "failed"
    assert job.error == f"Something went wrong on our side (job {job.id}). The server log has the details."
    assert "secret" in caplog.text
    assert job.id in caplog.text
    assert job.artefacts == ()
    assert store.wait(store.submit("toy", quick, params={}), PATIENCE).status == "done"


@pytest.mark.parametrize("result", [None, [1], {"model": object()}])
def test_a_result_that_cannot_be_kept_is_a_failure(store, result):
    job = store.wait(store.submit("toy", lambda context: result, params={}), PATIENCE)
    assert (job.status, job.result) == ("failed", None)


def test_a_full_queue_refuses_and_says_so_and_takes_jobs_again_once_there_is_room(tmp_path):
    with JobStore(tmp_path, max_waiting=2) as store:
        gate, _ = occupy(store)
        kept = [store.submit("toy", quick, params={}) for _ in range(2)]
        with pytest.raises(LimitError, match="2 jobs are waiting, limit 2"):
            store.submit("toy", quick, params={})
        assert len(list(tmp_path.iterdir())) == 3
        store.stop(kept[0])
        kept.append(store.submit("toy", quick, params={}))
        gate.opened.set()
        assert store.wait(kept[-1], PATIENCE).status == "done"


def test_an_idle_worker_counts_as_room(tmp_path):
    with JobStore(tmp_path, workers=2, max_waiting=1) as store:
        gates = [Gate() for _ in range(3)]
        ids = [store.submit("toy", gate, params={}) for gate in gates]
        with pytest.raises(LimitError):
            store.submit("toy", quick, params={})
        for gate in gates:
            gate.opened.set()
        assert [store.wait(job_id, PATIENCE).status for job_id in ids] == ["done"] * 3


def test_waiting_jobs_know_their_place_and_run_in_order(store):
    gate, _ = occupy(store)
    order = []
    ids = [store.submit("toy", lambda context: order.append(context.id) or {}, params={}) for _ in range(3)]
    assert [store.get(job_id).position for job_id in ids] == [1, 2, 3]
    store.stop(ids[0])
    assert [store.get(job_id).position for job_id in ids] == [None, 1, 2]
    gate.opened.set()
    store.wait(ids[2], PATIENCE)
    assert order == ids[1:]


def test_two_workers_run_two_jobs_at_a_time_and_never_three(tmp_path):
    running, peak, lock = 0, 0, threading.Lock()

    def work(context):
        nonlocal running, peak
        with lock:
            running += 1
            peak = max(peak, running)
        time.sleep(0.03)
        with lock:
            running -= 1
        return {}

    with JobStore(tmp_path, workers=2, max_waiting=10) as store:
        ids = [store.submit("toy", work, params={}) for _ in range(8)]
        assert {store.wait(job_id, PATIENCE).status for job_id in ids} == {"done"}
    assert peak == 2


def test_many_clients_at_once_lose_no_job_and_see_only_whole_states(tmp_path):
    failures, outcomes, lock = [], {}, threading.Lock()

    def client(store, number):
        try:
            job_id = store.submit("toy", lambda context: {"number": number}, params={"number": number})
            if number % 3 == 0:
                store.stop(job_id)
            store.list()
            job = store.wait(job_id, PATIENCE)
            on_disk = json.loads((tmp_path / job_id / "job.json").read_text())
            with lock:
                outcomes[number] = (job.status, job.result, on_disk["status"])
        except Exception as error:
            failures.append(error)

    with JobStore(tmp_path, workers=3, max_waiting=40) as store:
        threads = [threading.Thread(target=client, args=(store, number)) for number in range(30)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE)
    assert failures == []
    assert len(outcomes) == 30
    for number, (status, result, kept_status) in outcomes.items():
        assert status == kept_status
        assert status == "done" or number % 3 == 0
        assert result == {"number": number} or status == "stopped"
