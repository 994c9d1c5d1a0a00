"""The screen of resource allocation; the same in web/scene_resource.js."""

from __future__ import annotations

from . import hud
from .assets import Box, Layout, theme
from .display import Painter
from .prng import Xorshift32
from .resource import ORDERS, ResourceState


def ground(painter: Painter, layout: Layout) -> None:
    """The same in every game, so that nothing but the game's own state tells two screens apart."""
    tones, board = theme(layout.platform), layout.board
    random = Xorshift32(7, hud.SCENERY)
    painter.rect(board.x, board.y, board.width, board.height, tones["ground"])
    painter.speckle(Box(*board[:4]), 260, (tones["ground_light"], tones["ground_dark"], tones["grid"]), random)
    flat = layout.platform == "desktop"
    x, y = (board.x, board.y + 82) if flat else (board.x + board.width // 2 - 12, board.y)
    width, height = (board.width, 24) if flat else (24, board.height)
    inset_x, inset_y = (0, 1) if flat else (1, 0)
    painter.rect(x, y, width, height, tones["road_edge"])
    painter.rect(x + inset_x, y + inset_y, width - 2 * inset_x, height - 2 * inset_y, tones["road"])
    trail = Box(x + 2 * inset_x, y + 2 * inset_y, width - 4 * inset_x, height - 4 * inset_y)
    painter.speckle(trail, 60, (tones["road_edge"], tones["road_mark"]), random)
    for front in layout.boxes("fronts"):
        _plate(painter, layout, front, random)
    hud.bar(painter, layout)


def _plate(painter: Painter, layout: Layout, front: Box, random: Xorshift32) -> None:
    tones = theme(layout.platform)
    x, y, width, height = front
    painter.rect(x + 2, y + height, width - 2, 2, tones["ground_dark"])
    painter.bevel(front, tones["plate"], tones["plate_light"], tones["plate_dark"], tones["ink"])
    inside, count = Box(x + 3, y + 3, width - 6, height - 6), width * height // 90
    painter.speckle(inside, count, (tones["plate_light"], tones["plate_dark"]), random)


def figures(painter: Painter, layout: Layout, state: ResourceState, adversarial: bool, code: str) -> None:
    """What is drawn over the ground."""
    for number, front in enumerate(layout.boxes("fronts")):
        _front(painter, layout, front, number, state.demands[number])
    _note(painter, layout, state)
    title = f"SUPPLY >{code}" if code else "SUPPLY"
    hint = {"taps": "PICK, THEN PLACE", "drag": "DRAG TO A FRONT", "buttons": "SEND WITH + AND -"}
    hud.heading(painter, layout, (title, f"{ORDERS} ORDERS", hint[str(layout.places["style"])]), adversarial)
    _controls(painter, layout, state)
    hud.ending(painter, layout, state.outcome)


def _front(painter: Painter, layout: Layout, front: Box, number: int, demand: int) -> None:
    tones = theme(layout.platform)
    x, y, width, height = front
    tall = width < 100
    sign = Box(x + 4, y + 4, 12, 12)
    painter.bevel(sign, tones["paper"], tones["button_light"], tones["button_dark"], tones["ink"])
    painter.text_at(str(number + 1), sign.x + 6, sign.y + 6, tones["ink"])
    fort_x, fort_y = (x + width // 2 + 6, y + 26) if tall else (x + 40, y + height // 2 + 5)
    painter.sprite_at("flag", "blue", fort_x + 4, fort_y - 13)
    painter.sprite_at("fort", "grey", fort_x, fort_y)
    need_x, need_y = (x + 7, y + 42) if tall else (x + 64, y + 6)
    painter.text("NEEDS", need_x, need_y, tones["text" if layout.platform == "desktop" else "ink"])
    for place in range(demand):
        slot = Box(need_x - 2 + place * 20, need_y + 10, 18, 16)
        painter.bevel(slot, tones["card"], tones["bar_dark"], tones["bar_light"], tones["ink"])
        painter.sprite_at("helmet", "blue", slot.x + 9, slot.y + 8)


def _note(painter: Painter, layout: Layout, state: ResourceState) -> None:
    units, front = state.note
    box = layout.box("toast")
    if units == 0 or box is None:
        return
    tones = theme(layout.platform)
    painter.bevel(box, tones["paper"], tones["button_light"], tones["accent"], tones["ink"])
    words = f"1 SENT TO FRONT {front + 1}" if units > 0 else f"1 BACK FROM {front + 1}"
    painter.text_at(words, *box.centre, tones["ink"])


def _controls(painter: Painter, layout: Layout, state: ResourceState) -> None:
    tones = theme(layout.platform)
    reserve, commit = layout.box("reserve"), layout.box("commit")
    if reserve:
        round_one = layout.platform == "mobile"
        hud.button(painter, layout, reserve, *(("", "crate") if round_one else ("RESERVE", "crate")))
        if state.carrying:
            hud.frame(painter, reserve, tones["accent"])
    for sign, name in (("+", "plus"), ("-", "minus")):
        for number, box in enumerate(layout.boxes(name)):
            hud.button(painter, layout, box, sign)
            if sign == "-":
                painter.text(f"FRONT {number + 1}", box.x + 2, box.y - 10, tones["text"])
    if commit:
        hud.button(painter, layout, commit, *(("", "check") if layout.platform == "mobile" else ("COMMIT",)))
