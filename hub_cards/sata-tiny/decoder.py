"""The mask decoder: prompts and maps to candidate masks, each with its affinity, and how likely the object is there."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional

from .boxes import inside_boxes, relative_coordinates
from .configuration_sata import SataConfig
from .memory import Attention, FeedForward, from_zero
from .prompts import PromptEncoder, Prompts

MASK_WIDTH = 32
NEAR = 1.5  # sides of the prompted box: as far around it an object is told from what is beside it


@dataclass(frozen=True)
class Decoded:
    """Candidates of n prompts.

    Attributes:
        masks: logits [n, k, h, w]; the first is the target's, the others those of what may be meant instead.
        affinity: s_mask, logits [n, k]: the mask's IoU with its object, as the decoder expects it.
        presence: s_occ, logits [n]: above zero where the object is visible.
    """

    masks: torch.Tensor
    affinity: torch.Tensor
    presence: torch.Tensor


class TwoWayLayer(nn.Module):
    """Tokens attend to each other and to the map, and the map to the tokens (arXiv 2304.02643, appendix A)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.among_tokens = Attention(width, heads)
        self.to_map = Attention(width, heads, inner=width // 2)
        self.feed_forward = FeedForward(width)
        self.to_tokens = Attention(width, heads, inner=width // 2)

    def forward(
        self, tokens: torch.Tensor, cells: torch.Tensor, where: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        tokens = self.among_tokens(tokens)
        tokens = self.feed_forward(self.to_map(tokens, cells + where))
        return tokens, self.to_tokens(cells + where, tokens) - where


class Appearance(nn.Module):
    """What a first mask holds against what is around it, as evidence for each pixel: what tells twins apart.

    `forward(token [n, d], logits [n, h, w], features [n, f, h, w], detail [B, c, h, w], source int64 [n], near
    [n, h, w])` is what to add to the logits [n, h, w]: a linear classifier of pixels by features and detail, whose
    weights a small network makes of their means inside the mask and beside it, `near` (0..1) being where it is looked
    for and `source` the image that each mask is of.
    """

    def __init__(self, width: int, features: int, detail: int) -> None:
        super().__init__()
        self.surface = nn.Conv2d(detail, features, 1)
        self.judge = nn.Sequential(
            nn.Linear(width + 4 * features, width), nn.GELU(), from_zero(nn.Linear(width, 2 * features + 1))
        )

    def forward(
        self,
        token: torch.Tensor,
        logits: torch.Tensor,
        features: torch.Tensor,
        detail: torch.Tensor,
        source: torch.Tensor,
        near: torch.Tensor,
    ) -> torch.Tensor:
        inside = logits.detach().sigmoid()
        weights = torch.stack([inside * near, (1 - inside) * near], 1).flatten(2)
        weights = weights / weights.sum(2, keepdim=True).clamp_min(1e-3)
        seen = torch.cat([features, functional.gelu(self.surface(detail))[source]], 1)
        means = torch.einsum("nkp,ncp->nkc", weights, seen.flatten(2))
        judged = self.judge(torch.cat([token, means.flatten(1)], 1))
        return torch.einsum("nc,nchw->nhw", judged[:, :-1], seen) / MASK_WIDTH**0.5 + judged[:, -1, None, None]


class MaskDecoder(nn.Module):
    """`forward(prompts, coarse, fine, detail)`: maps [B, d, h, w] at the decoder's scale, and [B, 32, h', w'] and the
    stems' [B, c, h', w'] at the masks'."""

    def __init__(self, config: SataConfig, detail_width: int) -> None:
        super().__init__()
        width, heads, count = config.hidden_size, config.num_attention_heads, 1 + config.num_mask_candidates
        self.count, self.relative = count, config.use_relative_coords
        self.prompts = PromptEncoder(config)
        self.outputs = nn.Parameter(torch.zeros(count + 2, width))  # masks, affinity, presence
        self.layers = nn.ModuleList(TwoWayLayer(width, heads) for _ in range(config.num_decoder_layers))
        self.last = Attention(width, heads, inner=width // 2)
        self.up = nn.Conv2d(width, MASK_WIDTH, 1)
        self.place = nn.Sequential(nn.Conv2d(4, MASK_WIDTH, 1), nn.GELU(), nn.Conv2d(MASK_WIDTH, MASK_WIDTH, 1))
        self.mix = nn.Conv2d(MASK_WIDTH, MASK_WIDTH, 3, padding=1)
        self.kernels = nn.ModuleList(
            nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Linear(width, MASK_WIDTH)) for _ in range(count)
        )
        self.affinity = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Linear(width, count))
        self.presence = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Linear(width, 1))
        self.appearance = Appearance(width, MASK_WIDTH, detail_width)

    def forward(self, prompts: Prompts, coarse: torch.Tensor, fine: torch.Tensor, detail: torch.Tensor) -> Decoded:
        tokens, dense = self.prompts(prompts)
        tokens = torch.cat([self.outputs.expand(len(tokens), -1, -1), tokens], 1)
        map_ = coarse[prompts.source] if dense is None else coarse[prompts.source] + dense
        height, width = map_.shape[2:]
        where = self.prompts.grid_position(height, width).flatten(1).T
        cells = map_.flatten(2).transpose(1, 2)
        for layer in self.layers:
            tokens, cells = layer(tokens, cells, where)
        tokens = self.last(tokens, cells + where)
        features = self.mask_features(cells.transpose(1, 2).unflatten(2, (height, width)), fine, prompts)
        kernels = torch.stack([layer(tokens[:, index]) for index, layer in enumerate(self.kernels)], 1)
        masks = torch.einsum("nkc,nchw->nkhw", kernels, features) / MASK_WIDTH**0.5
        near = inside_boxes(prompts.boxes, NEAR, *fine.shape[2:])
        further = self.appearance(tokens[:, 0], masks[:, 0], features, detail, prompts.source, near)
        return Decoded(
            torch.cat([(masks[:, 0] + further)[:, None], masks[:, 1:]], 1),
            self.affinity(tokens[:, self.count]),
            self.presence(tokens[:, self.count + 1])[:, 0],
        )

    def mask_features(self, map_: torch.Tensor, fine: torch.Tensor, prompts: Prompts) -> torch.Tensor:
        """What the masks are read from: [n, 32, h', w']."""
        size = fine.shape[2:]
        features = functional.interpolate(self.up(map_), size, mode="bilinear", align_corners=False)
        features += fine[prompts.source]
        if self.relative:
            features += self.place(relative_coordinates(prompts.boxes, *size))
        return functional.gelu(self.mix(functional.gelu(features)))
