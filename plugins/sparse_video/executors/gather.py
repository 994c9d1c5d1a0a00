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

LOGITS_BYTES = 4 << 20  # of one chunk on a CPU: small enough for a shared cache, large enough for a matrix product
GOOD_SUMS = 2.0**-12, 2.0**16  # of a row: within, the bfloat16 logits that make it up are good to two hundredths
GATHERED_BYTES = 512 << 20  # of one chunk elsewhere, keys and values together
UNSEEN = -1e30  # instead of -inf, which times zero would be NaN
SAMPLES = 256  # keys of a list that are looked at to guess a row's largest logit
# Columns that ride along in the query-key product: the shift of the row, and the key's bias as a sum of two numbers,
# so that ln(block size) keeps its digits in bfloat16. The fourth keeps rows a multiple of eight bytes.
RIDERS = 4


@dataclass(frozen=True)
class HeadTables:
    """What one (batch, head) is gathered from.

    Attributes:
        query: [N, block, d].
        key: [N + M + 1, block, d + RIDERS]: N visual blocks, M of extras and a dummy that nobody sees; riders
            (1, high, low, 0).
        value: [N + M, block, d].
        row_bias: [N, M * block] bias of the extras by query block, divided by the scale, or None if all rows agree.
    """

    query: Tensor
    key: Tensor
    value: Tensor
    row_bias: Tensor | None


@dataclass(frozen=True)
class Scratch:
    """Memory that all chunks share, flat: gathered keys and values, logits (none where SDPA keeps them)."""

    key: Tensor
    value: Tensor
    logits: Tensor

    @classmethod
    def for_lists(cls, longest: int, block_size: int, like: Tensor) -> Scratch:
        """Room for a chunk of the usual size, and for one query block with the longest list, in keys."""
        dim, size = like.shape[-1], like.element_size()
        if like.device.type == "cpu":
            keys = max(LOGITS_BYTES // (size * block_size), longest)
            return cls(
                like.new_empty(keys * (dim + RIDERS)), like.new_empty(keys * dim), like.new_empty(keys * block_size)
            )
        keys = max(GATHERED_BYTES // (2 * size * dim), longest)
        return cls(like.new_empty(keys * (dim + RIDERS)), like.new_empty(keys * dim), like.new_empty(0))

    def rows(self, keys: int, dim: int, left: int) -> int:
        """Query blocks to take at once, each with this many keys: a power of two that fits in, of those left."""
        fits = max(1, min(self.value.numel() // (dim * keys), left))
        return 1 << (fits.bit_length() - 1)


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
        extras = 0 if extra_key is None else extra_key.shape[2] + -extra_key.shape[2] % block_size
        longest = _round_up(int(chosen.sum(-1).max()), chosen.shape[2]) * block_size + extras
        scratch = Scratch.for_lists(longest, block_size, query)
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
            _attend_head(tables, scratch, chosen[batch, head], scale, out[batch, head])
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
    keys, values = key.new_zeros(total, dim + RIDERS), value
    keys[:tokens, :dim] = key
    keys[:, dim], keys[:, dim + 1] = 1, UNSEEN
    if total - block_size > tokens:
        values = pad(value, (0, 0, 0, total - block_size - tokens))
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
    queries = pad(query, (0, 0, 0, first_extra - tokens)) if first_extra > tokens else query
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


def _attend_head(tables: HeadTables, scratch: Scratch, chosen: Tensor, scale: float, out: Tensor) -> None:
    """Fill out [S, d] chunk by chunk; in a chunk the lists are about equally long."""
    blocks, block_size, dim = tables.query.shape
    ragged = len(out) % block_size > 0
    written = out.new_empty(tables.query.shape) if ragged else out.unflatten(0, (blocks, -1))
    attend = _attend_rows if out.device.type == "cpu" else _attend_rows_sdpa
    for rows, lists in _chunks(tables, scratch, chosen):
        key = _gather(tables.key, lists, scratch.key)
        value = _gather(tables.value, lists.clamp_max(len(tables.value) - 1), scratch.value)  # dummies weigh nothing
        if tables.row_bias is not None:
            _set_bias(key[:, key.shape[1] - tables.row_bias.shape[1] :], tables.row_bias[rows])
        query = pad(tables.query[rows], (0, RIDERS))
        query[..., dim + 1 : dim + 3] = 1
        written[rows] = attend(query, key, value, scale, scratch.logits)
    if ragged:
        out.copy_(written.flatten(0, 1)[: len(out)])


def _gather(table: Tensor, lists: Tensor, memory: Tensor) -> Tensor:
    """The blocks [.., b, d] of each list [G, K] in a row, [G, K * b, d], laid out in the memory."""
    shape = (lists.numel(), *table.shape[1:])
    gathered = memory[: math.prod(shape)].view(shape)
    torch.index_select(table, 0, lists.flatten(), out=gathered)
    return gathered.view(len(lists), -1, table.shape[-1])


def _chunks(tables: HeadTables, scratch: Scratch, chosen: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Query blocks [G] and their key blocks [G, K], shorter lists filled up with the dummy; extras last."""
    blocks, block_size, dim = tables.query.shape
    counts = chosen.sum(-1)
    lists = chosen.to(torch.uint8).argsort(dim=-1, descending=True, stable=True)
    dummy = len(tables.key) - 1
    lists = lists.masked_fill(torch.arange(blocks, device=chosen.device) >= counts[:, None], dummy)
    extras = torch.arange(blocks, dummy, device=chosen.device)
    order = counts.argsort(descending=True)
    lengths = counts[order].tolist()
    start = 0
    while start < blocks:
        longest = _round_up(lengths[start], blocks)
        rows = order[start:][: scratch.rows((longest + len(extras)) * block_size, dim, blocks - start)]
        yield rows, torch.cat([lists[rows, :longest], extras.expand(len(rows), -1)], dim=1)
        start += len(rows)


def _round_up(length: int, most: int) -> int:
    """To eight lengths between one power of two and the next.

    oneDNN prepares a matrix product for each new shape, which takes a millisecond and a megabyte: a tenth of the time
    of a chunk, every time, were lists of any length multiplied as they come.
    """
    step = 1 << max(0, max(1, length).bit_length() - 4)
    return min(-(-max(1, length) // step) * step, most)


def _attend_rows(query: Tensor, key: Tensor, value: Tensor, scale: float, memory: Tensor) -> Tensor:
    """Softmax attention of query [G, b, d + RIDERS] over key [G, K, d + RIDERS], value [G, K, d]; overwrites query.

    Logits lie in the flat memory, of at least G * b * K numbers.

    Every row is shifted by a guess of its largest logit *inside* the product, before the result is rounded: in
    bfloat16 a logit of 20 is only good to 0.06, its distance from the row's largest one is good to a thousandth where
    it counts. The guess is rounded too, but it is the same for the whole row and cancels. The sum of a row tells
    whether the guess was good enough, and if not, what a good one is.
    """
    alpha = scale * math.log2(math.e)
    shift = query[..., -RIDERS]
    shift.copy_(_guess_largest(query, key, alpha) / -alpha)
    logits = memory[: math.prod(query.shape[:2]) * key.shape[1]].view(*query.shape[:2], -1)
    weights = _multiply(query, key, alpha, logits).exp2_()
    sums = _row_sums(weights, query.shape[1])
    bad = ~((sums > GOOD_SUMS[0]) & (sums < GOOD_SUMS[1])).all(-1)
    for one in (slice(row, row + 1) for row in bad.nonzero().flatten().tolist()):
        sums[one] = _shift_again(query[one], key[one], alpha, weights[one], sums[one])
    tiny = torch.finfo(sums.dtype).tiny
    return torch.bmm(weights, value).div_(sums.clamp_min_(tiny).unsqueeze(-1))


def _shift_again(query: Tensor, key: Tensor, alpha: float, weights: Tensor, sums: Tensor) -> Tensor:
    """Overwrites the weights of query blocks whose shift was no good; returns their sums."""
    if bool(((sums > 0) & sums.isfinite()).all()):
        # Below the largest logit by at most 3, above it by less than the log of the number of keys.
        missed = sums.log2() - 3
    else:
        highest = _multiply(query, key, alpha, weights).amax(-1)
        missed = torch.where(highest > UNSEEN / 1e6, highest, 0)
    query[..., -RIDERS] -= missed / alpha
    return _row_sums(_multiply(query, key, alpha, weights).exp2_(), query.shape[1])


def _guess_largest(query: Tensor, key: Tensor, alpha: float) -> Tensor:
    """About the largest base-2 logit of each row, [G, b], from a sample of its keys; 0 where none of those is seen."""
    some = key[:, :: max(1, key.shape[1] // SAMPLES)][:, :SAMPLES]
    logits = torch.baddbmm(query.new_empty(()), query, some.mT, beta=0, alpha=alpha)
    highest = logits.amax(-1, keepdim=True)
    # A sample's largest is less than the row's: by about this much if logits are normal and the row ten times as long.
    highest = highest + (highest - logits.clamp_min_(highest - 64).mean(-1, keepdim=True)) / 4
    return torch.where(highest > UNSEEN / 1e6, highest, 0).squeeze(-1)


def _multiply(query: Tensor, key: Tensor, alpha: float, out: Tensor) -> Tensor:
    """Base-2 logits [G, b, K], shifted by what rides along."""
    return torch.baddbmm(out, query, key.mT, beta=0, alpha=alpha, out=out)


def _row_sums(weights: Tensor, pieces: int) -> Tensor:
    """Sums [G, b] over the last axis in fp32 or better: piecewise, which PyTorch does faster than a sum in fp32."""
    partial = weights.unflatten(-1, (-1, pieces)).sum(-1)
    return partial.sum(-1, dtype=torch.promote_types(weights.dtype, torch.float32))


def _attend_rows_sdpa(query: Tensor, key: Tensor, value: Tensor, scale: float, _: Tensor) -> Tensor:
    """The same by PyTorch's fused kernel, which keeps the logits on the chip; rows that see nothing give 0."""
    dim = value.shape[-1]
    bias = (key[..., -3] + key[..., -2]).mul_(scale)
    seen = (bias > UNSEEN * scale / 2).any(-1)
    mask = bias.clamp_min_(-1e4)[:, None, None].expand(-1, 1, query.shape[1], -1)
    out = scaled_dot_product_attention(
        query[:, None, :, :dim].contiguous(), key[:, None, :, :dim].contiguous(), value[:, None], mask, scale=scale
    )
    return out[:, 0] * seen[:, None, None]
