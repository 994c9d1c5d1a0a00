"""decompose(): from a joint table to the atoms of its partial information decomposition."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, fields, replace
from functools import cache
from typing import TYPE_CHECKING, Literal, get_args

import torch
from threadpoolctl import ThreadpoolController
from torch import Tensor

from .alternating import PaperSchedule, solve_first_order, solve_ipfp
from .certificate import Solution
from .errors import AttributionInputError
from .newton import solve_newton
from .redundancy import imin_redundancy, mmi_redundancy
from .tables import (
    LOG_2,
    Marginals,
    as_joint,
    conditionally_independent,
    entropy,
    joint_information,
    marginals,
    source_information,
    xlogy_sum,
)

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

Method = Literal["broja", "ipfp", "imin", "mmi"]

NEWTON_MAX_SIZE = 3000  # (n1 + n2) ny; above it the Newton matrix outgrows its use
ONE_THREAD_SIZE = 1500  # (n1 + n2) ny; Newton on larger tables gains from more threads
FIRST_ORDER_GAP = 1e-3  # bits; what the first-order method is asked for on such tables
NEWTON_ACCEPTED_GAP = 1e-7  # bits; a Newton result above it is polished by the first-order method


@dataclass(frozen=True)
class PIDResult:
    """Partial information decomposition of I(X1 X2; Y), in bits.

    Every field but the last four has the leading (batch) shape of the table, `[]` for one table, float64.

    Attributes:
        redundancy: what either source says alone.
        unique_1, unique_2: what only that source says.
        synergy: what only both together say.
        total: I(X1 X2; Y), the sum of the four.
        information_1, information_2: I(X1; Y) = redundancy + unique_1, and likewise for source 2.
        union_information: redundancy + unique_1 + unique_2, the least that the pairwise tables allow.
        gap: certified bound on the error of union_information, and so of every atom; 0 for closed forms.
        iterations: of the solver, int64.
        method: what computed it.
        potential_1, potential_2: optimal dual potentials, [..., n1, ny] and [..., n2, ny], nats: the gradient of
            union_information (in nats) with respect to the pairwise tables; None for closed forms.
        coupling: the optimal q(x1, x2, y), [..., n1, n2, ny]; None for closed forms.
    """

    redundancy: Tensor
    unique_1: Tensor
    unique_2: Tensor
    synergy: Tensor
    total: Tensor
    information_1: Tensor
    information_2: Tensor
    union_information: Tensor
    gap: Tensor
    iterations: Tensor
    method: str
    potential_1: Tensor | None = None
    potential_2: Tensor | None = None
    coupling: Tensor | None = None

    def to_dict(self) -> dict[str, float | list | str]:
        """The numbers as plain Python values, JSON-able."""
        skipped = ("potential_1", "potential_2", "coupling", "method")
        values = {f.name: getattr(self, f.name).tolist() for f in fields(self) if f.name not in skipped}
        return {**values, "method": self.method}


def decompose(joint: ArrayLike | Tensor, *, method: Method = "broja", tol: float = 1e-9) -> PIDResult:
    """Decompose the information that two sources carry about a target.

    Args:
        joint: counts or probabilities, [..., n1, n2, ny]; leading axes are a batch.
        method: "broja" (Bertschinger et al. 2014, certified), "ipfp" (the same optimum by the alternating projections
            of arXiv 2511.19470 with its schedule; read the gap), "imin" (Williams and Beer 2010) or "mmi".
        tol: duality gap to stop at, bits. Tables with (n1 + n2) ny above 3000 stop at 1e-3 or tol, the larger.

    Raises:
        AttributionInputError: a table that is not one, or an unknown method.
    """
    if method not in get_args(Method):
        raise AttributionInputError(f"method {method!r} is unknown: choose from {', '.join(get_args(Method))}")
    if not 0 < tol < 1:
        raise AttributionInputError(f"tol is {tol}: it is a duality gap in bits between 0 and 1")
    with torch.inference_mode():
        table, leading = as_joint(joint)
        many = (table.shape[1] + table.shape[2]) * table.shape[3] > ONE_THREAD_SIZE
        with nullcontext() if many else _one_thread():
            result = _decompose(table, leading, method, tol)
    return _ordinary(result)


def _decompose(table: Tensor, leading: tuple[int, ...], method: Method, tol: float) -> PIDResult:
    margins = marginals(table)
    if method == "broja":
        return _from_solution(_solve_broja(table, margins, tol * LOG_2), table, margins, leading, method)
    if method == "ipfp":
        solution = solve_ipfp(margins, schedule=PaperSchedule())
        return _from_solution(solution, table, margins, leading, method)
    redundancy = imin_redundancy(margins) if method == "imin" else mmi_redundancy(margins)
    information_1, information_2 = source_information(margins.source_1), source_information(margins.source_2)
    union = information_1 + information_2 - redundancy
    return _assemble(union, torch.zeros_like(union), table, margins, leading, method, None)


def conditional_independence_reference(joint: ArrayLike | Tensor) -> PIDResult:
    """The "decomposition" of p(y) p(x1|y) p(x2|y), which is what a single IPFP from the uniform table gives.

    It is not BROJA: for conditionally independent sources its synergy is zero by construction, and for the AND gate
    it finds 0.2296 bits of unique information where there are none. The gap says how far off it is at least.
    """
    table, leading = as_joint(joint)
    margins = marginals(table)
    reference = conditionally_independent(margins)
    union = entropy(margins.target) + xlogy_sum(reference) - xlogy_sum(reference.sum(dim=3))
    exact = _solve_broja(table, margins, 1e-9)
    gap = union - exact.union_information + exact.gap
    return _assemble(union, gap, table, margins, leading, "conditional_independence_reference", None)


def _solve_broja(table: Tensor, margins: Marginals, tol: float) -> Solution:
    size = (table.shape[1] + table.shape[2]) * table.shape[3]
    if size > NEWTON_MAX_SIZE:
        return solve_first_order(margins, tol=max(tol, FIRST_ORDER_GAP * LOG_2))
    solution = solve_newton(table, margins, tol=tol)
    weak = solution.gap > max(tol, NEWTON_ACCEPTED_GAP * LOG_2)
    if not weak.any():
        return solution
    polished = solve_first_order(Marginals(*(m[weak] for m in vars(margins).values())), tol=tol)
    better = polished.gap < solution.gap[weak]
    where = weak.nonzero()[:, 0][better]
    for field in fields(Solution):
        getattr(solution, field.name)[where] = getattr(polished, field.name)[better]
    return solution


@cache
def _thread_pools() -> ThreadpoolController:
    return ThreadpoolController()


def _one_thread() -> AbstractContextManager:
    """One OpenMP thread, for this thread of the program only.

    The solver takes many short steps. Handing them to a second thread gains nothing, and where idle threads sleep
    (OMP_WAIT_POLICY=passive) waking it makes them five to ten times slower.
    """
    return _thread_pools().limit(limits=1, user_api="openmp")


def _ordinary(result: PIDResult) -> PIDResult:
    """The same values as tensors that their owner may change in place, which inference mode forbids."""
    tensors = {f.name: getattr(result, f.name) for f in fields(result)}
    return replace(result, **{name: t.clone() for name, t in tensors.items() if isinstance(t, Tensor)})


def _from_solution(
    solution: Solution, table: Tensor, margins: Marginals, leading: tuple[int, ...], method: str
) -> PIDResult:
    union = solution.union_information
    if method == "broja":
        # Bounds of the exact value; moving into them can only bring an approximate one nearer.
        information_1, information_2 = (
            source_information(margins.source_1),
            source_information(margins.source_2),
        )
        upper = torch.minimum(joint_information(table), information_1 + information_2)
        union = torch.maximum(torch.minimum(union, upper), torch.maximum(information_1, information_2))
    return _assemble(union, solution.gap, table, margins, leading, method, solution)


def _assemble(
    union: Tensor,
    gap: Tensor,
    table: Tensor,
    margins: Marginals,
    leading: tuple[int, ...],
    method: str,
    solution: Solution | None,
) -> PIDResult:
    information_1, information_2 = source_information(margins.source_1), source_information(margins.source_2)
    total = joint_information(table)

    def bits(value: Tensor) -> Tensor:
        return (value / LOG_2).reshape(leading)

    def shaped(value: Tensor) -> Tensor:
        return value.reshape((*leading, *value.shape[1:]))

    return PIDResult(
        redundancy=bits(information_1 + information_2 - union),
        unique_1=bits(union - information_2),
        unique_2=bits(union - information_1),
        synergy=bits(total - union),
        total=bits(total),
        information_1=bits(information_1),
        information_2=bits(information_2),
        union_information=bits(union),
        gap=bits(gap),
        iterations=shaped(solution.iterations if solution else torch.zeros_like(union, dtype=torch.int64)),
        method=method,
        potential_1=shaped(solution.potential_1) if solution else None,
        potential_2=shaped(solution.potential_2) if solution else None,
        coupling=shaped(solution.joint) if solution else None,
    )
