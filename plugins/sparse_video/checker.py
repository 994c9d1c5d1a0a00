"""Reads a clip back: which colours, shapes and motions it shows, compared with what the prompt asked for.

The checker never sees the scene that a prompt came from, only pixels. Its own error is measured on rendered clips
(`python -m plugins.sparse_video evaluate` prints it beside the model's figures).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy import ndimage

from .errors import SparseVideoInputError
from .scenes import BACKGROUNDS, COLOURS, DIRECTIONS, FOLDS, MOTIONS, SHAPES, signed_distance

HUES = {"red": 0.0, "yellow": 48.0, "green": 131.0, "blue": 223.0, "purple": 280.0}
HARMONICS = 8
ANGLES = 72
SMALLEST = 0.004  # of the frame's area

PHRASE = re.compile(
    rf"\ba ({'|'.join(COLOURS)}) ({'|'.join(SHAPES)})(?: ({'|'.join(MOTIONS)}))?(?= |,|$)", re.IGNORECASE
)


@dataclass(frozen=True)
class Asked:
    """One shape that a prompt asks for; a shape named without a motion stays."""

    colour: str
    shape: str
    motion: str


@dataclass(frozen=True)
class Verdict:
    """What a clip shows of one shape that was asked for. `direction` is None where no direction was asked for."""

    asked: Asked
    colour: bool
    shape: bool
    motion: bool
    direction: bool | None
    seen_shape: str | None
    seen_motion: str | None

    @property
    def right(self) -> bool:
        return self.colour and self.shape and self.motion


def parse_prompt(prompt: str) -> tuple[Asked, ...]:
    """The shapes that a prompt asks for.

    Raises:
        SparseVideoInputError: the prompt asks for none that the checker knows.
    """
    found = tuple(
        Asked(colour.lower(), shape.lower(), (motion or "stays").lower())
        for colour, shape, motion in PHRASE.findall(" ".join(prompt.split()))
    )
    if not found:
        raise SparseVideoInputError(
            f"no shape that can be checked in {prompt[:80]!r}: ask for a colour ({', '.join(COLOURS)}), a shape "
            f"({', '.join(SHAPES)}) and a motion ({', '.join(MOTIONS)}), as in 'a red square moves right "
            f"{next(iter(BACKGROUNDS))}'"
        )
    return found


def check_clip(frames: np.ndarray, prompt: str) -> list[Verdict]:
    """Compare a clip with its prompt, shape by shape.

    Args:
        frames: [frames, height, width, 3], uint8, or float in 0..1.

    Raises:
        SparseVideoInputError: the prompt asks for nothing that can be checked.
    """
    pixels = frames.astype(np.float32) / (255 if frames.dtype == np.uint8 else 1)
    names = colour_map(pixels)
    return [_verdict(asked, names == list(COLOURS).index(asked.colour)) for asked in parse_prompt(prompt)]


def colour_map(pixels: np.ndarray) -> np.ndarray:
    """The index in COLOURS of each pixel's colour, -1 for background: float [..., 3] in 0..1 to int [...]."""
    high, low = pixels.max(-1), pixels.min(-1)
    chroma = high - low
    red, green, blue = np.moveaxis(pixels, -1, 0)
    safe = np.where(chroma > 0, chroma, 1)
    hue = np.where(
        high == red,
        (green - blue) / safe % 6,
        np.where(high == green, (blue - red) / safe + 2, (red - green) / safe + 4),
    )
    distance = np.stack([np.abs((60 * hue - centre + 180) % 360 - 180) for centre in HUES.values()])
    vivid = (chroma > 0.5 * high) & (high > 0.35) & (distance.min(0) < 32)
    places = np.array([list(COLOURS).index(name) for name in HUES])
    white = (chroma < 0.1) & (high > 0.74)
    return np.where(vivid, places[distance.argmin(0)], np.where(white, list(COLOURS).index("white"), -1))


@dataclass(frozen=True)
class _Sight:
    """The largest patch of a colour in one frame; positions and size in pixels."""

    frame: int
    area: int
    y: float
    x: float
    outline: np.ndarray  # complex harmonics of the outline
    cut: bool  # touches the edge of the frame


def _sights(mask: np.ndarray) -> list[_Sight]:
    height, width = mask.shape[1:]
    found = []
    for index, layer in enumerate(mask):
        labels, count = ndimage.label(ndimage.binary_opening(layer, iterations=1))
        if count == 0:
            continue
        areas = np.bincount(labels.ravel())[1:]
        largest = labels == areas.argmax() + 1
        if areas.max() < SMALLEST * height * width:
            continue
        rows, columns = np.nonzero(largest)
        cut = rows.min() == 0 or columns.min() == 0 or rows.max() == height - 1 or columns.max() == width - 1
        found.append(
            _Sight(index, int(areas.max()), rows.mean(), columns.mean(), outline_harmonics(largest), bool(cut))
        )
    return found


def outline_harmonics(mask: np.ndarray) -> np.ndarray:
    """Fourier coefficients 1 to 8 of the outline's radius by angle, over its mean radius: complex [8]."""
    rows, columns = np.nonzero(mask)
    y, x = rows - rows.mean(), columns - columns.mean()
    place = np.floor((np.arctan2(y, x) / (2 * np.pi) % 1.0) * ANGLES).astype(int) % ANGLES
    radius = np.zeros(ANGLES)
    np.maximum.at(radius, place, np.hypot(x, y))
    known = radius > 0
    radius = np.interp(np.arange(ANGLES), np.flatnonzero(known), radius[known], period=ANGLES)
    spectrum = np.fft.rfft(radius)
    return spectrum[1 : HARMONICS + 1] / max(abs(spectrum[0]), 1e-9)


@lru_cache(maxsize=1)
def _templates() -> dict[str, np.ndarray]:
    y, x = (np.indices((81, 81)) - 40) / np.float32(30)
    return {shape: np.abs(outline_harmonics(signed_distance(shape, x, y) < 0)) for shape in SHAPES}


def _nearest_shape(sights: list[_Sight]) -> str:
    """By the outline, in the frames where most of the shape is seen."""
    whole = [sight for sight in sights if not sight.cut] or sights
    best = sorted(whole, key=lambda sight: sight.area)[-max(3, len(whole) // 3) :]
    outline = np.median([np.abs(sight.outline) for sight in best], axis=0)
    return min(SHAPES, key=lambda shape: float(np.abs(outline - _templates()[shape])[1:].sum()))


def _motion(sights: list[_Sight], shape: str, height: int) -> str:
    """By the track of the centre, the area and the turn of the outline."""
    time = np.array([sight.frame for sight in sights], float)
    y, x = (np.array([getattr(sight, axis) for sight in sights]) / height for axis in "yx")
    area = np.array([sight.area for sight in sights], float)
    span = time[-1] - time[0]
    rise, slide = (np.polyfit(time, track, 1)[0] * span for track in (y, x))
    growth = np.polyfit(time, np.log(area), 1)[0] * span
    wave = np.ptp(y - np.polyval(np.polyfit(time, y, 1), time))
    moved = float(np.hypot(rise, slide))
    if growth > 0.45 and moved < 0.2:
        return "grows"
    if wave > 0.11 and abs(slide) < 0.12:
        return "bounces"
    if moved > 0.12:
        return "moves " + max(DIRECTIONS, key=lambda name: np.dot(DIRECTIONS[name], (slide, rise)))
    fold = FOLDS.get(shape)
    if fold:
        turns = np.unwrap([np.angle(sight.outline[fold - 1]) for sight in sights]) / fold
        if abs(np.polyfit(time, turns, 1)[0] * span) > np.deg2rad(40):
            return "rotates"
    return "stays"


def _verdict(asked: Asked, mask: np.ndarray) -> Verdict:
    sights = _sights(mask)
    asks_direction = asked.motion.startswith("moves")
    if len(sights) < max(2, 0.35 * len(mask)):
        return Verdict(asked, False, False, False, False if asks_direction else None, None, None)
    shape = _nearest_shape(sights)
    motion = _motion(sights, shape, mask.shape[1])
    same = motion == asked.motion
    return Verdict(asked, True, shape == asked.shape, same, same if asks_direction else None, shape, motion)


def summarise(verdicts: list[Verdict]) -> dict[str, float]:
    """Shares of the shapes asked for, 0..1: colour, shape, motion, direction (of movers) and fidelity (all)."""
    directions = [verdict.direction for verdict in verdicts if verdict.direction is not None]
    shares = {
        name: float(np.mean([getattr(verdict, name) for verdict in verdicts])) for name in ("colour", "shape", "motion")
    }
    shares["direction"] = float(np.mean(directions)) if directions else float("nan")
    return shares | {
        "fidelity": float(np.mean([verdict.right for verdict in verdicts])),
        "shapes": float(len(verdicts)),
    }
