"""What the atoms mean for each stream: keep it, drop it, and what the usual accuracy test would have said."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Literal

import numpy as np

from .errors import AttributionInputError
from .estimation import Estimate, Estimates, is_unweighted, samples_needed, samples_to_resolve

Decision = Literal["drop", "keep", "keep as failover", "needs early fusion", "inconclusive"]


@dataclass(frozen=True)
class Verdict:
    """What to do with one stream.

    Attributes:
        name: of the stream.
        decision: "drop" (nothing is lost without it, and it is no backup), "keep", "keep as failover" (nothing is lost
            while the other stream works), "needs early fusion" (most of its worth appears only together with the
            other), or "inconclusive".
        reason: one sentence with the figures.
        lost_if_removed: I(X_i; Y | X_j) = unique + synergy, bits.
        worth_alone: I(X_i; Y) = unique + redundancy, bits.
        shapley_share: unique + (redundancy + synergy) / 2, bits; the same under every definition of redundancy.
        samples_needed: for an "inconclusive" one, else None.
        cost: dollars per month, if given.
        bits_per_dollar: lost_if_removed per dollar a month, with its interval, if a cost was given: (value, low, high).
    """

    name: str
    decision: Decision
    reason: str
    lost_if_removed: Estimate
    worth_alone: Estimate
    shapley_share: float
    samples_needed: int | None
    cost: float | None
    bits_per_dollar: tuple[float, float, float] | None

    def to_dict(self) -> dict:
        return asdict(self)


@dataclass(frozen=True)
class AccuracyTest:
    """The usual test: how much accuracy falls when a stream is dropped.

    Classifiers that look up the most frequent class of each cell, fitted on one half and scored on the other, averaged
    over splits.

    Attributes:
        both, only_1, only_2, neither: accuracy with those streams.
    """

    both: float
    only_1: float
    only_2: float
    neither: float

    def drop(self, stream: int) -> float:
        """Accuracy lost without stream 1 or 2."""
        return self.both - (self.only_2 if stream == 1 else self.only_1)

    def to_dict(self) -> dict[str, float]:
        return asdict(self)


def judge(
    estimates: Estimates,
    names: tuple[str, str],
    *,
    threshold: float,
    costs: dict[str, float] | None = None,
) -> tuple[Verdict, Verdict]:
    """Verdicts for both streams.

    Args:
        threshold: bits below which a loss does not matter.
        costs: dollars per month by stream name.
    """
    check_threshold(threshold)
    check_costs(costs, names)
    return (
        _judge_stream(1, estimates, names, threshold, (costs or {}).get(names[0])),
        _judge_stream(2, estimates, names, threshold, (costs or {}).get(names[1])),
    )


def check_threshold(threshold: float) -> None:
    if not 0 < threshold < 100:
        raise AttributionInputError(f"threshold is {threshold}: it is a positive number of bits, 0.03 by default")


def check_costs(costs: dict[str, float] | None, names: tuple[str, str]) -> None:
    for name, cost in (costs or {}).items():
        if name not in names:
            raise AttributionInputError(f"a cost is given for {name!r}: the streams are {' and '.join(names)}")
        if not isinstance(cost, int | float) or not np.isfinite(cost) or cost <= 0:
            raise AttributionInputError(f"the cost of {name} is {cost!r}: give dollars per month above zero")


def _judge_stream(
    stream: int, estimates: Estimates, names: tuple[str, str], threshold: float, cost: float | None
) -> Verdict:
    quantities = estimates.quantities
    lost, alone = quantities[f"lost_without_{stream}"], quantities[f"information_{stream}"]
    decision, reason = _decide(stream, estimates, names, threshold)
    needed = None
    if decision == "inconclusive":
        needed = samples_needed(*estimates.shape)
        if lost.reliable:
            needed = max(needed, samples_to_resolve(lost, estimates.sample_size, threshold, estimates.confidence))
    share = quantities[f"unique_{stream}"].value + 0.5 * (quantities["redundancy"].value + quantities["synergy"].value)
    per_dollar = None if cost is None else (lost.value / cost, lost.low / cost, lost.high / cost)
    return Verdict(names[stream - 1], decision, reason, lost, alone, share, needed, cost, per_dollar)


def _decide(stream: int, estimates: Estimates, names: tuple[str, str], threshold: float) -> tuple[Decision, str]:
    q = estimates.quantities
    name, other = names[stream - 1], names[2 - stream]
    lost, unique = q[f"lost_without_{stream}"], q[f"unique_{stream}"]
    redundancy, synergy = q["redundancy"], q["synergy"]
    if not lost.reliable:
        return "inconclusive", (
            f"{estimates.sample_size:,.0f} samples, {estimates.samples_per_cell:.1f} per cell, are too few "
            f"to say what is lost without {name}"
        )
    interval = f"{_bits(lost.value)} [{lost.low:.3f}, {lost.high:.3f}]"
    if lost.high < threshold:
        if redundancy.low > threshold:
            return "keep as failover", (
                f"nothing is lost without {name} while {other} works ({interval}), "
                f"but it repeats {_bits(redundancy.value)} of {other}"
            )
        return "drop", f"removing {name} loses {interval}, under the threshold of {threshold:g} bits"
    if lost.low > threshold:
        if synergy.low > threshold and synergy.value > unique.value:
            return "needs early fusion", (
                f"of the {interval} lost without {name}, {_bits(synergy.value)} exist only together with {other}: "
                "a model that fuses late cannot see them"
            )
        return "keep", f"removing {name} loses {interval}; {_bits(unique.value)} are said by nothing else"
    return "inconclusive", f"removing {name} loses {interval}: the interval straddles {threshold:g} bits"


def accuracy_test(
    table: np.ndarray, *, sample_size: float | None = None, splits: int = 10, seed: int = 0
) -> AccuracyTest:
    """Drop-the-modality accuracy from joint counts, [n1, n2, ny].

    Args:
        sample_size: effective, where examples were weighted: that many are drawn from the table.
    """
    rng = np.random.default_rng(seed)
    if sample_size is None or is_unweighted(table, sample_size):
        counts = np.rint(table).astype(np.int64)
    else:
        drawn = rng.multinomial(round(sample_size), table.reshape(-1) / table.sum())
        counts = drawn.reshape(table.shape)
    flat = counts.reshape(-1)
    if flat.sum() < 2:
        raise AttributionInputError("an accuracy test needs two examples or more")
    drawn = rng.multivariate_hypergeometric(flat, flat.sum() // 2, size=splits, method="marginals")
    scores = [_held_out_accuracy(half.reshape(counts.shape), counts - half.reshape(counts.shape)) for half in drawn]
    return AccuracyTest(*np.mean(scores, axis=0).tolist())


def _held_out_accuracy(train: np.ndarray, test: np.ndarray) -> list[float]:
    """Accuracy of the majority class per cell, with both sources, only 1, only 2 and neither."""
    scores = []
    prior = train.sum(axis=(0, 1)) / max(train.sum(), 1)
    for summed in ((), (1,), (0,), (0, 1)):
        votes = train.sum(axis=summed, keepdims=True) + 0.5 * prior  # cells not seen follow the prior
        seen = test.sum(axis=summed, keepdims=True)
        right = np.take_along_axis(seen, votes.argmax(axis=2)[..., None], axis=2)
        scores.append(float(right.sum() / max(test.sum(), 1)))
    return scores


def _bits(value: float) -> str:
    return f"{max(value, 0.0):.3f} bits"
