"""Display lists as pixels, with numpy; web/render.js draws the same ones."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from PIL import Image

from .assets import glyph, palette, palette_names, sprite_names, sprite_rows
from .display import LETTER, LETTER_HEIGHT, RECT, SPAN, SPRITE, Command, Display

Pixels = np.ndarray[tuple[int, ...], np.dtype[np.uint8]]


def raster(display: Display) -> Image.Image:
    """The screen as an RGB image of the display's size."""
    canvas = _ground(display.width, display.height, display.ground).copy()
    for command in display.figures:
        _draw(canvas, command)
    return Image.fromarray(canvas)


@lru_cache(maxsize=64)
def _ground(width: int, height: int, commands: tuple[Command, ...]) -> Pixels:
    canvas = np.zeros((height, width, 3), np.uint8)
    for command in commands:
        _draw(canvas, command)
    return canvas


def _draw(canvas: Pixels, command: Command) -> None:
    kind, x, y = command[:3]
    if kind == RECT:
        canvas[max(y, 0) : max(y + command[4], 0), max(x, 0) : max(x + command[3], 0)] = _rgb(command[5])
    elif kind == SPAN:
        canvas[max(y, 0) : max(y + 1, 0), max(x, 0) : max(x + command[3], 0)] = _rgb(command[4])
    elif kind == SPRITE:
        _paste(canvas, x, y, *_sprite(command[3], command[4]))
    else:
        shape, ink = _words(command[4:])
        _paste(canvas, x, y, np.broadcast_to(np.array(_rgb(command[3]), np.uint8), (*shape, 3)), ink)


def _paste(canvas: Pixels, x: int, y: int, colours: Pixels, ink: np.ndarray) -> None:
    height, width = ink.shape
    top, left = max(-y, 0), max(-x, 0)
    bottom, right = min(height, canvas.shape[0] - y), min(width, canvas.shape[1] - x)
    if top < bottom and left < right:
        inside = (slice(top, bottom), slice(left, right))
        place = canvas[y + top : y + bottom, x + left : x + right]
        np.copyto(place, colours[inside], where=ink[inside][..., None])


def _rgb(colour: int) -> tuple[int, int, int]:
    return colour >> 16, colour >> 8 & 255, colour & 255


@lru_cache(maxsize=256)
def _sprite(number: int, colours: int) -> tuple[Pixels, np.ndarray]:
    rows, letters = sprite_rows(sprite_names()[number]), palette(palette_names()[colours])
    pixels = [[_rgb(letters.get(letter, 0)) for letter in row] for row in rows]
    return np.array(pixels, np.uint8), np.array([[letter != "." for letter in row] for row in rows])


@lru_cache(maxsize=256)
def _words(codes: tuple[int, ...]) -> tuple[tuple[int, int], np.ndarray]:
    ink = np.zeros((LETTER_HEIGHT, LETTER * max(len(codes), 1)), bool)
    for place, code in enumerate(codes):
        for row, dots in enumerate(glyph(chr(code))):
            ink[row, place * LETTER : place * LETTER + len(dots)] = [dot == "#" for dot in dots]
    return (ink.shape[0], ink.shape[1]), ink
