"""Primal-dual Newton method on the dual of BROJA, batched.

The dual has (n1 + n2) ny unknowns, far fewer than the n1 n2 ny of the primal, and one constraint per cell (i, j).
With slacks s_ij = 1 - g_ij and multipliers A_ij (at the optimum A is q*(x1, x2)) the optimality conditions are

    sum_j A_ij e_ijy = a_iy        sum_i A_ij e_ijy = b_jy        e_ijy = exp(lambda_iy + mu_jy)
    s_ij + sum_y e_ijy = 1         A_ij s_ij = 0                  A, s >= 0

and each iteration solves their linearisation with Mehrotra's predictor and corrector.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from .certificate import Solution, certify
from .newton_system import NewtonSystem
from .tables import Marginals, conditionally_independent

MAX_ITERATIONS = 60
RESIDUAL_TOLERANCE = 1e-9
STEP_TO_BOUNDARY = 0.99
MAX_POTENTIAL_STEP = 3.0
# Bytes of one chunk's Newton systems: on a CPU what the caches hold, on an accelerator what leaves room for others.
MEMORY_PER_CHUNK = {"cpu": 16 * 2**20, "accelerator": 2**30}


@dataclass(frozen=True)
class _State:
    """Iterates of the problems that have not converged yet; `index` is their place in the batch."""

    index: Tensor
    a: Tensor  # [b, n1, ny]
    b: Tensor  # [b, n2, ny]
    potential_1: Tensor
    potential_2: Tensor
    free_1: Tensor  # entries of the potentials that move: supported, not pinned
    free_2: Tensor
    admissible: Tensor  # [b, n1, n2, ny] float mask
    cell: Tensor  # [b, n1, n2] float mask of the cells that some y admits
    cells: Tensor  # [b] how many
    A: Tensor  # [b, n1, n2]
    s: Tensor
    e: Tensor  # [b, n1, n2, ny] exp(lambda + mu) on admissible triples

    def select(self, keep: Tensor) -> _State:
        return _State(**{field.name: getattr(self, field.name)[keep] for field in fields(self)})


@torch.no_grad()
def solve_newton(joint: Tensor, margins: Marginals, *, tol: float) -> Solution:
    """Solve a batch of tables.

    Args:
        joint: [batch, n1, n2, ny], used for its shape only: BROJA depends on the pairwise marginals alone.
        tol: bound on the duality gap, nats.
    """
    _, n1, n2, ny = joint.shape
    if n1 < n2:  # the Newton system eliminates source 1: let it be the larger
        return _swapped(solve_newton(joint.transpose(1, 2), _swapped_margins(margins), tol=tol))
    memory = MEMORY_PER_CHUNK["cpu" if joint.device.type == "cpu" else "accelerator"]
    per_problem = 8 * (2 * n1 * n2 * ny * ny + 3 * (n2 * ny) ** 2 + 10 * n1 * n2 * ny)
    parts = zip(*(m.split(max(1, memory // per_problem)) for m in vars(margins).values()), strict=True)
    chunks = [_solve_chunk(Marginals(*part), tol) for part in parts]
    if len(chunks) == 1:
        return chunks[0]
    return Solution(*(torch.cat([vars(c)[f.name] for c in chunks]) for f in fields(Solution)))


def _swapped_margins(margins: Marginals) -> Marginals:
    return Marginals(margins.source_2, margins.source_1, margins.target)


def _swapped(solution: Solution) -> Solution:
    return replace(
        solution,
        joint=solution.joint.transpose(1, 2),
        potential_1=solution.potential_2,
        potential_2=solution.potential_1,
    )


def _solve_chunk(margins: Marginals, tol: float) -> Solution:
    state = _start(margins)
    potential_1, potential_2 = state.potential_1.clone(), state.potential_2.clone()
    multipliers, exponentials = state.A.clone(), state.e.clone()
    iterations = torch.zeros(len(multipliers), dtype=torch.int64, device=multipliers.device)
    for iteration in range(MAX_ITERATIONS + 1):
        residuals = _residuals(state)
        done = ((state.A * state.s).sum(dim=(1, 2)) < tol) | (iteration == MAX_ITERATIONS)
        if done.any() and iteration < MAX_ITERATIONS:
            error = torch.stack([r.abs().flatten(1).amax(dim=1) for r in residuals]).amax(dim=0)
            done &= error < RESIDUAL_TOLERANCE
        if done.any():
            finished = state.index[done]
            potential_1[finished], potential_2[finished] = state.potential_1[done], state.potential_2[done]
            multipliers[finished], exponentials[finished] = state.A[done], state.e[done]
            iterations[finished] = iteration
            if done.all():
                break
            state, residuals = state.select(~done), tuple(r[~done] for r in residuals)
        state = _iterate(state, *residuals)
    return certify(multipliers[..., None] * exponentials, potential_1, potential_2, margins, iterations)


def _start(margins: Marginals) -> _State:
    """A centred point that is feasible for both programs: exp(lambda + mu) = C p(y) p(x1|y) p(x2|y), A = 1/C."""
    a, b, target = margins.source_1, margins.source_2, margins.target
    supported_1, supported_2 = a > 0, b > 0
    admissible = supported_1[:, :, None, :] & supported_2[:, None, :, :]
    cell = admissible.any(dim=3).to(a.dtype)
    reference = conditionally_independent(margins)
    scale = 0.5 / reference.sum(dim=3).amax(dim=(1, 2))
    log_target = torch.where(target > 0, target, 1.0).log()
    e = scale[:, None, None, None] * reference
    # lambda_.y + c_y, mu_.y - c_y is the same point: pin one mu per y, the one with the most mass.
    pinned = torch.zeros_like(supported_2).scatter_(1, b.argmax(dim=1, keepdim=True), True)
    return _State(
        index=torch.arange(len(a), device=a.device),
        a=a,
        b=b,
        potential_1=torch.where(supported_1, a, 1.0).log() + scale.log()[:, None, None],
        potential_2=torch.where(supported_2, b, 1.0).log() - log_target[:, None, :],
        free_1=supported_1.to(a.dtype),
        free_2=(supported_2 & ~pinned).to(a.dtype),
        admissible=admissible.to(a.dtype),
        cell=cell,
        cells=cell.sum(dim=(1, 2)),
        A=cell / scale[:, None, None],
        s=1.0 - e.sum(dim=3),
        e=e,
    )


def _residuals(state: _State) -> tuple[Tensor, Tensor, Tensor]:
    coupling = state.A[..., None] * state.e
    residual_p = (state.s + state.e.sum(dim=3) - 1.0) * state.cell
    return coupling.sum(dim=2) - state.a, coupling.sum(dim=1) - state.b, residual_p


def _iterate(state: _State, residual_1: Tensor, residual_2: Tensor, residual_p: Tensor) -> _State:
    e = state.e
    solve = NewtonSystem(state.A, state.s, e, state.free_1, state.free_2)
    product = state.A * state.s
    barrier = product.sum(dim=(1, 2)) / state.cells

    def direction(complementarity: Tensor, *, refine: bool) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Newton step towards A s = A s - complementarity."""
        pull = (state.A * residual_p - complementarity) / state.s
        pulled = pull[..., None] * e
        right = -residual_1 - pulled.sum(dim=2), -residual_2 - pulled.sum(dim=1)
        step_1, step_2 = solve(*right, refine=refine)
        moved = (e * (step_1[:, :, None, :] + step_2[:, None, :, :])).sum(dim=3)
        step_s = -residual_p - moved
        return step_1, step_2, step_s, (-complementarity - state.A * step_s) / state.s

    affine = direction(product, refine=False)
    length = _step_length(state, *affine, bound=1.0)[:, None, None]
    after = ((state.A + length * affine[3]) * (state.s + length * affine[2])).sum(dim=(1, 2)) / state.cells
    centring = ((after / barrier) ** 3).clamp(1e-4, 1.0)
    target = (centring * barrier).clamp_min(1e-13 / state.cells)[:, None, None]
    second_order = torch.where(length > 0.1, affine[3] * affine[2], 0.0)
    # Outside the cells A = 0, s = 1 and e = 0 stay as they are because nothing pulls at them.
    return _advance(state, *direction((product - target + second_order) * state.cell, refine=True))


def _advance(state: _State, step_1: Tensor, step_2: Tensor, step_s: Tensor, step_a: Tensor) -> _State:
    length = _step_length(state, step_1, step_2, step_s, step_a, bound=STEP_TO_BOUNDARY)[:, None, None]
    potential_1, potential_2 = state.potential_1 + length * step_1, state.potential_2 + length * step_2
    e = (potential_1[:, :, None, :] + potential_2[:, None, :, :]).exp() * state.admissible
    slack, true_slack = state.s + length * step_s, 1.0 - e.sum(dim=3)
    return replace(
        state,
        potential_1=potential_1,
        potential_2=potential_2,
        A=state.A + length * step_a,
        s=torch.where(true_slack > 0.5 * slack, true_slack, slack),
        e=e,
    )


def _step_length(
    state: _State, step_1: Tensor, step_2: Tensor, step_s: Tensor, step_a: Tensor, *, bound: float
) -> Tensor:
    """Longest step, at most 1, that keeps A and s positive and moves no potential by more than 3 nats."""

    def to_zero(value: Tensor, step: Tensor) -> Tensor:
        return torch.where(step < 0, -value / step, torch.inf).amin(dim=(1, 2))

    limit = torch.minimum(to_zero(state.A, step_a), to_zero(state.s, step_s)) * bound
    largest = torch.maximum(step_1.abs().amax(dim=(1, 2)), step_2.abs().amax(dim=(1, 2)))
    return torch.minimum(limit, MAX_POTENTIAL_STEP / largest.clamp_min(1e-300)).clamp_max(1.0)
