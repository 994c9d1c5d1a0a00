"""The checker reads rendered clips back right, and says no to wrong ones."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from plugins.sparse_video.checker import check_clip, colour_map, parse_prompt, summarise
from plugins.sparse_video.errors import SparseVideoInputError
from plugins.sparse_video.evaluate import changed
from plugins.sparse_video.scenes import COLOURS, SHAPES, describe, render, sample_scene

SIZE: dict[str, Any] = {"frames": 57, "height": 96, "width": 96}


@pytest.fixture(scope="module")
def one_shape_clips() -> list[tuple[np.ndarray, str]]:
    scenes = [sample_scene(seed, **SIZE, held_out=None, shapes=1) for seed in range(24)]
    return [(render(scene, **SIZE), describe(scene)) for scene in scenes]


def test_it_reads_single_shapes_without_a_mistake(one_shape_clips):
    verdicts = [verdict for clip, prompt in one_shape_clips for verdict in check_clip(clip, prompt)]
    shares = summarise(verdicts)
    assert shares["fidelity"] == 1.0
    assert shares["shapes"] == 24


def test_it_reads_crowded_clips_mostly_right():
    scenes = [sample_scene(seed, **SIZE, held_out=None, shapes=2 + seed % 2) for seed in range(12)]
    verdicts = [verdict for scene in scenes for verdict in check_clip(render(scene, **SIZE), describe(scene))]
    shares = summarise(verdicts)
    assert shares["colour"] > 0.95
    assert shares["fidelity"] > 0.75


def test_floats_and_bytes_are_read_alike(one_shape_clips):
    clip, prompt = one_shape_clips[0]
    assert check_clip(clip, prompt) == check_clip(clip.astype(np.float32) / 255, prompt)


def test_a_wrong_colour_shape_or_motion_is_called_wrong(one_shape_clips):
    for clip, prompt in one_shape_clips[:12]:
        _, colour, shape, *_ = prompt.split()
        other_colour = next(name for name in COLOURS if name != colour)
        other_shape = next(name for name in SHAPES if name != shape)
        assert not check_clip(clip, prompt.replace(colour, other_colour))[0].colour
        assert not check_clip(clip, prompt.replace(shape, other_shape))[0].shape


def test_a_clip_played_backwards_moves_the_other_way(one_shape_clips):
    moving = [(clip, prompt) for clip, prompt in one_shape_clips if "moves" in prompt]
    assert moving
    for clip, prompt in moving:
        assert check_clip(clip[::-1], prompt)[0].direction is False


def test_an_empty_clip_shows_nothing():
    clip = np.full((17, 96, 96, 3), 120, np.uint8)
    verdict = check_clip(clip, "a red square moves right on sand")[0]
    assert (verdict.colour, verdict.shape, verdict.motion, verdict.direction) == (False, False, False, False)


def test_noise_is_not_read_as_right():
    clip = np.random.default_rng(0).integers(0, 255, (17, 96, 96, 3), dtype=np.uint8)
    assert not check_clip(clip, "a red star rotates on sand")[0].right


def test_shapes_that_only_one_of_two_clips_has_right_are_counted_as_lost_or_gained(one_shape_clips):
    clip, prompt = one_shape_clips[0]
    right, wrong = check_clip(clip, prompt), check_clip(np.zeros_like(clip), prompt)
    assert changed(dense=[*right, *right, *wrong, *wrong], own=[*right, *wrong, *wrong, *right]) == {
        "shapes_lost": 1,
        "shapes_gained": 1,
    }
    assert changed(dense=[*right, *right], own=[*wrong, *wrong]) == {"shapes_lost": 2, "shapes_gained": 0}


def test_a_direction_is_judged_only_where_one_was_asked_for():
    clip = np.full((17, 96, 96, 3), 120, np.uint8)
    assert check_clip(clip, "a red star rotates on sand")[0].direction is None


def test_each_colour_is_told_from_the_others():
    pixels = np.array([COLOURS[name] for name in COLOURS], np.float32) / 255
    assert colour_map(pixels).tolist() == list(range(len(COLOURS)))


def test_a_shape_named_without_a_motion_stays():
    hidden, front = parse_prompt("a red square moves right behind a green circle in the sky")
    assert (hidden.motion, front.motion) == ("moves right", "stays")


def test_a_prompt_that_asks_for_nothing_known_is_refused_with_an_example():
    with pytest.raises(SparseVideoInputError, match="a red square moves right"):
        parse_prompt("a cat on a sofa")
