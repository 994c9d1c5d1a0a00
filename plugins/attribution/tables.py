"""Joint tables p(x1, x2, y): validation, marginals and the classical information terms.

Every function here takes a table of shape [batch, n1, n2, ny] that sums to one, in float64, and works in nats
unless its name says bits. Symbols with probability zero are allowed everywhere and change nothing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from .errors import AttributionInputError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

MAX_CELLS = 100_000_000
LOG_2 = math.log(2.0)


@dataclass(frozen=True)
class Marginals:
    """The marginals that BROJA holds fixed (Bertschinger et al. 2014), and those that follow from them.

    Attributes:
        source_1: p(x1, y), [batch, n1, ny].
        source_2: p(x2, y), [batch, n2, ny].
        target: p(y), [batch, ny].
    """

    source_1: Tensor
    source_2: Tensor
    target: Tensor


def as_joint(joint: ArrayLike | Tensor) -> tuple[Tensor, tuple[int, ...]]:
    """Check a table of counts or probabilities and normalise it.

    Args:
        joint: [..., n1, n2, ny], non-negative and finite; need not sum to one.

    Returns:
        The table as float64 of shape [batch, n1, n2, ny], each item summing to one, and the leading shape.

    Raises:
        AttributionInputError: wrong number of dimensions, no numbers, NaN, negative or empty tables.
    """
    try:
        # Lists go through numpy: torch would read them as float32. It cannot read views that run backwards.
        table = joint if isinstance(joint, Tensor) else torch.as_tensor(np.ascontiguousarray(joint))
    except (TypeError, ValueError, RuntimeError) as error:
        raise AttributionInputError(
            f"the joint table cannot be read as numbers ({error}): give an array [..., n1, n2, ny]"
        ) from error
    if table.is_complex() or table.dtype == torch.bool:
        raise AttributionInputError(f"the joint table is of type {table.dtype}: give counts or probabilities")
    if table.ndim < 3:
        raise AttributionInputError(
            f"the joint table has shape {tuple(table.shape)}: it needs three axes (x1, x2, y), leading axes are a batch"
        )
    if 0 in table.shape:
        raise AttributionInputError(f"the joint table of shape {tuple(table.shape)} has no cells")
    if table.numel() > MAX_CELLS:
        raise AttributionInputError(
            f"the joint table has {table.numel():,} cells, limit {MAX_CELLS:,}: use fewer symbols per source"
        )
    return _normalise(table.to(torch.float64)), tuple(table.shape[:-3])


def _normalise(table: Tensor) -> Tensor:
    batch = table.reshape(-1, *table.shape[-3:])
    if not torch.isfinite(batch).all():
        raise AttributionInputError("the joint table holds NaN or infinite values: all must be finite")
    if (batch < 0).any():
        raise AttributionInputError(
            f"the joint table holds negative values (lowest {batch.min().item():.3g}): "
            "counts and probabilities are zero or more"
        )
    largest = batch.amax(dim=(1, 2, 3), keepdim=True)
    if (largest == 0).any():
        raise AttributionInputError("a joint table is all zeros: it needs at least one observation")
    batch = batch / largest  # so that the sum of huge counts cannot overflow
    return batch / batch.sum(dim=(1, 2, 3), keepdim=True)


def marginals(joint: Tensor) -> Marginals:
    """The pairwise tables p(x1, y) and p(x2, y), and p(y)."""
    source_1, source_2 = joint.sum(dim=2), joint.sum(dim=1)
    return Marginals(source_1, source_2, source_1.sum(dim=1))


def xlogy_sum(values: Tensor) -> Tensor:
    """Sum of v log v over all but the batch axis (nats), with 0 log 0 = 0."""
    return torch.special.xlogy(values, values).flatten(1).sum(dim=1)


def entropy(probabilities: Tensor) -> Tensor:
    """Shannon entropy per batch item, nats."""
    return -xlogy_sum(probabilities)


def source_information(pairwise: Tensor) -> Tensor:
    """Mutual information of a pairwise table p(x, y) of shape [batch, n, ny], nats."""
    joint_term = xlogy_sum(pairwise)
    return (joint_term + entropy(pairwise.sum(dim=2)) + entropy(pairwise.sum(dim=1))).clamp_min(0.0)


def joint_information(joint: Tensor) -> Tensor:
    """I(X1 X2; Y) of a table [batch, n1, n2, ny], nats."""
    return source_information(joint.flatten(1, 2))


def conditionally_independent(margins: Marginals) -> Tensor:
    """p(y) p(x1|y) p(x2|y): the member of the BROJA polytope with the most entropy, [batch, n1, n2, ny]."""
    safe_target = torch.where(margins.target > 0, margins.target, 1.0)
    scaled = margins.source_2 / safe_target[:, None, :]
    return margins.source_1[:, :, None, :] * scaled[:, None, :, :]
