"""Prompts of the mask decoder: boxes, points, masks, and what a tracklet remembers (section 3.3; arXiv 2304.02643)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional

from .configuration_sata import SataConfig

CORNERS, PREVIOUS_CORNERS, POINT_OUTSIDE, POINT_INSIDE, PADDING = (0, 1), (2, 3), 4, 5, 6
KINDS = 7


@dataclass(frozen=True)
class Prompts:
    """What is known of n instances before their masks are decoded.

    Attributes:
        source: int64 [n], the image of the batch that each is in.
        boxes: [n, 4] in units of the sides.
        previous: bool [n], True where the box is carried over from the frame before, not drawn.
        points: [n, p, 2] in units of the sides and `labels` int64 [n, p]: 1 inside, 0 outside, -1 none; or None.
        masks: [n, 1, h, w] in 0..1 at the decoder's scale; zeros where there is none; or None.
        memory: [n, q + 1, d], a tracklet's fine-grained vector and query tokens; zeros where there is none; or None.
    """

    source: torch.Tensor
    boxes: torch.Tensor
    previous: torch.Tensor
    points: torch.Tensor | None = None
    labels: torch.Tensor | None = None
    masks: torch.Tensor | None = None
    memory: torch.Tensor | None = None


class PromptEncoder(nn.Module):
    """Prompts to tokens [n, t, d] and to what is added to the image's map, [n, d, h, w] or None."""

    frequencies: torch.Tensor

    def __init__(self, config: SataConfig) -> None:
        super().__init__()
        width = config.hidden_size
        self.register_buffer("frequencies", torch.randn(2, width // 2))
        self.kinds = nn.Embedding(KINDS, width)
        self.mask = nn.Sequential(
            nn.Conv2d(1, width // 4, 3, padding=1), nn.GELU(), nn.Conv2d(width // 4, width, 3, padding=1)
        )
        self.memory = nn.Linear(width, width)
        self.memory_place = nn.Parameter(torch.zeros(config.num_query_tokens + 1, width))

    def position(self, points: torch.Tensor) -> torch.Tensor:
        """Random Fourier features of points [..., 2] in units of the sides: [..., d]."""
        turned = 2 * math.pi * ((2 * points - 1) @ self.frequencies)
        return torch.cat([turned.sin(), turned.cos()], -1)

    def grid_position(self, height: int, width: int) -> torch.Tensor:
        """The same for every cell of a map: [d, h, w]."""
        device = self.frequencies.device
        y = (torch.arange(height, device=device) + 0.5) / height
        x = (torch.arange(width, device=device) + 0.5) / width
        return self.position(torch.stack(torch.meshgrid(x, y, indexing="xy"), -1)).permute(2, 0, 1)

    def forward(self, prompts: Prompts) -> tuple[torch.Tensor, torch.Tensor | None]:
        corners = prompts.boxes.unflatten(-1, (2, 2))
        kinds = torch.where(
            prompts.previous[:, None],
            torch.tensor(PREVIOUS_CORNERS, device=corners.device),
            torch.tensor(CORNERS, device=corners.device),
        )
        tokens = [self.position(corners) + self.kinds(kinds)]
        if prompts.points is not None and prompts.labels is not None:
            given = prompts.labels >= 0
            kinds = torch.where(given, POINT_OUTSIDE + prompts.labels, PADDING)
            tokens.append(self.position(prompts.points) * given[..., None] + self.kinds(kinds))
        if prompts.memory is not None:
            known = prompts.memory.abs().sum((1, 2), keepdim=True) > 0
            tokens.append((self.memory(prompts.memory) + self.memory_place) * known)
        dense = None
        if prompts.masks is not None:
            drawn = prompts.masks.flatten(1).amax(1) > 0
            dense = self.mask(2 * prompts.masks - 1) * drawn[:, None, None, None]
        return torch.cat(tokens, 1), dense


def resized_masks(masks: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Masks [n, H, W] (bool or 0..1) by area to [n, 1, h, w]."""
    return functional.interpolate(masks[:, None].float(), (height, width), mode="area")
