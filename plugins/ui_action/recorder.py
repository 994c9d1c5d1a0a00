"""Recorded expert play: for every decision what was to be seen, what the expert says and does, and where things are.

Now and then the expert is made to stumble, and goes on from there: a model trained on flawless play alone does not know
what to do after its own first mistake.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from PIL import Image

from .actions import Action, Platform
from .environments.simulator import events
from .games import Game, make_game
from .games.assets import Box
from .games.experts import Decision, decide, random_action
from .games.game import State
from .games.objects import CLASSES, objects
from .games.prng import Xorshift32
from .games.raster import raster
from .games.resource import FRONTS, ResourceState
from .games.target import TargetState
from .pointing import Layout
from .screen import Screen

STUMBLES, THINNED = 103, 104  # streams of random numbers
# What a visual token may show: what can be pressed, and what has to be read.
LABELS = (
    *CLASSES,
    "front of one",
    *(f"{note} {front + 1}" for note in ("sent to", "back from") for front in range(FRONTS)),
)


@dataclass(frozen=True)
class Recorded:
    """One decision of an expert.

    Attributes:
        task, platform, seed, number: which game, and which decision of it, from 0.
        instruction: the task in words.
        screens: after each of the last actions, oldest first, at most as many as asked for; the last one is now.
        frames: since the last action, oldest first; the last one is now.
        screen_layouts, frame_layouts: what those show.
        decision: what the expert says and does.
    """

    task: str
    platform: Platform
    seed: int
    number: int
    instruction: str
    screens: tuple[Image.Image, ...]
    frames: tuple[Image.Image, ...]
    screen_layouts: tuple[Layout, ...]
    frame_layouts: tuple[Layout, ...]
    decision: Decision

    @property
    def screen(self) -> Screen:
        """The size that its actions are meant for."""
        return Screen(*self.screens[-1].size)


def record(
    task: str,
    platform: Platform,
    seed: int,
    *,
    screens: int = 3,
    frames: int = 4,
    stumbling: float = 0.0,
    most_units: int | None = None,
) -> Iterator[Recorded]:
    """Every decision of one game, in order.

    Args:
        screens, frames: K and F, how many of each are kept.
        stumbling: how often, 0 to 1, a random action takes the place of the expert's, which is recorded all the same.
        most_units: in target localisation, leave out units until there are no more than that.
    """
    game, stumble = make_game(task, platform), Xorshift32(seed, STUMBLES)
    shown = list(game.reset(seed))
    if most_units is not None and isinstance(game.rules, TargetState):
        game.rules = _thinned(game.rules, most_units)
        shown = [game.rules]
    after: list[State] = [game.rules]
    size = Screen(game.layout.width, game.layout.height)
    for number in range(1000):
        if game.done:
            return
        decision = decide(game, seed * 1000 + number)
        seen, clip = after[-screens:], shown[-frames:]
        yield Recorded(
            task,
            platform,
            seed,
            number,
            game.instruction,
            tuple(raster(game.display(state)) for state in seen),
            tuple(raster(game.display(state)) for state in clip),
            tuple(_layout(game, state, decision) for state in seen),
            tuple(_layout(game, state, decision) for state in clip),
            decision,
        )
        stumbles = stumble.below(1000) < 1000 * stumbling
        shown = _played(game, random_action(game, stumble) if stumbles else decision.action, size) or shown
        after.append(game.rules)


def _played(game: Game, action: Action, size: Screen) -> list[State]:
    return [state for event in events(action, game.platform, size) for state in game.handle(event)]


def _layout(game: Game, state: State, decision: Decision) -> Layout:
    """What a screen shows; what the decision is aimed at is asked for on the current one alone."""
    shown = [(each.name, each.box) for each in objects(game.layout, state, game.adversarial)]
    if isinstance(state, ResourceState):
        shown = _read(game, state, shown)
    kinds = tuple(1 + LABELS.index(name) for name, _ in shown)
    now = state is game.rules
    target = _corners(decision.target) if now and decision.target is not None else None
    return Layout(kinds, tuple(_corners(box) for _, box in shown), target, past=not now)


def _read(game: Game, state: ResourceState, shown: list[tuple[str, Box]]) -> list[tuple[str, Box]]:
    """With how much each front needs, and the note of what was just sent: from pixels alone it takes long to see them.

    A front is the n-th of those that are shown.
    """
    demands = iter(state.demands)
    named = [("front of one" if name == "front" and next(demands) == 1 else name, box) for name, box in shown]
    units, front = state.note
    note = game.layout.box("toast")
    if units and note is not None:
        named.append((f"{'sent to' if units > 0 else 'back from'} {front + 1}", note))
    return named


def _corners(box: tuple[int, int, int, int]) -> tuple[float, float, float, float]:
    x, y, width, height = box
    return float(x), float(y), float(x + width), float(y + height)


def _thinned(state: TargetState, most: int) -> TargetState:
    """The same game with fewer units, the one asked for among them."""
    others = [number for number in range(len(state.units)) if number != state.target]
    kept = [state.target, *Xorshift32(state.seed, THINNED).shuffled(others)[: most - 1]]
    units = tuple(state.units[number] for number in sorted(kept))
    return replace(state, units=units, target=sorted(kept).index(state.target))
