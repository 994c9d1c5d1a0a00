"""A job as its users see it, and its state on disk."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

from core.jsonfile import to_plain, write_json

logger = logging.getLogger(__name__)

JobStatus = Literal["waiting", "running", "done", "failed", "stopped", "interrupted"]
FINAL = frozenset({"done", "failed", "stopped", "interrupted"})
INTERRUPTED = "The server stopped before this job had finished: run it again."
JOB_ID = re.compile(r"[A-Za-z0-9_-]{16}")

_STATE = "job.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A job as it was at one moment; its dicts are shared, so read them only.

    Attributes:
        id: 16 unguessable characters, safe in a link.
        slug: technique that it belongs to.
        status: "waiting", "running", then one of "done", "failed", "stopped", "interrupted" for good.
        params: what it was asked to do, JSON-able.
        progress: 0 to 1.
        message: what it is doing, or did last.
        preview: last intermediate result; kept in memory only, until the job is done.
        result: what the work returned, JSON-able; a stopped job has one if its work ended by itself.
        error: why it failed or was interrupted, written for its user.
        artefacts: files that the work wrote before it returned, in order of name; whole files only.
        created, started, finished: seconds since the epoch, None for what has not happened.
        position: 1 for the next of the waiting jobs, None once it runs.
    """

    id: str
    slug: str
    status: JobStatus
    params: dict[str, Any]
    progress: float = 0.0
    message: str = ""
    preview: dict[str, Any] | None = None
    result: dict[str, Any] | None = None
    error: str | None = None
    artefacts: tuple[Path, ...] = ()
    created: float = 0.0
    started: float | None = None
    finished: float | None = None
    position: int | None = None

    @property
    def over(self) -> bool:
        """Whether the status is for good."""
        return self.status in FINAL

    @property
    def ended(self) -> float:
        """When it ended, or began where nobody saw its end; seconds since the epoch."""
        return self.created if self.finished is None else self.finished


def write_job(folder: Path, job: Job) -> None:
    """Write the state of a job into its folder, whole."""
    document = to_plain(replace(job, preview=None, position=None, artefacts=()))
    document["artefacts"] = [path.relative_to(folder).as_posix() for path in job.artefacts]
    write_json(folder / _STATE, document)


def read_jobs(directory: Path) -> Iterator[Job]:
    """The jobs of an earlier store on this directory; anything else in it is left alone."""
    for path in directory.glob(f"*/{_STATE}"):
        if JOB_ID.fullmatch(path.parent.name):
            try:
                yield _read_job(path)
            except (OSError, ValueError, TypeError, KeyError) as error:
                logger.warning("%s is not a job's state and is ignored: %s", path, error)


def _read_job(path: Path) -> Job:
    document = json.loads(path.read_text(encoding="utf-8"))
    folder = path.parent.resolve()
    files = [(folder / name).resolve() for name in document.pop("artefacts")]
    kept = tuple(file for file in files if file.is_relative_to(folder) and file.is_file())
    job = Job(**document, artefacts=kept)
    if job.id != path.parent.name or job.status not in get_args(JobStatus):
        raise ValueError(f"id {job.id!r} or status {job.status!r} does not fit")
    float(job.ended)
    if job.over:
        return job
    return replace(job, status="interrupted", message="Interrupted", error=INTERRUPTED)


def written_files(folder: Path) -> tuple[Path, ...]:
    """Every plain file under the folder, links left out, in order of name."""
    return tuple(sorted(path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()))
