"""Primal-dual Newton method on the dual of BROJA, batched.

The dual has (n1 + n2) ny unknowns, far fewer than the n1 n2 ny of the primal, and one constraint per cell (i, j).
With slacks s_ij = 1 - g_ij and multipliers A_ij (at the optimum A is q*(x1, x2)) the optimality conditions are

    sum_j A_ij e_ijy = a_iy        sum_i A_ij e_ijy = b_jy        e_ijy = exp(lambda_iy + mu_jy)
    s_ij + sum_y e_ijy = 1         A_ij s_ij = 0                  A, s >= 0

and each iteration solves their linearisation with Mehrotra's predictor and corrector.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from .certificate import Solution, certify
from .tables import Marginals, conditionally_independent

MAX_ITERATIONS = 60
RESIDUAL_TOLERANCE = 1e-9
STEP_TO_BOUNDARY = 0.99
MAX_POTENTIAL_STEP = 3.0
MEMORY_PER_CHUNK = 256 * 2**20  # bytes of Newton matrices held at once


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
    A: Tensor  # [b, n1, n2]
    s: Tensor

    def select(self, keep: Tensor) -> _State:
        return _State(**{field.name: getattr(self, field.name)[keep] for field in fields(self)})


def solve_newton(joint: Tensor, margins: Marginals, *, tol: float) -> Solution:
    """Solve a batch of tables.

    Args:
        joint: [batch, n1, n2, ny], used for its shape only: BROJA depends on the pairwise marginals alone.
        tol: bound on the duality gap, nats.
    """
    size = (joint.shape[1] + joint.shape[2]) * joint.shape[3]
    per_chunk = max(1, MEMORY_PER_CHUNK // (24 * size * size + 64 * joint[0].numel()))
    chunks = [
        _solve_chunk(Marginals(*parts), tol)
        for parts in zip(*(m.split(per_chunk) for m in vars(margins).values()), strict=True)
    ]
    if len(chunks) == 1:
        return chunks[0]
    return Solution(*(torch.cat([vars(c)[f.name] for c in chunks]) for f in fields(Solution)))


def _solve_chunk(margins: Marginals, tol: float) -> Solution:
    state = _start(margins)
    cells = (state.admissible.amax(dim=3) > 0).sum(dim=(1, 2))
    potential_1, potential_2 = state.potential_1.clone(), state.potential_2.clone()
    multipliers = state.A.clone()
    iterations = torch.zeros(len(cells), dtype=torch.int64, device=cells.device)
    for iteration in range(MAX_ITERATIONS + 1):
        e = _exponentials(state)
        residual_1, residual_2, residual_p = _residuals(state, e)
        error = torch.maximum(residual_1.abs().amax(dim=(1, 2)), residual_2.abs().amax(dim=(1, 2)))
        error = torch.maximum(error, residual_p.abs().amax(dim=(1, 2)))
        complementarity = (state.A * state.s).sum(dim=(1, 2))
        done = (complementarity < tol) & (error < RESIDUAL_TOLERANCE)
        potential_1[state.index], potential_2[state.index] = state.potential_1, state.potential_2
        multipliers[state.index] = state.A
        iterations[state.index] = iteration
        if done.all() or iteration == MAX_ITERATIONS:
            break
        if done.any():
            keep = ~done
            state, e = state.select(keep), e[keep]
            residual_1, residual_2, residual_p = residual_1[keep], residual_2[keep], residual_p[keep]
        state = _iterate(state, e, residual_1, residual_2, residual_p, cells[state.index])
    e = (potential_1[:, :, None, :] + potential_2[:, None, :, :]).exp()
    e = e * (margins.source_1 > 0)[:, :, None, :] * (margins.source_2 > 0)[:, None, :, :]
    return certify(multipliers[..., None] * e, potential_1, potential_2, margins, iterations)


def _start(margins: Marginals) -> _State:
    """A centred point that is feasible for both programs: exp(lambda + mu) = C p(y) p(x1|y) p(x2|y), A = 1/C."""
    a, b, target = margins.source_1, margins.source_2, margins.target
    supported_1, supported_2 = a > 0, b > 0
    admissible = (supported_1[:, :, None, :] & supported_2[:, None, :, :]).to(a.dtype)
    cell = admissible.amax(dim=3)
    heaviest = conditionally_independent(margins).sum(dim=3).amax(dim=(1, 2))
    scale = 0.5 / heaviest
    log_target = torch.where(target > 0, target, 1.0).log()
    potential_1 = torch.where(supported_1, a, 1.0).log() + scale.log()[:, None, None]
    potential_2 = torch.where(supported_2, b, 1.0).log() - log_target[:, None, :]
    # lambda_.y + c_y, mu_.y - c_y is the same point: pin one mu per y, the one with the most mass.
    pinned = torch.zeros_like(supported_2).scatter_(1, b.argmax(dim=1, keepdim=True), True)
    start = _State(
        index=torch.arange(len(a), device=a.device),
        a=a,
        b=b,
        potential_1=potential_1,
        potential_2=potential_2,
        free_1=supported_1.to(a.dtype),
        free_2=(supported_2 & ~pinned).to(a.dtype),
        admissible=admissible,
        A=cell / scale[:, None, None],
        s=torch.ones_like(cell),
    )
    return replace(start, s=torch.where(cell > 0, 1.0 - _exponentials(start).sum(dim=3), 1.0))


def _exponentials(state: _State) -> Tensor:
    return (state.potential_1[:, :, None, :] + state.potential_2[:, None, :, :]).exp() * state.admissible


def _residuals(state: _State, e: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    coupling = state.A[..., None] * e
    residual_p = torch.where(state.A > 0, state.s + e.sum(dim=3) - 1.0, 0.0)
    return coupling.sum(dim=2) - state.a, coupling.sum(dim=1) - state.b, residual_p


def _iterate(
    state: _State, e: Tensor, residual_1: Tensor, residual_2: Tensor, residual_p: Tensor, cells: Tensor
) -> _State:
    cell = state.A > 0
    solve = _NewtonSystem(state, e)
    product = state.A * state.s
    barrier = product.sum(dim=(1, 2)) / cells

    def direction(complementarity: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Newton step towards A s = A s - complementarity."""
        pull = torch.where(cell, (state.A * residual_p - complementarity) / state.s, 0.0)
        pulled = pull[..., None] * e
        step_1, step_2 = solve(-residual_1 - pulled.sum(dim=2), -residual_2 - pulled.sum(dim=1))
        moved = torch.einsum("bijy,biy->bij", e, step_1) + torch.einsum("bijy,bjy->bij", e, step_2)
        step_s = torch.where(cell, -residual_p - moved, 0.0)
        step_a = torch.where(cell, (-complementarity - state.A * step_s) / state.s, 0.0)
        return step_1, step_2, step_s, step_a

    affine = direction(product)
    length = _step_length(state, *affine, bound=1.0)[:, None, None]
    after = ((state.A + length * affine[3]) * (state.s + length * affine[2])).sum(dim=(1, 2)) / cells
    centring = ((after / barrier) ** 3).clamp(1e-4, 1.0)
    target = (centring * barrier).clamp_min(1e-13 / cells)[:, None, None]
    second_order = torch.where(length > 0.1, affine[3] * affine[2], 0.0)
    step = direction(torch.where(cell, product - target + second_order, 0.0))
    return _advance(state, *step)


def _advance(state: _State, step_1: Tensor, step_2: Tensor, step_s: Tensor, step_a: Tensor) -> _State:
    length = _step_length(state, step_1, step_2, step_s, step_a, bound=STEP_TO_BOUNDARY)[:, None, None]
    moved = replace(
        state,
        potential_1=state.potential_1 + length * step_1,
        potential_2=state.potential_2 + length * step_2,
        A=state.A + length * step_a,
    )
    slack = state.s + length * step_s
    true_slack = 1.0 - _exponentials(moved).sum(dim=3)
    return replace(moved, s=torch.where((state.A > 0) & (true_slack > 0.5 * slack), true_slack, slack))


def _step_length(
    state: _State, step_1: Tensor, step_2: Tensor, step_s: Tensor, step_a: Tensor, *, bound: float
) -> Tensor:
    """Longest step, at most 1, that keeps A and s positive and moves no potential by more than 3 nats."""

    def to_zero(value: Tensor, step: Tensor) -> Tensor:
        return torch.where(step < 0, -value / step, torch.inf).amin(dim=(1, 2))

    limit = torch.minimum(to_zero(state.A, step_a), to_zero(state.s, step_s)) * bound
    largest = torch.maximum(step_1.abs().amax(dim=(1, 2)), step_2.abs().amax(dim=(1, 2)))
    return torch.minimum(limit, MAX_POTENTIAL_STEP / largest.clamp_min(1e-300)).clamp_max(1.0)


class _NewtonSystem:
    """Factorised reduced Newton matrix; calling it solves for (d lambda, d mu)."""

    def __init__(self, state: _State, e: Tensor) -> None:
        self.free = torch.cat([state.free_1.flatten(1), state.free_2.flatten(1)], dim=1)
        self.shape_1, self.shape_2 = state.free_1.shape[1:], state.free_2.shape[1:]
        matrix = _newton_matrix(state.A, state.s, e)
        matrix = matrix * self.free[:, :, None] * self.free[:, None, :]
        matrix.diagonal(dim1=1, dim2=2).add_(1.0 - self.free)
        self.scale = matrix.diagonal(dim1=1, dim2=2).clamp_min(1e-300).rsqrt()
        self.matrix = matrix * self.scale[:, :, None] * self.scale[:, None, :]
        self.factor = _factorise(self.matrix)

    def __call__(self, right_1: Tensor, right_2: Tensor) -> tuple[Tensor, Tensor]:
        right = torch.cat([right_1.flatten(1), right_2.flatten(1)], dim=1) * self.free * self.scale
        right = right[..., None]
        solution = torch.cholesky_solve(right, self.factor)
        solution = solution + torch.cholesky_solve(right - self.matrix @ solution, self.factor)
        step = solution[..., 0] * self.scale
        split = math.prod(self.shape_1)
        return step[:, :split].unflatten(1, self.shape_1), step[:, split:].unflatten(1, self.shape_2)


def _newton_matrix(A: Tensor, s: Tensor, e: Tensor) -> Tensor:  # noqa: N803
    """H = sum_ij G_ij' [diag(A_ij e_ij) + (A_ij / s_ij) e_ij e_ij'] G_ij, [batch, N, N]."""
    batch, n1, n2, ny = e.shape
    coupling = A[..., None] * e
    weighted = (A / s)[..., None] * e
    matrix = e.new_zeros(batch, (n1 + n2) * ny, (n1 + n2) * ny)
    split = n1 * ny
    within_1 = torch.einsum("bijy,bijz->biyz", weighted, e) + torch.diag_embed(coupling.sum(dim=2))
    within_2 = torch.einsum("bijy,bijz->bjyz", weighted, e) + torch.diag_embed(coupling.sum(dim=1))
    across = weighted[..., None] * e[..., None, :]
    across.diagonal(dim1=3, dim2=4).add_(coupling)
    across = across.permute(0, 1, 3, 2, 4).reshape(batch, split, n2 * ny)
    matrix[:, :split, :split].unflatten(1, (n1, ny)).unflatten(3, (n1, ny)).diagonal(dim1=1, dim2=3).copy_(
        within_1.permute(0, 2, 3, 1)
    )
    matrix[:, split:, split:].unflatten(1, (n2, ny)).unflatten(3, (n2, ny)).diagonal(dim1=1, dim2=3).copy_(
        within_2.permute(0, 2, 3, 1)
    )
    matrix[:, :split, split:] = across
    matrix[:, split:, :split] = across.transpose(1, 2)
    return matrix


def _factorise(matrix: Tensor) -> Tensor:
    """Cholesky with the smallest ridge that succeeds, from 1e-13."""
    ridge = torch.full(matrix.shape[:1], 1e-13, dtype=matrix.dtype, device=matrix.device)
    eye = torch.eye(matrix.shape[1], dtype=matrix.dtype, device=matrix.device)
    while True:
        factor, failed = torch.linalg.cholesky_ex(matrix + ridge[:, None, None] * eye)
        if not failed.any() or ridge.max() > 1.0:
            return factor
        ridge = torch.where(failed > 0, ridge * 100.0, ridge)
