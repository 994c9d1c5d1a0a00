"""Training of the small checkpoint on generated scenes, in the paper's two stages.

Stage one trains plain feed-forward layers; stage two freezes them as shared experts and adds the mixture (section 3.5).
Resumable: run it again to go on; when all is done, with more of the last part. With one process for each of several
cores: `torchrun --nproc_per_node 2 -m plugins.tracking.train --minutes 60` (`accelerate launch --cpu` starts only one);
on a GPU more clips at once: `python -m plugins.tracking.train --times 16 --workers 12 --minutes 20`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from accelerate import Accelerator
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader, IterableDataset, get_worker_info
from transformers.models.sam2.configuration_sam2 import Sam2HieraDetConfig

from core.training import TrainingLog, save_state

from .clips import ClipBatch, clip_batch
from .configuration_sata import SataConfig
from .identity import identity_losses, sighted
from .modeling_sata import SataModel
from .pipeline_sata import SataPipeline
from .processing_sata import SataProcessor
from .rollout import crowd_losses, rollout_losses

DEFAULT_FOLDER = Path(".cache/sata-tiny")
PROCESS_SEEDS = 1_000_000  # apart; a stage has ten million
RUN_SEEDS = 100_000  # apart, of `--seed`
STARTED_SEEDS = 5_000_000  # further on: what trains a checkpoint on sees no clip that the checkpoint has seen
SIDE = 128  # at which frames are looked at
SAVE_SECONDS = 120
LOG_STEPS = 25
SHARD = "9MB"
DECAY = 0.05
AVERAGED = 0.995  # what a step leaves of the running mean of the weights, which is what is published
CROWD_STRIDE = 24  # of 30 frames: a clip's two ends may be as far apart as a scene's
BEFORE_FEATURES = ("encoder.", "neck.", "stem.", "sharpen.", "blur.")  # parameters that are no head's
NOT_IDENTITY = (*BEFORE_FEATURES, "detection.")
REPEATS = 3  # steps that a batch of clips is good for, where only who is who is learned
LEAST_SIDE = 16  # of what Muon sees as a matrix; routers and tables of a few rows are narrower


@dataclass(frozen=True)
class Stage:
    """A part of the training: its share of the time, clips of what size, and with what.

    Attributes:
        own_boxes: as of `rollout_losses`, reached linearly over the stage.
        twins, stride: as of `clip_batch`.
        crowds: so many further clips a step, of two frames up to `CROWD_STRIDE` apart, for detection and association.
        heads_only: the encoder, the neck and the stems stay as they are.
        identity: who is who is all that is learned, as of `identity_losses`; with `sensors` as of `clip_batch`.
        rates: first and last learning rate.
    """

    name: str
    share: float
    experts: bool
    clips: int
    frames: int
    side: int
    rates: tuple[float, float]
    own_boxes: float = 0.0
    twins: float | None = None
    stride: int | None = None
    crowds: int = 0
    heads_only: bool = False
    identity: bool = False
    sensors: tuple[float, ...] | None = None


STAGES = (
    Stage("detection", 0.3, False, 4, 2, 96, (1.5e-3, 1e-3)),
    Stage("mixture", 0.3, True, 4, 3, 96, (1e-3, 6e-4), own_boxes=0.3),
    Stage("roll-out", 0.4, True, 2, 4, SIDE, (6e-4, 3e-5), own_boxes=0.8, twins=0.6, stride=6, crowds=4),
)
TRAINED_ON = replace(STAGES[-1], rates=(5e-4, 3e-5))  # what a checkpoint is trained on with
HEADS = replace(STAGES[-1], name="heads", rates=(1.5e-3, 5e-4), heads_only=True)
IDENTITY = Stage(  # mostly by what tells twins apart
    "identity", 1.0, True, 6, 8, SIDE, (1e-3, 1e-4), twins=0.75, stride=4,
    identity=True, sensors=(0.1, 0.45, 0.3, 0.15),
)  # fmt: skip


def tiny_config() -> SataConfig:
    """The shipped checkpoint's: SAM 2's Hiera trunk at four stages of 48 to 256 channels; 4.6 M parameters."""
    trunk = Sam2HieraDetConfig(
        hidden_size=48,
        embed_dim_per_stage=[48, 96, 192, 256],
        blocks_per_stage=[1, 2, 4, 1],
        num_attention_heads_per_stage=[1, 2, 4, 4],
        window_size_per_stage=[8, 4, 8, 4],
        global_attention_blocks=[4, 6],
        image_size=[128, 128],
        mlp_ratio=2.0,
        initializer_range=0.04,
    )
    return SataConfig(
        backbone_config=trunk,
        hidden_size=96,
        num_attention_heads=4,
        num_dynamic_head_blocks=1,
        use_relative_coords=True,
        mask_affinity_threshold=0.5,  # these four from `evaluate` on the seeds 1000:1005
        match_threshold=0.65,
        motion_weight=0.8,
        box_margin=0.2,
    )


class Clips(IterableDataset):
    """Batches of clips that were never seen, made in the loader's own processes."""

    def __init__(self, stage: Stage, seed: int) -> None:
        self.stage, self.seed = stage, seed

    def __iter__(self) -> Iterator[tuple[ClipBatch | None, ClipBatch | None]]:
        """Clips to track through, and pairs of frames."""
        info = get_worker_info()
        worker, workers = (info.id, info.num_workers) if info else (0, 1)
        stage, size = self.stage, (self.stage.side, self.stage.side)
        count = stage.clips + stage.crowds
        seed = self.seed + worker * count
        while True:
            clips = (
                clip_batch(seed, stage.clips, stage.frames, size, stage.twins, stage.stride, stage.sensors)
                if stage.clips
                else None
            )
            crowds = (
                clip_batch(seed + stage.clips, stage.crowds, 2, size, stage.twins, CROWD_STRIDE)
                if stage.crowds
                else None
            )
            yield clips, crowds
            seed += workers * count


def optimisers(model: SataModel) -> list[torch.optim.Optimizer]:
    """Muon (arXiv 2502.16982) for matrices between features; AdamW for tables, routers, kernels, scales, and for what
    starts from zero, which has farther to go than Muon's steps take it."""
    late = {id(layer.weight) for layer in model.modules() if getattr(layer, "starts_from_zero", False)}
    matrices = [
        value
        for value in model.parameters()
        if value.ndim == 2 and min(value.shape) >= LEAST_SIDE and id(value) not in late
    ]
    chosen = {id(value) for value in matrices}
    rest = [value for value in model.parameters() if id(value) not in chosen]
    groups = [
        {"params": [value for value in rest if value.ndim > 1], "weight_decay": DECAY},
        {"params": [value for value in rest if value.ndim <= 1], "weight_decay": 0.0},
    ]
    return [
        torch.optim.Muon(matrices, lr=1e-3, weight_decay=DECAY, momentum=0.95, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(groups, lr=1e-3, betas=(0.9, 0.98)),
    ]


class Trainer:
    """Holds what training needs between steps; `save` and `load` make it resumable."""

    def __init__(self, model: SataModel, accelerator: Accelerator) -> None:
        self.accelerator = accelerator
        # Not wrapped for several processes: losses call the model's parts, and a wrapper would only see `forward`.
        self.model = model.to(accelerator.device)
        self.optimisers = [accelerator.prepare(each) for each in optimisers(self.model)]
        self.average = AveragedModel(self.model, multi_avg_fn=get_ema_multi_avg_fn(AVERAGED))
        self.generator = torch.Generator().manual_seed(accelerator.process_index)
        self.step, self.clips, self.seconds = 0, 0, 0.0

    def train_step(
        self,
        batch: ClipBatch | None,
        rate: float,
        own_boxes: float,
        crowds: ClipBatch | None = None,
        *,
        heads_only: bool = False,
    ) -> dict[str, float]:
        """One step; the losses by name. L_CM takes part in every second step, for its second pass."""
        began = time.perf_counter()
        losses: dict[str, torch.Tensor] = {}
        if batch is not None:
            complementary = self.model.config.use_experts and self.step % 2 == 0 and not heads_only
            losses |= rollout_losses(
                self.model,
                batch.to(self.accelerator.device),
                self.generator,
                own_boxes=own_boxes,
                complementary=complementary,
                heads_only=heads_only,
            )
            self.accelerator.backward(losses["total"])
        if crowds is not None:
            found = crowd_losses(self.model, crowds.to(self.accelerator.device), self.generator, heads_only=heads_only)
            self.accelerator.backward(found["total"])
            losses |= found | {"total": found["total"] + losses.get("total", 0)}
        self.descend(rate, BEFORE_FEATURES if heads_only else ())
        self.count(batch, crowds, began)
        return {name: float(value.detach()) for name, value in losses.items()}

    def identity_step(self, batch: ClipBatch, rate: float) -> dict[str, float]:
        """Several small steps on one batch, whose features, most of the work, are the same in all; mean losses."""
        began = time.perf_counter()
        batch = batch.to(self.accelerator.device)
        seen = sighted(self.model, batch, self.generator)
        sums: dict[str, float] = {}
        for _ in range(REPEATS):
            losses = identity_losses(self.model, batch, seen, self.generator)
            self.accelerator.backward(losses["total"])
            self.descend(rate, NOT_IDENTITY)
            for name, value in losses.items():
                sums[name] = sums.get(name, 0.0) + float(value.detach()) / REPEATS
        self.count(batch, None, began)
        return sums

    def descend(self, rate: float, untaught: tuple[str, ...] = ()) -> None:
        """A step along the gradients of all processes; what is untaught, by how its name begins, stays."""
        self.share_gradients(untaught)
        self.accelerator.clip_grad_norm_(self.model.parameters(), 1.0)
        for optimiser in self.optimisers:
            for group in optimiser.param_groups:
                group["lr"] = rate
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
        self.average.update_parameters(self.model)

    def count(self, batch: ClipBatch | None, crowds: ClipBatch | None, began: float) -> None:
        """Note a step, its clips and its time."""
        self.step += 1
        self.clips += sum(len(each.rgb) // each.frames for each in (batch, crowds) if each is not None) * (
            self.accelerator.num_processes
        )
        self.seconds += time.perf_counter() - began

    def share_gradients(self, untaught: tuple[str, ...] = ()) -> None:
        """Every process takes the mean of all for what is taught; a parameter without a gradient counts as zero."""
        if self.accelerator.num_processes == 1:
            return
        trained = [
            value
            for name, value in self.model.named_parameters()
            if value.requires_grad and not name.startswith(untaught)
        ]
        parts = [torch.zeros_like(value) if value.grad is None else value.grad for value in trained]
        flat = torch.cat([part.flatten() for part in parts])
        shared = self.accelerator.reduce(flat, "mean").split([part.numel() for part in parts])
        for value, gradient in zip(trained, shared, strict=True):
            value.grad = gradient.view_as(value)

    def agreed(self, value: float) -> float:
        """The mean over all processes, so that they take the same steps."""
        if self.accelerator.num_processes == 1:
            return value
        return float(self.accelerator.reduce(torch.tensor(value, device=self.accelerator.device), "mean"))

    def save(self, file: Path, **more: Any) -> None:
        """Everything needed to go on, written whole or not at all, by the first process."""
        if not self.accelerator.is_main_process:
            return
        state = {
            "model": self.model.state_dict(),
            "average": self.average.state_dict(),
            "optimisers": [each.state_dict() for each in self.optimisers],
            "generator": self.generator.get_state(),
            "counts": {"step": self.step, "clips": self.clips, "seconds": self.seconds},
        }
        save_state(file, state | more)

    def load(self, file: Path) -> dict[str, Any]:
        """Go on from a saved state; returns it."""
        state = torch.load(file, map_location="cpu", weights_only=True)  # loading moves each part to where it belongs
        self.model.load_state_dict(state["model"])
        self.average.load_state_dict(state["average"])
        for optimiser, saved in zip(self.optimisers, state["optimisers"], strict=True):
            optimiser.load_state_dict(saved)
        self.generator.set_state(state["generator"].cpu())
        self.step, self.clips, self.seconds = (state["counts"][name] for name in ("step", "clips", "seconds"))
        if not self.accelerator.is_main_process:  # what was saved is the first one's
            self.generator.manual_seed(self.step * self.accelerator.num_processes + self.accelerator.process_index)
        return state


def train_stage(
    trainer: Trainer,
    stage: Stage,
    *,
    seconds: float,
    seed: int,
    workers: int = 1,
    log: Callable[[dict[str, Any]], None],
    save: Callable[[], None],
) -> None:
    """Train for that long; `log` is given rows of means, `save` is called now and then."""
    trainer.model.config.use_experts = stage.experts
    batches = iter(DataLoader(Clips(stage, seed), batch_size=None, num_workers=workers, prefetch_factor=4))
    began = saved = time.monotonic()
    sums: dict[str, list[float]] = {}
    while (done := trainer.agreed((time.monotonic() - began) / seconds)) < 1:
        first, last = stage.rates
        rate = (first + (last - first) * done) * min(1.0, 0.05 + done / 0.02)
        clips, crowds = next(batches)
        if stage.identity:
            losses = trainer.identity_step(clips, rate)
        else:
            losses = trainer.train_step(clips, rate, stage.own_boxes * done, crowds, heads_only=stage.heads_only)
        for name, value in losses.items():
            sums.setdefault(name, []).append(value)
        if trainer.step % LOG_STEPS == 0 and trainer.accelerator.is_main_process:
            means = {name: round(sum(values) / len(values), 4) for name, values in sums.items()}
            counts = {"step": trainer.step, "clips": trainer.clips, "seconds": round(trainer.seconds)}
            log(counts | means)
            sums.clear()
        if time.monotonic() - saved > SAVE_SECONDS:
            save()
            saved = time.monotonic()
    save()


def train_command(
    minutes: Annotated[float, typer.Option(help="Wall time for all that is still to be trained.")] = 60,
    out: Annotated[Path, typer.Option(help="Where the state, the log and the checkpoint go.")] = DEFAULT_FOLDER,
    threads: Annotated[
        int, typer.Option(help="Torch threads; one beats two on a busy machine. 0: torch's choice.")
    ] = 1,
    workers: Annotated[int, typer.Option(min=1, help="Processes that make clips, beside each that trains.")] = 1,
    times: Annotated[int, typer.Option(min=1, help="So many times the clips of a step, for a GPU.")] = 1,
    cpu: Annotated[bool, typer.Option("--cpu", help="Leave a GPU alone.")] = False,
    start: Annotated[
        Path | None, typer.Option("--from", help="Begin from this checkpoint: train it on, with more of the last part.")
    ] = None,
    head_minutes: Annotated[
        float, typer.Option(min=0, help="First so long with the heads alone, where --from lacks a part of them.")
    ] = 0,
    identity_minutes: Annotated[
        float,
        typer.Option(min=0, help="Then so long with who is who alone, for a checkpoint that takes twins for another."),
    ] = 0,
    seed: Annotated[
        int, typer.Option(min=0, max=9, help="Another one sees other clips: one for each time a checkpoint trains on.")
    ] = 0,
) -> None:
    """Train the small model on generated scenes; run it again to go on."""
    if minutes <= 0:
        raise typer.BadParameter(f"{minutes} is not above 0: give minutes of wall time.", param_hint="--minutes")
    if start is not None and not (start / "config.json").exists():
        raise typer.BadParameter(f"{start} is no checkpoint: give a folder with config.json.", param_hint="--from")
    if threads:
        torch.set_num_threads(threads)
    torch.manual_seed(seed)
    out.mkdir(parents=True, exist_ok=True)
    state_file, log = out / "state.pt", TrainingLog(out / "log.jsonl")
    model = SataModel(tiny_config()) if start is None else SataModel.from_pretrained(start)
    trainer = Trainer(model, Accelerator(cpu=cpu or not torch.cuda.is_available()))
    done = 0 if start is None else len(STAGES)
    if state_file.exists():
        done = trainer.load(state_file)["stages_done"]
    first_seed = 0 if start is None else STARTED_SEEDS
    first_seed += trainer.accelerator.process_index * PROCESS_SEEDS + seed * RUN_SEEDS

    def run(index: int, stage: Stage, length: float) -> None:
        train_stage(
            trainer,
            replace(stage, clips=times * stage.clips, crowds=times * stage.crowds),
            workers=workers,
            seconds=60 * length,
            seed=(index + 1) * 10_000_000 + first_seed + trainer.clips,
            log=log.of(stage.name),
            save=lambda: trainer.save(state_file, stages_done=index),
        )

    started = trainer.step > 0
    for stage, length in ((HEADS, head_minutes), (IDENTITY, identity_minutes)):
        if length and not started:
            run(done, stage, length)
    rest = list(enumerate(STAGES))[min(done, len(STAGES) - 1) :]  # all done: more of the last
    shares = sum(stage.share for _, stage in rest)
    for index, stage in rest:
        run(index, stage if start is None else TRAINED_ON, minutes * stage.share / shares)
        trainer.save(state_file, stages_done=index + 1)
    if trainer.accelerator.is_main_process:
        trainer.model.load_state_dict(trainer.average.module.state_dict())
        save_checkpoint(out / "checkpoint", trainer.model)
        typer.echo(f"wrote {out / 'checkpoint'}")


def save_checkpoint(folder: Path, model: SataModel) -> None:
    """Write the pipeline as the Hub gets it: weights, settings, processor and code."""
    processor = SataProcessor.for_model(model.eval(), size={"longest_edge": SIDE})
    SataPipeline(model, processor).save_pretrained(folder, max_shard_size=SHARD)


if __name__ == "__main__":
    typer.run(train_command)
