"""What both renderers read: drawings, colours and places, as JSON beside the page."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from ..actions import Platform

WEB = Path(__file__).resolve().parent.parent / "web"


class Box(NamedTuple):
    """A rectangle in pixels of the screen."""

    x: int
    y: int
    width: int
    height: int

    @property
    def centre(self) -> tuple[int, int]:
        """The pixel in the middle."""
        return self.x + self.width // 2, self.y + self.height // 2

    def holds(self, x: int, y: int) -> bool:
        """Whether a pixel lies inside."""
        return self.x <= x < self.x + self.width and self.y <= y < self.y + self.height


class Board(NamedTuple):
    """The grid of a platform: square cells; with a shift, odd rows begin later and have one cell less."""

    x: int
    y: int
    width: int
    height: int
    columns: int
    rows: int
    shift: int

    def cells(self) -> list[tuple[int, int]]:
        """(column, row) of every cell, row by row."""
        return [
            (column, row)
            for row in range(self.rows)
            for column in range(self.columns - (1 if self.shift and row % 2 else 0))
        ]

    def box(self, column: int, row: int) -> Box:
        """Where a cell is."""
        side = self.height // self.rows
        return Box(self.x + column * side + (self.shift if row % 2 else 0), self.y + row * side, side, side)


class Layout:
    """One platform's places for one task, from web/layout.json.

    Attributes:
        width, height: of the screen, pixels, multiples of 28.
        board, sheet, banner, quit: of every task.
        places: the task's own boxes by name; lists of boxes where there are several.
    """

    def __init__(self, platform: Platform, task: str) -> None:
        data = _read("layout.json")[platform]
        self.platform, self.task = platform, task
        self.width, self.height = int(data["width"]), int(data["height"])
        self.board = Board(**data["board"])
        self.sheet, self.banner, self.quit = (Box(*data[name]) for name in ("sheet", "banner", "quit"))
        self.places = MappingProxyType(data[task])

    def box(self, name: str) -> Box | None:
        """The one box of that name; None where this platform has none."""
        return Box(*found) if (found := self.places.get(name)) else None

    def boxes(self, name: str) -> list[Box]:
        """All boxes of that name, in order."""
        return [Box(*each) for each in self.places[name]]

    def points(self, name: str) -> list[tuple[int, int]]:
        """All points of that name, in order."""
        return [(int(x), int(y)) for x, y in self.places[name]]


@cache
def _read(name: str) -> dict[str, Any]:
    return json.loads((WEB / name).read_text(encoding="utf-8"))


@cache
def layout(platform: Platform, task: str) -> Layout:
    """The places of one of the nine cells."""
    return Layout(platform, task)


def colour(code: str) -> int:
    """#rrggbb as 0xRRGGBB."""
    return int(code[1:], 16)


@cache
def theme(platform: Platform) -> MappingProxyType[str, int]:
    """A platform's colours by use."""
    return MappingProxyType({use: colour(code) for use, code in _read("art.json")["themes"][platform].items()})


@cache
def sprite_names() -> tuple[str, ...]:
    """Drawings in the order that display lists number them in."""
    return tuple(_read("art.json")["sprites"])


@cache
def palette_names() -> tuple[str, ...]:
    """Palettes in the order that display lists number them in."""
    return tuple(_read("art.json")["palettes"])


@cache
def sprite_rows(name: str) -> tuple[str, ...]:
    """A drawing, a letter of the palette for each pixel, "." where it is transparent."""
    return tuple(_read("art.json")["sprites"][name])


@cache
def palette(name: str) -> MappingProxyType[str, int]:
    """Colours by letter."""
    return MappingProxyType({letter: colour(code) for letter, code in _read("art.json")["palettes"][name].items()})


@cache
def glyph(character: str) -> tuple[str, ...]:
    """Seven rows of five, "#" where there is ink; a question mark for what the font lacks."""
    font = _read("art.json")["font"]
    return tuple(font.get(character, font["?"]).split("/"))
