"""decompose() against tables of which the answer is known."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from plugins.attribution import AttributionInputError, conditional_independence_reference, decompose
from plugins.attribution.decomposition import FIRST_ORDER_GAP, NEWTON_MAX_SIZE
from tests.attribution.oracles import ATOMS, CASES, COLUMNS, atoms, entropy, product, table

QUARTER = entropy(0.25) - 0.5
SMALL = ("AND", "XOR", "UNQ1", "COPY_corr", "BSC0.1_BEC0.4", "rand_seed103_3x3x3_a1.0", "rand_seed106_5x5x5_a1.0")


@pytest.mark.parametrize("name", CASES)
def test_every_oracle_is_met_to_a_millionth_of_a_bit_with_a_certificate(name: str) -> None:
    result = decompose(table(name))
    for ours, column in COLUMNS.items():
        assert float(getattr(result, ours)) == pytest.approx(CASES[name][column], abs=1e-6), ours
    assert 0 <= float(result.gap) <= 1e-6


@pytest.mark.parametrize("name", CASES)
def test_comparison_measures_meet_their_columns(name: str) -> None:
    for method, column in (("imin", "Imin_WB_redundancy"), ("mmi", "Immi_redundancy")):
        result = decompose(table(name), method=method)
        assert float(result.redundancy) == pytest.approx(CASES[name][column], abs=1e-6)
        assert float(atoms(result).sum()) == pytest.approx(CASES[name]["I12"], abs=1e-6)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("AND", (QUARTER, 0, 0, 0.5)),
        ("OR", (QUARTER, 0, 0, 0.5)),
        ("SUM", (0.5, 0, 0, 1)),
        ("COPY_corr", (1 - entropy(0.2), entropy(0.2), entropy(0.2), 0)),
        ("XOR_noise0.1", (0, 0, 0, 1 - entropy(0.1))),
        ("RDNERR", (1 - entropy(0.25), entropy(0.25), 0, 0)),
        ("MOD3SUM", (0, 0, 0, np.log2(3))),
        ("DYADIC", (0, 1, 1, 0)),
        ("TRIADIC", (1, 0, 0, 1)),
        ("RDNUNQXOR", (1, 1, 1, 1)),
    ],
)
def test_closed_forms_are_met(name: str, expected: tuple[float, ...]) -> None:
    np.testing.assert_allclose(atoms(decompose(table(name))), expected, atol=1e-8)


def test_the_worse_of_two_symmetric_channels_brings_nothing_of_its_own() -> None:
    result = decompose(table("BSC_0.1_0.2"))
    assert float(result.unique_2) == pytest.approx(0, abs=1e-8)
    assert float(result.redundancy) == pytest.approx(1 - entropy(0.2), abs=1e-8)


def test_imin_calls_copied_independent_bits_redundant_and_broja_does_not() -> None:
    copied = table("COPY")
    assert float(decompose(copied, method="imin").redundancy) == pytest.approx(1.0)
    assert float(decompose(copied).redundancy) == pytest.approx(0.0, abs=1e-8)


def test_the_single_shot_reference_finds_unique_information_in_the_and_gate() -> None:
    reference = conditional_independence_reference(table("AND"))
    assert atoms(reference) == pytest.approx([0.081704, 0.229574, 0.229574, 0.270426], abs=1e-6)
    assert float(reference.gap) == pytest.approx(0.229574, abs=1e-6)
    assert reference.method == "conditional_independence_reference"


def test_the_reference_and_the_paper_algorithm_are_not_the_default() -> None:
    with pytest.raises(AttributionInputError, match=r"broja, ipfp, imin, mmi"):
        decompose(table("AND"), method="conditional_independence_reference")  # ty: ignore[invalid-argument-type]
    assert decompose(table("AND")).method == "broja"


@pytest.mark.parametrize("name", SMALL)
def test_the_gap_of_ipfp_bounds_its_true_error(name: str) -> None:
    result = decompose(table(name), method="ipfp")
    error = float(result.union_information) - CASES[name]["I_union"]
    assert -1e-8 <= error <= float(result.gap) + 1e-8
    assert float(result.gap) < 0.01


def test_ipfp_stops_before_the_optimum_and_says_so() -> None:
    dense = np.random.default_rng(0).gamma(1.0, 1.0, (10, 10, 5))
    result, exact = decompose(dense, method="ipfp"), decompose(dense)
    error = float(result.union_information - exact.union_information)
    assert error > 1e-4
    assert error <= float(result.gap) <= 0.02
    assert int(result.iterations) == 100
    # The error is on both sides of the identities.
    assert float(result.unique_1 - exact.unique_1) == pytest.approx(error)
    assert float(exact.redundancy - result.redundancy) == pytest.approx(error)


@pytest.mark.parametrize(("name", "buggy"), [("UNQ1", 1.0), ("AND", -0.377444), ("COPY_corr", 1.721928)])
def test_redundancy_is_taken_from_what_both_sources_say_about_the_target(name: str, buggy: float) -> None:
    """The released code subtracts I_q(X1; X2) where I_q(X1 X2; Y) belongs."""
    result = decompose(table(name))
    assert result.coupling is not None
    sources = result.coupling.sum(dim=2)
    independent = sources.sum(dim=1, keepdim=True) * sources.sum(dim=0, keepdim=True)
    between = float(torch.special.xlogy(sources, sources / independent).sum() / np.log(2))
    wrong = float(result.information_1 + result.information_2) - between
    assert wrong == pytest.approx(buggy, abs=1e-5)
    assert float(result.redundancy) == pytest.approx(CASES[name]["R"], abs=1e-6)
    assert atoms(result).sum() == pytest.approx(CASES[name]["I12"], abs=1e-9)


def test_a_large_table_takes_the_first_order_method_and_its_gap_is_honest() -> None:
    names = ("rand_seed106_5x5x5_a1.0", "rand_seed107_5x5x5_a0.1", "AND_corr")
    large = product(product(table(names[0]), table(names[1])), table(names[2]))
    assert (large.shape[0] + large.shape[1]) * large.shape[2] > NEWTON_MAX_SIZE
    result = decompose(large)
    gap = float(result.gap)
    assert 1e-7 < gap <= FIRST_ORDER_GAP  # Newton would have left less than 1e-8
    for ours, column in COLUMNS.items():
        truth = sum(CASES[name][column] for name in names)  # atoms of independent systems add
        assert abs(float(getattr(result, ours)) - truth) <= gap + 1e-8, ours


def test_the_coupling_shares_the_pairwise_tables_and_has_the_reported_information() -> None:
    given = table("rand_seed105_4x5x3_a0.5")
    result = decompose(given)
    assert result.coupling is not None
    coupling = result.coupling.numpy()
    np.testing.assert_allclose(coupling.sum(axis=1), given.sum(axis=1), atol=1e-12)
    np.testing.assert_allclose(coupling.sum(axis=0), given.sum(axis=0), atol=1e-12)
    assert coupling.min() >= 0
    assert float(decompose(coupling).total) == pytest.approx(float(result.union_information), abs=1e-9)


def test_leading_axes_are_a_batch_and_are_kept() -> None:
    tables = np.random.default_rng(1).gamma(1.0, 1.0, (2, 3, 3, 2, 4))
    result = decompose(tables)
    assert result.redundancy.shape == (2, 3)
    assert result.potential_1 is not None
    assert result.potential_1.shape == (2, 3, 3, 4)
    for index in np.ndindex(2, 3):
        np.testing.assert_allclose(atoms(result)[index], atoms(decompose(tables[index])), atol=1e-8)


def test_a_target_with_one_class_says_nothing_and_a_silent_source_leaves_the_other_unique() -> None:
    counts = np.random.default_rng(2).integers(1, 9, (3, 4, 1))
    np.testing.assert_allclose(atoms(decompose(counts)), 0, atol=1e-12)
    silent = np.random.default_rng(3).integers(1, 9, (1, 4, 3))
    result = decompose(silent)
    np.testing.assert_allclose(atoms(result), [0, 0, float(result.information_2), 0], atol=1e-8)
    assert float(result.information_2) > 0.01


def test_numbers_become_plain_values() -> None:
    values = decompose(table("AND")).to_dict()
    assert {*ATOMS, "total", "gap", "method"} <= set(values)
    assert all(isinstance(values[name], float) for name in ATOMS)


@pytest.mark.parametrize(
    ("joint", "reason"),
    [
        (np.full((2, 2, 2), np.nan), "NaN or infinite"),
        (np.array([[[1.0, np.inf], [0, 1]]]), "NaN or infinite"),
        (np.array([[[1.0, -0.1], [0, 1]]]), "negative values"),
        (np.zeros((2, 2, 2)), "all zeros"),
        (np.ones((2, 2)), "three axes"),
        (np.ones((2, 0, 2)), "no cells"),
        (np.ones((2, 2, 2), dtype=bool), "give counts or probabilities"),
        (np.ones((2, 2, 2)) * 1j, "give counts or probabilities"),
        ([[["a", "b"]]], "cannot be read as numbers"),
        ([[[1, 2], [3]]], "cannot be read as numbers"),
    ],
)
def test_what_is_not_a_table_is_refused_with_a_reason(joint: object, reason: str) -> None:
    with pytest.raises(AttributionInputError, match=reason):
        decompose(joint)  # ty: ignore[invalid-argument-type]


def test_a_batch_with_one_empty_table_is_refused() -> None:
    tables = np.ones((3, 2, 2, 2))
    tables[1] = 0
    with pytest.raises(AttributionInputError, match="all zeros"):
        decompose(tables)


@pytest.mark.parametrize("tol", [0.0, -1.0, 1.0, float("nan")])
def test_an_impossible_tolerance_is_refused(tol: float) -> None:
    with pytest.raises(AttributionInputError, match="between 0 and 1"):
        decompose(np.ones((2, 2, 2)), tol=tol)


def test_huge_and_tiny_entries_do_not_overflow() -> None:
    huge = decompose(np.array([[[1e308, 1e308], [1e308, 0]], [[1, 1], [1, 1e308]]]))
    scaled = decompose(np.array([[[1.0, 1], [1, 0]], [[0, 0], [0, 1]]]))
    np.testing.assert_allclose(atoms(huge), atoms(scaled), atol=1e-8)
    tiny = decompose(np.array([[[1e-300, 1], [1, 1]], [[1, 1e-320], [0, 1]]]))
    assert float(tiny.gap) <= 1e-6
    assert np.isfinite(atoms(tiny)).all()
