"""Command line: explain a file, test against known truth, time the solver."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
import time
from collections.abc import Generator
from pathlib import Path
from typing import Annotated, Any

import typer

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False)

JsonFile = Annotated[Path | None, typer.Option("--json", help="Write the figures as JSON.")]
Seeds = Annotated[str, typer.Option(help="Seeds A to B - 1 of what is generated, as A:B.")]


@app.command()
def explain(
    file: Annotated[Path, typer.Argument(help="npz, parquet or csv: two streams and a target.")],
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
    run: Annotated[Path | None, typer.Option(help="Write run.json, with which the run can be repeated.")] = None,
) -> None:
    """What each of two streams says about a target: alone, in common and only together."""
    with _clear_errors():
        _check_folders(json, markdown, csv, run)
        settings = {"quantiser": quantiser, "bins": bins, "confidence": confidence, "threshold": threshold}
        columns = {"stream_1": _split(stream_1), "stream_2": _split(stream_2), "target": target}
        report, record = _explain(file, columns, settings, _costs(cost), seed)
        for path, text in (
            (json, lambda: report.to_json() + "\n"),
            (markdown, lambda: report.to_markdown() + "\n"),
            (csv, lambda: report.to_frame().to_csv(index=False)),
            (run, record.to_json),
        ):
            if path is not None:
                _write(path, text())
    typer.echo(report.to_markdown())


@app.command()
def selftest(
    json: JsonFile = None,
    seeds: Seeds = "0:1",
    draws: Annotated[int, typer.Option(min=2, help="Samples per table in the coverage check.")] = 100,
    full: Annotated[bool, typer.Option("--full", help="2,000 tables in the stress, ten shuffled data sets.")] = False,
) -> None:
    """Known truth against what this computes; exit code 1 when a bar is missed."""
    with _clear_errors():
        _check_folders(json)
        from .selftest import run_checks

        checks = []
        for check in run_checks(_seeds(seeds), draws=draws, full=full, tell=_progress):
            typer.echo(check.to_markdown())
            checks.append(check.to_dict())
        if json is not None:
            from core.jsonfile import to_text

            from .benchmark import machine

            record = {"machine": machine("cpu"), "seeds": seeds, "draws": draws, "full": full, "checks": checks}
            _write(json, to_text(record))
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
    with _clear_errors():
        _check_folders(json)
        from core.devices import resolve_device

        from .benchmark import run_benchmark, to_markdown

        report = run_benchmark(_seeds(seeds), repeats=repeats, device=str(resolve_device(device)), tell=_progress)
        typer.echo(to_markdown(report))
        if json is not None:
            from core.jsonfile import to_text

            _write(json, to_text(report))
    raise typer.Exit(1 if report["failures"] else 0)


def _explain(
    file: Path, columns: dict[str, Any], settings: dict[str, Any], costs: dict[str, float] | None, seed: int
) -> tuple[Any, Any]:
    """The report and the run record."""
    from core.runs import build_run_record, peak_memory

    from .inputs import read_streams
    from .pipeline import PIDAttributionPipeline

    started = time.time()
    pipeline = PIDAttributionPipeline(**settings)
    report = pipeline(read_streams(file, **columns), costs=costs, seed=seed, callback=_advance)
    command = (
        "from plugins.attribution.inputs import read_streams\n"
        "from plugins.attribution import PIDAttributionPipeline\n"
        f"streams = read_streams({str(file)!r}, **{columns!r})\n"
        f"report = PIDAttributionPipeline(**{settings!r})(streams, costs={costs!r}, seed={seed})\n"
    )
    run = {**report.run, "peak_memory_bytes": peak_memory()}
    run["params"] = {**run["params"], "file": file.name, "sha256": _digest(file), "columns": columns}
    return report, build_run_record("attribution", run, command=command, started=started)


def _digest(file: Path) -> str:
    import hashlib

    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


@contextlib.contextmanager
def _clear_errors() -> Generator[None]:
    """What the user can put right is one line on stderr and exit code 2."""
    from core.errors import QuartetError

    from .errors import AttributionInputError

    try:
        yield
    except (AttributionInputError, QuartetError, OSError) as error:
        _clear_progress()
        typer.echo(f"error: {' '.join(str(error).split())}", err=True)
        raise typer.Exit(2) from None


def _split(columns: str | None) -> list[str] | None:
    return None if columns is None else [name.strip() for name in columns.split(",") if name.strip()]


def _costs(pairs: list[str] | None) -> dict[str, float] | None:
    from .errors import AttributionInputError

    costs = {}
    for pair in pairs or []:
        name, separator, dollars = pair.rpartition("=")
        try:
            if not separator or not name:
                raise ValueError("no name")
            costs[name] = float(dollars)
        except ValueError as error:
            message = f"the cost {pair!r} cannot be read: write name=dollars, such as thermal=40"
            raise AttributionInputError(message) from error
    return costs or None


def _seeds(text: str) -> range:
    from .errors import AttributionInputError

    first, separator, last = text.partition(":")
    if not (separator and first.isdecimal() and last.isdecimal() and int(first) < int(last)):
        raise AttributionInputError(f"seeds are {text!r}: write A:B with A < B, such as 0:3 for seeds 0, 1 and 2")
    return range(int(first), int(last))


def _check_folders(*paths: Path | None) -> None:
    """Before any work: every file that is asked for can be written."""
    from .errors import AttributionInputError

    for path in paths:
        if path is not None and (path.is_dir() or not path.resolve().parent.is_dir()):
            raise AttributionInputError(f"{path} cannot be written: name a file in a folder that exists")


def _write(path: Path, text: str) -> None:
    """The whole file or, after a crash, the old one."""
    handle, name = tempfile.mkstemp(dir=path.resolve().parent, prefix=f".{path.name}-")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _progress(text: str) -> None:
    if sys.stderr.isatty():
        typer.echo(f"\r\033[K{text}", nl=False, err=True)


def _clear_progress() -> None:
    _progress("")


def _advance(fraction: float, message: str) -> None:
    _progress("" if fraction >= 1.0 else f"{fraction:4.0%} {message}")


if __name__ == "__main__":
    app(prog_name="python -m plugins.attribution")
