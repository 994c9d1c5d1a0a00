"""Area control: man the sector that a convoy is about to enter. Pure rules, the same in web/area.js.

Four sectors, and a lane from each to the next. At every decision one convoy is in sight, in the middle of a lane or a
quarter of the way along it, and nothing of its looks tells where it goes or how fast: only its motion does. A fast
convoy in the middle, or any convoy with a quarter of the lane before it, enters within the four ticks that the next
action takes; every other one does not, and men sent too early are gone when it comes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from .prng import Xorshift32

SECTORS = 4
LANE = 16
PERIOD = 4
END_TICK = 40
NEEDED = 3
SPEEDS = (1, 2)


@dataclass(frozen=True, slots=True)
class Convoy:
    """One convoy of the schedule.

    Attributes:
        lane: from sector `lane` to the next.
        at: where on it, 0 to 16, the convoy is at the first decision that sees it.
        heading: 1 towards the next sector, -1 back.
        speed: steps a tick, 1 or 2.
    """

    lane: int
    at: int
    heading: int
    speed: int

    @property
    def goal(self) -> int:
        """The sector that it will enter."""
        return (self.lane + 1) % SECTORS if self.heading > 0 else self.lane

    def left(self, position: int) -> int:
        """Steps still to go."""
        return LANE - position if self.heading > 0 else position


@dataclass(frozen=True, slots=True)
class AreaState:
    """All there is to know.

    Attributes:
        schedule: every convoy of the game, in order.
        road: (number in the schedule, position) of those on the road.
        sent: how many of the schedule have set out.
        held: which of the four sectors the player holds.
        garrison: the sector manned during this action, -1 if none; gone when the action ends.
        tick: the clock; the first decision is at 0, and at 40 the game ends.
        outcome: "playing", "won" or "lost".
    """

    seed: int
    schedule: tuple[Convoy, ...]
    road: tuple[tuple[int, int], ...] = ()
    sent: int = 0
    held: tuple[bool, ...] = (False, False, False, False)
    garrison: int = -1
    tick: int = -PERIOD
    outcome: str = "playing"


def _drawn(random: Xorshift32, lane: int) -> Convoy:
    heading = 1 - 2 * random.below(2)
    fast = random.below(4) > 0
    middle = random.below(4) > 0
    quarter = LANE // 4 if heading > 0 else LANE - LANE // 4  # it has just left a sector behind
    return Convoy(lane, LANE // 2 if middle else quarter, heading, 2 if fast else 1)


def _schedule(random: Xorshift32) -> tuple[Convoy, ...]:
    lane, convoys = random.below(SECTORS), []
    for _ in range(END_TICK // PERIOD):
        convoys.append(_drawn(random, lane))
        lane = (lane + 1 + random.below(SECTORS - 1)) % SECTORS
    return tuple(convoys)


def _within_reach(schedule: tuple[Convoy, ...]) -> bool:
    """Whether perfect play holds enough sectors at the end."""
    actions, goals = END_TICK // PERIOD, set()
    for convoy in schedule:
        actions -= -(-convoy.left(convoy.at) // (PERIOD * convoy.speed))
        if actions < 0:
            break
        goals.add(convoy.goal)
    return len(goals) >= NEEDED


def begin(seed: int) -> tuple[AreaState, ...]:
    """The states of the four ticks before the first decision, the last one at tick 0."""
    random = Xorshift32(seed, 1)
    schedule = _schedule(random)
    while not _within_reach(schedule):
        schedule = _schedule(random)
    return _period(AreaState(seed, schedule))


def instruction(state: AreaState) -> str:
    """What the player is asked to do."""
    return "Man the sector that the convoy is about to enter, hold three of four"


def apply(state: AreaState, command: tuple[str | int, ...]) -> tuple[AreaState, ...]:
    """Carry out ("capture", sector), ("idle",) or ("quit",); the states of the ticks that it takes follow."""
    if command[0] == "quit":
        return (replace(state, outcome="lost"),)
    return _period(replace(state, garrison=int(command[1]) if command[0] == "capture" else -1))


def _period(state: AreaState) -> tuple[AreaState, ...]:
    states = []
    for number in range(1, PERIOD + 1):
        state = _tick(state, number)
        states.append(state)
    return tuple(states)


def _tick(state: AreaState, number: int) -> AreaState:
    road, held = [], list(state.held)
    for which, position in state.road:
        convoy = state.schedule[which]
        position += convoy.heading * convoy.speed
        if convoy.left(position) > 0:
            road.append((which, position))
        else:
            held[convoy.goal] = convoy.goal == state.garrison
    sent = state.sent
    # The next one sets out halfway, so that a clip shows it move and no earlier screen shows it at all.
    if number == PERIOD // 2 and sent < len(state.schedule) and _soon_empty(state, road):
        convoy = state.schedule[sent]
        road.append((sent, convoy.at - (PERIOD - number) * convoy.heading * convoy.speed))
        sent += 1
    tick = state.tick + 1
    outcome = "playing"
    if tick >= END_TICK:
        outcome = "won" if sum(held) >= NEEDED else "lost"
    garrison = -1 if number == PERIOD else state.garrison
    return replace(state, road=tuple(road), sent=sent, held=tuple(held), garrison=garrison, tick=tick, outcome=outcome)


def _soon_empty(state: AreaState, road: list[tuple[int, int]]) -> bool:
    ticks = PERIOD - PERIOD // 2
    return all(state.schedule[which].left(at) <= ticks * state.schedule[which].speed for which, at in road)
