"""What a page that starts jobs needs beside its own work: finding them, linking to them, and errors for people."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

import gradio as gr

from core.errors import QuartetError
from core.jobs import Job, default_store

POLL_SECONDS = 0.5
# The address follows the job, so that copying it is enough to come back.
_REMEMBER = """(id) => {
  const here = new URL(window.location.href);
  if (id && here.searchParams.get("job") !== id) {
    here.searchParams.set("job", id);
    window.history.replaceState(null, "", here);
    // On a narrow screen the results stand below the controls.
    document.getElementById("STATUS")?.scrollIntoView({ block: "nearest" });
  }
  return id;
}"""


def remember_job(slug: str) -> str:
    """The script that a page's job box runs when it changes; the status stands in the element `<slug>-status`."""
    return _REMEMBER.replace("STATUS", f"{slug}-status")


def linked_job(slug: str) -> Callable[[gr.Request], str]:
    """A handler that gives the job which the address names, or "" where the address is another tab's."""

    def handler(request: gr.Request) -> str:
        wanted = request.query_params
        return wanted.get("job", "") if wanted.get("tab", slug) == slug else ""

    return handler


@contextmanager
def shown_errors() -> Generator[None]:
    """Errors that are written for people become Gradio's, without a stack trace."""
    try:
        yield
    except QuartetError as error:
        raise gr.Error(str(error), print_exception=False) from error


def find_job(slug: str, job_id: str) -> Job:
    """The job of that id; a message for people where there is none of this page's."""
    with shown_errors():
        job = default_store().get(job_id)
    if job.slug != slug:
        raise gr.Error("This job belongs to another technique.", print_exception=False)
    return job


def job_file(slug: str, job_id: str, name: str) -> str:
    """Where a file of a job of this page lies; a message for people where there is none of that name."""
    files = {path.name: path for path in find_job(slug, job_id).artefacts}
    if name not in files:
        raise gr.Error(
            f"This job has no such file: choose one of {', '.join(files) or 'none yet'}.", print_exception=False
        )
    return str(files[name])


def stop_job(slug: str, job_id: str) -> str:
    """Stop a job of this page; its status."""
    find_job(slug, job_id)
    return default_store().stop(job_id).status


def job_state(job: Job) -> dict[str, Any]:
    """Where a job stands, as programs get it."""
    return {
        "status": job.status,
        "progress": job.progress,
        "message": job.message,
        "error": job.error,
        "result": job.result,
    }
