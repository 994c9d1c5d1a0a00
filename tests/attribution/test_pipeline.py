"""The pipeline: data in, report and verdicts out; kept, merged and loaded again."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from plugins.attribution import AttributionInputError, AttributionReport, PIDAttributionPipeline
from plugins.attribution.estimation import ATOMS
from plugins.attribution.synthetic import lock_and_key, mixture, planted_signal, sample, sensors, twin_sensors


class StoppedError(Exception):
    """Raised by a callback."""


def codes(joint: np.ndarray, n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return sample(joint, n, np.random.default_rng(seed))


def decide(x1, x2, y, **kwargs) -> tuple[str, str]:
    first, second = PIDAttributionPipeline(**kwargs)(x1, x2, y).verdicts
    return first.decision, second.decision


@pytest.fixture(scope="module")
def report() -> AttributionReport:
    """Thermal for 400 dollars a month, colour for 20."""
    return PIDAttributionPipeline()(sensors(3000), costs={"thermal": 400.0, "colour": 20.0})


def test_the_example_reads_as_it_was_made(report: AttributionReport) -> None:
    """By day both see the person, at night thermal alone, on a hot road only the two together."""
    atoms = {name: e.value for name, e in report.atoms.items()}
    assert report.names == ("thermal", "colour")
    assert report.classes == ("empty", "person")
    assert atoms["redundancy"] > 0.15
    assert atoms["unique_1"] > 0.2
    assert abs(atoms["unique_2"]) < 0.03
    assert atoms["synergy"] > 0.15
    assert sum(atoms.values()) == pytest.approx(report.quantities["total"].value)
    assert report.gap <= 1e-6
    assert report.samples_per_cell >= 5
    assert report.warnings == ()


def test_a_lot_of_what_the_probe_reads_is_left_after_quantising(report: AttributionReport) -> None:
    assert [r.quantiser for r in report.readings] == ["posterior", "posterior"]
    for reading in report.readings:
        assert reading.retained is not None
        assert reading.retained > 0.85
    assert report.joint_information is not None
    assert report.joint_information == pytest.approx(report.quantities["total"].value, abs=0.1)


def test_pointwise_scores_of_the_examples_average_to_the_plug_in_atoms(report: AttributionReport) -> None:
    assert report.pointwise is not None
    for name in ATOMS:
        assert report.pointwise[name].shape == (3000,)
        assert report.pointwise[name].mean() == pytest.approx(report.quantities[name].plug_in, abs=1e-6)


def test_bits_per_dollar_are_what_is_lost_over_what_it_costs(report: AttributionReport) -> None:
    for verdict, cost in zip(report.verdicts, (400.0, 20.0), strict=True):
        lost = verdict.lost_if_removed
        assert verdict.cost == cost
        assert verdict.bits_per_dollar == pytest.approx((lost.value / cost, lost.low / cost, lost.high / cost))
    plain = PIDAttributionPipeline()(sensors(600))
    assert [v.bits_per_dollar for v in plain.verdicts] == [None, None]


def test_shares_of_the_two_streams_sum_to_all_that_both_say(report: AttributionReport) -> None:
    assert sum(v.shapley_share for v in report.verdicts) == pytest.approx(report.quantities["total"].value)


def test_the_run_record_has_what_repeats_the_run(report: AttributionReport) -> None:
    assert report.run["seed"] == 0
    assert report.run["device"] == "cpu"
    assert report.run["params"]["costs"] == {"thermal": 400.0, "colour": 20.0}
    assert report.run["timings"]["total"] > 0
    assert report.run["peak_memory_bytes"] > 10 * 2**20
    json.dumps(report.run)


# Verdicts


def test_a_stream_that_says_nothing_is_dropped() -> None:
    y = np.random.default_rng(0).integers(0, 2, 3000)
    rng = np.random.default_rng(1)
    assert decide(rng.standard_normal((3000, 4)), 2.0 * y + rng.standard_normal(3000), y) == ("drop", "keep")


def test_two_streams_with_something_of_their_own_are_kept() -> None:
    assert decide(*codes(mixture(0, 1, 1, 0, noise=0.1), 3000)) == ("keep", "keep")


def test_a_stream_that_only_repeats_the_other_is_kept_as_failover() -> None:
    rng = np.random.default_rng(2)
    y = rng.integers(0, 2, 3000)
    seen = np.where(rng.random(3000) < 0.9, y, 1 - y)
    assert decide(seen, seen, y) == ("keep as failover", "keep as failover")
    assert "keep as failover" in {v.decision for v in PIDAttributionPipeline()(twin_sensors(4000)).verdicts}


def test_streams_that_speak_only_together_need_early_fusion_and_dropping_either_ruins_accuracy() -> None:
    report = PIDAttributionPipeline()(lock_and_key(2000))
    assert {v.decision for v in report.verdicts} == {"needs early fusion"}
    assert "fuses late" in report.verdicts[0].reason
    assert report.accuracy.both > 0.95
    assert report.accuracy.neither == pytest.approx(0.5, abs=0.05)
    assert report.accuracy.drop(1) == pytest.approx(0.45, abs=0.08)
    assert report.accuracy.drop(2) == pytest.approx(0.45, abs=0.08)


def test_too_few_examples_are_inconclusive_and_the_verdict_says_how_many_it_takes() -> None:
    report = PIDAttributionPipeline()(*codes(mixture(1, 1, 1, 1), 400))
    assert {v.decision for v in report.verdicts} == {"inconclusive"}
    for verdict in report.verdicts:
        assert verdict.samples_needed is not None
        assert verdict.samples_needed >= 5 * 8**3
        assert "too few" in verdict.reason
    assert "needs n >=" in report.to_markdown()


def test_an_interval_that_straddles_the_threshold_is_inconclusive_until_there_is_more_data() -> None:
    joint = np.full((2, 2, 2), 1 / 8)
    joint[0, :, 0] = joint[1, :, 1] = 1.15 / 8  # Y leans on X1: 0.016 bits
    joint[0, :, 1] = joint[1, :, 0] = 0.85 / 8
    few = PIDAttributionPipeline(threshold=0.015)(*codes(joint, 800)).verdicts[0]
    assert few.decision == "inconclusive"
    assert "straddles" in few.reason
    assert few.samples_needed is not None
    assert few.samples_needed > 800
    assert PIDAttributionPipeline(threshold=0.2)(*codes(joint, 3000)).verdicts[0].decision == "drop"


def test_the_usual_accuracy_test_does_not_see_what_a_failover_is_worth() -> None:
    report = PIDAttributionPipeline()(twin_sensors(4000))
    assert max(report.accuracy.drop(1), report.accuracy.drop(2)) < 0.02
    assert report.quantities["redundancy"].value > 0.6


# The report as a value


def test_a_report_survives_json(report: AttributionReport, tmp_path: Path) -> None:
    text = report.to_json()
    path = tmp_path / "report.json"
    path.write_text(text)
    back = AttributionReport.load(path)
    assert back == report
    assert back.run == report.run
    assert back.to_json() == text
    assert back.pointwise is None


def test_withheld_numbers_survive_json_as_null_and_come_back_as_nan() -> None:
    report = PIDAttributionPipeline()(*codes(mixture(1, 1, 1, 1), 300), costs={"x1": 2.0})
    assert math.isnan(report.quantities["synergy"].value)
    values = json.loads(report.to_json())
    assert values["quantities"]["synergy"]["value"] is None
    assert values["verdicts"][0]["bits_per_dollar"] == [None, None, None]
    back = AttributionReport.from_dict(values)
    assert math.isnan(back.quantities["synergy"].value)
    assert math.isnan(back.verdicts[0].shapley_share)
    assert all(math.isnan(v) for v in back.verdicts[0].bits_per_dollar or ())
    assert back.to_json() == report.to_json()
    assert "withheld" in back.to_markdown()


@pytest.mark.parametrize(
    "content",
    ["", "[]", "{}", "3", '{"schema_version": 1}', '{"schema_version": 99}', '{"schema_version": 1, "quantities": 3}'],
)
def test_what_is_no_report_is_refused(content: str, tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    path.write_text(content)
    with pytest.raises(AttributionInputError, match="report"):
        AttributionReport.load(path)
    with pytest.raises(AttributionInputError, match="not an attribution report"):
        AttributionReport.load(tmp_path / "gone.json")


def test_the_report_reads_as_a_table_and_as_text(report: AttributionReport) -> None:
    frame = report.to_frame()
    assert frame["quantity"].tolist()[1:3] == ["Only thermal (unique)", "Only colour (unique)"]
    assert frame["bits"].tolist() == [e.value for e in report.quantities.values()]
    text = report.to_markdown()
    assert "**thermal: keep**" in text
    assert "| Only thermal (unique) |" in text
    assert "samples per cell" in report.caption()


# Settings and input


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"quantiser": "magic"}, "quantiser 'magic' is unknown: choose from auto"),
        ({"quantiser": ("auto", "magic")}, "quantiser 'magic' is unknown"),
        ({"quantiser": ("auto",)}, "one name, or one for each stream"),
        ({"bins": 1}, "choose 2 to 50"),
        ({"bins": 51}, "choose 2 to 50"),
        ({"bins": 2.5}, "choose 2 to 50"),
        ({"confidence": 1.5}, r"between 0\.5 and 0\.999"),
        ({"threshold": 0}, "positive number of bits"),
        ({"threshold": float("nan")}, "positive number of bits"),
    ],
)
def test_impossible_settings_are_refused_at_once(settings: dict, reason: str) -> None:
    with pytest.raises(AttributionInputError, match=reason):
        PIDAttributionPipeline(**settings)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"costs": {"radar": 3.0}}, "'radar': the streams are thermal and colour"),
        ({"costs": {"thermal": 0.0}}, "dollars per month above zero"),
        ({"costs": {"thermal": float("nan")}}, "dollars per month above zero"),
        ({"costs": {"thermal": "3"}}, "dollars per month above zero"),
        ({"seed": -1}, "whole number from 0"),
        ({"weights": [1.0, 2.0]}, "weights has 2"),
    ],
)
def test_impossible_arguments_are_refused(arguments: dict, reason: str) -> None:
    with pytest.raises(AttributionInputError, match=reason):
        PIDAttributionPipeline()(sensors(300), **arguments)


def test_a_file_gives_what_its_arrays_give(tmp_path: Path) -> None:
    streams = sensors(500)
    np.savez(tmp_path / "data.npz", thermal=streams.x1, colour=streams.x2, label=streams.y)
    from_file, from_arrays = PIDAttributionPipeline()(tmp_path / "data.npz"), PIDAttributionPipeline()(streams)
    assert from_file == from_arrays


def test_weights_that_sum_to_one_give_what_no_weights_give_and_not_less() -> None:
    x1, x2, y = codes(mixture(0.3, 0.3, 0.1, 0.3, noise=0.2), 3000)
    plain = PIDAttributionPipeline()(x1, x2, y)
    weighted = PIDAttributionPipeline()(x1, x2, y, weights=np.full(3000, 1 / 3000))
    assert weighted.sample_size == pytest.approx(3000)
    assert weighted.accuracy.both == pytest.approx(plain.accuracy.both, abs=0.03)
    for name in ATOMS:
        assert weighted.quantities[name].value == pytest.approx(plain.quantities[name].value, abs=0.02)


def test_the_same_seed_gives_the_same_report_and_another_a_similar_one() -> None:
    data = planted_signal(500, dimension=20, nuisance=3)
    first, again, other = (PIDAttributionPipeline()(data, seed=s) for s in (7, 7, 8))
    assert first == again
    assert first != other
    assert other.quantities["total"].value == pytest.approx(first.quantities["total"].value, abs=0.15)


def test_progress_only_grows_and_a_callback_can_stop_the_work_anywhere() -> None:
    seen: list[float] = []
    pipeline = PIDAttributionPipeline()
    pipeline(sensors(400), callback=lambda fraction, message: seen.append(fraction))
    assert seen == sorted(seen)
    assert seen[-1] == 1.0
    assert len(seen) > 20
    for stop_at in (1, len(seen) // 3, len(seen) - 2):
        stopped, calls = PIDAttributionPipeline(), []

        def stop(fraction: float, message: str, calls: list[float] = calls, stop_at: int = stop_at) -> None:
            calls.append(fraction)
            if len(calls) == stop_at:
                raise StoppedError

        with pytest.raises(StoppedError):
            stopped(sensors(400), callback=stop)
        assert stopped.discretiser is None
        assert stopped.run == {}
