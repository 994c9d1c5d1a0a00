"""A gate for continuous integration: does a stream still say enough, with confidence, in one line."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from .errors import AttributionInputError

if TYPE_CHECKING:
    from .estimation import Estimate
    from .report import AttributionReport

Measure = Literal["lost", "unique", "alone"]
Outcome = Literal["pass", "fail", "inconclusive"]
_QUANTITIES = {"lost": "lost_without", "unique": "unique", "alone": "information"}
_WORDS = {
    "lost": "lost without {}",
    "unique": "said by {} alone and nothing else",
    "alone": "said by {} when it is alone",
}


@dataclass(frozen=True)
class GateResult:
    """What a gate found.

    Attributes:
        outcome: "fail" where the whole interval lies below the threshold, "pass" where it lies above, else
            "inconclusive".
        line: one sentence with the figures.
        value, low, high: the measured quantity and its interval, bits.
    """

    outcome: Outcome
    line: str
    value: float
    low: float
    high: float


def gate(
    report: AttributionReport,
    stream: str,
    *,
    threshold: float | None = None,
    measure: Measure = "lost",
    baseline: AttributionReport | None = None,
    delta: float = 0.1,
) -> GateResult:
    """Whether a stream holds its threshold.

    Args:
        stream: its name.
        threshold: bits; left out where a baseline is given.
        measure: "lost" (what is lost without the stream, I(X_i; Y | X_j)), "unique" or "alone" (I(X_i; Y)).
        baseline: an earlier report of the same streams; the threshold is its value less `delta`.
        delta: bits that may be lost against the baseline.

    Raises:
        AttributionInputError: no such stream or measure, no threshold, or a baseline of other streams.
    """
    quantity = _quantity(report, stream, measure)
    threshold = _threshold(threshold, stream, measure, baseline, delta)
    name = f"{measure} of {stream}"
    if math.isnan(quantity.value) or not quantity.reliable:
        line = f"inconclusive: {name} rests on {report.samples_per_cell:.1f} samples a cell, give more examples"
        return GateResult("inconclusive", line, quantity.value, quantity.low, quantity.high)
    outcome: Outcome = "fail" if quantity.high < threshold else "pass" if quantity.low >= threshold else "inconclusive"
    interval = f"{max(quantity.value, 0):.3f} bits [{quantity.low:.3f}, {quantity.high:.3f}]"
    place = {"fail": "is below", "pass": "holds", "inconclusive": "straddles"}[outcome]
    words = _WORDS[measure].format(stream)
    line = (
        f"{outcome}: {interval} {words} {place} the threshold of {threshold:.3f} at {report.confidence:.0%} confidence"
    )
    return GateResult(outcome, line, quantity.value, quantity.low, quantity.high)


def _quantity(report: AttributionReport, stream: str, measure: str) -> Estimate:
    if stream not in report.names:
        raise AttributionInputError(f"there is no stream {stream!r}: the report has {' and '.join(report.names)}")
    if measure not in _QUANTITIES:
        raise AttributionInputError(f"measure is {measure!r}: choose from {', '.join(_QUANTITIES)}")
    return report.quantities[f"{_QUANTITIES[measure]}_{report.names.index(stream) + 1}"]


def _threshold(
    threshold: float | None, stream: str, measure: str, baseline: AttributionReport | None, delta: float
) -> float:
    if (threshold is None) == (baseline is None):
        raise AttributionInputError("give either a threshold in bits, or a baseline report")
    if threshold is not None:
        if not 0 < threshold < 100:
            raise AttributionInputError(f"threshold is {threshold}: it is a positive number of bits")
        return threshold
    assert baseline is not None
    before = _quantity(baseline, stream, measure).value
    if math.isnan(before) or before <= delta:
        raise AttributionInputError(
            f"the baseline has {before:.3f} bits there, not more than the {delta:g} that may be lost: "
            "nothing could fail it; give a smaller delta or a threshold"
        )
    return before - delta
