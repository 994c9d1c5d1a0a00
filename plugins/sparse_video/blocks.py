"""Blocks of consecutive tokens: how many tokens each holds, their means, how far the tokens lie from them.

A block that is short (the last one) or holds masked tokens counts the tokens it really has. Sums are in fp32, in fp64
for fp64 inputs, and are made a few heads at a time, so that no second copy of all queries or keys is ever held.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

# Numbers of fp32 work space: on a CPU what its cache holds, elsewhere what keeps an accelerator busy.
_CPU_WORK_NUMBERS = 2**19
_DEVICE_WORK_NUMBERS = 2**27


def accumulation_dtype(dtype: torch.dtype) -> torch.dtype:
    """What sums and softmaxes over tensors of this type are made in: fp32, or fp64 for fp64."""
    return torch.promote_types(dtype, torch.float32)


def block_counts(tokens: int, block_size: int, mask: Tensor | None, device: torch.device) -> Tensor:
    """Valid tokens per block, int64 [batch or 1, blocks]; `mask` is bool [batch, tokens], None: all are valid."""
    if mask is None:
        mask = torch.ones(1, tokens, dtype=torch.bool, device=device)
    missing = -tokens % block_size
    return torch.nn.functional.pad(mask, (0, missing)).unflatten(1, (-1, block_size)).sum(-1)


def gather_tokens(tensor: Tensor, index: Tensor, out: Tensor | None = None) -> Tensor:
    """Tokens at `index`, int64 [n], of [batch, heads, tokens, d]: [batch, heads, n, d], into `out` where given."""
    if out is None:
        out = tensor.new_empty(*tensor.shape[:2], len(index), tensor.shape[3])
    if tensor.device.type != "cpu":
        return (
            out.copy_(tensor[:, :, index]) if not out.is_contiguous() else torch.index_select(tensor, 2, index, out=out)
        )
    for b in range(tensor.shape[0]):  # twice as fast as one call for all heads
        for h in range(tensor.shape[1]):
            torch.index_select(tensor[b, h], 0, index, out=out[b, h])
    return out


def block_means(tensor: Tensor, counts: Tensor, block_size: int, mask: Tensor | None = None) -> Tensor:
    """Mean of the valid tokens of each block: [batch, heads, tokens, d] to [batch, heads, blocks, d]; 0 if it has none.

    Args:
        counts: valid tokens per block as `block_counts` gives them.
        mask: bool [batch, tokens], False where a position holds no token.
    """
    weight = _weight(counts, tensor)
    means = _block_shaped(tensor, weight)
    for chunk in _stream(tensor, block_size, mask):
        means[:, chunk.heads, chunk.blocks] = chunk.values.sum(3) * weight[:, :, chunk.blocks]
    return means


def block_means_and_deviations(
    tensor: Tensor, counts: Tensor, block_size: int, mask: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """`block_means`, and the mean over each block's valid tokens of |token - block mean|, element by element.

    The deviation is the delta of GAPR (Rectified SpaAttn, arXiv 2511.19835).
    """
    weight = _weight(counts, tensor)
    means, deviations = _block_shaped(tensor, weight), _block_shaped(tensor, weight)
    for chunk in _stream(tensor, block_size, mask):
        mean = chunk.values.sum(3) * weight[:, :, chunk.blocks]
        chunk.values.sub_(mean.unsqueeze(3)).abs_()
        chunk.clear_missing(mask)
        means[:, chunk.heads, chunk.blocks] = mean
        deviations[:, chunk.heads, chunk.blocks] = chunk.values.sum(3) * weight[:, :, chunk.blocks]
    return means, deviations


def scale_and_add_(tensor: Tensor, factor: Tensor, term: Tensor, block_size: int) -> Tensor:
    """In place, factor * token + term for each token, with the factor and term of its block.

    Args:
        tensor: [batch, heads, tokens, d].
        factor: [batch, heads, blocks]. term: [batch, heads, blocks, d].
    """
    for chunk in _stream(tensor, block_size, None):
        where = (slice(None), chunk.heads, chunk.blocks, None)
        torch.addcmul(term[where], chunk.values, factor.unsqueeze(-1)[where], out=chunk.values)
        tensor[:, chunk.heads, chunk.tokens] = chunk.by_token()
    return tensor


@dataclass(frozen=True)
class _Chunk:
    """Some blocks of some heads in fp32 (fp64): values [batch, heads, blocks, block_size, d], free to overwrite."""

    heads: slice
    blocks: slice
    tokens: slice
    values: Tensor

    def by_token(self) -> Tensor:
        """A view of the values that really are tokens, [batch, heads, tokens, d]."""
        return self.values.flatten(2, 3)[:, :, : self.tokens.stop - self.tokens.start]

    def clear_missing(self, mask: Tensor | None) -> None:
        """Set to 0 what is no token: places beyond the last one and masked ones."""
        self.values.flatten(2, 3)[:, :, self.tokens.stop - self.tokens.start :] = 0
        if mask is not None:
            self.by_token().masked_fill_(~mask[:, None, self.tokens, None], 0)


def _stream(tensor: Tensor, block_size: int, mask: Tensor | None) -> Iterator[_Chunk]:
    """All blocks of all heads, as many at a time as the work space holds, with 0 where there is no token.

    One buffer serves all chunks: fresh memory for each would cost more than the arithmetic.
    """
    batch, heads, tokens, dim = tensor.shape
    blocks = -(-tokens // block_size)
    limit = _CPU_WORK_NUMBERS if tensor.device.type == "cpu" else _DEVICE_WORK_NUMBERS
    fits = max(1, limit // (batch * block_size * dim))
    block_step, head_step = min(fits, blocks), max(1, min(heads, fits // blocks))
    size = (batch * head_step * block_step, block_size, dim)
    buffer = torch.empty(size, dtype=accumulation_dtype(tensor.dtype), device=tensor.device)
    for head in range(0, heads, head_step):
        for block in range(0, blocks, block_step):
            some_heads = slice(head, min(head + head_step, heads))
            some_blocks = slice(block, min(block + block_step, blocks))
            some_tokens = slice(block * block_size, min(some_blocks.stop * block_size, tokens))
            lead = (batch, some_heads.stop - head, some_blocks.stop - block)
            chunk = _Chunk(some_heads, some_blocks, some_tokens, buffer[: math.prod(lead)].unflatten(0, lead))
            chunk.by_token().copy_(tensor[:, some_heads, some_tokens])
            chunk.clear_missing(mask)
            yield chunk


def _weight(counts: Tensor, tensor: Tensor) -> Tensor:
    """1 / valid tokens, [batch or 1, 1, blocks, 1]; blocks without one have sums of 0, and any weight will do."""
    return counts.clamp(min=1).to(accumulation_dtype(tensor.dtype)).reciprocal()[:, None, :, None]


def _block_shaped(tensor: Tensor, weight: Tensor) -> Tensor:
    return weight.new_empty(*tensor.shape[:2], weight.shape[2], tensor.shape[3])
