"""The memory-enhanced module: what a candidate looks like, and what a tracklet remembers (SATA, section 3.3)."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from .configuration_sata import SataConfig

REGION = 7  # bins a side that a candidate is read in


def from_zero(layer: nn.Module) -> nn.Module:
    """Mark a layer that adds nothing before it is trained, also where a checkpoint does not have it yet."""
    layer.starts_from_zero = True  # ty: ignore[invalid-assignment]
    return layer


class Attention(nn.Module):
    """Pre-norm multi-head attention with a residual.

    `forward(queries [..., q, d], context [..., k, d], seen [..., k])`, `seen` bool, attends to the context where it is
    seen; without context, to the queries themselves.
    """

    def __init__(self, width: int, heads: int, inner: int | None = None) -> None:
        super().__init__()
        inner = inner or width
        self.heads = heads
        self.query_norm, self.context_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query, self.out = nn.Linear(width, inner), nn.Linear(inner, width)
        self.key_value = nn.Linear(width, 2 * inner)

    def forward(
        self, queries: torch.Tensor, context: torch.Tensor | None = None, seen: torch.Tensor | None = None
    ) -> torch.Tensor:
        normed = self.query_norm(queries)
        context = normed if context is None else self.context_norm(context)
        query = self.query(normed).unflatten(-1, (self.heads, -1)).transpose(-3, -2)
        key, value = (
            part.unflatten(-1, (self.heads, -1)).transpose(-3, -2) for part in self.key_value(context).chunk(2, -1)
        )
        mask = None if seen is None else seen[..., None, None, :]
        attended = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        return queries + self.out(attended.transpose(-3, -2).flatten(-2))


class FeedForward(nn.Module):
    """Pre-norm feed-forward layer with a residual."""

    def __init__(self, width: int, factor: int = 2) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.inner, self.outer = nn.Linear(width, factor * width), nn.Linear(factor * width, width)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return tokens + self.outer(functional.gelu(self.inner(self.norm(tokens))))


class CandidateEmbedder(nn.Module):
    """Embeds the candidates of a frame.

    `forward(regions, detail, masks, boxes, frame)`: regions float [m, d, s, s], detail [m, c, s, s] and masks (0..1)
    [m, 1, s, s] in the same bins, boxes [m, 4] in units of the sides, frame int64 [m] (candidates attend to each other
    within a frame). Returns the fine-grained vectors [m, d] and the query tokens [m, q, d].

    The detail is the stems': fused maps are normalised many times over and hold how warm or how far an object is beside
    its surroundings, not how warm or how far it is, by which twins are told apart.
    """

    def __init__(self, config: SataConfig, detail_width: int) -> None:
        super().__init__()
        width, heads = config.hidden_size, config.num_attention_heads
        self.mask_conv = nn.Conv2d(1, width // 4, 3, padding=1)
        self.fine_conv = nn.Conv2d(width + width // 4, width, 3, padding=1)
        self.fine_norm = nn.LayerNorm(width)
        self.surface = nn.Sequential(nn.Linear(detail_width, width), nn.GELU(), from_zero(nn.Linear(width, width)))
        self.position = nn.Sequential(nn.Linear(4, width), nn.GELU(), nn.Linear(width, width))
        self.queries = nn.Parameter(torch.zeros(config.num_query_tokens, width))
        self.across_instances = Attention(width, heads)
        self.to_region = Attention(width, heads)
        self.feed_forward = FeedForward(width)

    def forward(
        self,
        regions: torch.Tensor,
        detail: torch.Tensor,
        masks: torch.Tensor,
        boxes: torch.Tensor,
        frame: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        fine = functional.gelu(self.fine_conv(torch.cat([functional.gelu(self.mask_conv(masks)), regions], 1)))
        share = masks / masks.sum((2, 3), keepdim=True).clamp_min(1e-3)
        fine = self.fine_norm((fine * share).sum((2, 3))) + self.surface((detail * share).sum((2, 3)))
        position = self.position(boxes)[:, None]
        queries = self.queries + position
        queries = self.to_region(queries, regions.flatten(2).transpose(1, 2) + position)
        count = queries.shape[1]
        same = (frame[:, None] == frame[None]).repeat_interleave(count, 0).repeat_interleave(count, 1)
        together = self.mixed(queries.flatten(0, 1), same)
        return fine, self.feed_forward(together.unflatten(0, (-1, count)))

    def mixed(self, tokens: torch.Tensor, same: torch.Tensor) -> torch.Tensor:
        """Self-attention over the query tokens [n, d] of all instances of a frame; `same` bool [n, n]."""
        layer = self.across_instances
        normed = layer.query_norm(tokens)
        query = layer.query(normed).unflatten(-1, (layer.heads, -1)).transpose(0, 1)
        key, value = (
            part.unflatten(-1, (layer.heads, -1)).transpose(0, 1) for part in layer.key_value(normed).chunk(2, -1)
        )
        attended = functional.scaled_dot_product_attention(query, key, value, attn_mask=same)
        return tokens + layer.out(attended.transpose(0, 1).flatten(1))


class TrackletEmbedder(nn.Module):
    """Embeds tracklets from what they remember: temporal self-attention over the stored query tokens.

    `forward(fine [n, t, d], queries [n, t, q, d], age int64 [n, t], seen bool [n, t])`, the newest anywhere, `age` in
    frames; returns the fine-grained vector [n, d] and the query tokens [n, q, d] of each tracklet. What is not seen
    does not count.
    """

    def __init__(self, config: SataConfig) -> None:
        super().__init__()
        width = config.hidden_size
        self.age = nn.Embedding(config.max_missed_frames + config.memory_frames + 1, width)
        self.read = nn.Parameter(torch.zeros(config.num_query_tokens, width))
        self.through_time = Attention(width, config.num_attention_heads)
        self.feed_forward = FeedForward(width)
        self.weigh = nn.Linear(width, 1)

    def forward(
        self, fine: torch.Tensor, queries: torch.Tensor, age: torch.Tensor, seen: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        when = self.age(age.clamp(0, self.age.num_embeddings - 1))
        weights = self.weigh(fine + when)[..., 0].masked_fill(~seen, float("-inf")).softmax(-1)
        stored = (queries + when[:, :, None]).flatten(1, 2)
        mask = seen[..., None].expand(-1, -1, queries.shape[2]).flatten(1)
        newest = torch.where(seen, age, age.max() + 1).argmin(1)
        start = queries[torch.arange(len(queries), device=queries.device), newest] + self.read
        return (fine * weights[..., None]).sum(1), self.feed_forward(self.through_time(start, stored, mask))


class Signature(nn.Module):
    """f = concat(fine-grained vector, query tokens), projected for matching: [n, d] and [n, q, d] to [n, 2d]."""

    def __init__(self, config: SataConfig) -> None:
        super().__init__()
        width = config.hidden_size
        self.fine, self.tokens = nn.Linear(width, width), nn.Linear(width * config.num_query_tokens, width)

    def forward(self, fine: torch.Tensor, queries: torch.Tensor) -> torch.Tensor:
        return torch.cat([self.fine(fine), self.tokens(queries.flatten(1))], -1)
