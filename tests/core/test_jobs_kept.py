import gc
import json
import os
import signal
import subprocess
import sys
import threading
import time
import weakref

import pytest

from core import jobs
from core.errors import InputError, QuartetError, UnavailableError
from core.job_state import INTERRUPTED
from core.jobs import JobStore, data_directory
from tests.core.job_work import PATIENCE, eventually, occupy, quick


@pytest.fixture
def store(tmp_path):
    with JobStore(tmp_path) as made:
        yield made


def test_results_survive_a_restart(tmp_path):
    def work(context):
        (context.directory / "table.csv").write_text("a\n")
        return {"gap": 1e-9}

    with JobStore(tmp_path) as store:
        before = store.wait(store.submit("toy", work, params={"seed": 1}), PATIENCE)
    with JobStore(tmp_path) as store:
        assert store.get(before.id) == before
        assert store.wait(before.id) == before


def test_jobs_cut_off_by_closing_read_interrupted_then_and_after_a_restart(tmp_path):
    store = JobStore(tmp_path)
    _, running = occupy(store)
    waiting = store.submit("toy", quick, params={"seed": 5})
    store.close()
    for job_id in (running, waiting):
        assert store.get(job_id).status == "interrupted"
    with JobStore(tmp_path) as again:
        assert again.get(running).status == "interrupted"
        assert again.get(waiting).error == INTERRUPTED
        assert again.get(waiting).params == {"seed": 5}


KILLED = """
import sys, time
from core.jobs import JobStore

def endless(context):
    print(context.id, flush=True)
    time.sleep(60)

store = JobStore(sys.argv[1])
store.submit("toy", endless, params={"seed": 9})
time.sleep(60)
"""


def test_a_job_of_a_server_that_was_killed_reads_interrupted(tmp_path):
    server = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(tmp_path)], stdout=subprocess.PIPE, text=True, cwd=os.getcwd()
    )
    assert server.stdout is not None
    job_id = server.stdout.readline().strip()
    server.send_signal(signal.SIGKILL)
    server.wait()
    server.stdout.close()
    assert json.loads((tmp_path / job_id / "job.json").read_text())["status"] == "running"
    with JobStore(tmp_path) as store:
        job = store.get(job_id)
    assert (job.status, job.params, job.position) == ("interrupted", {"seed": 9}, None)


@pytest.mark.parametrize(
    "damage",
    ["", "{", "[]", '{"id": "x"}', '{"artefacts": []}', '{"artefacts": [1], "id": 1}', "\x00"],
)
def test_a_damaged_state_is_passed_over_and_left_where_it_is(tmp_path, damage):
    with JobStore(tmp_path) as store:
        good = store.wait(store.submit("toy", quick, params={}), PATIENCE)
    bad = tmp_path / "AAAAAAAAAAAAAAAA"
    bad.mkdir()
    (bad / "job.json").write_text(damage)
    (tmp_path / "notes.txt").write_text("mine")
    with JobStore(tmp_path) as store:
        assert [job.id for job in store.list()] == [good.id]
        with pytest.raises(InputError):
            store.get(bad.name)
    assert (bad / "job.json").read_text() == damage
    assert (tmp_path / "notes.txt").exists()


def test_a_state_file_cannot_point_at_files_outside_its_folder(tmp_path):
    (tmp_path / "secret.txt").write_text("secret")
    kept = tmp_path / "jobs"
    with JobStore(kept) as store:
        job = store.wait(store.submit("toy", quick, params={}), PATIENCE)
    state = kept / job.id / "job.json"
    document = json.loads(state.read_text()) | {"artefacts": ["../../secret.txt", str(tmp_path / "secret.txt")]}
    state.write_text(json.dumps(document))
    with JobStore(kept) as store:
        assert store.get(job.id).artefacts == ()


def test_a_link_among_the_artefacts_is_not_handed_out(store, tmp_path):
    def work(context):
        (context.directory / "link").symlink_to("/etc/hostname")
        return {}

    assert store.wait(store.submit("toy", work, params={}), PATIENCE).artefacts == ()


def test_only_the_newest_results_are_kept_and_the_folders_of_others_go(tmp_path):
    with JobStore(tmp_path, max_kept=2) as store:
        ids = [store.wait(store.submit("toy", quick, params={}), PATIENCE).id for _ in range(5)]
        eventually(lambda: {path.name for path in tmp_path.iterdir()} == set(ids[-2:]))
        assert [job.id for job in store.list()] == ids[:2:-1]
        with pytest.raises(InputError, match="no longer kept"):
            store.get(ids[0])


def test_results_go_when_they_are_too_old_even_if_nothing_else_happens(tmp_path):
    with JobStore(tmp_path, keep_seconds=0.2) as store:
        job = store.wait(store.submit("toy", quick, params={}), PATIENCE)
        assert job.status == "done"
        time.sleep(0.25)
        with pytest.raises(InputError, match="no longer kept"):
            store.get(job.id)
        assert not (tmp_path / job.id).exists()


def test_a_restart_keeps_to_the_bounds_too(tmp_path):
    with JobStore(tmp_path) as store:
        ids = [store.wait(store.submit("toy", quick, params={}), PATIENCE).id for _ in range(4)]
    with JobStore(tmp_path, max_kept=1) as store:
        assert [job.id for job in store.list()] == ids[-1:]
    assert [path.name for path in tmp_path.iterdir()] == ids[-1:]


def test_unfinished_jobs_are_never_evicted(tmp_path):
    with JobStore(tmp_path, workers=2, max_kept=1, keep_seconds=0.1) as store:
        gate, running = occupy(store)
        for _ in range(3):
            store.wait(store.submit("toy", quick, params={}), PATIENCE)
        time.sleep(0.15)
        assert store.get(running).status == "running"
        gate.opened.set()
        assert store.wait(running, PATIENCE).result == {"passed": True}


@pytest.mark.parametrize(
    "hostile",
    [
        "../x",
        "..",
        "",
        "/etc/passwd",
        "a" * 15,
        "a" * 17,
        "../../../../etcx",
        "a/../../../aaaaaa",
        "aaaaaaaaaaaaaaa\n",
        "aaaaaaaaaaaaaaaa\n",
        "aaaaaaaaaaaaaaa\0",
        "ａ" * 16,
        None,
        7,
        ["a" * 16],
    ],
)
def test_ids_that_are_none_of_ours_are_refused_before_any_path_is_made(store, hostile):
    for ask in (store.get, store.stop, store.wait):
        with pytest.raises(InputError, match="not a job's id"):
            ask(hostile)


def test_a_well_formed_but_unknown_id_is_refused(store):
    with pytest.raises(InputError, match="no such job"):
        store.get("A" * 16)


def test_ids_are_long_random_and_never_the_same(tmp_path):
    with JobStore(tmp_path, max_waiting=200, max_kept=200) as store:
        ids = {store.submit("toy", quick, params={}) for _ in range(100)}
    assert len(ids) == 100
    assert all(len(job_id) == 16 for job_id in ids)
    assert len({job_id[:4] for job_id in ids}) > 95  # 24 bits each: no counter, no clock


def test_jobs_are_listed_by_technique_newest_first(store):
    ids = [store.wait(store.submit(slug, quick, params={}), PATIENCE).id for slug in ("a", "b", "a")]
    assert [job.id for job in store.list()] == ids[::-1]
    assert [job.id for job in store.list("a")] == [ids[2], ids[0]]


def test_closing_joins_the_workers_and_refuses_new_work(tmp_path):
    before = set(threading.enumerate())
    store = JobStore(tmp_path, workers=3)
    occupy(store)
    assert len(set(threading.enumerate()) - before) == 3
    store.close()
    assert set(threading.enumerate()) <= before
    with pytest.raises(UnavailableError, match="shutting down"):
        store.submit("toy", quick, params={})


def test_closing_does_not_wait_longer_than_it_was_told_for_work_that_never_checks(tmp_path):
    go, entered = threading.Event(), threading.Event()

    def deaf(context):
        entered.set()
        go.wait(PATIENCE)
        return {}

    store = JobStore(tmp_path)
    store.submit("toy", deaf, params={})
    assert entered.wait(PATIENCE)
    asked = time.monotonic()
    store.close(timeout=0.1)
    assert time.monotonic() - asked < 2
    go.set()
    store.close()


def test_what_a_job_closed_over_is_let_go_when_it_is_over(store):
    class Upload:
        pass

    upload = Upload()
    alive = weakref.ref(upload)
    job_id = store.submit("toy", lambda context, held=upload: {}, params={})
    del upload
    store.wait(job_id, PATIENCE)

    def freed():
        gc.collect()
        return alive() is None

    eventually(freed)


def test_params_that_have_no_json_form_are_refused_before_anything_is_queued(store):
    with pytest.raises(TypeError, match="no JSON form"):
        store.submit("toy", quick, params={"model": object()})
    assert store.list() == ()
    assert list(store.directory.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_explained(store):
    store.directory.rmdir()
    store.directory.write_text("a file in its place")
    with pytest.raises(UnavailableError, match="QUARTET_DATA_DIR"):
        store.submit("toy", quick, params={})


@pytest.mark.parametrize("bounds", [{"workers": 0}, {"max_waiting": 0}, {"max_kept": 0}, {"keep_seconds": 0}])
def test_bounds_that_allow_nothing_are_refused(tmp_path, bounds):
    with pytest.raises(InputError):
        JobStore(tmp_path, **bounds)


def test_the_default_store_keeps_its_jobs_where_the_environment_says(tmp_path, monkeypatch):
    monkeypatch.setenv("QUARTET_DATA_DIR", str(tmp_path / "data"))
    jobs._make_default_store.cache_clear()
    try:
        store = jobs.default_store()
        assert jobs.default_store() is store
        job = store.wait(store.submit("toy", quick, params={}), PATIENCE)
        assert (tmp_path / "data" / "jobs" / job.id / "job.json").is_file()
        store.close()
    finally:
        jobs._make_default_store.cache_clear()


def test_the_default_folder_is_private_and_one_open_to_others_is_refused(tmp_path, monkeypatch):
    monkeypatch.delenv("QUARTET_DATA_DIR", raising=False)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    folder = data_directory()
    assert folder.stat().st_mode & 0o777 == 0o700
    assert data_directory() == folder
    folder.chmod(0o777)
    with pytest.raises(QuartetError, match="read by others"):
        data_directory()


def test_a_folder_that_is_really_a_link_is_refused(tmp_path, monkeypatch):
    monkeypatch.delenv("QUARTET_DATA_DIR", raising=False)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    data_directory().rmdir()
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    (tmp_path / f"quartet-{os.getuid()}").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(QuartetError):
        data_directory()
