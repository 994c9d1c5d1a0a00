"""Patches are what transformers' own processor makes of the same screen."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from plugins.ui_action.patches import image_patches, video_patches

LIMITS = {"min_pixels": 3136, "max_pixels": 1_003_520}


def screen(width: int, height: int, seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


@pytest.mark.parametrize("size", [(252, 168), (168, 252), (196, 196), (300, 211)])
def test_an_image_is_as_transformers_own_processor_makes_it(size):
    image = screen(*size)
    theirs = Qwen2VLImageProcessorPil()(images=[image], return_tensors="np")
    ours = image_patches(image, **LIMITS)
    assert ours.grid == tuple(theirs["image_grid_thw"][0])
    np.testing.assert_allclose(ours.values, theirs["pixel_values"], atol=1e-5)


def test_a_clip_of_two_equal_frames_is_a_still():
    image = screen(84, 56)
    assert np.array_equal(video_patches([image, image], **LIMITS).values, image_patches(image, **LIMITS).values)


def test_an_odd_clip_repeats_its_last_frame():
    frames = [screen(84, 56, seed) for seed in range(3)]
    ours = video_patches(frames, **LIMITS)
    assert ours.grid == (2, 4, 6)
    assert np.array_equal(ours.values, video_patches([*frames, frames[-1]], **LIMITS).values)


def test_tokens_and_size_are_those_of_what_the_model_sees():
    ours = image_patches(screen(250, 170), **LIMITS)
    assert ours.size == (252, 168)
    assert ours.tokens == 54


def test_frames_of_two_sizes_are_refused():
    with pytest.raises(ValueError, match="give one size"):
        video_patches([screen(84, 56), screen(56, 84)], **LIMITS)
