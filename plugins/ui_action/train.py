"""Training of the small checkpoint on recorded expert play, from nothing to a folder that `from_pretrained` loads.

Staged, grounding first: units on an otherwise empty board, then all games in all roles. Resumable: run it again to go
on; when all is done, with more of the last part.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from torch.utils.data import DataLoader, IterableDataset, get_worker_info
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import Qwen2_5_VLForConditionalGeneration

from core.training import TrainingLog, save_state

from .actions import PLATFORMS, Platform
from .backends.base import Role
from .games import TASKS
from .games.prng import Xorshift32
from .pointing import Labels, PointingHeads
from .processing import ScreenProcessor
from .recorder import LABELS, record
from .samples import Sample, answer_of, sample_of
from .small_model import WIDTH, new_model, new_tokenizer
from .strategy import Strategy, Term

DEFAULT_FOLDER = Path(".cache/ui-action-tiny")
TRAINING_SEEDS = 10_000_000  # evaluation plays seeds below this
WORKER_SEEDS = 100_000_000
DRAWS = 105  # stream of random numbers
CORPUS_GAMES = 10
POINT_WEIGHT = 3.0  # of the tokens between box markers
VALUE_WEIGHT = 6.0  # of what a sentence decides: a cell, a front, a sector among words that are always the same
SAVE_SECONDS, LOG_STEPS = 120, 25
MOST_PATCHES = 32 * 216  # of a batch: it holds fewer samples where each shows more


@dataclass(frozen=True)
class Stage:
    """A part of the training.

    Attributes:
        share: of the time.
        tasks: which games, and how many of each to one of another: a target is one decision, the others are many.
        roles: what is asked, and how often each.
        rates: first and last learning rate.
        stumbling: as of `record`.
        units: most units on a board, at the stage's beginning and end; None: all.
    """

    name: str
    share: float
    tasks: tuple[tuple[str, int], ...]
    roles: tuple[tuple[Role, float], ...]
    rates: tuple[float, float]
    stumbling: float = 0.0
    units: tuple[int, int] | None = None


STAGES = (
    Stage("pointing", 0.3, ((TASKS[0], 1),), (("act", 0.5), ("reason", 0.5)), (1.5e-3, 1.2e-3), units=(1, 10)),
    Stage(
        "play",
        0.7,
        ((TASKS[0], 4), (TASKS[1], 2), (TASKS[2], 1)),
        (("act", 0.2), ("reason", 0.7), ("both", 0.1)),
        (1.2e-3, 3e-5),
        stumbling=0.15,
    ),
)


def corpus() -> Iterator[str]:
    """What the tokenizer is made from: instructions, sentences and answers of a few games of each cell."""
    for task in TASKS:
        for platform in PLATFORMS:
            for seed in range(TRAINING_SEEDS, TRAINING_SEEDS + CORPUS_GAMES):
                for each in record(task, platform, seed):
                    yield f"user\n<reason> <act> <e2e> {each.instruction}\nassistant\n"
                    yield f"Thought: {answer_of(each, 'both')}"


class Samples(IterableDataset):
    """Batches of one role and one kind of media each, from games that were never seen, made in the loader's processes.

    Args:
        units: most units on a board now; a worker reads it when it begins, so a stage with a curriculum has several
            loaders, one after the other.
    """

    def __init__(
        self, stage: Stage, strategy: Strategy, processor: ScreenProcessor, seed: int, units: int | None
    ) -> None:
        self.stage, self.strategy, self.processor = stage, strategy, processor
        self.seed, self.units = seed, units

    def __iter__(self) -> Iterator[tuple[Role, dict[str, torch.Tensor], list[Labels]]]:
        info = get_worker_info()
        seed = self.seed + (WORKER_SEEDS * info.id if info else 0)
        waiting: dict[tuple[Role, Term], list[Sample]] = {}
        draws = Xorshift32(seed & 0xFFFFFFFF, DRAWS)
        while True:
            seed += 1
            task, platform = self._cell(draws)
            for each in record(task, platform, seed, stumbling=self.stage.stumbling, most_units=self.units):
                role = self._role(draws)
                terms: tuple[Term, ...] = (("S",),) if role == "act" else self.strategy.terms
                for term in terms:
                    bucket = waiting.setdefault((role, term), [])
                    bucket.append(sample_of(each, role, term, self.processor))
                    if (
                        sum(len(patches.values) for sample in bucket for patches in sample.encoded.media)
                        >= MOST_PATCHES
                    ):
                        del waiting[(role, term)]
                        yield role, *collated(bucket, self.processor)

    def _cell(self, draws: Xorshift32) -> tuple[str, Platform]:
        tasks = [name for name, many in self.stage.tasks for _ in range(many)]
        return tasks[draws.below(len(tasks))], PLATFORMS[draws.below(len(PLATFORMS))]

    def _role(self, draws: Xorshift32) -> Role:
        place = draws.below(1000) / 1000
        for role, share in self.stage.roles:
            place -= share
            if place < 0:
                return role
        return self.stage.roles[-1][0]


def collated(samples: list[Sample], processor: ScreenProcessor) -> tuple[dict[str, torch.Tensor], list[Labels]]:
    """A batch, and the heads' labels in the order in which visual tokens come when it is read row by row."""
    batch = processor.batch([sample.encoded for sample in samples])
    return batch, [labels for sample in samples for labels in sample.labels]


class Trainer:
    """Holds what training needs between steps; `save` and `load` make it resumable."""

    def __init__(self, model: Qwen2_5_VLForConditionalGeneration, processor: ScreenProcessor, device: str) -> None:
        self.model, self.processor, self.device = model.to(device).train(), processor, device
        self.heads = PointingHeads(WIDTH, 1 + len(LABELS)).to(device)
        self.box = [processor.tokenizer.get_vocab()[f"<|box_{end}|>"] for end in ("start", "end")]
        self.optimisers = optimisers(model, self.heads)
        self.step, self.samples, self.seconds = 0, 0, 0.0

    def losses(
        self, batch: dict[str, torch.Tensor], labels: list[Labels]
    ) -> tuple[dict[str, torch.Tensor], dict[str, float]]:
        """The losses by name, and the shares of answers and of points of which each token is right, and of the tokens
        of values.
        """
        batch = {name: value.to(self.device) for name, value in batch.items()}
        wanted, focus = batch.pop("labels")[:, 1:], batch.pop("focus", None)
        start, end = (torch.eq(wanted, box) for box in self.box)
        with torch.autocast(self.device, torch.bfloat16, enabled=self.device != "cpu"):
            found = self.model(**batch, output_hidden_states=True)
        logits = found.logits[:, :-1].float()
        learned = wanted != -100
        inside = (start.cumsum(1) - end.cumsum(1) > 0) & ~start & learned
        token_losses = torch.nn.functional.cross_entropy(logits[learned], wanted[learned], reduction="none")
        weights = 1 + (POINT_WEIGHT - 1) * inside[learned].float()
        if focus is not None:
            weights = weights + (VALUE_WEIGHT - 1) * focus[:, 1:][learned].float()
        visual = batch["mm_token_type_ids"] > 0
        before, last = (found.hidden_states[place][visual] for place in (-2, -1))
        losses = {"answer": (weights * token_losses).sum() / weights.sum()} | self.heads.loss(before, last, labels)
        right = torch.eq(logits.argmax(-1), wanted)
        shares = {"answers_right": float((right | ~learned).all(1).float().mean())}
        if focus is not None:
            shares["values_right"] = float(right[focus[:, 1:]].float().mean())
        pointed = inside.any(1)
        if bool(pointed.any()):
            shares["points_right"] = float((right | ~inside).all(1)[pointed].float().mean())
        return losses, shares

    def train_step(self, batch: dict[str, torch.Tensor], labels: list[Labels], rate: float) -> dict[str, float]:
        """One step; losses and shares by name."""
        began = time.perf_counter()
        losses, shares = self.losses(batch, labels)
        torch.stack(list(losses.values())).sum().backward()
        torch.nn.utils.clip_grad_norm_([*self.model.parameters(), *self.heads.parameters()], 1.0)
        for optimiser in self.optimisers:
            for group in optimiser.param_groups:
                group["lr"] = rate
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
        self.step += 1
        self.samples += len(batch["input_ids"])
        self.seconds += time.perf_counter() - began
        return {name: float(loss.detach()) for name, loss in losses.items()} | shares

    def save(self, file: Path, **more: Any) -> None:
        """Everything needed to go on, written whole or not at all."""
        state = {
            "model": self.model.state_dict(),
            "heads": self.heads.state_dict(),
            "optimisers": [each.state_dict() for each in self.optimisers],
            "counts": {"step": self.step, "samples": self.samples, "seconds": self.seconds},
        }
        save_state(file, state | more)

    def load(self, file: Path) -> dict[str, Any]:
        """Go on from a saved state; returns it."""
        state = torch.load(file, map_location=self.device, weights_only=True)
        self.model.load_state_dict(state["model"])
        self.heads.load_state_dict(state["heads"])
        for optimiser, saved in zip(self.optimisers, state["optimisers"], strict=True):
            optimiser.load_state_dict(saved)
        self.step, self.samples, self.seconds = (state["counts"][name] for name in ("step", "samples", "seconds"))
        return state


def optimisers(model: torch.nn.Module, heads: torch.nn.Module) -> list[torch.optim.Optimizer]:
    """Muon (arXiv 2502.16982) for the matrices inside both towers' blocks, AdamW for the rest."""
    inside = [
        value
        for name, value in model.named_parameters()
        if value.ndim == 2 and ("layers." in name or "blocks." in name)
    ]
    chosen = {id(value) for value in inside}
    rest = [value for value in (*model.parameters(), *heads.parameters()) if id(value) not in chosen]
    return [
        torch.optim.Muon(inside, lr=1e-3, weight_decay=0.05, momentum=0.95, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(rest, lr=1e-3, betas=(0.9, 0.95), weight_decay=0.05),
    ]


def train_stage(
    trainer: Trainer,
    stage: Stage,
    strategy: Strategy,
    *,
    progress: Callable[[], float],
    workers: int,
    log: Callable[[dict[str, Any]], None],
    save: Callable[[], None],
) -> None:
    """Train until `progress` says 1; `log` is given rows of means, `save` is called now and then."""
    saved = time.monotonic()
    sums: dict[str, list[float]] = {}
    for last, units in parts_of(stage):
        seed = TRAINING_SEEDS + 1000 * trainer.step
        dataset = Samples(stage, strategy, trainer.processor, seed, units)
        batches = iter(
            DataLoader(dataset, batch_size=None, num_workers=workers, prefetch_factor=4 if workers else None)
        )
        while (done := progress()) < last:
            high, low = stage.rates
            rate = (high + (low - high) * done) * min(1.0, 0.05 + trainer.step / 150)
            role, batch, labels = next(batches)
            for name, value in trainer.train_step(batch, labels, rate).items():
                sums.setdefault(f"{role}_{name}", []).append(value)
            if trainer.step % LOG_STEPS == 0:
                means = {name: round(sum(values) / len(values), 4) for name, values in sorted(sums.items())}
                log({"step": trainer.step, "samples": trainer.samples, "seconds": round(trainer.seconds)} | means)
                sums.clear()
            if time.monotonic() - saved > SAVE_SECONDS:
                save()
                saved = time.monotonic()
    save()


def by_the_clock(seconds: float) -> Callable[[], float]:
    """Progress over wall time, from now on."""
    began = time.monotonic()
    return lambda: (time.monotonic() - began) / seconds


def parts_of(stage: Stage) -> list[tuple[float, int | None]]:
    """The curriculum: until which share of the stage there are at most how many units."""
    if stage.units is None:
        return [(1.0, None)]
    fewest, most = stage.units
    return [(0.2, fewest), (0.5, (fewest + most) // 3), (1.0, most)]


def train_command(
    minutes: Annotated[float, typer.Option(help="Wall time for all that is still to be trained.")] = 30,
    strategy: Annotated[str, typer.Option(help="How media are organised, such as S, M*V+S or S*M*V.")] = "M*V+S",
    out: Annotated[Path, typer.Option(help="Where the state, the log and the checkpoint go.")] = DEFAULT_FOLDER,
    threads: Annotated[
        int, typer.Option(help="Torch threads; one beats two on a busy machine. 0: torch's choice.")
    ] = 1,
    workers: Annotated[int, typer.Option(min=0, help="Processes that play and draw, beside the one that trains.")] = 1,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    rate: Annotated[
        float | None, typer.Option(help="First learning rate, a lower one to go on from a trained state.")
    ] = None,
    seed: int = 0,
) -> None:
    """Train the small agent on recorded expert play; run it again to go on."""
    if minutes <= 0:
        raise typer.BadParameter(f"{minutes} is not above 0: give minutes of wall time.", param_hint="--minutes")
    organised = Strategy.parse(strategy)
    if threads:
        torch.set_num_threads(threads)
    torch.manual_seed(seed)
    out.mkdir(parents=True, exist_ok=True)
    state_file, log = out / "state.pt", TrainingLog(out / "log.jsonl")
    processor = processor_of(out)
    trainer = Trainer(new_model(processor.tokenizer), processor, device)
    done = trainer.load(state_file)["stages_done"] if state_file.exists() else 0
    rest = list(enumerate(STAGES))[min(done, len(STAGES) - 1) :]  # all done: more of the last
    shares = sum(stage.share for _, stage in rest)
    for index, stage in rest:
        train_stage(
            trainer,
            stage if rate is None else replace(stage, rates=(rate, stage.rates[1])),
            organised,
            progress=by_the_clock(60 * minutes * stage.share / shares),
            workers=workers,
            log=log.of(stage.name),
            save=lambda index=index: trainer.save(state_file, stages_done=index, strategy=str(organised)),
        )
        trainer.save(state_file, stages_done=index + 1, strategy=str(organised))
    save_checkpoint(out / "checkpoint", trainer.model, processor)
    typer.echo(f"wrote {out / 'checkpoint'}")


def processor_of(out: Path) -> ScreenProcessor:
    """With the tokenizer of an earlier run, or a new one."""
    if not (out / "processor").exists():
        ScreenProcessor(new_tokenizer(corpus())).save_pretrained(out / "processor")
    return ScreenProcessor.from_pretrained(out / "processor")


def save_checkpoint(folder: Path, model: Qwen2_5_VLForConditionalGeneration, processor: ScreenProcessor) -> None:
    """Write model, tokenizer and settings as transformers has them; the heads stay behind."""
    model.eval().cpu().save_pretrained(folder, max_shard_size="9MB")
    processor.save_pretrained(folder)


if __name__ == "__main__":
    typer.run(train_command)
