"""Command line: capture a model, count, explain, gate; test against known truth, time the solver."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any

import typer

from core.cli import forward_command

from .cli_parts import (
    JsonFile,
    Seeds,
    advance,
    check_folders,
    clear_errors,
    digest,
    progress,
    read_costs,
    read_seeds,
    split,
    write,
)

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False)


@app.command()
def explain(
    file: Annotated[
        Path, typer.Argument(help="npz, parquet or csv: two streams and a target; or a folder that `count` wrote.")
    ],
    stream_1: Annotated[str | None, typer.Option(help="Columns of the first stream, comma-separated.")] = None,
    stream_2: Annotated[str | None, typer.Option(help="Columns of the second stream.")] = None,
    target: Annotated[str | None, typer.Option(help="Column of the target.")] = None,
    cost: Annotated[list[str] | None, typer.Option(help="Dollars a month of a stream, name=dollars.")] = None,
    quantiser: Annotated[str, typer.Option(help="auto, posterior, symbols, quantile or kmeans.")] = "auto",
    bins: Annotated[int | None, typer.Option(help="Symbols per stream; chosen from the data if left out.")] = None,
    threshold: Annotated[float, typer.Option(help="Bits below which a loss does not matter.")] = 0.03,
    confidence: Annotated[float, typer.Option(help="Of the intervals.")] = 0.9,
    seed: Annotated[int, typer.Option(help="Of folds, clusters and resampling.")] = 0,
    json: JsonFile = None,
    markdown: Annotated[Path | None, typer.Option(help="Write the summary.")] = None,
    csv: Annotated[Path | None, typer.Option(help="Write one row per quantity.")] = None,
    html: Annotated[Path | None, typer.Option(help="Write a page with plots that needs no network.")] = None,
    run: Annotated[Path | None, typer.Option(help="Write run.json, with which the run can be repeated.")] = None,
) -> None:
    """What each of two streams says about a target: alone, in common and only together."""
    with clear_errors():
        check_folders(json, markdown, csv, html, run)
        costs = read_costs(cost)
        if file.is_dir():
            from .cli_model import report_of

            _no_record(run)
            report = report_of(file, confidence=confidence, threshold=threshold, costs=costs, seed=seed)
        else:
            settings = {"quantiser": quantiser, "bins": bins, "confidence": confidence, "threshold": threshold}
            columns = {"stream_1": split(stream_1), "stream_2": split(stream_2), "target": target}
            report, record = _explain(file, columns, settings, costs, seed)
            if run is not None:
                write(run, record.to_json())
        _write_reports(report, {".json": json, ".md": markdown, ".csv": csv, ".html": html})
    typer.echo(report.to_markdown())


@app.command()
def selftest(
    json: JsonFile = None,
    seeds: Seeds = "0:1",
    draws: Annotated[int, typer.Option(min=2, help="Samples per table in the coverage check.")] = 100,
    full: Annotated[bool, typer.Option("--full", help="2,000 tables in the stress, ten shuffled data sets.")] = False,
) -> None:
    """Known truth against what this computes; exit code 1 when a bar is missed."""
    with clear_errors():
        check_folders(json)
        from .selftest import run_checks

        checks = []
        for check in run_checks(read_seeds(seeds), draws=draws, full=full, tell=progress):
            typer.echo(check.to_markdown())
            checks.append(check.to_dict())
        if json is not None:
            from core.jsonfile import to_text

            from .benchmark import machine

            record = {"machine": machine("cpu"), "seeds": seeds, "draws": draws, "full": full, "checks": checks}
            write(json, to_text(record))
    failed = sum(len(check["failures"]) for check in checks)
    typer.echo(f"{failed} bars missed" if failed else "every bar is met")
    raise typer.Exit(1 if failed else 0)


@app.command()
def bench(
    json: JsonFile = None,
    seeds: Seeds = "0:1",
    repeats: Annotated[int, typer.Option(min=1, help="Rounds in which every solver runs once.")] = 7,
    device: Annotated[str, typer.Option(help="cpu, or cuda beside one CPU core.")] = "cpu",
) -> None:
    """Time the solver beside independent ones and the paper's; exit code 1 when a bar is missed."""
    with clear_errors():
        check_folders(json)
        from core.devices import resolve_device

        from .benchmark import run_benchmark, to_markdown

        report = run_benchmark(read_seeds(seeds), repeats=repeats, device=str(resolve_device(device)), tell=progress)
        typer.echo(to_markdown(report))
        if json is not None:
            from core.jsonfile import to_text

            write(json, to_text(report))
    raise typer.Exit(1 if report["failures"] else 0)


def _no_record(run: Path | None) -> None:
    from .errors import AttributionInputError

    if run is not None:
        raise AttributionInputError("tables do not say how their examples were read: leave --run out")


def _write_reports(report: Any, files: dict[str, Path | None]) -> None:
    """The report in every form that is asked for."""
    from .capture_files import as_text

    for form, path in files.items():
        if path is not None:
            write(path, as_text(report, form))


def _explain(
    file: Path, columns: dict[str, Any], settings: dict[str, Any], costs: dict[str, float] | None, seed: int
) -> tuple[Any, Any]:
    """The report and the run record."""
    from core.runs import build_run_record, peak_memory

    from .inputs import read_streams
    from .pipeline import PIDAttributionPipeline

    started = time.time()
    pipeline = PIDAttributionPipeline(**settings)
    report = pipeline(read_streams(file, **columns), costs=costs, seed=seed, callback=advance)
    command = (
        "from plugins.attribution.inputs import read_streams\n"
        "from plugins.attribution import PIDAttributionPipeline\n"
        f"streams = read_streams({str(file)!r}, **{columns!r})\n"
        f"report = PIDAttributionPipeline(**{settings!r})(streams, costs={costs!r}, seed={seed})\n"
    )
    run = {**report.run, "peak_memory_bytes": peak_memory()}
    run["params"] = {**run["params"], "file": file.name, "sha256": digest(file), "columns": columns}
    return report, build_run_record("attribution", run, command=command, started=started)


forward_command(
    app,
    "capture",
    "plugins.attribution.cli_model:capture_command",
    "Run a model on data, pool its layers, write codes with the discretisers that made them.",
    clear_errors,
)

forward_command(
    app,
    "count",
    "plugins.attribution.cli_model:count_command",
    "Count codes into tables that can be merged; the discretisers travel with them.",
    clear_errors,
)

forward_command(
    app,
    "gate",
    "plugins.attribution.cli_model:gate_command",
    "Exit code 1, and one line, when a stream says less than its threshold with confidence.",
    clear_errors,
)

forward_command(
    app,
    "scale",
    "plugins.attribution.cli_scale:scale_command",
    "Capture and count over a sharded data set, in one process or on Ray Data; resumable.",
    clear_errors,
)

forward_command(
    app,
    "train",
    "plugins.attribution.train:train_command",
    "Train the embedded model on generated data, or go on with it.",
    clear_errors,
)

forward_command(
    app,
    "evaluate",
    "plugins.attribution.evaluate:evaluate_command",
    "Planted atoms against measured ones, by depth, on data that no training saw.",
    clear_errors,
)

forward_command(
    app,
    "bench-capture",
    "plugins.attribution.benchmark_capture:capture_bench_command",
    "Time reading a model's layers beside plain forward passes; exit code 1 when it adds a tenth or more.",
    clear_errors,
)
