"""The screen of area control; the same in web/scene_area.js."""

from __future__ import annotations

from . import hud
from .area import LANE, NEEDED, SECTORS, AreaState
from .assets import Box, Layout, theme
from .display import Painter
from .prng import Xorshift32

ROAD = 14
CONVOY = 14


def place(layout: Layout, lane: int, position: int) -> tuple[int, int]:
    """The pixel in the middle of what is `position` steps along a lane."""
    points = layout.points("sectors")
    (x, y), (end_x, end_y) = points[lane], points[(lane + 1) % SECTORS]
    return x + (end_x - x) * position // LANE, y + (end_y - y) * position // LANE


def ground(painter: Painter, layout: Layout) -> None:
    """The same in every game, so that nothing but the game's own state tells two screens apart."""
    tones, board = theme(layout.platform), layout.board
    random = Xorshift32(11, hud.SCENERY)
    painter.rect(board.x, board.y, board.width, board.height, tones["ground"])
    painter.speckle(Box(*board[:4]), 260, (tones["ground_light"], tones["ground_dark"], tones["grid"]), random)
    for colour, width in (("road_edge", ROAD), ("road", ROAD - 2)):
        for lane in range(SECTORS):
            _lane(painter, layout, lane, width, tones[colour])
    for lane in range(SECTORS):
        for position in range(2, LANE - 1):
            x, y = place(layout, lane, position)
            painter.rect(x - 1, y - 1, 2, 2, tones["road_mark"])
    _middle(painter, layout, random)
    hud.bar(painter, layout)
    hud.garden(painter, layout)


def _lane(painter: Painter, layout: Layout, lane: int, width: int, colour: int) -> None:
    points = layout.points("sectors")
    (x, y), (end_x, end_y) = points[lane], points[(lane + 1) % SECTORS]
    if y == end_y:
        painter.rect(min(x, end_x), y - width // 2, abs(end_x - x), width, colour)
        return
    (x, y), (end_x, end_y) = sorted(((x, y), (end_x, end_y)), key=lambda point: point[1])
    for row in range(y, end_y):
        painter.span(x + (end_x - x) * (row - y) // (end_y - y) - width // 2, row, width, colour)


def _middle(painter: Painter, layout: Layout, random: Xorshift32) -> None:
    """A lake with trees around it, inside the ring of lanes."""
    tones = theme(layout.platform)
    points = layout.points("sectors")
    x, y = sum(point[0] for point in points) // SECTORS, sum(point[1] for point in points) // SECTORS
    half_x, half_y = (points[1][0] - points[0][0]) // 4, (points[2][1] - points[1][1]) // 4
    for inset, tone in ((0, "shore"), (2, "water_dark"), (3, "water")):
        for row in range(-half_y + inset, half_y - inset + 1):
            slope = (half_y - abs(row)) * 2
            half = half_x - inset - max(0, 12 - slope)
            painter.span(x - half, y + row, 2 * half + 1, tones[tone])
    painter.speckle(
        Box(x - half_x + 12, y - half_y + 8, 2 * half_x - 24, 2 * half_y - 16),
        24,
        (tones["water_light"], tones["water_dark"]),
        random,
    )
    for tree in range(8):
        side, shore = (-1 if tree % 2 else 1), (1 if tree % 4 < 2 else -1)
        tree_x = x + side * (half_x - 4 - random.below(half_x))
        painter.sprite_at("tree", "grey", tree_x, y + shore * (half_y - 2))
    painter.sprite_at("rock", "grey", x + half_x // 2, y + 2)


def figures(painter: Painter, layout: Layout, state: AreaState, adversarial: bool, code: str) -> None:
    """What is drawn over the ground."""
    for which, position in state.road:
        x, y = place(layout, state.schedule[which].lane, position)
        painter.rect(x - 6, y + 7, 13, 1, theme(layout.platform)["road_edge"])
        painter.sprite_at("convoy", "red", x, y)
    for number, (x, y) in enumerate(layout.points("sectors")):
        _sector(painter, layout, (number, x, y), state)
    title = f"CONTROL >{code}" if code else "CONTROL"
    hud.heading(painter, layout, (title, f"HELD {sum(state.held)}/{SECTORS}", f"HOLD {NEEDED} SECTORS"), adversarial)
    _card(painter, layout, state)
    rest = layout.box("pass")
    if rest:
        hud.button(painter, layout, rest, *(("", "hourglass") if layout.platform == "mobile" else ("WAIT",)))
    hud.ending(painter, layout, state.outcome)


def _sector(painter: Painter, layout: Layout, sector: tuple[int, int, int], state: AreaState) -> None:
    tones, (number, x, y) = theme(layout.platform), sector
    side = int(layout.places["plate"])
    plate = Box(x - side // 2, y - side // 2, side, side)
    painter.bevel(plate, tones["plate"], tones["plate_light"], tones["plate_dark"], tones["ink"])
    painter.sprite_at("flag", "blue" if state.held[number] else "grey", x + 6, y - 6)
    painter.sprite_at("fort", "grey", x, y + 5)
    painter.rect(plate.x + 2, plate.y + 2, 9, 10, tones["plate_dark"])
    painter.rect(plate.x + 2, plate.y + 2, 8, 9, tones["paper"])
    painter.text(chr(ord("A") + number), plate.x + 4, plate.y + 3, tones["ink"])
    if number == state.garrison:
        painter.sprite_at("helmet", "blue", x, y + 6)
        hud.frame(painter, plate, tones["accent"])


def _card(painter: Painter, layout: Layout, state: AreaState) -> None:
    tones, box = theme(layout.platform), layout.box("card")
    if not box:
        return
    hud.card(painter, layout, box)
    for number in range(SECTORS):
        flag = "blue" if state.held[number] else "grey"
        if box.height > box.width:
            x, y = box.x + 12 + number % 2 * 22, box.y + 18 + number // 2 * 32
        else:
            x, y = box.x + 14 + number * ((box.width - 8) // SECTORS), box.y + box.height // 2
        painter.text_at(chr(ord("A") + number), x - 5, y, tones["text"])
        painter.sprite_at("flag", flag, x + 5, y)
