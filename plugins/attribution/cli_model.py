"""Commands about models: capture, count, gate. Each is imported when it runs."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from .cli_parts import advance, check_folders, clear_progress, split, write

Layers = Annotated[str, typer.Option(help='"all", "none", or names separated by commas.')]


def capture_command(
    model: Annotated[str, typer.Argument(help="Folder or Hub id of a model.")],
    data: Annotated[str, typer.Argument(help="Folder with metadata.csv, or parquet: image, text, label.")],
    to: Annotated[Path, typer.Option(help="New or empty folder for codes and discretisers.")],
    target: Annotated[str, typer.Option(help="decision (what the model says) or label.")] = "decision",
    layers: Layers = "all",
    readouts: Annotated[bool, typer.Option("--readouts", help="Also what it would decide at each layer.")] = False,
    options: Annotated[str | None, typer.Option(help="Answers to choose between, separated by commas.")] = None,
    pinned: Annotated[
        Path | None, typer.Option(help="Discretisers of an earlier capture; new ones are fitted if left out.")
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Examples a forward pass.")] = 16,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    revision: Annotated[str | None, typer.Option(help="Branch, tag or commit on the Hub.")] = None,
    seed: Annotated[int, typer.Option(help="Of folds and clusters.")] = 0,
) -> None:
    """Run a model on data, pool its layers, and write codes with the discretisers that made them."""
    from .capture_files import Capture, check_new
    from .model_attribution import fit_questions, same_questions
    from .pinned import PinnedDiscretisers
    from .pipeline import PIDAttributionPipeline

    check_new(to)  # before the model runs, not after
    known = None if pinned is None else PinnedDiscretisers.load(pinned)
    pipe = PIDAttributionPipeline.from_pretrained(model, device=device, revision=revision, options=split(options))
    wanted = parsed_layers(layers)
    readouts = readouts or (known is not None and known.has_readouts)
    read = pipe.read(data, layers=wanted, readouts=readouts, batch_size=batch_size, callback=advance)
    codes = {}
    if known is None:
        known = PinnedDiscretisers.empty(read, target)
        fit = partial(pipe.fit, seed=seed)
        for question, fitted, _ in fit_questions(read, fit, target=target, layers=wanted, tell=advance):
            known, codes[question.name] = known.adding(question, fitted.discretiser), fitted.codes
    else:
        for name, streams in same_questions(read, known, wanted):
            codes[name] = known.of(name).codes(streams)
    clear_progress()
    Capture(codes, known, read.record(known.target, 0.0)).save(to)
    _tell_capture(read, len(codes), to)


def count_command(
    captures: Annotated[list[Path], typer.Argument(help="Folders that `capture` wrote with the same discretisers.")],
    to: Annotated[Path, typer.Option(help="Folder for the tables.")],
) -> None:
    """Count codes into tables that can be merged; the discretisers travel with them."""
    from .capture_files import Capture, merged, save_tables

    tables, pinned = merged(Capture.load(folder) for folder in captures)
    save_tables(to, tables, pinned)
    total = tables.counts["decision"].total
    typer.echo(f"{total:,.0f} examples, {len(tables.counts)} tables in {to}")


def gate_command(
    tables: Annotated[Path, typer.Argument(help="Folder that `count` or `scale` wrote, or a report as JSON.")],
    stream: Annotated[str, typer.Option(help="Such as image or text.")],
    threshold: Annotated[float | None, typer.Option(help="Bits that the stream must hold.")] = None,
    measure: Annotated[str, typer.Option(help="lost (without the stream), unique or alone.")] = "lost",
    baseline: Annotated[Path | None, typer.Option(help="An earlier report (JSON) in the threshold's place.")] = None,
    delta: Annotated[float, typer.Option(help="Bits that may be lost against the baseline.")] = 0.1,
    confidence: Annotated[float, typer.Option(help="Of the interval that has to lie below.")] = 0.9,
    strict: Annotated[bool, typer.Option("--strict", help="Inconclusive is exit code 1 too.")] = False,
    json: Annotated[Path | None, typer.Option("--json", help="Write the report as JSON, for a later baseline.")] = None,
) -> None:
    """Exit code 1, and one line, when a stream says less than its threshold with confidence."""
    from .gate import gate
    from .report import AttributionReport

    check_folders(json)
    report = report_of(tables, confidence=confidence, decision_only=True)
    before = None if baseline is None else AttributionReport.load(baseline)
    found = gate(report, stream, threshold=threshold, measure=measure, baseline=before, delta=delta)  # ty: ignore[invalid-argument-type]
    if json is not None:
        write(json, report.to_json() + "\n")
    typer.echo(found.line)
    failed = found.outcome == "fail" or (strict and found.outcome == "inconclusive")
    raise typer.Exit(1 if failed else 0)


def report_of(
    path: Path, *, confidence: float = 0.9, threshold: float = 0.03, decision_only: bool = False, **arguments: Any
) -> Any:
    """A report from a folder of tables, or one that was written as JSON."""
    from .capture_files import load_tables
    from .pinned import LayerTables
    from .pipeline import PIDAttributionPipeline
    from .report import AttributionReport

    if path.suffix == ".json":
        return AttributionReport.load(path)
    tables, pinned = load_tables(path)
    if decision_only:
        tables = LayerTables({"decision": tables.counts["decision"]})
    pipe = PIDAttributionPipeline(confidence=confidence, threshold=threshold)
    report = pipe.explain_tables(tables, pinned, callback=advance, **arguments)
    clear_progress()
    return report


def parsed_layers(text: str) -> Any:
    """The option as a pipeline takes it."""
    return text if text in ("all", "none") else split(text)


def _tell_capture(read: Any, tables: int, to: Path) -> None:
    """What was captured and skipped, and what the hooks cost."""
    record = read.record("", 0.0)
    share = f"{100 * record.capture_overhead:.1f} % of the {record.seconds_in_model:.2f} s in the model"
    typer.echo(
        f"{record.examples:,} examples, {len(record.skipped):,} skipped, {tables} tables' codes in {to}; "
        f"reading the layers took {share}"
    )
    for name, reason in record.skipped[:20]:
        typer.echo(f"skipped {name}: {reason}", err=True)
