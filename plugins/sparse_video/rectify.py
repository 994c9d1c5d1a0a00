"""Rectified SpaAttn (arXiv 2511.19835): which blocks to compute, and how to correct what leaving the others out does.

N visual blocks stand for queries (i) and keys (j) alike; Q, K, V here are block means. The paper's text and its
authors' code differ in R; this is R as their code has it, with which the rows of the effective attention sum to one.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .blocks import scale_and_add_


def pooled_logits(query_mean: Tensor, key_mean: Tensor, counts: Tensor, scale: float) -> Tensor:
    """Logits of IPAR, [batch, heads, N, N]: s Q_i.K_j + ln c_j, where one mean key stands for c_j keys.

    The paper multiplies probabilities by the block size and normalises again, which is the same for full blocks; the
    true count c_j makes it right for short and masked blocks too. A block without tokens has -inf.

    Args:
        query_mean, key_mean: [batch, heads, N, d]. counts: [batch or 1, N], valid tokens per block.
    """
    logits = torch.matmul(query_mean * scale, key_mean.transpose(-1, -2))
    return logits.add_(counts.to(logits.dtype).log()[:, None, None, :])


def implicit_full_attention(logits: Tensor, text_logits: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """IPAR, isolated-pooling attention reallocation: the attention that each query block would pay, P.

    Args:
        logits: [batch, heads, N, N] from `pooled_logits`.
        text_logits: [batch, heads, N, text tokens], never pooled since text tokens differ too much from each other;
            -inf where a token is padding.

    Returns:
        P [batch, heads, N, N] on visual blocks and [batch, heads, N] on all text together; both sum to 1 per row, or
        to 0 where there is nothing to attend to.
    """
    if text_logits is None:
        blocks = logits.softmax(-1).nan_to_num_(0.0)
        return blocks, blocks.new_zeros(blocks.shape[:-1])
    text = text_logits.logsumexp(-1, keepdim=True)
    shares = torch.cat([logits, text], dim=-1).softmax(-1).nan_to_num_(0.0)
    return shares[..., :-1], shares[..., -1]


def select_blocks(logits: Tensor, keep: int, top_p: float | None, forced: Tensor | None) -> Tensor:
    """The critical blocks of each head and query block, bool [batch, heads, N, N].

    The `keep` blocks with the most attention; more where they do not yet hold more than `top_p` of the visual
    attention; and the forced ones. Text takes no part: it is attended anyway. Of equal blocks the lower index wins.

    Args:
        logits: [batch, heads, N, N] from `pooled_logits`; unlike P, they still tell blocks apart whose attention is
            below what a float can hold. -inf is never chosen.
        forced: bool [N, N], blocks that are always kept.
    """
    keep = min(keep, logits.shape[-1])
    chosen = _top_k(logits, keep) if top_p is None else _top_p(logits, keep, top_p)
    if forced is not None:
        chosen |= forced
    return chosen & (logits != -torch.inf)


def _top_k(logits: Tensor, keep: int) -> Tensor:
    """The `keep` highest of each row, without a full sort; topk does not say which of equal ones it takes, we do."""
    lowest = logits.topk(keep, dim=-1, sorted=False).values.amin(-1, keepdim=True)
    above, equal = logits > lowest, logits == lowest
    room = keep - above.sum(-1, keepdim=True)
    return above | (equal & (equal.cumsum(-1, dtype=torch.int32) <= room))


def _top_p(logits: Tensor, keep: int, top_p: float) -> Tensor:
    """The highest of each row until they hold more than `top_p` of it, and at least `keep`."""
    ranked, index = logits.sort(dim=-1, descending=True, stable=True)
    needed = (ranked.softmax(-1).cumsum(-1) <= top_p).sum(-1, keepdim=True) + 1
    if top_p == 1:  # rounding would end the running sum a little below or above 1
        needed = torch.full_like(needed, logits.shape[-1])
    kept = torch.arange(logits.shape[-1], device=logits.device) < needed.clamp(min=keep)
    return torch.zeros_like(kept).scatter_(-1, index, kept)


def center_keys(key_mean: Tensor, counts: Tensor) -> Tensor:
    """Block means of keys, [batch, heads, N, d], less the mean of all keys, so that a common offset changes nothing."""
    share = counts.to(key_mean.dtype)
    share = share / share.sum(-1, keepdim=True).clamp(min=1)
    return key_mean - (key_mean * share[:, None, :, None]).sum(2, keepdim=True)


def gain_error_gate(query_mean: Tensor, key_mean: Tensor, query_deviation: Tensor, key_deviation: Tensor) -> Tensor:
    """GAPR, gain-aware pooling rectification: where a pooled block says more than its pooling blurs.

    To first order q.k = Q_i.K_j + dq.K_j + Q_i.dk. Gain G = |Q_i.K_j|; error E = |dQ_i.K_j| + |Q_i.dK_j| with the mean
    absolute deviations in the place of dq and dk. Strictly more gain than error opens the gate.

    Args:
        all [batch, heads, N, d].

    Returns:
        bool [batch, heads, N, N].
    """
    keys = key_mean.transpose(-1, -2)
    error = torch.matmul(query_deviation, keys).abs_()
    error += torch.matmul(query_mean, key_deviation.transpose(-1, -2)).abs_()
    return torch.matmul(query_mean, keys).abs_() > error


def rectification(attention: Tensor, chosen: Tensor, gate: Tensor) -> tuple[Tensor, Tensor]:
    """R, the weight of the exactly computed part, and the weights of the blocks that are added back pooled.

    C_i: blocks that are not chosen and pass the gate. R_i = 1 - sum over C_i of P_ij, so that the mass of blocks that
    are neither computed nor added back goes to the computed part, and rows sum to one.

    Returns:
        R [batch, heads, N]; weights [batch, heads, N, N], P_ij on C_i and 0 elsewhere.
    """
    weights = attention.masked_fill(chosen | ~gate, 0.0)
    return 1 - weights.sum(-1), weights


def merge(sparse: Tensor, factor: Tensor, weights: Tensor, value_mean: Tensor, block_size: int) -> Tensor:
    """R_i * sparse output + sum over C_i of P_ij V_j, for every token of query block i; overwrites `sparse`.

    Args:
        sparse: [batch, heads, tokens, d]. factor: R [batch, heads, N]. weights: [batch, heads, N, N].
        value_mean: [batch, heads, N, d].
    """
    return scale_and_add_(sparse, factor, torch.matmul(weights, value_mean), block_size)
