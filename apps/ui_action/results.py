"""The right column of the UI action page: what a job shows while it runs and when it is over."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr

from apps.components import job_status, note
from apps.ui_action import views
from apps.ui_action.files import DOWNLOADS
from apps.ui_action.live import live_view
from apps.ui_action.parts import SLUG
from apps.ui_action.player import PLAYER_SCRIPT, player
from core.errors import QuartetError
from core.jobs import Job, default_store

LIVE_SCRIPT = (Path(__file__).parent / "live.js").read_text("utf-8")


class Results:
    """The right column's components; the results are hidden until there are some."""

    def __init__(self) -> None:
        self.status = gr.HTML("", elem_id="ui-action-status")
        with gr.Row(visible=False, elem_id="ui-action-question") as self.question:
            self.allow = gr.Button("Allow", variant="primary", size="sm", elem_id="ui-action-allow")
            self.refuse = gr.Button("Refuse", variant="stop", size="sm", elem_id="ui-action-refuse")
        self.first = gr.HTML("", elem_id="ui-action-first")
        self.live = gr.HTML("", elem_id="ui-action-live", js_on_load=LIVE_SCRIPT)
        with gr.Column(visible=False, elem_id="ui-action-results") as self.box:
            self.notes = gr.HTML("", visible=False, elem_id="ui-action-notes")
            self.across = gr.HTML("", elem_id="ui-action-across")
            with gr.Column() as self.one:
                self.cards = gr.HTML("", elem_id="ui-action-cards")
                self.player = gr.HTML("", elem_id="ui-action-player", js_on_load=PLAYER_SCRIPT)
            self.caption = gr.HTML("", elem_id="ui-action-caption")
            with gr.Column() as self.details:
                gr.Markdown("### Every step", elem_classes="section")
                self.steps = gr.HTML("", elem_id="ui-action-steps")
                gr.Markdown("### What was not let through", elem_classes="section")
                self.refused = gr.HTML("", elem_id="ui-action-refused")
                gr.Markdown("### Where the time went", elem_classes="section")
                self.times = gr.HTML("", elem_id="ui-action-times")
            gr.Markdown("### Take it with you", elem_classes="section")
            with gr.Row(elem_id="ui-action-downloads"):
                self.downloads = [gr.DownloadButton(name, size="sm", min_width=110) for name in DOWNLOADS]
            # Text boxes, not code blocks: the highlighter's colours are too pale to read.
            self.snippet = gr.Textbox(
                label="The same in Python", lines=9, interactive=False, buttons=["copy"], elem_id="ui-action-snippet"
            )
            self.command = gr.Textbox(
                label="The same on the command line",
                lines=2,
                interactive=False,
                buttons=["copy"],
                elem_id="ui-action-command",
            )

    @property
    def components(self) -> list[Any]:
        views_of_one = [self.one, self.details, self.cards, self.player, self.steps, self.refused, self.times]
        kept = [*self.downloads, self.snippet, self.command]
        return [self.box, self.notes, self.across, self.caption, *views_of_one, *kept]

    def unchanged(self) -> list[Any]:
        return [gr.skip() for _ in self.components]

    def hidden(self) -> list[Any]:
        return [gr.update(visible=False), *self.unchanged()[1:]]

    def updates(self, job: Job) -> list[Any]:
        """All components for a job that has a result."""
        result = job.result or {}
        files = {path.name: path for path in job.artefacts}
        notes, across = views.notes(result), "cells" in result
        return [
            gr.update(visible=True),
            gr.HTML(value=notes, visible=bool(notes)),
            views.across_table(result) if across else "",
            views.caption(result),
            *(self._none() if across else self._one(result, files)),
            *(
                gr.update(value=str(files[name]) if name in files else None, visible=name in files)
                for name in DOWNLOADS
            ),
            result["snippet"],
            result["command"],
        ]

    def _one(self, result: dict[str, Any], files: dict[str, Path]) -> list[Any]:
        """What there is of a single game."""
        return [
            gr.update(visible=True),
            gr.update(visible=True),
            views.score_cards(result),
            player(result, files, self._publish),
            views.steps_table(result),
            views.refused_table(result),
            views.times_table(result),
        ]

    def _none(self) -> list[Any]:
        return [gr.update(visible=False), gr.update(visible=False), "", "", "", "", ""]

    def _publish(self, path: Path) -> str:
        """The address of a copy in Gradio's cache, relative to the page."""
        return f"gradio_api/file={self.player.move_resource_to_block_cache(path)}"


def progress(job_id: str, already: str, results: Results) -> list[Any]:
    """Updates of first screen, status, timer, what is shown, question, buttons, live view, results, each sent once."""
    nothing, off = results.unchanged(), gr.Timer(active=False)
    away, there = gr.update(visible=False), gr.update(visible=True)
    if not job_id:
        return [gr.skip(), "", off, "", 0, away, "", *nothing]
    try:
        job = default_store().get(job_id)
    except QuartetError as error:
        return [there, note(str(error)), off, "", 0, away, "", *results.hidden()]
    if job.slug != SLUG:
        return [gr.skip(), "", off, "", 0, away, "", *nothing]
    status = job_status(job)
    if job.over and already == job.id:
        return [gr.skip(), status, off, job.id, 0, away, "", *nothing]
    if job.over and job.result is not None:
        return [away, status, off, job.id, 0, away, "", *results.updates(job)]
    if job.over:
        return [there, status, off, job.id, 0, away, "", *results.hidden()]
    preview = job.preview or {}
    seen = f"{job.id} {preview.get('version', 0)}"
    if already == seen:
        return [gr.skip(), status, gr.Timer(active=True), seen, gr.skip(), gr.skip(), gr.skip(), *nothing]
    question = preview.get("question", 0)
    new = already.split(" ")[0] != job.id or " " not in already
    shown = results.hidden() if new else nothing
    return [
        away,
        status,
        gr.Timer(active=True),
        seen,
        question,
        there if question else away,
        live_view(preview),
        *shown,
    ]
