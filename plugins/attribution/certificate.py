"""The certificate that every solution carries: a feasible point above, a dual bound below.

BROJA minimises f(q) = -H_q(Y | X1 X2) over the tables q that share both pairwise marginals a(x1, y), b(x2, y) with
p. Its dual maximises  <a, lambda> + <b, mu>  subject to  g_ij = sum_y exp(lambda_iy + mu_jy) <= 1  for every cell
(x1, x2) = (i, j). Shifting lambda by -log max g makes any (lambda, mu) feasible, so a gap exists for any point.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .tables import Marginals, entropy, xlogy_sum

CLEANUP_SWEEPS = 200


@dataclass(frozen=True)
class Solution:
    """A solved batch.

    Attributes:
        joint: q, [batch, n1, n2, ny]; shares the pairwise marginals of p to rounding.
        potential_1, potential_2: lambda [batch, n1, ny] and mu [batch, n2, ny], nats; -inf where p(x, y) = 0.
        union_information: I_q(X1 X2; Y), [batch], nats; an upper bound of the optimum.
        gap: upper bound of its error, [batch], nats.
        iterations: [batch], int64.
    """

    joint: Tensor
    potential_1: Tensor
    potential_2: Tensor
    union_information: Tensor
    gap: Tensor
    iterations: Tensor


def certify(
    coupling: Tensor, potential_1: Tensor, potential_2: Tensor, margins: Marginals, iterations: Tensor
) -> Solution:
    """Make a nearly feasible coupling exactly feasible and bound its error from the potentials.

    Args:
        coupling: positive on every admissible triple, [batch, n1, n2, ny].
        potential_1, potential_2: any dual point; entries without support are ignored.
    """
    joint = round_to_marginals(coupling, margins)
    primal = xlogy_sum(joint) - xlogy_sum(joint.sum(dim=3))
    potential_1 = torch.where(margins.source_1 > 0, potential_1, -torch.inf)
    potential_2 = torch.where(margins.source_2 > 0, potential_2, -torch.inf)
    dual = dual_bound(potential_1, potential_2, margins)
    union = primal + entropy(margins.target)
    return Solution(joint, potential_1, potential_2, union, (primal - dual).clamp_min(0.0), iterations)


def dual_bound(potential_1: Tensor, potential_2: Tensor, margins: Marginals) -> Tensor:
    """Lower bound of min f(q) from any dual point, [batch], nats."""
    exponent_1, exponent_2 = potential_1.exp(), potential_2.exp()
    excess = torch.einsum("biy,bjy->bij", exponent_1, exponent_2).amax(dim=(1, 2)).log()
    linear = _expectation(margins.source_1, potential_1) + _expectation(margins.source_2, potential_2)
    return linear - excess


def round_to_marginals(coupling: Tensor, margins: Marginals) -> Tensor:
    """Scale a coupling to both pairwise marginals (Sinkhorn), then round the rest away.

    The rounding is that of Altschuler, Weed and Rigollet (2017, algorithm 2), done for every y at once: shrink rows
    and columns that are too heavy, then add the missing mass as a rank-one term.
    """
    row_target, column_target = margins.source_1, margins.source_2
    for _ in range(CLEANUP_SWEEPS):
        coupling = coupling * _ratio(row_target, coupling.sum(dim=2))[:, :, None, :]
        coupling = coupling * _ratio(column_target, coupling.sum(dim=1))[:, None, :, :]
        if (coupling.sum(dim=2) - row_target).abs().amax() < 1e-15:
            break
    coupling = coupling * _ratio(row_target, coupling.sum(dim=2)).clamp_max(1.0)[:, :, None, :]
    coupling = coupling * _ratio(column_target, coupling.sum(dim=1)).clamp_max(1.0)[:, None, :, :]
    missing_1 = (row_target - coupling.sum(dim=2)).clamp_min(0.0)
    missing_2 = (column_target - coupling.sum(dim=1)).clamp_min(0.0)
    share_1 = _ratio(missing_1, missing_1.sum(dim=1, keepdim=True))
    return coupling + share_1[:, :, None, :] * missing_2[:, None, :, :]


def _ratio(numerator: Tensor, denominator: Tensor) -> Tensor:
    positive = denominator > 0
    return torch.where(positive, numerator, 0.0) / torch.where(positive, denominator, 1.0)


def _expectation(weights: Tensor, values: Tensor) -> Tensor:
    return torch.where(weights > 0, weights * values, 0.0).flatten(1).sum(dim=1)
