"""Sensors of a generated scene: each turns the clean world into the bytes of one modality, [T, H, W, 3].

The clean world has five channels (red, green, blue, temperature, inverse depth, see `scene_backdrop`).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from scipy import ndimage

from .scene_backdrop import smooth_noise

EVENT_THRESHOLD = 0.15  # change of log-luminance that makes one event
EVENT_CLIP = 4.0
DEPTH_HOLES = 0.02
LUMINANCE = np.array([0.2126, 0.7152, 0.0722], np.float32)


def _bytes(images: np.ndarray) -> np.ndarray:
    """0..1 as 0..255; a single channel [T, H, W] is repeated three times."""
    levels = (np.clip(images, 0, 1) * 255 + 0.5).astype(np.uint8)
    return levels if levels.ndim == 4 else np.repeat(levels[..., None], 3, axis=-1)


def shifted(images: np.ndarray, offset: tuple[float, float]) -> np.ndarray:
    """Images [T, H, W] moved by (x, y) pixels, as a sensor that is mounted beside the colour camera sees them."""
    if not any(offset):
        return images
    return ndimage.shift(images, (0, offset[1], offset[0]), order=1, mode="nearest")


def rgb_frames(rng: np.random.Generator, colour: np.ndarray, night: bool) -> np.ndarray:
    """A colour camera: exposure, white balance and noise; by night too little light to show an object.

    Args:
        colour: float32 [T, H, W, 3].
    """
    frames, height, width, _ = colour.shape
    day_exposure, day_noise, night_exposure, night_noise = (
        rng.uniform(low, high) for low, high in ((0.8, 1.1), (0.008, 0.025), (0.02, 0.07), (0.03, 0.06))
    )
    cast = 1 + rng.uniform(-0.04, 0.04, 3)
    if night:
        cast = np.array([0.75, 0.9, 1.15]) + rng.uniform(-0.1, 0.1, 3)
    gain = ((night_exposure if night else day_exposure) * cast).astype(np.float32)
    image = colour * gain
    noise = rng.standard_normal(image.shape, np.float32)
    noise *= np.float32(night_noise if night else day_noise)
    image += noise
    if night:  # black level, and the coloured blotches that a camera's noise reduction leaves
        blotch = smooth_noise(rng, np.arange(height) / 9, np.arange(width) / 9, (frames, 3))
        image += (0.045 + np.float32(0.4 * night_noise) * blotch.transpose(0, 2, 3, 1)) * cast.astype(np.float32)
    return _bytes(image)


def thermal_frames(rng: np.random.Generator, temperature: np.ndarray) -> np.ndarray:
    """A thermal camera: blurred, with noise and faint columns. `temperature` is float32 [T, H, W] in 0..1."""
    image = ndimage.gaussian_filter(temperature, (0, 1.0, 1.0), truncate=2.5)
    noise = rng.standard_normal(image.shape, np.float32)
    noise *= np.float32(rng.uniform(0.012, 0.028))
    image += noise
    image += (0.008 * rng.standard_normal(image.shape[2])).astype(np.float32)
    return _bytes(image)


def depth_frames(rng: np.random.Generator, inverse_depth: np.ndarray) -> np.ndarray:
    """A depth camera: noise that grows with nearness and 2 % of pixels without a reading (0)."""
    noise = rng.standard_normal(inverse_depth.shape, np.float32)
    image = inverse_depth + noise * (0.006 + 0.012 * inverse_depth)
    image[rng.random(image.shape, np.float32) < DEPTH_HOLES] = 0
    return _bytes(image)


@dataclass(frozen=True)
class Crossings:
    """How often the light of a pixel crossed an event camera's threshold, from each frame to the next.

    Attributes:
        count: int16 [T, H, W], positive where it grew brighter, negative where it grew darker.
        first, step: float32 [T, H, W], the moment of the first event as a fraction of the frame interval, and the time
            from one event to the next.
    """

    count: np.ndarray
    first: np.ndarray
    step: np.ndarray

    @property
    def last(self) -> np.ndarray:
        """The moment of the last event, float32 [T, H, W], meaningful where there is one."""
        return self.first + self.step * (np.abs(self.count) - 1)


def log_luminance(colour: np.ndarray) -> np.ndarray:
    """Log-luminance, float32 [T, H, W], of colours [T, H, W, 3] before exposure: an event camera sees by night too."""
    return np.log(np.maximum(colour @ LUMINANCE, 0) + np.float32(0.02))


def find_crossings(rng: np.random.Generator, light: np.ndarray, noise: float = 0.0) -> Crossings:
    """Events of T intervals between T + 1 frames of log-luminance [T + 1, H, W], light changing evenly in between.

    `noise` is the share of pixels that fire once for no reason in an interval in which they have nothing to report.
    """
    reference = light[0].copy()
    count = np.empty((len(light) - 1, *light.shape[1:]), np.int16)
    first, step = np.zeros(count.shape, np.float32), np.zeros(count.shape, np.float32)
    threshold = np.float32(EVENT_THRESHOLD)
    for frame, (before, now) in enumerate(pairwise(light)):
        change = now - before
        crossed = np.trunc((now - reference) / threshold)
        crossed[crossed * change <= 0] = 0  # rounding alone makes no event
        change[crossed == 0] = 1
        first[frame] = np.clip((reference + np.sign(crossed) * threshold - before) / change, 0, 1)
        step[frame] = threshold / np.abs(change)
        count[frame] = crossed
        reference += crossed * threshold
    if noise > 0:
        chosen = (rng.random(count.shape, np.float32) < noise) & (count == 0)
        count[chosen] = rng.choice(np.array([-1, 1], np.int16), chosen.sum())
        first[chosen] = 1 - rng.random(chosen.sum(), np.float32)
    return Crossings(count, first, step)


def event_frames(crossings: Crossings) -> np.ndarray:
    """Per pixel and interval: brighter events, darker events (both cut at 4) and how recent the last one is.

    The same picture as `events_to_frame` makes of `raw_events`.
    """
    count = crossings.count.astype(np.float32)
    image = np.zeros((*count.shape, 3), np.float32)
    image[..., 0] = np.maximum(count, 0) / EVENT_CLIP
    image[..., 1] = np.maximum(-count, 0) / EVENT_CLIP
    fired = count != 0
    image[..., 2][fired] = np.exp(crossings.last[fired] - 1)
    return _bytes(image)


def raw_events(crossings: Crossings) -> np.ndarray:
    """The events one by one, float64 [N, 4] with columns x, y, t, p (1 or 0), by time.

    Interval k ends at frame k: its events have t in (k - 1, k].
    """
    number = np.abs(crossings.count).ravel()
    pixel = np.repeat(np.arange(number.size), number)
    order = np.arange(pixel.size) - np.repeat(np.cumsum(number) - number, number)
    frame, y, x = np.unravel_index(pixel, crossings.count.shape)
    moment = crossings.first.ravel()[pixel] + order * crossings.step.ravel()[pixel]
    time = frame - 1 + np.clip(moment, 1e-6, 1.0)
    events = np.stack((x, y, time, crossings.count.ravel()[pixel] > 0), axis=1).astype(np.float64)
    return events[np.argsort(time, kind="stable")]
