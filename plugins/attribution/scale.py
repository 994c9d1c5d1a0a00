"""Capture and count over a sharded data set: the shards' tables are merged, and a run that was cut goes on.

A shard is one parquet file. Its table is written, under a name made of its contents and of the discretisers, before the
next one begins; what is there already is not done again, so nothing is counted twice and nothing is lost. Joint counts
are whole numbers, so their sum does not depend on the order or on who counted what.
"""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .capture_files import identities, save_tables
from .errors import AttributionInputError
from .model_attribution import Layers
from .pinned import LayerTables, PinnedDiscretisers

SHARDS_FOLDER = "shards"
CHUNK = 2**20

Tell = Callable[[float, str], None]


@dataclass(frozen=True)
class Job:
    """What every worker needs.

    Attributes:
        model: folder or Hub id. options: answers to choose between. revision: on the Hub.
        pinned: folder of the discretisers.
        layers: which to count. batch_size: examples a forward pass; the same for all, as its shape decides the last
            digits of the features.
        to: folder of the run.
    """

    model: str
    pinned: Path
    to: Path
    layers: Layers = "all"
    options: tuple[str, ...] | None = None
    revision: str | None = None
    batch_size: int = 16
    device: str = "cpu"


@dataclass(frozen=True)
class Done:
    """A run's outcome.

    Attributes:
        tables: of all shards. examples: counted. skipped: of all shards.
        shards: how many there are. counted: how many of them this run did; the rest were there.
        seconds: of this run.
    """

    tables: LayerTables
    examples: int
    skipped: int
    shards: int
    counted: int
    seconds: float


class ShardCounter:
    """Counts one shard after another; the model is loaded once. A worker of Ray Data, or of this process."""

    def __init__(self, job: Job) -> None:
        from .pipeline import PIDAttributionPipeline

        self.job = job
        self.pinned = PinnedDiscretisers.load(job.pinned)
        self.pipeline = PIDAttributionPipeline.from_pretrained(
            job.model, options=job.options, revision=job.revision, device=job.device
        )

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        """Count the shard `row["shard"]` into `row["table"]`; how many examples were read and skipped."""
        from .model_attribution import count

        read = self.pipeline.read(
            row["shard"], layers=self.job.layers, readouts=self.pinned.has_readouts, batch_size=self.job.batch_size
        )
        tables = count(read, self.pinned, self.job.layers)
        table = Path(row["table"])
        record = {"examples": len(read.captured.decision), "skipped": len(read.captured.skipped)}
        _write(table.with_suffix(".json"), json.dumps(record))
        tables.save(table)  # last: a shard counts as done when its table is there
        return {**row, **record}


def shards_of(data: str | Path) -> tuple[Path, ...]:
    """The parquet files of a folder, or the one file, in order of their names."""
    data = Path(data)
    found = sorted(data.glob("*.parquet")) if data.is_dir() else [data] if data.suffix == ".parquet" else []
    files = tuple(path for path in found if path.is_file())
    if not files:
        raise AttributionInputError(f"{data.name} holds no shards: give a folder of .parquet files, or one of them")
    return files


def run_here(job: Job, shards: Sequence[Path], *, tell: Tell = lambda fraction, message: None) -> Done:
    """Count in this process."""

    def each(rows: list[dict[str, Any]]) -> Iterable[dict[str, Any]]:
        counter = ShardCounter(job) if rows else None
        for place, row in enumerate(rows):
            tell(place / len(rows), f"shard {place + 1} of {len(rows)}")
            if counter is not None:
                yield counter(row)

    return _run(job, shards, each)


def run_on_ray(job: Job, shards: Sequence[Path], *, workers: int, address: str | None = None) -> Done:
    """Count on Ray Data, one actor with the model for each worker.

    Args:
        workers: actors. address: of a cluster; None starts Ray on this machine.

    Raises:
        AttributionInputError: Ray is not installed.
    """
    try:
        import ray
    except ImportError as error:
        raise AttributionInputError(
            "Ray is not installed: pip install -r requirements-scale.txt, or count in one process with --workers 0"
        ) from error
    logging.getLogger("ray.data").setLevel(logging.WARNING)

    def count_rows(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        started = bool(rows) and not ray.is_initialized()
        if started:
            cores = None if address else workers
            ray.init(address=address, num_cpus=cores, include_dashboard=False, log_to_driver=False)
        try:
            return _on_ray(ray, job, rows, workers) if rows else []
        finally:
            if started:
                ray.shutdown()

    return _run(job, shards, count_rows)


def _on_ray(ray: Any, job: Job, rows: list[dict[str, Any]], workers: int) -> list[dict[str, Any]]:
    ray.data.DataContext.get_current().enable_progress_bars = False
    data = ray.data.from_items(rows, override_num_blocks=len(rows))
    counted = data.map(
        ShardCounter,
        fn_constructor_args=(job,),
        compute=ray.data.ActorPoolStrategy(size=min(workers, len(rows))),
        num_cpus=1,
        num_gpus=1 if job.device.startswith("cuda") else 0,
    )
    return counted.take_all()


def _run(
    job: Job, shards: Sequence[Path], count_rows: Callable[[list[dict[str, Any]]], Iterable[dict[str, Any]]]
) -> Done:
    """What is missing is counted; then everything is merged."""
    began = time.perf_counter()
    pinned = PinnedDiscretisers.load(job.pinned)
    folder = job.to / SHARDS_FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    tables = {folder / f"{identity_of(shard, pinned, job)}.safetensors": shard for shard in shards}
    if len(tables) < len(shards):
        raise AttributionInputError("two shards hold the same data, which would be counted twice: leave one out")
    missing = [{"shard": str(shard), "table": str(table)} for table, shard in tables.items() if not table.is_file()]
    counted = list(count_rows(missing))
    merged: LayerTables | None = None
    examples = skipped = 0
    for table in tables:
        loaded = LayerTables.load(table)
        merged = loaded if merged is None else merged.merge(loaded)
        record = json.loads(table.with_suffix(".json").read_text("utf-8"))
        examples, skipped = examples + int(record["examples"]), skipped + int(record["skipped"])
    assert merged is not None
    save_tables(job.to, merged, pinned)
    return Done(merged, examples, skipped, len(tables), len(counted), time.perf_counter() - began)


def identity_of(shard: Path, pinned: PinnedDiscretisers, job: Job) -> str:
    """Of a shard's table: its bytes, the discretisers, and what is counted."""
    digest = hashlib.sha256()
    what = [sorted(identities(pinned).items()), job.layers, job.options, job.batch_size]
    digest.update(json.dumps(what).encode())
    with shard.open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()[:32]


def _write(path: Path, text: str) -> None:
    partial = path.with_name(f"{path.name}.partial")
    partial.write_text(text, "utf-8")
    partial.replace(path)
