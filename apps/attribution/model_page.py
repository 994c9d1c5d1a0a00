"""The tab about a model: which stream it uses, at which depth, beside what exchanging a modality would have said."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gradio as gr

from apps.attribution import model_views, views
from apps.attribution.following import progress
from apps.attribution.links import linked_job_of
from apps.attribution.model_work import EMBEDDED, MIXTURES, MODEL_DOWNLOADS, ModelRequest, planted_rows, submit
from apps.attribution.work import SLUG
from apps.components import NO_PROGRESS, QUIET
from apps.job_pages import POLL_SECONDS, find_job, remember_job, shown_errors, stop_job
from core.jobs import Job
from core.registry import load_object

ABOUT = """Which stream does a deployed model really use, and at which depth? Nothing is retrained: the model runs once
over the data, its layers are pooled while it runs, and each is decomposed. The embedded model is **small** (generated
32 × 32 pictures with sentences) and its data have planted atoms, so that you can see whether the answer is right."""
DATA = """A **parquet** file with the columns `image` (bytes), `text` and `label`, at most 200 MB. CLIP, LLaVA, BLIP and
Qwen2.5-VL need the answers that they may choose from, ViLT and the embedded model have their own."""
SHOWN = 4  # generated examples
OPEN_TAB = """(id) => {
  if (id) document.getElementById("attribution-model-button")?.click();
  return id;
}"""


def build_model_tab(page: gr.Blocks) -> None:
    """Controls and results, inside their tab; a link to a job of this tab opens it."""
    gr.Markdown(ABOUT)
    job_id = gr.Textbox(visible=False, label="Model job", elem_id="model-job")
    shown = gr.State("")
    timer = gr.Timer(POLL_SECONDS, active=False)
    with gr.Row():
        with gr.Column(scale=2, min_width=300):
            inputs = _Inputs()
        with gr.Column(scale=5, min_width=320):
            status = gr.HTML("", elem_id="model-status")
            results = _Results()
    outputs = [status, timer, shown, *results.components]
    inputs.run.click(
        attribution_model_example,
        [inputs.mixture, inputs.examples, inputs.target, inputs.readouts, inputs.seed],
        job_id,
        api_name="attribution_model_example",
        **NO_PROGRESS,
    )
    inputs.run_file.click(
        attribution_model_explain,
        [inputs.model, inputs.file, inputs.options, inputs.target, inputs.readouts, inputs.seed],
        job_id,
        api_name="attribution_model_explain",
        **NO_PROGRESS,
    )
    inputs.stop.click(_stop, job_id, None, **QUIET, queue=False)

    page.load(linked_job_of("model"), None, job_id, **QUIET)
    job_id.change(None, job_id, None, js=remember_job(SLUG), api_visibility="private")
    job_id.change(None, job_id, None, js=OPEN_TAB, api_visibility="private")

    def poll(job: str, already: str, *costs: float | None) -> list[Any]:
        return progress(job, already, costs, results)

    gr.on(
        [timer.tick, job_id.change],
        poll,
        [job_id, shown, *results.costs],
        outputs,
        **QUIET,
        concurrency_limit=8,  # it only looks
    )
    gr.on(
        [cost.change for cost in results.costs],
        _cards_again,
        [job_id, *results.costs],
        results.cards,
        **QUIET,
    )


class _Inputs:
    """The left column."""

    def __init__(self) -> None:
        gr.Markdown("### An example", elem_classes="section")
        self.mixture = gr.Radio(
            list(MIXTURES.items()), value="synergy", label="What is planted in the data", elem_id="mixture"
        )
        self.examples = gr.Slider(200, 5000, 1000, step=100, label="Examples generated", elem_id="model-examples")
        self.run = gr.Button("Explain the embedded model", variant="primary", elem_id="run-model")
        gr.Markdown("### Your own", elem_classes="section")
        self.model = gr.Textbox(
            EMBEDDED,
            label="Model",
            info="A Hub id, such as openai/clip-vit-base-patch32: CLIP, ViLT, BLIP, LLaVA or Qwen2.5-VL",
            max_lines=1,
            elem_id="model-id",
        )
        self.file = gr.File(label="parquet", file_types=[".parquet"], type="filepath", elem_id="model-file")
        self.options = gr.Textbox(
            "", label="Answers to choose between", info="Separated by commas", max_lines=1, elem_id="model-options"
        )
        gr.Markdown(DATA)
        with gr.Accordion("Settings", open=False):
            self.target = gr.Radio(
                [("what the model says", "decision"), ("what is true", "label")], value="decision", label="Target"
            )
            self.readouts = gr.Checkbox(False, label="Also by target: what the model would decide at each layer")
            self.seed = gr.Number(0, label="Seed", precision=0, minimum=0)
        self.run_file = gr.Button("Explain the model on my file", elem_id="run-model-file")
        self.stop = gr.Button("Stop", variant="stop", elem_id="stop-model")


class _Results:
    """The right column, hidden until there is a report."""

    def __init__(self) -> None:
        with gr.Column(visible=False, elem_id="model-results") as self.box:
            self.cards = gr.HTML("", elem_id="model-verdicts")
            with gr.Row():
                self.costs = [
                    gr.Number(None, label=f"Cost of the {name}, $ a month", minimum=0, elem_id=f"model-cost-{name}")
                    for name in ("image", "text")
                ]
            self.examples = gr.HTML("", elem_id="model-examples-shown")
            self.truth = gr.HTML("", elem_id="model-truth")
            gr.Markdown("### Where it happens: atoms by depth", elem_classes="section")
            self.legend = gr.HTML("", elem_id="model-legend")
            gr.Markdown(model_views.ABOUT["stream"])
            self.depth = gr.Plot(show_label=False, container=False, elem_id="model-depth")
            self.heat = gr.Plot(show_label=False, container=False, elem_id="model-heat")
            self.table = gr.HTML("", elem_id="model-layers")
            with gr.Column(visible=False, elem_id="model-readouts") as self.readouts_box:
                gr.Markdown(model_views.ABOUT["target"])
                self.readouts = gr.Plot(show_label=False, container=False, elem_id="model-readouts-depth")
                self.readouts_table = gr.HTML("", elem_id="model-readouts-table")
            gr.Markdown("### What exchanging a modality would have said", elem_classes="section")
            self.dropping = gr.HTML("", elem_id="model-dropping")
            gr.Markdown("### What the analysis cost", elem_classes="section")
            self.cost = gr.HTML("", elem_id="model-cost")
            self.skipped = gr.HTML("", elem_id="model-skipped")
            gr.Markdown("### Take it with you", elem_classes="section")
            with gr.Row(elem_id="model-downloads"):
                self.downloads = [gr.DownloadButton(name, size="sm", min_width=110) for name in MODEL_DOWNLOADS]
            self.snippet = gr.Textbox(
                label="The same in Python", lines=8, interactive=False, buttons=["copy"], elem_id="model-snippet"
            )

    @property
    def components(self) -> list[Any]:
        return [
            self.box,
            self.cards,
            self.examples,
            self.truth,
            self.legend,
            self.depth,
            self.heat,
            self.table,
            self.readouts_box,
            self.readouts,
            self.readouts_table,
            self.dropping,
            self.cost,
            self.skipped,
            *self.downloads,
            self.snippet,
        ]

    def hidden(self) -> list[Any]:
        return [gr.update(visible=False), *(gr.skip() for _ in self.components[1:])]

    def updates(self, job: Job, costs: Sequence[float | None]) -> list[Any]:
        """All components for a job that is done."""
        report, result = _report(job), job.result or {}
        files = {path.name: str(path) for path in job.artefacts}
        readouts = any(each.kind == "target" for each in report.layers)
        return [
            gr.update(visible=True),
            views.verdict_cards(report, costs),
            _examples(job),
            model_views.truth_table(report, result.get("truth")),
            views.stack_legend(report.names),
            model_views.depth_figure(report, "stream"),
            model_views.heat_map(report, "stream"),
            model_views.layers_table(report, "stream"),
            gr.update(visible=readouts),
            model_views.depth_figure(report, "target") if readouts else None,
            model_views.layers_table(report, "target"),
            model_views.dropping_table(report),
            model_views.cost_readout(report, (job.finished or 0.0) - (job.started or 0.0)),
            model_views.skipped_list(report),
            *(gr.update(value=files.get(name), visible=name in files) for name in MODEL_DOWNLOADS),
            result.get("snippet", ""),
        ]


def attribution_model_example(
    mixture: str, examples: int = 1000, target: str = "decision", readouts: bool = False, seed: int = 0
) -> str:
    """Explain the embedded model, layer by layer, on generated pictures with sentences whose atoms are planted.

    Args:
        mixture: "image", "text", "redundant", "synergy", "and", "backup", "copy" or "mixed".
        examples: how many to generate, 200 to 5,000.
        target: "decision" (what the model says) or "label" (what is true).
        readouts: also decompose what the model would decide at each layer.
        seed: of the data and of every random choice.

    Returns:
        The id of the job; ask attribution_result for it.
    """
    return _submit(
        ModelRequest(
            mixture=mixture, examples=int(examples), target=target, readouts=bool(readouts), seed=int(seed or 0)
        )
    )


def attribution_model_explain(
    model: str,
    file: str | None,
    options: str = "",
    target: str = "decision",
    readouts: bool = False,
    seed: int = 0,
) -> str:
    """Explain a model of the Hub, or the embedded one, on a file of images with texts.

    Args:
        model: Hub id of a CLIP, ViLT, BLIP, LLaVA or Qwen2.5-VL; empty for the embedded model.
        file: parquet with the columns image, text and label, at most 200 MB.
        options: answers to choose between, separated by commas; empty for the model's own.
        target: "decision" (what the model says) or "label" (what is true).
        readouts: also decompose what the model would decide at each layer.
        seed: of every random choice.

    Returns:
        The id of the job; ask attribution_result for it.
    """
    if not file:
        raise gr.Error("Choose a parquet file first, or explain the embedded model.", print_exception=False)
    name = "" if model.strip() in ("", EMBEDDED) else model.strip()
    answers = tuple(each.strip() for each in options.split(",") if each.strip())
    return _submit(
        ModelRequest(
            model=name,
            file=Path(file),
            options=answers,
            target=target,
            readouts=bool(readouts),
            seed=int(seed or 0),
        )
    )


def _submit(request: ModelRequest) -> str:
    error = load_object("plugins.attribution.errors:AttributionInputError")
    try:
        with shown_errors():
            return submit(request)
    except error as refused:
        raise gr.Error(str(refused), print_exception=False) from refused


def _stop(job_id: str) -> None:
    if job_id:
        stop_job(SLUG, job_id)


def _cards_again(job_id: str, *costs: float | None) -> Any:
    """Verdict cards for new costs, without a new analysis."""
    if not job_id:
        return gr.skip()
    job = find_job(SLUG, job_id)
    return views.verdict_cards(_report(job), costs) if job.status == "done" else gr.skip()


def _examples(job: Job) -> str:
    """The first of the generated examples; nothing for a file of the user's."""
    mixture = job.params.get("mixture")
    return model_views.examples_strip(planted_rows(mixture, job.params["seed"], SHOWN)) if mixture else ""


def _report(job: Job) -> Any:
    return load_object("plugins.attribution.report:AttributionReport").from_dict((job.result or {})["report"])
