"""Small pictures that travel inside the page: film strips of clips and maps of chosen blocks."""

from __future__ import annotations

import base64
import io

import numpy as np
from PIL import Image

MOST_FRAMES = 24  # of a film strip; webp ends at 16,383 pixels
_SIDE = 256
_KEPT, _LEFT_OUT = (28, 138, 134), (226, 231, 232)  # the accent on a light ground, in light and dark alike


def film_strip(frames: np.ndarray) -> tuple[str, int]:
    """Frames side by side as a data URI, and how many there are; long clips are thinned out.

    Args:
        frames: uint8 [T, H, W, 3].
    """
    chosen = frames[np.unique(np.linspace(0, len(frames) - 1, MOST_FRAMES).round().astype(int))]
    thin = -(-max(chosen.shape[1:3]) // _SIDE)
    chosen = chosen[:, ::thin, ::thin]
    strip = Image.fromarray(np.ascontiguousarray(np.concatenate(list(chosen), axis=1)))
    return data_uri(strip, "webp", quality=80, method=2), len(chosen)


def block_picture(chosen: np.ndarray) -> str:
    """A map of blocks as a data URI: one pixel per pair, rows are query blocks, columns key blocks.

    Args:
        chosen: float [N, N], 1 where the block is computed.
    """
    share = np.clip(chosen, 0, 1)[..., None]
    pixels = share * np.array(_KEPT) + (1 - share) * np.array(_LEFT_OUT)
    return data_uri(Image.fromarray(pixels.round().astype(np.uint8)), "png", optimize=True)


def data_uri(image: Image.Image, kind: str, **options: object) -> str:
    """The image as text that an <img> takes."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"
