"""The whole call: exact where it should be exact, equal to its definition elsewhere, with every executor there is."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from plugins.sparse_video import attention
from plugins.sparse_video.attention import rectified_attention
from plugins.sparse_video.config import RectifiedAttentionConfig
from plugins.sparse_video.errors import SparseVideoInputError
from plugins.sparse_video.executors import EXECUTORS, get_executor
from plugins.sparse_video.executors.choose import choose_executor
from tests.sparse_video.oracles import (
    TOLERANCE,
    available_executors,
    devices,
    random_qkv,
    relative_error,
    smooth_qkv,
    written_out,
)

SMALL = RectifiedAttentionConfig(block_size=16, min_tokens=0)
RUNNABLE = [
    (name, dtype, device) for device in devices() for dtype in TOLERANCE for name in available_executors(device, dtype)
]
PLAIN = [case for case in RUNNABLE if case[0] != "flex"]
# Compiling takes ten seconds a shape and type: one of each device goes through one test here, the rest is tested
# beside the executor itself.
COMPILED = [case for case in RUNNABLE if case[0] == "flex" and case[1] == torch.float32]


def over(cases):
    ids = [f"{name}-{str(dtype).removeprefix('torch.')}-{device}" for name, dtype, device in cases]
    return pytest.mark.parametrize(("executor", "dtype", "device"), cases, ids=ids)


every_executor, each_executor = over(PLAIN + COMPILED), over(PLAIN)


def on(device, *tensors):
    return [tensor.to(device) for tensor in tensors]


def attend(query, key, value, executor="reference", config=SMALL, **settings):
    return rectified_attention(query, key, value, config=config, executor=executor, **settings)


def some_masked(batch, tokens, first, kept):
    """A mask that keeps only so many, by sample, of the tokens from `first` on."""
    mask = torch.ones(batch, tokens, dtype=torch.bool)
    for sample, number in enumerate(kept):
        mask[sample, first + number :] = False
    return mask


def make_blocks_constant(tensor):
    """In place: every token of a block of 16 becomes its first."""
    for block in tensor.split(16, dim=2):
        block.copy_(block[:, :, :1].clone())


class TestEveryExecutor:
    """Held against the definition in fp64: to 1e-10 in fp64, 1e-5 in fp32 and 2e-2 in bf16."""

    @every_executor
    def test_it_is_the_definition(self, executor, dtype, device):
        """Lists by head, a ragged tail, text last of which each sample has a different number of valid tokens."""
        self.check_definition(executor, dtype, device, "centroid")

    @each_executor
    @pytest.mark.parametrize("rectify", ["paper", "none"])
    def test_it_is_the_definition_of_each_variant(self, executor, dtype, device, rectify):
        self.check_definition(executor, dtype, device, rectify)

    def check_definition(self, executor, dtype, device, rectify):
        q, k, v = random_qkv(3 * 6 * 7 + 9, batch=2, heads=3, dim=32, dtype=dtype)
        mask = some_masked(2, 135, 126, (9, 4))
        settings: dict[str, Any] = {"grid": (3, 6, 7), "text_tokens": 9}
        config = SMALL.replace(rectify=rectify, neighbors=False, density=0.4)
        expected = written_out(q, k, v, config, key_mask=mask, **settings).output
        output = attend(*on(device, q, k, v), executor, config, key_mask=mask.to(device), **settings)
        assert output.dtype == dtype
        assert relative_error(output, expected) < TOLERANCE[dtype]

    @each_executor
    @pytest.mark.parametrize("text_first", [True, False])
    def test_text_on_either_side_and_masked_visual_tokens(self, executor, dtype, device, text_first):
        q, k, v = random_qkv(5 + 80, batch=2, dim=32, dtype=dtype, seed=1)
        mask = torch.rand(2, 85, generator=torch.Generator().manual_seed(3)) < 0.7
        mask[1, 20:60] = False  # whole blocks without a token
        settings: dict[str, Any] = {"text_tokens": 5, "text_first": text_first}
        expected = written_out(q, k, v, SMALL, key_mask=mask, **settings).output
        output = attend(*on(device, q, k, v), executor, key_mask=mask.to(device), **settings)
        assert relative_error(output, expected) < TOLERANCE[dtype]

    @each_executor
    def test_constant_blocks_give_full_attention_whatever_is_chosen(self, executor, dtype, device):
        """Oracle 3: no error of pooling, so the gate is open and the correction complete."""
        q, k, v = random_qkv(140 + 7, heads=2, dim=32, dtype=dtype)
        for tensor in (q, k):
            make_blocks_constant(tensor[:, :, :140])
        full = scaled_dot_product_attention(q.double(), k.double(), v.double())
        q, k, v = on(device, q, k, v)
        config = SMALL.replace(density=0.1, neighbors=False)
        for gate in ("paper", "centered"):
            output, stats = attend(q, k, v, executor, config.replace(gate=gate), text_tokens=7, return_stats=True)
            assert relative_error(output, full) < TOLERANCE[dtype]
            assert stats.density < 0.15
        plain = attend(q, k, v, executor, config.replace(rectify="none"), text_tokens=7)
        assert relative_error(plain, full) > 0.1

    @each_executor
    def test_centroids_give_full_attention_where_keys_are_constant_whatever_the_queries(self, executor, dtype, device):
        """Oracle 11; the paper's correction, one weight for a whole block of queries, does not."""
        q, k, v = random_qkv(140, dim=32, dtype=dtype)
        make_blocks_constant(k)
        full = scaled_dot_product_attention(q.double(), k.double(), v.double())
        q, k, v = on(device, q, k, v)
        config = SMALL.replace(density=0.1, neighbors=False)
        assert relative_error(attend(q, k, v, executor, config.replace(rectify="centroid")), full) < TOLERANCE[dtype]
        assert relative_error(attend(q, k, v, executor, config), full) > 0.1

    @each_executor
    def test_centroids_give_full_attention_where_queries_and_values_are_constant(self, executor, dtype, device):
        """However the keys of a block differ, they get the weight that they have: not their number, but their sum."""
        q, k, v = random_qkv(140, dim=32, dtype=dtype)
        for tensor in (q, v):
            make_blocks_constant(tensor)
        full = scaled_dot_product_attention(q.double(), k.double(), v.double())
        q, k, v = on(device, q, k, v)
        config = SMALL.replace(density=0.1, neighbors=False, rectify="centroid", centroid_size=16)
        assert relative_error(attend(q, k, v, executor, config), full) < TOLERANCE[dtype]

    @each_executor
    def test_constant_values_come_out_as_they_are(self, executor, dtype, device):
        """Oracle 6: the weights of every row sum to one."""
        q, k, _ = on(device, *random_qkv(100, dim=32, dtype=dtype))
        v = torch.full_like(q, 3.0)
        for rectify in ("paper", "centroid", "none"):
            output = attend(q, k, v, executor, SMALL.replace(rectify=rectify))
            assert relative_error(output, v) < TOLERANCE[dtype]

    @each_executor
    def test_a_sample_with_nothing_to_see_is_zero_and_not_nan(self, executor, dtype, device):
        q, k, v = random_qkv(70 + 6, batch=2, dim=32, dtype=dtype)
        mask = torch.ones(2, 76, dtype=torch.bool, device=device)
        mask[0] = False
        for rectify in ("paper", "centroid", "none"):
            config = SMALL.replace(rectify=rectify)
            output = attend(*on(device, q, k, v), executor, config, text_tokens=6, key_mask=mask)
            assert (output[0] == 0).all()
            expected = written_out(q[1:], k[1:], v[1:], config, text_tokens=6).output
            assert relative_error(output[1:], expected) < TOLERANCE[dtype]

    @each_executor
    def test_it_leaves_its_inputs_alone(self, executor, dtype, device):
        q, k, v = on(device, *random_qkv(100, dim=32, dtype=dtype))
        kept = [tensor.clone() for tensor in (q, k, v)]
        attend(q, k, v, executor)
        assert all(torch.equal(a, b) for a, b in zip((q, k, v), kept, strict=True))


class TestDense:
    @pytest.mark.parametrize("dtype", TOLERANCE)
    def test_density_1_is_dense_attention_bit_for_bit(self, dtype):
        q, k, v = random_qkv(200, batch=2, dtype=dtype)
        config = SMALL.replace(density=1.0)
        output, stats = attend(q, k, v, config=config, grid=(5, 5, 8), return_stats=True)
        assert torch.equal(output, scaled_dot_product_attention(q, k, v))
        assert stats.fallback == "density is 1"
        assert (stats.density, stats.rectification_factor, stats.compensated_share) == (1, 1, 0)
        mask = some_masked(2, 200, 150, (50, 20))
        masked = attend(q, k, v, config=config, text_tokens=50, key_mask=mask)
        assert torch.equal(masked, scaled_dot_product_attention(q, k, v, attn_mask=mask[:, None, None]))

    @pytest.mark.parametrize("rectify", ["paper", "centroid", "none"])
    def test_choosing_every_block_the_sparse_way_is_dense_too(self, rectify):
        """Oracle 1: R is 1, nothing is added back."""
        q, k, v = random_qkv(200 + 11)
        config = SMALL.replace(top_p=1.0, rectify=rectify)
        output, stats = attend(q, k, v, config=config, grid=(5, 5, 8), text_tokens=11, return_stats=True)
        assert relative_error(output, scaled_dot_product_attention(q, k, v)) < 1e-12
        assert stats.fallback is None
        assert stats.density == 1
        assert stats.rectification_factor == pytest.approx(1, abs=1e-12)
        assert stats.estimated_recall == pytest.approx(1, abs=1e-12)

    @pytest.mark.parametrize(
        ("tokens", "changes", "reason"),
        [
            (200, {"min_tokens": 201}, "200 visual tokens are fewer than min_tokens = 201"),
            (16, {}, "16 visual tokens are one block of 16"),
            (7, {}, "7 visual tokens are one block of 16"),
            (40, {"density": 0.9}, "density 0.9 of 3 blocks is all of them"),
        ],
    )
    def test_it_falls_back_and_says_why(self, tokens, changes, reason):
        q, k, v = random_qkv(tokens + 3)
        output, stats = attend(q, k, v, config=SMALL.replace(**changes), text_tokens=3, return_stats=True)
        assert torch.equal(output, scaled_dot_product_attention(q, k, v))
        assert stats.fallback.startswith(reason)
        assert (stats.executor, stats.density, stats.recall_per_head) == ("dense", 1, (1, 1))

    def test_the_dense_work_is_done_by_the_callers_function(self):
        q, k, v = random_qkv(100 + 6)
        calls = []

        def dense(query, key, value, mask):
            calls.append((query.shape[2], key.shape[2], None if mask is None else tuple(mask.shape)))
            return torch.full_like(query, 7.0)

        output = attend(q, k, v, text_tokens=6, dense=dense)
        assert (output[:, :, 100:] == 7).all()
        assert not (output[:, :, :100] == 7).any()
        mask = torch.ones(1, 106, dtype=torch.bool)
        assert (attend(q, k, v, config=SMALL.replace(density=1.0), key_mask=mask, dense=dense) == 7).all()
        assert calls == [(6, 106, None), (106, 106, (1, 1, 1, 106))]

    def test_nothing_to_see_is_zero_even_where_the_callers_function_gives_nan(self):
        q, k, v = random_qkv(100 + 6, batch=2)
        mask = torch.ones(2, 106, dtype=torch.bool)
        mask[0] = False

        def dense(query, key, value, mask):
            return (query @ key.mT).masked_fill(~mask, -torch.inf).softmax(-1) @ value

        for density in (0.25, 1.0):
            config = SMALL.replace(density=density)
            output = attend(q, k, v, config=config, text_tokens=6, key_mask=mask, dense=dense)
            assert (output[0] == 0).all()
            assert output[1].isfinite().all()

    def test_text_queries_see_every_valid_token(self):
        q, k, v = random_qkv(100 + 6, batch=2)
        mask = some_masked(2, 106, 100, (6, 2))
        full = scaled_dot_product_attention(q, k, v, attn_mask=mask[:, None, None])
        output = attend(q, k, v, text_tokens=6, key_mask=mask)
        assert relative_error(output[:, :, 100:], full[:, :, 100:]) < 1e-12
        assert relative_error(output[:, :, :100], full[:, :, :100]) > 1e-3


class TestLaws:
    def test_values_scaled_and_shifted_come_out_scaled_and_shifted(self):
        q, k, v = random_qkv(100)
        torch.testing.assert_close(attend(q, k, 3 * v + 2), 3 * attend(q, k, v) + 2)

    @pytest.mark.parametrize("rectify", ["paper", "centroid", "none"])
    def test_scaling_queries_against_keys_changes_nothing(self, rectify):
        q, k, v = random_qkv(100)
        config = SMALL.replace(rectify=rectify)
        assert torch.equal(attend(4 * q, k / 4, v, config=config), attend(q, k, v, config=config))

    def test_an_offset_common_to_all_keys_changes_nothing_with_the_centred_gate(self):
        """Defect D10: with the paper's gate it does."""
        q, k, v = smooth_qkv((4, 8, 8), heads=2, dim=16, strength=1.5)
        q, k, v = q.double(), k.double(), v.double()
        offset = random_qkv(1, dim=16)[0] * 3
        for gate, same in (("centered", True), ("paper", False)):
            config = SMALL.replace(gate=gate, neighbors=False)
            plain, before = attend(q, k, v, config=config, grid=(4, 8, 8), return_stats="map")
            moved, after = attend(q, k + offset, v, config=config, grid=(4, 8, 8), return_stats="map")
            assert before.compensated_share > 0.01
            assert np.array_equal(before.block_map, after.block_map)
            assert (relative_error(moved, plain) < 1e-10) == same

    def test_shuffling_tokens_inside_their_blocks_shuffles_the_output(self):
        q, k, v = random_qkv(100)
        shuffle = torch.cat([torch.randperm(len(part)) + part[0] for part in torch.arange(100).split(16)])
        expected = attend(q, k, v)[:, :, shuffle]
        assert relative_error(attend(q[:, :, shuffle], k[:, :, shuffle], v[:, :, shuffle]), expected) < 1e-12

    def test_putting_whole_blocks_elsewhere_moves_the_output_with_them(self):
        q, k, v = random_qkv(96)
        config = SMALL.replace(neighbors=False)  # which blocks touch would change
        moved = torch.cat([torch.arange(96).split(16)[n] for n in (3, 0, 5, 1, 4, 2)])
        output = attend(q[:, :, moved], k[:, :, moved], v[:, :, moved], config=config)
        assert relative_error(output, attend(q, k, v, config=config)[:, :, moved]) < 1e-12

    @pytest.mark.parametrize("order", ["gilbert", "tile"])
    def test_tokens_come_back_to_where_they_were(self, order):
        """With nothing left out the order can make no difference."""
        q, k, v = random_qkv(3 * 5 * 7)
        config = SMALL.replace(order=order, top_p=1.0)
        assert (
            relative_error(attend(q, k, v, config=config, grid=(3, 5, 7)), scaled_dot_product_attention(q, k, v))
            < 1e-12
        )

    def test_samples_of_a_batch_do_not_see_each_other(self):
        q, k, v = random_qkv(100 + 8, batch=3)
        mask = some_masked(3, 108, 100, (8, 0, 3))
        together = attend(q, k, v, text_tokens=8, key_mask=mask)
        for b in range(3):
            alone = attend(*(x[b : b + 1] for x in (q, k, v)), text_tokens=8, key_mask=mask[b : b + 1])
            assert relative_error(together[b : b + 1], alone) < 1e-12

    def test_padding_text_is_as_good_as_no_text(self):
        q, k, v = random_qkv(100 + 8)
        padded = attend(q, k, v, text_tokens=8, key_mask=some_masked(1, 108, 100, (3,)))
        cut = attend(*(x[:, :, :103] for x in (q, k, v)), text_tokens=3)
        assert relative_error(padded[:, :, :103], cut) < 1e-12

    def test_the_memory_layout_of_the_models_makes_no_difference_and_is_kept(self):
        q, k, v = random_qkv(105, batch=2)
        expected = attend(q, k, v, grid=(3, 5, 7))
        strided = [x.transpose(1, 2).contiguous().transpose(1, 2) for x in (q, k, v)]
        output = attend(*strided, grid=(3, 5, 7))
        assert relative_error(output, expected) < 1e-12
        assert output.stride() == strided[0].stride()


class TestQuality:
    """On smooth fields with noise, as activations of a video are: the correction corrects."""

    def error(self, seed, strength, **changes):
        q, k, v = smooth_qkv((8, 16, 16), seed=seed, strength=strength)
        config = RectifiedAttentionConfig(density=0.19, min_tokens=0, neighbors=False).replace(**changes)
        return relative_error(attend(q, k, v, config=config, grid=(8, 16, 16)), scaled_dot_product_attention(q, k, v))

    @pytest.mark.parametrize("seed", [0, 1])
    def test_rectified_beats_sparse_and_centroids_beat_both(self, seed):
        sparse = self.error(seed, 1.0, rectify="none")
        assert self.error(seed, 1.0, rectify="paper") < 0.97 * sparse
        assert self.error(seed, 1.0, rectify="centroid") < 0.6 * sparse

    def test_compact_blocks_beat_rows(self):
        rows = self.error(0, 1.5, order="linear")
        assert self.error(0, 1.5, order="gilbert") < 0.98 * rows
        assert self.error(0, 1.5, order="tile") < 0.98 * rows


class TestStats:
    @pytest.mark.parametrize("rectify", ["paper", "centroid", "none"])
    def test_they_are_what_the_definition_says(self, rectify):
        q, k, v = random_qkv(100 + 9, batch=2, heads=3)
        settings: dict[str, Any] = {"text_tokens": 9, "key_mask": some_masked(2, 109, 100, (9, 4))}
        config = SMALL.replace(rectify=rectify)
        _, stats = attend(q, k, v, config=config, return_stats="map", **settings)
        truth = written_out(q, k, v, config, **settings)
        tokens = torch.tensor([16.0] * 6 + [4.0]).double()  # a mean over queries: the last block counts less
        recall = ((truth.attention * truth.chosen).sum(-1) + truth.text_attention) @ tokens / 100
        factor = float((truth.factor @ tokens / 100).mean())
        assert stats.density == pytest.approx(float(truth.chosen.double().mean()))
        assert stats.estimated_recall == pytest.approx(float(recall.mean()))
        assert stats.recall_per_head == pytest.approx(recall.mean(0).tolist())
        assert stats.rectification_factor == pytest.approx(factor)
        assert stats.compensated_share == pytest.approx(1 - factor)
        assert stats.block_map.shape == (3, 7, 7)
        assert stats.block_map.dtype == np.float32
        assert np.array_equal(stats.block_map, truth.chosen.float().mean(0).numpy())
        assert (stats.executor, stats.fallback) == ("reference", None)

    def test_density_is_of_blocks_that_hold_tokens(self):
        q, k, v = random_qkv(96)
        mask = torch.ones(1, 96, dtype=torch.bool)
        mask[:, 32:] = False
        _, stats = attend(q, k, v, config=SMALL.replace(top_p=1.0), key_mask=mask, return_stats=True)
        assert stats.density == 1
        assert stats.block_map is None

    def test_without_stats_only_the_output_comes_back(self):
        assert isinstance(attend(*random_qkv(100)), torch.Tensor)


class TestExecutors:
    def test_one_may_be_named_handed_over_or_chosen_before(self):
        q, k, v = random_qkv(100)
        choice = choose_executor("reference", q.device, q.dtype)
        outputs = [attend(q, k, v, executor) for executor in ("reference", get_executor("reference"), choice)]
        assert torch.equal(outputs[0], outputs[1])
        assert torch.equal(outputs[0], outputs[2])

    def test_they_are_known_by_name_and_built_once(self):
        assert list(EXECUTORS) == ["reference", "gather", "flex", "xformers"]
        assert EXECUTORS["reference"] is get_executor("reference")
        with pytest.raises(SparseVideoInputError, match=r"'turbo'.*'auto', 'reference'"):
            get_executor("turbo")

    def test_auto_stays_within_what_each_type_allows(self):
        q, k, v = random_qkv(100)
        output, stats = attend(q, k, v, "auto", return_stats=True)
        assert stats.executor in available_executors("cpu", q.dtype)
        assert relative_error(output, written_out(q, k, v, SMALL).output) < 1e-10


@pytest.mark.parametrize("rectify", ["paper", "centroid", "none"])
@pytest.mark.parametrize("text_tokens", [0, 5])
def test_heads_taken_in_parts_give_what_all_at_once_give(monkeypatch, rectify, text_tokens):
    generator = torch.Generator().manual_seed(0)
    query, key, value = (torch.randn(2, 3, 100 + text_tokens, 8, generator=generator) for _ in range(3))
    config = RectifiedAttentionConfig(block_size=16, rectify=rectify, min_tokens=1)
    options: dict[str, Any] = {"config": config, "grid": (4, 5, 5), "text_tokens": text_tokens, "executor": "reference"}
    whole, whole_stats = rectified_attention(query, key, value, **options, return_stats="map")
    monkeypatch.setattr(attention, "PART_BYTES", 1)
    parts, parts_stats = rectified_attention(query, key, value, **options, return_stats="map")
    torch.testing.assert_close(parts, whole)
    assert parts_stats.recall_per_head == pytest.approx(whole_stats.recall_per_head)
    np.testing.assert_array_equal(parts_stats.block_map, whole_stats.block_map)
    assert parts_stats.density == pytest.approx(whole_stats.density)
