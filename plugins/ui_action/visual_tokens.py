"""How many tokens screens cost a Qwen2.5-VL: exact, without a processor.

Sizes are of the image that the model sees, in pixels, multiples of 28. A run of visual tokens stands between two
delimiters, `<|vision_start|>` and `<|vision_end|>`.
"""

from __future__ import annotations

import math

from .coordinates import FACTOR
from .errors import UIActionInputError
from .strategy import Medium, Term

DELIMITERS = 2
FRAMES_PER_TOKEN = 2


def image_pads(width: int, height: int) -> int:
    """Tokens of one image, without delimiters. Raises UIActionInputError for sides that are no multiples of 28."""
    if min(width, height) < FACTOR or width % FACTOR or height % FACTOR:
        raise UIActionInputError(f"{width} x {height} pixels: give multiples of {FACTOR}, as smart_resize does")
    return (width // FACTOR) * (height // FACTOR)


def video_pads(width: int, height: int, frames: int) -> int:
    """Tokens of one clip, without delimiters; an odd number of frames is made even by repeating the last."""
    return image_pads(width, height) * math.ceil(_at_least_one(frames, "frames") / FRAMES_PER_TOKEN)


def image_tokens(width: int, height: int) -> int:
    """Tokens of one image with its delimiters."""
    return image_pads(width, height) + DELIMITERS


def video_tokens(width: int, height: int, frames: int) -> int:
    """Tokens of one clip with its delimiters."""
    return video_pads(width, height, frames) + DELIMITERS


def medium_tokens(medium: Medium, width: int, height: int, *, images: int, frames: int) -> int:
    """Tokens of one medium: `images` screens for M, `frames` of a clip for V, one screen for S."""
    match medium:
        case "V":
            return video_tokens(width, height, frames)
        case "M":
            return _at_least_one(images, "images") * image_tokens(width, height)
        case "S":
            return image_tokens(width, height)


def term_tokens(term: Term, width: int, height: int, *, images: int, frames: int) -> int:
    """Visual tokens of one sample of that kind: fused media add up."""
    return sum(medium_tokens(medium, width, height, images=images, frames=frames) for medium in term)


def _at_least_one(number: int, what: str) -> int:
    if number < 1:
        raise UIActionInputError(f"{number} {what}: give at least 1")
    return number
