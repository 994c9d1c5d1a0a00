"""The noise that a clip of the small model starts from: normal, around a mean that tells each token where it is.

Rotary positions tell a transformer how far apart two tokens are, never where one is, and pure noise shows no edges:
at the first step nothing says which token is the middle of the frame. Flow matching may start from any distribution
(Albergo and Vanden-Eijnden, arXiv 2209.15571), so the small model starts from noise whose mean is a fixed pattern of
waves over the clip.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

PERIODS = ((64.0, 16.0), (24.0, 10.0, 4.0), (24.0, 10.0, 4.0))  # in tokens, along time, height and width


def noise_mean(grid: Sequence[int], channels: int, strength: float = 1.0) -> torch.Tensor:
    """The mean of the noise: float32 [channels, T, H, W].

    Each channel is the sine or cosine of one period along one axis, counted from the middle of the clip, with a mean
    square of about strength squared. Channels beyond the 16 that there are waves for have mean 0.

    Args:
        grid: (T, H, W) in tokens.
        strength: of the waves beside the noise's standard deviation of 1; 0 gives the usual noise.
    """
    mean = torch.zeros(channels, *grid)
    places = (torch.arange(count) - (count - 1) / 2 for count in grid)
    axes = torch.meshgrid(*places, indexing="ij")
    waves = [
        wave(2 * math.pi * axis / period)
        for axis, periods in zip(axes, PERIODS, strict=True)
        for period in periods
        for wave in (torch.sin, torch.cos)
    ][:channels]
    mean[: len(waves)] = strength * math.sqrt(2) * torch.stack(waves)
    return mean
