"""Overlays as the page shows them: what was found over what each sensor saw, and pictures that travel in the page."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from apps.tracking.request import SENSORS
from core.registry import load_object

TILE = 384  # longer side of a drawn frame, pixels
_INK, _PLATE = "#ffffff", (14, 20, 23)
_STRIPES = (38, 47, 52), (27, 34, 38)


def colour_of(identity: int) -> str:
    """The colour that the plugin draws an id in, as CSS takes it."""
    return "#{:02x}{:02x}{:02x}".format(*load_object("plugins.tracking.overlay:colour_of")(identity))


def tile_size(height: int, width: int) -> tuple[int, int]:
    """Height and width of a drawn frame, both even, as video needs them."""
    scale = TILE / max(height, width)
    return max(2, 2 * round(height * scale / 2)), max(2, 2 * round(width * scale / 2))


def draw_tile(sensor: str, frame: np.ndarray, found: Any) -> Image.Image:
    """One sensor's frame, uint8 [H, W, 3] or [H, W], with the instances over it, both brought to a size to look at.

    Args:
        found: the plugin's FrameInstances.
    """
    size = tile_size(*frame.shape[:2])
    scale = np.array([size[1] / frame.shape[1], size[0] / frame.shape[0]] * 2, np.float32)
    masks = None if found.masks is None else np.array([_enlarged(mask, size) for mask in found.masks], bool)
    if masks is not None:
        masks = masks.reshape(len(found), *size)
    enlarged = replace(found, xyxy=found.xyxy * scale, masks=masks)
    picture = np.asarray(Image.fromarray(frame).convert("RGB").resize(size[::-1], Image.Resampling.BICUBIC))
    drawn = load_object("plugins.tracking.overlay:draw_instances")(picture, enlarged)
    return _named(Image.fromarray(drawn), sensor)


def off_tile(sensor: str, height: int, width: int) -> Image.Image:
    """In the place of a sensor that is off."""
    tall, wide = tile_size(height, width)
    rows, columns = np.mgrid[:tall, :wide]
    stripes = ((rows + columns) // 14 % 2)[..., None]
    tile = Image.fromarray(np.where(stripes, _STRIPES[0], _STRIPES[1]).astype(np.uint8))
    ImageDraw.Draw(tile).text((wide / 2, tall / 2), "off", fill=_INK, font=ImageFont.load_default(20), anchor="mm")
    return _named(tile, sensor)


def draw_tiles(seen: Mapping[str, np.ndarray], sensors: Sequence[str], size: tuple[int, int], found: Any) -> list[Any]:
    """A tile for each sensor, in order; `size` is (height, width) of the video."""
    return [draw_tile(name, seen[name], found) if name in seen else off_tile(name, *size) for name in sensors]


def grid(tiles: Sequence[Image.Image]) -> np.ndarray:
    """Tiles side by side, four in a square, as one uint8 frame."""
    arrays = [np.asarray(tile) for tile in tiles]
    if len(arrays) != 4:
        return np.concatenate(arrays, axis=1)
    return np.concatenate([np.concatenate(arrays[:2], axis=1), np.concatenate(arrays[2:], axis=1)])


def data_uri(image: Image.Image, *, longest: int = TILE, quality: int = 80) -> str:
    """The image as text that an <img> takes, scaled down to `longest` pixels where it is larger."""
    shown = image.copy()
    shown.thumbnail((longest, longest))
    buffer = io.BytesIO()
    shown.save(buffer, "webp", quality=quality, method=1)
    return f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _enlarged(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A mask bool [H, W] at another size, its steps rounded off."""
    image = Image.fromarray(mask.astype(np.uint8) * 255).resize(size[::-1], Image.Resampling.BILINEAR)
    return np.asarray(image) > 127


def _named(tile: Image.Image, sensor: str) -> Image.Image:
    """The sensor's name in the corner."""
    pen, font = ImageDraw.Draw(tile), ImageFont.load_default(14)
    at = (9, tile.height - 9)
    left, top, right, bottom = pen.textbbox(at, SENSORS[sensor], font=font, anchor="lb")
    pen.rectangle((left - 5, top - 4, right + 5, bottom + 4), fill=_PLATE)
    pen.text(at, SENSORS[sensor], fill=_INK, font=font, anchor="lb")
    return tile
