"""Combination granularity, measured: strategies trained for the same number of steps from the same beginning.

The paper's question (arXiv 2511.12937): fused inside a sample (`*`) or mixed between samples (`+`)? Every strategy goes
on from one state that has learned to point, with batches of the same number of image patches, and is judged on the same
games. Resumable: what is trained or judged already is not done again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import date
from json import loads
from pathlib import Path
from statistics import fmean, median
from typing import Annotated, Any

import torch
import typer

from core.jsonfile import write_json
from core.runs import collect_versions
from core.training import TrainingLog

from .actions import PLATFORMS
from .errors import UIActionInputError
from .evaluate import evaluate_cell, held_out_seeds
from .games import TASKS
from .pipeline_ui_action import UIActionPipeline
from .recorder import record
from .samples import prompt_of
from .small_model import new_model
from .strategy import Strategy, Term, spelled
from .train import DEFAULT_FOLDER, STAGES, Trainer, processor_of, save_checkpoint, train_stage

OUT = Path(".cache/ui-action-ablation")
FULL_FUSION = "S*M*V"  # what the paper's figures are relative to
PLAY = STAGES[-1]
TIMED_ROUNDS, TIMED_SEED = 5, 0


def train_strategy(start: Path, strategy: Strategy, folder: Path, steps: int, *, workers: int = 1) -> Path:
    """Train on from `start`, a folder of `train`'s, for so many steps of play; returns the checkpoint's folder."""
    checkpoint = folder / "checkpoint"
    if checkpoint.exists():
        return checkpoint
    processor = processor_of(start)
    trainer = Trainer(new_model(processor.tokenizer), processor, "cpu")
    first = int(trainer.load(start / "state.pt")["counts"]["step"])
    if (folder / "state.pt").exists():
        trainer.load(folder / "state.pt")
    train_stage(
        trainer,
        PLAY,
        strategy,
        progress=lambda: (trainer.step - first) / steps,
        workers=workers,
        log=TrainingLog(folder / "log.jsonl").of(str(strategy)),
        save=lambda: trainer.save(folder / "state.pt", stages_done=len(STAGES) - 1, strategy=str(strategy)),
    )
    save_checkpoint(checkpoint, trainer.model, processor)
    return checkpoint


def judge_strategy(
    checkpoint: Path, terms: Sequence[Term], seeds: range, decisions_of: int, tell: Callable[[str], None]
) -> list[dict[str, Any]]:
    """Every cell, once for each kind of media that the reasoner is shown."""
    backend = UIActionPipeline.from_pretrained(checkpoint, device="cpu").backend()
    cells = []
    for term in terms:
        for task in TASKS:
            for platform in PLATFORMS:
                cell = evaluate_cell(backend, task, platform, seeds, term, decisions_of=decisions_of)
                cells.append({"media": spelled(term)} | cell)
                tell(f"{task}, {platform}, shown {spelled(term)}: won {100 * cell['success']:.0f} %")
    return cells


def time_strategies(
    checkpoints: Mapping[str, Path], terms: Mapping[str, Sequence[Term]]
) -> dict[str, dict[str, dict[str, float]]]:
    """Milliseconds of the reasoner, every strategy and media in turn on the same decisions, so that a busy machine is
    busy for all; beside those of full fusion on its own media.

    Returns:
        By strategy and media: median milliseconds, and the median, least and most of the ratio within a round.
    """
    backends = {
        name: UIActionPipeline.from_pretrained(each, device="cpu").backend() for name, each in checkpoints.items()
    }
    cases = [(name, term) for name in checkpoints for term in terms[name]]
    decisions = [next(iter(record(task, platform, TIMED_SEED))) for task in TASKS for platform in PLATFORMS]
    taken: dict[tuple[str, str], list[float]] = {(name, spelled(term)): [] for name, term in cases}
    for _ in range(TIMED_ROUNDS + 1):  # the first warms up
        for name, term in cases:
            answers = [backends[name].complete(prompt_of(each, "reason", term)) for each in decisions]
            taken[name, spelled(term)].append(fmean((a.prefill_ms or 0.0) + (a.decode_ms or 0.0) for a in answers))
    base = next((each for (name, media), each in taken.items() if name == FULL_FUSION and media != "S"), None)
    found: dict[str, dict[str, dict[str, float]]] = {}
    for (name, media), each in taken.items():
        ratios = [own / full for own, full in zip(each[1:], base[1:], strict=True)] if base else []
        spread = {"ratio": median(ratios), "least": min(ratios), "most": max(ratios)} if ratios else {}
        found.setdefault(name, {})[media] = {"milliseconds": median(each[1:])} | spread
    return found


def summary(strategy: str, cells: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Means over the cells of one strategy and one kind of media; success by task."""

    def mean(name: str) -> float:
        return fmean(cell["decisions"][name] for cell in cells)

    return {
        "strategy": strategy,
        "media": cells[0]["media"],
        **{name: mean(name) for name in ("bleu", "means", "exact", "hit", "parsed", "prompt_tokens")},
        "ceiling": fmean(cell["ceiling"] for cell in cells),
        "success": {
            task: fmean(cell["success"] for cell in cells if cell["task"] == task)
            for task in dict.fromkeys(cell["task"] for cell in cells)
        },
    }


def summaries(report: dict[str, Any]) -> list[dict[str, Any]]:
    """A row for each strategy and kind of media, with BLEU-4 beside that of full fusion, and time."""
    rows = []
    for each in report["strategies"]:
        for media in dict.fromkeys(cell["media"] for cell in each["cells"]):
            own = [cell for cell in each["cells"] if cell["media"] == media]
            rows.append(summary(each["strategy"], own) | {"samples": each["samples"]})
    base = next((row for row in rows if row["strategy"] == FULL_FUSION and row["media"] != "S"), None)
    timings = report.get("timings", {})
    for row in rows:
        row["bleu_ratio"] = row["bleu"] / base["bleu"] if base and base["bleu"] else None
        row["time"] = timings.get(row["strategy"], {}).get(row["media"])
    return rows


def as_markdown(report: dict[str, Any]) -> str:
    """The card's table."""
    tasks = list(dict.fromkeys(cell["task"] for each in report["strategies"] for cell in each["cells"]))
    head = [
        "strategy",
        "shown",
        "samples",
        "tokens",
        "BLEU-4",
        "sentence right",
        "ceiling",
        "action exact",
        "time [range]",
    ]
    lines = [
        f"{report['date']}: {report['steps']:,} steps each, from one state that points; held-out seeds "
        f"{report['seeds']}; time is the reasoner's, over that of {FULL_FUSION}",
        "",
        "| " + " | ".join([*head, *(f"won: {task}" for task in tasks)]) + " |",
        "|---|---" + "|---:" * (len(head) - 2 + len(tasks)) + "|",
    ]
    for row in summaries(report):
        time = row["time"] or {}
        ratio = f"{time['ratio']:.2f} x [{time['least']:.2f}, {time['most']:.2f}]" if "ratio" in time else ""
        won = [f"{100 * row['success'][task]:.0f} %" for task in tasks]
        figures = [
            f"{row['samples']:,}",
            f"{row['prompt_tokens']:.0f}",
            f"{row['bleu']:.1f}",
            *(f"{100 * row[name]:.0f} %" for name in ("means", "ceiling", "exact")),
            ratio,
        ]
        lines.append("| " + " | ".join([row["strategy"], row["media"], *figures, *won]) + " |")
    return "\n".join(lines)


def ablate_command(
    strategies: Annotated[str, typer.Option(help="Separated by commas.")] = f"S,M*V+S,{FULL_FUSION}",
    steps: Annotated[int, typer.Option(min=1, help="Of play, for each.")] = 500,
    start: Annotated[
        Path, typer.Option(help="Folder of `train` whose state has learned to point; its tokenizer is taken too.")
    ] = DEFAULT_FOLDER,
    seeds: Annotated[str, typer.Option(help="Games of the seeds A to B - 1, as A:B.")] = "0:10",
    decisions_of: Annotated[int, typer.Option(min=1, help="Games whose every decision is judged.")] = 10,
    out: Annotated[Path, typer.Option(help="Where states, logs and checkpoints go.")] = OUT,
    threads: Annotated[int, typer.Option(help="Torch threads. 0: torch's choice.")] = 1,
    workers: Annotated[int, typer.Option(min=0, help="Processes that play and draw.")] = 1,
    json: Annotated[Path | None, typer.Option(help="Write the figures here too.")] = None,
) -> None:
    """Train strategies for equal steps and compare them on games that none has seen."""
    numbers = held_out_seeds(seeds)
    parsed = [Strategy.parse(text) for text in strategies.split(",")]
    if not (start / "state.pt").exists():
        raise UIActionInputError(f"{start} holds no state.pt: run `train` until it has learned to point")
    if threads:
        torch.set_num_threads(threads)
    file = out / "report.json" if json is None else json
    asked = {"steps": steps, "seeds": seeds}
    report: dict[str, Any] = asked | {
        "date": date.today().isoformat(),
        "versions": collect_versions(),
        "strategies": [],
    }
    if file.exists() and all(
        (found := loads(file.read_text("utf-8"))).get(name) == value for name, value in asked.items()
    ):
        report = found
    for strategy in parsed:
        if str(strategy) in [each["strategy"] for each in report["strategies"]]:
            continue
        folder = folder_of(out, strategy)
        checkpoint = train_strategy(start, strategy, folder, steps, workers=workers)
        cells = judge_strategy(
            checkpoint, media_of(strategy), numbers, decisions_of, lambda text: typer.echo(text, err=True)
        )
        samples = int(torch.load(folder / "state.pt", weights_only=True)["counts"]["samples"])
        report["strategies"].append({"strategy": str(strategy), "samples": samples, "cells": cells})
        write_json(file, report)
    names = {str(strategy): strategy for strategy in parsed}
    report["timings"] = time_strategies(
        {name: folder_of(out, each) / "checkpoint" for name, each in names.items()},
        {name: media_of(each) for name, each in names.items()},
    )
    write_json(file, report)
    typer.echo(as_markdown(report))


def folder_of(out: Path, strategy: Strategy) -> Path:
    """Where a strategy's state, log and checkpoint lie."""
    return out / str(strategy).replace("*", "x").replace("+", "_and_")


def media_of(strategy: Strategy) -> list[Term]:
    """What it is judged on: what it was made for, and one screen."""
    return list(dict.fromkeys([strategy.terms[0], ("S",)]))
