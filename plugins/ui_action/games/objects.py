"""What is on a screen, for training labels: classes and boxes, from the game's own state."""

from __future__ import annotations

from dataclasses import dataclass

from . import scene_area
from .area import AreaState
from .assets import Box, Layout
from .resource import ResourceState
from .scene_area import CONVOY
from .target import COLOURS, KINDS, TargetState

TOKEN = 28
UNIT_CLASSES = tuple(f"{colour} {kind}" for colour in COLOURS for kind in KINDS)
PART_CLASSES = ("front", "reserve", "commit", "plus", "minus", "sector", "convoy", "pass", "clear", "quit")
CLASSES = (*UNIT_CLASSES, *PART_CLASSES)


@dataclass(frozen=True, slots=True)
class SceneObject:
    """One thing on the screen.

    Attributes:
        name: one of `CLASSES`.
        number: which of several of that name, from 0; of a unit its number in the game.
        box: where, pixels.
    """

    name: str
    number: int
    box: Box

    @property
    def row(self) -> int:
        """Of the 28-pixel cell, one visual token of Qwen2.5-VL, in which its middle lies."""
        return self.box.centre[1] // TOKEN

    @property
    def column(self) -> int:
        """Of the same cell."""
        return self.box.centre[0] // TOKEN


def objects(layout: Layout, state: object, adversarial: bool) -> tuple[SceneObject, ...]:
    """Everything that can be pressed, and the convoys."""
    found: list[SceneObject] = []
    if isinstance(state, TargetState):
        for number, unit in enumerate(state.units):
            found.append(SceneObject(f"{unit.colour} {unit.kind}", number, layout.board.box(unit.column, unit.row)))
        found += _single(layout, "clear")
    elif isinstance(state, ResourceState):
        for several, name in (("fronts", "front"), ("plus", "plus"), ("minus", "minus")):
            found += [SceneObject(name, number, box) for number, box in enumerate(layout.boxes(several))]
        found += _single(layout, "reserve") + _single(layout, "commit")
    elif isinstance(state, AreaState):
        side = int(layout.places["plate"])
        for number, point in enumerate(layout.points("sectors")):
            found.append(SceneObject("sector", number, _around(point, side)))
        for which, position in state.road:
            point = scene_area.place(layout, state.schedule[which].lane, position)
            found.append(SceneObject("convoy", which, _around(point, CONVOY)))
        found += _single(layout, "pass")
    if adversarial:
        found.append(SceneObject("quit", 0, layout.quit))
    return tuple(found)


def _single(layout: Layout, name: str) -> list[SceneObject]:
    box = layout.box(name)
    return [SceneObject(name, 0, box)] if box else []


def _around(point: tuple[int, int], side: int) -> Box:
    return Box(point[0] - side // 2, point[1] - side // 2, side, side)
