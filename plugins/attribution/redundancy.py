"""Closed-form redundancy measures, for comparison with BROJA.

Both only ask how much each source says, not whether it is the same thing: for two independent copied bits I_min calls
one bit redundant. They are not defaults here.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .tables import Marginals, source_information


def imin_redundancy(margins: Marginals) -> Tensor:
    """I_min of Williams and Beer (2010): sum_y p(y) min_i I(Y = y; X_i), [batch], nats."""
    specific = torch.minimum(
        _weighted_specific_information(margins.source_1, margins.target),
        _weighted_specific_information(margins.source_2, margins.target),
    )
    return specific.sum(dim=1)


def mmi_redundancy(margins: Marginals) -> Tensor:
    """Minimum mutual information (Barrett 2015): min_i I(X_i; Y), [batch], nats."""
    return torch.minimum(source_information(margins.source_1), source_information(margins.source_2))


def _weighted_specific_information(pairwise: Tensor, target: Tensor) -> Tensor:
    """p(y) I(Y = y; X) = sum_x p(x, y) log [p(x, y) / (p(x) p(y))], [batch, ny]."""
    independent = pairwise.sum(dim=2, keepdim=True) * target[:, None, :]
    ratio = pairwise / torch.where(pairwise > 0, independent, 1.0)
    return torch.special.xlogy(pairwise, ratio).sum(dim=1)
