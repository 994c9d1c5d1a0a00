"""Painting a generated scene: objects over the backdrop from far to near, then the bars, in all layers at once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .scene_backdrop import LAYERS
from .scene_objects import Bar, Layout, SceneObject
from .scene_shapes import Relief, draw, shade, texture

TEMPERATURE, INVERSE_DEPTH = 3, 4  # channels of the world


@dataclass(frozen=True)
class World:
    """A scene before any sensor.

    Attributes:
        layers: float32 [T, H, W, 5]: red, green, blue, temperature, inverse depth (see `scene_backdrop`).
        ids: uint8 [T, H, W], the object that each pixel shows, 0 for none.
        silhouettes: int64 [T, n], pixels of each object if nothing hid it and the frame had no border.
    """

    layers: np.ndarray
    ids: np.ndarray
    silhouettes: np.ndarray


def paint(backdrop: np.ndarray, layout: Layout, time: np.ndarray, light: np.ndarray) -> World:
    """Put a cast [n objects] before a backdrop [T, H, W, 5], which is painted over, under light from direction [3]."""
    size = backdrop.shape[1], backdrop.shape[2]
    ids = np.zeros(backdrop.shape[:3], np.uint8)
    silhouettes = np.zeros((len(time), len(layout.objects)), np.int64)
    scenery = backdrop[..., TEMPERATURE].copy()
    for each in sorted(layout.objects, key=lambda other: other.depth):
        radius = each.radii(time)
        swing = each.swing_rate * time + each.phase
        relief = draw(each.shape, each.positions(time, size), radius, each.angle + each.spin * time, swing)
        silhouettes[:, each.number - 1] = (relief.alpha >= 0.5).sum(axis=(1, 2))
        surface = paint_surface(each, relief, radius, light)
        behind = scenery if each.temperature is None else None
        _place(backdrop, ids, each.number, relief, surface, _shadow_offset(light, size), behind)
    for bar in sorted(layout.bars, key=lambda other: other.depth):
        _paint_bar(backdrop, ids, bar, light)
    return World(backdrop, ids, silhouettes)


def paint_surface(each: SceneObject, relief: Relief, radius: np.ndarray, light: np.ndarray) -> np.ndarray:
    """An object's surface in its box, float32 [T, box, box, 5]; without a temperature that channel is left empty."""
    diffuse, glint = shade(relief.height, radius, light)
    colour, accent = np.array(each.colour, np.float32), np.array(each.accent, np.float32)
    pattern = np.asarray(texture(each.texture, relief.x, relief.y, each.frequency), np.float32)
    surface = np.empty((*relief.alpha.shape, LAYERS), np.float32)
    tone = diffuse * (0.94 + 0.12 * relief.height)
    for channel in range(3):
        surface[..., channel] = (colour[channel] + (accent[channel] - colour[channel]) * pattern) * tone + glint
    if each.temperature is not None:
        surface[..., TEMPERATURE] = each.temperature * (0.9 + 0.1 * relief.height)
    surface[..., INVERSE_DEPTH] = each.depth + 0.03 * relief.height
    return surface


def _shadow_offset(light: np.ndarray, size: tuple[int, int]) -> tuple[int, int]:
    """Where a shadow falls, in whole pixels (x, y)."""
    across, down = (-0.05 * min(size) * light[:2]).round().astype(int)
    return int(across), int(down)


def _window(left: int, top: int, box: int, height: int, width: int) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """The part of a box that lies inside the frame, in the frame's and in the box's own rows and columns."""
    x0, x1 = max(left, 0), max(min(left + box, width), 0)
    y0, y1 = max(top, 0), max(min(top + box, height), 0)
    return (slice(y0, y1), slice(x0, x1)), (slice(y0 - top, y1 - top), slice(x0 - left, x1 - left))


def _place(world, ids, number: int, relief: Relief, surface, shadow: tuple[int, int], scenery) -> None:
    """Blend a drawn object and its shadow into every frame; `scenery` [T, H, W] is the temperature it takes on."""
    _, height, width = ids.shape
    box = relief.alpha.shape[1]
    for frame, (left, top) in enumerate(zip(relief.left.tolist(), relief.top.tolist(), strict=True)):
        seen, part = _window(left + shadow[0], top + shadow[1], box, height, width)
        world[frame][seen][..., :3] *= (1 - np.float32(0.34) * relief.shadow[frame][part])[..., None]
        seen, part = _window(left, top, box, height, width)
        source, alpha = surface[frame][part], relief.alpha[frame][part]
        if scenery is not None:
            source[..., TEMPERATURE] = scenery[frame][seen]
        target = world[frame][seen]
        target += alpha[..., None] * (source - target)
        ids[frame][seen][alpha >= 0.5] = number


def _paint_bar(world: np.ndarray, ids: np.ndarray, bar: Bar, light: np.ndarray) -> None:
    _, height, width = ids.shape
    x = np.arange(width, dtype=np.float32) + 0.5 - np.float32(bar.centre[0])
    y = (np.arange(height, dtype=np.float32) + 0.5 - np.float32(bar.centre[1]))[:, None]
    normal = bar.across.astype(np.float32)
    across, along = normal[0] * x + normal[1] * y, normal[0] * y - normal[1] * x
    fall = np.float32(-0.04 * min(height, width)) * np.sign(light[:2] @ normal).astype(np.float32)
    shadow = np.clip(0.5 + (bar.half_width - np.abs(across - fall)) / np.float32(0.04 * min(height, width)), 0, 1)
    alpha = np.clip(0.5 + bar.half_width - np.abs(across), 0, 1)
    touched = (shadow > 0) | (alpha > 0)
    rows, columns = _span(touched.any(axis=1)), _span(touched.any(axis=0))
    part = world[:, rows, columns]
    part[..., :3] *= (1 - np.float32(0.35) * shadow[rows, columns])[..., None]
    part += alpha[rows, columns, None] * (_bar_surface(bar, across, along, light)[rows, columns] - part)
    ids[:, alpha >= 0.5] = 0


def _span(used: np.ndarray) -> slice:
    places = np.flatnonzero(used)
    return slice(places[0], places[-1] + 1) if len(places) else slice(0, 0)


def _bar_surface(bar: Bar, across: np.ndarray, along: np.ndarray, light: np.ndarray) -> np.ndarray:
    """The bar's five layers, [H, W, 5]: rounded like a pillar, with the grain of its finish."""
    unit = np.clip(across / np.float32(bar.half_width), -1, 1)
    bulge = np.sqrt(1 - np.float32(0.9) * unit * unit)
    tone = 0.45 + 0.65 * np.clip(unit * np.float32(light[:2] @ bar.across) + bulge * np.float32(light[2]), 0, 1)
    tone = tone * _finish(bar.finish, across, along)
    surface = np.empty((*across.shape, LAYERS), np.float32)
    surface[..., :3] = tone[..., None] * np.array(bar.colour, np.float32) * np.float32(1.15)
    surface[..., TEMPERATURE] = bar.temperature + 0.02 * (tone - 0.8)
    surface[..., INVERSE_DEPTH] = bar.depth + 0.02 * (bulge - 1)
    return surface


def _finish(finish: str, across: np.ndarray, along: np.ndarray) -> np.ndarray:
    """Brightness of a surface at a point, about 1."""
    if finish == "brick":
        course = np.floor(along / 5)
        joint = (along - 5 * course < 1) | ((across + 5 * (course % 2)) % 10 < 1)
        return np.where(
            joint, 1.3, 0.95 + 0.09 * np.sin(3.7 * course + 2.1 * np.floor((across + 5 * (course % 2)) / 10))
        )
    if finish == "wood":
        return 0.95 + 0.12 * np.sin(1.6 * across + 1.5 * np.sin(0.09 * along)) + 0.05 * np.sin(4.1 * across)
    if finish == "metal":
        ring = along % 22
        return np.where(ring < 2, 0.75, np.where(ring < 4, 1.2, 1.0))
    return 1 + 0.05 * np.sin(0.7 * along + 2 * np.sin(0.5 * across)) + 0.05 * np.sin(1.9 * across + 0.8 * along)
