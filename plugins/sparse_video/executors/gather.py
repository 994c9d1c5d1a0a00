"""Sparse attention in plain PyTorch that gathers the chosen blocks and multiplies them in large batches.

A query block reads few key blocks, so its keys and values, gathered into one contiguous piece, stay in the cache and
the two products run at the speed of a dense matrix product. Needs no compiler. On a CPU the softmax is written out
(see `_attend_rows`); elsewhere PyTorch's own SDPA does it on the gathered pieces.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import pad, scaled_dot_product_attention

from ..errors import SparseVideoInputError

LOGITS_BYTES = 8 << 20  # of one chunk on a CPU: small enough for a shared cache, large enough for a matrix product
GATHERED_BYTES = 512 << 20  # of one chunk elsewhere, keys and values together
UNSEEN = -1e30  # instead of -inf, which times zero would be NaN
SAMPLE = 16  # of how many keys one is looked at to guess a row's largest logit
# Columns that ride along in the query-key product: the shift of the row, and the key's bias as a sum of two numbers,
# so that ln(block size) keeps its digits in bfloat16. The fourth keeps rows a multiple of eight bytes.
RIDERS = 4


@dataclass(frozen=True)
class HeadTables:
    """What one (batch, head) is gathered from; block N + M is a dummy that nobody sees.

    Attributes:
        query: [N, block, d + RIDERS], scaled by nothing; riders (0, 1, 1, 0).
        key: [N + M + 1, block, d + RIDERS]: N visual blocks, M of extras, one dummy; riders (1, high, low, 0).
        value: [N + M + 1, block, d].
        row_bias: [N, M * block] bias of the extras by query block, divided by the scale, or None if all rows agree.
    """

    query: Tensor
    key: Tensor
    value: Tensor
    row_bias: Tensor | None


class GatherExecutor:
    """Gathers the chosen key blocks of each query block; CPU and any accelerator, no compiler, no gradients."""

    name = "gather"

    def unavailable(self, device: torch.device, dtype: torch.dtype) -> str | None:
        """None, or why this executor cannot run there."""
        if not dtype.is_floating_point or dtype.itemsize < 2:
            return f"gather works in bfloat16, float16, float32 and float64, not in {dtype}: convert the tensors first."
        return None

    def __call__(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        chosen: Tensor,
        *,
        block_size: int,
        key_mask: Tensor | None = None,
        extra_key: Tensor | None = None,
        extra_value: Tensor | None = None,
        extra_bias: Tensor | None = None,
        scale: float,
    ) -> Tensor:
        """See `base.Executor`: [B, H, S, d] in, the same out."""
        if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in (query, key, value)):
            raise SparseVideoInputError(
                "the gather executor computes no gradients: call it under torch.no_grad(), or use executor='reference'"
            )
        result_dtype = query.dtype
        if result_dtype is torch.float16 and query.device.type == "cpu":  # exp2 would overflow
            query, key, value = query.float(), key.float(), value.float()
        out = torch.empty_like(query, memory_format=torch.contiguous_format)
        bias = _bias_by_head(extra_bias, query, chosen.shape[2], extra_key)
        for batch, head in ((b, h) for b in range(query.shape[0]) for h in range(query.shape[1])):
            tables = _head_tables(
                query[batch, head],
                key[batch, head],
                value[batch, head],
                block_size,
                scale,
                mask=None if key_mask is None else key_mask[batch],
                extra_key=None if extra_key is None else extra_key[batch, head],
                extra_value=None if extra_value is None else extra_value[batch, head],
                extra_bias=None if bias is None else bias[batch, head],
            )
            _attend_head(tables, chosen[batch, head], scale, out[batch, head])
        return out.to(result_dtype)


def _bias_by_head(bias: Tensor | None, query: Tensor, blocks: int, extra_key: Tensor | None) -> Tensor | None:
    """[B, H, N, E], or [B, H, 1, E] where all query blocks agree."""
    if bias is None or extra_key is None:
        return None
    bias = bias[(None,) * (4 - bias.ndim)]
    return bias.expand(query.shape[0], query.shape[1], 1 if bias.shape[2] == 1 else blocks, extra_key.shape[2])


def _head_tables(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    block_size: int,
    scale: float,
    *,
    mask: Tensor | None,
    extra_key: Tensor | None,
    extra_value: Tensor | None,
    extra_bias: Tensor | None,
) -> HeadTables:
    """Blocks of one head, padded to whole ones; what is no token carries the bias UNSEEN."""
    tokens, dim = key.shape
    blocks = -(-tokens // block_size)
    extras = 0 if extra_key is None else extra_key.shape[0]
    first_extra, total = blocks * block_size, (blocks - (-extras // block_size) + 1) * block_size
    keys, values = key.new_zeros(total, dim + RIDERS), value.new_zeros(total, dim)
    keys[:tokens, :dim], values[:tokens] = key, value
    keys[:, dim], keys[:, dim + 1] = 1, UNSEEN
    keys[:tokens, dim + 1] = 0 if mask is None else key.new_zeros(tokens).masked_fill_(~mask, UNSEEN)
    row_bias = None
    if extra_key is not None and extra_value is not None:
        seen = slice(first_extra, first_extra + extras)
        keys[seen, :dim], values[seen], keys[seen, dim + 1] = extra_key, extra_value, 0
        if extra_bias is not None:
            row_bias = _pad_bias(extra_bias, total - block_size - first_extra, scale)
            if len(row_bias) == 1:
                _set_bias(keys[first_extra : first_extra + row_bias.shape[1]], row_bias[0])
                row_bias = None
    queries = pad(query, (0, RIDERS, 0, first_extra - tokens))
    queries[:, dim + 1 : dim + 3] = 1
    split = (-1, block_size)
    return HeadTables(queries.unflatten(0, split), keys.unflatten(0, split), values.unflatten(0, split), row_bias)


def _pad_bias(bias: Tensor, width: int, scale: float) -> Tensor:
    """Natural-log bias [.., E] as what the query-key product needs to give it, padded to [.., width]."""
    finite = (bias.to(torch.promote_types(bias.dtype, torch.float32)) / scale).clamp_min(UNSEEN)
    return pad(finite, (0, width - bias.shape[-1]), value=UNSEEN)


def _set_bias(keys: Tensor, bias: Tensor) -> None:
    """Write bias [..] into the riders of keys [.., d + RIDERS], in two parts."""
    high = bias.to(keys.dtype)
    keys[..., -3] = high
    keys[..., -2] = (bias - high).to(keys.dtype)


def _attend_head(tables: HeadTables, chosen: Tensor, scale: float, out: Tensor) -> None:
    """Fill out [S, d] chunk by chunk; in a chunk the lists are about equally long."""
    blocks, block_size, _ = tables.query.shape
    written = (
        out.new_empty(blocks, block_size, out.shape[-1]) if len(out) % block_size else out.unflatten(0, (blocks, -1))
    )
    on_cpu = out.device.type == "cpu"
    for rows, lists in _chunks(tables, chosen, on_cpu):
        key = tables.key.index_select(0, lists.flatten()).unflatten(0, lists.shape).flatten(1, 2)
        value = tables.value.index_select(0, lists.flatten()).unflatten(0, lists.shape).flatten(1, 2)
        if tables.row_bias is not None:
            _set_bias(key[:, key.shape[1] - tables.row_bias.shape[1] :], tables.row_bias[rows])
        attend = _attend_rows if on_cpu else _attend_rows_sdpa
        written[rows] = attend(tables.query[rows], key, value, scale)
    if len(out) % block_size:
        out.copy_(written.flatten(0, 1)[: len(out)])


def _chunks(tables: HeadTables, chosen: Tensor, on_cpu: bool) -> Iterator[tuple[Tensor, Tensor]]:
    """Query blocks [G] and their key blocks [G, K], shorter lists filled up with the dummy; extras last."""
    blocks, block_size, width = tables.query.shape
    counts = chosen.sum(-1)
    lists = chosen.to(torch.uint8).argsort(dim=-1, descending=True, stable=True)
    dummy = len(tables.key) - 1
    lists = lists.masked_fill(torch.arange(blocks, device=chosen.device) >= counts[:, None], dummy)
    extras = torch.arange(blocks, dummy, device=chosen.device)
    order = counts.argsort(descending=True)
    lengths = counts[order].tolist()
    start = 0
    while start < blocks:
        longest = max(1, lengths[start]) if not len(extras) else lengths[start]
        keys = (longest + len(extras)) * block_size
        size = block_size * keys if on_cpu else 2 * keys * width
        limit = LOGITS_BYTES if on_cpu else GATHERED_BYTES
        rows = order[start : start + max(1, limit // (size * tables.key.element_size()))]
        yield rows, torch.cat([lists[rows, :longest], extras.expand(len(rows), -1)], dim=1)
        start += len(rows)


def _attend_rows(query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
    """Softmax attention of query [G, b, d + RIDERS] over key [G, K, d + RIDERS], value [G, K, d]; overwrites query.

    Every row is shifted by a guess of its largest logit *inside* the product, before the result is rounded: in
    bfloat16 a logit of 20 is only good to 0.06, its distance from the row's largest one is good to a thousandth where
    it counts. The guess is rounded too, but it is the same for the whole row and cancels. The sum of a row tells
    whether it was good.
    """
    alpha = scale * math.log2(math.e)
    shift = query[..., -RIDERS]
    sampled = torch.baddbmm(query.new_empty(()), query, key[:, ::SAMPLE].mT, beta=0, alpha=alpha).amax(-1)
    shift.copy_(torch.where(sampled > UNSEEN / 1e6, sampled, 0) / -alpha)
    weights = _shifted_logits(query, key, alpha).exp2_()
    sums = _row_sums(weights, query.shape[1])
    if not bool(((sums > 0.01) & (sums < 4.0 * max(2048, key.shape[1]))).all()):
        highest = _shifted_logits(query, key, alpha).amax(-1)
        shift.sub_(torch.where(highest > UNSEEN / 1e6, highest, 0) / alpha)
        weights = _shifted_logits(query, key, alpha).exp2_()
        sums = _row_sums(weights, query.shape[1])
    tiny = torch.finfo(sums.dtype).tiny
    return torch.bmm(weights, value).div_(sums.clamp_min_(tiny).unsqueeze(-1))


def _shifted_logits(query: Tensor, key: Tensor, alpha: float) -> Tensor:
    """Base-2 logits [G, b, K]."""
    return torch.baddbmm(query.new_empty(()), query, key.mT, beta=0, alpha=alpha)


def _row_sums(weights: Tensor, pieces: int) -> Tensor:
    """Sums [G, b] over the last axis in fp32 or better: piecewise, which PyTorch does faster than a sum in fp32."""
    partial = weights.unflatten(-1, (-1, pieces)).sum(-1)
    return partial.sum(-1, dtype=torch.promote_types(weights.dtype, torch.float32))


def _attend_rows_sdpa(query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
    """The same by PyTorch's fused kernel, which keeps the logits on the chip; rows that see nothing give 0."""
    dim = value.shape[-1]
    bias = (key[..., -3] + key[..., -2]).mul_(scale)
    seen = (bias > UNSEEN * scale / 2).any(-1)
    mask = bias.clamp_min_(-1e4)[:, None, None].expand(-1, 1, query.shape[1], -1)
    out = scaled_dot_product_attention(
        query[:, None, :, :dim].contiguous(), key[:, None, :, :dim].contiguous(), value[:, None], mask, scale=scale
    )
    return out[:, 0] * seen[:, None, None]
