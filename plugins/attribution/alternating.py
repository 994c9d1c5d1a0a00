"""First-order solvers: alternating I-projections, as published and accelerated.

BROJA is  min over q in Delta_p and A of  D(q || A x uniform_Y)  (Csiszar and Tusnady 1984; as admUI, Banerjee et al.
2018). For fixed A the best q scales A to the pairwise marginals for each y (IPFP, Sinkhorn): q = A u_y v_y. For fixed
q the best A is q(x1, x2). So one round is A <- A * g with g_ij = sum_y u_iy v_jy, and (log u, log v) is a dual point:
max log g is the optimality test.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .certificate import Solution, certify
from .tables import Marginals, conditionally_independent, xlogy_sum

SWEEPS_PER_ROUND = 2
CHECK_EVERY = 10
RELAXATION_GROWTH = 1.1


@dataclass(frozen=True)
class PaperSchedule:
    """Stopping rules of the published iterative proportional fitting (arXiv 2511.19470).

    Attributes:
        outer_iterations: rounds of the alternation.
        inner_sweeps: Sinkhorn sweeps per round.
        tolerance: stop a round when no log scaling moves by more; stop all when the objective moves by less.
    """

    outer_iterations: int = 100
    inner_sweeps: int = 100
    tolerance: float = 1e-8


def solve_ipfp(margins: Marginals, *, schedule: PaperSchedule) -> Solution:
    """The paper's alternating IPFP with its schedule; what it leaves undone shows in the gap."""
    uniform = 1.0 / margins.target.shape[-1]
    joint = conditionally_independent(margins)
    batch = len(joint)
    scaling_1, scaling_2 = torch.ones_like(margins.source_1), torch.ones_like(margins.source_2)
    iterations = torch.zeros(batch, dtype=torch.int64, device=joint.device)
    active = torch.ones(batch, dtype=torch.bool, device=joint.device)
    previous = torch.full((batch,), torch.inf, dtype=joint.dtype, device=joint.device)
    for _ in range(schedule.outer_iterations):
        coupling = joint.sum(dim=3) * uniform
        candidate_1, candidate_2 = _fit(coupling, margins, schedule)
        candidate = coupling[..., None] * candidate_1[:, :, None, :] * candidate_2[:, None, :, :]
        objective = xlogy_sum(candidate) - xlogy_sum(candidate.sum(dim=3))
        # The objective is uniform up to a constant: D(q || q(x1,x2) x uniform) = log ny - H_q(Y | X1 X2).
        keep = active[:, None, None]
        joint = torch.where(keep[..., None], candidate, joint)
        scaling_1 = torch.where(keep, candidate_1, scaling_1)
        scaling_2 = torch.where(keep, candidate_2, scaling_2)
        iterations += active
        settled = (previous - objective).abs() / previous.abs().clamp_min(1.0) < schedule.tolerance
        active = active & ~settled
        previous = objective
        if not active.any():
            break
    return certify(joint, (scaling_1 * uniform).log(), scaling_2.log(), margins, iterations)


def _fit(coupling: Tensor, margins: Marginals, schedule: PaperSchedule) -> tuple[Tensor, Tensor]:
    """IPFP of the matrix A to p(x1, y) and p(x2, y), for every y at once."""
    scaling_2 = (margins.source_2 > 0).to(coupling.dtype)
    for sweep in range(schedule.inner_sweeps):
        before = scaling_2
        scaling_1, scaling_2 = _sweep(coupling, scaling_2, margins)
        moved = torch.where(margins.source_2 > 0, (scaling_2 / before).log(), 0.0).abs().amax()
        if sweep > 0 and moved < schedule.tolerance:
            break
    return scaling_1, scaling_2


def _sweep(coupling: Tensor, scaling_2: Tensor, margins: Marginals) -> tuple[Tensor, Tensor]:
    """One Sinkhorn sweep u = a / (A v), v = b / (A' u); symbols without mass keep a scaling of exactly zero."""
    scaling_1 = _divide(margins.source_1, coupling @ scaling_2)
    return scaling_1, _divide(margins.source_2, coupling.transpose(1, 2) @ scaling_1)


def _divide(numerator: Tensor, denominator: Tensor) -> Tensor:
    return torch.where(numerator > 0, numerator / denominator.clamp_min(1e-300), 0.0)


def solve_first_order(margins: Marginals, *, tol: float, max_rounds: int = 5000) -> Solution:
    """Warm-started alternation with adaptive over-relaxation A <- A * g^omega, for tables too large for Newton.

    Args:
        tol: bound on the duality gap, nats; the gap that was reached is in the solution.
        max_rounds: bound on the work.
    """
    coupling = conditionally_independent(margins).sum(dim=3)
    scaling_2 = (margins.source_2 > 0).to(coupling.dtype)
    omega = torch.ones(len(coupling), dtype=coupling.dtype, device=coupling.device)
    objective = torch.full_like(omega, torch.inf)
    fallback = coupling
    for round_ in range(1, max_rounds + 1):
        for _ in range(SWEEPS_PER_ROUND):
            scaling_1, scaling_2 = _sweep(coupling, scaling_2, margins)
        growth = scaling_1 @ scaling_2.transpose(1, 2)
        marginal = coupling * growth
        current = _free_energy(scaling_1, scaling_2, margins)
        worse = current > objective + 1e-14
        if round_ % CHECK_EVERY == 0 and _gap(growth, marginal).amax() < tol:
            break
        # A step that raised the objective is undone and the plain alternation, which cannot, takes over.
        omega = torch.where(worse, 1.0, omega * RELAXATION_GROWTH)
        relaxed = coupling * growth.clamp_min(1e-300) ** omega[:, None, None]
        relaxed = relaxed / relaxed.sum(dim=(1, 2), keepdim=True)
        coupling, fallback = torch.where(worse[:, None, None], fallback, relaxed), marginal
        objective = torch.where(worse, torch.inf, current)
    joint = coupling[..., None] * scaling_1[:, :, None, :] * scaling_2[:, None, :, :]
    rounds = torch.full((len(joint),), round_, dtype=torch.int64, device=joint.device)
    return certify(joint, scaling_1.log(), scaling_2.log(), margins, rounds)


def _free_energy(scaling_1: Tensor, scaling_2: Tensor, margins: Marginals) -> Tensor:
    """min over q of D(q || A), which is <a, log u> + <b, log v>, [batch], nats."""
    return torch.special.xlogy(margins.source_1, scaling_1).sum(dim=(1, 2)) + torch.special.xlogy(
        margins.source_2, scaling_2
    ).sum(dim=(1, 2))


def _gap(growth: Tensor, marginal: Tensor) -> Tensor:
    """Duality gap of q = A u v: log max g - sum q(x1, x2) log g, [batch], nats."""
    return growth.amax(dim=(1, 2)).log() - torch.special.xlogy(marginal, growth).sum(dim=(1, 2))
