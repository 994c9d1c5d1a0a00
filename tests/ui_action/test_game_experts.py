"""Experts never fail, chance nearly always does, and what a modality can tell is known."""

from __future__ import annotations

import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plugins.ui_action.actions import ALLOWED, PLATFORMS, Action
from plugins.ui_action.environments.simulator import events
from plugins.ui_action.errors import UIActionInputError
from plugins.ui_action.games import TASKS, Game, make_game
from plugins.ui_action.games.ceilings import ceilings
from plugins.ui_action.games.experts import decide, random_action
from plugins.ui_action.games.prng import Xorshift32
from plugins.ui_action.screen import Screen

CELLS = [(task, platform) for task in TASKS for platform in PLATFORMS]
STEPS = 60
GAMES = 300 if os.environ.get("QUARTET_LONG") else 40  # `make parity` plays more


def act(game: Game, action: Action) -> None:
    for event in events(action, game.platform, Screen(game.layout.width, game.layout.height)):
        game.handle(event)


def expert_wins(game: Game, seed: int) -> bool:
    game.reset(seed)
    for _ in range(STEPS):
        if game.done:
            break
        act(game, decide(game, seed).action)
    return game.success


def chance_wins(game: Game, seed: int) -> bool:
    game.reset(seed)
    random = Xorshift32(seed, 3)
    for _ in range(STEPS):
        if game.done:
            break
        act(game, random_action(game, random))
    return game.success


@pytest.mark.parametrize(("task", "platform"), CELLS)
def test_the_expert_wins_every_game(task, platform):
    game = make_game(task, platform, adversarial=True)
    assert [seed for seed in range(5000, 5000 + GAMES) if not expert_wins(game, seed)] == []


@pytest.mark.parametrize(("task", "platform"), CELLS)
def test_chance_loses_nearly_every_game(task, platform):
    game = make_game(task, platform)
    wins = sum(chance_wins(game, seed) for seed in range(60))
    assert wins <= (9 if task == "target-localisation" else 3)


@pytest.mark.parametrize(
    ("task", "platform", "seeds", "expected"),
    [
        ("target-localisation", "desktop", 20, {"S": (1, 1), "M": (1, 1), "V": (1, 1)}),
        ("resource-allocation", "mobile", 60, {"S": (0.49, 0.6), "M": (1, 1), "V": (0.49, 0.6)}),
        ("resource-allocation", "desktop", 40, {"S": (0.49, 0.6), "M": (1, 1), "V": (0.49, 0.6)}),
        ("area-control", "web", 80, {"S": (0.42, 0.54), "M": (0.62, 0.76), "V": (1, 1)}),
    ],
)
def test_what_a_modality_can_tell_at_best_is_as_designed(task, platform, seeds, expected):
    measured = ceilings(task, platform, range(seeds))
    assert [name for name, (low, high) in expected.items() if not low <= measured[name] <= high] == []
    assert list(measured) == ["S", "M", "V"]


@settings(max_examples=60)
@given(st.sampled_from(CELLS), st.integers(0, 2**32 - 1), st.integers(0, 6), st.integers(0, 10**9))
def test_in_any_state_the_expert_acts_on_its_target_and_says_what_its_slots_say(cell, seed, stumbles, phrasing):
    game = make_game(*cell)
    game.reset(seed)
    random = Xorshift32(seed, 3)
    for _ in range(stumbles):
        act(game, random_action(game, random))
    if game.done:
        return
    decision = decide(game, phrasing)
    values = dict(decision.slots)
    assert decision.action.type in ALLOWED[game.platform]
    assert all(value in decision.sentence for name, value in values.items() if name != "intent")
    assert (decision.target is None) == (values["intent"] == "wait")
    if decision.target is not None:
        x, y = decision.action.end or decision.action.start or (-1, -1)
        assert decision.target.holds(round(x), round(y))
        assert decision.target in [each.box for each in decision.objects]


@pytest.mark.parametrize("task", TASKS)
def test_a_sentence_has_three_to_five_ways_to_say_it_and_the_same_one_each_time(task):
    game = make_game(task, "web")
    said = [decide(game, phrasing).sentence for phrasing in range(60)]
    assert 3 <= len(set(said)) <= 5
    assert said == [decide(game, phrasing).sentence for phrasing in range(60)]
    assert len({decide(game, phrasing).slots for phrasing in range(60)}) == 1


@pytest.mark.parametrize("platform", PLATFORMS)
def test_the_expert_calls_back_what_was_sent_in_excess(platform):
    game = make_game("resource-allocation", platform)
    game.reset(2)
    for _ in range(game.state()["demands"][0]):  # one it had
        game.rules = game._apply(("send", 0))[-1]
    assert dict(decide(game).slots)["intent"] == "recall"
    while not game.done:
        act(game, decide(game).action)
    assert game.success


def test_an_expert_has_nothing_to_do_after_the_end():
    game = make_game("target-localisation", "web")
    act(game, decide(game).action)
    with pytest.raises(UIActionInputError, match="reset"):
        decide(game)
