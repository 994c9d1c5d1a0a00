"""What the page asks of the server: one attribution as a job that outlives the tab."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from core.jobs import JobContext, default_store
from core.registry import find, load_object
from core.runs import build_run_record, peak_memory, reset_peak_memory

SLUG = "attribution"
DOWNLOADS = ("report.json", "report.md", "atoms.csv", "examples.csv", "run.json")
EXAMPLES = ("two cameras", "twin microphones", "badge and door")


@dataclass(frozen=True)
class Settings:
    """How to analyse; the fields are the pipeline's, `audit` repeats the analysis on shuffled labels."""

    quantiser: str = "auto"
    bins: int | None = None
    confidence: float = 0.9
    threshold: float = 0.03
    seed: int = 0
    audit: bool = True


@dataclass(frozen=True)
class Columns:
    """Which columns of a csv or parquet are what; empty ones are told from their names."""

    stream_1: tuple[str, ...] = ()
    stream_2: tuple[str, ...] = ()
    target: str | None = None

    def arguments(self) -> dict[str, Any]:
        """As keyword arguments of `read_streams`."""
        return {
            "stream_1": list(self.stream_1) or None,
            "stream_2": list(self.stream_2) or None,
            "target": self.target or None,
        }


@dataclass(frozen=True)
class Request:
    """One analysis: an example by name, or an uploaded file."""

    settings: Settings
    example: str | None = None
    file: Path | None = None
    columns: Columns = Columns()

    def params(self) -> dict[str, Any]:
        """What a reader needs to repeat it; an upload by its name only."""
        source = {"example": self.example} if self.example else {"file": self.file.name if self.file else None}
        return {**source, "columns": asdict(self.columns), **asdict(self.settings)}


def input_error() -> type[Exception]:
    """The plugin's own error, whose messages are written for users."""
    return load_object("plugins.attribution.errors:AttributionInputError")


def submit(request: Request) -> str:
    """Queue the analysis; the id of its job."""
    return default_store().submit(
        SLUG, lambda context: analyse(request, context), params=request.params(), expected=(input_error(),)
    )


def analyse(request: Request, context: JobContext) -> dict[str, Any]:
    """Run the pipeline, and again on shuffled labels; write the downloads; return both reports as plain values."""
    reset_peak_memory()
    context.progress(0.0, "loading")
    streams = _read(request, context)
    settings = request.settings
    share = 0.55 if settings.audit else 0.97
    report = _pipeline(settings)(
        streams,
        seed=settings.seed,
        callback=lambda fraction, message: context.progress(share * fraction, message),
    )
    audit = None
    if settings.audit:
        order = np.random.default_rng(settings.seed).permutation(len(streams.y))
        audit = _pipeline(settings)(
            replace(streams, y=streams.y[order]),
            seed=settings.seed,
            callback=lambda fraction, message: context.progress(0.55 + 0.42 * fraction, f"noise audit: {message}"),
        )
    report.run["peak_memory_bytes"] = peak_memory()
    _write_downloads(request, context.directory, report)
    return {
        "report": report.to_dict(),
        "audit": audit.to_dict() if audit else None,
        "snippet": snippet(request),
    }


def snippet(request: Request) -> str:
    """The same analysis in Python, and on the command line."""
    s = request.settings
    call = f"quantiser={s.quantiser!r}, bins={s.bins}, confidence={s.confidence}, threshold={s.threshold}"
    if request.example:
        data = f'from plugins.attribution.synthetic import example\n\nstreams = example("{request.example}")'
        shell = ""
    else:
        name = request.file.name if request.file else "data.npz"
        given = "".join(f", {k}={v!r}" for k, v in request.columns.arguments().items() if v)
        data = f"from plugins.attribution.inputs import read_streams\n\nstreams = read_streams({name!r}{given})"
        shell = f"\n\n# python -m plugins.attribution explain {name!r} --seed {s.seed}"
    return (
        "from plugins.attribution import PIDAttributionPipeline\n"
        f"{data}\npipe = PIDAttributionPipeline({call})\n"
        f"report = pipe(streams, seed={s.seed})\nprint(report.to_markdown()){shell}\n"
    )


def _read(request: Request, context: JobContext) -> Any:
    if request.example:
        return load_object("plugins.attribution.synthetic:example")(request.example, seed=request.settings.seed)
    if request.file is None:
        raise input_error()("choose a file first, or use the example")
    read_streams = load_object("plugins.attribution.inputs:read_streams")
    return read_streams(request.file, **request.columns.arguments(), callback=context.progress)


def _pipeline(settings: Settings) -> Any:
    # A pipeline of its own for each analysis: it keeps the discretiser that it fits. Arrays need no checkpoint.
    return load_object(find(SLUG).pipeline)(
        quantiser=settings.quantiser,
        bins=settings.bins,
        confidence=settings.confidence,
        threshold=settings.threshold,
    )


def _write_downloads(request: Request, directory: Path, report: Any) -> None:
    import pandas as pd

    (directory / "report.json").write_text(report.to_json(), "utf-8")
    (directory / "report.md").write_text(report.to_markdown() + "\n", "utf-8")
    report.to_frame().to_csv(directory / "atoms.csv", index=False)
    if report.pointwise is not None:
        pd.DataFrame(report.pointwise).to_csv(directory / "examples.csv", index_label="example", float_format="%.5f")
    build_run_record(SLUG, {**report.run, "params": request.params()}, command=snippet(request)).write(directory)
