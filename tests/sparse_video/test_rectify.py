"""The parts of the method, each against its definition: pooling, IPAR, selection, GAPR, merge."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from plugins.sparse_video import blocks as pooling
from plugins.sparse_video.blocks import (
    block_counts,
    block_means,
    block_means_and_deviations,
    gather_tokens,
    scale_and_add_,
)
from plugins.sparse_video.rectify import (
    center_keys,
    gain_error_gate,
    implicit_full_attention,
    merge,
    pooled_logits,
    rectification,
    select_blocks,
)
from tests.sparse_video.oracles import random_qkv

INFINITY = float("inf")


def normal(*shape, seed=0, dtype=torch.float64):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def chosen_sets(mask):
    """The chosen indices of each row of a bool [..., N]."""
    return [row.nonzero().squeeze(-1).tolist() for row in mask.flatten(0, -2)]


class TestPooling:
    def test_counts_are_of_tokens_that_are_really_there(self):
        mask = torch.ones(2, 10, dtype=torch.bool)
        mask[1, :5] = False
        assert block_counts(10, 4, None, torch.device("cpu")).tolist() == [[4, 4, 2]]
        assert block_counts(10, 4, mask, torch.device("cpu")).tolist() == [[4, 4, 2], [0, 3, 2]]

    @pytest.mark.parametrize("work", [1, 500, 2**20])
    def test_means_and_deviations_are_over_valid_tokens_however_the_work_is_cut(self, monkeypatch, work):
        monkeypatch.setattr(pooling, "_CPU_WORK_NUMBERS", work)
        tensor = normal(2, 3, 43, 5)
        mask = torch.rand(2, 43, generator=torch.Generator().manual_seed(1)) < 0.6
        mask[0, 8:16] = False
        counts = block_counts(43, 8, mask, tensor.device)
        means, deviations = block_means_and_deviations(tensor, counts, 8, mask)
        assert torch.equal(means, block_means(tensor, counts, 8, mask))
        for b in range(2):
            for n in range(6):
                kept = tensor[b, :, n * 8 : (n + 1) * 8][:, mask[b, n * 8 : (n + 1) * 8]]
                if kept.shape[1] == 0:
                    assert (means[b, :, n] == 0).all()
                    continue
                torch.testing.assert_close(means[b, :, n], kept.mean(1))
                torch.testing.assert_close(deviations[b, :, n], (kept - kept.mean(1, keepdim=True)).abs().mean(1))

    def test_padding_that_holds_no_number_does_not_spread(self):
        tensor, mask = normal(1, 1, 8, 4), torch.ones(1, 8, dtype=torch.bool)
        tensor[:, :, 6:], mask[:, 6:] = float("nan"), False
        means, deviations = block_means_and_deviations(tensor, block_counts(8, 4, mask, tensor.device), 4, mask)
        assert means.isfinite().all()
        assert deviations.isfinite().all()

    def test_a_short_last_block_is_a_mean_of_its_own_tokens(self):
        """The original pads with zeros and divides by the block size (defect D3)."""
        tensor = torch.ones(1, 1, 5, 2)
        assert (block_means(tensor, block_counts(5, 4, None, tensor.device), 4) == 1).all()

    def test_bf16_is_summed_in_fp32(self):
        tensor = normal(1, 2, 300, 16).bfloat16()
        counts = block_counts(300, 128, None, tensor.device)
        means = block_means(tensor, counts, 128)
        assert means.dtype == torch.float32
        torch.testing.assert_close(means, block_means(tensor.double(), counts, 128).float(), rtol=1e-5, atol=1e-6)

    @pytest.mark.parametrize("work", [1, 300, 2**20])
    def test_scaling_by_block_reaches_every_token_once(self, monkeypatch, work):
        monkeypatch.setattr(pooling, "_CPU_WORK_NUMBERS", work)
        tensor, factor, term = normal(2, 3, 22, 4), normal(2, 3, 3, seed=1), normal(2, 3, 3, 4, seed=2)
        per_token = [x.repeat_interleave(8, 2)[:, :, :22] for x in (factor, term)]
        expected = tensor * per_token[0].unsqueeze(-1) + per_token[1]
        torch.testing.assert_close(scale_and_add_(tensor.clone(), factor, term, 8), expected)

    def test_gathering_keeps_to_the_memory_it_is_given(self):
        tensor, index = normal(2, 6, 3, 4).transpose(1, 2), torch.tensor([5, 0, 3])
        assert torch.equal(gather_tokens(tensor, index), tensor[:, :, index])
        out = torch.zeros(2, 8, 3, 4, dtype=torch.float64).transpose(1, 2)
        gather_tokens(tensor, index, out=out[:, :, 2:5])
        assert torch.equal(out[:, :, 2:5], tensor[:, :, index])
        assert (out[:, :, :2] == 0).all()


class TestImplicitFullAttention:
    @given(st.integers(1, 6), st.integers(0, 5), st.integers(0, 10**6))
    def test_counts_in_the_logits_are_the_papers_reallocation(self, number, text, seed):
        """Oracle 4: scale p by the block size, then normalise again."""
        q, k = normal(1, 2, number, 8, seed=seed), normal(1, 2, number, 8, seed=seed + 1)
        counts = torch.full((1, number), 128)
        t = normal(1, 2, number, text, seed=seed + 2) if text else None
        attention, on_text = implicit_full_attention(pooled_logits(q, k, counts, 0.3), t)
        plain = q @ k.transpose(-1, -2) * 0.3
        p = (plain if t is None else torch.cat([plain, t], -1)).softmax(-1)
        sigma, tau = p[..., :number].sum(-1, keepdim=True), p[..., number:].sum(-1, keepdim=True)
        torch.testing.assert_close(attention, 128 * p[..., :number] / (128 * sigma + tau), rtol=0, atol=1e-12)
        torch.testing.assert_close(on_text, (tau / (128 * sigma + tau)).squeeze(-1), rtol=0, atol=1e-12)

    def test_it_is_the_block_sums_of_full_attention_where_blocks_are_constant(self):
        counts = torch.tensor([[3, 1, 4]])
        q, k = normal(1, 1, 3, 8), normal(1, 1, 3, 8, seed=1)
        attention, _ = implicit_full_attention(pooled_logits(q, k, counts, 1.0))
        keys = k.repeat_interleave(counts[0], dim=2)
        full = (q @ keys.transpose(-1, -2)).softmax(-1)
        expected = torch.stack([part.sum(-1) for part in full.split([3, 1, 4], dim=-1)], -1)
        torch.testing.assert_close(attention, expected, rtol=0, atol=1e-12)

    def test_padding_text_and_empty_blocks_get_nothing(self):
        logits = pooled_logits(normal(1, 1, 3, 4), normal(1, 1, 3, 4, seed=1), torch.tensor([[4, 0, 4]]), 0.5)
        text = normal(1, 1, 3, 2, seed=2)
        text[..., 1] = -INFINITY
        attention, on_text = implicit_full_attention(logits, text)
        assert (attention[..., 1] == 0).all()
        torch.testing.assert_close(attention.sum(-1) + on_text, torch.ones(1, 1, 3, dtype=torch.float64))
        without = implicit_full_attention(logits, text[..., :1])
        torch.testing.assert_close(attention, without[0])

    def test_nothing_to_attend_to_is_zero_and_not_nan(self):
        logits = pooled_logits(normal(1, 1, 2, 4), normal(1, 1, 2, 4), torch.tensor([[0, 0]]), 0.5)
        for text in (None, torch.full((1, 1, 2, 3), -INFINITY, dtype=torch.float64)):
            attention, on_text = implicit_full_attention(logits, text)
            assert (attention == 0).all()
            assert (on_text == 0).all()


class TestSelection:
    @given(st.integers(1, 12), st.integers(1, 14), st.integers(0, 10**6))
    def test_density_alone_keeps_exactly_so_many(self, number, keep, seed):
        logits = normal(1, 2, number, number, seed=seed)
        chosen = select_blocks(logits, keep, None, None)
        assert (chosen.sum(-1) == min(keep, number)).all()
        lowest = logits.masked_fill(~chosen, INFINITY).amin(-1)
        assert (lowest >= logits.masked_fill(chosen, -INFINITY).amax(-1)).all()

    @given(st.lists(st.integers(0, 2), min_size=1, max_size=9), st.integers(1, 9))
    def test_of_equal_blocks_the_lower_index_wins(self, levels, keep):
        logits = torch.tensor(levels, dtype=torch.float64).expand(1, 1, len(levels), -1).contiguous()
        expected = sorted(sorted(range(len(levels)), key=lambda j: (-levels[j], j))[:keep])
        assert chosen_sets(select_blocks(logits, keep, None, None))[0] == expected
        assert chosen_sets(select_blocks(logits, keep, 1e-9, None))[0] == expected

    @pytest.mark.parametrize(
        ("top_p", "keep", "expected"),
        [
            (0.3, 1, [0]),
            (0.5, 1, [0, 1]),  # 0.5 is held by one block, but not more than 0.5: the paper's code takes one more
            (0.6, 1, [0, 1]),
            (0.8, 1, [0, 1, 2]),
            (0.3, 2, [0, 1]),
            (1.0, 1, [0, 1, 2, 3]),
        ],
    )
    def test_top_p_keeps_until_more_than_that_share_is_held(self, top_p, keep, expected):
        logits = torch.tensor([0.5, 0.25, 0.125, 0.125], dtype=torch.float64).log().expand(1, 1, 4, 4).contiguous()
        assert chosen_sets(select_blocks(logits, keep, top_p, None)) == [expected] * 4

    def test_a_top_p_of_1_keeps_all_whatever_the_rounding(self):
        assert select_blocks(normal(4, 4, 64, 64, dtype=torch.float32) * 3, 1, 1.0, None).all()

    def test_p_towards_zero_leaves_density_alone(self):
        logits = normal(2, 2, 9, 9)
        assert torch.equal(select_blocks(logits, 3, 1e-12, None), select_blocks(logits, 3, None, None))

    @given(st.integers(1, 8), st.integers(0, 4), st.floats(0.01, 1), st.floats(0, 0.5), st.integers(0, 10**6))
    def test_a_larger_budget_never_drops_a_block(self, keep, more, top_p, more_p, seed):
        logits = normal(1, 2, 8, 8, seed=seed).mul(3).round()  # rounded, so that there are ties
        small = select_blocks(logits, keep, top_p, None)
        assert (select_blocks(logits, keep + more, min(1.0, top_p + more_p), None) | ~small).all()
        assert (select_blocks(logits, keep + more, None, None) | ~select_blocks(logits, keep, None, None)).all()

    def test_forced_blocks_come_on_top_and_empty_ones_never(self):
        logits = normal(1, 2, 6, 6)
        logits[..., 2] = -INFINITY
        forced = torch.eye(6, dtype=torch.bool)
        chosen = select_blocks(logits, 2, None, forced)
        plain = select_blocks(logits, 2, None, None)
        assert torch.equal(chosen, (plain | forced) & (torch.arange(6) != 2))
        assert not select_blocks(logits, 6, None, None)[..., 2].any()
        assert not select_blocks(logits, 1, 1.0, None)[..., 2].any()

    def test_blocks_too_faint_for_a_float_are_still_told_apart(self):
        logits = torch.tensor([0.0, -200.0, -150.0, -300.0]).expand(1, 1, 4, 4).contiguous()
        assert chosen_sets(select_blocks(logits, 2, None, None))[0] == [0, 2]


class TestGate:
    def test_it_weighs_gain_against_error_block_by_block(self):
        q, k, dq, dk = (normal(1, 2, 5, 3, seed=s) for s in range(4))
        dq, dk = dq.abs() * 0.3, dk.abs() * 0.3
        gate = gain_error_gate(q, k, dq, dk)
        assert 0 < gate.double().mean() < 1
        for h in range(2):
            for i in range(5):
                for j in range(5):
                    error = abs(float(dq[0, h, i] @ k[0, h, j])) + abs(float(q[0, h, i] @ dk[0, h, j]))
                    assert bool(gate[0, h, i, j]) == (abs(float(q[0, h, i] @ k[0, h, j])) > error)

    def test_equal_gain_and_error_keep_it_shut(self):
        one = torch.ones(1, 1, 1, 1)
        assert not gain_error_gate(one, one, one / 2, one / 2).any()

    def test_scaling_queries_against_keys_changes_nothing(self):
        q, k, dq, dk = (normal(1, 2, 5, 3, seed=s) for s in range(4))
        dq, dk = dq.abs() * 0.3, dk.abs() * 0.3
        assert torch.equal(gain_error_gate(q, k, dq, dk), gain_error_gate(4 * q, k / 4, 4 * dq, dk / 4))

    def test_centred_keys_forget_a_common_offset_by_true_counts(self):
        """The paper's gate does not (defect D10)."""
        tokens, offset = normal(1, 2, 11, 3), normal(1, 2, 1, 3, seed=1) * 5
        counts = block_counts(11, 4, None, tokens.device)
        centred = center_keys(block_means(tokens, counts, 4), counts)
        moved = center_keys(block_means(tokens + offset, counts, 4), counts)
        torch.testing.assert_close(centred, moved)
        torch.testing.assert_close(
            centred, block_means(tokens, counts, 4) - tokens.mean(2, keepdim=True), rtol=0, atol=1e-12
        )


class TestMerge:
    def test_the_weight_of_the_exact_part_and_what_is_added_back_make_one(self):
        """Oracle 2."""
        attention = normal(1, 2, 6, 6).softmax(-1)
        chosen, gate = normal(1, 2, 6, 6, seed=1) > 0.5, normal(1, 2, 6, 6, seed=2) > 0
        factor, weights = rectification(attention, chosen, gate)
        torch.testing.assert_close(factor + weights.sum(-1), torch.ones(1, 2, 6, dtype=torch.float64))
        assert torch.equal(weights != 0, ~chosen & gate)
        assert torch.equal(weights[weights != 0], attention[weights != 0])

    def test_a_shut_gate_leaves_plain_sparse_attention(self):
        attention, chosen = normal(1, 2, 3, 3).softmax(-1), torch.eye(3, dtype=torch.bool).expand(1, 2, 3, 3)
        factor, weights = rectification(attention, chosen, torch.zeros_like(chosen))
        sparse = normal(1, 2, 10, 4)
        assert (factor == 1).all()
        assert torch.equal(merge(sparse.clone(), factor, weights, normal(1, 2, 3, 4), 4), sparse)

    def test_each_token_gets_its_blocks_correction(self):
        sparse, values = normal(1, 2, 10, 4), normal(1, 2, 3, 4, seed=1)
        weights = normal(1, 2, 3, 3, seed=2).softmax(-1) / 2
        factor = 1 - weights.sum(-1)
        merged = merge(sparse.clone(), factor, weights, values, 4)
        for token in range(10):
            i = token // 4
            for h in range(2):
                expected = factor[0, h, i] * sparse[0, h, token] + weights[0, h, i] @ values[0, h]
                torch.testing.assert_close(merged[0, h, token], expected)


def test_blocks_that_are_split_differently_do_not_pool_alike():
    """What the other tests compare would be no test if pooling ignored the tokens."""
    q, _, _ = random_qkv(64)
    counts = block_counts(64, 16, None, q.device)
    assert not torch.allclose(block_means(q, counts, 16), block_means(q.roll(8, 2), counts, 16))
