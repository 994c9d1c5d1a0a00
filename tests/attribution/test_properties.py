"""Laws that any table must obey, on tables that hypothesis draws."""

from __future__ import annotations

from random import Random

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from plugins.attribution import JointCounts, PIDResult, decompose
from tests.attribution.oracles import ATOMS, atoms, product

settings.register_profile("tables", max_examples=40, deadline=None)
EXAMPLES = settings(settings.get_profile("tables"))

SHAPES = st.tuples(st.integers(1, 4), st.integers(1, 4), st.integers(1, 4))


@st.composite
def tables(draw: st.DrawFn, shapes: st.SearchStrategy[tuple[int, int, int]] = SHAPES) -> np.ndarray:
    """Counts, or weights over twelve orders of magnitude, with zeros."""
    shape = draw(shapes)
    if draw(st.booleans()):
        table = draw(hnp.arrays(np.int64, shape, elements=st.integers(0, 30))).astype(np.float64)
    else:
        exponents = draw(hnp.arrays(np.float64, shape, elements=st.floats(-6, 6)))
        table = 10.0**exponents * draw(hnp.arrays(np.int64, shape, elements=st.integers(0, 1)))
    assume(table.sum() > 0)
    return table


def assert_same(first: PIDResult, second: PIDResult, order: tuple[int, ...] = (0, 1, 2, 3)) -> None:
    """Equal atoms, to the sum of both certificates and rounding."""
    allowed = float((first.gap + second.gap).max()) + 1e-9
    np.testing.assert_allclose(atoms(first), atoms(second)[..., list(order)], rtol=0, atol=allowed)


@EXAMPLES
@given(tables())
def test_atoms_obey_their_identities_and_bounds(table: np.ndarray) -> None:
    r = decompose(table)
    assert atoms(r).sum() == pytest.approx(float(r.total), abs=1e-12)
    assert float(r.unique_1 - r.unique_2) == pytest.approx(float(r.information_1 - r.information_2), abs=1e-12)
    assert float(r.redundancy + r.unique_1) == pytest.approx(float(r.information_1), abs=1e-12)
    assert atoms(r).min() >= -1e-12
    assert float(r.redundancy) <= float(min(r.information_1, r.information_2)) + 1e-12
    assert 0 <= float(r.gap) <= 1e-6


@EXAMPLES
@given(tables())
def test_swapping_the_sources_swaps_the_unique_parts(table: np.ndarray) -> None:
    assert_same(decompose(table), decompose(table.swapaxes(0, 1)), order=(0, 2, 1, 3))


@EXAMPLES
@given(tables(), st.randoms(use_true_random=False))
def test_names_of_symbols_do_not_matter(table: np.ndarray, random: Random) -> None:
    order = [random.sample(range(size), size) for size in table.shape]
    assert_same(decompose(table), decompose(table[np.ix_(*order)]))


@EXAMPLES
@given(tables(), st.floats(0.01, 0.99))
def test_splitting_a_symbol_at_random_changes_nothing(table: np.ndarray, share: float) -> None:
    split = np.concatenate([table[:1] * share, table[:1] * (1 - share), table[1:]])
    assert_same(decompose(table), decompose(split))


@EXAMPLES
@given(tables(), st.integers(0, 2**32 - 1))
def test_symbols_with_equal_posteriors_count_as_one_for_all_but_synergy(table: np.ndarray, seed: int) -> None:
    row = table[0]
    part = row * np.random.default_rng(seed).uniform(0.1, 0.9, row.shape)
    whole, kept = row.sum(axis=0), part.sum(axis=0)
    present = whole > 0
    assume(present.any())
    share = (kept[present] / whole[present]).min()
    part = part * np.divide(share * whole, kept, out=np.zeros_like(whole), where=kept > 0)  # the posterior of the row
    split = np.concatenate([part[None], np.maximum(row - part, 0)[None], table[1:]])
    before, after = decompose(table), decompose(split)
    allowed = float(before.gap + after.gap) + 1e-9
    np.testing.assert_allclose(atoms(after)[:3], atoms(before)[:3], rtol=0, atol=allowed)
    assert float(after.synergy) >= float(before.synergy) - allowed


@EXAMPLES
@given(tables(st.tuples(*[st.integers(1, 3)] * 3)), tables(st.tuples(*[st.integers(1, 3)] * 3)))
def test_atoms_of_independent_systems_add(first: np.ndarray, second: np.ndarray) -> None:
    one, two, both = (decompose(t) for t in (first, second, product(first / first.sum(), second / second.sum())))
    allowed = float(one.gap + two.gap + both.gap) + 1e-9
    np.testing.assert_allclose(atoms(both), atoms(one) + atoms(two), rtol=0, atol=allowed)


@EXAMPLES
@given(st.lists(tables(st.just((3, 2, 3))), min_size=2, max_size=6))
def test_a_batch_gives_what_single_tables_give(batch: list[np.ndarray]) -> None:
    together = decompose(np.stack(batch))
    for index, table in enumerate(batch):
        alone = decompose(table)
        allowed = float(alone.gap + together.gap[index]) + 1e-9
        np.testing.assert_allclose(atoms(together)[index], atoms(alone), rtol=0, atol=allowed)


@EXAMPLES
@given(tables(), st.tuples(st.integers(0, 3), st.integers(0, 3), st.integers(0, 2)))
def test_symbols_that_never_occur_change_nothing(table: np.ndarray, extra: tuple[int, int, int]) -> None:
    assert_same(decompose(table), decompose(np.pad(table, [(n, m) for n, m in zip(extra, extra[::-1], strict=True)])))


@EXAMPLES
@given(tables(), st.floats(1e-9, 1e9))
def test_only_proportions_matter(table: np.ndarray, scale: float) -> None:
    assert_same(decompose(table), decompose(table * scale))


@EXAMPLES
@given(tables())
def test_all_but_synergy_depends_on_the_pairwise_tables_alone(table: np.ndarray) -> None:
    target = table.sum(axis=(0, 1))
    scaled = np.divide(table.sum(axis=0), target, out=np.zeros(table.shape[1:]), where=target > 0)
    unpaired = table.sum(axis=1)[:, None, :] * scaled[None, :, :]
    before, after = decompose(table), decompose(unpaired)
    allowed = float(before.gap + after.gap) + 1e-9
    np.testing.assert_allclose(atoms(after)[:3], atoms(before)[:3], rtol=0, atol=allowed)


@EXAMPLES
@given(tables())
def test_closed_form_measures_obey_the_same_identities(table: np.ndarray) -> None:
    broja = decompose(table)
    for method in ("imin", "mmi"):
        result = decompose(table, method=method)
        assert atoms(result).sum() == pytest.approx(float(broja.total), abs=1e-12)
        assert float(result.information_1) == float(broja.information_1)
        assert float(result.redundancy) >= float(broja.redundancy) - float(broja.gap) - 1e-9
        assert float(result.gap) == 0


Rows = list[tuple[int, int, int]]
CODES = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 1), st.integers(0, 3)), min_size=1, max_size=60)


def count(rows: Rows) -> JointCounts:
    counts = JointCounts(3, 2, 4)
    return counts.update(*np.array(rows, dtype=np.int64).T) if rows else counts


@EXAMPLES
@given(CODES, st.integers(0, 60))
def test_merged_shards_are_exactly_the_whole(rows: Rows, cut: int) -> None:
    merged, whole = count(rows[:cut]).merge(count(rows[cut:])), count(rows)
    assert np.array_equal(merged.table, whole.table)
    assert merged.sum_of_squared_weights == whole.sum_of_squared_weights
    first, second = merged.decompose(), whole.decompose()
    assert all(getattr(first, name) == getattr(second, name) for name in ATOMS)


@EXAMPLES
@given(CODES, CODES, CODES)
def test_merging_is_associative_and_commutative(a: Rows, b: Rows, c: Rows) -> None:
    first, second, third = count(a), count(b), count(c)
    left, right = first.merge(second).merge(third), first.merge(second.merge(third))
    assert np.array_equal(left.table, right.table)
    assert np.array_equal(first.merge(second).table, second.merge(first).table)
    assert first.merge(count([])).table.tolist() == first.table.tolist()
