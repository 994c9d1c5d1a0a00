"""What the page asks of the server about a model: capture, decompose layer by layer, and exchange modalities."""

from __future__ import annotations

import os
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from apps.attribution.work import SLUG, input_error
from core.jobs import JobContext, default_store
from core.registry import default_cache, find, load_object
from core.runs import build_run_record, peak_memory, reset_peak_memory
from core.zero_gpu import on_accelerator

EMBEDDED = "attribution-tiny (embedded)"
MIXTURES = {
    "Only the picture shows it": "image",
    "Only the sentence tells it": "text",
    "Both show the same": "redundant",
    "Only both together tell it": "synergy",
    "Both have to be there": "and",
    "The sentence is a poor backup": "backup",
    "Each shows its own": "copy",
    "Something of everything": "mixed",
}
MODEL_DOWNLOADS = ("report.html", "report.json", "report.md", "layers.csv", "run.json")
MOST_EXAMPLES = 5000
_REPOSITORY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True)
class ModelRequest:
    """One question about a model.

    Attributes:
        model: a Hub id; "" is the embedded one.
        mixture: of generated data, or None with a file.
        file: an uploaded parquet: image, text, label.
        examples: of generated data.
        options: what the model may answer, where it has no labels of its own.
        target: "decision" or "label".
        readouts: also what it would decide at each layer.
    """

    model: str = ""
    mixture: str | None = None
    file: Path | None = None
    examples: int = 1000
    options: tuple[str, ...] = ()
    target: str = "decision"
    readouts: bool = False
    confidence: float = 0.9
    threshold: float = 0.03
    seed: int = 0

    def params(self) -> dict[str, Any]:
        """What a reader needs to repeat it; an upload by its name only."""
        return asdict(self) | {"file": self.file.name if self.file else None}


def submit(request: ModelRequest) -> str:
    """Queue the analysis; the id of its job."""
    check(request)
    expected = (input_error(),)
    work = on_accelerator(analyse, request, seconds=accelerator_seconds(request), expected=expected)
    return default_store().submit(SLUG, work, params=request.params(), expected=expected)


def accelerator_seconds(request: ModelRequest) -> float:
    """An upper bound, with room for loading; what ZeroGPU is asked for. Files count as long as they may be."""
    return 40 + 0.02 * (request.examples if request.file is None else MOST_EXAMPLES)


def check(request: ModelRequest) -> None:
    """Refuse what can be refused before anything is loaded."""
    error = input_error()
    if request.model and (not _REPOSITORY.fullmatch(request.model) or os.path.exists(request.model)):
        raise error(f"{request.model[:100]!r} is not a Hub id: write owner/name, or choose the embedded model")
    if request.mixture is None and request.file is None:
        raise error("choose generated data, or upload a parquet file with the columns image, text and label")
    if request.mixture is not None and request.mixture not in MIXTURES.values():
        raise error(f"mixture {request.mixture[:40]!r} is unknown: choose from {', '.join(MIXTURES.values())}")
    if not 200 <= request.examples <= MOST_EXAMPLES:
        raise error(f"examples is {request.examples}: choose 200 to {MOST_EXAMPLES:,}")


def analyse(request: ModelRequest, context: JobContext) -> dict[str, Any]:
    """Run the pipeline, write the downloads, and return the report as plain values."""
    reset_peak_memory()
    context.progress(0.0, "loading the model")
    loaded = default_cache().on_best_device(SLUG, request.model or None)
    pipeline = type(loaded).of_model(
        loaded.model,
        loaded.processor,
        options=request.options or None,
        name=request.model or "attribution-tiny",
        confidence=request.confidence,
        threshold=request.threshold,
    )
    report = pipeline(
        _data(request),
        target=request.target,
        readouts=request.readouts,
        dropping=True,
        seed=request.seed,
        callback=lambda fraction, message: context.progress(0.05 + 0.9 * fraction, message),
    )
    report.run["peak_memory_bytes"] = peak_memory()
    _write_downloads(request, context.directory, report)
    return {"report": report.to_dict(), "snippet": snippet(request), "truth": _truth(request)}


def snippet(request: ModelRequest) -> str:
    """The same analysis in Python."""
    options = f", options={list(request.options)!r}" if request.options else ""
    if request.mixture:
        data = (
            "from plugins.attribution.planted import find_mixture, generate\n\n"
            f'data = generate(find_mixture("{request.mixture}"), {request.seed}, {request.examples}).rows()\n'
        )
    else:
        data = f"\ndata = {request.file.name if request.file else 'data.parquet'!r}\n"
    return (
        "from plugins.attribution import PIDAttributionPipeline\n"
        f"{data}"
        f"pipe = PIDAttributionPipeline.from_pretrained({request.model or find(SLUG).checkpoint!r}{options})\n"
        f"report = pipe(data, target={request.target!r}, readouts={request.readouts}, dropping=True, "
        f"seed={request.seed})\nprint(report.to_markdown())\n"
    )


def planted_rows(mixture: str, seed: int, examples: int) -> list[dict[str, Any]]:
    """Generated examples: image, text and label."""
    planted = "plugins.attribution.planted"
    found = load_object(f"{planted}:find_mixture")(mixture)
    return load_object(f"{planted}:generate")(found, seed, examples).rows()


def _data(request: ModelRequest) -> Any:
    if request.mixture is None:
        return request.file
    return planted_rows(request.mixture, request.seed, request.examples)


def _truth(request: ModelRequest) -> list[float] | None:
    """The planted atoms in closed form, bits; None for a user's own data."""
    if request.mixture is None:
        return None
    return list(load_object("plugins.attribution.planted:find_mixture")(request.mixture).atoms)


def _write_downloads(request: ModelRequest, directory: Path, report: Any) -> None:
    (directory / "report.html").write_text(load_object("plugins.attribution.html_report:to_html")(report), "utf-8")
    (directory / "report.json").write_text(report.to_json(), "utf-8")
    (directory / "report.md").write_text(report.to_markdown() + "\n", "utf-8")
    report.to_frame().to_csv(directory / "layers.csv", index=False)
    build_run_record(SLUG, {**report.run, "params": request.params()}, command=snippet(request)).write(directory)
