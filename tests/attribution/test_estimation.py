"""Estimates from samples of tables of which the truth is known."""

from __future__ import annotations

import numpy as np
import pytest

from plugins.attribution import AttributionInputError, JointCounts, decompose
from plugins.attribution.estimation import (
    ATOMS,
    NEEDS_JOINT,
    Estimates,
    estimate,
    influence,
    pointwise,
    samples_needed,
    samples_to_resolve,
)
from plugins.attribution.synthetic import gate, mixture, mixture_atoms, noisy, sample
from plugins.attribution.verdicts import judge
from tests.attribution.oracles import atoms, table

DRAWS = 40


class StoppedError(Exception):
    """Raised by a callback."""


def counted(joint: np.ndarray, n: int, rng: np.random.Generator, **kwargs) -> JointCounts:
    return JointCounts(*joint.shape).update(*sample(joint, n, rng), **kwargs)


def values(estimates: Estimates) -> np.ndarray:
    return np.array([estimates.quantities[name].value for name in ATOMS])


# At five samples per cell or more.
KNOWN = {
    "mixture": (mixture(0.3, 0.3, 0.1, 0.3, noise=0.2), 2560),
    "all four atoms": (table("BSC0.1_BEC0.4"), 300),
    "random 5x5x5": (table("rand_seed106_5x5x5_a1.0"), 625),
    "noisy AND": (noisy(gate("and"), 0.2), 200),
}


@pytest.fixture(scope="module")
def drawn() -> dict[str, list[Estimates]]:
    """Estimates of many samples of each known table."""
    results = {}
    for name, (joint, n) in KNOWN.items():
        rng = np.random.default_rng(11)
        draws = DRAWS // 2 if joint.size > 200 else DRAWS  # each takes longer
        results[name] = [estimate(counted(joint, n, rng), seed=i, shuffles=2) for i in range(draws)]
    return results


@pytest.mark.parametrize("name", KNOWN)
def test_corrected_atoms_are_right_on_average_where_plug_in_ones_are_not(
    name: str, drawn: dict[str, list[Estimates]]
) -> None:
    truth = atoms(decompose(KNOWN[name][0]))
    mean = np.mean([values(e) for e in drawn[name]], axis=0)
    np.testing.assert_allclose(mean, truth, rtol=0, atol=0.03)
    raw = np.mean([[e.quantities[a].plug_in for a in ATOMS] for e in drawn[name]], axis=0)
    assert abs(mean[3] - truth[3]) < max(abs(raw[3] - truth[3]), 0.01)


def test_correction_takes_away_most_of_the_bias_of_synergy(drawn: dict[str, list[Estimates]]) -> None:
    truth = mixture_atoms((0.3, 0.3, 0.1, 0.3), 0.2)["synergy"]
    raw = np.mean([e.quantities["synergy"].plug_in for e in drawn["mixture"]]) - truth
    corrected = np.mean([e.quantities["synergy"].value for e in drawn["mixture"]]) - truth
    assert raw > 0.02
    assert abs(corrected) < raw / 4


def test_intervals_of_ninety_percent_cover_the_truth(drawn: dict[str, list[Estimates]]) -> None:
    """Of 20 draws an interval of true coverage 0.85 shows 0.69 at least, which is two standard errors less."""
    shares = {}
    for name, (joint, _) in KNOWN.items():
        truth = dict(zip(ATOMS, atoms(decompose(joint)).tolist(), strict=True))
        for atom in ATOMS:
            inside = [e.quantities[atom].low - 1e-9 <= truth[atom] <= e.quantities[atom].high for e in drawn[name]]
            shares[name, atom] = np.mean(inside)
    assert min(shares.values()) >= 0.69, shares
    assert 0.84 <= np.mean(list(shares.values())) <= 0.99, shares
    # Where the truth is zero the interval is cut there and covers more: look at the others too.
    inner = [shares["all four atoms", atom] for atom in ATOMS] + [shares["random 5x5x5", atom] for atom in ATOMS]
    assert 0.8 <= np.mean(inner) <= 0.97, shares


def test_standard_errors_are_the_spread_of_the_estimates(drawn: dict[str, list[Estimates]]) -> None:
    for name in ("mixture", "random 5x5x5"):
        for atom in ATOMS:
            spread = np.std([e.quantities[atom].value for e in drawn[name]], ddof=1)
            claimed = np.mean([e.quantities[atom].standard_error for e in drawn[name]])
            assert 0.7 < claimed / spread < 1.6, (name, atom)


def test_estimates_keep_the_identities_that_they_are_built_on(drawn: dict[str, list[Estimates]]) -> None:
    q = {name: e.value for name, e in drawn["random 5x5x5"][0].quantities.items()}
    assert sum(q[a] for a in ATOMS) == pytest.approx(q["total"], abs=1e-12)
    assert q["unique_1"] - q["unique_2"] == pytest.approx(q["information_1"] - q["information_2"], abs=1e-12)
    assert q["lost_without_1"] == pytest.approx(q["unique_1"] + q["synergy"], abs=1e-12)
    assert q["lost_without_2"] == pytest.approx(q["total"] - q["information_1"], abs=1e-12)


def test_a_wider_confidence_gives_a_wider_interval() -> None:
    counts = counted(table("rand_seed106_5x5x5_a1.0"), 2000, np.random.default_rng(1))
    narrow, wide = (estimate(counts, confidence=c, shuffles=2).quantities["total"] for c in (0.5, 0.99))
    assert wide.low < narrow.low < narrow.value < narrow.high < wide.high


def test_shuffled_data_reads_as_nothing() -> None:
    rng = np.random.default_rng(2)
    quantities = []
    for seed in range(20):
        x1, x2, y = sample(table("rand_seed106_5x5x5_a1.0"), 1250, rng)
        counts = JointCounts(5, 5, 5).update(x1, x2, rng.permutation(y))
        quantities.append(estimate(counts, seed=seed, shuffles=39, half_splits=5).quantities)
    for name in (*ATOMS, "total", "lost_without_1"):
        assert abs(np.mean([q[name].value for q in quantities])) < 0.01, name
        assert max(abs(q[name].value) for q in quantities) < 0.08, name
    significant = [q["total"].significant for q in quantities]
    assert sum(significant) <= 4  # one in twenty is expected
    assert np.mean([q["total"].plug_in for q in quantities]) > 0.04  # what would be read without correction
    null = quantities[0]["total"]
    assert null.null_mean == pytest.approx(null.plug_in, abs=0.02)


def test_real_information_is_told_from_shuffled() -> None:
    counts = counted(noisy(gate("xor"), 0.6), 800, np.random.default_rng(3))
    quantities = estimate(counts, shuffles=99).quantities
    assert quantities["synergy"].p_value == pytest.approx(0.01)
    assert quantities["synergy"].significant
    assert quantities["synergy"].plug_in > quantities["synergy"].null_high


def test_under_one_sample_per_cell_all_that_needs_the_joint_is_withheld() -> None:
    counts = counted(mixture(1, 1, 1, 1), 400, np.random.default_rng(4))
    estimates = estimate(counts, shuffles=5)
    assert estimates.samples_per_cell < 1
    for name, quantity in estimates.quantities.items():
        withheld = name in NEEDS_JOINT
        assert np.isnan(quantity.value) == np.isnan(quantity.low) == np.isnan(quantity.high) == withheld, name
        assert not quantity.reliable
        assert not quantity.significant
    assert "withheld" in estimates.warnings[0]
    assert f"{samples_needed(8, 8, 8):,}" in estimates.warnings[0]


def test_under_five_samples_per_cell_they_are_shown_and_called_unreliable() -> None:
    estimates = estimate(counted(mixture(1, 1, 1, 1), 1200, np.random.default_rng(5)), shuffles=5)
    assert 1 < estimates.samples_per_cell < 5
    assert np.isfinite(estimates.quantities["synergy"].value)
    assert {name for name, q in estimates.quantities.items() if not q.reliable} == set(NEEDS_JOINT)
    assert "not reliable" in estimates.warnings[0]


def test_from_five_samples_per_cell_there_is_nothing_to_warn_of() -> None:
    estimates = estimate(counted(mixture(1, 1, 1, 1), 2700, np.random.default_rng(6)), shuffles=5)
    assert estimates.warnings == ()
    assert all(q.reliable for q in estimates.quantities.values())


def test_symbols_that_never_occur_take_no_samples_per_cell() -> None:
    joint = noisy(gate("and"), 0.2)
    rows = sample(joint, 300, np.random.default_rng(7))
    small = estimate(JointCounts(2, 2, 2).update(*rows), shuffles=5)
    padded = estimate(JointCounts(9, 7, 5).update(*rows), shuffles=5)
    assert padded.shape == small.shape == (2, 2, 2)
    assert values(padded) == pytest.approx(values(small))


def test_one_class_or_nothing_counted_is_refused() -> None:
    with pytest.raises(AttributionInputError, match="one class only"):
        estimate(JointCounts(2, 2, 2).update([0, 1, 0], [0, 1, 1], [1, 1, 1]))
    with pytest.raises(AttributionInputError, match="nothing has been counted"):
        estimate(JointCounts(2, 2, 2))
    with pytest.raises(AttributionInputError, match=r"between 0\.5 and 0\.999"):
        estimate(JointCounts(2, 2, 2).update([0, 1], [0, 1], [0, 1]), confidence=1.0)


@pytest.mark.parametrize("weight", [2.0, 1 / 1500])
def test_giving_every_example_the_same_weight_adds_no_examples(weight: float) -> None:
    rows = sample(table("rand_seed106_5x5x5_a1.0"), 1500, np.random.default_rng(8))
    plain = estimate(JointCounts(5, 5, 5).update(*rows), shuffles=20)
    weighted = estimate(JointCounts(5, 5, 5).update(*rows, weights=np.full(1500, weight)), shuffles=20)
    assert weighted.sample_size == pytest.approx(1500)
    np.testing.assert_allclose(values(weighted), values(plain), atol=0.012)
    for name in ("synergy", "unique_1"):
        ours, theirs = weighted.quantities[name], plain.quantities[name]
        assert ours.plug_in == pytest.approx(theirs.plug_in)
        assert ours.standard_error == pytest.approx(theirs.standard_error, rel=0.4)
        assert ours.null_mean == pytest.approx(theirs.null_mean, rel=0.4, abs=0.005)


def test_importance_weights_recover_the_distribution_that_they_stand_for() -> None:
    rng = np.random.default_rng(9)
    wanted, seen = table("rand_seed103_3x3x3_a1.0"), np.full((3, 3, 3), 1 / 27)
    rows = sample(seen, 8000, rng)
    counts = JointCounts(3, 3, 3).update(*rows, weights=(wanted / seen)[rows])
    estimates = estimate(counts, shuffles=5)
    assert estimates.sample_size < 8000
    truth = atoms(decompose(wanted))
    errors = np.array([estimates.quantities[a].standard_error for a in ATOMS])
    assert (np.abs(values(estimates) - truth) <= 3 * errors + 0.003).all()
    assert np.abs(atoms(decompose(seen)) - truth).max() > 0.1


@pytest.mark.parametrize("name", ["BSC0.1_BEC0.4", "rand_seed105_4x5x3_a0.5", "AND", "RDNUNQXOR"])
def test_pointwise_scores_average_to_the_atoms(name: str) -> None:
    joint = table(name)
    result = decompose(joint)
    scores = pointwise(result, joint)
    assert set(scores) == set(ATOMS)
    average = [(scores[atom] * joint).sum() for atom in ATOMS]
    np.testing.assert_allclose(average, atoms(result), atol=1e-6)


def test_the_influence_averages_to_the_terms_that_it_belongs_to() -> None:
    joint = table("rand_seed105_4x5x3_a0.5")
    result = decompose(joint)
    expected = [result.information_1, result.information_2, result.total, result.union_information]
    means = (influence(result, joint) * joint).sum(axis=(1, 2, 3))
    np.testing.assert_allclose(means, [float(e) for e in expected], atol=1e-8)


def test_the_influence_is_the_derivative_towards_one_more_example() -> None:
    """The envelope theorem, against finite differences."""
    joint = table("rand_seed103_3x3x3_a1.0")
    result, step = decompose(joint), 1e-5
    gradient = influence(result, joint)
    for cell in [(0, 0, 0), (1, 2, 0), (2, 1, 2)]:
        towards = np.zeros_like(joint)
        towards[cell] = 1.0
        ahead = decompose((1 - step) * joint + step * towards, tol=1e-12)
        behind = decompose((1 + step) * joint - step * towards, tol=1e-12)
        for index, name in enumerate(("information_1", "information_2", "total", "union_information")):
            slope = float(getattr(ahead, name) - getattr(behind, name)) / (2 * step)
            assert gradient[index][cell] - float(getattr(result, name)) == pytest.approx(slope, abs=2e-3), (name, cell)


def test_pointwise_scores_need_potentials() -> None:
    joint = table("AND")
    with pytest.raises(AttributionInputError, match="decompose with broja"):
        pointwise(decompose(joint, method="imin"), joint)


def test_the_same_seed_gives_the_same_estimates_and_another_seed_others() -> None:
    counts = counted(table("rand_seed106_5x5x5_a1.0"), 1000, np.random.default_rng(10))
    first, again, other = (estimate(counts, seed=s, shuffles=20).quantities for s in (3, 3, 4))
    assert first == again
    assert first["unique_1"].value != other["unique_1"].value


def test_the_callback_sees_progress_and_can_stop_the_work() -> None:
    # 10 x 10 x 10: small tables are all solved in one step.
    counts = counted(np.ones((10, 10, 10)), 5000, np.random.default_rng(12))
    seen: list[float] = []
    estimate(counts, callback=lambda fraction, message: seen.append(fraction))
    assert seen == sorted(seen)
    assert seen[-1] == 1.0
    assert len(seen) > 5

    def stop(fraction: float, message: str) -> None:
        raise StoppedError

    with pytest.raises(StoppedError):
        estimate(counts, callback=stop)


def test_the_planner_asks_for_enough_samples() -> None:
    needed = samples_needed(10, 10, 4)
    assert needed >= 5 * 400
    joint = np.full((10, 10, 4), 1 / 400)
    rng = np.random.default_rng(13)
    bias = np.mean([float(counted(joint, needed, rng).decompose().total) for _ in range(8)])
    assert bias == pytest.approx(0.03, abs=0.003)  # what it plans for
    weak = estimate(counted(noisy(gate("unique"), 0.9), 300, np.random.default_rng(14)), shuffles=5)
    lost = weak.quantities["lost_without_1"]
    more = samples_to_resolve(lost, 300, threshold=lost.value + 0.005)
    assert more > 300
    assert samples_to_resolve(lost, 300, threshold=lost.value + 0.001) > more


def test_under_a_hundred_examples_nothing_is_called_reliable_and_the_verdict_stays_open() -> None:
    joint = noisy(gate("and"), 0.2)
    few = estimate(counted(joint, 60, np.random.default_rng(21)), shuffles=5)
    assert not any(e.reliable for e in few.quantities.values())
    assert any("60 samples" in warning and "100" in warning for warning in few.warnings)
    first, second = judge(few, ("a", "b"), threshold=0.03)
    assert {first.decision, second.decision} == {"inconclusive"}
    assert first.samples_needed is not None
    assert first.samples_needed >= 100
    enough = estimate(counted(joint, 120, np.random.default_rng(22)), shuffles=5)
    assert all(e.reliable for e in enough.quantities.values())
    assert enough.warnings == ()
