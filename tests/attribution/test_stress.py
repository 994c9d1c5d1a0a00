"""Two thousand tables of the kinds that break solvers: few counts, deterministic maps, sparse, badly scaled."""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np

from plugins.attribution import decompose
from tests.attribution.oracles import atoms

SHAPES = {
    (2, 2, 2): 85,
    (2, 3, 2): 75,
    (3, 3, 3): 75,
    (4, 5, 3): 75,
    (5, 5, 4): 64,
    (6, 6, 6): 50,
    (8, 4, 5): 40,
    (10, 10, 5): 24,
    (10, 10, 10): 12,
}  # and how many of each of four kinds


def _counts(shape: tuple[int, int, int], rng: np.random.Generator) -> np.ndarray:
    p = rng.dirichlet(np.full(np.prod(shape), rng.choice([0.1, 1.0])))
    return rng.multinomial(rng.choice([5, 10, 20, 50, 200, 1000]), p).reshape(shape).astype(np.float64)


def _deterministic(shape: tuple[int, int, int], rng: np.random.Generator) -> np.ndarray:
    table = np.zeros(shape)
    outcome = rng.integers(0, shape[2], shape[:2])
    weight = rng.dirichlet(np.ones(shape[0] * shape[1])).reshape(shape[:2])
    np.put_along_axis(table, outcome[..., None], weight[..., None], axis=2)
    return table


def _sparse(shape: tuple[int, int, int], rng: np.random.Generator) -> np.ndarray:
    return rng.gamma(0.05, 1.0, shape)  # Dirichlet(0.05) up to scale


def _badly_scaled(shape: tuple[int, int, int], rng: np.random.Generator) -> np.ndarray:
    return np.exp(6 * rng.standard_normal(shape))


def batches(seed: int) -> Iterator[np.ndarray]:
    """Batches of one shape and kind, [m, n1, n2, ny]."""
    rng = np.random.default_rng(seed)
    for shape, repeats in SHAPES.items():
        for draw in (_counts, _deterministic, _sparse, _badly_scaled):
            yield np.stack([draw(shape, rng) for _ in range(repeats)])


def test_two_thousand_hard_tables_are_solved_with_a_certificate_in_twenty_seconds() -> None:
    started, solved, worst_gap, worst_marginal, least = time.perf_counter(), 0, 0.0, 0.0, 0.0
    for tables in batches(seed=2511):
        result = decompose(tables)
        assert result.coupling is not None
        coupling, p = result.coupling.numpy(), tables / tables.sum(axis=(1, 2, 3), keepdims=True)
        for axis in (1, 2):
            worst_marginal = max(worst_marginal, float(np.abs(coupling.sum(axis=axis) - p.sum(axis=axis)).max()))
        worst_gap = max(worst_gap, float(result.gap.max()))
        least = min(least, float(atoms(result).min()))
        solved += len(tables)
    assert solved == 2000
    assert worst_gap <= 1e-6
    assert worst_marginal <= 1e-9
    assert least >= -1e-9
    assert time.perf_counter() - started < 20
