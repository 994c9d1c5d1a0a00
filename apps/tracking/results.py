"""The right column of the tracking page: what a job shows while it runs and when it is over."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr

from apps.components import job_status, note
from apps.tracking import plots, views
from apps.tracking.files import DOWNLOADS
from apps.tracking.player import LIVE_SCRIPT, PLAYER_SCRIPT, live_tiles, player
from apps.tracking.request import SENSORS
from apps.tracking.work import SLUG
from core.errors import QuartetError
from core.jobs import Job, default_store


class Results:
    """The right column's components; the results are hidden until there are some."""

    def __init__(self) -> None:
        self.status = gr.HTML("", elem_id="tracking-status")
        self.live = gr.HTML("", elem_id="tracking-live", js_on_load=LIVE_SCRIPT)
        self.switches = gr.CheckboxGroup(
            [],
            label="Sensors that are on",
            info="Cut one and give it back while it runs",
            visible=False,
            elem_id="tracking-switches",
        )
        with gr.Column(visible=False, elem_id="tracking-results") as self.box:
            self.again = gr.Button("Back to the first frame", size="sm", elem_id="tracking-again")
            self.notes = gr.HTML("", visible=False, elem_id="tracking-notes")
            self.player = gr.HTML("", elem_id="tracking-player", js_on_load=PLAYER_SCRIPT)
            self.cards = gr.HTML("", elem_id="tracking-cards")
            self.objects = gr.HTML("", elem_id="tracking-objects")
            self.caption = gr.HTML("", elem_id="tracking-caption")
            gr.Markdown("### How good it was", elem_classes="section")
            with gr.Row():
                with gr.Column(scale=3, min_width=300):
                    self.legend = gr.HTML("")
                    self.overlap = gr.Plot(show_label=False, container=False, elem_id="tracking-overlap")
                with gr.Column(scale=2, min_width=300):
                    self.sensors = gr.HTML("", elem_id="tracking-by-sensors")
            self.metrics = gr.HTML("", elem_id="tracking-metrics")
            gr.Markdown("### Which experts worked", elem_classes="section")
            self.scale = gr.HTML("")
            self.heat = gr.Plot(show_label=False, container=False, elem_id="tracking-experts")
            self.shares = gr.HTML("", elem_id="tracking-shares")
            gr.Markdown("### Take it with you", elem_classes="section")
            with gr.Row(elem_id="tracking-downloads"):
                self.downloads = [gr.DownloadButton(name, size="sm", min_width=110) for name in DOWNLOADS]
            # A text box, not a code block: the highlighter's colours are too pale to read.
            self.snippet = gr.Textbox(
                label="The same in Python", lines=9, interactive=False, buttons=["copy"], elem_id="tracking-snippet"
            )

    @property
    def components(self) -> list[Any]:
        return [
            self.box,
            self.notes,
            self.player,
            self.objects,
            self.cards,
            self.caption,
            self.legend,
            self.overlap,
            self.sensors,
            self.metrics,
            self.scale,
            self.heat,
            self.shares,
            *self.downloads,
            self.snippet,
        ]

    def unchanged(self) -> list[Any]:
        return [gr.skip() for _ in self.components]

    def hidden(self) -> list[Any]:
        return [gr.update(visible=False), *self.unchanged()[1:]]

    def updates(self, job: Job) -> list[Any]:
        """All components for a job that has a result."""
        result = job.result or {}
        files = {path.name: path for path in job.artefacts}
        notes = views.notes(result)
        overlap, heat = plots.overlap_figure(result), plots.expert_figure(result["experts"])
        return [
            gr.update(visible=True),
            gr.HTML(value=notes, visible=bool(notes)),
            player(result, files, self._publish),
            views.objects_table(result),
            views.score_cards(result),
            views.caption(result),
            plots.overlap_legend(result),
            gr.update(value=overlap, visible=overlap is not None),
            views.sensors_table(result),
            views.metrics_table(result),
            plots.expert_legend() if heat else "",
            gr.update(value=heat, visible=heat is not None),
            views.experts_table(result["experts"]),
            *(
                gr.update(value=str(files[name]) if name in files else None, visible=name in files)
                for name in DOWNLOADS
            ),
            result["snippet"],
        ]

    def _publish(self, path: Path) -> str:
        """The address of a copy in Gradio's cache, relative to the page."""
        return f"gradio_api/file={self.player.move_resource_to_block_cache(path)}"


def progress(job_id: str, already: str, results: Results) -> list[Any]:
    """Updates of stage, status, timer, what is shown, live overlay, switches and results; each is sent once."""
    nothing, off = results.unchanged(), gr.Timer(active=False)
    gone, there, no_live = gr.update(visible=False), gr.update(visible=True), ""
    if not job_id:
        return [gr.skip(), "", off, "", no_live, gone, *nothing]
    try:
        job = default_store().get(job_id)
    except QuartetError as error:
        return [there, note(str(error)), off, "", no_live, gone, *results.hidden()]
    if job.slug != SLUG:
        return [gr.skip(), "", off, "", no_live, gone, *nothing]
    status = job_status(job)
    if job.over and already == job.id:
        return [gr.skip(), status, off, job.id, no_live, gone, *nothing]
    if job.over and job.result is not None:
        return [gone, status, off, job.id, no_live, gone, *results.updates(job)]
    if job.over:  # what was drawn is there to be mended
        return [there, status, off, job.id, no_live, gone, *results.hidden()]
    seen = f"{job.id} {(job.preview or {}).get('version', 0)}"
    live = gr.skip() if already == seen else live_tiles(job.preview)
    new = already.split(" ")[0] != job.id or " " not in already
    switches = _switches(job) if new else gr.skip()
    return [gone, status, gr.Timer(active=True), seen, live, switches, *(results.hidden() if new else nothing)]


def _switches(job: Job) -> Any:
    """The switches of a job that this page sees for the first time, as they stand."""
    sensors = job.params["sensors"]
    on = (job.preview or {}).get("on", sensors)
    return gr.CheckboxGroup(choices=[(SENSORS[name], name) for name in sensors], value=list(on), visible=True)
