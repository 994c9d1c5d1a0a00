"""From counts to atoms with errors: bias correction, standard errors, a shuffle null and refusal rules.

The plug-in estimate is biased, almost all of it in the synergy: I(X1 X2; Y) grows by about
(n1 n2 - 1)(ny - 1) / (2 n ln 2) bits. All that is reported is linear in four terms

    I_1 = I(X1; Y)    I_2 = I(X2; Y)    I_12 = I(X1 X2; Y)    I_U = union information

so the terms are corrected and everything else follows, which keeps the identities exact. I_1, I_2 and I_U are
extrapolated linearly from random halves, with the same halves for all so that their errors cancel in the unique
information; I_12 has a closed-form jackknife (Zahl 1977).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass

import numpy as np
import scipy.stats
import torch
from scipy.special import xlogy

from .counts import JointCounts
from .decomposition import PIDResult, decompose
from .errors import AttributionInputError

# Rows: what is reported. Columns: its weights on I_1, I_2, I_12, I_U.
QUANTITIES: dict[str, tuple[float, float, float, float]] = {
    "redundancy": (1, 1, 0, -1),
    "unique_1": (0, -1, 0, 1),
    "unique_2": (-1, 0, 0, 1),
    "synergy": (0, 0, 1, -1),
    "total": (0, 0, 1, 0),
    "information_1": (1, 0, 0, 0),
    "information_2": (0, 1, 0, 0),
    "lost_without_1": (0, -1, 1, 0),
    "lost_without_2": (-1, 0, 1, 0),
}
ATOMS = ("redundancy", "unique_1", "unique_2", "synergy")
NEEDS_JOINT = ("synergy", "total", "lost_without_1", "lost_without_2")
_WEIGHTS = np.array(list(QUANTITIES.values()))

RELIABLE_EXAMPLES = 100  # below, intervals are too narrow, and streams that tie are biased by more than 0.03 bits
RELIABLE_SAMPLES_PER_CELL = 5.0
MINIMUM_SAMPLES_PER_CELL = 1.0
HALF_SPLITS = 10
SHUFFLES = 100
CELLS_PER_STEP = 10_000  # solved between two calls of the callback, and at least ten tables


@dataclass(frozen=True)
class Estimate:
    """One reported quantity, in bits.

    Attributes:
        value: bias-corrected; may be slightly negative, as unbiased estimates of zero are. NaN when refused.
        plug_in: before correction.
        standard_error: the larger of the envelope-theorem and the delete-half standard error, widened by the part of
            the correction that rests on unseen mass and by how far two corrections of I_12 disagree.
        low, high: interval at the requested confidence, cut at zero.
        null_mean, null_high: mean and upper quantile of the plug-in value over tables with Y shuffled.
        p_value: share of shuffles (plus one) that reach the plug-in value. It tests "no information at all"; there
            is no exact null for one atom given the others.
        reliable: False when there are too few samples, in all or per cell, to trust it.
    """

    value: float
    plug_in: float
    standard_error: float
    low: float
    high: float
    null_mean: float
    null_high: float
    p_value: float
    reliable: bool

    @property
    def significant(self) -> bool:
        return self.reliable and self.p_value <= 0.05

    def to_dict(self) -> dict[str, float | bool]:
        return asdict(self)


@dataclass(frozen=True)
class Estimates:
    """What the counts say, with errors.

    Attributes:
        quantities: an `Estimate` for each name in QUANTITIES, bits.
        plug_in: the decomposition of the counted table itself, with potentials and gap.
        sample_size: effective number of examples.
        samples_per_cell: sample_size / (n1 n2 ny), over symbols that occur.
        target_entropy: H(Y), bits.
        shape: symbols that occur, (n1, n2, ny).
        confidence: of the intervals.
        warnings: sentences for the reader.
    """

    quantities: dict[str, Estimate]
    plug_in: PIDResult
    sample_size: float
    samples_per_cell: float
    target_entropy: float
    shape: tuple[int, int, int]
    confidence: float
    warnings: tuple[str, ...]


def estimate(
    counts: JointCounts,
    *,
    confidence: float = 0.9,
    half_splits: int = HALF_SPLITS,
    shuffles: int = SHUFFLES,
    seed: int = 0,
    device: str | torch.device = "cpu",
    callback: Callable[[float, str], None] | None = None,
) -> Estimates:
    """Estimate the atoms and what follows from them.

    Args:
        confidence: coverage of the intervals, between 0.5 and 0.999.
        half_splits: random splits into halves, for the correction and the delete-half error.
        shuffles: tables with Y shuffled, for the null.
        seed: of every random choice.
        device: of the solver.
        callback: called with (fraction, message) between pieces of work; may raise to stop.

    Raises:
        AttributionInputError: nothing counted, or one class only.
    """
    check_confidence(confidence)
    table = _occurring(counts)
    size = counts.effective_sample_size
    rng = np.random.default_rng(seed)
    plug_in = decompose(table)
    terms = _terms(plug_in)
    halves = _halves(table, size, half_splits, rng)
    shuffled = _shuffled(table, size, shuffles, rng)
    solved = _solve_many(np.concatenate([halves, shuffled]), device, callback)
    at_half, null = solved[: len(halves)], solved[len(halves) :] @ _WEIGHTS.T
    corrected, spread = _correct(table, terms, at_half, drawn=not is_unweighted(table, size))
    errors = np.maximum(_envelope_errors(plug_in, table, size), spread)
    errors = _widen_for_unseen_mass(errors, table, terms - corrected, size)
    per_cell = size / table.size
    quantities = _summarise(terms, corrected, errors, null, size, per_cell, confidence)
    target = table.sum(axis=(0, 1)) / table.sum()
    return Estimates(
        quantities=quantities,
        plug_in=plug_in,
        sample_size=size,
        samples_per_cell=per_cell,
        target_entropy=float(-xlogy(target, target).sum() / np.log(2)),
        shape=(table.shape[0], table.shape[1], table.shape[2]),
        confidence=confidence,
        warnings=_warnings(table, size, per_cell),
    )


def check_confidence(confidence: float) -> None:
    if not 0.5 <= confidence <= 0.999:
        raise AttributionInputError(f"confidence is {confidence}: choose between 0.5 and 0.999")


def samples_needed(n1: int, n2: int, ny: int, *, bias_bits: float = 0.03) -> int:
    """Examples to plan for: 100, five per cell, and a plug-in bias of the total below `bias_bits` before correction."""
    bias_rule = (n1 * n2 - 1) * (ny - 1) / (2 * np.log(2) * bias_bits)
    return int(np.ceil(max(RELIABLE_EXAMPLES, RELIABLE_SAMPLES_PER_CELL * n1 * n2 * ny, bias_rule)))


def samples_to_resolve(estimate_: Estimate, sample_size: float, threshold: float, confidence: float = 0.9) -> int:
    """Examples at which this quantity's interval would clear `threshold`, if it stays where it is."""
    distance = max(abs(estimate_.value - threshold), 1e-3)
    needed = (_z(confidence) * estimate_.standard_error / distance) ** 2 * sample_size
    return int(np.ceil(max(needed, sample_size + 1)))


def influence(plug_in: PIDResult, table: np.ndarray) -> np.ndarray:
    """What one example in a cell adds to I_1, I_2, I_12, I_U, [4, n1, n2, ny], bits.

    The expectation over the table is the term itself. For I_U this is the envelope theorem: its derivative with
    respect to p(x1, y) and p(x2, y) are the optimal potentials. Cells without mass hold 0.
    """
    if plug_in.potential_1 is None or plug_in.potential_2 is None:
        raise AttributionInputError(f"method {plug_in.method!r} has no potentials: decompose with broja")
    p = table / table.sum()
    seen = p > 0
    target = p.sum(axis=(0, 1))
    pair_1, pair_2, pair_12 = p.sum(axis=1), p.sum(axis=0), p.sum(axis=2)
    potential = plug_in.potential_1.numpy()[:, None, :] + plug_in.potential_2.numpy()[None, :, :]
    with np.errstate(divide="ignore", invalid="ignore"):
        local_1 = np.log(pair_1 / (pair_1.sum(axis=1, keepdims=True) * target))[:, None, :]
        local_2 = np.log(pair_2 / (pair_2.sum(axis=1, keepdims=True) * target))[None, :, :]
        local_12 = np.log(p / (pair_12[:, :, None] * target))
        parts = np.broadcast_arrays(local_1, local_2, local_12, potential - np.log(target))
    return np.stack([np.where(seen, part, 0.0) for part in parts]) / np.log(2)


def pointwise(plug_in: PIDResult, table: np.ndarray) -> dict[str, np.ndarray]:
    """Contribution of each cell's examples to each atom, [n1, n2, ny], bits; averages to the atom over the table."""
    values = np.tensordot(_WEIGHTS, influence(plug_in, table), axes=1)
    return {name: values[i] for i, name in enumerate(QUANTITIES) if name in ATOMS}


def _occurring(counts: JointCounts) -> np.ndarray:
    table = counts.table
    if table.sum() == 0:
        raise AttributionInputError("nothing has been counted yet: give at least one example")
    for axes in ((1, 2), (0, 2), (0, 1)):
        axis = ({0, 1, 2} - set(axes)).pop()
        table = table.take(np.flatnonzero(table.sum(axis=axes)), axis=axis)
    if table.shape[2] < 2:
        raise AttributionInputError(
            "the target has one class only: there is nothing to inform about; give examples of two classes or more"
        )
    return table


def _terms(result: PIDResult) -> np.ndarray:
    """I_1, I_2, I_12, I_U in bits, [..., 4]."""
    terms = (result.information_1, result.information_2, result.total, result.union_information)
    return torch.stack(terms, dim=-1).cpu().numpy()


def _solve_many(
    tables: np.ndarray, device: str | torch.device, callback: Callable[[float, str], None] | None
) -> np.ndarray:
    """Terms of many tables, [m, 4], in steps."""
    parts = []
    step = max(10, CELLS_PER_STEP // tables[0].size)
    for start in range(0, len(tables), step):
        batch = torch.as_tensor(tables[start : start + step], dtype=torch.float64, device=device)
        parts.append(_terms(decompose(batch)))
        if callback:
            callback((start + len(batch)) / len(tables), "resampling")
    return np.concatenate(parts)


def _correct(
    table: np.ndarray, terms: np.ndarray, at_half: np.ndarray, *, drawn: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Bias-corrected terms [4], and the delete-half standard errors of the quantities [9].

    Args:
        at_half: terms of tables of half the size, [splits, 4].
        drawn: whether those were drawn with replacement (weighted data).
    """
    # An estimate at n/2 has twice the bias. Halves without replacement share it with the truth, drawn ones with p^.
    bias = (at_half.mean(axis=0) - terms) / (2.0 if drawn else 1.0)
    corrected = terms - bias
    spread = (at_half @ _WEIGHTS.T).std(axis=0, ddof=1) / (np.sqrt(2.0) if drawn else 1.0)
    if not drawn:
        extrapolated, corrected[2] = corrected[2], _jackknife_information(table)
        # Two unbiased corrections of one term that disagree: neither is known better than that.
        spread = np.hypot(spread, _WEIGHTS[:, 2] * (corrected[2] - extrapolated))
    return corrected, spread


def is_unweighted(table: np.ndarray, size: float) -> bool:
    """Whether each example was counted once, so that examples can be drawn from the table without replacement.

    Whole numbers do not suffice: with weights of two each example is there twice, and says no more.
    """
    return bool((table == np.rint(table)).all() and np.isclose(table.sum(), size, rtol=1e-9))


def _halves(table: np.ndarray, size: float, splits: int, rng: np.random.Generator) -> np.ndarray:
    """Tables of half the examples: both halves of random splits, or with weights drawn with replacement."""
    flat = table.reshape(-1)
    if is_unweighted(table, size):
        counts = flat.astype(np.int64)
        first = rng.multivariate_hypergeometric(counts, counts.sum() // 2, size=splits, method="marginals")
        halves = np.concatenate([first, counts - first])
    else:
        halves = rng.multinomial(max(1, round(size / 2)), flat / flat.sum(), size=2 * splits)
    return halves.reshape(-1, *table.shape).astype(np.float64)


def _jackknife_information(table: np.ndarray) -> float:
    """Delete-one jackknife of I(X1 X2; Y) in closed form, bits."""
    sources, target = table.sum(axis=2), table.sum(axis=(0, 1))
    entropies = (_jackknife_entropy(sources), _jackknife_entropy(target), -_jackknife_entropy(table))
    return float(sum(entropies) / np.log(2))


def _jackknife_entropy(counts: np.ndarray) -> float:
    """Zahl (1977): n H - (n - 1) mean H without one example, nats."""
    c = counts[counts > 0].astype(np.float64)
    n = c.sum()
    if n < 2:
        return 0.0
    total = xlogy(c, c).sum()
    without_one = np.log(n - 1) - (total - xlogy(c, c) + xlogy(c - 1, c - 1)) / (n - 1)
    return float(n * (np.log(n) - total / n) - (n - 1) * (c * without_one).sum() / n)


def _envelope_errors(plug_in: PIDResult, table: np.ndarray, size: float) -> np.ndarray:
    """Standard deviation of the influence over the sample, divided by sqrt(n), for each quantity [9]."""
    p = table / table.sum()
    values = np.tensordot(_WEIGHTS, influence(plug_in, table), axes=1)
    mean = (values * p).sum(axis=(1, 2, 3))
    variance = (np.square(values) * p).sum(axis=(1, 2, 3)) - np.square(mean)
    return np.sqrt(np.maximum(variance, 0.0) / size)


def _widen_for_unseen_mass(errors: np.ndarray, table: np.ndarray, correction: np.ndarray, size: float) -> np.ndarray:
    """Add the part of the correction that rests on mass not seen yet: Good-Turing's share of cells seen once."""
    unseen = float((table == 1).sum()) / size if is_unweighted(table, size) else 0.0
    return np.sqrt(np.square(errors) + unseen * np.square(_WEIGHTS @ correction))


def _shuffled(table: np.ndarray, size: float, shuffles: int, rng: np.random.Generator) -> np.ndarray:
    """Tables with the same p(x1, x2) and p(y) and no dependence, [shuffles, n1, n2, ny]."""
    sources, target = table.sum(axis=2).reshape(-1), table.sum(axis=(0, 1))
    if is_unweighted(table, size):
        drawn = scipy.stats.random_table.rvs(sources, target, size=shuffles, random_state=rng)
        return drawn.reshape(shuffles, *table.shape)
    p = np.outer(sources, target).reshape(-1) / table.sum() ** 2
    return rng.multinomial(max(2, round(size)), p, size=shuffles).reshape(shuffles, *table.shape)


def _summarise(
    terms: np.ndarray,
    corrected: np.ndarray,
    errors: np.ndarray,
    null: np.ndarray,
    size: float,
    per_cell: float,
    confidence: float,
) -> dict[str, Estimate]:
    plug_in, values = _WEIGHTS @ terms, _WEIGHTS @ corrected
    margin = _z(confidence) * errors
    summary = {}
    for i, name in enumerate(QUANTITIES):
        refused = name in NEEDS_JOINT and per_cell < MINIMUM_SAMPLES_PER_CELL
        enough = RELIABLE_SAMPLES_PER_CELL if name in NEEDS_JOINT else MINIMUM_SAMPLES_PER_CELL
        reliable = size >= RELIABLE_EXAMPLES and per_cell >= enough
        value = float("nan") if refused else float(values[i])
        summary[name] = Estimate(
            value=value,
            plug_in=float(plug_in[i]),
            standard_error=float(errors[i]),
            low=float("nan") if refused else max(0.0, value - float(margin[i])),
            high=float("nan") if refused else max(0.0, value) + float(margin[i]),
            null_mean=float(null[:, i].mean()),
            null_high=float(np.quantile(null[:, i], 0.95)),
            p_value=float((1 + (null[:, i] >= plug_in[i] - 1e-12).sum()) / (1 + len(null))),
            reliable=bool(reliable),
        )
    return summary


def _z(confidence: float) -> float:
    return float(scipy.stats.norm.ppf(0.5 + confidence / 2))


def _warnings(table: np.ndarray, size: float, per_cell: float) -> tuple[str, ...]:
    need = samples_needed(*table.shape)
    if per_cell < MINIMUM_SAMPLES_PER_CELL:
        return (
            f"{size:.0f} samples for {table.size} cells: synergy and all that needs the joint table are withheld; "
            f"use fewer bins or at least {need:,} samples",
        )
    if per_cell < RELIABLE_SAMPLES_PER_CELL:
        return (
            f"{per_cell:.1f} samples per cell: synergy is not reliable below {RELIABLE_SAMPLES_PER_CELL:.0f}; "
            f"use fewer bins or at least {need:,} samples",
        )
    if size < RELIABLE_EXAMPLES:
        return (
            f"{size:.0f} samples: below {RELIABLE_EXAMPLES} the intervals are too narrow and nothing is reliable; "
            f"give at least {need:,}",
        )
    return ()
