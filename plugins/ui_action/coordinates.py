"""The spaces in which a point on a screen is given, and the ways between them.

css: pixels of the viewport, in which actions are carried out. device: pixels of the screenshot, css times the ratio of
device pixels. model: pixels of the image as the model sees it, after `smart_resize`. relative: 0 to 1000 along each
side. unit: 0 to 1 along each side. A point is (x, y); sizes are (height, width) only in `smart_resize`, as in Qwen's
own code, and (width, height) everywhere else.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from .actions import Point
from .errors import ConfigError, UIActionInputError
from .screen import Screen

FACTOR = 28
MIN_PIXELS = 100 * FACTOR**2
MAX_PIXELS = 16384 * FACTOR**2
MAX_ASPECT = 200
RELATIVE = 1000


def smart_resize(
    height: int, width: int, factor: int = FACTOR, min_pixels: int = MIN_PIXELS, max_pixels: int = MAX_PIXELS
) -> tuple[int, int]:
    """The size to which Qwen2.5-VL and UI-TARS bring an image: sides that are multiples of the factor.

    Python's rounding, half to even, is part of the rule: the checkpoints were trained with it.

    Args:
        factor: side of a merged patch in pixels: 28 for Qwen2.5-VL, 32 for Qwen3-VL.
        min_pixels, max_pixels: limits on the area.

    Returns:
        (height, width).

    Raises:
        UIActionInputError: for a side below one pixel, an image more than 200 times as long as wide, or limits that
            leave nothing.
    """
    if min(height, width) < 1:
        raise UIActionInputError(f"an image of {width} x {height} pixels: give at least 1 x 1")
    if max(height, width) > MAX_ASPECT * min(height, width):
        raise UIActionInputError(
            f"an image of {width} x {height} pixels: the long side may be {MAX_ASPECT} times the short one; crop it"
        )
    if factor < 1 or not factor**2 <= max_pixels >= min_pixels:
        raise UIActionInputError(
            f"factor {factor}, {min_pixels} to {max_pixels} pixels: give a factor of at least 1, and a largest area"
            " that is no smaller than the smallest and than one factor squared"
        )
    sides = tuple(max(factor, round(side / factor) * factor) for side in (height, width))
    if sides[0] * sides[1] > max_pixels:
        shrink = math.sqrt(height * width / max_pixels)
        sides = tuple(max(factor, math.floor(side / shrink / factor) * factor) for side in (height, width))
    elif sides[0] * sides[1] < min_pixels:
        grow = math.sqrt(min_pixels / (height * width))
        sides = tuple(math.ceil(side * grow / factor) * factor for side in (height, width))
    return sides[0], sides[1]


def scaled(point: Point, source: tuple[float, float], target: tuple[float, float]) -> Point:
    """The same place on a picture of another size, (width, height) each."""
    return point[0] * target[0] / source[0], point[1] * target[1] / source[1]


def css_to_device(point: Point, ratio: float) -> Point:
    """Ratio: device pixels per css pixel."""
    return point[0] * ratio, point[1] * ratio


def device_to_css(point: Point, ratio: float) -> Point:
    """Ratio: device pixels per css pixel."""
    return point[0] / ratio, point[1] / ratio


def css_to_model(point: Point, screen: Screen) -> Point:
    """Not rounded."""
    return scaled(point, (screen.width, screen.height), screen.model_size)


def model_to_css(point: Point, screen: Screen) -> Point:
    """Not rounded."""
    return scaled(point, screen.model_size, (screen.width, screen.height))


def css_to_unit(point: Point, screen: Screen) -> Point:
    """0 to 1 along each side."""
    return scaled(point, (screen.width, screen.height), (1, 1))


def unit_to_css(point: Point, screen: Screen) -> Point:
    """Not rounded."""
    return scaled(point, (1, 1), (screen.width, screen.height))


def unit_to_relative(point: Point) -> tuple[int, int]:
    """0 to 1000 along each side, whole numbers."""
    return round(point[0] * RELATIVE), round(point[1] * RELATIVE)


def relative_to_unit(point: Point) -> Point:
    """0 to 1 along each side."""
    return point[0] / RELATIVE, point[1] / RELATIVE


def encode(point: Point, screen: Screen) -> tuple[int, int]:
    """A point in css pixels as the screen's model writes it, in whole numbers."""
    x, y = scaled(point, (screen.width, screen.height), _written_size(screen))
    return round(x), round(y)


def decode(point: Point, screen: Screen) -> Point:
    """What the screen's model writes, in css pixels, not rounded and wherever it lies."""
    return scaled(point, _written_size(screen), (screen.width, screen.height))


def is_inside(point: Point, screen: Screen, tolerance: float = 0.0) -> bool:
    """Whether a point in css pixels is at most the tolerance beyond the centres of the screen's outermost pixels."""
    x, y = point
    return -tolerance <= x <= screen.width - 1 + tolerance and -tolerance <= y <= screen.height - 1 + tolerance


def clamp(point: Point, screen: Screen) -> Point:
    """The nearest point, css pixels, that is on the screen."""
    return min(max(point[0], 0.0), screen.width - 1.0), min(max(point[1], 0.0), screen.height - 1.0)


def require_same_size(screen: Screen, grid_thw: Sequence[int], patch: int = 14) -> None:
    """Refuse to go on when the model saw an image of another size than the screen says.

    Its coordinates would then be read in the wrong scale: every click lands beside its target.

    Args:
        grid_thw: a row of the processor's `image_grid_thw`: (time, height, width) in patches.
        patch: side of a patch in pixels.

    Raises:
        ConfigError: the sizes differ, or this is no such row.
    """
    if len(grid_thw) != 3:
        raise ConfigError(f"image_grid_thw of {len(grid_thw)} numbers: give one row, (time, height, width)")
    height, width = int(grid_thw[1]) * patch, int(grid_thw[2]) * patch
    if (width, height) != screen.model_size:
        said = " x ".join(map(str, screen.model_size))
        raise ConfigError(
            f"the model saw {width} x {height} pixels, the screen says {said}: build the Screen with"
            f" model_width={width}, model_height={height}"
        )


def _written_size(screen: Screen) -> tuple[int, int]:
    return (RELATIVE, RELATIVE) if screen.coordinates == "relative-1000" else screen.model_size
