"""Matching of candidates with tracklets: ranges, the temperature, order, and who may not be matched."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from plugins.tracking.losses import association_loss
from plugins.tracking.matching import affinity, assign, assignment

SCALE = 10.0


def vectors(count: int, width: int = 16, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@given(st.integers(0, 6), st.integers(0, 6), st.integers(0, 10_000), st.sampled_from([None, 0.4]))
def test_the_affinity_has_its_range(candidates, tracklets, seed, dustbin):
    found = affinity(vectors(candidates, seed=seed), vectors(tracklets, seed=seed + 1), SCALE, dustbin)
    assert found.shape == (candidates, tracklets)
    assert (found >= -0.5).all()
    assert (found <= 1).all()


@pytest.mark.parametrize(("scale", "passes"), [(1.0, False), (5.0, True), (10.0, True)])
def test_perfect_matches_need_a_temperature_to_pass_the_papers_threshold(scale, passes):
    same = torch.eye(5)
    least = affinity(same, same, scale).diagonal().min()
    assert bool(least > 0.75) == passes
    assert least == pytest.approx({1.0: 0.70, 5.0: 0.98, 10.0: 1.0}[scale], abs=0.01)


def test_the_order_of_candidates_changes_nothing_but_the_order():
    candidates, tracklets = vectors(6), vectors(4, seed=1)
    order = torch.randperm(6, generator=torch.Generator().manual_seed(2))
    plain = affinity(candidates, tracklets, SCALE, 0.4)
    torch.testing.assert_close(affinity(candidates[order], tracklets, SCALE, 0.4), plain[order])
    pairs = {(int(order[row]), column) for row, column in assign(plain[order], 0.3)}
    assert pairs == set(assign(plain, 0.3))


def test_a_single_tracklet_takes_a_newcomer_only_without_the_dustbin():
    tracklet = torch.tensor([[1.0, 0.0]])
    newcomer = torch.tensor([[0.55, (1 - 0.55**2) ** 0.5]])  # a cosine of 0.55
    assert affinity(newcomer, tracklet, SCALE).item() == pytest.approx((1 + 0.55) / 2)
    assert affinity(newcomer, tracklet, SCALE, 0.6).item() < 0.5
    assert affinity(tracklet, tracklet, SCALE, 0.6).item() > 0.95


def test_pairs_at_the_threshold_are_not_made_and_do_not_stand_in_the_way():
    score = torch.tensor([[0.75, 0.80], [0.95, 0.90]])
    assert assign(score, 0.75) == [(0, 1), (1, 0)]
    assert assign(score, 0.80) == [(1, 0)]
    assert assign(score, 0.95) == []
    assert assign(torch.zeros(0, 3), 0.5) == []


def test_the_total_decides_not_the_best_pair():
    assert assign(torch.tensor([[0.9, 0.8], [0.85, 0.1]]), 0.5) == [(0, 1), (1, 0)]


def test_chances_sum_to_one_with_the_dustbin_and_stay_within_a_clip():
    logits = 3 * vectors(4, 3)
    allowed = torch.tensor([[True, True, False]] * 2 + [[False, False, True]] * 2)
    across, down = assignment(logits, torch.tensor(0.5), allowed)
    assert (across[~allowed] == 0).all()
    assert (down[~allowed] == 0).all()
    assert (across.sum(1) < 1).all()
    assert (down.sum(0) < 1).all()
    whole, _ = assignment(logits, None, None)
    torch.testing.assert_close(whole.sum(1), torch.ones(4, dtype=torch.float64))


def test_association_is_learned_by_the_right_matches_and_by_newcomers():
    same = torch.ones(2, 2, dtype=torch.bool)
    near = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    match = torch.eye(2, dtype=torch.bool)
    scale, dustbin = torch.tensor(10.0), torch.tensor(0.5)
    right = association_loss(near, near, same, match, scale, dustbin)
    wrong = association_loss(near, near.flip(0), same, match, scale, dustbin)
    assert right < 0.02
    assert wrong > 4
    stranger = association_loss(near[:1], near[1:], same[:1, :1], match[:1, 1:], scale, dustbin)
    assert stranger < 0.02
    assert association_loss(near[:1], near[:1], same[:1, :1], match[:1, 1:], scale, dustbin) > 4
