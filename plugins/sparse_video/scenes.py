"""The generated world that the small model learns: coloured shapes that move over a background, with their text.

A scene is a value; `describe` turns it into its prompt and `render` into pixels. Speeds are in pixels per frame, so a
short clip shows the beginning of the same motion, and sizes are fractions of the frame.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace

import numpy as np

COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (222, 50, 48),
    "green": (52, 168, 72),
    "blue": (48, 98, 224),
    "yellow": (244, 204, 48),
    "purple": (152, 64, 196),
    "white": (242, 242, 238),
}
SHAPES = ("circle", "square", "triangle", "star")
FOLDS = {"square": 4, "triangle": 3, "star": 5}  # so many turns of a full circle look the same
DIRECTIONS: dict[str, tuple[float, float]] = {
    "right": (1.0, 0.0),
    "left": (-1.0, 0.0),
    "up": (0.0, -1.0),
    "down": (0.0, 1.0),
}
MOVES = tuple(f"moves {name}" for name in DIRECTIONS)
MOTIONS = (*MOVES, "bounces", "grows", "rotates", "stays")
BACKGROUNDS: dict[str, tuple[tuple[int, int, int], tuple[int, int, int]]] = {  # colour at the top, colour at the bottom
    "in a dark room": ((30, 32, 40), (52, 50, 58)),
    "in the sky": ((96, 142, 182), (158, 190, 208)),
    "on sand": ((202, 178, 140), (172, 142, 104)),
    "on a checkered floor": ((112, 114, 118), (92, 94, 98)),
}
MAX_SHAPES = 3
RADIUS = (0.2, 0.16, 0.135)  # of one, two and three shapes
GROWING_RADIUS, FRONT_RADIUS = 0.11, 0.21
SPEED, TURN = 0.75, 3.25  # pixels and degrees per frame
LANES = {1: (0.0,), 2: (-0.7, 0.7), 3: (-0.9, 0.0, 0.9)}  # in shares of the room: the first above or left, ...
LANE_WIDTH = 0.25
SIDES = (1.0, 1.0, -1.0, -1.0, 1.0, -1.0)  # tries to keep away from the other shapes: in the shape's lane, opposite
HELD_OUT = 8  # one in so many combinations of colour, shape and motion is never trained on


@dataclass(frozen=True)
class MovingShape:
    """One coloured shape. Positions and `radius` are fractions of the frame's height, `speed` is in pixels per frame.

    `x` and `y` are where the centre is in the first frame; a shape that grows starts with `radius`.
    """

    colour: str
    shape: str
    motion: str
    x: float
    y: float
    radius: float
    angle: float = 0.0
    speed: float = 1.0
    behind: bool = False

    @property
    def phrase(self) -> str:
        return f"a {self.colour} {self.shape} {self.motion}"


@dataclass(frozen=True)
class Scene:
    """Shapes over a background. If the first is `behind`, it passes behind the second, which stays."""

    background: str
    shapes: tuple[MovingShape, ...]
    light: float = 1.0


def describe(scene: Scene) -> str:
    """The prompt of a scene, such as "a red square moves right behind a green circle in the sky"."""
    return " ".join(word for word, _ in worded(scene)).replace(" ,", ",")


def worded(scene: Scene) -> list[tuple[str, int | None]]:
    """The words and commas of the prompt, each with the index of the shape that it speaks of."""
    phrases = [[(word, index) for word in shape.phrase.split()] for index, shape in enumerate(scene.shapes)]
    if scene.shapes[0].behind:
        front = scene.shapes[1]
        phrases[:2] = [phrases[0] + [("behind", 0), ("a", 1), (front.colour, 1), (front.shape, 1)]]
    text: list[tuple[str, int | None]] = list(phrases[0])
    for phrase in phrases[1:-1]:
        text += [(",", None), *phrase]
    if len(phrases) > 1:
        text += [("and", None), *phrases[-1]]
    return text + [(word, None) for word in scene.background.split()]


def is_held_out(colour: str, shape: str, motion: str) -> bool:
    """Whether a combination is kept out of training (by a hash, so that it never changes)."""
    digest = hashlib.sha256(f"{colour} {shape} {motion}".encode()).digest()
    return digest[0] % HELD_OUT == 0


def sample_scene(
    seed: int,
    *,
    frames: int,
    height: int,
    width: int,
    held_out: bool | None = False,
    shapes: int | None = None,
    zoom: float = 1.0,
) -> Scene:
    """A random scene whose motions stay inside a clip of this size.

    Args:
        held_out: False draws combinations for training, True only held-out ones, None any.
        shapes: how many; None draws one (45 %), two (40 %) or three (15 %).
        zoom: how much larger than usual the shapes are.
    """
    rng = np.random.default_rng(seed)
    count = shapes or int(rng.choice([1, 2, 3], p=[0.45, 0.4, 0.15]))
    behind = count > 1 and rng.random() < 0.45
    colours = [str(name) for name in rng.choice(list(COLOURS), size=count, replace=False)]
    placed: list[MovingShape] = []
    for index, colour in enumerate(colours):
        role = ("hidden", "front")[index] if behind and index < 2 else "free"
        shape, motion = _combination(rng, colour, role, held_out)
        placed.append(_place(rng, colour, shape, motion, role, placed, count, frames, height, width, zoom))
    return Scene(str(rng.choice(list(BACKGROUNDS))), tuple(placed), light=float(rng.uniform(0.93, 1.07)))


def _combination(rng: np.random.Generator, colour: str, role: str, held_out: bool | None) -> tuple[str, str]:
    motions = {"hidden": MOVES, "front": ("stays",), "free": MOTIONS}[role]
    options = [
        (shape, motion)
        for shape in SHAPES
        for motion in motions
        if (shape, motion) != ("circle", "rotates")  # nobody could see it
        and (held_out is None or is_held_out(colour, shape, motion) == held_out)
    ]
    options = options or [(shape, motion) for shape in SHAPES for motion in motions[:4]]
    shape, motion = options[rng.integers(len(options))]
    return shape, motion


def _place(rng, colour, shape, motion, role, placed, count, frames, height, width, zoom) -> MovingShape:
    """Put a shape where its whole path stays inside the frame, away from the others if there is room.

    Along its motion a path is centred in the frame. Across it, each has a lane, the first above or left of the second,
    and chance decides where in it; where it would meet another shape there, it takes the opposite lane.
    """
    radius = zoom * (FRONT_RADIUS if role == "front" else GROWING_RADIUS if motion == "grows" else RADIUS[count - 1])
    speed = TURN if motion == "rotates" else SPEED
    middle = np.array([0.5 * width / height, 0.5])
    centred = MovingShape(colour, shape, motion, *middle, radius, 0.0, speed, behind=role == "hidden")
    path = shape_path(centred, frames, height)
    track = np.stack([path.x, path.y])
    offset = (track.min(1) + track.max(1)) / 2 - middle
    reach = np.ptp(track, axis=1) / 2 + path.radius.max() * 1.02
    room = np.maximum(middle - reach, 0) * (np.ptp(track, axis=1) == 0)
    lane = LANES[count][len(placed)] * room
    best, best_gap = centred, -np.inf
    for side in SIDES:
        in_lane = np.clip(side * lane + LANE_WIDTH * rng.uniform(-room, room), -room, room)
        start = middle - offset + in_lane
        if role == "front":  # in the middle of the way of the one that passes behind it
            hidden = shape_path(placed[0], frames, height)
            start = np.array([hidden.x.mean(), hidden.y.mean()])
        candidate = replace(centred, x=float(start[0]), y=float(start[1]))
        gap = min((_gap(candidate, other, frames, height) for other in placed), default=1.0)
        if gap > best_gap:
            best, best_gap = candidate, gap
        if gap > 0.02 or role != "free":
            break
    return best


def _gap(one: MovingShape, other: MovingShape, frames: int, height: int) -> float:
    a, b = shape_path(one, frames, height), shape_path(other, frames, height)
    return float((np.hypot(a.x - b.x, a.y - b.y) - a.radius - b.radius).min())


@dataclass(frozen=True)
class ShapePath:
    """Centre, radius (fractions of the frame's height) and angle (degrees), each [frames]."""

    x: np.ndarray
    y: np.ndarray
    radius: np.ndarray
    angle: np.ndarray


def shape_path(shape: MovingShape, frames: int, height: int) -> ShapePath:
    """Where a shape is in each frame."""
    time = np.arange(frames, dtype=np.float64)
    x, y, radius, angle = (np.full(frames, value) for value in (shape.x, shape.y, shape.radius, shape.angle))
    if shape.motion in MOVES:
        across, down = DIRECTIONS[shape.motion.split()[1]]
        x = x + across * shape.speed * time / height
        y = y + down * shape.speed * time / height
    elif shape.motion == "bounces":
        phase = (time / 24) % 1.0
        y = y - 4 * phase * (1 - phase) * 0.36 * shape.speed
    elif shape.motion == "grows":
        radius = radius * np.exp(0.018 * shape.speed * time)
    elif shape.motion == "rotates":
        angle = angle + shape.speed * time
    return ShapePath(x, y, radius, angle)


def signed_distance(shape: str, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Distance to the outline of a shape of radius 1, negative inside; y points down."""
    if shape == "circle":
        return np.hypot(x, y) - 0.92
    if shape == "square":
        return np.maximum(np.abs(x), np.abs(y)) - 0.8
    if shape == "triangle":
        slope = np.float32(np.sqrt(3) / 2)
        return np.maximum(slope * np.abs(x) - 0.5 * y, y) - 0.56
    sector = np.float32(2 * np.pi / 5)
    length, angle = np.hypot(x, y), np.arctan2(x, -y)
    angle = np.abs((angle + sector / 2) % sector - sector / 2)
    tip, notch = np.array([0.0, 1.12]), 0.5 * np.array([np.sin(np.pi / 5), np.cos(np.pi / 5)])
    normal = np.array([tip[1] - notch[1], notch[0]]) / np.hypot(*(tip - notch))
    return (length * np.sin(angle) * normal[0] + (length * np.cos(angle) - tip[1]) * normal[1]).astype(x.dtype)


def _local(shape: MovingShape, path: ShapePath, frames: int, height: int, width: int, shift: float = 0.0):
    """Coordinates of every pixel in the shape's own frame, each [frames, height, width], and its radius in pixels."""
    across = (np.arange(width, dtype=np.float32) + 0.5)[None, None]
    down = (np.arange(height, dtype=np.float32) + 0.5)[None, :, None]
    centre = [(value * height + shift).astype(np.float32)[:, None, None] for value in (path.x, path.y)]
    radius = (path.radius * height).astype(np.float32)[:, None, None]
    turn = np.deg2rad(path.angle).astype(np.float32)[:, None, None]
    x, y = (across - centre[0]) / radius, (down - centre[1]) / radius
    return np.cos(turn) * x + np.sin(turn) * y, np.cos(turn) * y - np.sin(turn) * x, radius


def coverage(scene: Scene, *, frames: int, height: int, width: int) -> np.ndarray:
    """The share of each pixel that shows each shape: float32 [shapes, frames, height, width] in 0..1."""
    layers = np.zeros((len(scene.shapes), frames, height, width), np.float32)
    for index, shape in enumerate(scene.shapes):  # later shapes are painted over earlier ones
        x, y, radius = _local(shape, shape_path(shape, frames, height), frames, height, width)
        alpha = np.clip(0.5 - signed_distance(shape.shape, x, y) * radius, 0, 1)
        layers[:index] *= 1 - alpha
        layers[index] = alpha
    return layers


def render(scene: Scene, *, frames: int, height: int, width: int) -> np.ndarray:
    """The clip of a scene: uint8 [frames, height, width, 3]."""
    image = np.broadcast_to(_backdrop(scene, height, width), (frames, height, width, 3)).copy()
    for shape in scene.shapes:
        path = shape_path(shape, frames, height)
        x, y, radius = _local(shape, path, frames, height, width, shift=0.022 * height)
        shadow = np.clip(0.5 - signed_distance(shape.shape, x, y) * radius / (0.035 * height), 0, 1)
        image *= 1 - 0.32 * shadow[..., None]
        x, y, radius = _local(shape, path, frames, height, width)
        alpha = np.clip(0.5 - signed_distance(shape.shape, x, y) * radius, 0, 1)[..., None]
        shade = np.clip(1.0 - 0.13 * (x + y), 0.8, 1.12)[..., None]
        image += alpha * (shade * np.array(COLOURS[shape.colour], np.float32) - image)
    return np.clip(image + 0.5, 0, 255).astype(np.uint8)


def _backdrop(scene: Scene, height: int, width: int) -> np.ndarray:
    top, bottom = (np.array(colour, np.float32) for colour in BACKGROUNDS[scene.background])
    mix = np.linspace(0, 1, height, dtype=np.float32)[:, None, None]
    image = np.broadcast_to(top + (bottom - top) * mix, (height, width, 3)).copy()
    if scene.background == "on a checkered floor":
        down, across = np.indices((height, width)) // max(height // 8, 1)
        image *= np.where((down + across) % 2, 1.12, 0.9).astype(np.float32)[..., None]
    return np.clip(image * scene.light, 0, 255)
