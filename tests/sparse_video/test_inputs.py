"""Bad tensors and settings: refused with what is wrong and what is allowed."""

from __future__ import annotations

import json

import pytest
import torch

from plugins.sparse_video.attention import rectified_attention
from plugins.sparse_video.config import RectifiedAttentionConfig
from plugins.sparse_video.errors import SparseVideoInputError
from tests.sparse_video.oracles import random_qkv

SMALL = RectifiedAttentionConfig(block_size=16, min_tokens=0)


def attend(query, key, value, executor="reference", **settings):
    return rectified_attention(query, key, value, config=SMALL, executor=executor, **settings)


class TestTensors:
    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"grid": (3, 5, 7)}, r"grid is \(3, 5, 7\), but there are 100 visual tokens"),
            ({"grid": (10, 10)}, "frames, rows, columns"),
            ({"text_tokens": 100}, "text_tokens is 100 of 100 tokens"),
            ({"text_tokens": -1}, "text_tokens is -1"),
            ({"key_mask": torch.ones(1, 99, dtype=torch.bool)}, r"key_mask is torch.bool \(1, 99\)"),
            ({"key_mask": torch.ones(1, 100)}, "key_mask is torch.float32"),
            ({"executor": "turbo"}, "turbo"),
        ],
    )
    def test_it_says_what_is_wrong_and_what_is_allowed(self, changes, message):
        with pytest.raises(SparseVideoInputError, match=message):
            attend(*random_qkv(100), **changes)

    def test_tensors_that_do_not_fit_each_other_are_refused(self):
        q, k, v = random_qkv(100)
        with pytest.raises(SparseVideoInputError, match=r"\[batch, heads, tokens, head_dim\]"):
            attend(q, k[:, :1], v)
        with pytest.raises(SparseVideoInputError, match="float32"):
            attend(q, k, v.float())

    def test_gradients_are_refused_and_not_silently_lost(self):
        q, k, v = random_qkv(100)
        q.requires_grad_()
        with pytest.raises(SparseVideoInputError, match="no_grad"):
            attend(q, k, v)
        with torch.no_grad():
            attend(q, k, v)


class TestSettings:
    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"density": 0}, "above 0 and at most 1"),
            ({"density": 25}, "for 25 % write 0.25"),
            ({"density": float("nan")}, "nan"),
            ({"density": "high"}, "'high'"),
            ({"top_p": 1.5}, "top_p"),
            ({"block_size": 0}, "block_size"),
            ({"block_size": 64.0}, "whole number"),
            ({"order": "hilbert"}, "'gilbert', 'tile', 'linear'"),
            ({"rectify": True}, "'paper', 'centroid', 'none'"),
            ({"centroid_size": 0}, "1 or more"),
            ({"centroid_size": 48}, "divides block_size, which is 128"),
            ({"gate": "none"}, "'centered', 'paper'"),
            ({"neighbors": 3}, "True or False"),
            ({"dense_layers": -0.1}, "from 0 to 1"),
            ({"dense_steps": 1.1}, "from 0 to 1"),
            ({"min_tokens": -1}, "0 or more"),
            ({"sparsity": 0.8}, "unknown setting sparsity; the settings are density, top_p"),
        ],
    )
    def test_settings_out_of_range_are_refused(self, changes, message):
        with pytest.raises(SparseVideoInputError, match=message):
            RectifiedAttentionConfig().replace(**changes)

    def test_settings_survive_json(self):
        config = RectifiedAttentionConfig(density=0.125, top_p=0.3, order="tile", dense_steps=0.1)
        assert RectifiedAttentionConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config
        assert config.replace(density=0.5).density == 0.5
        assert config.density == 0.125
