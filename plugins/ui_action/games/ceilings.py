"""How often the best possible player could be right who sees one modality only, measured over expert play.

Decisions with identical input of a modality form a group; nobody can tell them apart, so nobody is
right more often than the group's most frequent label. A model above its ceiling sees something that it should not.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import lru_cache

from ..actions import Platform
from ..environments.simulator import events
from ..screen import Screen
from . import make_game
from .area import AreaState
from .display import Display
from .experts import decide
from .game import Game, State
from .raster import raster

SCREENS = 3
FRAMES = 4


@dataclass(frozen=True)
class Seen:
    """What led to one decision: states of the rules.

    Attributes:
        screens: after each of the last actions, the oldest first, the last one is now.
        frames: during the last action, one a tick.
    """

    screens: tuple[State, ...]
    frames: tuple[State, ...]


def ceilings(task: str, platform: Platform, seeds: Iterable[int]) -> dict[str, float]:
    """The greatest share of decisions that can be right: of the sentence's slots, by modality.

    Args:
        seeds: games that the expert plays, one after the other.

    Returns:
        "S": from the screen now; "M": from the screens after each of the last 3 actions; "V": from the last 4 frames of
        the last action. In area control what does not bear on the decision is left out before screens are compared
        (sectors held, convoys other than the one in sight): with it nearly every history would be a group of its own.
    """
    groups: dict[str, dict[bytes, Counter[object]]] = {name: defaultdict(Counter) for name in "SMV"}
    for seed in seeds:
        for key, label in _decisions(make_game(task, platform), seed):
            for name, seen in key.items():
                groups[name][seen][label] += 1
    return {name: _share(group.values()) for name, group in groups.items()}


def _share(groups: Iterable[Counter[object]]) -> float:
    counted = list(groups)
    total = sum(group.total() for group in counted)
    return sum(max(group.values()) for group in counted) / total if total else 0.0


def _decisions(game: Game, seed: int) -> Iterable[tuple[dict[str, bytes], object]]:
    frames = game.reset(seed)
    screens: tuple[State, ...] = (game.rules,)
    screen = Screen(game.layout.width, game.layout.height)
    while not game.done:
        decision = decide(game)
        yield _keys(game, Seen(screens[-SCREENS:], frames[-FRAMES:])), decision.slots
        for event in events(decision.action, game.platform, screen):
            frames = game.handle(event)
        screens = (*screens, game.rules)


def _keys(game: Game, seen: Seen) -> dict[str, bytes]:
    views = {"S": seen.screens[-1:], "M": seen.screens, "V": seen.frames}
    words = game.instruction.encode()
    return {name: b"".join((words, *(_digest(_bare(game, state)) for state in view))) for name, view in views.items()}


def _bare(game: Game, state: State) -> Display:
    """The screen without what does not bear on the decision that the game stands before."""
    if isinstance(state, AreaState) and isinstance(game.rules, AreaState):
        now = {which for which, _ in game.rules.road}
        road = tuple(place for place in state.road if place[0] in now)
        state = replace(state, road=road, held=(False,) * len(state.held), garrison=-1)
    return game.display(state)


@lru_cache(maxsize=4096)
def _digest(display: Display) -> bytes:
    return hashlib.sha256(raster(display).tobytes()).digest()
