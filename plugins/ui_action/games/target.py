"""Target localisation: select the unit that the instruction names. Pure rules, the same in web/target.js."""

from __future__ import annotations

from dataclasses import dataclass, replace

from .assets import Board
from .prng import Xorshift32

KINDS = ("tank", "plane", "ship", "soldier")
COLOURS = ("red", "blue", "yellow", "purple")
TRIES = 3
FEWEST, MOST = 6, 10


@dataclass(frozen=True, slots=True)
class Unit:
    """One unit on the board; no two are alike."""

    kind: str
    colour: str
    column: int
    row: int


@dataclass(frozen=True, slots=True)
class TargetState:
    """All there is to know.

    Attributes:
        units: 6 to 10.
        target: number of the unit asked for.
        selected: number of the unit selected, -1 if none.
        tries: actions so far, at most 3.
        outcome: "playing", "won" or "lost".
    """

    seed: int
    units: tuple[Unit, ...]
    target: int
    selected: int = -1
    tries: int = 0
    outcome: str = "playing"


def begin(seed: int, board: Board) -> TargetState:
    """Draw 6 to 10 different units, their cells, and the one asked for."""
    random = Xorshift32(seed, 1)
    count = FEWEST + random.below(MOST - FEWEST + 1)
    looks = random.shuffled([(kind, colour) for kind in KINDS for colour in COLOURS])
    cells = random.shuffled(board.cells())
    units = tuple(Unit(*looks[number], *cells[number]) for number in range(count))
    return TargetState(seed, units, random.below(count))


def instruction(state: TargetState) -> str:
    """What the player is asked to do."""
    unit = state.units[state.target]
    return f"Select the {unit.colour} {unit.kind}"


def apply(state: TargetState, command: tuple[str | int, ...]) -> tuple[TargetState, ...]:
    """Carry out ("select", column, row), ("clear",), ("idle",) or ("quit",); one state follows."""
    if command[0] == "quit":
        return (replace(state, outcome="lost"),)
    selected = state.selected
    if command[0] == "select":
        hits = [number for number, unit in enumerate(state.units) if (unit.column, unit.row) == command[1:]]
        selected = hits[0] if hits else -1
    elif command[0] == "clear":
        selected = -1
    tries = state.tries + 1
    outcome = "won" if selected == state.target else "lost" if tries >= TRIES else "playing"
    return (replace(state, selected=selected, tries=tries, outcome=outcome),)
