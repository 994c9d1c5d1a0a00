"""Fusion of the encoder's scales by deformable convolutions and Dynamic-Head blocks (section 3.3; arXiv 2106.08322)."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from .configuration_sata import SataConfig

GROUPS = 8  # of the group norms
TAPS = 9  # of a 3 x 3 kernel


class DeformableConv(nn.Module):
    """Modulated deformable 3 x 3 convolution (arXiv 1811.11168), in plain PyTorch: sample, weigh, multiply.

    `forward(features, guide)`: both [B, d, h, w]; the offsets are read from the guide. With a guide layer of zeros
    it is an ordinary convolution.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.guide = nn.Conv2d(width, 3 * TAPS, 3, padding=1)
        self.mix = nn.Conv2d(TAPS * width, width, 1, bias=False)
        self.norm = nn.GroupNorm(GROUPS, width)

    def forward(self, features: torch.Tensor, guide: torch.Tensor) -> torch.Tensor:
        batch, width, height, across = features.shape
        offset_y, offset_x, weight = self.guide(guide).chunk(3, 1)
        grid = self.sampling_grid(offset_y, offset_x, height, across)
        taken = functional.grid_sample(features, grid, align_corners=False, padding_mode="zeros")
        taken = taken.unflatten(2, (TAPS, height))
        in_place = None if torch.is_grad_enabled() else taken  # fresh memory costs more than the product
        taken = torch.mul(taken, (2 * weight.sigmoid())[:, None], out=in_place)
        return self.norm(self.mix(taken.reshape(batch, TAPS * width, height, across)))

    @staticmethod
    def sampling_grid(offset_y: torch.Tensor, offset_x: torch.Tensor, height: int, width: int) -> torch.Tensor:
        """Where each tap looks, in `grid_sample`'s units: [B, taps * h, w, 2]; offsets [B, taps, h, w] in pixels."""
        tap = torch.arange(TAPS, device=offset_y.device)
        down = torch.arange(height, device=offset_y.device)[None, :, None] + (tap // 3 - 1)[:, None, None]
        right = torch.arange(width, device=offset_y.device)[None, None] + (tap % 3 - 1)[:, None, None]
        y = (2 * (down + offset_y) + 1) / height - 1
        x = (2 * (right + offset_x) + 1) / width - 1
        return torch.stack([x, y], -1).flatten(1, 2).to(offset_y.dtype)


class DynamicHeadBlock(nn.Module):
    """Each scale takes from its neighbours (deformable), is weighed (scale-aware) and bent (task-aware)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.finer, self.same, self.coarser = (DeformableConv(width) for _ in range(3))
        self.scale_weight = nn.Linear(width, 1)
        self.task = nn.Sequential(nn.Linear(width, width // 4), nn.ReLU(), nn.Linear(width // 4, 4 * width))

    def forward(self, maps: list[torch.Tensor]) -> list[torch.Tensor]:
        """Maps [B, d, h, w], the finest first; the same shapes come back."""
        return [map_ + self.task_aware(self.gathered(maps, index)) for index, map_ in enumerate(maps)]

    def gathered(self, maps: list[torch.Tensor], index: int) -> torch.Tensor:
        guide = maps[index]
        parts = [self.same(guide, guide)]
        for layer, place in ((self.finer, index - 1), (self.coarser, index + 1)):
            if 0 <= place < len(maps):
                resized = functional.interpolate(maps[place], guide.shape[2:], mode="bilinear", align_corners=False)
                parts.append(layer(resized, guide))
        weights = [functional.hardsigmoid(self.scale_weight(part.mean((2, 3))))[:, :, None, None] for part in parts]
        return torch.stack([weight * part for weight, part in zip(weights, parts, strict=True)]).mean(0)

    def task_aware(self, features: torch.Tensor) -> torch.Tensor:
        """Dynamic ReLU (arXiv 2003.10027): the larger of two lines per channel, whose slopes the whole map decides."""
        change = self.task(features.mean((2, 3))).tanh().unflatten(1, (4, -1))[..., None, None]
        first = (1 + change[:, 0]) * features + 0.5 * change[:, 1]
        return torch.maximum(first, change[:, 2] * features + 0.5 * change[:, 3])


class Neck(nn.Module):
    """Encoder maps, the finest first, to fused maps F^A of one width: [B, d, h_s, w_s] per scale."""

    def __init__(self, config: SataConfig, widths: list[int]) -> None:
        super().__init__()
        self.lateral = nn.ModuleList(nn.Conv2d(width, config.hidden_size, 1) for width in widths)
        self.norms = nn.ModuleList(nn.GroupNorm(GROUPS, config.hidden_size) for _ in widths)
        self.blocks = nn.ModuleList(DynamicHeadBlock(config.hidden_size) for _ in range(config.num_dynamic_head_blocks))

    def forward(self, maps: list[torch.Tensor]) -> list[torch.Tensor]:
        fused = [norm(layer(map_)) for norm, layer, map_ in zip(self.norms, self.lateral, maps, strict=True)]
        for index in range(len(fused) - 2, -1, -1):
            coarse = functional.interpolate(
                fused[index + 1], fused[index].shape[2:], mode="bilinear", align_corners=False
            )
            fused[index] = fused[index] + coarse
        for block in self.blocks:
            fused = block(fused)
        return fused
