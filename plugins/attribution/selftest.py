"""The self-test: known truth against what this code computes, from exact tables to sampled data."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from scipy.integrate import quad
from scipy.stats import binom, norm

from .closed_forms import bsc_and_bec, closed_forms
from .counts import JointCounts
from .decomposition import PIDResult, decompose
from .estimation import ATOMS, RELIABLE_EXAMPLES, Estimates, estimate
from .pipeline import PIDAttributionPipeline
from .synthetic import gate, mixture, noisy, planted_signal, sample, sensors

ATOL = 1e-6  # bits, error and gap of exact tables
MARGINAL_ATOL = 1e-9
BIAS_BITS = 0.03
COVERAGE = (0.80, 0.97)
INTERIOR_BITS = 0.005  # truth above it: two-sided; below: the interval is one-sided
CHANCE = 0.01
JUDGED_DRAWS = 100  # with fewer, coverage and bias are printed and not judged
PER_CELL = (5, 10)
PER_CELL_SMALL = (*PER_CELL, 25)  # of tables that have under 100 samples at 10 per cell
NULL_SHUFFLES = 19  # p <= 0.05 is then a test of exactly that level
PLANTED_KEPT, KMEANS_KEPT = 0.8, 0.2
NOTHING_BITS = 0.03

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Check:
    """One part of the self-test.

    Attributes:
        title: what it shows.
        columns, rows: its table; JSON-able cells.
        notes: sentences below it.
        failures: bars that were missed, one sentence each; empty when it passed.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]
    notes: tuple[str, ...]
    failures: tuple[str, ...]

    def to_markdown(self) -> str:
        lines = [f"## {self.title}", "", "| " + " | ".join(self.columns) + " |", "|" + "---|" * len(self.columns)]
        lines += ["| " + " | ".join(_cell(value) for value in row) + " |" for row in self.rows]
        lines += ["", *(f"- {note}" for note in self.notes), *(f"- FAILED: {failure}" for failure in self.failures)]
        return "\n".join([*lines, ""])

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def run_checks(seeds: range, *, draws: int, full: bool, tell: Tell) -> Iterator[Check]:
    """Every part in turn, each on all the seeds.

    Args:
        seeds: of whatever is generated; seed s gives the same cases on every machine.
        draws: samples per table and sample size in the coverage check.
        full: 2,000 tables in the stress instead of 400, and ten and not two shuffled data sets per seed.
    """
    tell("closed forms")
    yield check_closed_forms(seeds)
    tell("stress")
    yield check_stress(seeds, tables=2000 if full else 400)
    yield from check_samples(seeds, draws=draws, tell=tell)
    tell("planted signal")
    yield check_planted(seeds)
    tell("shuffled data")
    yield check_shuffled(seeds, repeats=10 if full else 2)


def check_closed_forms(seeds: range) -> Check:
    """Exact tables against their closed forms."""
    rows, failures = [], []
    for seed in seeds:
        for case in closed_forms(np.random.default_rng(seed)):
            result = decompose(case.table)
            found = _atoms(result)
            error, gap = float(np.abs(found - case.atoms).max()), float(result.gap)
            rows.append((case.name, "x".join(map(str, case.table.shape)), *found.tolist(), error, gap))
            if error > ATOL or gap > ATOL:
                failures.append(f"{case.name}: error {error:.1e}, gap {gap:.1e} bits, allowed {ATOL:.0e}")
    worst = f"worst error {max(r[-2] for r in rows):.1e} bits, worst certified gap {max(r[-1] for r in rows):.1e} bits"
    columns = ("table", "cells", "R", "U1", "U2", "S", "error", "gap")
    return Check("Closed forms", columns, tuple(rows), (worst,), tuple(failures))


def check_stress(seeds: range, *, tables: int) -> Check:
    """Tables of every temper: the certified gap and the marginals of q."""
    worst: dict[str, list[float]] = {}
    for seed in seeds:
        for kind, batch in stress_tables(np.random.default_rng(seed), tables):
            result = decompose(batch)
            if result.coupling is None:
                raise RuntimeError("broja gives a coupling")
            p = batch / batch.sum(axis=(1, 2, 3), keepdims=True)
            off = [np.abs(result.coupling.numpy().sum(axis=axis) - p.sum(axis=axis)).max() for axis in (1, 2)]
            seen = worst.setdefault(kind, [0, 0.0, 0.0, 0])
            seen[0] += len(batch)
            seen[1:] = [
                max(seen[1], float(result.gap.max())),
                max(seen[2], *map(float, off)),
                max(seen[3], int(result.iterations.max())),
            ]
    failures = [
        f"{kind}: gap {gap:.1e} (allowed {ATOL:.0e}), marginal error {off:.1e} (allowed {MARGINAL_ATOL:.0e})"
        for kind, (_, gap, off, _) in worst.items()
        if gap > ATOL or off > MARGINAL_ATOL
    ]
    rows = tuple((kind, *values) for kind, values in worst.items())
    note = f"{sum(int(row[1]) for row in rows):,} random tables from 2x2x2 to 10x10x10"
    columns = ("kind", "tables", "worst gap", "worst marginal error", "most iterations")
    return Check("Stress", columns, rows, (note,), tuple(failures))


def stress_tables(rng: np.random.Generator, tables: int) -> Iterator[tuple[str, np.ndarray]]:
    """Batches of five tables of one shape, [5, n1, n2, ny]: few counts, deterministic maps, sparse, wild magnitudes."""
    kinds = ("few counts", "deterministic", "sparse Dirichlet", "wild magnitudes")
    for index in range(tables // 5):
        kind = kinds[index % 4]
        n1, n2, ny = shape = tuple(int(size) for size in rng.integers(2, 11, 3))
        if kind == "few counts":
            n = int(10 ** rng.uniform(0.7, 3))
            cells = n1 * n2 * ny
            batch = rng.multinomial(n, np.full(cells, 1 / cells), size=5).reshape(5, *shape).astype(float)
        elif kind == "deterministic":
            y = rng.integers(0, ny, (5, n1, n2, 1))
            batch = np.zeros((5, *shape))
            np.put_along_axis(batch, y, rng.gamma(1.0, 1.0, y.shape), axis=3)
        elif kind == "sparse Dirichlet":
            batch = rng.gamma(0.05, 1.0, (5, *shape))
        else:
            batch = np.exp(6 * rng.standard_normal((5, *shape)))
        yield kind, batch


def sampled_tables(rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Tables of the coverage check."""
    return {
        "AND, noise 0.2": noisy(gate("and"), 0.2),
        "XOR, noise 0.2": noisy(gate("xor"), 0.2),
        "RDN, noise 0.3": noisy(gate("redundant"), 0.3),
        "UNQ, noise 0.3": noisy(gate("unique"), 0.3),
        "BSC 0.1 and BEC 0.4": bsc_and_bec(0.1, 0.4),
        "mixture .4 .3 .1 .2": mixture(0.4, 0.3, 0.1, 0.2, noise=0.1),
        "structured 10x10x4": structured_table(),
        "Dirichlet(1) 3x3x3": rng.gamma(1.0, 1.0, (3, 3, 3)),
        "Dirichlet(0.3) 5x5x4": rng.gamma(0.3, 1.0, (5, 5, 4)),
        "Dirichlet(0.5) 10x10x4": rng.gamma(0.5, 1.0, (10, 10, 4)),
    }


def structured_table() -> np.ndarray:
    """Y = (h, a xor b); X1 = (strong reading of h, a), X2 = (weak reading of h, b): redundant, unique and synergy.

    A reading is one of five levels; the xor is flipped with probability 0.15. [10, 10, 4].
    """
    levels = np.arange(5)
    weak, strong = (np.exp(-np.square(levels[:, None] - np.array([1.2, 2.8])) / width) for width in (4.0, 0.8))
    readings = [r / r.sum(axis=0) for r in (strong, weak)]  # p(level | h), [5, 2]
    table = np.zeros((5, 2, 5, 2, 2, 2))
    for h, a, b, z in np.ndindex(2, 2, 2, 2):
        flip = 0.85 if z == a ^ b else 0.15
        table[:, a, :, b, h, z] += flip / 8 * np.outer(readings[0][:, h], readings[1][:, h])
    return table.reshape(10, 10, 4)


@dataclass(frozen=True)
class Coverage:
    """One atom of one table at one sample size, over the draws.

    Attributes:
        bias, rmse: of the corrected value, bits. covered: share of intervals that hold the truth.
        rejected: share of shuffled samples that read as something at p <= 0.05.
    """

    table: str
    per_cell: int
    samples: int
    atom: str
    truth: float
    bias: float
    rmse: float
    covered: float
    rejected: float


def check_samples(seeds: range, *, draws: int, tell: Tell) -> Iterator[Check]:
    """Sampled data with known truth: bias, error and coverage per atom, and what shuffled samples read as."""
    rows: list[Coverage] = []
    for seed in seeds:
        for number, (name, table) in enumerate(sampled_tables(np.random.default_rng(seed)).items()):
            for per_cell in PER_CELL if PER_CELL[-1] * table.size >= RELIABLE_EXAMPLES else PER_CELL_SMALL:
                tell(f"sampling {name}, {per_cell} per cell")
                rows += _cover(name, table / table.sum(), per_cell, draws, [seed, number, per_cell])
    columns = ("table", "per cell", "n", "atom", "truth", "bias", "RMSE", "covered", "null rejected")
    values = tuple(tuple(asdict(row).values()) for row in rows)
    notes, failures = _judge_coverage(rows, draws)
    yield Check(f"Sampled data, {draws} draws", columns, values, notes, failures)


def _cover(name: str, table: np.ndarray, per_cell: int, draws: int, seed: list[int]) -> Iterator[Coverage]:
    n = per_cell * table.size
    truth = _atoms(decompose(table))
    values, lows, highs, rejected = (np.zeros((draws, 4)) for _ in range(4))
    for draw in range(draws):
        rng = np.random.default_rng([*seed, draw])
        x1, x2, y = sample(table, n, rng)
        found = _estimates(_count(table, x1, x2, y), draw, shuffles=1)
        values[draw], lows[draw], highs[draw] = (
            [getattr(found.quantities[atom], part) for atom in ATOMS] for part in ("value", "low", "high")
        )
        null = _estimates(_count(table, x1, x2, rng.permutation(y)), draw, shuffles=NULL_SHUFFLES, half_splits=1)
        rejected[draw] = [null.quantities[atom].p_value <= 0.05 for atom in ATOMS]
    # The solver's own error, 1e-9, must not decide whether an interval that starts at zero holds a truth of zero.
    inside = (lows <= truth + ATOL) & (truth - ATOL <= highs)
    error = values - truth
    summary = truth, error.mean(axis=0), np.sqrt(np.square(error).mean(axis=0)), inside.mean(axis=0)
    for k, atom in enumerate(ATOMS):
        t, bias, rmse, covered = (float(part[k]) for part in summary)
        yield Coverage(name, per_cell, n, atom, t, bias, rmse, covered, float(rejected[:, k].mean()))


def _estimates(counts: JointCounts, seed: int, *, shuffles: int, half_splits: int = 10) -> Estimates:
    return estimate(counts, seed=seed, shuffles=shuffles, half_splits=half_splits)


def _count(table: np.ndarray, x1: np.ndarray, x2: np.ndarray, y: np.ndarray) -> JointCounts:
    return JointCounts(*table.shape).update(x1, x2, y)


def _judge_coverage(rows: list[Coverage], draws: int) -> tuple[tuple[str, ...], tuple[str, ...]]:
    low, high = COVERAGE
    # Below 100 samples a report calls its own values unreliable: those rows are shown and not judged.
    few = [row for row in rows if row.samples < RELIABLE_EXAMPLES]
    rows = [row for row in rows if row.samples >= RELIABLE_EXAMPLES]
    interior = [row for row in rows if row.truth > INTERIOR_BITS]
    boundary = [row for row in rows if row.truth <= INTERIOR_BITS]
    outside = [row for row in interior if not low <= row.covered <= high]
    # At a truth of zero the interval is cut at zero and can only miss on one side: above 97 % is no fault there.
    outside += [row for row in boundary if row.covered < low]
    biased = [row for row in rows if abs(row.bias) > BIAS_BITS]
    within = sum(low <= row.covered <= high for row in interior)
    above = sum(row.covered > high for row in boundary)
    notes = [
        f"interior (truth > {INTERIOR_BITS}): {within} of {len(interior)} cells are covered {low:.0%} to {high:.0%}",
        f"boundary (one-sided): {sum(low <= row.covered <= high for row in boundary)} of {len(boundary)} cells are "
        f"covered {low:.0%} to {high:.0%}, {above} above",
        f"largest bias {max(abs(row.bias) for row in rows):.4f} bits, allowed {BIAS_BITS}",
        f"shuffled samples read as something in {np.mean([row.rejected for row in rows]):.1%} of the draws",
    ]
    if few:
        notes.append(
            f"under {RELIABLE_EXAMPLES} samples, which reports call unreliable: largest bias "
            f"{max(abs(row.bias) for row in few):.4f} bits, least covered {min(row.covered for row in few):.0%}"
        )
    notes += [f"outside: {_where(row)} is covered {row.covered:.0%}" for row in outside]
    notes += [f"outside: {_where(row)} has a bias of {row.bias:+.4f} bits" for row in biased]
    if draws < JUDGED_DRAWS:
        return (*notes, f"{draws} draws are too few to judge, {JUDGED_DRAWS} are needed"), ()
    # A hundred draws cannot tell 79 % from 80 %: a bar is missed when chance explains it less than once in a hundred.
    faults = [
        f"{_where(row)} is covered {row.covered:.0%}, allowed {low:.0%} to {high:.0%}"
        for row in outside
        if binom.cdf(round(row.covered * draws), draws, low) < CHANCE
        or (row.truth > INTERIOR_BITS and binom.sf(round(row.covered * draws) - 1, draws, high) < CHANCE)
    ]
    faults += [
        f"{_where(row)} has a bias of {row.bias:+.4f} bits, allowed {BIAS_BITS}"
        for row in biased
        if abs(row.bias) - norm.isf(CHANCE) * row.rmse / np.sqrt(draws) > BIAS_BITS
    ]
    return tuple(notes), tuple(faults)


def _where(row: Coverage) -> str:
    return f"{row.atom} of {row.table} at {row.per_cell} per cell, n = {row.samples} (truth {row.truth:.4f})"


def check_planted(seeds: range) -> Check:
    """A signal in one of 256 dimensions whose variance lies elsewhere: what each quantiser keeps of I(X1; Y)."""
    truth = gaussian_information(2.0)
    rows, failures = [], []
    for seed in seeds:
        data = planted_signal(4000, seed=seed)
        kept = {}
        for kind in ("posterior", "kmeans"):
            found = PIDAttributionPipeline(quantiser=kind, bins=10)(data, seed=seed).quantities["information_1"]
            kept[kind] = found.value / truth
            rows.append((kind, seed, truth, found.value, kept[kind]))
        if kept["posterior"] < PLANTED_KEPT or kept["kmeans"] > KMEANS_KEPT:
            failures.append(
                f"seed {seed}: the posterior quantiser keeps {kept['posterior']:.0%} (at least {PLANTED_KEPT:.0%}), "
                f"k-means {kept['kmeans']:.0%} (expected under {KMEANS_KEPT:.0%})"
            )
    columns = ("quantiser", "seed", "I(X1; Y)", "found", "share kept")
    return Check("Planted signal in 256 dimensions", columns, tuple(rows), (), tuple(failures))


def gaussian_information(separation: float) -> float:
    """I(X; Y) of a fair bit Y and X = separation Y + standard normal, bits."""

    def integrand(x: float) -> float:
        high, low = (np.exp(-0.5 * (x - mean) ** 2) / np.sqrt(2 * np.pi) for mean in (separation, 0.0))
        both = 0.5 * (high + low)
        return 0.5 * (high * np.log2(high / both) + low * np.log2(low / both))

    return float(quad(integrand, -12.0, 12.0 + separation)[0])


def check_shuffled(seeds: range, *, repeats: int) -> Check:
    """The whole pipeline on sensor data whose target is shuffled must find nothing."""
    rows, failures = [], []
    for seed in seeds:
        for repeat in range(repeats):
            data = sensors(2000, seed=seed)
            y = np.random.default_rng([seed, repeat]).permutation(data.y)
            report = PIDAttributionPipeline()(data.x1, data.x2, y, names=data.names, seed=seed)
            values = [report.quantities[atom].value for atom in ATOMS]
            decisions = ", ".join(verdict.decision for verdict in report.verdicts)
            p_value = report.quantities["total"].p_value
            rows.append((seed, repeat, *values, p_value, decisions))
            if max(values) > NOTHING_BITS or any(v.decision.startswith(("keep", "needs")) for v in report.verdicts):
                failures.append(f"seed {seed}, shuffle {repeat}: up to {max(values):.3f} bits, verdicts {decisions}")
    columns = ("seed", "shuffle", "R", "U1", "U2", "S", "p of the total", "verdicts")
    return Check("Shuffled sensor data", columns, tuple(rows), (), tuple(failures))


def _atoms(result: PIDResult) -> np.ndarray:
    return torch.stack([getattr(result, atom) for atom in ATOMS], dim=-1).numpy()


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.1e}" if value != 0 and abs(value) < 5e-4 else f"{value:.3f}"
    return str(value)
