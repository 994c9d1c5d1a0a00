"""Screens as Qwen2.5-VL's vision tower takes them: normalised patches, ordered so that those merged lie together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from .coordinates import smart_resize

PATCH, MERGE, TEMPORAL = 14, 2, 2
FACTOR = PATCH * MERGE  # pixels along each side of what becomes one token
# CLIP's, as in the checkpoints of Qwen2.5-VL.
MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)


@dataclass(frozen=True)
class Patches:
    """One image or clip.

    Attributes:
        values: float32 [t * h * w, 3 * 2 * 14 * 14].
        grid: (t, h, w) in patches, before merging; t is in pairs of frames.
    """

    values: np.ndarray
    grid: tuple[int, int, int]

    @property
    def tokens(self) -> int:
        """How many the language model sees of it."""
        t, h, w = self.grid
        return t * h * w // MERGE**2

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) in pixels of what the model sees: that to which its absolute coordinates refer."""
        return self.grid[2] * PATCH, self.grid[1] * PATCH


def image_patches(image: Image.Image, *, min_pixels: int, max_pixels: int) -> Patches:
    """A still: its one frame is taken twice.

    Raises:
        UIActionInputError: more than 200 times as long as wide.
    """
    return _patches([image] * TEMPORAL, min_pixels, max_pixels)


def video_patches(frames: Sequence[Image.Image], *, min_pixels: int, max_pixels: int) -> Patches:
    """A clip of frames of one size; the last is repeated to make their number even. Limits are of one frame."""
    if len({frame.size for frame in frames}) != 1:
        raise ValueError(f"{len(frames)} frames of sizes {sorted({frame.size for frame in frames})}: give one size")
    return _patches([*frames, *frames[len(frames) - len(frames) % TEMPORAL :]], min_pixels, max_pixels)


def _patches(frames: Sequence[Image.Image], min_pixels: int, max_pixels: int) -> Patches:
    width, height = frames[0].size
    new_height, new_width = smart_resize(height, width, FACTOR, min_pixels=min_pixels, max_pixels=max_pixels)
    pixels = np.stack([_resized(frame, (new_width, new_height)) for frame in frames])
    mean, std = np.array(MEAN, np.float32), np.array(STD, np.float32)
    normal = ((pixels.astype(np.float32) / 255 - mean) / std).transpose(0, 3, 1, 2)
    t, h, w = len(frames) // TEMPORAL, new_height // PATCH, new_width // PATCH
    # [t, pair, channel, h / 2, 2, 14, w / 2, 2, 14]; then what is merged comes next to each other.
    parts = normal.reshape(t, TEMPORAL, 3, h // MERGE, MERGE, PATCH, w // MERGE, MERGE, PATCH)
    values = parts.transpose(0, 3, 6, 4, 7, 2, 1, 5, 8).reshape(t * h * w, -1)
    return Patches(np.ascontiguousarray(values), (t, h, w))


def _resized(frame: Image.Image, size: tuple[int, int]) -> np.ndarray:
    frame = frame.convert("RGB")
    return np.asarray(frame if frame.size == size else frame.resize(size, Image.Resampling.BICUBIC))
