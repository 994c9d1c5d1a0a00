"""The generated world that the small model learns and is judged on: objects that four sensors see at once.

A scene is made from a seed. Its geometry, its looks and its noise come from separate streams, so the same seed with
`night` on shows the same objects on the same paths, and a missing sensor changes nothing but its own frames.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np

from .errors import TrackingError
from .modalities import MODALITIES
from .results import masks_to_boxes
from .scene_backdrop import backdrop
from .scene_objects import MAX_OBJECTS, Layout, SceneObject, sample_layout
from .scene_painting import INVERSE_DEPTH, TEMPERATURE, World, paint
from .scene_sensors import (
    Crossings,
    depth_frames,
    event_frames,
    find_crossings,
    log_luminance,
    raw_events,
    rgb_frames,
    shifted,
    thermal_frames,
)

EVALUATION_SEEDS = 10**8  # training uses seeds below, evaluation from here on
SMALLEST = 32
MAX_SHIFT = 2.0
PROMPTABLE = 0.6  # visible share from which an object can be pointed out

Box = tuple[int, int, int, int]
Ranges = Sequence[tuple[int, int]]


@dataclass(frozen=True)
class Conditions:
    """What a scene is like.

    Attributes:
        frames, size: length, and (height, width) in pixels.
        night: objects cannot be seen in RGB.
        occlusion: one or two bars in front of everything hide an object.
        twins: all objects look the same in RGB and differ in temperature and depth.
        crossover: at least one object is as warm as what is behind it.
        objects: how many; None for 1 to 5 (2 to 5 twins).
        stride: units of time between two frames; 4 shows the same world four times as fast.
        speed: how fast time runs, 0 for a world that stands still.
        misregistration: how far thermal, depth and event camera may each be off RGB, in pixels (0..2).
        event_noise: share of pixels per frame that fire without a reason.
        missing: per modality, the frame ranges [start, stop) in which the sensor gives nothing.
    """

    frames: int = 30
    size: tuple[int, int] = (128, 128)
    night: bool = False
    occlusion: bool = False
    twins: bool = False
    crossover: bool = False
    objects: int | None = None
    stride: int = 1
    speed: float = 1.0
    misregistration: float = 0.0
    event_noise: float = 0.0
    missing: Mapping[str, Ranges] = field(default_factory=dict)

    def __post_init__(self) -> None:
        fewest = 2 if self.twins else 1
        _require(self.frames >= 1, f"frames is {self.frames}: at least 1")
        _require(len(self.size) == 2 and min(self.size) >= SMALLEST, f"size is {self.size}: at least {SMALLEST} each")
        _require(
            self.objects is None or fewest <= self.objects <= MAX_OBJECTS,
            f"objects is {self.objects}: {fewest} to {MAX_OBJECTS}{' with twins' if self.twins else ''}",
        )
        _require(self.stride >= 1, f"stride is {self.stride}: at least 1")
        _require(self.speed >= 0, f"speed is {self.speed}: 0 or more")
        _require(0 <= self.misregistration <= MAX_SHIFT, f"misregistration is {self.misregistration}: 0 to {MAX_SHIFT}")
        _require(0 <= self.event_noise <= 1, f"event_noise is {self.event_noise}: 0 to 1")
        for name, ranges in self.missing.items():
            _require(name in MODALITIES, f"missing names {name!r}: use {', '.join(MODALITIES)}")
            for start, stop in ranges:
                _require(
                    0 <= start < stop <= self.frames,
                    f"{name} is missing in frames [{start}, {stop}): use ranges within 0 to {self.frames}",
                )


@dataclass(frozen=True, eq=False)
class Scene:
    """A clip of aligned sensors with its annotation. Object i of `objects` has id i + 1 and column i in the tables.

    Attributes:
        seed, conditions: what it was made from.
        frames: modality to uint8 [T, H, W, 3]; black where the sensor is missing.
        present: modality to bool [T], False where the sensor is missing.
        ids: uint8 [T, H, W], the visible object of each pixel, 0 for none.
        boxes: per frame, id to (x0, y0, x1, y1), tight around the visible pixels, right and bottom edge exclusive;
            only objects that are visible in the frame.
        visible_fraction: float32 [T, n], visible pixels over those of the whole silhouette, the part outside the frame
            included.
        fully_occluded: bool [T, n], nothing of the object is to be seen.
        first_prompt: id to the first frame in which at least 60 % of the object is visible, or its most visible frame
            if there is none; an object that is never visible is left out.
        objects: looks and ways of the objects; a temperature of None means thermal crossover.
    """

    seed: int
    conditions: Conditions
    frames: Mapping[str, np.ndarray]
    present: Mapping[str, np.ndarray]
    ids: np.ndarray
    boxes: tuple[dict[int, Box], ...]
    visible_fraction: np.ndarray
    fully_occluded: np.ndarray
    first_prompt: dict[int, int]
    objects: tuple[SceneObject, ...]

    def __len__(self) -> int:
        return len(self.ids)


def generate_scene(
    seed: int,
    *,
    frames: int = 30,
    size: tuple[int, int] = (128, 128),
    night: bool = False,
    occlusion: bool = False,
    twins: bool = False,
    crossover: bool = False,
    objects: int | None = None,
    stride: int = 1,
    speed: float = 1.0,
    misregistration: float = 0.0,
    event_noise: float = 0.0,
    missing: Mapping[str, Ranges] | None = None,
) -> Scene:
    """Make the scene of a seed under the given `Conditions`.

    Raises:
        TrackingError: for a negative seed or a condition out of its range.
    """
    conditions = Conditions(
        frames, size, night, occlusion, twins, crossover, objects, stride, speed, misregistration, event_noise,
        dict(missing or {}),
    )  # fmt: skip
    streams = _streams(seed)
    world, layout = _world(streams, conditions)
    present = {name: _present(conditions, name) for name in MODALITIES}
    pictures = _pictures(streams, conditions, world)
    for name, picture in pictures.items():
        picture[~present[name]] = 0
    ids = world.ids[1:]
    visible = _visible_fraction(ids, world.silhouettes[1:])
    return Scene(
        seed=seed,
        conditions=conditions,
        frames=pictures,
        present=present,
        ids=ids,
        boxes=tight_boxes(ids, len(layout.objects)),
        visible_fraction=visible,
        fully_occluded=visible == 0,
        first_prompt=_first_prompt(visible),
        objects=layout.objects,
    )


def random_scene(seed: int, frames: int = 3, size: tuple[int, int] = (96, 96), **fixed: Any) -> Scene:
    """A scene under conditions drawn from the seed, for training.

    Night 40 %, crossover 20 %, occlusion 40 %, twins 35 %, stride 1 to 4, event noise up to 0.5 %; `fixed` sets any of
    them (or another option of `generate_scene`) instead.
    """
    rng = _streams(seed).conditions
    night, crossover, occlusion, twins = (bool(each) for each in rng.random(4) < (0.4, 0.2, 0.4, 0.35))
    drawn: dict[str, Any] = {
        "night": night,
        "crossover": crossover,
        "occlusion": occlusion,
        "twins": twins and fixed.get("objects") != 1,
        "stride": int(rng.integers(1, 5)),
        "event_noise": float(rng.uniform(0, 0.005)),
    }
    return generate_scene(seed, frames=frames, size=size, **{**drawn, **fixed})


def scene_events(scene: Scene) -> np.ndarray:
    """The events behind `scene.frames["event"]` one by one: float64 [N, 4] with columns x, y, t, p (1 or 0), by time.

    Time is in frames: those with t in (k - 1, k] make frame k. Missing frames are not left out.
    """
    streams = _streams(scene.seed)
    world, _ = _world(streams, scene.conditions)
    return raw_events(_events(streams, scene.conditions, world, _offsets(streams, scene.conditions)["event"]))


def tight_boxes(ids: np.ndarray, objects: int) -> tuple[dict[int, Box], ...]:
    """Per frame, the box around the pixels of each id from 1 to `objects` that occurs in it; `ids` is [T, H, W]."""
    boxes: tuple[dict[int, Box], ...] = tuple({} for _ in ids)
    for number in range(1, objects + 1):
        masks = ids == number
        found = masks_to_boxes(masks).astype(int).tolist()
        for frame in np.flatnonzero(masks.any(axis=(1, 2))).tolist():
            x0, y0, x1, y1 = found[frame]
            boxes[frame][number] = (x0, y0, x1, y1)
    return boxes


def _require(holds: bool, message: str) -> None:
    if not holds:
        raise TrackingError(message)


class _Streams(NamedTuple):
    """Independent generators of one seed, so that no condition changes what another one draws."""

    geometry: np.random.Generator
    scenery: np.random.Generator
    heat: np.random.Generator
    rgb: np.random.Generator
    thermal: np.random.Generator
    depth: np.random.Generator
    event: np.random.Generator
    mounting: np.random.Generator
    conditions: np.random.Generator


def _streams(seed: int) -> _Streams:
    _require(isinstance(seed, int | np.integer) and seed >= 0, f"seed is {seed!r}: use a whole number of 0 or more")
    children = np.random.SeedSequence(int(seed)).spawn(len(_Streams._fields))
    return _Streams(*(np.random.default_rng(child) for child in children))


def _world(streams: _Streams, conditions: Conditions) -> tuple[World, Layout]:
    """The clean world with one more frame in front, from which the event camera sees the change to the first."""
    step = conditions.stride * conditions.speed
    time = step * np.arange(-1, conditions.frames)
    layout = sample_layout(
        streams.geometry,
        size=conditions.size,
        duration=max(step * (conditions.frames - 1), 1e-6),
        stride=conditions.stride,
        objects=conditions.objects,
        twins=conditions.twins,
        occlusion=conditions.occlusion,
    )
    if conditions.crossover:
        layout = replace(layout, objects=_crossed(streams.heat, layout.objects))
    scenery = streams.scenery
    sun, slope = scenery.choice([-1, 1]), scenery.uniform(0.35, 0.65)
    light = np.array([sun * slope, -scenery.uniform(0.4, 0.65), 0.0])
    light[2] = np.sqrt(1 - light @ light)
    return paint(backdrop(scenery, conditions.size, time, sun), layout, time, light), layout


def _crossed(rng: np.random.Generator, objects: tuple[SceneObject, ...]) -> tuple[SceneObject, ...]:
    """Take the temperature from one object at least, and from every other with even odds."""
    chosen = rng.random(len(objects)) < 0.5
    chosen[rng.integers(len(objects))] = True
    return tuple(replace(each, temperature=None) if cold else each for each, cold in zip(objects, chosen, strict=True))


def _offsets(streams: _Streams, conditions: Conditions) -> dict[str, tuple[float, float]]:
    """By how many pixels (x, y) each sensor is off the colour camera."""
    drawn = (streams.mounting.uniform(-1, 1, (3, 2)) * conditions.misregistration).tolist()
    return {name: (x, y) for name, (x, y) in zip(MODALITIES[1:], drawn, strict=True)}


def _events(streams: _Streams, conditions: Conditions, world: World, offset: tuple[float, float]) -> Crossings:
    light = shifted(log_luminance(world.layers[..., :3]), offset)
    return find_crossings(streams.event, light, conditions.event_noise)


def _pictures(streams: _Streams, conditions: Conditions, world: World) -> dict[str, np.ndarray]:
    """What each sensor makes of the world, uint8 [T, H, W, 3]."""
    layers, offsets = world.layers[1:], _offsets(streams, conditions)
    return {
        "rgb": rgb_frames(streams.rgb, layers[..., :3], conditions.night),
        "thermal": thermal_frames(streams.thermal, shifted(layers[..., TEMPERATURE], offsets["thermal"])),
        "depth": depth_frames(streams.depth, shifted(layers[..., INVERSE_DEPTH], offsets["depth"])),
        "event": event_frames(_events(streams, conditions, world, offsets["event"])),
    }


def _present(conditions: Conditions, modality: str) -> np.ndarray:
    there = np.ones(conditions.frames, bool)
    for start, stop in conditions.missing.get(modality, ()):
        there[start:stop] = False
    return there


def _visible_fraction(ids: np.ndarray, silhouettes: np.ndarray) -> np.ndarray:
    """Visible pixels of each object over its whole silhouette [T, n]: float32 [T, n]."""
    frames, objects = silhouettes.shape
    cells = ids.reshape(frames, -1) + (objects + 1) * np.arange(frames)[:, None]
    visible = np.bincount(cells.ravel(), minlength=frames * (objects + 1)).reshape(frames, objects + 1)[:, 1:]
    return (visible / np.maximum(silhouettes, 1)).astype(np.float32)


def _first_prompt(visible: np.ndarray) -> dict[int, int]:
    clear = visible >= PROMPTABLE
    first = np.where(clear.any(axis=0), clear.argmax(axis=0), visible.argmax(axis=0))
    return {index + 1: int(first[index]) for index in np.flatnonzero(visible.any(axis=0)).tolist()}
