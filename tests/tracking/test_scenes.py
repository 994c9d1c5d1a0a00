"""The generated world: annotation that agrees with the pixels, sensors that fail where and only where they should."""

from __future__ import annotations

import pickle
from dataclasses import replace
from functools import cache
from itertools import combinations
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from plugins.tracking.errors import TrackingError
from plugins.tracking.events import events_to_frame
from plugins.tracking.scene_objects import MAX_OBJECTS, Layout, hsv
from plugins.tracking.scene_painting import paint, paint_surface
from plugins.tracking.scene_sensors import find_crossings
from plugins.tracking.scene_shapes import REACH, SHAPES, draw, signed_distance
from plugins.tracking.scenes import MODALITIES, Scene, generate_scene, random_scene, scene_events, tight_boxes

SHORT: dict[str, Any] = {"frames": 6, "size": (80, 96)}
LIGHT = np.array([0.5, -0.5, np.sqrt(0.5)])


@cache
def clip(seed: int, **conditions: Any) -> Scene:
    return generate_scene(seed, **(SHORT | conditions))


def contrasts(scene: Scene, modality: str) -> np.ndarray:
    """How far the mean colour of each visible object is from that of a ring around it, in grey levels."""
    found = []
    for picture, ids in zip(scene.frames[modality].astype(np.float64), scene.ids, strict=True):
        for number in range(1, len(scene.objects) + 1):
            mask = ids == number
            ring = ndimage.binary_dilation(mask, iterations=4) & ~ndimage.binary_dilation(mask) & (ids == 0)
            if mask.sum() > 40 and ring.sum() > 40:
                found.append(np.linalg.norm(picture[mask].mean(axis=0) - picture[ring].mean(axis=0)))
    return np.array(found)


def all_contrasts(modality: str, **conditions: Any) -> np.ndarray:
    return np.concatenate([contrasts(clip(seed, **conditions), modality) for seed in range(6)])


def test_the_same_seed_gives_the_same_scene_and_another_seed_another():
    first, again, other = generate_scene(3, **SHORT), generate_scene(3, **SHORT), generate_scene(4, **SHORT)
    assert first.boxes == again.boxes != other.boxes
    np.testing.assert_array_equal(first.ids, again.ids)
    for name in MODALITIES:
        np.testing.assert_array_equal(first.frames[name], again.frames[name])
        assert (first.frames[name] != other.frames[name]).any()


@pytest.mark.parametrize("size", [(64, 112), (128, 128)])
def test_every_sensor_gives_bytes_of_the_size_asked_for(size):
    scene = generate_scene(0, frames=4, size=size)
    assert len(scene) == 4
    assert set(scene.frames) == set(MODALITIES)
    for name in MODALITIES:
        assert scene.frames[name].shape == (4, *size, 3)
        assert scene.frames[name].dtype == np.uint8
        assert scene.present[name].all()
    assert scene.ids.shape == (4, *size)
    assert scene.ids.dtype == np.uint8


@given(seed=st.integers(0, 10_000), occlusion=st.booleans(), twins=st.booleans(), stride=st.integers(1, 4))
@settings(max_examples=25)
def test_boxes_and_fractions_agree_exactly_with_the_ids(seed, occlusion, twins, stride):
    scene = generate_scene(seed, frames=3, size=(64, 80), occlusion=occlusion, twins=twins, stride=stride)
    objects = len(scene.objects)
    assert [each.number for each in scene.objects] == list(range(1, objects + 1))
    assert scene.visible_fraction.shape == scene.fully_occluded.shape == (3, objects)
    for frame, ids in enumerate(scene.ids):
        assert set(scene.boxes[frame]) == set(np.unique(ids).tolist()) - {0}
        for number, (x0, y0, x1, y1) in scene.boxes[frame].items():
            down, across = np.nonzero(ids == number)
            assert (x0, y0, x1, y1) == (across.min(), down.min(), across.max() + 1, down.max() + 1)
        for number in range(1, objects + 1):
            fraction = scene.visible_fraction[frame, number - 1]
            assert 0 <= fraction <= 1
            assert (fraction == 0) == scene.fully_occluded[frame, number - 1] == (number not in scene.boxes[frame])


def test_the_box_of_a_known_mask():
    ids = np.zeros((2, 6, 8), np.uint8)
    ids[0, 2:4, 1:6] = 2
    assert tight_boxes(ids, 3) == ({2: (1, 2, 6, 4)}, {})


def test_a_lone_object_in_the_middle_is_wholly_visible_and_one_at_the_border_is_not():
    scene = clip(0, objects=1, frames=60, stride=4)
    inside = [
        all(min(x0, y0) > 0 and x1 < 96 and y1 < 80 for x0, y0, x1, y1 in boxes.values()) for boxes in scene.boxes
    ]
    whole = scene.visible_fraction[:, 0] == 1
    assert whole[inside].all()
    assert not whole.all()
    assert not scene.fully_occluded.any()


def test_an_object_can_be_prompted_from_the_first_frame_that_shows_most_of_it():
    for seed in range(12):
        scene = clip(seed, occlusion=True, twins=True)
        for number, frame in scene.first_prompt.items():
            visible = scene.visible_fraction[:, number - 1]
            assert visible[frame] > 0
            assert visible[frame] >= 0.6 or visible[frame] == visible.max() < 0.6
            assert (visible[:frame] < 0.6).all()
        assert set(scene.first_prompt) == set(np.unique(scene.ids).tolist()) - {0}


def test_a_clip_shows_one_to_five_objects_of_different_shapes_and_sizes_that_can_be_tracked():
    counts, sizes = set(), []
    for seed in range(40):
        scene = generate_scene(seed, frames=1)
        counts.add(len(scene.objects))
        assert len({each.shape for each in scene.objects}) == len(scene.objects)
        sizes += [max(x1 - x0, y1 - y0) for x0, y0, x1, y1 in scene.boxes[0].values()]
    assert counts == set(range(1, MAX_OBJECTS + 1))
    assert np.percentile(sizes, 2) >= 12
    assert np.percentile(sizes, 98) <= 38


@pytest.mark.parametrize("shape", SHAPES)
def test_no_shape_leaves_the_circle_that_its_box_is_made_for(shape):
    angle = np.linspace(0, 2 * np.pi, 181)
    rim = np.stack((np.cos(angle), np.sin(angle))) * REACH
    for swing in np.linspace(0, 6, 13):
        assert (signed_distance(shape, *rim, swing) > 0).all()
        assert signed_distance(shape, np.array([-0.1]), np.array([0.05]), swing) < 0


def test_a_shape_covers_the_area_that_its_outline_encloses():
    moments = np.zeros(3)
    relief = draw("ellipse", np.array([[20.3, 30.8]] * 3), np.full(3, 10.0), np.array([0.0, 0.7, 2.0]), moments)
    np.testing.assert_allclose(relief.alpha.sum(axis=(1, 2)), np.pi * 10 * 7.2, rtol=0.01)


def test_objects_stay_within_the_frame_however_long_the_clip():
    time = np.arange(500.0)
    for seed in range(10):
        for each in clip(seed, frames=1).objects:
            x, y = each.positions(time, (80, 96)).T
            assert x.min() > 0
            assert x.max() < 96
            assert y.min() > 0
            assert y.max() < 80
            assert np.abs(np.diff(x)).max() <= abs(each.velocity[0]) + 1e-9
            assert np.abs(np.log(each.radii(time) / each.radius)).max() <= each.drift + 1e-9


@pytest.mark.parametrize(("hue", "colour"), [(0, (1, 0, 0)), (1 / 3, (0, 1, 0)), (2 / 3, (0, 0, 1)), (0.5, (0, 1, 1))])
def test_hues_are_those_of_the_colour_wheel(hue, colour):
    assert hsv(hue, 1, 1) == pytest.approx(colour)
    assert hsv(hue, 0, 0.4) == pytest.approx((0.4, 0.4, 0.4))


def test_night_hides_objects_in_rgb_and_from_no_other_sensor():
    day, night = all_contrasts("rgb"), all_contrasts("rgb", night=True)
    assert np.percentile(day, 10) > 35
    assert np.percentile(night, 95) < 14
    assert np.median(night) < 0.1 * np.median(day)
    assert np.percentile(all_contrasts("thermal", night=True), 10) > 35
    for seed in range(3):
        for name in ("thermal", "depth", "event"):
            np.testing.assert_array_equal(clip(seed).frames[name], clip(seed, night=True).frames[name])
        np.testing.assert_array_equal(clip(seed).ids, clip(seed, night=True).ids)


def test_at_night_the_noise_is_larger_than_what_an_object_adds():
    for seed in range(6):
        scene = clip(seed, night=True)
        assert np.median(contrasts(scene, "rgb")) < scene.frames["rgb"].astype(np.float64).std()


def test_twins_are_the_same_in_rgb_and_differ_in_temperature_and_depth():
    still, centre = np.zeros(1), np.array([[20.5, 20.5]])
    for seed in range(6):
        twins = clip(seed, twins=True).objects
        assert len(twins) >= 2
        painted = []
        for each in twins:
            radius = np.array([each.radius])
            painted.append(paint_surface(each, draw(each.shape, centre, radius, still, still), radius, LIGHT))
        for (one, first), (other, second) in combinations(zip(twins, painted, strict=True), 2):
            np.testing.assert_array_equal(first[..., :3], second[..., :3])
            assert np.abs(first[..., 3] - second[..., 3]).max() > 0.02
            assert abs(one.depth - other.depth) > 0.02


def test_objects_that_are_no_twins_differ_in_colour():
    for seed in range(6):
        for one, other in combinations(clip(seed).objects, 2):
            assert one.shape != other.shape
            assert np.abs(np.subtract(one.colour, other.colour)).max() > 0.1


def test_the_paths_of_twins_come_close_in_most_clips():
    time = np.arange(30.0)
    met = []
    for seed in range(20):
        twins = generate_scene(seed, frames=30, size=(48, 48), twins=True).objects
        paths = [each.positions(time, (48, 48)) for each in twins]
        gaps = [np.linalg.norm(one - other, axis=1).min() for one, other in combinations(paths, 2)]
        met.append(min(gaps) < twins[0].radius)
    assert np.mean(met) > 0.9


def test_in_crossover_an_object_leaves_no_trace_in_thermal_but_in_depth():
    for seed in range(20):
        assert any(each.temperature is None for each in generate_scene(seed, frames=1, crossover=True).objects)
    lone = generate_scene(2, frames=3, objects=1, crossover=True)
    assert (
        contrasts(lone, "thermal").max() < 8 < 35 < contrasts(generate_scene(2, frames=3, objects=1), "thermal").min()
    )
    assert contrasts(lone, "rgb").min() > 35


def test_crossover_changes_nothing_but_the_thermal_picture():
    plain, crossed = clip(1), clip(1, crossover=True)
    for name in ("rgb", "depth", "event"):
        np.testing.assert_array_equal(plain.frames[name], crossed.frames[name])
    assert (plain.frames["thermal"] != crossed.frames["thermal"]).any()


def test_bars_hide_an_object_for_several_frames_and_it_comes_back():
    hidden, returned = [], []
    for seed in range(12):
        gone = generate_scene(seed, frames=30, size=(64, 64), occlusion=True).fully_occluded[:, 0]
        hidden.append(gone.sum())
        returned.append(gone.any() and not gone[np.flatnonzero(gone)[-1] + 1 :].all() and not gone[0])
    assert np.mean(np.array(hidden) >= 3) > 0.8
    assert max(hidden) <= 20
    assert np.mean(returned) > 0.8


def test_a_bar_is_in_front_of_everything_and_not_annotated():
    scene = clip(1, occlusion=True)
    near = np.median(scene.frames["depth"][..., 0], axis=0) > 225
    assert near.sum() > 300
    assert not scene.ids[:, ndimage.binary_erosion(near, iterations=2)].any()
    assert not (np.median(clip(1).frames["depth"][..., 0], axis=0) > 235).any()


def test_most_short_training_clips_with_bars_hide_something():
    scenes = [random_scene(seed, 3, (64, 64), occlusion=True) for seed in range(30)]
    assert np.mean([scene.fully_occluded.any() for scene in scenes]) > 0.7
    assert np.mean([(scene.visible_fraction[0, 0] > 0) and scene.fully_occluded[:, 0].any() for scene in scenes]) > 0.3


def test_a_world_that_stands_still_makes_no_events():
    scene = clip(2, speed=0.0, occlusion=True)
    assert not scene.frames["event"].any()
    assert (scene.ids == scene.ids[0]).all()
    assert scene.ids.any()
    assert not scene_events(scene).size


def test_moving_objects_make_events_of_both_polarities_where_they_are():
    scene = clip(5, objects=3)
    around = ndimage.binary_dilation(scene.ids > 0, np.ones((1, 9, 9)))
    events = scene.frames["event"] > 0
    fired = np.asarray(events.any(axis=-1))
    assert events[..., 0].any()
    assert events[..., 1].any()
    assert fired[around].mean() > 10 * fired[~around].mean()


def test_event_frames_are_what_events_to_frame_makes_of_the_raw_events():
    scene = clip(3, event_noise=0.01)
    events = scene_events(scene)
    assert events.shape[1] == 4
    assert (np.diff(events[:, 2]) >= 0).all()
    for frame in range(len(scene)):
        picture = events_to_frame(events, 80, 96, frame - 1, frame)
        assert np.abs(picture * 255 - scene.frames["event"][frame]).max() < 0.6


@pytest.mark.parametrize(("change", "count"), [(0.1, 0), (0.16, 1), (0.46, 3), (-0.31, -2), (0.0, 0)])
def test_one_event_per_threshold_of_log_luminance(change, count):
    light = np.array([1.0, 1.0 + change], np.float32)[:, None, None]
    crossings = find_crossings(np.random.default_rng(0), light)
    assert crossings.count.item() == count
    if count:
        assert crossings.first.item() == pytest.approx(0.15 / abs(change), abs=1e-4)
        assert crossings.last.item() == pytest.approx(abs(count) * 0.15 / abs(change), abs=1e-4)


def test_what_is_left_of_a_change_counts_in_the_next_interval():
    light = np.array([0.0, 0.1, 0.2, 0.2], np.float32)[:, None, None]
    crossings = find_crossings(np.random.default_rng(0), light)
    assert crossings.count.ravel().tolist() == [0, 1, 0]
    assert crossings.first[1].item() == pytest.approx(0.5, abs=1e-4)


def test_noise_events_are_as_many_as_asked_for():
    light = np.zeros((11, 80, 80), np.float32)
    crossings = find_crossings(np.random.default_rng(0), light, noise=0.02)
    assert np.mean(crossings.count != 0) == pytest.approx(0.02, rel=0.15)
    assert set(np.unique(crossings.count).tolist()) == {-1, 0, 1}


def test_depth_has_two_per_cent_of_holes_and_nearer_objects_in_front():
    depth = np.concatenate([clip(seed).frames["depth"][..., 0].ravel() for seed in range(6)])
    assert np.mean(depth == 0) == pytest.approx(0.02, abs=0.005)
    scene = clip(6, objects=4)
    for each in scene.objects:
        readings = scene.frames["depth"][..., 0][scene.ids == each.number]
        assert np.median(readings) / 255 == pytest.approx(each.depth + 0.02, abs=0.04)


def test_a_nearer_object_covers_a_farther_one_whatever_their_numbers():
    one = replace(clip(0, objects=1).objects[0], start=(40.0, 40.0), velocity=(0.0, 0.0), drift=0.0, depth=0.5)
    for depth, seen in ((0.6, 2), (0.4, 1)):
        other = replace(one, number=2, depth=depth)
        world = paint(np.zeros((1, 80, 96, 5), np.float32), Layout((one, other), ()), np.zeros(1), LIGHT)
        assert set(np.unique(world.ids).tolist()) == {0, seen}
        assert world.silhouettes.tolist() == [[(world.ids == seen).sum()] * 2]


def test_misregistration_moves_the_other_sensors_and_neither_rgb_nor_the_annotation():
    plain, off = clip(2), clip(2, misregistration=2.0)
    np.testing.assert_array_equal(plain.frames["rgb"], off.frames["rgb"])
    np.testing.assert_array_equal(plain.ids, off.ids)
    for name in ("thermal", "depth", "event"):
        assert (plain.frames[name] != off.frames[name]).any()
    assert 0.4 < np.median(contrasts(off, "thermal")) / np.median(contrasts(plain, "thermal")) < 1.1


def test_a_missing_sensor_is_black_where_it_is_missing_and_changes_nothing_else():
    plain, lame = clip(1), generate_scene(1, **SHORT, missing={"rgb": [(1, 3)], "event": [(0, 6)]})
    assert lame.present["rgb"].tolist() == [True, False, False, True, True, True]
    assert not lame.present["event"].any()
    assert lame.present["thermal"].all()
    for name in MODALITIES:
        there = lame.present[name]
        assert not lame.frames[name][~there].any()
        np.testing.assert_array_equal(lame.frames[name][there], plain.frames[name][there])


def test_a_stride_shows_the_same_world_faster():
    slow, fast = clip(7, objects=1, frames=9), clip(7, objects=1, frames=3, stride=4)
    np.testing.assert_array_equal(slow.ids[::4], fast.ids)


def test_random_scenes_draw_the_conditions_in_the_shares_of_the_training_set():
    scenes = [random_scene(seed, 1, (32, 32)).conditions for seed in range(300)]
    for name, share in {"night": 0.4, "crossover": 0.2, "occlusion": 0.4, "twins": 0.35}.items():
        assert np.mean([getattr(each, name) for each in scenes]) == pytest.approx(share, abs=0.09)
    assert {each.stride for each in scenes} == {1, 2, 3, 4}


def test_a_random_scene_is_the_one_that_its_conditions_describe():
    drawn = random_scene(11, 2, (48, 64), night=True, objects=1)
    assert drawn.conditions.night
    assert len(drawn.objects) == 1
    again = generate_scene(11, **vars(drawn.conditions))
    np.testing.assert_array_equal(drawn.frames["rgb"], again.frames["rgb"])


def test_a_scene_can_be_sent_to_another_process():
    copy = pickle.loads(pickle.dumps(clip(0)))  # noqa: S301
    np.testing.assert_array_equal(copy.ids, clip(0).ids)


@pytest.mark.parametrize(
    ("conditions", "message"),
    [
        ({"frames": 0}, "frames"),
        ({"size": (16, 128)}, "size"),
        ({"objects": 0}, "1 to 5"),
        ({"objects": 6}, "1 to 5"),
        ({"objects": 1, "twins": True}, "2 to 5 with twins"),
        ({"stride": 0}, "stride"),
        ({"speed": -1.0}, "speed"),
        ({"misregistration": 3.0}, "misregistration"),
        ({"event_noise": 1.5}, "event_noise"),
        ({"missing": {"lidar": [(0, 1)]}}, "rgb, thermal, depth, event"),
        ({"missing": {"rgb": [(4, 2)]}}, r"\[4, 2\)"),
        ({"missing": {"rgb": [(0, 99)]}}, "0 to 6"),
        ({"seed": -1}, "seed"),
        ({"seed": 1.5}, "seed"),
    ],
)
def test_bad_input_is_named(conditions, message):
    arguments = {"seed": 0} | SHORT | conditions
    with pytest.raises(TrackingError, match=message):
        generate_scene(arguments.pop("seed"), **arguments)
