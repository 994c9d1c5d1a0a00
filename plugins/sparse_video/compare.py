"""The same prompts and seeds with several kinds of attention, side by side: time, memory, and distance from dense."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import numpy as np
import torch

from .attention import rectified_attention
from .config import RectifiedAttentionConfig, Rectify
from .errors import SparseVideoInputError
from .metrics import psnr, ssim
from .order import Grid

RECTIFY: dict[str, Rectify] = {"sparse": "none", "rectified": "paper", "centroid": "centroid"}  # in the config
METHODS = tuple(RECTIFY)


@dataclass(frozen=True)
class Variant:
    """One way to compute attention.

    Attributes:
        method: "dense", "sparse", "rectified" or "centroid" (beyond the paper).
        density: share of key blocks asked for; 1 for dense.
    """

    method: str
    density: float = 1.0

    @property
    def label(self) -> str:
        """Such as "rectified 0.25"."""
        return self.method if self.method == "dense" else f"{self.method} {self.density:g}"

    def arguments(self, pipeline: Any) -> dict[str, Any]:
        """What a call of SparseVideoPipeline gets."""
        if self.method == "dense":
            return {"attention": "dense"}
        if self.method == "centroid":
            config = pipeline.attention_config().replace(rectify="centroid")
            return {"attention": "rectified", "config": config, "density": self.density}
        return {"attention": self.method, "density": self.density}

    def warm_up_arguments(self, pipeline: Any) -> dict[str, Any]:
        """The same for a call of one step, which must not be one of those that stay dense."""
        arguments = self.arguments(pipeline)
        if self.method == "dense":
            return arguments
        config = arguments.get("config") or pipeline.attention_config()
        return arguments | {"config": config.replace(dense_steps=0.0)}


@dataclass(frozen=True)
class Sample:
    """One clip of a comparison.

    Attributes:
        variant: how its attention was computed.
        seed: its seed.
        frames: float32 [frames, height, width, 3] in 0..1.
        run: the record of its run.
        psnr, ssim: against the dense clip of the same seed, dB and 0..1; infinite and 1 for the dense clip itself.
    """

    variant: Variant
    seed: int
    frames: np.ndarray
    run: dict[str, Any]
    psnr: float
    ssim: float


def attention_errors(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, config: RectifiedAttentionConfig, grid: Grid
) -> dict[str, float]:
    """Each method's |sparse - dense| / |dense| over all tokens and heads, on one call's tensors, in float32.

    Args:
        query, key, value: [batch, heads, tokens, head_dim]; text, where there is any, comes last.
        config: with the density to compare at; its `rectify` is not used.
        grid: (frames, rows, columns) of the visual tokens.
    """
    tensors = [tensor.float() for tensor in (query, key, value)]
    where: dict[str, Any] = {"grid": grid, "text_tokens": query.shape[2] - math.prod(grid)}
    dense = rectified_attention(*tensors, config=config.replace(density=1.0), **where)

    def error(rectify: Rectify) -> float:
        sparse = rectified_attention(*tensors, config=config.replace(rectify=rectify), **where)
        return float((sparse - dense).norm() / dense.norm())

    return {method: error(rectify) for method, rectify in RECTIFY.items()}


def variants(methods: Sequence[str], densities: Sequence[float]) -> list[Variant]:
    """Dense first, then every method at every density."""
    unknown = [method for method in methods if method not in METHODS]
    if unknown:
        raise SparseVideoInputError(f"method {unknown[0]!r} is unknown; choose from {', '.join(METHODS)}")
    return [Variant("dense"), *(Variant(method, density) for density in densities for method in methods)]


def compare(
    pipeline: Any,
    prompt: str,
    chosen: Sequence[Variant],
    seeds: Sequence[int],
    *,
    tell: Callable[[str], None] = lambda text: None,
    **arguments: Any,
) -> Iterator[Sample]:
    """One sample per seed and variant, as they are made; the first variant is dense.

    Each variant first runs one step that is not counted: compiling and probing happen once per process, not per clip.

    Args:
        tell: called with a line on what comes next.
        arguments: of every call: num_frames, height, width, num_inference_steps, ...
    """
    for variant in chosen:
        tell(f"warming up {variant.label}")
        warm_up = arguments | {"num_inference_steps": 1, "output_type": "latent"}
        pipeline(prompt, seed=seeds[0], **warm_up, **variant.warm_up_arguments(pipeline))
    for seed in seeds:
        dense = None
        for variant in chosen:
            tell(f"seed {seed}, {variant.label}")
            result = pipeline(prompt, seed=seed, **arguments, **variant.arguments(pipeline))
            frames = result.frames[0]
            dense = frames if dense is None else dense
            yield Sample(variant, seed, frames, result.run, psnr(frames, dense), ssim(frames, dense))


def summarise(samples: Sequence[Sample]) -> list[dict[str, Any]]:
    """One row per variant, means over seeds; ratios are of mean times, dense over variant.

    Seconds are of the whole call (text, denoising, decoding); `seconds_per_minute` is per minute of video.
    """
    rows: list[dict[str, Any]] = []
    for variant in dict.fromkeys(sample.variant for sample in samples):
        own = [sample for sample in samples if sample.variant == variant]
        runs = [sample.run for sample in own]
        seconds = fmean(run["timings"]["total"] for run in runs)
        minutes = runs[0]["params"]["num_frames"] / runs[0]["fps"] / 60
        recalls = [run["attention_stats"]["estimated_recall"] for run in runs if run["attention_stats"]]
        memory = [run["peak_memory_bytes"] for run in runs if run["peak_memory_bytes"] is not None]
        rows.append(
            {
                "method": variant.method,
                "density_asked": variant.density,
                "density": fmean(run["density"] for run in runs),
                "estimated_recall": fmean(recalls) if recalls else None,
                "executor": runs[0]["executor"]["name"] if runs[0]["executor"] else runs[0]["attention"]["backend"],
                "seconds": seconds,
                "denoise_seconds": fmean(run["timings"]["denoise"] for run in runs),
                "seconds_per_step": fmean(second for run in runs for second in run["step_seconds"]),
                "seconds_per_minute": seconds / minutes,
                "psnr": None if variant.method == "dense" else fmean(sample.psnr for sample in own),
                "ssim": fmean(sample.ssim for sample in own),
                "peak_memory_bytes": max(memory, default=None),
            }
        )
    for row in rows:
        row["ratio"] = rows[0]["seconds"] / row["seconds"]
        row["denoise_ratio"] = rows[0]["denoise_seconds"] / row["denoise_seconds"]
    return rows
