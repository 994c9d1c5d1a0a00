"""From an event on the screen to a command of the rules; the same in web/controls.js."""

from __future__ import annotations

from .assets import Layout
from .events import Event
from .resource import ResourceState

Command = tuple[str | int, ...]
IDLE: Command = ("idle",)
CODE_LENGTH = 2


def pointed(layout: Layout, state: object, event: Event) -> Command | None:
    """The command of a pointer event; None for one that costs nothing: the second half of a double tap."""
    if layout.task == "resource-allocation" and isinstance(state, ResourceState):
        return _allocate(layout, state, event)
    if event.kind == "double_tap":
        return None
    if layout.task == "target-localisation":
        return _locate(layout, event)
    return _control(layout, event)


def typed(layout: Layout, code: str) -> Command:
    """The command of a code typed and sent with Enter: a cell such as B3, a sector such as C, or nothing: commit."""
    if layout.task == "resource-allocation":
        return ("commit",) if code == "" else IDLE
    if layout.task == "area-control":
        return ("capture", ord(code) - ord("A")) if code in ("A", "B", "C", "D") else IDLE
    if len(code) == CODE_LENGTH and "A" <= code[0] <= "Z" and "1" <= code[1] <= "9":
        place = (ord(code[0]) - ord("A"), int(code[1]) - 1)
        if place in layout.board.cells():
            return ("select", *place)
    return IDLE


def _locate(layout: Layout, event: Event) -> Command:
    clear = layout.box("clear")
    if event.kind == "secondary_tap" or (event.kind == "tap" and clear and clear.holds(event.x, event.y)):
        return ("clear",)
    if event.kind in ("tap", "long_press"):
        for column, row in layout.board.cells():
            if layout.board.box(column, row).holds(event.x, event.y):
                return ("select", column, row)
    return IDLE


def _front(layout: Layout, x: int, y: int, name: str = "fronts") -> int:
    hits = [number for number, box in enumerate(layout.boxes(name)) if box.holds(x, y)]
    return hits[0] if hits else -1


def _allocate(layout: Layout, state: ResourceState, event: Event) -> Command:
    style = layout.places["style"]
    reserve, commit = layout.box("reserve"), layout.box("commit")
    front = _front(layout, event.x, event.y)
    if event.kind in ("tap", "double_tap"):
        if commit and commit.holds(event.x, event.y):
            return ("commit",)
        for command, name in (("send", "plus"), ("recall", "minus")):
            if (button := _front(layout, event.x, event.y, name)) >= 0:
                return (command, button)
        if style == "taps" and reserve and reserve.holds(event.x, event.y):
            return ("pick",)
        if style == "taps" and state.carrying and front >= 0:
            return ("send", front)
    elif event.kind == "drag" and style != "buttons":
        goal = _front(layout, event.end_x, event.end_y)
        if reserve and reserve.holds(event.x, event.y) and goal >= 0:
            return ("send", goal)
    elif event.kind in ("secondary_tap", "long_press") and style != "buttons" and front >= 0:
        return ("recall", front)
    return IDLE


def _control(layout: Layout, event: Event) -> Command:
    half = layout.places["plate"] // 2
    if event.kind in ("tap", "long_press"):
        for number, (x, y) in enumerate(layout.points("sectors")):
            if -half <= event.x - x < half and -half <= event.y - y < half:
                return ("capture", number)
    return IDLE
