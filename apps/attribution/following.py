"""Following a job on one of the page's tabs: its status, and its results once they are there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import gradio as gr

from apps.components import job_status, note
from core.errors import QuartetError
from core.jobs import Job, default_store


class Results(Protocol):
    """A tab's column of results."""

    @property
    def components(self) -> list[Any]: ...

    def hidden(self) -> list[Any]: ...

    def updates(self, job: Job, costs: Sequence[float | None]) -> list[Any]: ...


def progress(job_id: str, already: str, costs: Sequence[float | None], results: Results) -> list[Any]:
    """Updates of status, timer and results; results are sent once for each job."""
    nothing = [gr.skip() for _ in results.components]
    if not job_id:
        return ["", gr.Timer(active=False), "", *nothing]
    try:
        job = default_store().get(job_id)
    except QuartetError as error:
        return [note(str(error)), gr.Timer(active=False), "", *results.hidden()]
    status = job_status(job)
    if not job.over:
        return [status, gr.Timer(active=True), "", *(results.hidden() if already else nothing)]
    if job.status != "done":
        return [status, gr.Timer(active=False), "", *results.hidden()]
    if already == job.id:
        return [status, gr.Timer(active=False), job.id, *nothing]
    return [status, gr.Timer(active=False), job.id, *results.updates(job, costs)]
