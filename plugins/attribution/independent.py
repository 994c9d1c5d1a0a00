"""BROJA by other people's solvers, to be checked and timed against: cvxpy with Clarabel, and dit's cone program.

Both are extras of the development environment; nothing that users run imports them.
"""

from __future__ import annotations

import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse
import scipy.special

LOG_2 = float(np.log(2.0))


@dataclass(frozen=True)
class OtherSolution:
    """What another solver says.

    Attributes:
        union_information: I_q(X1 X2; Y) of its q, bits.
        solve_seconds: of the solver alone.
        total_seconds: with building the model.
        status: as it calls it.
    """

    union_information: float
    solve_seconds: float
    total_seconds: float
    status: str


def solve_clarabel(table: np.ndarray, *, lifted: bool) -> OtherSolution:
    """Minimise -H(Y | X1 X2) over the tables that share both pairwise marginals, as an exponential-cone program.

    Args:
        table: p(x1, x2, y), [n1, n2, ny], summing to one.
        lifted: whether q(x1, x2) is a variable of its own, tied by an equation, instead of a sum inside each cone. It
            is the same program with far fewer non-zeros, which the solver does not find by itself.
    """
    import cvxpy

    started = time.perf_counter()
    sums, target, cell_of = _marginal_sums(table)
    q = cvxpy.Variable(table.size)
    constraints: list = [sums @ q == target]
    if lifted:
        pairs = cvxpy.Variable(cell_of.shape[0])
        constraints.append(cell_of @ q == pairs)
        summed = cell_of.T @ pairs
    else:
        summed = (cell_of.T @ cell_of) @ q
    problem = cvxpy.Problem(cvxpy.Minimize(cvxpy.sum(cvxpy.rel_entr(q, summed))), constraints)
    problem.solve(solver=cvxpy.CLARABEL)
    total = time.perf_counter() - started
    p = table.sum(axis=(0, 1))
    entropy = -float(scipy.special.xlogy(p, p).sum())
    solve = float(problem.solver_stats.solve_time or total)
    return OtherSolution((float(problem.value) + entropy) / LOG_2, solve, total, str(problem.status))


def _marginal_sums(table: np.ndarray) -> tuple[scipy.sparse.csr_matrix, np.ndarray, scipy.sparse.csr_matrix]:
    """Equations of the pairwise marginals and their values, and the map from triples to cells."""
    n1, n2, ny = table.shape
    triple = np.arange(table.size)
    i, j, y = np.unravel_index(triple, table.shape)
    ones = np.ones(table.size)
    rows = scipy.sparse.csr_matrix((ones, (i * ny + y, triple)), (n1 * ny, table.size))
    columns = scipy.sparse.csr_matrix((ones, (j * ny + y, triple)), (n2 * ny, table.size))
    cells = scipy.sparse.csr_matrix((ones, (i * n2 + j, triple)), (n1 * n2, table.size))
    # The sums over rows and over columns agree for each y: one equation in each is redundant and is left out.
    values = np.concatenate([table.sum(axis=1).ravel(), table.sum(axis=0).ravel()[:-ny]])
    return scipy.sparse.vstack([rows, columns[:-ny]]).tocsr(), values, cells


def solve_dit(table: np.ndarray) -> OtherSolution:
    """dit's PID_BROJA with method="cone" (ECOS)."""
    import dit
    from dit.pid import PID_BROJA

    started = time.perf_counter()
    outcomes = [tuple(map(int, where)) for where in np.argwhere(table > 0)]
    distribution = dit.Distribution(outcomes, [float(table[where]) for where in outcomes])
    with _ecos_seconds() as seconds:
        unique_1 = float(PID_BROJA(distribution, [[0], [1]], [2], method="cone").get_pi(((0,),)))
    total = time.perf_counter() - started
    return OtherSolution(unique_1 + _information(table.sum(axis=0)), sum(seconds), total, "solved")


@contextmanager
def _ecos_seconds() -> Generator[list[float]]:
    """Seconds that ECOS itself takes, which dit does not report: its own clock, read on the way out."""
    import ecos

    solve, seconds = ecos.solve, []

    def timed(*arguments: Any, **options: Any) -> dict[str, Any]:
        solution = solve(*arguments, **options)
        seconds.append(float(solution["info"]["timing"]["runtime"]))
        return solution

    ecos.solve = timed  # ty: ignore[invalid-assignment]
    try:
        yield seconds
    finally:
        ecos.solve = solve


def _information(pair: np.ndarray) -> float:
    """Mutual information of p(x, y), bits."""
    independent = pair.sum(axis=1, keepdims=True) * pair.sum(axis=0)
    seen = pair > 0
    return float((pair[seen] * np.log2(pair[seen] / independent[seen])).sum())
