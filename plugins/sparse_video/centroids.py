"""The centroid variant, beyond the paper: blocks that are not chosen take part as a few mean keys each.

A mean key K stands for its tokens k with the bias ln sum exp(s Q_i.(k - K)), with which it has exactly their weight
for the mean query Q_i of its query block. Where the keys agree that is the logarithm of their number; where they
differ it is more, by Jensen's inequality, and the number alone would make them too light.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pad

from .blocks import block_counts, block_means

_WORK_NUMBERS = 2**22  # of logits at once: more do not fit into a cache, fewer do not keep an accelerator busy


def centroid_keys(
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    query_mean: Tensor,
    chosen: Tensor,
    *,
    block_size: int,
    centroid_size: int,
    scale: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Mean keys, mean values, and by query block the bias with which each mean joins the softmax.

    Args:
        key, value: [batch, heads, tokens, d] in block order; mask bool [batch, tokens] or None.
        query_mean: [batch, heads, N, d]. chosen: bool [batch, heads, N, N].
        centroid_size: tokens in a mean, a divisor of block_size.

    Returns:
        [batch, heads, E, d] twice in the key's dtype, and [batch, heads, N, E], -inf where the block is chosen or the
        mean is of no token at all.
    """
    counts = block_counts(key.shape[2], centroid_size, mask, key.device)
    key_mean = block_means(key, counts, centroid_size, mask)
    value_mean = block_means(value, counts, centroid_size, mask)
    bias = query_mean.new_empty(*query_mean.shape[:3], key_mean.shape[2])
    for b in range(key.shape[0]):
        unseen = None if mask is None else ~mask[b]
        for h in range(key.shape[1]):
            _log_weights(query_mean[b, h] * scale, key[b, h], key_mean[b, h], unseen, centroid_size, out=bias[b, h])
    own_block = chosen.repeat_interleave(block_size // centroid_size, dim=-1)[..., : bias.shape[-1]]
    return key_mean.to(key.dtype), value_mean.to(value.dtype), bias.masked_fill_(own_block, -torch.inf)


def _log_weights(query: Tensor, key: Tensor, means: Tensor, unseen: Tensor | None, size: int, out: Tensor) -> None:
    """Fill out [N, E] with ln sum exp(q.(k - K)) over the tokens of each mean; query [N, d], key [tokens, d]."""
    key = key.to(query.dtype)
    missing, rows = -len(key) % size, max(1, _WORK_NUMBERS // len(key))
    for some, into in zip(query.split(rows), out.split(rows), strict=True):
        logits = some @ key.mT
        if unseen is not None:
            logits.masked_fill_(unseen, -torch.inf)
        logits = pad(logits, (0, missing), value=-torch.inf).unflatten(-1, (-1, size))
        into.copy_(logits.logsumexp(-1) - some @ means.mT)
