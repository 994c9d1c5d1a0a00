"""A screen as a list of integer commands, which raster.py and web/render.js draw to the same pixels.

    (RECT, x, y, width, height, colour)
    (SPAN, x, y, width, colour)             one row of pixels
    (SPRITE, x, y, sprite, palette)         numbers in the order of web/art.json
    (TEXT, x, y, colour, code, code, ...)   6 pixels a character, top left at x, y

Colours are 0xRRGGBB. What lies outside the screen is cut off; later commands cover earlier ones.
"""

from __future__ import annotations

from math import isqrt
from typing import NamedTuple

from .assets import Box, palette_names, sprite_names, sprite_rows
from .prng import Xorshift32

RECT, SPAN, SPRITE, TEXT = range(4)
LETTER = 6
LETTER_HEIGHT = 7
Command = tuple[int, ...]


class Display(NamedTuple):
    """One screen.

    Attributes:
        ground: what is the same all through a game, drawn first; renderers may keep it.
        figures: what is drawn over it.
    """

    width: int
    height: int
    ground: tuple[Command, ...]
    figures: tuple[Command, ...]


class Painter:
    """Collects commands; the drawings of which everything on the screen is made."""

    def __init__(self) -> None:
        self.commands: list[Command] = []

    def rect(self, x: int, y: int, width: int, height: int, colour: int) -> None:
        """A filled rectangle."""
        self.commands.append((RECT, x, y, width, height, colour))

    def span(self, x: int, y: int, width: int, colour: int) -> None:
        """A row of pixels."""
        self.commands.append((SPAN, x, y, width, colour))

    def sprite(self, name: str, palette: str, x: int, y: int) -> None:
        """A drawing with its top left corner at x, y."""
        self.commands.append((SPRITE, x, y, sprite_names().index(name), palette_names().index(palette)))

    def sprite_at(self, name: str, palette: str, x: int, y: int) -> None:
        """A drawing around x, y."""
        rows = sprite_rows(name)
        self.sprite(name, palette, x - len(rows[0]) // 2, y - len(rows) // 2)

    def text(self, words: str, x: int, y: int, colour: int) -> None:
        """Capitals, digits and a few signs; a question mark for anything else."""
        self.commands.append((TEXT, x, y, colour, *(ord(letter) for letter in words)))

    def text_at(self, words: str, x: int, y: int, colour: int) -> None:
        """A text around x, y."""
        self.text(words, x - (len(words) * LETTER - 1) // 2, y - LETTER_HEIGHT // 2, colour)

    def bevel(self, box: Box, face: int, light: int, dark: int, edge: int) -> None:
        """A raised plate with its corners cut."""
        x, y, width, height = box
        self.rect(x + 1, y, width - 2, height, edge)
        self.rect(x, y + 1, width, height - 2, edge)
        self.rect(x + 1, y + 1, width - 2, height - 2, dark)
        self.rect(x + 1, y + 1, width - 3, height - 4, light)
        self.rect(x + 2, y + 2, width - 4, height - 5, face)

    def disc(self, x: int, y: int, radius: int, colour: int) -> None:
        """A filled circle, in rows."""
        for step in range(-radius, radius + 1):
            half = isqrt(radius * radius + radius - step * step)
            self.span(x - half, y + step, 2 * half + 1, colour)

    def speckle(self, box: Box, count: int, colours: tuple[int, ...], random: Xorshift32) -> None:
        """Short strokes at random places inside a box."""
        for _ in range(count):
            length = 1 + random.below(3)
            x = box.x + random.below(box.width - length + 1)
            y = box.y + random.below(box.height)
            self.span(x, y, length, colours[random.below(len(colours))])
