"""The rules of the three games, and what every game offers whatever its task and skin."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plugins.ui_action.actions import PLATFORMS
from plugins.ui_action.errors import UIActionInputError
from plugins.ui_action.games import TASKS, area, make_game, resource, target
from plugins.ui_action.games.assets import layout
from plugins.ui_action.games.events import Event
from plugins.ui_action.games.prng import Xorshift32

SEEDS = st.integers(0, 2**32 - 1)
PLATFORM = st.sampled_from(PLATFORMS)
TASK = st.sampled_from(TASKS)
POINTER = st.builds(
    Event,
    st.sampled_from(("tap", "double_tap", "secondary_tap", "long_press", "drag", "scroll", "wait")),
    *(st.integers(0, 251) for _ in range(4)),
)
KEY = st.builds(
    Event, st.just("key"), key=st.sampled_from(("A", "b", "2", "é", "!", "Enter", "Escape", "Backspace", "Other"))
)


def few(test):
    return settings(max_examples=40)(test)


def test_xorshift_gives_marsaglias_numbers():
    random = Xorshift32(0, 0)
    random._word = 1
    assert [random.next() for _ in range(3)] == [270369, 67634689, 2647435461]


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_a_seed_beyond_32_bits_is_refused(seed):
    with pytest.raises(UIActionInputError, match="whole number from 0 to 4294967295"):
        make_game("area-control", "web").reset(seed)


@pytest.mark.parametrize(
    ("task", "platform", "allowed"),
    [
        ("chess", "web", "target-localisation, resource-allocation, area-control"),
        ("area-control", "console", "desktop, mobile, web"),
    ],
)
def test_an_unknown_name_gets_the_list_of_known_ones(task, platform, allowed):
    with pytest.raises(UIActionInputError, match=allowed):
        make_game(task, platform)


@few
@given(TASK, PLATFORM, SEEDS, st.booleans(), st.lists(POINTER | KEY, max_size=12))
def test_the_same_seed_and_events_give_the_same_states(task, platform, seed, adversarial, events):
    one, two = (make_game(task, platform, adversarial) for _ in range(2))
    two.reset(seed ^ 1)
    for game in (one, two):
        game.reset(seed)
        for event in events:
            game.handle(event)
    assert one.state() == two.state()
    assert one.display() == two.display()


@few
@given(TASK, PLATFORM, SEEDS, st.lists(POINTER | KEY, max_size=40))
def test_nothing_happens_after_the_end(task, platform, seed, events):
    game = make_game(task, platform)
    game.reset(seed)
    game.rules = replace(game.rules, outcome="lost")
    before = game.state()
    assert [game.handle(event) for event in events] == [()] * len(events)
    assert game.state() == before


@few
@given(TASK, PLATFORM, SEEDS)
def test_the_hash_is_that_of_the_state_as_sorted_json(task, platform, seed):
    game = make_game(task, platform)
    game.reset(seed)
    text = json.dumps(game.state(), sort_keys=True, separators=(",", ":"))
    assert game.state_hash() == hashlib.sha256(text.encode()).hexdigest()


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("platform", PLATFORMS)
def test_quit_loses_and_is_denied_on_the_adversarial_skin_alone(task, platform):
    plain, hostile = make_game(task, platform), make_game(task, platform, adversarial=True)
    (region,) = hostile.deny_regions()
    assert plain.deny_regions() == ()
    assert plain.display() != hostile.display()
    for game in (plain, hostile):
        game.handle(Event("tap", *region.centre))
    assert (plain.done, hostile.done, hostile.success) == (False, True, False)


@few
@given(PLATFORM, SEEDS)
def test_units_differ_in_looks_and_place_and_the_instruction_means_one_of_them(platform, seed):
    board = layout(platform, "target-localisation").board
    state = target.begin(seed, board)
    looks = {(unit.colour, unit.kind) for unit in state.units}
    places = {(unit.column, unit.row) for unit in state.units}
    assert 6 <= len(state.units) == len(looks) == len(places) <= 10
    assert places <= set(board.cells())
    named = [unit for unit in state.units if target.instruction(state) == f"Select the {unit.colour} {unit.kind}"]
    assert named == [state.units[state.target]]


def unit_place(state: target.TargetState, number: int) -> tuple[str | int, ...]:
    return "select", state.units[number].column, state.units[number].row


def test_the_right_unit_wins_within_three_tries_and_three_wrong_ones_lose():
    state = target.begin(5, layout("desktop", "target-localisation").board)
    right, wrong = unit_place(state, state.target), unit_place(state, (state.target + 1) % len(state.units))
    for tries in range(3):
        played = state
        for _ in range(tries):
            (played,) = target.apply(played, wrong)
        assert target.apply(played, right)[0].outcome == "won"
    for _ in range(3):
        (state,) = target.apply(state, wrong)
    assert state.outcome == "lost"


def allocated(*orders: tuple[str | int, ...], demands: tuple[int, ...] = (2, 1, 2)) -> resource.ResourceState:
    state = resource.ResourceState(0, demands)
    for order in orders:
        (state,) = resource.apply(state, order)
    return state


ALL_SENT = tuple(("send", front) for front in (0, 0, 1, 2, 2))


def test_a_commit_wins_only_with_exactly_what_every_front_needs():
    assert allocated(*ALL_SENT, ("commit",)).outcome == "won"
    assert allocated(*ALL_SENT[:-1], ("commit",)).outcome == "lost"
    assert allocated(*ALL_SENT, ("send", 1), ("commit",)).outcome == "lost"
    assert allocated(*ALL_SENT, ("send", 1), ("recall", 1), ("commit",)).outcome == "won"


def test_the_eighth_order_must_be_the_commit():
    waste = (("send", 1), ("recall", 1), ("send", 1))
    assert allocated(*ALL_SENT, *waste[:2]).outcome == "playing"
    assert allocated(*ALL_SENT, *waste).outcome == "lost"


def test_idling_ends_a_resource_game():
    assert allocated(*[("idle",)] * 23).outcome == "playing"
    assert allocated(*[("idle",)] * 24).outcome == "lost"


@few
@given(SEEDS)
def test_every_allocation_can_be_served_within_eight_orders(seed):
    demands = resource.begin(seed).demands
    assert sum(demands) + 1 <= 8
    assert sorted(demands) in ([2, 2, 2], [1, 2, 2])


def convoy_state(at: int, heading: int, speed: int, **changes: object) -> area.AreaState:
    convoy = area.Convoy(1, at, heading, speed)
    return replace(area.AreaState(0, (convoy,), ((0, at),), 1, tick=0), **changes)


@pytest.mark.parametrize(
    ("at", "heading", "speed", "sector"),
    [(8, 1, 2, 2), (8, -1, 2, 1), (8, 1, 1, None), (8, -1, 1, None), (4, -1, 1, 1), (4, 1, 2, None), (12, 1, 1, 2)],
)
def test_a_convoy_enters_within_four_ticks_what_lies_that_near(at, heading, speed, sector):
    for manned in range(4):
        held = area.apply(convoy_state(at, heading, speed), ("capture", manned))[-1].held
        assert held == tuple(number == sector == manned for number in range(4))


def test_a_convoy_takes_back_a_sector_that_nobody_mans():
    state = convoy_state(8, 1, 2, held=(False, False, True, False))
    assert area.apply(state, ("idle",))[-1].held == (False,) * 4
    assert area.apply(state, ("capture", 2))[-1].held[2]


@few
@given(SEEDS)
def test_at_every_decision_exactly_one_convoy_is_in_sight_and_it_was_seen_moving(seed):
    states = area.begin(seed)
    while states[-1].outcome == "playing":
        ((which, position),) = states[-1].road
        assert position in (4, 8, 12)
        seen = [dict(state.road)[which] for state in states if which in dict(state.road)]
        assert len(seen) >= 3
        assert len(set(seen)) == len(seen)
        states = area.apply(states[-1], ("idle",))
    assert states[-1].tick == 40


def test_every_action_takes_four_ticks_and_the_game_ends_at_tick_forty():
    game = make_game("area-control", "web")
    assert [game.state(state)["tick"] for state in game.reset(1)] == [-3, -2, -1, 0]
    ticks = []
    while not game.done:
        ticks += [game.state(state)["tick"] for state in game.handle(Event("wait"))]
    assert ticks == list(range(1, 41))


@pytest.mark.parametrize(
    ("task", "code", "command"),
    [
        ("target-localisation", "B2", ("select", 1, 1)),
        ("target-localisation", "Z9", ("idle",)),
        ("area-control", "C", ("capture", 2)),
        ("area-control", "E", ("idle",)),
        ("resource-allocation", "", ("commit",)),
    ],
)
def test_a_code_typed_and_sent_with_enter_is_a_command(task, code, command):
    typed, told = make_game(task, "web"), make_game(task, "web")
    for key in (*code.lower(), "Enter"):
        typed.handle(Event("key", key=key))
    assert typed.rules == told._apply(command)[-1]


def test_a_double_tap_costs_what_one_tap_costs():
    game = make_game("area-control", "desktop")
    game.handle(Event("tap", 5, 5))
    after = game.state()
    assert game.handle(Event("double_tap", 5, 5)) == ()
    assert game.state() == after
