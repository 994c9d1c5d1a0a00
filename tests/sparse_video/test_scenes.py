"""The generated world: same seed, same clip; prompts that tell what is seen; motions that are in the pixels."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plugins.sparse_video.checker import parse_prompt
from plugins.sparse_video.scenes import (
    BACKGROUNDS,
    COLOURS,
    DIRECTIONS,
    HELD_OUT,
    MOTIONS,
    SHAPES,
    MovingShape,
    Scene,
    coverage,
    describe,
    is_held_out,
    render,
    sample_scene,
    shape_path,
    worded,
)

SIZE: dict[str, Any] = {"frames": 17, "height": 64, "width": 64}


def scene_of(shape: str = "square", motion: str = "stays") -> Scene:
    return Scene("in the sky", (MovingShape("red", shape, motion, x=0.5, y=0.5, radius=0.2),))


def test_the_same_seed_gives_the_same_clip_and_another_seed_another():
    first, again, other = (sample_scene(seed, **SIZE) for seed in (3, 3, 4))
    assert first == again != other
    np.testing.assert_array_equal(render(first, **SIZE), render(again, **SIZE))


def test_a_clip_is_bytes_of_the_size_asked_for():
    clip = render(sample_scene(0, **SIZE), frames=5, height=48, width=80)
    assert clip.shape == (5, 48, 80, 3)
    assert clip.dtype == np.uint8


@pytest.mark.parametrize(
    ("scene", "prompt"),
    [
        (scene_of(motion="moves right"), "a red square moves right in the sky"),
        (
            Scene(
                "on sand",
                (
                    MovingShape("red", "square", "moves left", 0.5, 0.5, 0.2, behind=True),
                    MovingShape("green", "circle", "stays", 0.5, 0.5, 0.2),
                    MovingShape("blue", "star", "grows", 0.5, 0.5, 0.2),
                ),
            ),
            "a red square moves left behind a green circle and a blue star grows on sand",
        ),
        (
            Scene(
                "in a dark room",
                tuple(MovingShape(colour, "star", "rotates", 0.5, 0.5, 0.2) for colour in ("red", "white", "blue")),
            ),
            "a red star rotates, a white star rotates and a blue star rotates in a dark room",
        ),
    ],
)
def test_a_scene_is_described_in_words(scene, prompt):
    assert describe(scene) == prompt


def test_every_word_of_a_shape_points_to_it():
    scene = sample_scene(5, **SIZE, shapes=3)
    for word, index in worded(scene):
        if word in COLOURS:
            assert index is not None
            assert scene.shapes[index].colour == word


@given(st.integers(0, 10_000))
@settings(max_examples=60, deadline=None)
def test_shapes_stay_inside_the_frame_where_they_fit(seed):
    scene = sample_scene(seed, frames=57, height=96, width=96, held_out=None, shapes=1)
    path = shape_path(scene.shapes[0], 57, 96)
    if np.ptp(path.x) + 2 * path.radius.max() <= 0.97 and np.ptp(path.y) + 2 * path.radius.max() <= 0.97:
        assert (path.x - path.radius).min() >= -0.03
        assert (path.x + path.radius).max() <= 1.03
        assert (path.y - path.radius).min() >= -0.03
        assert (path.y + path.radius).max() <= 1.03


@given(st.integers(0, 10_000), st.sampled_from([1, 2, 3]))
@settings(max_examples=60, deadline=None)
def test_a_path_is_centred_along_its_motion(seed, shapes):
    scene = sample_scene(seed, frames=57, height=96, width=96, held_out=None, shapes=shapes)
    for shape in scene.shapes:
        path = shape_path(shape, 57, 96)
        for track in (path.x, path.y):
            if np.ptp(track) > 0:
                assert (track.min() + track.max()) / 2 == pytest.approx(0.5)


def test_two_free_shapes_are_seldom_on_top_of_each_other():
    overlaps = []
    for seed in range(60):
        scene = sample_scene(seed, frames=57, height=96, width=96, held_out=None, shapes=2)
        if not scene.shapes[0].behind:
            one, other = (shape_path(shape, 57, 96) for shape in scene.shapes)
            gap = np.hypot(one.x - other.x, one.y - other.y) - one.radius - other.radius
            overlaps.append(bool((gap < 0).any()))
    assert np.mean(overlaps) < 0.15


@given(st.integers(0, 10_000), st.sampled_from([1, 2, 3]))
@settings(max_examples=60, deadline=None)
def test_the_prompt_names_the_shapes_that_are_there(seed, shapes):
    scene = sample_scene(seed, **SIZE, held_out=None, shapes=shapes)
    asked = {(each.colour, each.shape, each.motion) for each in parse_prompt(describe(scene))}
    assert asked == {(each.colour, each.shape, each.motion) for each in scene.shapes}
    assert len({each.colour for each in scene.shapes}) == shapes


def test_training_never_sees_a_held_out_combination_and_evaluation_sees_only_those():
    for seed in range(150):
        shapes = sample_scene(seed, **SIZE).shapes
        assert not any(is_held_out(each.colour, each.shape, each.motion) for each in shapes)
        held = sample_scene(seed, **SIZE, held_out=True, shapes=1).shapes[0]
        assert is_held_out(held.colour, held.shape, held.motion)


def test_about_one_combination_in_eight_is_held_out():
    every = [(colour, shape, motion) for colour in COLOURS for shape in SHAPES for motion in MOTIONS]
    assert 0.5 / HELD_OUT < np.mean([is_held_out(*each) for each in every]) < 2 / HELD_OUT


@pytest.mark.parametrize("name", DIRECTIONS)
def test_a_shape_moves_the_way_its_prompt_says(name):
    layers = coverage(scene_of(motion=f"moves {name}"), **SIZE)[0]
    down, across = np.indices(layers.shape[1:])
    centre = [((layer * across).sum() / layer.sum(), (layer * down).sum() / layer.sum()) for layer in layers]
    moved = np.array(centre[-1]) - centre[0]
    assert np.dot(moved, DIRECTIONS[name]) == pytest.approx(SIZE["frames"] - 1, rel=0.02)


def test_a_growing_shape_covers_more_and_more():
    areas = coverage(scene_of("circle", "grows"), **SIZE)[0].sum((1, 2))
    assert all(later > earlier for earlier, later in pairwise(areas))


def test_a_shape_in_front_hides_what_is_behind():
    scene = Scene(
        "on sand",
        (
            MovingShape("red", "square", "moves right", 0.5, 0.5, 0.1, behind=True),
            MovingShape("green", "circle", "stays", 0.5, 0.5, 0.25),
        ),
    )
    hidden, front = coverage(scene, frames=1, height=64, width=64)
    assert hidden.sum() < 1
    assert front.sum() > 600


def test_each_background_looks_different():
    means = [
        tuple(render(Scene(name, scene_of().shapes), frames=1, height=64, width=64)[0, :8, :8].mean((0, 1)).round())
        for name in BACKGROUNDS
    ]
    assert len(set(means)) == len(BACKGROUNDS)
