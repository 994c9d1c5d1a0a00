"""How far one pass of the transformer ends from dense, where every pass is given what a dense run gave it.

Between an attention call and a clip lie the layers of a pass and the steps of a run. An error in one call may be of a
kind that the next layers ignore, and over the steps small errors grow; a pass is the place between, where the one can
be seen without the other.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from statistics import fmean, median
from typing import Any

import torch

from .compare import METHODS, RECTIFY
from .config import RectifiedAttentionConfig
from .enable import enable_rectified_attention

BLOCK_SIZES = (64, 32, 16)


@dataclass(frozen=True)
class PassError:
    """One pass: |velocity - dense velocity| / |dense velocity| with each method in all layers, on the same inputs."""

    block_size: int
    seed: int
    step: int
    sparse: float
    rectified: float
    centroid: float


@dataclass(frozen=True)
class Pass:
    """What the transformer was given in one step, and the velocity that it made of it, [batch, channels, T, H, W]."""

    arguments: tuple[Any, ...]
    options: dict[str, Any]
    velocity: torch.Tensor


@contextmanager
def recorded(transformer: torch.nn.Module) -> Generator[list[Pass]]:
    """Every pass of the transformer inside the block, in order."""
    passes: list[Pass] = []

    def keep(_: torch.nn.Module, arguments: tuple[Any, ...], options: dict[str, Any], output: Any) -> None:
        passes.append(Pass(arguments, options, velocity_of(output)))

    hook = transformer.register_forward_hook(keep, with_kwargs=True)
    try:
        yield passes
    finally:
        hook.remove()


def velocity_of(output: Any) -> torch.Tensor:
    """The tensor of a diffusers model's output, which is a tuple or has `sample`."""
    return output[0] if isinstance(output, tuple) else output.sample


def pass_errors(
    transformer: torch.nn.Module, passes: Sequence[Pass], config: RectifiedAttentionConfig
) -> dict[str, list[float]]:
    """Per method of METHODS, the relative L2 error of each pass with sparse attention in all layers."""
    found: dict[str, list[float]] = {}
    for method in METHODS:
        with enable_rectified_attention(transformer, config.replace(rectify=RECTIFY[method])), torch.no_grad():
            found[method] = [
                float((velocity_of(transformer(*one.arguments, **one.options)) - one.velocity).float().norm())
                / float(one.velocity.float().norm())
                for one in passes
            ]
    return found


def evaluate_passes(
    pipeline: Any, prompts: dict[int, str], *, density: float, steps: int | None, block_sizes: Sequence[int]
) -> dict[str, Any]:
    """Errors of every step's pass, summed up per block size.

    Args:
        prompts: by seed.
    """
    errors: list[PassError] = []
    config = pipeline.attention_config().replace(density=density, dense_steps=0.0)
    for seed, prompt in prompts.items():
        with recorded(pipeline.transformer) as passes:
            pipeline(prompt, seed=seed, num_inference_steps=steps, attention="dense", output_type="latent")
        for size in block_sizes:
            found = pass_errors(pipeline.transformer, passes, config.replace(block_size=size))
            rows = zip(*(found[method] for method in METHODS), strict=True)
            errors += [PassError(size, seed, step, *row) for step, row in enumerate(rows)]
    return {"per_block_size": [_summary(errors, size) for size in block_sizes], "passes": list(map(asdict, errors))}


def _summary(errors: Sequence[PassError], block_size: int) -> dict[str, float]:
    rows = [error for error in errors if error.block_size == block_size]
    return {
        "block_size": block_size,
        "passes": len(rows),
        "rectified_below_sparse": fmean(row.rectified < row.sparse for row in rows),
    } | {f"median_{name}": median(getattr(row, name) for row in rows) for name in METHODS}


def as_markdown(report: dict[str, Any]) -> str:
    """The table of `evaluate_passes`, for the card."""
    lines = [
        "| tokens in a block | passes | rectified below sparse | median error sparse | rectified | centroid |",
        "|---|---|---|---|---|---|",
    ]
    for row in report["per_block_size"]:
        lines.append(
            f"| {row['block_size']} | {row['passes']} | {100 * row['rectified_below_sparse']:.0f} % | "
            f"{row['median_sparse']:.3f} | {row['median_rectified']:.3f} | {row['median_centroid']:.3f} |"
        )
    return "\n".join(lines)
