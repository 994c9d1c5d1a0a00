"""A comparison: what is called, in what order, and what is not counted."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from plugins.sparse_video.compare import Variant, compare, variants
from plugins.sparse_video.config import RectifiedAttentionConfig
from plugins.sparse_video.errors import SparseVideoInputError


class Recorder:
    """Stands in for a pipeline and keeps what it is called with."""

    def __init__(self) -> None:
        self.calls: list[dict[str, Any]] = []

    def attention_config(self) -> RectifiedAttentionConfig:
        return RectifiedAttentionConfig(density=0.25, dense_steps=0.1)

    def __call__(self, prompt: str, **arguments: Any) -> SimpleNamespace:
        self.calls.append(arguments)
        return SimpleNamespace(frames=[np.zeros((2, 16, 16, 3), np.float32)], run={})


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


def test_each_kind_warms_up_with_one_step_of_its_own_attention_before_any_clip(recorder):
    chosen = variants(["sparse", "centroid"], [0.5])
    samples = list(compare(recorder, "a red circle", chosen, [3], num_inference_steps=8))
    assert [sample.variant.label for sample in samples] == ["dense", "sparse 0.5", "centroid 0.5"]
    warm_ups, clips = recorder.calls[:3], recorder.calls[3:]
    assert all((call["num_inference_steps"], call["output_type"]) == (1, "latent") for call in warm_ups)
    assert "config" not in warm_ups[0]
    assert [call["config"].dense_steps for call in warm_ups[1:]] == [0, 0]
    assert warm_ups[2]["config"].rectify == "centroid"
    assert [call["num_inference_steps"] for call in clips] == [8, 8, 8]
    assert [call["attention"] for call in clips] == ["dense", "sparse", "rectified"]
    assert clips[2]["config"].dense_steps == 0.1


def test_every_seed_is_made_with_every_kind(recorder):
    samples = list(compare(recorder, "a red circle", [Variant("dense"), Variant("sparse", 0.5)], [1, 2]))
    assert [(sample.seed, sample.variant.method) for sample in samples] == [
        (1, "dense"),
        (1, "sparse"),
        (2, "dense"),
        (2, "sparse"),
    ]
    assert all(sample.ssim == pytest.approx(1) for sample in samples)


def test_an_unknown_kind_is_refused_with_those_there_are():
    with pytest.raises(SparseVideoInputError, match="choose from sparse, rectified, centroid"):
        variants(["fast"], [0.5])
