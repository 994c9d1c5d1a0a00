"""Work that belongs to the server, not to a browser tab: bounded, stoppable, found again by its id.

A job's id is its only key: whoever has the link sees the job, so ids are unguessable and lists stay here.
"""

from __future__ import annotations

import atexit
import logging
import math
import os
import secrets
import shutil
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from core.errors import InputError, LimitError, QuartetError, UnavailableError
from core.job_state import INTERRUPTED, JOB_ID, Job, JobStatus, read_jobs, write_job, written_files
from core.jsonfile import to_plain

__all__ = ["Job", "JobContext", "JobStatus", "JobStopped", "JobStore", "data_directory", "default_store"]

logger = logging.getLogger(__name__)

_ARTEFACTS = "artefacts"


class JobStopped(Exception):  # noqa: N818 (it is not an error)
    """Raised inside work whose stop was asked for."""


class JobContext:
    """What work sees of its job: a folder to write to, ways to report, and whether to stop."""

    def __init__(self, job_id: str, directory: Path, report: Callable[..., None], stop_event: threading.Event) -> None:
        self.id = job_id
        self.directory = directory
        self.stop_event = stop_event
        self._report = report

    @property
    def stopped(self) -> bool:
        """Whether a stop was asked for."""
        return self.stop_event.is_set()

    def check(self) -> None:
        """Raise JobStopped if a stop was asked for; call it at least twice a second."""
        if self.stopped:
            raise JobStopped

    def progress(self, fraction: float, message: str = "") -> None:
        """Report how far the work is (held to 0..1) and, unless empty, what it is doing; `check`s as well."""
        self.check()
        shown = {"progress": min(max(float(fraction), 0.0), 1.0) if math.isfinite(fraction) else 0.0}
        self._report(**shown, **({"message": message} if message else {}))

    def preview(self, preview: dict[str, Any]) -> None:
        """Show an intermediate result; `check`s as well."""
        self.check()
        self._report(preview=dict(preview))


Work = Callable[[JobContext], dict[str, Any]]


@dataclass(eq=False, slots=True)
class _Entry:
    """A job with what only the store may touch; `work` is None for jobs read back from disk."""

    job: Job
    work: Work | None = None
    expected: tuple[type[Exception], ...] = ()
    stop_event: threading.Event = field(default_factory=threading.Event)
    over: threading.Event = field(default_factory=threading.Event)


class JobStore:
    """Runs jobs on its own threads and keeps their results, bounded by count and age, in a folder.

    Args:
        directory: one folder per job is made here; it is read back by the next store on the same directory.
        workers: jobs that run at a time.
        max_waiting: jobs that may wait beside them; more are refused with LimitError.
        max_kept: finished jobs that are kept; the oldest go first, with their files.
        keep_seconds: how long a finished job is kept.
    """

    def __init__(
        self,
        directory: str | os.PathLike[str],
        *,
        workers: int = 1,
        max_waiting: int = 8,
        max_kept: int = 50,
        keep_seconds: float = 86400,
    ) -> None:
        if min(workers, max_waiting, max_kept) < 1 or not keep_seconds > 0:
            raise InputError(
                "workers, max_waiting, max_kept and keep_seconds must be 1 or more: raise the one that is 0."
            )
        self.directory = Path(directory).resolve()
        self.directory.mkdir(parents=True, exist_ok=True)
        self._capacity = workers + max_waiting
        self._max_waiting = max_waiting
        self._max_kept = max_kept
        self._keep_seconds = keep_seconds
        self._closing = False
        self._waiting: deque[str] = deque()
        self._changed = threading.Condition()
        self._entries = {job.id: _finished_entry(job) for job in read_jobs(self.directory)}
        self._evict()
        self._threads = [
            threading.Thread(target=self._serve, name=f"quartet-job-{number}", daemon=True) for number in range(workers)
        ]
        for thread in self._threads:
            thread.start()

    def submit(
        self,
        slug: str,
        work: Work,
        *,
        params: dict[str, Any],
        expected: tuple[type[Exception], ...] = (),
    ) -> str:
        """Queue work and give back the job's id; LimitError when the queue is full.

        `work` returns a JSON-able dict and writes its files into `context.directory`. QuartetError, and what
        `expected` names, is shown to the user by its message; any other goes to the server's log.
        """
        job = Job(
            id=secrets.token_urlsafe(12),
            slug=slug,
            status="waiting",
            params=to_plain(params),
            message="Waiting",
            created=time.time(),
        )
        with self._changed:
            self._require_room()
            self._create(job)
            self._entries[job.id] = _Entry(job, work, expected)
            self._waiting.append(job.id)
            self._changed.notify()
        self._evict()
        return job.id

    def get(self, job_id: str) -> Job:
        """The job as it is now; InputError for an id that is malformed, unknown or no longer kept."""
        self._evict()
        with self._changed:
            return self._snapshot(self._find(job_id))

    def list(self, slug: str | None = None) -> tuple[Job, ...]:
        """All jobs that are kept, newest first, of one technique or of all; not for a public page."""
        self._evict()
        with self._changed:
            jobs = [self._snapshot(entry) for entry in self._entries.values() if slug in (None, entry.job.slug)]
        return tuple(sorted(jobs, key=lambda job: job.created, reverse=True))

    def stop(self, job_id: str) -> Job:
        """Stop a job: at once if it waits, at its next check if it runs; one that is over stays as it is."""
        with self._changed:
            entry = self._find(job_id)
            if entry.job.status == "waiting":
                self._waiting.remove(job_id)
                self._finish(entry, status="stopped", message="Stopped before it began")
            elif entry.job.status == "running":
                entry.stop_event.set()
                entry.job = replace(entry.job, message="Stopping")
            return self._snapshot(entry)

    def wait(self, job_id: str, timeout: float | None = None) -> Job:
        """The job once it is over, or as it is after `timeout` seconds."""
        with self._changed:
            entry = self._find(job_id)
        entry.over.wait(timeout)
        with self._changed:
            return self._snapshot(entry)

    def close(self, timeout: float | None = None) -> None:
        """Interrupt what waits and runs, and join the workers, for at most `timeout` seconds each."""
        with self._changed:
            self._closing = True
            while self._waiting:
                self._finish(self._entries[self._waiting.popleft()], status="interrupted", error=INTERRUPTED)
            for entry in self._entries.values():
                entry.stop_event.set()
            self._changed.notify_all()
        for thread in self._threads:
            thread.join(timeout)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _serve(self) -> None:
        """A worker's life: take the next job, run it, look for results to evict."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._closing)
                if self._closing:
                    return
                entry = self._entries[self._waiting.popleft()]
                entry.job = replace(entry.job, status="running", message="Running", started=time.time())
                self._save(entry.job)
            self._run(entry)
            self._evict()

    def _run(self, entry: _Entry) -> None:
        job_id, folder = entry.job.id, self.directory / entry.job.id / _ARTEFACTS
        context = JobContext(job_id, folder, lambda **changes: self._report(entry, changes), entry.stop_event)
        assert entry.work is not None
        try:
            folder.mkdir(exist_ok=True)
            outcome = _returned(entry.work(context), folder, stopped=context.stopped)
        except BaseException as error:  # a worker outlives any job, also one that calls sys.exit
            shutil.rmtree(folder, ignore_errors=True)  # whatever it left may be half-written
            outcome = _raised(error, entry, stopped=context.stopped)
        with self._changed:
            if self._closing and outcome["status"] == "stopped":
                outcome |= {"status": "interrupted", "error": INTERRUPTED}
            self._finish(entry, **outcome)

    def _finish(self, entry: _Entry, **outcome: Any) -> None:
        """Write the final state, then show it, so that nobody sees a result that a crash could take back."""
        job = replace(entry.job, finished=time.time(), **outcome)
        self._save(job)
        entry.job = job
        entry.work = None  # what it closed over, uploads among it, must not live as long as its result
        entry.over.set()

    def _report(self, entry: _Entry, changes: dict[str, Any]) -> None:
        with self._changed:
            if entry.job.status == "running" and not entry.stop_event.is_set():
                entry.job = replace(entry.job, **changes)

    def _require_room(self) -> None:
        if self._closing:
            raise UnavailableError("The server is shutting down.", "Try again when it is back.")
        unfinished = sum(not entry.job.over for entry in self._entries.values())
        if unfinished >= self._capacity:
            raise LimitError(
                f"{len(self._waiting)} jobs are waiting, limit {self._max_waiting}: try again in a few "
                "minutes, or stop a job that you no longer need."
            )

    def _find(self, job_id: str) -> _Entry:
        if not isinstance(job_id, str) or not JOB_ID.fullmatch(job_id):
            raise InputError("This is not a job's id, which is 16 letters, digits, - or _: copy the whole link again.")
        if job_id not in self._entries:
            raise InputError("There is no such job, or its results are no longer kept: run it again.")
        return self._entries[job_id]

    def _snapshot(self, entry: _Entry) -> Job:
        if entry.job.status != "waiting":
            return entry.job
        return replace(entry.job, position=self._waiting.index(entry.job.id) + 1)

    def _create(self, job: Job) -> None:
        folder = self.directory / job.id
        try:
            folder.mkdir()
            write_job(folder, job)
        except OSError as error:
            shutil.rmtree(folder, ignore_errors=True)
            raise UnavailableError(
                f"This server cannot keep results ({error.strerror or type(error).__name__}).",
                "Free some disk space, or set QUARTET_DATA_DIR to a folder that can be written.",
            ) from error

    def _save(self, job: Job) -> None:
        try:
            write_job(self.directory / job.id, job)
        except OSError:
            logger.exception("state of job %s could not be written; a restart will not find it", job.id)

    def _evict(self) -> None:
        """Forget finished jobs that are too old or too many, and delete their folders."""
        with self._changed:
            over = [entry.job for entry in self._entries.values() if entry.job.over]
            over.sort(key=lambda job: job.ended, reverse=True)
            horizon = time.time() - self._keep_seconds
            gone = [job.id for rank, job in enumerate(over) if rank >= self._max_kept or job.ended < horizon]
            for job_id in gone:
                del self._entries[job_id]
        for job_id in gone:
            shutil.rmtree(self.directory / job_id, ignore_errors=True)


def default_store() -> JobStore:
    """The process's own store, made on first use in QUARTET_DATA_DIR, else in a private temporary folder."""
    with _DEFAULT_LOCK:
        return _make_default_store()


_DEFAULT_LOCK = threading.Lock()


@cache
def _make_default_store() -> JobStore:
    store = JobStore(data_directory() / "jobs")
    atexit.register(store.close, timeout=2.0)
    return store


def data_directory() -> Path:
    """The folder for what the server keeps; the default one belongs to this user alone or is refused."""
    chosen = os.environ.get("QUARTET_DATA_DIR")
    if chosen:
        return Path(chosen).expanduser()
    owner = os.getuid() if hasattr(os, "getuid") else os.environ.get("USERNAME", "user")
    folder = Path(tempfile.gettempdir()) / f"quartet-{owner}"
    folder.mkdir(mode=0o700, exist_ok=True)
    state = folder.lstat()
    if hasattr(os, "getuid") and (folder.is_symlink() or state.st_uid != owner or state.st_mode & 0o077):
        raise QuartetError(f"{folder} can be read by others: delete it, or set QUARTET_DATA_DIR to another folder.")
    return folder


def _returned(result: Any, folder: Path, *, stopped: bool) -> dict[str, Any]:
    if not isinstance(result, dict):
        raise TypeError(f"work returned a {type(result).__name__}, not a dict")
    outcome = {"result": to_plain(result), "artefacts": written_files(folder)}
    if stopped:  # the work saw the stop and ended by itself, perhaps with less than was asked for
        return outcome | {"status": "stopped", "message": "Stopped"}
    return outcome | {"status": "done", "message": "Done", "progress": 1.0, "preview": None}


def _raised(error: BaseException, entry: _Entry, *, stopped: bool) -> dict[str, Any]:
    job_id = entry.job.id
    if isinstance(error, JobStopped):
        return {"status": "stopped", "message": "Stopped"}
    if stopped:  # a library's own way to say that it was cancelled
        logger.info("job %s ended its stop with %r", job_id, error)
        return {"status": "stopped", "message": "Stopped"}
    if isinstance(error, (QuartetError, *entry.expected)) and str(error):
        return {"status": "failed", "message": "Failed", "error": str(error)}
    logger.error("job %s (%s) failed", job_id, entry.job.slug, exc_info=error)
    text = f"Something went wrong on our side (job {job_id}). The server log has the details."
    return {"status": "failed", "message": "Failed", "error": text}


def _finished_entry(job: Job) -> _Entry:
    entry = _Entry(job)
    entry.over.set()
    return entry
