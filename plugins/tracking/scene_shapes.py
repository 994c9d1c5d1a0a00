"""Outlines, textures and shading of the objects in a generated scene."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

SHAPES = ("ellipse", "rectangle", "triangle", "star", "blob", "pair")
TEXTURES = ("stripes", "checks", "dots", "rings", "marble", "plain")
REACH = 1.2  # no outline leaves a circle of so many radii


def signed_distance(shape: str, x: np.ndarray, y: np.ndarray, swing: np.ndarray | float) -> np.ndarray:
    """Distance to the outline of a shape of radius 1, negative inside, about right near the outline; y points down.

    `swing` is the phase, in radians, at which a blob wobbles and the limb of an articulated pair swings.
    """
    if shape == "ellipse":
        return _ellipse(x, y, 1.0, 0.72)
    if shape == "rectangle":
        across, down = np.abs(x) - 0.82, np.abs(y) - 0.52
        return np.hypot(np.maximum(across, 0), np.maximum(down, 0)) + np.minimum(np.maximum(across, down), 0) - 0.1
    if shape == "triangle":
        return np.maximum(np.float32(np.sqrt(3) / 2) * np.abs(x) - 0.5 * y, y) - 0.56
    if shape == "star":
        return _star(x, y)
    if shape == "blob":
        angle = np.arctan2(y, x)
        rim = 0.84 + 0.12 * np.cos(2 * angle + swing) + 0.13 * np.cos(3 * angle - 0.7 * swing + 1.0)
        return (np.hypot(x, y) - rim) * np.float32(0.85)
    bend = 0.8 * np.sin(swing)
    along, beside = x + 0.12, y
    limb_x, limb_y = np.cos(bend) * along + np.sin(bend) * beside, np.cos(bend) * beside - np.sin(bend) * along
    body = _ellipse(x + 0.42, y, 0.62, 0.5)
    limb = np.hypot(np.maximum(limb_x - 0.85, 0) + np.minimum(limb_x, 0), limb_y) - 0.3
    return np.minimum(body, limb)


def _ellipse(x: np.ndarray, y: np.ndarray, across: float, down: float) -> np.ndarray:
    """First-order distance to an ellipse with these half axes."""
    level = np.hypot(x / across, y / down)
    steepness = np.hypot(x / across**2, y / down**2)
    return level * (level - 1) / np.maximum(steepness, 1e-3)


def _star(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    sector = np.float32(2 * np.pi / 5)
    length, angle = np.hypot(x, y), np.arctan2(x, -y)
    angle = np.abs((angle + sector / 2) % sector - sector / 2)
    tip, notch = np.array([0.0, 1.1]), 0.56 * np.array([np.sin(np.pi / 5), np.cos(np.pi / 5)])
    normal = (np.array([tip[1] - notch[1], notch[0]]) / np.hypot(*(tip - notch))).astype(np.float32)
    return length * np.sin(angle) * normal[0] + (length * np.cos(angle) - np.float32(tip[1])) * normal[1]


def texture(name: str, x: np.ndarray, y: np.ndarray, frequency: float) -> np.ndarray | float:
    """How much of the second colour a surface shows at a point of the shape's own frame: 0..1."""
    if name == "plain":
        return 0.0
    if name == "stripes":
        wave = 3 * np.sin(frequency * x)
    elif name == "checks":
        wave = 4 * np.sin(frequency * x) * np.sin(frequency * y)
    elif name == "dots":
        wave = 3 * (np.cos(frequency * x) * np.cos(frequency * y) - 0.3)
    elif name == "rings":
        wave = 3 * np.sin(1.2 * frequency * np.hypot(x, y))
    else:
        wave = 2 * np.sin(0.8 * frequency * x + 2 * np.sin(0.6 * frequency * y))
    return np.clip(0.5 + 0.5 * wave, 0, 1)


@dataclass(frozen=True)
class Relief:
    """A shape drawn in its bounding box, frame by frame.

    Attributes:
        left, top: int64 [T], the frame's column and row of the box's first pixel; the box may stick out of the frame.
        x, y: float32 [T, box, box], the pixels in the shape's own frame, in radii.
        alpha: float32 [T, box, box], the share of each pixel that the shape covers.
        height: float32 [T, box, box], 0 at the outline to 1 in the middle.
        shadow: float32 [T, box, box], the soft outline of the shadow that the shape throws.
    """

    left: np.ndarray
    top: np.ndarray
    x: np.ndarray
    y: np.ndarray
    alpha: np.ndarray
    height: np.ndarray
    shadow: np.ndarray


def draw(shape: str, centre: np.ndarray, radius: np.ndarray, angle: np.ndarray, swing: np.ndarray) -> Relief:
    """Draw a shape with its centre [T, 2] (x, y) and radius [T] in pixels, its angle and swing [T] in radians."""
    softness = max(0.22 * float(radius.mean()), 2.0)
    half = int(np.ceil(REACH * radius.max() + softness)) + 1
    left, top = (np.floor(centre).astype(np.int64) - half).T
    offsets = np.arange(2 * half + 1) + 0.5
    across = ((left - centre[:, 0])[:, None] + offsets).astype(np.float32)[:, None, :]
    down = ((top - centre[:, 1])[:, None] + offsets).astype(np.float32)[:, :, None]
    scale = radius.astype(np.float32)[:, None, None]
    cos, sin = ((np.cos(angle) / radius).astype(np.float32), (np.sin(angle) / radius).astype(np.float32))
    x = cos[:, None, None] * across + sin[:, None, None] * down
    y = cos[:, None, None] * down - sin[:, None, None] * across
    depth = -signed_distance(shape, x, y, swing.astype(np.float32)[:, None, None])
    rise = 1 - np.clip(depth * np.float32(2.0), 0, 1)
    pixels = depth * scale
    shadow = np.clip(0.5 + pixels / (2 * softness), 0, 1)
    return Relief(left, top, x, y, np.clip(0.5 + pixels, 0, 1), 1 - rise * rise, shadow * shadow * (3 - 2 * shadow))


def shade(height: np.ndarray, radius: np.ndarray, light: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Diffuse and specular brightness, each [T, box, box], of a rounded surface under a light from direction [3]."""
    steep = (0.5 * radius.astype(np.float32))[:, None, None]
    across, down = np.zeros_like(height), np.zeros_like(height)
    across[:, :, 1:-1] = (height[:, :, :-2] - height[:, :, 2:]) * steep * np.float32(0.5)
    down[:, 1:-1] = (height[:, :-2] - height[:, 2:]) * steep * np.float32(0.5)
    length = np.sqrt(1 + across * across + down * down)
    halfway = (light + np.array([0.0, 0.0, 1.0])) / np.linalg.norm(light + np.array([0.0, 0.0, 1.0]))
    facing, glint = (
        np.maximum(np.float32(v[0]) * across + np.float32(v[1]) * down + np.float32(v[2]), 0) / length
        for v in (light, halfway)
    )
    for _ in range(4):  # to the power of 16
        glint = glint * glint
    return np.float32(0.42) + np.float32(0.75) * facing, np.float32(0.3) * glint * (height > 0)
