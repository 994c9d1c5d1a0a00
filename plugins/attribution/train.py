"""Training of the small two-stream classifier on generated pictures with sentences, all mixtures at once.

No example is seen twice. Run it again to go on after a cut; once the minutes are over it only writes the checkpoint.
"""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from torch import Tensor, nn
from torch.nn import functional

from core.devices import describe_device
from core.jsonfile import write_json
from core.runs import collect_versions
from core.training import TrainingLog, save_state

from .configuration_two_stream import TwoStreamConfig
from .counts import JointCounts
from .modeling_two_stream import TwoStreamForClassification
from .planted import LABELS, MIXTURES, PICTURED, SIDE, TRAINING_SEEDS, Mixture, PlantedExamples, generate, vocabulary
from .processing_two_stream import TwoStreamProcessor

DEFAULT_FOLDER = Path(".cache/attribution-tiny")
RUN_SEEDS = 10_000_000  # apart, so that runs of other seeds see other examples; one takes far fewer steps
EXAMPLES = {"image": 4, "text": 2, "redundant": 4, "synergy": 14, "and": 8, "backup": 6, "copy": 8, "mixed": 18}
HELD_OUT_SEED, HELD_OUT = 1_000_000, 2000
RATE, WARM_UP = 2e-3, 0.02
DECAY = 0.02
ATTRIBUTE_WEIGHT = 1.0  # of each, against the answers' mean
SAVE_SECONDS, LOG_STEPS = 60, 50


def new_processor() -> TwoStreamProcessor:
    """The processor of the generated texts' vocabulary."""
    return TwoStreamProcessor.for_words(vocabulary(), side=SIDE, most_words=TwoStreamConfig().max_position_embeddings)


def new_model(processor: TwoStreamProcessor) -> TwoStreamForClassification:
    """The small model, untrained."""
    names = dict(enumerate(LABELS))
    return TwoStreamForClassification(
        TwoStreamConfig(
            vocab_size=len(processor.tokenizer), id2label=names, label2id={name: index for index, name in names.items()}
        )
    )


def batch_seed(seed: int, step: int) -> int:
    """Of a training's step; never one that evaluation takes."""
    return TRAINING_SEEDS + seed * RUN_SEEDS + step


def training_batch(seed: int, step: int) -> list[PlantedExamples]:
    """The examples of a step, of every mixture."""
    return [generate(MIXTURES[name], batch_seed(seed, step), count) for name, count in EXAMPLES.items()]


def decide(model: TwoStreamForClassification, processor: TwoStreamProcessor, examples: PlantedExamples) -> np.ndarray:
    """The model's answers, [n] of str."""
    names, found = model.config.id2label or {}, []
    with torch.inference_mode():
        for start in range(0, len(examples.texts), 200):
            part = slice(start, start + 200)
            logits = model(**processor(list(examples.images[part]), examples.texts[part])).logits
            found += [names[code] for code in logits.argmax(dim=-1).tolist()]
    return np.array(found)


@dataclass(frozen=True)
class HeldOut:
    """How a model does on examples of a mixture that no training takes.

    Attributes:
        accuracy: share of right answers.
        atoms: redundancy, unique to the image, unique to the text and synergy of the planted values about the model's
            decisions; plug-in estimates, bits.
        truth: the same about the right answers, in closed form.
    """

    accuracy: float
    atoms: tuple[float, ...]
    truth: tuple[float, ...]


def held_out(
    model: TwoStreamForClassification, processor: TwoStreamProcessor, mixture: Mixture, seed: int, count: int
) -> HeldOut:
    """The model's decisions on `count` examples, beside the right ones."""
    examples = generate(mixture, seed, count)
    decisions = decide(model, processor, examples)
    counts = JointCounts(*mixture.joint.shape[:2], len(LABELS))
    codes = [LABELS.index(answer) for answer in decisions]
    found = counts.update(examples.image_values, examples.text_values, codes).decompose()
    atoms = (found.redundancy, found.unique_1, found.unique_2, found.synergy)
    accuracy = float(np.mean(decisions == examples.labels))
    return HeldOut(accuracy, tuple(round(float(value), 4) for value in atoms), mixture.atoms)


def optimisers(model: nn.Module, heads: nn.Module) -> list[torch.optim.Optimizer]:
    """Muon (arXiv 2502.16982) for matrices between features; AdamW for tables, convolutions, scales and the end."""
    matrices = [
        value
        for name, value in model.named_parameters()
        if value.ndim == 2 and not any(part in name for part in ("words", "positions", "classifier"))
    ]
    chosen = {id(value) for value in matrices}
    rest = [value for value in model.parameters() if id(value) not in chosen]
    return [
        torch.optim.Muon(matrices, lr=RATE, weight_decay=DECAY, momentum=0.95, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW([*rest, *heads.parameters()], lr=RATE, betas=(0.9, 0.98), weight_decay=0.0),
    ]


class Trainer:
    """Holds what training needs between steps; `save` and `load` make it resumable.

    `heads` read every attribute of the picture from the image encoder, and are dropped after the training: without
    them the fusion has to find out at once what to look at and what to do with it, which for "exclusive or" takes long.
    """

    def __init__(self, model: TwoStreamForClassification, processor: TwoStreamProcessor, seed: int) -> None:
        self.model, self.processor, self.seed = model.train(), processor, seed
        self.heads = nn.Linear(model.config.hidden_size, len(PICTURED))
        self.optimisers = optimisers(model, self.heads)
        self.step, self.examples, self.seconds = 0, 0, 0.0

    def train_step(self, rate: float) -> dict[str, float]:
        """One step; losses in nats and shares of right answers, by name."""
        parts = training_batch(self.seed, self.step)
        images = [image for part in parts for image in part.images]
        inputs = self.processor(images, [text for part in parts for text in part.texts])
        labels = torch.tensor([self.model.config.label2id[str(name)] for part in parts for name in part.labels])
        shown = np.stack([np.concatenate([part.attributes[name] for part in parts]) for name in PICTURED], axis=1)
        caught: list[Tensor] = []
        hook = self.model.image_encoder.register_forward_hook(lambda module, given, tokens: caught.append(tokens))
        logits = self.model(**inputs).logits
        hook.remove()
        losses = functional.cross_entropy(logits, labels, reduction="none")
        attributes = functional.binary_cross_entropy_with_logits(
            self.heads(caught[0].mean(dim=1)), torch.from_numpy(shown).float(), reduction="none"
        ).mean(dim=0)
        (losses.mean() + ATTRIBUTE_WEIGHT * attributes.sum()).backward()
        self._update(rate)
        self.step += 1
        self.examples += len(labels)
        seen = dict(zip(PICTURED, attributes.tolist(), strict=True))
        return seen | _by_mixture(losses.detach(), logits.argmax(dim=-1) == labels)

    def _update(self, rate: float) -> None:
        nn.utils.clip_grad_norm_([*self.model.parameters(), *self.heads.parameters()], 1.0)
        for optimiser in self.optimisers:
            for group in optimiser.param_groups:
                group["lr"] = rate
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)

    def save(self, file: Path) -> None:
        """Everything needed to go on, written whole or not at all."""
        parts = {"model": self.model.state_dict(), "heads": self.heads.state_dict()}
        counts = {"step": self.step, "examples": self.examples, "seconds": self.seconds, "seed": self.seed}
        save_state(file, parts | {"optimisers": [each.state_dict() for each in self.optimisers], "counts": counts})

    def load(self, file: Path) -> None:
        """Go on from a saved state, with its seed."""
        state = torch.load(file, weights_only=True)
        self.model.load_state_dict(state["model"])
        self.heads.load_state_dict(state["heads"])
        for optimiser, saved in zip(self.optimisers, state["optimisers"], strict=True):
            optimiser.load_state_dict(saved)
        counts = state["counts"]
        self.step, self.examples, self.seconds, self.seed = (
            counts[name] for name in ("step", "examples", "seconds", "seed")
        )


def _by_mixture(losses: Tensor, right: Tensor) -> dict[str, float]:
    rows: dict[str, float] = {}
    counts = list(EXAMPLES.values())
    for name, part, hits in zip(EXAMPLES, losses.split(counts), right.split(counts), strict=True):
        rows |= {f"{name}_loss": float(part.mean()), f"{name}_right": float(hits.float().mean())}
    return rows


def train(trainer: Trainer, *, seconds: float, log: Callable[[dict[str, Any]], None], save: Callable[[], None]) -> None:
    """Train until `seconds` are over in all; `log` is given rows of means, `save` is called now and then."""
    saved = trainer.seconds
    rows: list[dict[str, float]] = []
    while (done := trainer.seconds / seconds) < 1:
        began = time.perf_counter()
        rows.append(trainer.train_step(RATE * min(done / WARM_UP + 0.01, 1.0, 1.02 - done)))
        trainer.seconds += time.perf_counter() - began
        if len(rows) == LOG_STEPS:
            means = {name: round(float(np.mean([row[name] for row in rows])), 4) for name in rows[0]}
            log({"step": trainer.step, "examples": trainer.examples, "seconds": round(trainer.seconds)} | means)
            rows.clear()
        if trainer.seconds - saved > SAVE_SECONDS:
            save()
            saved = trainer.seconds
    save()


def record_of(trainer: Trainer) -> dict[str, Any]:
    """What training.json says."""
    trainer.model.eval()
    return {
        "command": shlex.join(["python", "-m", "plugins.attribution.train", *sys.argv[1:]]),
        "finished": time.strftime("%Y-%m-%d", time.gmtime()),
        "seed": trainer.seed,
        "hardware": describe_device("cpu").label,
        "threads": torch.get_num_threads(),
        "wall_minutes": round(trainer.seconds / 60, 1),
        "steps": trainer.step,
        "examples": trainer.examples,
        "examples_of_a_step": EXAMPLES,
        "parameters": trainer.model.num_parameters(),
        "held_out_seed": HELD_OUT_SEED,
        "held_out_examples": HELD_OUT,
        "held_out": {
            name: held_out(trainer.model, trainer.processor, mixture, HELD_OUT_SEED, HELD_OUT)
            for name, mixture in MIXTURES.items()
        },
        "versions": collect_versions(),
    }


def train_command(
    minutes: Annotated[float, typer.Option(help="Of training in all, with what was trained before a cut.")] = 20,
    seed: Annotated[int, typer.Option(min=0, max=1000, help="Of the first weights and the examples.")] = 0,
    out: Annotated[Path, typer.Option(help="Where the state, the log and the checkpoint go.")] = DEFAULT_FOLDER,
    threads: Annotated[int, typer.Option(min=1, help="Torch threads; more than one gains little here.")] = 1,
) -> None:
    """Train the small model on generated pictures with sentences; run it again to go on after a cut."""
    if minutes <= 0:
        raise typer.BadParameter(f"{minutes} is not above 0: give minutes of wall time.", param_hint="--minutes")
    torch.set_num_threads(threads)
    torch.manual_seed(seed)
    processor = new_processor()
    trainer = Trainer(new_model(processor), processor, seed)
    state_file, log = out / "state.pt", TrainingLog(out / "log.jsonl")
    if state_file.exists():
        trainer.load(state_file)
        if trainer.seed != seed:
            raise typer.BadParameter(
                f"{out} holds a training with seed {trainer.seed}: give that, or another folder.", param_hint="--seed"
            )
    train(trainer, seconds=60 * minutes, log=log.of("train"), save=lambda: trainer.save(state_file))
    record = record_of(trainer)
    log("held out", {name: each.accuracy for name, each in record["held_out"].items()})
    save_checkpoint(out / "checkpoint", trainer, record)
    typer.echo(f"wrote {out / 'checkpoint'}")


def save_checkpoint(folder: Path, trainer: Trainer, record: dict[str, Any]) -> None:
    """Write the model as the Hub gets it: weights, settings, processor, code and how it was trained."""
    trainer.model.eval().save_pretrained(folder)
    trainer.processor.save_pretrained(folder)
    write_json(folder / "training.json", record)


if __name__ == "__main__":
    typer.run(train_command)
