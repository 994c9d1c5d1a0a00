"""The screen of target localisation; the same in web/scene_target.js."""

from __future__ import annotations

from . import hud
from .assets import Board, Box, Layout, theme
from .display import Painter
from .prng import Xorshift32
from .target import TRIES, TargetState

Cell = tuple[int, int]
PLAIN, SAND, WATER, ROAD, TREE, ROCK = range(6)


def terrain(state: TargetState, board: Board) -> dict[Cell, int]:
    """What every cell is: a road across, ponds (under every ship, too), sand, trees and rocks where no unit is."""
    random = Xorshift32(state.seed, hud.SCENERY)
    road = random.below(board.rows)
    taken = {(unit.column, unit.row): unit.kind for unit in state.units}
    grounds = {}
    for cell in board.cells():
        roll = random.below(16)
        ground = ROAD if cell[1] == road else WATER if roll < 2 else SAND if roll < 5 else PLAIN
        if ground == PLAIN and cell not in taken:
            ground = TREE if roll > 12 else ROCK if roll == 12 else PLAIN
        if taken.get(cell) == "ship":
            ground = WATER
        elif ground == WATER and cell in taken and taken[cell] != "plane":
            ground = SAND
        grounds[cell] = ground
    return grounds


def ground(painter: Painter, layout: Layout, state: TargetState) -> None:
    """What stays the same all through a game."""
    tones = theme(layout.platform)
    board, random = layout.board, Xorshift32(state.seed, hud.SCENERY + 1)
    painter.rect(board.x, board.y, board.width, board.height, tones["ground_dark"])
    painter.speckle(Box(*board[:4]), 60, (tones["ground"], tones["grid"]), random)
    grounds = terrain(state, board)
    for (column, row), kind in grounds.items():
        box = board.box(column, row)
        if kind == WATER:
            _pond(painter, layout, box, grounds.get((column - 1, row)), grounds.get((column + 1, row)), random)
        elif kind == ROAD:
            _road(painter, layout, box, random)
        else:
            _field(painter, layout, box, kind, random)
    hud.bar(painter, layout)
    hud.garden(painter, layout)


def _field(painter: Painter, layout: Layout, box: Box, kind: int, random: Xorshift32) -> None:
    tones, name = theme(layout.platform), "sand" if kind == SAND else "ground"
    x, y, width, height = box
    painter.rect(x, y, width, height, tones["grid"])
    painter.rect(x, y, width - 1, height - 1, tones[name])
    painter.speckle(Box(x, y, width - 1, height - 1), 9, (tones[name + "_light"], tones[name + "_dark"]), random)
    if kind == TREE:
        painter.sprite("tree", "grey", x + 2 + random.below(4), y + 10 + random.below(4))
        painter.sprite("tree", "grey", x + 13 + random.below(3), y + 4 + random.below(4))
    elif kind == ROCK:
        painter.sprite("rock", "grey", x + 4 + random.below(10), y + 10 + random.below(8))
    elif random.below(3) == 0:
        painter.sprite("tuft", "grey", x + 2 + random.below(20), y + 2 + random.below(20))


def _pond(painter: Painter, layout: Layout, box: Box, left: int | None, right: int | None, random: Xorshift32) -> None:
    tones = theme(layout.platform)
    x, y, width, height = box
    painter.rect(x, y, width, height, tones["ground"])
    start = x if left == WATER else x + 1
    end = x + width if right == WATER else x + width - 1
    for inset, tone in ((0, "shore"), (1, "water_dark"), (2, "water")):
        first = start if left == WATER else start + inset
        last = end if right == WATER else end - inset
        corner = 3 - inset
        top, bottom = y + 1 + inset, y + height - 1 - inset
        painter.rect(first, top + corner, last - first, bottom - top - 2 * corner, tones[tone])
        inner = first if left == WATER else first + corner
        outer = last if right == WATER else last - corner
        painter.rect(inner, top, outer - inner, bottom - top, tones[tone])
    painter.speckle(Box(x + 5, y + 5, width - 10, height - 10), 5, (tones["water_light"], tones["water_dark"]), random)
    for _ in range(2):
        wave_x, wave_y = x + 4 + random.below(width - 12), y + 5 + random.below(height - 11)
        painter.span(wave_x + 1, wave_y, 3, tones["water_light"])
        painter.span(wave_x, wave_y + 1, 1, tones["water_light"])
        painter.span(wave_x + 4, wave_y + 1, 2, tones["water_light"])


def _road(painter: Painter, layout: Layout, box: Box, random: Xorshift32) -> None:
    tones = theme(layout.platform)
    x, y, width, height = box
    painter.rect(x, y, width, height, tones["ground"])
    painter.speckle(box, 5, (tones["ground_light"], tones["ground_dark"]), random)
    painter.rect(x, y + 4, width, height - 8, tones["road_edge"])
    painter.rect(x, y + 5, width, height - 10, tones["road"])
    painter.speckle(Box(x, y + 6, width, height - 12), 6, (tones["road_edge"], tones["road_mark"]), random)
    for dash in (2, 16):
        painter.rect(x + dash, y + height // 2 - 1, 9, 2, tones["road_mark"])


def figures(painter: Painter, layout: Layout, state: TargetState, adversarial: bool, code: str) -> None:
    """What is drawn over the ground."""
    tones = theme(layout.platform)
    for number, unit in enumerate(state.units):
        box = layout.board.box(unit.column, unit.row)
        x, y = box.centre
        if number == state.selected:
            hud.frame(painter, box, tones["accent"])
        if unit.kind != "plane":
            painter.rect(x - 9, y + 8, 19, 2, tones["water_dark" if unit.kind == "ship" else "ground_dark"])
        painter.sprite_at(unit.kind, unit.colour, x, y)
    title = f"FIND >{code}" if code else "FIND UNIT"
    hud.heading(painter, layout, (title, f"TRY {min(state.tries + 1, TRIES)}/{TRIES}", "SELECT ONE"), adversarial)
    _card(painter, layout, state)
    clear = layout.box("clear")
    if clear:
        hud.button(painter, layout, clear, *(("", "cross") if layout.platform == "mobile" else ("CLEAR",)))
    hud.ending(painter, layout, state.outcome)


def _card(painter: Painter, layout: Layout, state: TargetState) -> None:
    tones, box = theme(layout.platform), layout.box("card")
    if not box:
        return
    hud.card(painter, layout, box)
    tall = box.height > box.width
    x, y = (box.x + box.width // 2, box.y + 46) if tall else (box.x + 18, box.y + box.height // 2)
    words_x = box.x + box.width // 2 if tall else box.x + 36 + (box.width - 40) // 2
    words_y = box.y + 12 if tall else y
    if state.selected < 0:
        painter.text_at("NO UNIT", *box.centre, tones["dim"])
        return
    unit = state.units[state.selected]
    painter.text_at(unit.kind.upper(), words_x, words_y, tones["text"])
    painter.sprite_at(unit.kind, unit.colour, x, y)
