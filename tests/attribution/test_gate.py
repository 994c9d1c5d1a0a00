"""The gate: confidence decides, and one line says why."""

from __future__ import annotations

from dataclasses import replace

import pytest

from plugins.attribution import AttributionInputError, AttributionReport, PIDAttributionPipeline
from plugins.attribution.gate import gate
from plugins.attribution.synthetic import sensors


@pytest.fixture(scope="module")
def report() -> AttributionReport:
    """Thermal says what nothing else says; colour says nothing alone, and something together."""
    return PIDAttributionPipeline()(sensors(2000))


def test_a_stream_above_its_threshold_passes_below_it_fails_and_between_is_inconclusive(
    report: AttributionReport,
) -> None:
    lost = report.quantities["lost_without_1"]
    assert gate(report, "thermal", threshold=lost.low / 2).outcome == "pass"
    assert gate(report, "thermal", threshold=lost.high * 1.01).outcome == "fail"
    assert gate(report, "thermal", threshold=lost.value).outcome == "inconclusive"


def test_the_line_names_figures_threshold_and_confidence(report: AttributionReport) -> None:
    line = gate(report, "thermal", threshold=5.0, measure="alone").line
    assert line.startswith("fail: ")
    assert f"{report.quantities['information_1'].value:.3f} bits" in line
    assert "5.000 at 90% confidence" in line
    assert "\n" not in line


def test_a_baseline_sets_the_threshold(report: AttributionReport) -> None:
    assert gate(report, "thermal", baseline=report, delta=0.1).outcome == "pass"
    better = report.quantities["lost_without_1"]
    quantities = report.quantities | {"lost_without_1": replace(better, value=better.value + 1.0)}
    assert gate(report, "thermal", baseline=replace(report, quantities=quantities), delta=0.1).outcome == "fail"


def test_too_few_samples_are_inconclusive_whatever_they_say(report: AttributionReport) -> None:
    weak = {name: replace(each, reliable=False) for name, each in report.quantities.items()}
    found = gate(replace(report, quantities=weak), "thermal", threshold=5.0)
    assert found.outcome == "inconclusive"
    assert "more examples" in found.line


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"stream": "sonar", "threshold": 0.1}, "thermal and colour"),
        ({"stream": "thermal"}, "either a threshold"),
        ({"stream": "thermal", "threshold": -1.0}, "positive"),
        ({"stream": "thermal", "threshold": 0.1, "measure": "worth"}, "lost, unique, alone"),
    ],
)
def test_what_cannot_be_gated_is_refused_with_what_is_allowed(report, arguments, message) -> None:
    with pytest.raises(AttributionInputError, match=message):
        gate(report, arguments.pop("stream"), **arguments)


def test_a_baseline_that_nothing_could_fail_is_refused(report: AttributionReport) -> None:
    with pytest.raises(AttributionInputError, match="nothing could fail"):
        gate(report, "thermal", baseline=report, delta=10.0)
