"""Calibrated matching of candidates with tracklets (SATA, section 3.4)."""

from __future__ import annotations

import torch
from scipy.optimize import linear_sum_assignment
from torch.nn import functional


def affinity(
    candidates: torch.Tensor,
    tracklets: torch.Tensor,
    scale: torch.Tensor | float,
    dustbin: torch.Tensor | float | None = None,
) -> torch.Tensor:
    """A = (B + C) / 2: the mean of bi-softmax and cosine, [m, n] in -0.5..1.

    Args:
        candidates: [m, d]. tracklets: [n, d].
        scale: of the cosines inside the softmaxes. Without one perfect matches do not reach the paper's threshold.
        dustbin: the cosine at which "none of these" is as likely as a match, a further choice in both softmaxes, so
            that a newcomer beside a single tracklet does not match it by lack of choice. None is the paper's form.
    """
    cosine = functional.normalize(candidates, dim=-1) @ functional.normalize(tracklets, dim=-1).T
    if 0 in cosine.shape:
        return cosine
    across, down = assignment(scale * cosine, None if dustbin is None else scale * torch.as_tensor(dustbin))
    return ((across + down) / 2 + cosine) / 2


def assignment(
    logits: torch.Tensor, dustbin: torch.Tensor | None, allowed: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """How likely each pair is among the pairs of its row, and of its column: twice [m, n].

    Args:
        dustbin: logit of a further choice, or None. allowed: bool [m, n], pairs that may be; the others get zero.
    """
    if allowed is not None:
        logits = logits.masked_fill(~allowed, float("-inf"))
    parts = []
    for one, dimension in ((logits, 1), (logits.T, 1)):
        if dustbin is not None:
            one = torch.cat([one, dustbin.to(one.dtype).expand(len(one), 1)], dimension)
        parts.append(one.softmax(dimension)[:, : logits.shape[len(parts) ^ 1]])
    return parts[0], parts[1].T


def assign(score: torch.Tensor, threshold: float) -> list[tuple[int, int]]:
    """The one-to-one pairs (row, column) of greatest total score among those above the threshold, in order of rows.

    A pair at or below the threshold is never made, and never stands in the way of one that may be (section 3.4).
    """
    allowed = score > threshold
    cost = torch.where(allowed, -score - 2, torch.zeros_like(score)).double().cpu().numpy()
    rows, columns = linear_sum_assignment(cost)
    return [(int(row), int(column)) for row, column in zip(rows, columns, strict=True) if allowed[row, column]]
