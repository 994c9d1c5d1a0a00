"""Raw events become pictures: nothing is lost, nothing is counted twice, and bad input is named."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from plugins.tracking.errors import TrackingError
from plugins.tracking.events import events_to_frame

HEIGHT, WIDTH = 6, 9
MANY = 1e6  # a clip that cuts nothing


def random_events(seed: int, count: int = 400) -> np.ndarray:
    rng = np.random.default_rng(seed)
    columns = (
        rng.integers(0, WIDTH, count),
        rng.integers(0, HEIGHT, count),
        rng.uniform(0, 1, count),
        rng.integers(0, 2, count),
    )
    return np.stack(columns, axis=1).astype(np.float64)


def one(x: float = 2, y: float = 3, t: float = 0.5, p: float = 1) -> np.ndarray:
    return np.array([[x, y, t, p]], dtype=np.float64)


@pytest.mark.parametrize("mode", ["polarity_time", "histogram"])
@given(seed=st.integers(0, 1000))
def test_every_event_is_counted_once_under_its_polarity(mode, seed):
    events = random_events(seed)
    frame = events_to_frame(events, HEIGHT, WIDTH, -1.0, 1.0, mode, clip=MANY) * MANY
    assert frame.shape == (HEIGHT, WIDTH, 3)
    brighter = events[:, 3] == 1
    for channel, chosen in ((0, brighter), (1, ~brighter)):
        expected = np.zeros((HEIGHT, WIDTH))
        np.add.at(expected, (events[chosen, 1].astype(int), events[chosen, 0].astype(int)), 1)
        np.testing.assert_allclose(frame[..., channel], expected, rtol=1e-5)


@given(seed=st.integers(0, 1000), bins=st.integers(1, 7))
def test_the_time_weights_of_a_voxel_grid_sum_to_the_number_of_events(seed, bins):
    events = random_events(seed)
    events[:, 3] = 1
    grid = events_to_frame(events, HEIGHT, WIDTH, 0.0, 1.0, "voxel", bins=bins, clip=MANY) * MANY
    assert grid.shape == (HEIGHT, WIDTH, bins)
    assert grid.min() >= 0
    assert grid.sum() == pytest.approx((events[:, 2] > 0).sum(), rel=1e-4)


def test_an_event_between_two_voxel_bins_is_shared_by_nearness():
    grid = events_to_frame(one(t=0.35), HEIGHT, WIDTH, 0.0, 1.0, "voxel", bins=3, clip=1.0)
    np.testing.assert_allclose(grid[3, 2], [0.3, 0.7, 0.0], atol=1e-6)
    grid = events_to_frame(one(t=1.0, p=0), HEIGHT, WIDTH, 0.0, 1.0, "voxel", bins=3, clip=1.0)
    np.testing.assert_allclose(grid[3, 2], [0.0, 0.0, -1.0], atol=1e-6)


def test_opposite_events_at_one_moment_cancel_in_a_voxel_grid():
    events = np.concatenate((one(p=1), one(p=-1)))
    assert not events_to_frame(events, HEIGHT, WIDTH, 0.0, 1.0, "voxel").any()


@pytest.mark.parametrize(("count", "expected"), [(1, 0.25), (3, 0.75), (4, 1.0), (9, 1.0)])
def test_counts_are_cut_at_the_clip_and_divided_by_it(count, expected):
    events = np.repeat(one(), count, axis=0)
    assert events_to_frame(events, HEIGHT, WIDTH, 0.0, 1.0, "histogram", clip=4.0)[3, 2, 0] == expected
    assert events_to_frame(events, HEIGHT, WIDTH, 0.0, 1.0, "voxel", bins=1, clip=4.0)[3, 2, 0] == expected
    events[:, 3] = 0
    assert events_to_frame(events, HEIGHT, WIDTH, 0.0, 1.0, "voxel", bins=1, clip=4.0)[3, 2, 0] == -expected


def test_recency_decays_over_one_interval_from_the_last_event():
    events = np.concatenate((one(t=14.0), one(t=11.0), one(x=4, t=20.0)))
    frame = events_to_frame(events, HEIGHT, WIDTH, 10.0, 20.0)
    assert frame[3, 2, 2] == pytest.approx(np.exp(-0.6))
    assert frame[3, 4, 2] == 1.0
    assert np.count_nonzero(frame[..., 2]) == 2


def test_the_interval_is_open_at_its_start_and_closed_at_its_end():
    events = np.concatenate([one(t=time) for time in (0.0, 0.5, 1.0, 1.5)])
    halves = [events_to_frame(events, HEIGHT, WIDTH, t0, t0 + 1, "histogram", clip=MANY) * MANY for t0 in (0.0, 1.0)]
    assert [half.sum() for half in halves] == pytest.approx([2.0, 1.0])


@given(seed=st.integers(0, 1000))
def test_the_order_of_the_events_does_not_matter(seed):
    events = random_events(seed)
    mixed = np.random.default_rng(seed).permutation(events)
    for mode in ("polarity_time", "histogram", "voxel"):
        one, other = (events_to_frame(each, HEIGHT, WIDTH, 0.0, 1.0, mode) for each in (events, mixed))
        np.testing.assert_allclose(one, other, atol=1e-6)


def test_no_events_make_a_black_picture():
    for mode in ("polarity_time", "histogram", "voxel"):
        frame = events_to_frame(np.zeros((0, 4)), HEIGHT, WIDTH, 0.0, 1.0, mode)
        assert frame.dtype == np.float32
        assert frame.shape == (HEIGHT, WIDTH, 3)
        assert not frame.any()


def test_whole_numbers_are_accepted_and_fractions_of_a_pixel_cut_off():
    whole = events_to_frame(np.array([[2, 3, 7, 1]]), HEIGHT, WIDTH, 5, 10)
    np.testing.assert_array_equal(whole, events_to_frame(one(x=2.9, y=3.4, t=7), HEIGHT, WIDTH, 5, 10))


@pytest.mark.parametrize(
    ("events", "changed", "message"),
    [
        (np.zeros((5, 3)), {}, "shape"),
        (np.zeros(4), {}, "shape"),
        (np.full((1, 4), "a"), {}, "type"),
        (one(x=WIDTH), {}, r"1 events lie outside the 9 x 6 picture, the first at \(9, 3\)"),
        (one(y=HEIGHT), {}, "outside"),
        (one(x=-0.5), {}, "outside"),
        (one(t=np.nan), {}, "not finite"),
        (one(p=2), {}, "polarities"),
        (one(), {"t0": 1.0}, "empty"),
        (one(), {"t0": 2.0}, "empty"),
        (one(), {"t1": float("nan")}, "empty"),
        (one(), {"mode": "picture"}, "mode"),
        (one(), {"bins": 0}, "positive"),
        (one(), {"clip": 0.0}, "positive"),
        (one(), {"height": 0}, "positive"),
    ],
)
def test_bad_input_is_named(events, changed, message):
    arguments = {"height": HEIGHT, "width": WIDTH, "t0": 0.0, "t1": 1.0} | changed
    with pytest.raises(TrackingError, match=message):
        events_to_frame(events, **arguments)
