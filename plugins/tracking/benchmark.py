"""Milliseconds per frame of our session beside trackers of transformers, and its memory over a long video."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from statistics import fmean, median
from typing import Annotated, Any

import numpy as np
import psutil
import torch
import typer

from core.devices import describe_device
from core.jsonfile import write_json
from core.runs import collect_versions

from .benchmark_peers import Box, Peer, edgetam_video, sam2_video
from .errors import TrackingError
from .evaluate_report import number, table
from .results import Task
from .scenes import EVALUATION_SEEDS, Scene, generate_scene

CHECKPOINT = "hub_cards/sata-tiny"
SENSORS = ("rgb", "thermal")
WARM_FRAMES = 8  # until then memories fill up, and a frame costs less
SETTLED = 50  # the frame after which memory has to be flat
MOST_GROWTH = 16 * 2**20  # bytes of the process; what allocators and the interpreter play with
LEAST_RATE = 12.0  # frames a second
MOST_TRIES = 500

Start = Callable[[Task], Any]
Stream = Callable[..., Iterator[Any]]
Tell = Callable[[str], None]


def run_benchmark(
    start: Start,
    parameters: int,
    peers: Sequence[Peer] = (),
    *,
    stream: Stream | None = None,
    frames: int = 32,
    rounds: int = 5,
    memory_frames: int = 1000,
    size: tuple[int, int] = (128, 128),
    objects: int = 3,
    tell: Tell = lambda _: None,
) -> dict[str, Any]:
    """Time ours and the peers on the same frames, in turns, and watch our memory over a long video.

    Args:
        start: a new session for a task. stream: of the pipeline; None leaves it out. parameters: of the model.
        frames: of the clip, the first `WARM_FRAMES` of which are not counted. rounds: how often each one tracks it.
        memory_frames: length of the long video; 0 for none.

    Returns:
        A JSON-able report: machine, rows, memory, bars.
    """
    if frames <= WARM_FRAMES or rounds < 1:
        raise TrackingError(f"{frames} frames in {rounds} rounds: give over {WARM_FRAMES} frames and 1 round or more")
    scene, boxes = crowded_scene(objects, frames, size)
    tasks: tuple[Task, ...] = ("vos", "mots")
    ways = [our_way(start, task, parameters, scene) for task in tasks]
    ways += [streamed_way(stream, task, parameters, scene) for task in tasks if stream is not None]
    ways += peers
    seconds: list[list[float]] = [[] for _ in ways]
    for round_ in range(rounds):
        for way, own in zip(ways, seconds, strict=True):
            tell(f"round {round_ + 1} of {rounds}: {way.name}")
            own.append(fmean(way.run(scene.frames["rgb"], boxes)[WARM_FRAMES:]))
    rows = [_row(way, own, seconds[0]) for way, own in zip(ways, seconds, strict=True)]
    memory = long_video(start, scene, boxes, memory_frames, tell) if memory_frames else None
    return {
        "machine": machine(),
        "versions": collect_versions(),
        "seed": scene.seed,
        "size": list(size),
        "objects": len(boxes),
        "frames": frames,
        "rounds": rounds,
        "rows": rows,
        "memory": memory,
        "bars": list(_bars(rows, memory)),
    }


def crowded_scene(objects: int, frames: int, size: tuple[int, int]) -> tuple[Scene, list[Box]]:
    """The first held-out scene in which that many objects can be pointed out in the first frame, and their boxes."""
    for seed in range(EVALUATION_SEEDS, EVALUATION_SEEDS + MOST_TRIES):
        scene = generate_scene(seed, frames=frames, size=size, objects=objects)
        if [*scene.first_prompt.values()] == [0] * objects:
            return scene, [scene.boxes[0][id] for id in sorted(scene.first_prompt)]
    raise TrackingError(f"no scene of {objects} objects shows them all at once at {size}: give fewer, or more pixels")


def our_way(start: Start, task: Task, parameters: int, scene: Scene) -> Peer:
    """Our session as something to time: all of `SENSORS`, from frames as bytes to `FrameInstances`."""

    def run(frames: np.ndarray, boxes: Sequence[Box]) -> list[float]:
        return [taken for taken, _ in followed(start(task), task, scene, boxes, range(len(frames)))]

    prompted = "boxes in the first frame" if task == "vos" else "nothing prompted"
    return Peer(f"SataSession, {task}", prompted, parameters, SENSORS, run)


def streamed_way(stream: Stream, task: Task, parameters: int, scene: Scene) -> Peer:
    """The same frames as a whole video, where the pipeline looks ahead."""

    def run(frames: np.ndarray, boxes: Sequence[Box]) -> list[float]:
        prompts = [{"id": id, "frame": 0, "box": tuple(box)} for id, box in enumerate(boxes, 1)]
        video = {name: scene.frames[name][: len(frames)] for name in SENSORS}
        ended = [time.perf_counter()]
        for _ in stream(video, task=task, prompts=prompts if task == "vos" else None):
            ended.append(time.perf_counter())
        return [after - before for before, after in pairwise(ended)]

    prompted = "boxes in the first frame" if task == "vos" else "nothing prompted"
    return Peer(f"SataPipeline, {task}", f"{prompted}, a whole video", parameters, SENSORS, run)


def followed(
    session: Any, task: Task, scene: Scene, boxes: Sequence[Box], order: Sequence[int]
) -> Iterator[tuple[float, Any]]:
    """Step through a scene's frames in that order: seconds of each step, and the session after it."""
    for place, frame in enumerate(order):
        shown = {name: scene.frames[name][frame] for name in SENSORS}
        began = time.perf_counter()
        if place == 0 and task == "vos":
            for id, box in enumerate(boxes, 1):
                session.add_prompt(id, box=tuple(box))
        session.step(shown)
        yield time.perf_counter() - began, session


def long_video(start: Start, scene: Scene, boxes: Sequence[Box], length: int, tell: Tell) -> dict[str, Any]:
    """Memory of the process and of the session's own tensors over a video that goes to and fro through the scene.

    The process is judged by medians over fifty frames, as its allocator goes up and down by some MiB from one to the
    next.
    """
    if length < 2 * SETTLED:
        raise TrackingError(f"the long video has {length} frames: give {2 * SETTLED} or more, or 0 for none")
    process = psutil.Process()
    order = to_and_fro(len(scene), length)
    resident, held, seconds = [], [], []
    for taken, session in followed(start("vos"), "vos", scene, boxes, order):
        seconds.append(taken)
        resident.append(process.memory_info().rss)
        held.append(held_bytes(session))
        if len(seconds) % 50 == 0:
            tell(f"long video: frame {len(seconds)} of {length}")
    return {
        "frames": length,
        "settled_at": SETTLED,
        "resident_bytes": [resident[place] for place in _samples(length)],
        "session_bytes": [held[place] for place in _samples(length)],
        "sampled_frames": [place + 1 for place in _samples(length)],
        "resident_growth": median(resident[-SETTLED:]) - median(resident[SETTLED : 2 * SETTLED]),
        "resident_peak_growth": max(resident[SETTLED:]) - resident[SETTLED - 1],
        "session_growth": max(held[SETTLED:]) - max(held[:SETTLED]),
        "first_ms": 1000 * median(seconds[WARM_FRAMES:SETTLED]),
        "last_ms": 1000 * median(seconds[-SETTLED:]),
    }


def to_and_fro(frames: int, length: int) -> list[int]:
    """`length` frames of a clip, forth and back, each one step from the one before."""
    there = list(range(frames))
    cycle = there + there[-2:0:-1]
    return [cycle[place % len(cycle)] for place in range(length)]


def _samples(length: int) -> list[int]:
    """Places of which the report keeps the figures: every fiftieth frame, and the last."""
    return sorted({*range(SETTLED - 1, length, SETTLED), length - 1})


def held_bytes(value: Any) -> int:
    """Bytes of all tensors and arrays that a session holds; those of its model do not count."""
    if isinstance(value, torch.Tensor | np.ndarray):
        return int(value.nbytes)
    if isinstance(value, Mapping):
        return sum(map(held_bytes, value.values()))
    if isinstance(value, list | tuple):
        return sum(map(held_bytes, value))
    if is_dataclass(value) and not isinstance(value, type):
        return sum(held_bytes(getattr(value, each.name, None)) for each in fields(value))
    return 0


def _row(way: Peer, seconds: list[float], ours: list[float]) -> dict[str, Any]:
    """Median and extremes over the rounds; ratios are taken round by round."""
    ratios = [own / base for own, base in zip(seconds, ours, strict=True)]
    return {
        "name": way.name,
        "config": way.config,
        "sensors": list(way.sensors),
        "parameters": way.parameters,
        "ms": 1000 * median(seconds),
        "ms_low": 1000 * min(seconds),
        "ms_high": 1000 * max(seconds),
        "frames_per_second": 1 / median(seconds),
        "ratio": median(ratios),
        "ratio_low": min(ratios),
        "ratio_high": max(ratios),
        "rounds_ms": [1000 * value for value in seconds],
    }


def _bars(rows: Sequence[dict[str, Any]], memory: dict[str, Any] | None) -> Iterator[dict[str, Any]]:
    for row in rows:
        if row["name"].startswith("Sata"):
            rate = row["frames_per_second"]
            yield _bar(f"{row['name']}: frames a second", rate, LEAST_RATE, rate >= LEAST_RATE, "least")
    if memory is not None:
        growth, own = memory["resident_growth"], memory["session_growth"]
        met = growth <= MOST_GROWTH
        yield _bar(f"bytes the process grew by after frame {SETTLED}", growth, MOST_GROWTH, met, "most")
        yield _bar(f"bytes the session grew by after frame {SETTLED}", own, 0, own <= 0, "most")


def _bar(text: str, value: float, bar: float, met: bool, side: str) -> dict[str, Any]:
    return {"text": text, "value": value, "side": side, "bar": bar, "met": met}


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    return {
        "cpu": describe_device("cpu").label,
        "threads": torch.get_num_threads(),
        "load": [round(load, 2) for load in os.getloadavg()] if hasattr(os, "getloadavg") else None,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def as_markdown(report: Mapping[str, Any]) -> str:
    """The tables of a report of `run_benchmark`."""
    where, (height, width) = report["machine"], report["size"]
    lines = [
        f"{where['date']}, {where['cpu']}, {where['threads']} threads, load {where['load']}: {width} x {height}, "
        f"{report['objects']} objects, {report['frames'] - WARM_FRAMES} frames timed in each of {report['rounds']} "
        "rounds, taken in turns; the peers have random weights",
        "",
    ]
    head = (
        "tracker",
        "what",
        "sensors",
        "M parameters",
        "ms per frame",
        "over the rounds",
        "× ours",
        "over the rounds",
    )
    lines += table(head, [_cells(row) for row in report["rows"]], texts=3)
    if report["memory"] is not None:
        lines += ["", *_memory_table(report["memory"])]
    met = {True: "yes", False: "no"}
    bars = [
        [row["text"], number(row["value"]), f"at {row['side']} {row['bar']:g}", met[row["met"]]]
        for row in report["bars"]
    ]
    return "\n".join([*lines, "", *table(("what", "value", "bar", "met"), bars)])


def _cells(row: Mapping[str, Any]) -> list[str]:
    return [
        row["name"],
        row["config"],
        " + ".join(row["sensors"]),
        f"{row['parameters'] / 1e6:.1f}",
        f"{row['ms']:.1f}",
        f"{row['ms_low']:.1f} to {row['ms_high']:.1f}",
        f"{row['ratio']:.2f}",
        f"{row['ratio_low']:.2f} to {row['ratio_high']:.2f}",
    ]


def _memory_table(memory: Mapping[str, Any]) -> list[str]:
    head = ("long video", "process, MiB", "session, KiB")
    samples = zip(memory["sampled_frames"], memory["resident_bytes"], memory["session_bytes"], strict=True)
    kept = [row for row in samples if row[0] in (SETTLED, memory["frames"]) or row[0] % 250 == 0]
    lines = table(head, [[f"frame {at}", f"{own / 2**20:.1f}", f"{held / 2**10:.1f}"] for at, own, held in kept])
    early, late = memory["first_ms"], memory["last_ms"]
    return [
        *lines,
        "",
        f"Its frames took {early:.1f} ms before frame {SETTLED} and {late:.1f} ms at the end (medians).",
    ]


def bench_command(
    checkpoint: Annotated[str, typer.Option(help="Folder or Hub id.")] = CHECKPOINT,
    frames: Annotated[int, typer.Option(help="Of the clip; the first few are not counted.")] = 32,
    rounds: Annotated[int, typer.Option(min=1, help="How often each tracker tracks it.")] = 5,
    memory_frames: Annotated[int, typer.Option(min=0, help="Length of the long video; 0: none.")] = 1000,
    peers: Annotated[bool, typer.Option(help="Time transformers' SAM 2 and EdgeTAM too.")] = True,
    peer_side: Annotated[int, typer.Option(help="At which the peers look at frames; theirs is 1024.")] = 128,
    threads: Annotated[int, typer.Option(min=0, help="Torch threads; 0: torch's choice.")] = 0,
    json: Annotated[Path | None, typer.Option("--json", help="Write the figures here too.")] = None,
) -> None:
    """Time per frame beside SAM 2 and EdgeTAM, and memory over a long video; exit code 1 when a bar is missed."""
    from .pipeline_sata import SataPipeline

    if json is not None and (json.is_dir() or not json.resolve().parent.is_dir()):
        raise TrackingError(f"{json} cannot be written: name a file in a folder that exists")
    if threads:
        torch.set_num_threads(threads)
    pipe = SataPipeline.from_pretrained(checkpoint)
    count = sum(value.numel() for value in pipe.model.parameters())
    others = [sam2_video(peer_side), edgetam_video(peer_side)] if peers else []
    report: dict[str, Any] = {"checkpoint": checkpoint}
    report |= run_benchmark(
        lambda task: pipe.start_session(task=task),
        count,
        others,
        stream=pipe.stream,
        frames=frames,
        rounds=rounds,
        memory_frames=memory_frames,
        tell=_progress,
    )
    _progress("")
    typer.echo(as_markdown(report))
    if json is not None:
        write_json(json, report)
    raise typer.Exit(0 if all(bar["met"] for bar in report["bars"]) else 1)


def _progress(text: str) -> None:
    if sys.stderr.isatty():
        typer.echo(f"\r\033[K{text}", nl=False, err=True)
