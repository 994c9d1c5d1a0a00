"""The cast of a generated scene: objects with their looks and their ways, and the pillars that hide them.

Positions and sizes are in pixels, speeds in pixels per unit of time; a frame step at stride 1 is one unit. Objects move
straight and bounce off the borders. A meeting is planned backwards: from the place and the moment to the start.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from .scene_shapes import SHAPES, TEXTURES

MAX_OBJECTS = 5
RADIUS = (0.065, 0.135)  # fractions of the shorter side
SPEED = (0.006, 0.018)  # fractions of the shorter side per unit of time
FASTEST = 0.024
PARKED = 0.12  # share of objects that stand still
FINISHES = ("concrete", "brick", "wood", "metal")


@dataclass(frozen=True)
class SceneObject:
    """One annotated object.

    Attributes:
        number: its id in the annotation, from 1.
        shape, texture: names from `scene_shapes`; `frequency` is the texture's, in radians per radius.
        colour, accent: the surface's two colours, 0..1.
        temperature: 0..1; None in thermal crossover, where it is the background's at every point.
        depth: inverse depth, 0 far to 1 near; nearer objects hide farther ones.
        radius: mean radius; it swells and shrinks by the share `drift`.
        start: where the centre is at time 0, before folding back at the borders.
        angle, spin: orientation at time 0 and its change, radians.
        drift_rate, swing_rate, phase: radians per unit of time of the swelling and of the wobbling, and their start.
    """

    number: int
    shape: str
    texture: str
    frequency: float
    colour: tuple[float, float, float]
    accent: tuple[float, float, float]
    temperature: float | None
    depth: float
    radius: float
    start: tuple[float, float] = (0.0, 0.0)
    velocity: tuple[float, float] = (0.0, 0.0)
    angle: float = 0.0
    spin: float = 0.0
    drift: float = 0.0
    drift_rate: float = 0.0
    swing_rate: float = 0.0
    phase: float = 0.0

    def positions(self, time: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        """The centre (x, y) at each moment, [T, 2], inside a frame of `size` (height, width)."""
        path = np.asarray(self.start) + np.asarray(self.velocity) * time[:, None]
        low = np.full(2, 0.7 * self.radius)
        span = np.array([size[1], size[0]]) - 2 * low
        return low + span - np.abs((path - low) % (2 * span) - span)

    def radii(self, time: np.ndarray) -> np.ndarray:
        """The radius at each moment, [T]."""
        return self.radius * np.exp(self.drift * np.sin(self.drift_rate * time + self.phase))


@dataclass(frozen=True)
class Bar:
    """A pillar or beam across the whole frame, in front of everything; it does not move and is not annotated.

    `angle` is the direction across the bar, 0 for a pillar; `colour` is 0..1 and `finish` one of `FINISHES`.
    """

    centre: tuple[float, float]
    angle: float
    half_width: float
    finish: str
    colour: tuple[float, float, float]
    temperature: float
    depth: float

    @property
    def across(self) -> np.ndarray:
        return np.array([np.cos(self.angle), np.sin(self.angle)])


@dataclass(frozen=True)
class Layout:
    """Who is in a scene."""

    objects: tuple[SceneObject, ...]
    bars: tuple[Bar, ...]


def hsv(hue: float, saturation: float, value: float) -> tuple[float, float, float]:
    """A colour 0..1 from its hue (turns), saturation and value."""
    corner = (np.array([5.0, 3.0, 1.0]) + 6 * hue) % 6
    red, green, blue = value - value * saturation * np.clip(np.minimum(corner, 4 - corner), 0, 1)
    return float(red), float(green), float(blue)


def sample_layout(
    rng: np.random.Generator,
    *,
    size: tuple[int, int],
    duration: float,
    stride: int,
    objects: int | None,
    twins: bool,
    occlusion: bool,
) -> Layout:
    """Objects with their ways, and pillars, of a clip that lasts `duration` units of time.

    Args:
        stride: units of time between two frames.
        objects: how many; None draws 1 to 5, and 2 to 5 for twins.
    """
    count = objects or int(rng.integers(2 if twins else 1, MAX_OBJECTS + 1))
    cast = _twins(rng, count, size) if twins else _strangers(rng, count, size)
    bars: tuple[Bar, ...] = ()
    moving: list[SceneObject] = []
    for index, each in enumerate(cast):
        if occlusion and index == 0:
            each, bar = _behind_bar(rng, each, size, duration, stride)
            bars = _bars(rng, bar, size)
        elif twins and moving:
            each = _meeting(rng, each, moving[-1], size, duration)
        else:
            each = _wandering(rng, each, moving, size, parked=not twins and index > 0 and rng.random() < PARKED)
        moving.append(each)
    return Layout(tuple(moving), bars)


def _numbers(rng: np.random.Generator, count: int, low: float, high: float) -> np.ndarray:
    """`count` values between `low` and `high`, none close to another, in random order."""
    room = (high - low) / count
    return rng.permutation(low + room * (np.arange(count) + rng.uniform(0.2, 0.8, count)))


def _strangers(rng: np.random.Generator, count: int, size: tuple[int, int]) -> list[SceneObject]:
    """Objects of different shapes and colours."""
    shapes = rng.permutation(SHAPES)[:count]
    hues = (rng.random() + (np.arange(count) + rng.uniform(-0.2, 0.2, count)) / count) % 1
    largest = RADIUS[1] - 0.009 * max(count - 2, 0)
    cast = []
    for index, (temperature, depth) in enumerate(_sensed(rng, count)):
        radius = rng.uniform(RADIUS[0], largest) * min(size)
        look = _look(rng, str(shapes[index]), float(hues[index]))
        cast.append(SceneObject(index + 1, **look, temperature=temperature, depth=depth, radius=radius))
    return cast


def _twins(rng: np.random.Generator, count: int, size: tuple[int, int]) -> list[SceneObject]:
    """Objects that a colour camera cannot tell apart; their temperatures and depths differ."""
    look = _look(rng, str(rng.choice(SHAPES)), rng.random())
    radius = rng.uniform(RADIUS[0], 0.095) * min(size)
    return [
        SceneObject(index + 1, **look, temperature=temperature, depth=depth, radius=radius)
        for index, (temperature, depth) in enumerate(_sensed(rng, count))
    ]


def _sensed(rng: np.random.Generator, count: int) -> list[tuple[float, float]]:
    """Temperature and inverse depth of each object."""
    temperatures, depths = _numbers(rng, count, 0.52, 1.0), _numbers(rng, count, 0.38, 0.86)
    return list(zip(temperatures.tolist(), depths.tolist(), strict=True))


def _look(rng: np.random.Generator, shape: str, hue: float) -> dict:
    saturation, value = rng.uniform(0.55, 0.9), rng.uniform(0.78, 1.0)
    pale = rng.random() < 0.5
    accent = (
        hsv(hue, 0.15, 0.98) if pale else hsv((hue + rng.uniform(0.08, 0.2)) % 1, saturation, rng.uniform(0.3, 0.5))
    )
    return {
        "shape": shape,
        "texture": str(rng.choice(TEXTURES)),
        "frequency": rng.uniform(4.5, 7.5),
        "colour": hsv(hue, saturation, value),
        "accent": accent,
    }


def _turning(rng: np.random.Generator, each: SceneObject) -> SceneObject:
    """Give an object its turning, swelling and wobbling."""
    return replace(
        each,
        angle=rng.uniform(-np.pi, np.pi),
        spin=rng.uniform(-0.09, 0.09),
        drift=rng.uniform(0.0, 0.16),
        drift_rate=rng.uniform(0.05, 0.15),
        swing_rate=rng.uniform(0.12, 0.3),
        phase=rng.uniform(0, 2 * np.pi),
    )


def _heading(angle: float, speed: float) -> np.ndarray:
    return speed * np.array([np.cos(angle), np.sin(angle)])


def _wandering(rng, each: SceneObject, others: list[SceneObject], size, *, parked: bool) -> SceneObject:
    """Start away from the others, in any direction; a parked one neither moves nor turns nor swells."""
    low, high = np.full(2, 1.1 * each.radius), np.array([size[1], size[0]]) - 1.1 * each.radius
    spots = rng.uniform(low, high, (8, 2))
    taken = np.array([other.start for other in others]).reshape(-1, 2)
    gaps = np.linalg.norm(spots[:, None] - taken, axis=-1).min(axis=1, initial=min(size) / 2)
    start = spots[gaps.argmax()]
    velocity = _heading(rng.uniform(0, 2 * np.pi), rng.uniform(*SPEED) * min(size))
    if parked:
        return replace(each, start=tuple(start.tolist()), angle=rng.uniform(-np.pi, np.pi))
    return _turning(rng, replace(each, start=tuple(start.tolist()), velocity=tuple(velocity.tolist())))


def _meeting(rng, each: SceneObject, other: SceneObject, size, duration: float) -> SceneObject:
    """Go where the other one is at some moment, from a different direction."""
    moment = rng.uniform(0.25, 0.8) * duration
    place = other.positions(np.array([moment]), size)[0] + rng.uniform(-0.4, 0.4, 2) * each.radius
    heading = np.arctan2(other.velocity[1], other.velocity[0]) + rng.choice([-1, 1]) * rng.uniform(0.45, 1.0) * np.pi
    velocity = _heading(heading, rng.uniform(*SPEED) * min(size))
    start = place - velocity * moment
    return _turning(rng, replace(each, start=tuple(start.tolist()), velocity=tuple(velocity.tolist())))


def _behind_bar(rng, each: SceneObject, size, duration: float, stride: int) -> tuple[SceneObject, Bar]:
    """Pass behind a bar that is wide enough to hide the whole object for several frames, coming out of hiding.

    A clip too short for that ends while the object is hidden.
    """
    unit = min(size)
    each = _turning(rng, replace(each, radius=min(each.radius, rng.uniform(RADIUS[0], 0.085) * unit)))
    each = replace(each, drift=0.5 * each.drift)
    long = duration >= 8 * stride
    moment = (rng.uniform(0.42, 0.58) if long else rng.uniform(0.7, 1.0)) * duration
    reach = 1.08 * each.radius * np.exp(each.drift) + 1
    speed, hidden = rng.uniform(0.6, 1.0) * FASTEST * unit, 0.0
    if long:
        hidden = min(rng.uniform(3, 7) * stride, 0.12 * unit / speed)
        speed = np.clip(1.6 * reach / max(moment - hidden / 2, 1), SPEED[0] * unit, FASTEST * unit)
    upright = rng.random() < 0.75
    angle = (0.0 if upright else np.pi / 2) + rng.uniform(-0.2, 0.2)
    centre = np.array([size[1], size[0]]) * rng.uniform(0.36, 0.64, 2)
    bar = _bar(rng, centre, angle, reach + speed * hidden / 2)
    velocity = _heading(angle + rng.choice([0, np.pi]) + rng.uniform(-0.3, 0.3), speed)
    start = centre + bar.across[::-1] * (-1, 1) * rng.uniform(-0.2, 0.2) * unit - velocity * moment
    return replace(each, start=tuple(start.tolist()), velocity=tuple(velocity.tolist())), bar


def _bar(rng: np.random.Generator, centre: np.ndarray, angle: float, half_width: float) -> Bar:
    finish = str(rng.choice(FINISHES))
    hue, saturation, value = {
        "concrete": (0.1, 0.06, rng.uniform(0.5, 0.7)),
        "brick": (rng.uniform(0.01, 0.04), 0.5, rng.uniform(0.5, 0.65)),
        "wood": (rng.uniform(0.07, 0.1), 0.5, rng.uniform(0.4, 0.6)),
        "metal": (0.58, 0.1, rng.uniform(0.45, 0.65)),
    }[finish]
    colour, temperature = hsv(hue, saturation, value), rng.uniform(0.22, 0.34)
    place = (float(centre[0]), float(centre[1]))
    return Bar(place, angle, float(half_width), finish, colour, temperature, rng.uniform(0.92, 1.0))


def _bars(rng: np.random.Generator, main: Bar, size: tuple[int, int]) -> tuple[Bar, ...]:
    """The bar alone or with a slimmer one beside it, of the same make."""
    slim = rng.uniform(0.025, 0.05) * min(size)
    gap = rng.choice([-1, 1]) * (main.half_width + slim + rng.uniform(0.2, 0.32) * min(size))
    if rng.random() < 0.55:
        return (main,)
    x, y = np.asarray(main.centre) + main.across * gap
    return main, replace(main, centre=(float(x), float(y)), half_width=float(slim), depth=main.depth - 0.02)
