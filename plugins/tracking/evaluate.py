"""Evaluation on generated scenes that training cannot have seen: every task, sensor set and condition."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Annotated, Any

import typer

from core.jsonfile import write_json
from core.runs import collect_versions
from core.seeds import seed_range

from .baseline import Associate, byte_trackers
from .conditions import SUITES, TRAINING_SEEDS, conditions_of, sensors_of
from .errors import TrackingError
from .evaluate_report import as_markdown
from .evaluate_run import Case, Clips, Outcome, Start, Tell, run_cases, utilisation
from .evaluate_suite import bars, findings, mixed_rows, rows_of, suite_cases
from .scenes import EVALUATION_SEEDS

CHECKPOINT = "hub_cards/sata-tiny"
SEEDS = f"{EVALUATION_SEEDS}:{EVALUATION_SEEDS + 20}"
PACKAGES = ("torch", "transformers", "numpy", "scipy", "supervision", "trackers")
PROMPTS = (
    "each prompted object is drawn as it is in its first frame with 60 % or more of it visible, by its mask (VOS) or "
    "its box (SOT, the lowest id); that frame and those before do not count"
)


def held_out_seeds(text: str) -> range:
    """A:B as the seeds A to B - 1; TrackingError for what `seed_range` refuses, training's seeds among it."""
    return seed_range(text, TrackingError, trained=TRAINING_SEEDS)


def evaluate_command(
    task: Annotated[str, typer.Option(help="sot, vos, mot or mots.")] = "vos",
    modalities: Annotated[str, typer.Option(help="Sensors, comma-separated.")] = "rgb,thermal",
    condition: Annotated[
        str, typer.Option(help="day, night, occlusion, twins, crossover, several joined by +, or mixed.")
    ] = "day",
    seeds: Annotated[str, typer.Option(help="Scenes of the seeds A to B - 1, as A:B.")] = SEEDS,
    checkpoint: Annotated[str, typer.Option(help="Folder or Hub id.")] = CHECKPOINT,
    suite: Annotated[bool, typer.Option("--suite", help="The card's whole table instead of one row.")] = False,
    prompt: Annotated[str | None, typer.Option(help="mask or box; none: a mask for VOS, a box for SOT.")] = None,
    cut: Annotated[str | None, typer.Option(help="A sensor to switch off in the middle of the clips.")] = None,
    baseline: Annotated[
        bool | None, typer.Option(help="ByteTrack on the same detections; none: where it is installed.")
    ] = None,
    frames: Annotated[int, typer.Option(min=2, max=1000, help="Of every clip.")] = 30,
    side: Annotated[int, typer.Option(min=32, max=512, help="Of the square frames, in pixels.")] = 128,
    threads: Annotated[int, typer.Option(min=0, help="Torch threads; 0: torch's choice.")] = 0,
    json: Annotated[Path | None, typer.Option("--json", help="Write the figures here too.")] = None,
) -> None:
    """Score the model on generated scenes that training has not seen."""
    if json is not None and (json.is_dir() or not json.resolve().parent.is_dir()):
        raise TrackingError(f"{json} cannot be written: name a file in a folder that exists")
    clips = Clips(held_out_seeds(seeds), frames, (side, side))
    cases = suite_cases() if suite else cases_of(task, modalities, condition, prompt, cut)
    start, config = _load(checkpoint, threads)
    notes: list[str] = []
    rivals = _rivals(config, baseline, notes)
    report = evaluate(start, cases, clips, rivals=rivals, tell=_progress, notes=notes, with_bars=suite)
    report = {"checkpoint": checkpoint, "seeds": seeds} | report
    _progress("")
    typer.echo(as_markdown(report))
    if json is not None:
        write_json(json, report)


def cases_of(
    task: str, modalities: str, condition: str, prompt: str | None = None, cut: str | None = None
) -> list[Case]:
    """The cases of one row: one, or one for each condition of a suite such as "mixed".

    Raises:
        TrackingError: for a task, sensor, condition or prompt that is not known.
    """
    names = sensors_of(modalities)
    return [Case(task, name, names, cut, prompt) for name in conditions_of(condition)]  # ty: ignore[invalid-argument-type]


def evaluate(
    start: Start,
    cases: Sequence[Case],
    clips: Clips,
    *,
    rivals: Mapping[str, Associate] | None = None,
    tell: Tell = lambda _: None,
    notes: Sequence[str] = (),
    with_bars: bool = False,
) -> dict[str, Any]:
    """Run the cases and put together what they say.

    Args:
        start: a new session for a task. rivals: baselines by name. notes: go into the report.
        with_bars: judge the project's bars, which needs the cases of `suite_cases`.

    Returns:
        A JSON-able report, to which only checkpoint and seeds as text are to be added.
    """
    began = time.perf_counter()
    outcomes, loads = run_cases(start, cases, clips, rivals=rivals, tell=tell)
    rows = _with_mixed(outcomes)
    experts = utilisation(loads)
    found = findings(rows, experts)
    return {
        "date": date.today().isoformat(),
        "versions": collect_versions(PACKAGES),
        "seeds": f"{clips.seeds[0]}:{clips.seeds[-1] + 1}",
        "frames": clips.frames,
        "size": list(clips.size),
        "prompts": PROMPTS,
        "cases": rows,
        "findings": found,
        "experts": experts,
        "bars": bars(rows, found) if with_bars else [],
        "notes": list(notes),
        "wall_seconds": time.perf_counter() - began,
    }


def _with_mixed(outcomes: Sequence[Outcome]) -> list[dict[str, Any]]:
    return rows_of(outcomes) + [row for name in SUITES for row in mixed_rows(outcomes, name, SUITES[name])]


def _load(checkpoint: str, threads: int) -> tuple[Start, Any]:
    """Sessions of a checkpoint, and its configuration."""
    import torch

    from .pipeline_sata import SataPipeline

    if threads:
        torch.set_num_threads(threads)
    pipe = SataPipeline.from_pretrained(checkpoint)
    return (lambda task: pipe.start_session(task=task)), pipe.model.config


def _rivals(config: Any, wanted: bool | None, notes: list[str]) -> dict[str, Associate]:
    """The baselines; where they were not asked for and cannot be had, a note says so."""
    if wanted is False:
        return {}
    try:
        return byte_trackers(config)
    except TrackingError as error:
        if wanted:
            raise
        notes.append(f"Not compared with ByteTrack: {error}.")
        return {}


def _progress(text: str) -> None:
    if sys.stderr.isatty():
        typer.echo(f"\r\033[K{text}", nl=False, err=True)
