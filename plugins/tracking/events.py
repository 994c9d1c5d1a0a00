"""Raw events of a neuromorphic camera, gathered into a picture of one frame interval."""

from __future__ import annotations

from typing import Literal

import numpy as np

from .errors import TrackingError

EventMode = Literal["polarity_time", "histogram", "voxel"]


def events_to_frame(
    events: np.ndarray,
    height: int,
    width: int,
    t0: float,
    t1: float,
    mode: EventMode = "polarity_time",
    bins: int = 3,
    clip: float = 4.0,
) -> np.ndarray:
    """The events of the interval (t0, t1] as a picture.

    Args:
        events: [N, 4], one row (x, y, t, p) per event, in any order; x and y in pixels (fractions are cut off), t in
            the unit of t0 and t1, p 1 for brighter and 0 or -1 for darker. Those outside the interval are left out.
        mode: "polarity_time" counts brighter and darker events and adds how recent the last one is; "histogram" counts
            only; "voxel" spreads each event over the two nearest of `bins` moments, brighter minus darker.
        clip: the count that makes full scale.

    Returns:
        float32 [height, width, 3], or [height, width, bins] for "voxel". Counts are cut at `clip` and divided by it:
        0..1, and -1..1 for "voxel". Recency is exp(-(t1 - t_last) / (t1 - t0)), 0 where nothing happened; the third
        channel of "histogram" stays 0.

    Raises:
        TrackingError: for an array of another shape, values that are not numbers, events outside the picture, an
            empty interval or an unknown mode.
    """
    x, y, time, brighter = _checked(events, height, width, t0, t1, mode, bins, clip)
    inside = (time > t0) & (time <= t1)
    pixel, elapsed, brighter = (y * width + x)[inside], (time[inside] - t0) / (t1 - t0), brighter[inside]
    if mode == "voxel":
        grid = _voxel_grid(pixel, elapsed, np.where(brighter, 1.0, -1.0), height * width, bins)
        frame = np.clip(grid, -clip, clip) / clip
    else:
        frame = np.zeros((height * width, 3))
        for channel, chosen in enumerate((brighter, ~brighter)):
            frame[:, channel] = np.minimum(np.bincount(pixel[chosen], minlength=height * width), clip) / clip
        if mode == "polarity_time":
            np.maximum.at(frame[:, 2], pixel, np.exp(elapsed - 1.0))
    return frame.reshape(height, width, -1).astype(np.float32)


def _voxel_grid(pixel: np.ndarray, elapsed: np.ndarray, weight: np.ndarray, pixels: int, bins: int) -> np.ndarray:
    """Events [N] at `elapsed` in 0..1 shared between the two nearest bins: [pixels, bins], the same total weight."""
    position = elapsed * (bins - 1)
    earlier = np.minimum(position.astype(np.int64), max(bins - 2, 0))
    later = np.minimum(earlier + 1, bins - 1)
    share = position - earlier
    cell = np.concatenate((pixel * bins + earlier, pixel * bins + later))
    total = np.bincount(cell, np.concatenate((weight * (1 - share), weight * share)), minlength=pixels * bins)
    return total.reshape(pixels, bins)


def _checked(events, height, width, t0, t1, mode, bins, clip) -> tuple[np.ndarray, ...]:
    """The columns of `events` as x, y (whole pixels), time and whether each is brighter, or a TrackingError."""
    events = np.asarray(events)
    if events.ndim != 2 or events.shape[1] != 4 or events.dtype.kind not in "iuf":
        raise TrackingError(
            f"events have shape {events.shape} and type {events.dtype}: give numbers [N, 4] with the columns x, y, t, p"
        )
    if mode not in ("polarity_time", "histogram", "voxel"):
        raise TrackingError(f"mode is {mode!r}: use 'polarity_time', 'histogram' or 'voxel'")
    if height < 1 or width < 1 or bins < 1 or not clip > 0:
        raise TrackingError(f"height {height}, width {width}, bins {bins} and clip {clip} must all be positive")
    if not t1 > t0:
        raise TrackingError(f"the interval ({t0}, {t1}] is empty: t1 must be later than t0")
    events = events.astype(np.float64)
    if not np.isfinite(events).all():
        raise TrackingError("events hold values that are not finite numbers: remove those rows")
    x, y = np.floor(events[:, 0]), np.floor(events[:, 1])
    outside = (x < 0) | (x >= width) | (y < 0) | (y >= height)
    if outside.any():
        raise TrackingError(
            f"{int(outside.sum())} events lie outside the {width} x {height} picture, the first at "
            f"({events[outside][0, 0]:g}, {events[outside][0, 1]:g}): check width and height, or crop the events"
        )
    polarity = events[:, 3]
    if not np.isin(polarity, (-1.0, 0.0, 1.0)).all():
        raise TrackingError("polarities must be 1 for brighter and 0 or -1 for darker")
    return x.astype(np.int64), y.astype(np.int64), events[:, 2], polarity > 0
