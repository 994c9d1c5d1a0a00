"""Evaluation of the embedded model on held-out data: what the card says, printed by one command.

Planted atoms against measured ones at the decision, information by depth, shuffled labels, the gate on a sound and on
an ablated model, and modality exchange beside the atoms.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer

from core.jsonfile import to_text
from core.runs import collect_versions

from .cli_parts import JsonFile, Seeds, check_folders, clear_errors, clear_progress, progress, read_seeds, write
from .errors import AttributionInputError
from .estimation import ATOMS
from .gate import gate
from .model_attribution import count
from .pipeline import PIDAttributionPipeline
from .planted import MIXTURES, TRAINING_SEEDS, generate

CHECKPOINT = Path("hub_cards/attribution-tiny")
FIT_SEED = 800_000  # what pinned discretisers are fitted on; evaluation seeds lie below
ABLATED = 0.01  # of what cross-attention writes
GATE_MIXTURE, GATE_THRESHOLD, GATE_EXAMPLES = "copy", 0.5, 1000  # as many examples as the discretisers were fitted on
SHOWN_LAYERS = ("image", "synergy", "mixed")

Tell = Callable[[str], None]


@dataclass(frozen=True)
class MixtureResult:
    """One mixture at the decision.

    Attributes:
        accuracy: of the answers.
        planted, measured, standard_errors: redundancy, unique to the image, unique to the text, synergy; bits.
        shuffled_total, shuffled_p: what both streams say about shuffled answers, bits, and its p-value.
        dropped: accuracy lost with another example's image, and with another example's text.
    """

    mixture: str
    examples: int
    accuracy: float
    planted: tuple[float, ...]
    measured: tuple[float, ...]
    standard_errors: tuple[float, ...]
    shuffled_total: float
    shuffled_p: float
    dropped: tuple[float, float]
    overhead: float

    @property
    def worst(self) -> float:
        """Largest distance of an atom from what was planted, bits."""
        return max(abs(a - b) for a, b in zip(self.planted, self.measured, strict=True))


@dataclass(frozen=True)
class DepthResult:
    """What a stream says about the decision at each layer, bits; `synergy` needs the image's source beside it."""

    mixture: str
    layers: tuple[str, ...]
    stream: tuple[float, ...]
    synergy: tuple[float, ...]


@dataclass(frozen=True)
class GateCount:
    """The gate over seeds: how often the sound model passed and the ablated one failed."""

    mixture: str
    seeds: int
    examples: int
    threshold: float
    sound_passed: int
    ablated_failed: int


def evaluate_mixture(pipe: PIDAttributionPipeline, name: str, seed: int, examples: int) -> MixtureResult:
    """Atoms of the decision on held-out examples, and on shuffled answers."""
    mixture = MIXTURES[name]
    data = generate(mixture, seed, examples)
    rows = data.rows()
    report = pipe(rows, layers="none", dropping=True, seed=seed)
    assert report.model is not None
    assert report.model.dropping is not None
    read = pipe.read(rows, layers="none")
    shuffled = np.random.default_rng(seed).permutation(read.captured.decision)
    silent = pipe(*read.captured.sources, shuffled, seed=seed).quantities["total"]
    return MixtureResult(
        mixture=name,
        examples=examples,
        accuracy=float((read.captured.decision == data.labels).mean()),
        planted=mixture.atoms,
        measured=tuple(report.quantities[atom].value for atom in ATOMS),
        standard_errors=tuple(report.quantities[atom].standard_error for atom in ATOMS),
        shuffled_total=silent.value,
        shuffled_p=silent.p_value,
        dropped=(report.model.dropping.drop(1), report.model.dropping.drop(2)),
        overhead=report.model.capture_overhead,
    )


def evaluate_depth(pipe: PIDAttributionPipeline, name: str, seed: int, examples: int) -> DepthResult:
    """What the text's stream says at each layer of its encoder and of the fusion."""
    report = pipe(generate(MIXTURES[name], seed, examples).rows(), seed=seed)
    layers = [each for each in report.layers if each.stream == "text"]
    return DepthResult(
        mixture=name,
        layers=tuple(each.layer for each in layers),
        stream=tuple(each.quantities["information_2"].value for each in layers),
        synergy=tuple(each.quantities["synergy"].value for each in layers),
    )


def evaluate_gate(pipe: PIDAttributionPipeline, seeds: range, examples: int = GATE_EXAMPLES) -> GateCount:
    """Both models under the discretisers of the sound one, on the same examples of each seed."""
    mixture = MIXTURES[GATE_MIXTURE]
    pinned = pipe.fit_model(generate(mixture, FIT_SEED, examples).rows(), layers="none")
    cut = PIDAttributionPipeline.of_model(ablated(pipe.model), pipe.processor, name=pipe.model_name)
    found: dict[str, list[str]] = {"sound": [], "ablated": []}
    for seed in seeds:
        rows = generate(mixture, seed, examples).rows()
        for name, each in (("sound", pipe), ("ablated", cut)):
            tables = count(each.read(rows, layers="none"), pinned, "none")
            report = each.explain_tables(tables, pinned, seed=seed)
            found[name].append(gate(report, "image", threshold=GATE_THRESHOLD).outcome)
    return GateCount(
        mixture=GATE_MIXTURE,
        seeds=len(seeds),
        examples=examples,
        threshold=GATE_THRESHOLD,
        sound_passed=found["sound"].count("pass"),
        ablated_failed=found["ablated"].count("fail"),
    )


def ablated(model: torch.nn.Module) -> torch.nn.Module:
    """A copy in which the fusion hardly hears the image; the encoders, and so the sources, are the same."""
    cut = deepcopy(model)
    with torch.no_grad():
        for name, value in cut.named_parameters():
            if ".cross_attention.output." in name:
                value.mul_(ABLATED)
    return cut


def as_markdown(report: dict[str, Any]) -> str:
    """The card's tables."""
    lines = [
        f"{report['date']}, held-out seeds {report['seeds']}, {report['examples']:,} examples a mixture, one CPU core.",
        "",
        "| planted in the data | right | redundant | only image | only text | synergy | farthest off "
        "| labels shuffled | lost without image, text |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for each in map(_mixture_of, report["mixtures"]):
        atoms = [
            f"{measured:.3f} ({planted:.3f})" for measured, planted in zip(each.measured, each.planted, strict=True)
        ]
        dropped = " / ".join(f"{100 * drop:.0f}" for drop in each.dropped)
        title = MIXTURES[each.mixture].title
        cells = [title, f"{100 * each.accuracy:.1f} %", *atoms, f"{each.worst:.3f}", f"{each.shuffled_total:.3f}"]
        lines.append(f"| {' | '.join([*cells, f'{dropped} points'])} |")
    lines += ["", "Atoms at the model's decision in bits, what was planted in brackets.", ""]
    for depth in report["depth"]:
        head = " | ".join(depth["layers"])
        lines += [
            f"| {MIXTURES[depth['mixture']].title} | {head} |",
            "|---|" + "---:|" * len(depth["layers"]),
            "| the text's stream says, bits | " + " | ".join(f"{_zero(each):.3f}" for each in depth["stream"]) + " |",
            "| synergy with the image, bits | " + " | ".join(f"{_zero(each):.3f}" for each in depth["synergy"]) + " |",
            "",
        ]
    g = report["gate"]
    lines.append(
        f"Gate (`image` must hold {g['threshold']} bits, {g['examples']:,} examples, {g['seeds']} seeds): the sound "
        f"model passes {g['sound_passed']} times, the ablated one fails {g['ablated_failed']} times."
    )
    return "\n".join(lines)


def evaluate_command(
    checkpoint: Annotated[Path, typer.Option(help="Folder of a two-stream model.")] = CHECKPOINT,
    seeds: Seeds = "0:20",
    examples: Annotated[int, typer.Option(min=500, help="Of each mixture.")] = 5000,
    mixtures: Annotated[str, typer.Option(help="Separated by commas.")] = ",".join(MIXTURES),
    json: JsonFile = None,
) -> None:
    """Planted atoms against measured ones, depth, shuffled labels and the gate, on data that no training saw."""
    with clear_errors():
        check_folders(json)
        numbers = read_seeds(seeds)
        if numbers.stop > FIT_SEED:
            raise AttributionInputError(
                f"seeds end at {numbers.stop:,}: stay below {FIT_SEED:,}; {TRAINING_SEEDS:,} and above were trained on"
            )
        pipe = PIDAttributionPipeline.from_pretrained(checkpoint)
        report: dict[str, Any] = {
            "date": date.today().isoformat(),
            "checkpoint": checkpoint.name,
            "seeds": seeds,
            "examples": examples,
            "versions": collect_versions(),
        }
        names = [name.strip() for name in mixtures.split(",")]
        report |= figures(pipe, names, numbers, examples, progress)
        clear_progress()
    typer.echo(as_markdown(report))
    if json is not None:
        write(json, to_text(report))


def figures(pipe: PIDAttributionPipeline, names: list[str], seeds: range, examples: int, tell: Tell) -> dict[str, Any]:
    """All results as plain values."""
    mixtures, depth = [], []
    for name in names:
        tell(f"{name}: decision")
        mixtures.append(asdict(evaluate_mixture(pipe, name, seeds.start, examples)))
    for name in (each for each in SHOWN_LAYERS if each in names):
        tell(f"{name}: layers")
        depth.append(asdict(evaluate_depth(pipe, name, seeds.start, examples)))
    tell("gate")
    return {"mixtures": mixtures, "depth": depth, "gate": asdict(evaluate_gate(pipe, seeds))}


def _mixture_of(values: dict[str, Any]) -> MixtureResult:
    return MixtureResult(**values)


def _zero(value: float) -> float:
    """Unbiased estimates of nothing may be negative."""
    return max(0.0, value)
