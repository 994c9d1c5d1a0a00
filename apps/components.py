"""Pieces that several pages share, as HTML whose every value is escaped."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from core.jobs import Job
from core.registry import PluginFailure

# For events: no progress over what they change. With `show_progress` alone Gradio still keeps a status for each of
# them and writes all of those anew at every event of the page.
NO_PROGRESS: dict[str, Any] = {"show_progress": "hidden", "show_progress_on": []}
QUIET: dict[str, Any] = {"api_visibility": "private", **NO_PROGRESS}  # for events that are no endpoint either
STATUS_WORDS = {
    "waiting": "Waiting",
    "running": "Running",
    "done": "Done",
    "failed": "Failed",
    "stopped": "Stopped",
    "interrupted": "Interrupted",
}


def readout(values: Mapping[str, str], *, label: str) -> str:
    """A strip of named figures, such as wall time and device; `label` names it for a screen reader."""
    pairs = "".join(f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in values.items())
    return f'<dl class="readout" aria-label="{escape(label)}">{pairs}</dl>'


def table(headings: Sequence[str], rows: Iterable[Sequence[str]], *, label: str) -> str:
    """A table of text whose first column heads the rows."""
    return html_table(headings, ([escape(cell) for cell in row] for row in rows), label=label, style="figures")


def html_table(headings: Sequence[str], rows: Iterable[Sequence[str]], *, label: str, style: str) -> str:
    """A table of cells that are HTML already; it scrolls sideways on a narrow screen. `style` is its CSS class."""
    head = "".join(f'<th scope="col">{escape(heading)}</th>' for heading in headings)
    body = "".join(
        f'<tr><th scope="row">{first}</th>' + "".join(f"<td>{cell}</td>" for cell in rest) + "</tr>"
        for first, *rest in rows
    )
    # Focusable, because a box that scrolls has to be reachable by keyboard.
    return (
        f'<div class="scroll" role="region" aria-label="{escape(label)}" tabindex="0">'
        f'<table class="{style}"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
    )


def sentence(text: str) -> str:
    """The text with a capital at its beginning and a full stop at its end."""
    return text[:1].upper() + text[1:] + ("" if text.endswith(".") else ".")


def note(text: str) -> str:
    """One sentence that needs attention."""
    return f'<p class="warning" role="note">{escape(sentence(text))}</p>'


def unavailable(title: str, failure: PluginFailure) -> str:
    """What stands in for a page that could not be built: why, and what to do about it."""
    return (
        '<section class="unavailable" role="note">'
        f"<h2>{escape(title)} is unavailable</h2>"
        f"<h3>Reason</h3><p>{escape(failure.reason)}</p>"
        f"<h3>How to fix it</h3><p>{escape(failure.how_to_fix)}</p>"
        "<p class='quiet'>The other pages keep working.</p></section>"
    )


def job_status(job: Job) -> str:
    """Where a job stands: its state in words, its progress as a bar and its own message or error."""
    percent = round(100 * job.progress)
    words = STATUS_WORDS[job.status]
    said = job.error or (job.message if job.message != words else "")
    if job.status == "waiting" and job.position:
        said = f"{job.position - 1} ahead of this one" if job.position > 1 else "next in line"
    return (
        f'<div class="job job-{escape(job.status)}" role="status">'
        f"<p><strong>{words}</strong> <span>{escape(said or '')}</span></p>"
        f'<div class="bar" role="progressbar" aria-label="Progress" aria-valuemin="0" aria-valuemax="100" '
        f'aria-valuenow="{percent}"><span style="width:{percent}%"></span></div>'
        f'<p class="quiet">job {escape(job.id)}</p></div>'
    )
