"""The attribution page: two streams and a target in, verdicts with figures out; and a playground with known truth."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gradio as gr

from apps.attribution import views
from apps.attribution.following import progress
from apps.attribution.links import linked_job_of
from apps.attribution.model_page import build_model_tab
from apps.attribution.playground import build_playground
from apps.attribution.work import DOWNLOADS, EXAMPLES, SLUG, Columns, Request, Settings, input_error, submit
from apps.components import NO_PROGRESS, QUIET, note
from apps.job_pages import POLL_SECONDS, find_job, job_state, remember_job, shown_errors, stop_job
from core.jobs import Job
from core.registry import load_object

INTRO = """Does this sensor or data stream earn its cost? Give two feature streams and what they should predict.
Partial information decomposition says what each brings **alone**, what **either** brings (redundant), and what appears
only when both are seen **together** (synergy), in bits, with errors, and with what the analysis says about noise."""
FORMATS = """**npz**: three arrays, two streams and one named `y`. **csv** or **parquet**: a target column `y`, and
stream columns named `stream.feature`; for other names, choose the columns below. At most 200 MB, 20,000 columns and
50 classes."""


def build_page() -> gr.Blocks:
    """The page as blocks; nothing of the plugin is imported before a handler runs."""
    with gr.Blocks() as page:
        gr.Markdown(INTRO, elem_id="attribution-intro")
        with gr.Tabs(elem_id="attribution-tabs"):
            with gr.Tab("Your data", id="data", elem_id="attribution-data"):
                _build_analysis(page)
            with gr.Tab("A model", id="model", elem_id="attribution-model"):
                build_model_tab(page)
            with gr.Tab("Known truth", id="truth", elem_id="attribution-truth") as truth:
                build_playground(truth)
    return page


def _build_analysis(page: gr.Blocks) -> None:
    job_id = gr.Textbox(visible=False, label="Job")
    shown = gr.State("")
    timer = gr.Timer(POLL_SECONDS, active=False)
    with gr.Row():
        with gr.Column(scale=2, min_width=300):
            inputs = _Inputs()
        with gr.Column(scale=5, min_width=320):
            status = gr.HTML("", elem_id="attribution-status")
            results = _Results()
    outputs = [status, timer, shown, *results.components]
    _connect(inputs, job_id, outputs)

    def poll(job: str, already: str, *costs: float | None) -> list[Any]:
        return progress(job, already, costs, results)

    job_id.change(None, job_id, None, js=remember_job(SLUG), api_visibility="private")
    gr.on(
        [timer.tick, job_id.change],
        poll,
        [job_id, shown, *results.costs],
        outputs,
        **QUIET,
        concurrency_limit=8,  # it only looks; one visitor's poll need not wait for another's
    )
    page.load(linked_job_of("data"), None, job_id, **QUIET)
    gr.on(
        [cost.change for cost in results.costs],
        _cards_again,
        [job_id, *results.costs],
        results.cards,
        **QUIET,
    )
    gr.api(attribution_result, api_name="attribution_result", queue=False)
    gr.api(attribution_stop, api_name="attribution_stop", queue=False)


class _Inputs:
    """The left column's components."""

    def __init__(self) -> None:
        gr.Markdown("### An example", elem_classes="section")
        self.example = gr.Radio(
            list(EXAMPLES), value=EXAMPLES[0], label="Generated data with a known structure", elem_id="example"
        )
        self.run_example = gr.Button("Explain the example", variant="primary", elem_id="run-example")
        gr.Markdown("### Your own", elem_classes="section")
        self.file = gr.File(
            label="npz, parquet or csv", file_types=[".npz", ".parquet", ".csv"], type="filepath", elem_id="upload"
        )
        self.found = gr.HTML("", elem_id="found")
        with gr.Accordion("Which columns are what", open=False):
            gr.Markdown(FORMATS)
            self.stream_1, self.stream_2 = (
                gr.Dropdown([], label=label, multiselect=True, allow_custom_value=True, elem_id=elem_id)
                for label, elem_id in (("First stream", "stream-1"), ("Second stream", "stream-2"))
            )
            self.target = gr.Dropdown([], value=None, label="Target", allow_custom_value=True, elem_id="target")
        with gr.Accordion("Settings", open=False):
            self.quantiser = gr.Dropdown(
                ["auto", "posterior", "symbols", "quantile", "kmeans"],
                value="auto",
                label="Quantiser",
                info="auto: symbols or quantiles for one plain column, else bins of a cross-fitted posterior",
            )
            self.bins = gr.Slider(0, 20, 0, step=1, label="Symbols per stream", info="0: as many as the samples allow")
            self.confidence = gr.Slider(0.5, 0.99, 0.9, step=0.01, label="Confidence of the intervals")
            self.threshold = gr.Number(0.03, label="Loss that matters, bits", minimum=0.001, maximum=10)
            self.seed = gr.Number(0, label="Seed", precision=0, minimum=0)
            self.audit = gr.Checkbox(True, label="Noise audit: repeat on shuffled labels")
        self.run_file = gr.Button("Explain my file", variant="primary", elem_id="run-file")
        self.stop = gr.Button("Stop", variant="stop", elem_id="stop")

    @property
    def settings(self) -> list[Any]:
        return [self.quantiser, self.bins, self.confidence, self.threshold, self.seed, self.audit]

    @property
    def columns(self) -> list[Any]:
        return [self.stream_1, self.stream_2, self.target]


class _Results:
    """The right column's components, hidden until there is a report."""

    def __init__(self) -> None:
        with gr.Column(visible=False, elem_id="attribution-results") as self.box:
            self.cards = gr.HTML("", elem_id="verdicts")
            with gr.Row():
                self.costs = [
                    gr.Number(None, label=f"Cost of the {place} stream, $ a month", minimum=0, elem_id=f"cost-{place}")
                    for place in ("first", "second")
                ]
            gr.Markdown("### What each stream says", elem_classes="section")
            self.legend = gr.HTML("", elem_id="stack-legend")
            self.stack = gr.Plot(show_label=False, container=False, elem_id="stack")
            self.caption = gr.HTML("", elem_id="caption")
            gr.Markdown("### The atoms", elem_classes="section")
            gr.HTML(views.atoms_legend(truth=False))
            self.atoms = gr.Plot(show_label=False, container=False, elem_id="atoms")
            self.table = gr.HTML("", elem_id="quantities")
            gr.Markdown("### What the usual accuracy test would have said", elem_classes="section")
            self.accuracy = gr.HTML("", elem_id="accuracy")
            gr.Markdown("### Noise audit", elem_classes="section")
            self.audit = gr.HTML("", elem_id="audit")
            gr.Markdown("### Information kept by quantising", elem_classes="section")
            self.readings = gr.HTML("", elem_id="readings")
            gr.Markdown("### Take it with you", elem_classes="section")
            with gr.Row(elem_id="downloads"):
                self.downloads = [gr.DownloadButton(name, size="sm", min_width=110) for name in DOWNLOADS]
            # A text box, not a code block: the highlighter's colours are too pale to read.
            self.snippet = gr.Textbox(
                label="The same in Python", lines=8, interactive=False, buttons=["copy"], elem_id="snippet"
            )

    @property
    def components(self) -> list[Any]:
        return [
            self.box,
            self.cards,
            *self.costs,
            self.legend,
            self.stack,
            self.caption,
            self.atoms,
            self.table,
            self.accuracy,
            self.audit,
            self.readings,
            *self.downloads,
            self.snippet,
        ]

    def hidden(self) -> list[Any]:
        return [gr.update(visible=False), *(gr.skip() for _ in self.components[1:])]

    def updates(self, job: Job, costs: Sequence[float | None]) -> list[Any]:
        """All components for a job that is done."""
        report, audit = _reports(job)
        files = {path.name: str(path) for path in job.artefacts}
        seconds = (job.finished or 0.0) - (job.started or 0.0)
        return [
            gr.update(visible=True),
            views.verdict_cards(report, costs),
            *(gr.update(label=f"Cost of {name}, $ a month") for name in report.names),
            views.stack_legend(report.names),
            views.stack_figure(report),
            views.caption(report, seconds),
            views.atoms_figure(report.quantities, report.names),
            views.quantities_table(report),
            views.accuracy_table(report),
            views.audit_table(report, audit),
            views.reading_table(report),
            *(gr.update(value=files.get(name), visible=name in files) for name in DOWNLOADS),
            (job.result or {}).get("snippet", ""),
        ]


def _connect(inputs: _Inputs, job_id: gr.Textbox, outputs: list[Any]) -> None:
    inputs.run_example.click(
        attribution_example,
        [inputs.example, *inputs.settings],
        job_id,
        api_name="attribution_example",
        **NO_PROGRESS,
    )
    inputs.run_file.click(
        attribution_explain,
        [inputs.file, *inputs.columns, *inputs.settings],
        job_id,
        api_name="attribution_explain",
        **NO_PROGRESS,
    )
    inputs.stop.click(_stop, job_id, None, **QUIET, queue=False)
    inputs.file.change(
        _look_at_file,
        inputs.file,
        [inputs.found, *inputs.columns],
        **QUIET,
    )


def attribution_example(
    example: str,
    quantiser: str = "auto",
    bins: int = 0,
    confidence: float = 0.9,
    threshold: float = 0.03,
    seed: int = 0,
    audit: bool = True,
) -> str:
    """Explain generated data with a known structure.

    Args:
        example: "two cameras", "twin microphones" or "badge and door".
        quantiser: "auto", "posterior", "symbols", "quantile" or "kmeans".
        bins: symbols per stream, 0 to let the data decide.
        confidence: of the intervals, 0.5 to 0.999.
        threshold: bits below which a loss does not matter.
        seed: of every random choice.
        audit: repeat on shuffled labels.

    Returns:
        The id of the job; ask attribution_result for it.
    """
    return _submit(Request(_settings(quantiser, bins, confidence, threshold, seed, audit), example=example))


def attribution_explain(
    file: str | None,
    stream_1: list[str] | None = None,
    stream_2: list[str] | None = None,
    target: str | None = None,
    quantiser: str = "auto",
    bins: int = 0,
    confidence: float = 0.9,
    threshold: float = 0.03,
    seed: int = 0,
    audit: bool = True,
) -> str:
    """Explain a file of two feature streams and a target.

    Args:
        file: npz, parquet or csv, at most 200 MB.
        stream_1: columns of the first stream; empty to tell from the names.
        stream_2: columns of the second stream.
        target: column of the target.
        quantiser: "auto", "posterior", "symbols", "quantile" or "kmeans".
        bins: symbols per stream, 0 to let the data decide.
        confidence: of the intervals, 0.5 to 0.999.
        threshold: bits below which a loss does not matter.
        seed: of every random choice.
        audit: repeat on shuffled labels.

    Returns:
        The id of the job; ask attribution_result for it.
    """
    if not file:
        raise gr.Error("Choose a file first (npz, parquet or csv), or explain the example.", print_exception=False)
    columns = Columns(tuple(stream_1 or ()), tuple(stream_2 or ()), target or None)
    settings = _settings(quantiser, bins, confidence, threshold, seed, audit)
    return _submit(Request(settings, file=Path(file), columns=columns))


def attribution_result(job_id: str) -> dict[str, Any]:
    """Where a job stands, and its report once it is done.

    Args:
        job_id: as attribution_example or attribution_explain returned it.

    Returns:
        status, progress (0 to 1), message, error, and result with the report, or None.
    """
    return job_state(find_job(SLUG, job_id))


def attribution_stop(job_id: str) -> str:
    """Stop a job.

    Args:
        job_id: as attribution_example or attribution_explain returned it.

    Returns:
        The job's status.
    """
    return stop_job(SLUG, job_id)


def _settings(
    quantiser: str, bins: int, confidence: float, threshold: float, seed: int | None, audit: bool
) -> Settings:
    return Settings(quantiser, int(bins) or None, float(confidence), float(threshold), int(seed or 0), bool(audit))


def _submit(request: Request) -> str:
    with shown_errors():
        return submit(request)


def _stop(job_id: str) -> None:
    if job_id:
        attribution_stop(job_id)


def _cards_again(job_id: str, *costs: float | None) -> Any:
    """Verdict cards for new costs, without a new analysis."""
    if not job_id:
        return gr.skip()
    job = find_job(SLUG, job_id)
    return views.verdict_cards(_reports(job)[0], costs) if job.status == "done" else gr.skip()


def _reports(job: Job) -> tuple[Any, Any]:
    report = load_object("plugins.attribution.report:AttributionReport")
    result = job.result or {}
    audit = result.get("audit")
    return report.from_dict(result["report"]), report.from_dict(audit) if audit else None


def _look_at_file(file: str | None) -> list[Any]:
    """Say what the file seems to hold, and offer its columns."""
    empty = [gr.update(choices=[], value=None) for _ in range(3)]
    if not file:
        return ["", *empty]
    try:
        summary = load_object("plugins.attribution.inputs:look_at")(file)
    except input_error() as error:
        return [note(str(error)), *empty]
    header = list(summary.columns[: views.MOST_CHOICES])
    return [views.file_note(summary), *(gr.update(choices=header, value=None) for _ in range(3))]
