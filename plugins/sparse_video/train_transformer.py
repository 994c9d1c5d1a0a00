"""Training of the small Wan transformer by flow matching, on a few moments of whole clips first, at full length last.

Attention's cost grows with the square of the tokens, so most examples are a clip's frames at a few of its steps in
time, with the positions that those have in the clip: the layout of all of it is learned at a fraction of the price.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from diffusers.models.transformers.transformer_wan import WanTransformer3DModel
from torch import nn

from core.training import save_state

from .latents import GEOMETRY, MAP_LABELS, MAPS, Examples, ExampleSource
from .noise import noise_mean
from .scenes import COLOURS

TAP = 2  # the block after which the training-only head reads where which shape is
LABEL_WEIGHT, GEOMETRY_WEIGHT = 0.3, 0.3
TEXT_DROPOUT = 0.1
# Towards noise: at 0.9 the shapes can be seen through it, so only above that does a model learn from the text where to
# put them. Half of the examples are shifted far.
SHIFT, FAR_SHIFT = 3.0, 15.0
AVERAGED, MOST_AVERAGED = 0.05, 50  # how far back the running average reaches: of the steps so far, and in steps


class Tap(nn.Module):
    """A transformer block that keeps its last output, for the training-only head."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.block = block
        self.hidden = torch.empty(0)

    def forward(self, *arguments: Any, **options: Any) -> torch.Tensor:
        self.hidden = self.block(*arguments, **options)
        return self.hidden


class SampledRope(nn.Module):
    """Rotary positions of tokens that are some steps of a longer clip.

    Attributes:
        steps: which ones, int64 [T]; None where the clip is whole.
        clip: how many steps the clip has.
    """

    def __init__(self, rope: nn.Module) -> None:
        super().__init__()
        self.rope = rope
        self.steps: torch.Tensor | None = None
        self.clip = 0

    def forward(self, latents: torch.Tensor) -> tuple[torch.Tensor, ...]:
        if self.steps is None:
            return self.rope(latents)
        height, width = latents.shape[3:]
        whole = self.rope(latents.new_empty(1, 1, self.clip, height, width))
        steps = self.steps.to(latents.device)
        return tuple(part.unflatten(1, (self.clip, height * width))[:, steps].flatten(1, 2) for part in whole)


def sample_steps(clip: int, count: int, generator: torch.Generator) -> torch.Tensor:
    """`count` of a clip's steps in time, ascending: every other time in a row, else from all over it."""
    if torch.rand((), generator=generator) < 0.5:
        first = int(torch.randint(clip - count + 1, (), generator=generator))
        return torch.arange(first, first + count)
    return torch.randperm(clip, generator=generator)[:count].sort().values


def map_losses(guess: torch.Tensor, truth: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The head's cross entropy for the labels, and its square error for the geometry, per token that shows a shape.

    Args:
        guess, truth: [batch, tokens, MAPS].
    """
    parts = (len(MAP_LABELS), len(GEOMETRY))
    guesses, truths = guess.split(parts, -1), truth.split(parts, -1)
    share = truth[..., : len(COLOURS)].sum()
    return (
        nn.functional.binary_cross_entropy_with_logits(guesses[0], truths[0]),
        (guesses[1] - truths[1]).square().sum() / (len(GEOMETRY) * share.clamp_min(1e-6)),
    )


def noise_levels(count: int, generator: torch.Generator) -> torch.Tensor:
    """Noise levels sigma in 0..1, logit-normal, shifted towards noise (arXiv 2403.03206, eq. 19 and 23)."""
    level = torch.sigmoid(torch.randn(count, generator=generator))
    shift = torch.where(torch.rand(count, generator=generator) < 0.5, SHIFT, FAR_SHIFT)
    return shift * level / (1 + (shift - 1) * level)


def optimisers(model: WanTransformer3DModel, head: nn.Module, rate: float) -> list[torch.optim.Optimizer]:
    """Muon for the matrices inside the blocks, AdamW for the rest."""
    inside = {name: value for name, value in model.named_parameters() if name.startswith("blocks.")}
    matrices = [value for value in inside.values() if value.ndim == 2]
    chosen = {id(value) for value in matrices}
    rest = [value for value in (*model.parameters(), *head.parameters()) if id(value) not in chosen]
    muon = torch.optim.Muon(matrices, lr=rate, weight_decay=0.01, momentum=0.95, adjust_lr_fn="match_rms_adamw")
    return [muon, torch.optim.AdamW(rest, lr=rate, betas=(0.9, 0.98), weight_decay=0.01)]


class TransformerTrainer:
    """Holds what training needs between batches; `save` and `load` make it resumable.

    Args:
        null_text: the embedding of the empty prompt, [tokens, width], which replaces a tenth of the prompts.
        noise_strength: of the noise's mean (`noise_mean`).
        compiled: compile the blocks (a fifth to a half faster; needs a C++ compiler).

    Attributes:
        guidance: how much of the difference that the text makes is added to the target, so that the model learns to
            make clips as with a guidance scale of 1 / (1 - guidance), in one pass (arXiv 2502.12154, model guidance).
    """

    def __init__(
        self,
        model: WanTransformer3DModel,
        null_text: torch.Tensor,
        *,
        noise_strength: float = 1.0,
        rate: float = 1.5e-3,
        device: str = "cpu",
        compiled: bool = False,
    ) -> None:
        self.model, self.null_text, self.rate, self.device = (
            model.to(device).train(),
            null_text.to(device),
            rate,
            device,
        )
        self.noise_strength = noise_strength
        self.head = nn.Linear(model.config["num_attention_heads"] * model.config["attention_head_dim"], len(MAPS))
        self.head.to(device)
        self.optimisers = optimisers(model, self.head, rate)
        self.average = {name: value.detach().clone() for name, value in model.state_dict().items()}
        self.generator = torch.Generator().manual_seed(0)
        self.step, self.seconds, self.samples = 0, 0.0, 0
        self.guidance = 0.0
        if compiled:
            torch._dynamo.config.recompile_limit = 64  # ty: ignore[invalid-assignment]  # sizes, with and without gradients
            model.compile_repeated_blocks(dynamic=False)
        self.tap = Tap(model.blocks[TAP])
        model.blocks[TAP] = self.tap
        self.rope = SampledRope(model.rope)
        model.register_module("rope", self.rope)

    def loss(self, examples: Examples, steps: torch.Tensor | None = None) -> tuple[torch.Tensor, ...]:
        """The flow-matching loss (velocity, mean square) and the head's two (`map_losses`).

        Args:
            steps: of the clips' steps in time, those to learn from; None for all.
        """
        grid = examples.latents.shape[2:]
        mean = noise_mean(grid, examples.latents.shape[1], self.noise_strength)
        self.rope.steps, self.rope.clip = steps, grid[0]
        if steps is not None:
            examples, mean = examples.at(steps), mean[:, steps]
        latents, text = examples.latents.to(self.device).float(), examples.text.to(self.device)
        sigma = noise_levels(len(latents), self.generator).to(self.device)
        noise = (mean + torch.randn(latents.shape, generator=self.generator)).to(self.device)
        mixed = torch.lerp(latents, noise, sigma[:, None, None, None, None])
        dropped = torch.rand(len(text), generator=self.generator).to(self.device) < TEXT_DROPOUT
        text = torch.where(dropped[:, None, None], self.null_text.to(text.dtype), text)
        with torch.autocast(self.device, torch.bfloat16):
            velocity = self.model(mixed, sigma * 1000, text, return_dict=False)[0].float()
            maps = self.head(self.tap.hidden)
        target = noise - latents
        if self.guidance:
            nothing = self.null_text.to(text.dtype).expand_as(text)
            with torch.no_grad(), torch.autocast(self.device, torch.bfloat16):
                unasked = self.model(mixed, sigma * 1000, nothing, return_dict=False)[0].float()
            target = target + self.guidance * (velocity.detach() - unasked)  # 0 where the text was dropped
        truth = examples.maps.to(self.device).flatten(2).transpose(1, 2).float()
        return nn.functional.mse_loss(velocity, target), *map_losses(maps.float(), truth)

    def train_step(self, examples: Examples, rate: float, steps: torch.Tensor | None = None) -> dict[str, float]:
        """One step of both optimisers and of the running average; `steps` as of `loss`."""
        began = time.perf_counter()
        losses = self.loss(examples, steps)
        weights = (1.0, LABEL_WEIGHT, GEOMETRY_WEIGHT)
        torch.stack([weight * loss for weight, loss in zip(weights, losses, strict=True)]).sum().backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        for optimiser in self.optimisers:
            for group in optimiser.param_groups:
                group["lr"] = rate
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
        self.step += 1
        self.samples += len(examples)
        weight = 1 / (1 + min(AVERAGED * self.step, MOST_AVERAGED))
        with torch.no_grad():
            for name, value in self.plain_state().items():
                self.average[name].lerp_(value, weight)
        self.seconds += time.perf_counter() - began
        names = ("loss", "map_loss", "geometry_loss")
        return {name: loss.item() for name, loss in zip(names, losses, strict=True)}

    def plain_state(self) -> dict[str, torch.Tensor]:
        """The model's weights under their own names, without the tap and the compiler's wrappers."""
        return {
            name.replace(f"blocks.{TAP}.block.", f"blocks.{TAP}.").replace("_orig_mod.", ""): value
            for name, value in self.model.state_dict().items()
        }

    def save(self, file: Path, **more: Any) -> None:
        """Everything needed to go on, written whole or not at all."""
        state = {
            "model": self.plain_state(),
            "head": self.head.state_dict(),
            "average": self.average,
            "optimisers": [optimiser.state_dict() for optimiser in self.optimisers],
            "counts": {"step": self.step, "seconds": self.seconds, "samples": self.samples},
            "generator": self.generator.get_state(),
        }
        save_state(file, state | more)

    def load(self, file: Path) -> dict[str, Any]:
        """Go on from a saved state; returns it."""
        state = torch.load(file, weights_only=True)
        own = dict(zip(self.plain_state(), self.model.state_dict(), strict=True))
        self.model.load_state_dict({own[name]: value for name, value in state["model"].items()})
        self.head.load_state_dict(state["head"])
        for optimiser, saved in zip(self.optimisers, state["optimisers"], strict=True):
            optimiser.load_state_dict(saved)
        self.average = {name: value.to(self.device) for name, value in state["average"].items()}
        self.generator.set_state(state["generator"])
        self.step, self.seconds, self.samples = (state["counts"][name] for name in ("step", "seconds", "samples"))
        return state


def train_for(
    trainer: TransformerTrainer,
    sources: list[tuple[ExampleSource, int, int | None]],
    *,
    seconds: float,
    rate: Callable[[float], float],
    log: Callable[[dict[str, float]], None],
    every: int = 50,
    save: Callable[[], None] = lambda: None,
) -> None:
    """Alternate between the sources; `rate` maps the share of the time to a rate.

    Args:
        sources: each with its batch size and how many of its clips' steps in time to learn from at once (None: all).
    """
    began, since, sums, last_saved = time.monotonic(), time.monotonic(), {}, time.monotonic()
    turn = 0
    while (elapsed := time.monotonic() - began) < seconds:
        source, count, moments = sources[turn % len(sources)]
        turn += 1
        examples = source.batch(count)
        clip = examples.latents.shape[2]
        steps = None if moments is None else sample_steps(clip, moments, trainer.generator)
        parts = trainer.train_step(examples, rate(elapsed / seconds), steps)
        label = f"{source.size.tokens * (moments or clip) // clip}"
        for name, value in parts.items():
            sums.setdefault(f"{name}_{label}", []).append(value)
        if trainer.step % every == 0:
            means = {name: round(sum(values) / len(values), 4) for name, values in sums.items()}
            now = time.monotonic()
            counts = {"step": trainer.step, "samples": trainer.samples, "seconds": round(trainer.seconds)}
            log(counts | {"seconds_per_step": round((now - since) / every, 3)} | means)
            since, sums = now, {}
        if time.monotonic() - last_saved > 120:
            save()
            last_saved = time.monotonic()
    save()
