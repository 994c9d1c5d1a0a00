"""Rectified sparse attention over one set of queries, keys and values: the lowest layer that one would call."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Literal, overload

import torch
from torch import Tensor

from .blocks import block_counts, block_means, block_means_and_deviations, gather_tokens
from .centroids import centroid_keys
from .config import RectifiedAttentionConfig
from .errors import SparseVideoInputError
from .executors.base import Executor
from .executors.choose import ExecutorChoice, choose_executor
from .order import Grid, TokenOrder, sequence_order, token_order
from .rectify import (
    center_keys,
    gain_error_gate,
    implicit_full_attention,
    merge,
    pooled_logits,
    rectification,
    select_blocks,
)
from .stats import AttentionStats, dense_stats

PART_BYTES = 4 * 2**20  # of the query of the heads that a CPU takes at once

# query, key, value [batch, heads, tokens, head_dim] and a bool mask [batch, 1, 1, keys] or None.
DenseAttention = Callable[[Tensor, Tensor, Tensor, Tensor | None], Tensor]


@overload
def rectified_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    config: RectifiedAttentionConfig,
    grid: Grid | None = None,
    text_tokens: int = 0,
    text_first: bool = False,
    key_mask: Tensor | None = None,
    executor: str | Executor | ExecutorChoice = "auto",
    return_stats: Literal[False] = False,
    dense: DenseAttention | None = None,
) -> Tensor: ...


@overload
def rectified_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    config: RectifiedAttentionConfig,
    grid: Grid | None = None,
    text_tokens: int = 0,
    text_first: bool = False,
    key_mask: Tensor | None = None,
    executor: str | Executor | ExecutorChoice = "auto",
    return_stats: Literal[True, "map"],
    dense: DenseAttention | None = None,
) -> tuple[Tensor, AttentionStats]: ...


def rectified_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    config: RectifiedAttentionConfig,
    grid: Grid | None = None,
    text_tokens: int = 0,
    text_first: bool = False,
    key_mask: Tensor | None = None,
    executor: str | Executor | ExecutorChoice = "auto",
    return_stats: bool | Literal["map"] = False,
    dense: DenseAttention | None = None,
) -> Tensor | tuple[Tensor, AttentionStats]:
    """Rectified SpaAttn (arXiv 2511.19835) in the place of scaled dot-product attention; for inference, no gradients.

    Args:
        query, key, value: [batch, heads, tokens, head_dim], rotary positions applied; tokens are the visual ones and,
            before or behind them, `text_tokens` text tokens.
        config: density and the rest. `dense_layers` and `dense_steps` are the caller's to follow.
        grid: (frames, rows, columns) of the visual tokens, which come frame by frame and row by row; they are put in
            `config.order` and back here. None: taken in the order given, a block touching the next.
        text_tokens: text tokens in the sequence; visual queries see all valid ones, text queries get dense attention.
        text_first: text comes before the visual tokens.
        key_mask: bool [batch, tokens], False where a token is padding.
        executor: a name ("auto", "reference", ...), an executor, or a choice made before.
        return_stats: True for stats as well, "map" for stats with the map of chosen blocks.
        dense: does the dense work, (query, key, value, mask) -> output, all as here, mask bool [batch, 1, 1, tokens]
            or None; PyTorch's scaled_dot_product_attention by default.

    Returns:
        [batch, heads, tokens, head_dim] in the query's dtype, and AttentionStats where asked for. Rows of padding
        are finite and mean nothing.

    Raises:
        SparseVideoInputError: shapes, grid, mask or executor do not fit, or gradients are asked for.
    """
    _check_inputs(query, key, value, text_tokens, key_mask)
    tokens = query.shape[2] - text_tokens
    _check_grid(grid, tokens)
    dense = dense or _scaled_dot_product_attention
    reason = _why_dense(config, tokens)
    if reason is not None:
        output = _dense(query, key, value, key_mask, dense)
        return (output, dense_stats(query.shape[1], reason)) if return_stats else output
    run, name = _resolve(executor, query)
    order = _order(config, grid, tokens, query.device)
    with torch.no_grad():
        sequence = _Sequence(query, key, value, key_mask, order, text_tokens, text_first)
        output, plan, counts = _sparse_in_parts(sequence, config, run)
        if text_tokens:
            output[:, :, sequence.text] = _dense(query[:, :, sequence.text], key, value, key_mask, dense)
        return (output, _stats(plan, counts, name, with_map=return_stats == "map")) if return_stats else output


@dataclass(frozen=True)
class _Sequence:
    """The tensors of one call, [batch, heads, tokens, head_dim], and where in them which tokens lie."""

    query: Tensor
    key: Tensor
    value: Tensor
    key_mask: Tensor | None
    order: TokenOrder
    text_tokens: int
    text_first: bool

    @property
    def visual(self) -> slice:
        first = self.text_tokens if self.text_first else 0
        return slice(first, first + self.query.shape[2] - self.text_tokens)

    @property
    def text(self) -> slice:
        first = 0 if self.text_first else self.query.shape[2] - self.text_tokens
        return slice(first, first + self.text_tokens)

    def in_blocks(self, block_size: int) -> _Visual:
        """The visual tokens in block order."""
        mask = None if self.key_mask is None else self.key_mask[:, self.visual]
        if mask is not None:
            # Models mask their text; executors are faster where no visual token is masked.
            mask = None if bool(mask.all()) else mask[:, self.order.permutation]
        query, key, value = (self._ordered(tensor) for tensor in (self.query, self.key, self.value))
        return _Visual(query, key, value, mask, block_counts(query.shape[2], block_size, mask, query.device))

    def _ordered(self, tensor: Tensor) -> Tensor:
        tokens = tensor[:, :, self.visual]
        return tokens if self.order.is_identity else gather_tokens(tokens, self.order.permutation)

    def text_keys(self) -> _Extras:
        """Text keys and values; padding among them has a bias of -inf."""
        if not self.text_tokens:
            return _Extras()
        bias = None
        if self.key_mask is not None:
            bias = torch.zeros(self.key_mask.shape[0], self.text_tokens, device=self.query.device)
            bias = bias.masked_fill_(~self.key_mask[:, self.text], -torch.inf)[:, None, None, :]
        return _Extras(self.key[:, :, self.text], self.value[:, :, self.text], bias)

    def restored(self, ordered: Tensor) -> Tensor:
        """Visual tokens in block order back where they came from; the rows of the text are left to be filled."""
        if self.order.is_identity and not self.text_tokens:
            return ordered
        output = torch.empty_like(self.query)
        if self.order.is_identity:
            output[:, :, self.visual] = ordered
        else:
            gather_tokens(ordered, self.order.inverse, out=output[:, :, self.visual])
        return output


@dataclass(frozen=True)
class _Visual:
    """The visual tokens in block order, [batch, heads, tokens, head_dim]; mask bool [batch, tokens] or None."""

    query: Tensor
    key: Tensor
    value: Tensor
    mask: Tensor | None
    counts: Tensor  # valid tokens per block, [batch or 1, N]


@dataclass(frozen=True)
class _Extras:
    """Keys that every query sees, [batch, heads, extra, head_dim]; bias as executors take it."""

    key: Tensor | None = None
    value: Tensor | None = None
    bias: Tensor | None = None


@dataclass(frozen=True)
class _Plan:
    """What follows from the block means; names and shapes as in rectify.py."""

    chosen: Tensor
    attention: Tensor
    text_attention: Tensor
    factor: Tensor
    weights: Tensor
    query_mean: Tensor


def _sparse_in_parts(
    sequence: _Sequence, config: RectifiedAttentionConfig, executor: Executor
) -> tuple[Tensor, _Plan, Tensor]:
    """`_sparse` for a few heads at a time on a CPU, where copies in block order of all of them would be the peak."""
    query = sequence.query
    heads, at_once = query.shape[1], query.shape[1]
    if query.device.type == "cpu":
        at_once = max(1, PART_BYTES // (query[:, 0].numel() * query.element_size()))
    if at_once >= heads:
        return _sparse(sequence, config, executor)
    output, plans = torch.empty_like(query), []
    for first in range(0, heads, at_once):
        part = slice(first, first + at_once)
        some = replace(sequence, query=query[:, part], key=sequence.key[:, part], value=sequence.value[:, part])
        output[:, part], plan, counts = _sparse(some, config, executor)
        plans.append(plan)
    return output, _Plan(*(torch.cat(parts, 1) for parts in zip(*map(_plan_fields, plans), strict=True))), counts


def _plan_fields(plan: _Plan) -> tuple[Tensor, ...]:
    return tuple(getattr(plan, field.name) for field in fields(plan))


def _sparse(sequence: _Sequence, config: RectifiedAttentionConfig, executor: Executor) -> tuple[Tensor, _Plan, Tensor]:
    """Output with the rows of the visual queries filled in, what was decided on the way, and the block counts."""
    scale = sequence.query.shape[-1] ** -0.5
    visual, text = sequence.in_blocks(config.block_size), sequence.text_keys()
    plan = _decide(visual, text, config, sequence.order.adjacency, scale)
    extras = _with_centroids(text, plan, visual, config, scale) if config.rectify == "centroid" else text
    output = executor(
        visual.query,
        visual.key,
        visual.value,
        plan.chosen,
        block_size=config.block_size,
        key_mask=visual.mask,
        extra_key=extras.key,
        extra_value=extras.value,
        extra_bias=extras.bias,
        scale=scale,
    )
    if config.rectify == "paper":
        value_mean = block_means(visual.value, visual.counts, config.block_size, visual.mask)
        output = merge(output, plan.factor, plan.weights, value_mean, config.block_size)
    return sequence.restored(output), plan, visual.counts


def _decide(visual: _Visual, text: _Extras, config: RectifiedAttentionConfig, adjacency: Tensor, scale: float) -> _Plan:
    """Which blocks to compute and how to correct for the others: IPAR, selection, GAPR."""
    size, counts, mask = config.block_size, visual.counts, visual.mask
    gated = config.rectify == "paper"
    query_mean, query_deviation = _pool(visual.query, counts, size, mask, gated)
    key_mean, key_deviation = _pool(visual.key, counts, size, mask, gated)
    logits = pooled_logits(query_mean, key_mean, counts, scale)
    attention, text_attention = implicit_full_attention(logits, _text_logits(query_mean, text, scale))
    keep = _keep(config, logits.shape[-1])
    chosen = select_blocks(logits, keep, config.top_p, adjacency if config.neighbors else None)
    if query_deviation is not None and key_deviation is not None:
        gate_keys = center_keys(key_mean, counts) if config.gate == "centered" else key_mean
        gate = gain_error_gate(query_mean, gate_keys, query_deviation, key_deviation)
    else:
        gate = torch.full_like(chosen, config.rectify == "centroid")
    factor, weights = rectification(attention, chosen, gate)
    return _Plan(chosen, attention, text_attention, factor, weights, query_mean)


def _pool(tensor: Tensor, counts: Tensor, size: int, mask: Tensor | None, gated: bool) -> tuple[Tensor, Tensor | None]:
    """Block means, and deviations where a gate will ask for them: they are half of the work."""
    if gated:
        return block_means_and_deviations(tensor, counts, size, mask)
    return block_means(tensor, counts, size, mask), None


def _text_logits(query_mean: Tensor, text: _Extras, scale: float) -> Tensor | None:
    if text.key is None:
        return None
    logits = torch.matmul(query_mean * scale, text.key.to(query_mean.dtype).transpose(-1, -2))
    return logits if text.bias is None else logits + text.bias


def _with_centroids(
    text: _Extras, plan: _Plan, visual: _Visual, config: RectifiedAttentionConfig, scale: float
) -> _Extras:
    """Beyond the paper: means of the blocks that are not chosen join the keys of the text."""
    key, value, bias = centroid_keys(
        visual.key,
        visual.value,
        visual.mask,
        plan.query_mean,
        plan.chosen,
        block_size=config.block_size,
        centroid_size=config.tokens_per_centroid,
        scale=scale,
    )
    if text.key is None or text.value is None:
        return _Extras(key, value, bias)
    text_bias = bias.new_zeros(()) if text.bias is None else text.bias
    text_bias = text_bias.expand(*bias.shape[:3], text.key.shape[2])
    return _Extras(torch.cat([text.key, key], 2), torch.cat([text.value, value], 2), torch.cat([text_bias, bias], -1))


def _stats(plan: _Plan, counts: Tensor, executor: str, with_map: bool) -> AttentionStats:
    """Means over queries weigh each query block by the valid tokens it holds."""
    batch, heads, blocks, _ = plan.chosen.shape
    counts = counts.to(plan.attention.dtype).expand(batch, blocks)
    occupied = (counts > 0).to(counts.dtype)
    weight = (counts / counts.sum().clamp(min=1)).unsqueeze(1)  # [batch, 1, N], 1 in total
    pairs = heads * (occupied.sum(-1) ** 2).sum().clamp(min=1)
    density = (plan.chosen * occupied[:, None, :, None]).sum() / pairs
    recall = (plan.attention * plan.chosen).sum(-1) + plan.text_attention
    per_head = (recall * weight).sum((0, 2))
    factor = (plan.factor * weight).sum() / heads
    compensated = (plan.weights.sum(-1) * weight).sum() / heads
    # One transfer instead of many: on an accelerator each would wait for the queue.
    numbers = torch.cat([torch.stack([density, factor, compensated]), per_head]).tolist()
    return AttentionStats(
        density=numbers[0],
        estimated_recall=sum(numbers[3:]) / heads,
        rectification_factor=numbers[1],
        compensated_share=numbers[2],
        executor=executor,
        recall_per_head=tuple(numbers[3:]),
        block_map=plan.chosen.float().mean(0).cpu().numpy() if with_map else None,
    )


def _order(config: RectifiedAttentionConfig, grid: Grid | None, tokens: int, device: torch.device) -> TokenOrder:
    if grid is None:
        return sequence_order(tokens, config.block_size, device)
    return token_order(tuple(grid), config.order, config.block_size, device)


def _why_dense(config: RectifiedAttentionConfig, tokens: int) -> str | None:
    """Why this call is dense; None when it is sparse."""
    if config.density >= 1:
        return "density is 1"
    if tokens < config.min_tokens:
        return f"{tokens:,} visual tokens are fewer than min_tokens = {config.min_tokens:,}"
    blocks = -(-tokens // config.block_size)
    if blocks == 1:
        return f"{tokens:,} visual tokens are one block of {config.block_size}: there is nothing to choose"
    if _keep(config, blocks) >= blocks:
        return f"density {config.density:g} of {blocks} blocks is all of them"
    return None


def _keep(config: RectifiedAttentionConfig, blocks: int) -> int:
    """How many key blocks a query block keeps before top_p and forced neighbours."""
    return max(1, round(config.density * blocks))


def _resolve(executor: str | Executor | ExecutorChoice, query: Tensor) -> tuple[Executor, str]:
    """The executor to call, and its name.

    Raises:
        SparseVideoInputError: it does not run on this device with this dtype.
    """
    if isinstance(executor, str):
        executor = choose_executor(executor, query.device, query.dtype)
    if isinstance(executor, ExecutorChoice):
        return executor.executor, executor.name
    return executor, executor.name


def _scaled_dot_product_attention(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
    return torch.nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)


def _dense(query: Tensor, key: Tensor, value: Tensor, key_mask: Tensor | None, dense: DenseAttention) -> Tensor:
    """Dense attention over valid keys; a sample without any gives 0."""
    if key_mask is None:
        return dense(query, key, value, None)
    output = dense(query, key, value, key_mask[:, None, None, :])
    return output.masked_fill(~key_mask.any(-1)[:, None, None, None], 0)


def _check_inputs(query: Tensor, key: Tensor, value: Tensor, text_tokens: int, key_mask: Tensor | None) -> None:
    if query.ndim != 4 or query.shape != key.shape or query.shape != value.shape:
        shapes = ", ".join(str(tuple(tensor.shape)) for tensor in (query, key, value))
        raise SparseVideoInputError(
            f"query, key and value are {shapes}; all three are [batch, heads, tokens, head_dim], alike in shape"
        )
    if not query.dtype.is_floating_point or query.dtype != key.dtype or query.dtype != value.dtype:
        raise SparseVideoInputError(
            f"query, key and value are {query.dtype}, {key.dtype}, {value.dtype}; all three have the same float type"
        )
    if torch.is_grad_enabled() and (query.requires_grad or key.requires_grad or value.requires_grad):
        raise SparseVideoInputError(
            "gradients are asked for, but sparse attention has none: call it in torch.no_grad()"
        )
    tokens = query.shape[2]
    if not 0 <= text_tokens < tokens:
        raise SparseVideoInputError(f"text_tokens is {text_tokens} of {tokens} tokens; at least one token is visual")
    if key_mask is not None and (key_mask.dtype != torch.bool or key_mask.shape != (query.shape[0], tokens)):
        raise SparseVideoInputError(
            f"key_mask is {key_mask.dtype} {tuple(key_mask.shape)}; it is bool {(query.shape[0], tokens)}, True where "
            "a token is valid"
        )


def _check_grid(grid: Grid | None, tokens: int) -> None:
    if grid is not None and (len(grid) != 3 or grid[0] * grid[1] * grid[2] != tokens):
        raise SparseVideoInputError(
            f"grid is {tuple(grid)}, but there are {tokens:,} visual tokens; it is (frames, rows, columns), whose "
            "product is the number of visual tokens"
        )
