"""Which of the page's tabs a linked job belongs to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import gradio as gr

from apps.attribution.work import SLUG
from apps.job_pages import linked_job
from core.errors import QuartetError
from core.jobs import default_store

Place = Literal["data", "model"]


def linked_job_of(place: Place) -> Callable[[gr.Request], str]:
    """A handler that gives the job which the address names, or "" where it is another tab's."""
    linked = linked_job(SLUG)

    def handler(request: gr.Request) -> str:
        job = linked(request)
        return job if job and place_of(job) == place else ""

    return handler


def place_of(job_id: str) -> Place:
    """The tab that shows a job; one that is not known any more is told of on the first tab."""
    try:
        params = default_store().get(job_id).params
    except QuartetError:
        return "data"
    return "model" if "mixture" in params else "data"
