"""The command that counts a sharded data set, in one process or on Ray Data."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Annotated, Any

import typer

from .cli_model import Layers, parsed_layers
from .cli_parts import JsonFile, advance, check_folders, clear_progress, split, write


def scale_command(
    model: Annotated[str, typer.Argument(help="Folder or Hub id of a model.")],
    data: Annotated[Path, typer.Argument(help="Folder of parquet files: image, text, label.")],
    to: Annotated[Path, typer.Option(help="Folder of the run; the same one goes on where it was.")],
    pinned: Annotated[
        Path | None, typer.Option(help="Discretisers; if left out, they are fitted on the first shard and kept.")
    ] = None,
    workers: Annotated[int, typer.Option(min=0, help="Actors of Ray Data; 0 counts in this process.")] = 2,
    address: Annotated[str | None, typer.Option(help="Of a Ray cluster; this machine if left out.")] = None,
    target: Annotated[str, typer.Option(help="decision or label, where discretisers are fitted.")] = "decision",
    layers: Layers = "none",
    options: Annotated[str | None, typer.Option(help="Answers to choose between, separated by commas.")] = None,
    batch_size: Annotated[
        int, typer.Option(min=1, help="Examples a forward pass. 1: the same to the bit however rows are sharded.")
    ] = 16,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    revision: Annotated[str | None, typer.Option(help="Branch, tag or commit on the Hub.")] = None,
    compare: Annotated[
        bool, typer.Option("--compare", help="Count in one process too, and report both throughputs.")
    ] = False,
    json: JsonFile = None,
) -> None:
    """Capture and count over a sharded data set; resumable, and equal to one process."""
    from .scale import Job, run_here, run_on_ray, shards_of

    check_folders(json)
    shards = shards_of(data)
    wanted = parsed_layers(layers)
    known = pinned or _fitted(model, shards[0], to, target, wanted, split(options), revision, batch_size, device)
    job = Job(
        model=model,
        pinned=known,
        to=to,
        layers=wanted,
        options=None if options is None else tuple(split(options) or ()),
        revision=revision,
        batch_size=batch_size,
        device=device,
    )
    done = run_on_ray(job, shards, workers=workers, address=address) if workers else run_here(job, shards, tell=advance)
    clear_progress()
    figures = _figures(done, workers, device)
    typer.echo(
        f"{done.examples:,} examples in {done.shards} shards, {done.counted} of them counted now, {done.skipped:,} "
        f"examples skipped; {figures['examples_per_second']:.1f} examples a second, start-up included"
    )
    if compare:
        figures |= _compare(job, shards, done)
    if json is not None:
        from core.jsonfile import to_text

        write(json, to_text(figures))


def _fitted(
    model: str,
    shard: Path,
    to: Path,
    target: str,
    layers: Any,
    options: list[str] | None,
    revision: str | None,
    batch_size: int,
    device: str,
) -> Path:
    """Discretisers of the first shard, kept in the run's folder so that the same run goes on with them."""
    from .pinned import PINNED_FILE
    from .pipeline import PIDAttributionPipeline

    folder = to / "fitted"
    if not (folder / PINNED_FILE).is_file():
        pipe = PIDAttributionPipeline.from_pretrained(model, device=device, revision=revision, options=options)
        pipe.fit_model(shard, target=target, layers=layers, batch_size=batch_size, callback=advance).save(folder)
        clear_progress()
    return folder


def _compare(job: Any, shards: Any, done: Any) -> dict[str, Any]:
    """The same in one process, into a folder that is removed again."""
    from dataclasses import replace

    import numpy as np

    from .scale import run_here

    other = job.to / "one-process"
    shutil.rmtree(other, ignore_errors=True)
    alone = run_here(replace(job, to=other), shards, tell=advance)
    clear_progress()
    shutil.rmtree(other)
    equal = all(
        np.array_equal(each.table, done.tables.counts[name].table) for name, each in alone.tables.counts.items()
    )
    one = alone.examples / alone.seconds
    typer.echo(f"one process: {one:.1f} examples a second; its counts are {'equal' if equal else 'NOT equal'}")
    if not equal:
        raise typer.Exit(1)
    return {"one_process_examples_per_second": one, "equal": equal}


def _figures(done: Any, workers: int, device: str) -> dict[str, Any]:
    from datetime import date

    from core.devices import describe_device
    from core.runs import collect_versions

    counted_share = done.counted / done.shards
    return {
        "date": date.today().isoformat(),
        "device": describe_device(device).label,
        "versions": collect_versions(),
        "examples": done.examples,
        "skipped": done.skipped,
        "shards": done.shards,
        "counted": done.counted,
        "workers": workers,
        "seconds": done.seconds,
        "examples_per_second": done.examples * counted_share / done.seconds,
    }
