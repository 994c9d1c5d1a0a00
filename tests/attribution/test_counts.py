"""Joint counts: what goes in, what merges, what is kept on disk."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from plugins.attribution import AttributionInputError, JointCounts

RNG = np.random.default_rng(5)
X1, X2, Y = RNG.integers(0, 3, 200), RNG.integers(0, 4, 200), RNG.integers(0, 2, 200)


def counted() -> JointCounts:
    return JointCounts(3, 4, 2, discretiser="a" * 64).update(X1, X2, Y)


def test_each_triple_is_counted_where_it_belongs() -> None:
    counts = counted()
    for cell in np.ndindex(3, 4, 2):
        assert counts.table[cell] == (np.stack([X1, X2, Y], axis=1) == cell).all(axis=1).sum()
    assert counts.total == counts.effective_sample_size == 200


def test_four_rows_of_xor_are_one_bit_of_synergy() -> None:
    counts = JointCounts(2, 2, 2).update([0, 0, 1, 1], [0, 1, 0, 1], [0, 1, 1, 0])
    assert float(counts.decompose().synergy) == pytest.approx(1.0)
    assert float(counts.decompose(method="imin").synergy) == pytest.approx(1.0)


def test_updates_in_pieces_equal_one_update() -> None:
    pieces = JointCounts(3, 4, 2)
    for start in range(0, 200, 37):
        part = slice(start, start + 37)
        pieces.update(X1[part], X2[part], Y[part])
    assert np.array_equal(pieces.table, counted().table)


def test_soft_targets_are_counted_in_parts_and_certain_ones_like_labels() -> None:
    soft = np.tile([0.25, 0.75], (200, 1))
    table = JointCounts(3, 4, 2).update(X1, X2, soft).table
    np.testing.assert_allclose(table[..., 1], 3 * table[..., 0])
    assert table.sum() == pytest.approx(200)
    assert np.array_equal(JointCounts(3, 4, 2).update(X1, X2, np.eye(2)[Y]).table, counted().table)


def test_weights_scale_counts_and_lower_the_effective_sample_size() -> None:
    weights = np.where(Y == 1, 3.0, 1.0)
    counts = JointCounts(3, 4, 2).update(X1, X2, Y, weights=weights)
    np.testing.assert_allclose(counts.table[..., 1], 3 * counted().table[..., 1])
    assert counts.effective_sample_size == pytest.approx(weights.sum() ** 2 / np.square(weights).sum())
    assert counts.effective_sample_size < 200


def test_weighted_shards_merge_to_the_weighted_whole() -> None:
    weights = RNG.uniform(0, 2, 200)
    whole = JointCounts(3, 4, 2).update(X1, X2, Y, weights=weights)
    shards = [JointCounts(3, 4, 2).update(X1[i::3], X2[i::3], Y[i::3], weights=weights[i::3]) for i in range(3)]
    merged = shards[0].merge(shards[1]).merge(shards[2])
    np.testing.assert_allclose(merged.table, whole.table, rtol=1e-12)
    assert merged.effective_sample_size == pytest.approx(whole.effective_sample_size)


def test_merging_leaves_both_shards_alone() -> None:
    first, second = counted(), counted()
    before = first.table.copy()
    first.merge(second).table[:] = 0
    assert np.array_equal(first.table, before)
    assert np.array_equal(second.table, before)


@pytest.mark.parametrize("other", ["b" * 64, ""])
def test_counts_of_another_discretiser_are_refused(other: str) -> None:
    with pytest.raises(AttributionInputError, match="count again with one fitted discretiser"):
        counted().merge(JointCounts(3, 4, 2, discretiser=other))


def test_counts_of_other_alphabets_are_refused() -> None:
    with pytest.raises(AttributionInputError, match="same alphabets"):
        counted().merge(JointCounts(4, 3, 2, discretiser="a" * 64))


@pytest.mark.parametrize(
    ("x1", "x2", "y", "weights", "reason"),
    [
        (X1[:-1], X2, Y, None, "lengths differ: x1 has 199, x2 has 200"),
        (X1, X2, Y, np.ones(3), "weights has 3"),
        (X1 + 1, X2, Y, None, "codes from 1 to 3: this table takes 0 to 2"),
        (X1 - 1, X2, Y, None, "codes from -1 to 1"),
        (X1 * 1.0, X2, Y, None, "one integer code per example"),
        (X1[:, None], X2, Y, None, "one integer code per example"),
        (X1, X2, np.full((200, 2), 0.4), None, "sum to one"),
        (X1, X2, np.full((200, 3), 1 / 3), None, "3 columns, the table has 2 classes"),
        (X1, X2, np.tile([-0.5, 1.5], (200, 1)), None, "finite and not negative"),
        (X1, X2, np.full((200, 2), np.nan), None, "finite and not negative"),
        (X1, X2, Y, np.full(200, -1.0), "finite and not negative"),
        (X1, X2, Y, np.full(200, np.nan), "finite and not negative"),
        (X1, X2, Y, ["a"] * 200, "weights cannot be read as numbers"),
    ],
)
def test_bad_examples_are_refused_and_nothing_of_them_is_counted(x1, x2, y, weights, reason: str) -> None:
    counts = counted()
    before = counts.table.copy()
    with pytest.raises(AttributionInputError, match=reason):
        counts.update(x1, x2, y, weights=weights)
    assert np.array_equal(counts.table, before)
    assert counts.sum_of_squared_weights == 200


@pytest.mark.parametrize(("size", "reason"), [(0, "1 to 100,000"), (200_000, "1 to 100,000"), (5_000, "limit")])
def test_impossible_alphabets_are_refused(size: int, reason: str) -> None:
    with pytest.raises(AttributionInputError, match=reason):
        JointCounts(size, 5_000, 10)


def test_nothing_counted_has_no_decomposition() -> None:
    with pytest.raises(AttributionInputError, match="nothing has been counted"):
        JointCounts(2, 2, 2).decompose()


def test_saved_counts_come_back_with_their_discretiser(tmp_path: Path) -> None:
    counts = JointCounts(3, 4, 2, discretiser="a" * 64).update(X1, X2, Y, weights=RNG.uniform(0, 1, 200))
    counts.save(tmp_path / "shard.safetensors")
    back = JointCounts.load(tmp_path / "shard.safetensors")
    assert np.array_equal(back.table, counts.table)
    assert (back.sum_of_squared_weights, back.discretiser) == (counts.sum_of_squared_weights, counts.discretiser)
    assert back.merge(counts).total == pytest.approx(2 * counts.total)


def test_files_that_hold_no_counts_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "counts.safetensors"
    with pytest.raises(AttributionInputError, match="not a file of joint counts"):
        JointCounts.load(path)
    path.write_bytes(b"not safetensors")
    with pytest.raises(AttributionInputError, match="not a file of joint counts"):
        JointCounts.load(path)
    save_file({"weight": np.ones(3)}, path)
    with pytest.raises(AttributionInputError, match="not a file of joint counts"):
        JointCounts.load(path)


@pytest.mark.parametrize("value", [-1.0, np.nan, np.inf])
def test_saved_tables_with_impossible_counts_are_refused(tmp_path: Path, value: float) -> None:
    counts = counted()
    counts.table[0, 0, 0] = value
    counts.save(tmp_path / "shard.safetensors")
    with pytest.raises(AttributionInputError, match="no joint counts of format 1"):
        JointCounts.load(tmp_path / "shard.safetensors")
