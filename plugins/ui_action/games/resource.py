"""Resource allocation: send each front what it needs, then commit. Pure rules, the same in web/resource.js.

What was sent is never shown, only a note on the screen right after it. Served one front after the other, a front
that needs two units looks the same after its first and its second, so one screen tells the next order about half of
the time; the note before it tells the rest. The first front has just been sent its first unit when the game begins:
without that the first screen would be the one that leaves no doubt.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from .prng import Xorshift32

FRONTS = 3
ORDERS = 8
STEPS = 24


@dataclass(frozen=True, slots=True)
class ResourceState:
    """All there is to know.

    Attributes:
        demands: units that each of the three fronts needs, 1 or 2.
        sent: units that each has been sent.
        carrying: whether a unit has been picked from the reserve.
        note: (units, front) of the note on the screen: 1 sent, -1 called back, 0 for no note.
        orders: units sent and called back, and commits, at most 8.
        steps: actions of any kind, at most 24.
        outcome: "playing", "won" or "lost".
    """

    seed: int
    demands: tuple[int, ...]
    sent: tuple[int, ...] = (0, 0, 0)
    carrying: bool = False
    note: tuple[int, int] = (0, 0)
    orders: int = 0
    steps: int = 0
    outcome: str = "playing"


def begin(seed: int) -> ResourceState:
    """Every front needs two units; in half of the games one of them needs only one."""
    random = Xorshift32(seed, 1)
    demands = [2] * FRONTS
    if random.below(2):
        demands[random.below(FRONTS)] = 1
    return ResourceState(seed, tuple(demands), sent=(1, 0, 0), note=(1, 0))


def instruction(state: ResourceState) -> str:
    """What the player is asked to do."""
    return "Send every front exactly what it needs, then commit"


def apply(state: ResourceState, command: tuple[str | int, ...]) -> tuple[ResourceState, ...]:
    """Carry out ("pick",), ("send", front), ("recall", front), ("commit",), ("idle",) or ("quit",)."""
    if command[0] == "quit":
        return (replace(state, outcome="lost"),)
    after = replace(state, steps=state.steps + 1)
    if command[0] == "pick":
        after = replace(after, carrying=not state.carrying)
    elif command[0] in ("send", "recall"):
        after = _ordered(after, int(command[1]), 1 if command[0] == "send" else -1)
    elif command[0] == "commit":
        outcome = "won" if state.sent == state.demands else "lost"
        after = replace(after, carrying=False, note=(0, 0), orders=state.orders + 1, outcome=outcome)
    else:
        after = replace(after, carrying=False, note=(0, 0))
    if after.outcome == "playing" and (after.orders >= ORDERS or after.steps >= STEPS):
        after = replace(after, outcome="lost")
    return (after,)


def _ordered(state: ResourceState, front: int, units: int) -> ResourceState:
    if state.sent[front] + units < 0:
        return replace(state, carrying=False, note=(0, 0))
    sent = tuple(count + (units if number == front else 0) for number, count in enumerate(state.sent))
    return replace(state, sent=sent, carrying=False, note=(units, front), orders=state.orders + 1)
