"""The sparse video page: a prompt in, the same clip with several kinds of attention out, and what each cost."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr

from apps.components import NO_PROGRESS, QUIET, job_status, note
from apps.job_pages import POLL_SECONDS, find_job, linked_job, remember_job
from apps.sparse_video import plots, views
from apps.sparse_video.endpoints import (
    sparse_video_compare,
    sparse_video_file,
    sparse_video_generate,
    sparse_video_result,
    sparse_video_stop,
)
from apps.sparse_video.files import DOWNLOADS
from apps.sparse_video.player import LIVE_SCRIPT, NAMES, PLAYER_SCRIPT, STYLE, empty_tiles, live_tiles, players
from apps.sparse_video.work import BEGIN_WITH, EXAMPLES, FRAMES, METHODS, SIDE, SLUG, WORDS
from core.errors import QuartetError
from core.jobs import Job, default_store

INTRO = """What does sparse attention save, in seconds and dollars per minute of video, and what does it cost in
fidelity? The same clip is made with **dense** attention and with **rectified** sparse attention: only some blocks of
keys, corrected against a cheap estimate of full attention. **Plain sparse**, the same blocks without the correction,
can stand beside them. All in one run."""
MODEL = """A small model, trained for this page: 96 × 96 pixels, one to three shapes, and no other words than these.
What is measured holds for it, on this machine; large models spend far more of their time in attention."""
PROMISE = """<div class="promise">{tiles}<ul>
<li>One click makes the clip once for each kind of attention: side by side, on the same frame.</li>
<li>Time per step, peak memory, and seconds and dollars per minute of video. If sparse is slower than dense on this
machine and at this size, the page says so.</li>
<li>Which blocks each head attended to, and how wrong the attention itself became.</li></ul></div>"""
PRICE, PRICE_LABEL = 2.5, "Price of this machine, $ per GPU-hour"


def build_page() -> gr.Blocks:
    """The page as blocks; nothing of the plugin is imported before a handler runs."""
    with gr.Blocks() as page:
        gr.HTML(f"<style>{STYLE}</style>", visible=True, elem_id="sparse-video-style")
        gr.Markdown(INTRO, elem_id="sparse-video-intro")
        job_id = gr.Textbox(visible=False, label="Job")
        shown = gr.State("")
        timer = gr.Timer(POLL_SECONDS, active=False)
        with gr.Row():
            with gr.Column(scale=2, min_width=300):
                inputs = _Inputs()
            with gr.Column(scale=5, min_width=320):
                results = _Results()
        _connect(inputs, results, job_id, shown, timer)
        page.load(linked_job(SLUG), None, job_id, **QUIET)
        _offer_endpoints()
    return page


class _Inputs:
    """The left column's components."""

    def __init__(self) -> None:
        self.prompt = gr.Textbox(EXAMPLES[0], label="Prompt", lines=3, max_lines=5, elem_id="sparse-video-prompt")
        with gr.Column(elem_id="sparse-video-examples"):
            gr.Markdown("Examples", elem_classes="quiet")
            self.examples = [gr.Button(text, size="sm") for text in EXAMPLES]
        self.methods = gr.CheckboxGroup(
            [(NAMES[method], method) for method in METHODS],
            value=list(BEGIN_WITH),
            label="Compare",
            info="Centroid is beyond the paper: blocks left out take part as mean keys",
            elem_id="sparse-video-methods",
        )
        self.density = gr.Slider(
            0.05, 1, 0.25, step=0.05, label="Density", info="Share of key blocks that each query block keeps"
        )
        self.run = gr.Button("Generate and compare", variant="primary", elem_id="sparse-video-run")
        self.stop = gr.Button("Stop", variant="stop", elem_id="sparse-video-stop")
        with gr.Accordion("Seed, steps and size", open=False):
            self.seed = gr.Number(0, label="Seed", precision=0, minimum=0, maximum=2**32 - 1)
            self.steps = gr.Slider(0, 30, 0, step=1, label="Steps", info="0: as many as the model was made for")
            self.frames = gr.Slider(9, 81, FRAMES, step=4, label="Frames", info=f"The model was made for {FRAMES}")
            self.height = gr.Slider(64, 160, SIDE, step=16, label="Height, pixels")
            self.width = gr.Slider(64, 160, SIDE, step=16, label="Width, pixels")
        gr.HTML(views.words_table(WORDS), elem_id="sparse-video-words")
        gr.Markdown(MODEL, elem_classes="quiet")

    @property
    def all(self) -> list[Any]:
        return [
            self.prompt,
            self.methods,
            self.density,
            self.seed,
            self.steps,
            self.frames,
            self.height,
            self.width,
        ]


class _Results:
    """The right column's components; the results are hidden until there are some."""

    def __init__(self) -> None:
        self.promise = gr.HTML(PROMISE.format(tiles=empty_tiles(BEGIN_WITH)), elem_id="sparse-video-promise")
        self.status = gr.HTML("", elem_id="sparse-video-status")
        self.live = gr.HTML("", elem_id="sparse-video-live", js_on_load=LIVE_SCRIPT)
        with gr.Column(visible=False, elem_id="sparse-video-results") as self.box:
            self.players = gr.HTML("", elem_id="sparse-video-players", js_on_load=PLAYER_SCRIPT)
            self.cards = gr.HTML("", elem_id="sparse-video-cards")
            self.caption = gr.HTML("", elem_id="sparse-video-caption")
            gr.Markdown("### What it costs", elem_classes="section")
            with gr.Row(), gr.Column(scale=0, min_width=340):
                self.price = gr.Number(
                    PRICE, label=PRICE_LABEL, minimum=0, maximum=10_000, elem_id="sparse-video-price"
                )
            self.cost = gr.HTML("", elem_id="sparse-video-cost")
            gr.Markdown("### Time", elem_classes="section")
            self.legend = gr.HTML("")
            self.steps = gr.Plot(show_label=False, container=False, elem_id="sparse-video-steps")
            self.times = gr.HTML("", elem_id="sparse-video-times")
            gr.Markdown("### Distance from dense", elem_classes="section")
            self.fidelity_legend, self.fidelity, self.distances = _beside("fidelity", "distances")
            gr.Markdown("### Error of the attention itself", elem_classes="section")
            self.error_legend, self.errors, self.error_table = _beside("errors", "error-table")
            gr.Markdown("### Blocks that attention kept", elem_classes="section")
            with gr.Row():
                with gr.Column(scale=2, min_width=300):
                    self.maps = gr.HTML("", elem_id="sparse-video-maps")
                with gr.Column(scale=3, min_width=300):
                    self.recall = gr.HTML("", elem_id="sparse-video-recall")
            gr.Markdown("### Take it with you", elem_classes="section")
            with gr.Row(elem_id="sparse-video-downloads"):
                self.downloads = [gr.DownloadButton(name, size="sm", min_width=110) for name in DOWNLOADS]
            # A text box, not a code block: the highlighter's colours are too pale to read.
            self.snippet = gr.Textbox(
                label="The same in Python", lines=9, interactive=False, buttons=["copy"], elem_id="sparse-video-snippet"
            )

    @property
    def components(self) -> list[Any]:
        return [
            self.box,
            self.players,
            self.cards,
            self.caption,
            self.cost,
            self.legend,
            self.steps,
            self.times,
            self.fidelity_legend,
            self.fidelity,
            self.distances,
            self.error_legend,
            self.errors,
            self.error_table,
            self.maps,
            self.recall,
            *self.downloads,
            self.snippet,
        ]

    def unchanged(self) -> list[Any]:
        return [gr.skip() for _ in self.components]

    def hidden(self) -> list[Any]:
        return [gr.update(visible=False), *self.unchanged()[1:]]

    def updates(self, job: Job, price: float | None) -> list[Any]:
        """All components for a job that is done."""
        result = job.result or {}
        inside, files = result["inside"], {path.name: path for path in job.artefacts}
        fidelity = plots.fidelity_figure(result)
        methods = [row["method"] for row in result["rows"]]
        return [
            gr.update(visible=True),
            players(result, files, self._publish),
            views.verdict_cards(result, price),
            views.caption(result),
            views.cost_table(result, price),
            plots.legend(methods),
            plots.steps_figure(result),
            views.time_table(result),
            plots.legend(methods[1:]) if fidelity else "",
            gr.update(value=fidelity, visible=fidelity is not None),
            views.fidelity_table(result),
            plots.legend(METHODS[1:]) if inside else "",
            gr.update(value=plots.error_figure(inside) if inside else None, visible=inside is not None),
            views.error_table(inside),
            views.maps_grid(inside),
            views.recall_table(inside),
            *(
                gr.update(value=str(files[name]) if name in files else None, visible=name in files)
                for name in DOWNLOADS
            ),
            result["snippet"],
        ]

    def _publish(self, path: Path) -> str:
        """The address of a copy in Gradio's cache, relative to the page."""
        return f"gradio_api/file={self.players.move_resource_to_block_cache(path)}"


def _beside(plot: str, figures: str) -> tuple[gr.HTML, gr.Plot, gr.HTML]:
    """A legend over its plot, and the table beside them where the screen is wide enough; by the ends of their ids."""
    with gr.Row():
        with gr.Column(scale=3, min_width=300):
            legend = gr.HTML("")
            drawing = gr.Plot(show_label=False, container=False, elem_id=f"sparse-video-{plot}")
        with gr.Column(scale=2, min_width=300):
            table = gr.HTML("", elem_id=f"sparse-video-{figures}")
    return legend, drawing, table


def _connect(inputs: _Inputs, results: _Results, job_id: gr.Textbox, shown: gr.State, timer: gr.Timer) -> None:
    inputs.run.click(
        sparse_video_compare,
        inputs.all,
        job_id,
        api_name="sparse_video_compare",
        **NO_PROGRESS,
        concurrency_id="accelerator",
    )
    for button, text in zip(inputs.examples, EXAMPLES, strict=True):
        button.click(lambda text=text: text, None, inputs.prompt, **QUIET)
    inputs.stop.click(_stop, job_id, None, **QUIET, queue=False)
    job_id.change(None, job_id, None, js=remember_job(SLUG), api_visibility="private")

    def poll(job: str, already: str, price: float | None) -> list[Any]:
        return _progress(job, already, price, results)

    gr.on(
        [timer.tick, job_id.change],
        poll,
        [job_id, shown, results.price],
        [results.promise, results.status, timer, shown, results.live, *results.components],
        **QUIET,
        concurrency_limit=8,  # it only looks; one visitor's poll need not wait for another's
    )
    results.price.change(
        _costs_again,
        [job_id, results.price],
        [results.cards, results.cost],
        **QUIET,
    )


def _offer_endpoints() -> None:
    """What programs call beside the button."""
    gr.api(sparse_video_generate, api_name="sparse_video_generate", concurrency_id="accelerator")
    gr.api(sparse_video_result, api_name="sparse_video_result", queue=False)
    gr.api(sparse_video_stop, api_name="sparse_video_stop", queue=False)
    # With components of its own, for only those hand files over.
    job_id, name = gr.Textbox(visible=False, label="Job"), gr.Textbox(visible=False, label="Name")
    file = gr.File(visible=False, label="File")
    gr.Button(visible=False).click(sparse_video_file, [job_id, name], file, api_name="sparse_video_file", queue=False)


def _stop(job_id: str) -> None:
    if job_id:
        sparse_video_stop(job_id)


def _progress(job_id: str, already: str, price: float | None, results: _Results) -> list[Any]:
    """Updates of promise, status, timer, what is shown, preview and results; each is sent once."""
    nothing, off = results.unchanged(), gr.Timer(active=False)
    gone, no_preview = gr.update(visible=False), ""
    if not job_id:
        return [gr.skip(), "", off, "", no_preview, *nothing]
    try:
        job = default_store().get(job_id)
    except QuartetError as error:
        return [gone, note(str(error)), off, "", no_preview, *results.hidden()]
    if job.slug != SLUG:
        return [gr.skip(), "", off, "", no_preview, *nothing]
    status = job_status(job)
    if job.status == "done":
        if already == job.id:
            return [gone, status, off, job.id, no_preview, *nothing]
        return [gone, status, off, job.id, no_preview, *results.updates(job, price)]
    seen = f"{job.id} {(job.preview or {}).get('version', 0)}"
    live = gr.skip() if already == seen else live_tiles(job.preview if job.status != "failed" else None)
    stale = already.split(" ")[0] != job.id or " " not in already
    return [gone, status, gr.Timer(active=not job.over), seen, live, *(results.hidden() if stale else nothing)]


def _costs_again(job_id: str, price: float | None) -> tuple[Any, Any]:
    """Cards and cost table for a new price, without a new run."""
    job = find_job(SLUG, job_id) if job_id else None
    if job is None or job.status != "done" or job.result is None:
        return gr.skip(), gr.skip()
    return views.verdict_cards(job.result, price), views.cost_table(job.result, price)
