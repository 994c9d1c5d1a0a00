"""The simulator as an environment, and the same typed actions on the page in a real browser."""

from __future__ import annotations

from collections.abc import Generator

import numpy as np
import pytest

from plugins.ui_action.actions import PLATFORMS, Action, Platform
from plugins.ui_action.environments.base import Environment, Observation
from plugins.ui_action.environments.browser import BrowserEnvironment
from plugins.ui_action.environments.chromium import Chromium
from plugins.ui_action.environments.simulator import SimulatorEnvironment, events
from plugins.ui_action.errors import UIActionInputError
from plugins.ui_action.games import TASKS
from plugins.ui_action.games.events import Event
from plugins.ui_action.games.experts import decide
from plugins.ui_action.games.site import GameSite, serve_games
from plugins.ui_action.screen import Screen

SCREEN = Screen(196, 196)


@pytest.mark.parametrize(
    ("platform", "action", "expected"),
    [
        ("web", Action("click", (10.5, 11.5)), [Event("tap", 10, 12)]),
        ("web", Action("click", (196.0, -0.6)), [Event("tap", 195, 0)]),
        ("web", Action("left_double", (3, 4)), [Event("tap", 3, 4), Event("double_tap", 3, 4)]),
        ("web", Action("right_single", (3, 4)), [Event("secondary_tap", 3, 4)]),
        ("mobile", Action("long_press", (3, 4)), [Event("long_press", 3, 4)]),
        ("mobile", Action("long_press", (3, 4), milliseconds=100), [Event("tap", 3, 4)]),
        ("web", Action("drag", (1, 2), (30, 40)), [Event("drag", 1, 2, 30, 40)]),
        ("web", Action("drag", (1, 2), (4, 5)), [Event("tap", 1, 2)]),
        ("web", Action("scroll", (5, 5), direction="down"), [Event("scroll", 5, 5)]),
        ("mobile", Action("scroll", (9, 99), (9, 20)), [Event("drag", 9, 99, 9, 20)]),
        ("web", Action("wait"), [Event("wait")]),
        ("mobile", Action("press_back"), [Event("key", key="Escape")]),
        ("web", Action("type", text="B2", submit=True), [Event("key", key=key) for key in ("B", "2", "Enter")]),
        ("web", Action("type", text="c\n"), [Event("key", key="c"), Event("key", key="Enter")]),
        ("web", Action("hotkey", keys=("ctrl", "c")), [Event("key", key="Other")]),
        ("web", Action("hotkey", keys=("shift", "c")), [Event("key", key="c")]),
        ("web", Action("hotkey", keys=("Return",)), [Event("key", key="Enter")]),
        ("web", Action("press", keys=("ctrl",)), []),
        ("web", Action("hover", (3, 4)), []),
        ("web", Action("finished"), []),
    ],
)
def test_a_typed_action_comes_down_to_events(platform, action, expected):
    assert events(action, platform, SCREEN) == expected


@pytest.mark.parametrize(
    ("platform", "action", "said"),
    [
        ("mobile", Action("hotkey", keys=("a",)), "mobile has no hotkey: choose one of call_user, click"),
        ("web", Action("long_press", (3, 4)), "web has no long_press"),
        ("web", Action("navigate", text="https://example.org"), "the built-in games have no navigate"),
        ("web", Action("click", (400, 4)), "is not on the screen, 196 x 196 pixels"),
        ("web", Action("click", (float("nan"), 4)), "is not on the screen"),
        ("web", Action("click"), "the point is missing"),
        ("web", Action("drag", (3, 4)), "the end is missing"),
        ("web", Action("hotkey"), "name one"),
        ("web", Action("press", keys=("warp",)), "key 'warp'"),
    ],
)
def test_an_action_that_cannot_be_is_refused_and_changes_nothing(platform, action, said):
    environment = SimulatorEnvironment("area-control", platform)
    before = environment.state_hash()
    with pytest.raises(UIActionInputError, match=said):
        environment.execute(action)
    assert environment.state_hash() == before


def test_keys_held_by_press_alter_those_that_follow_until_released():
    environment = SimulatorEnvironment("area-control", "desktop")
    for action in (Action("press", keys=("ctrl",)), Action("type", text="c")):
        environment.execute(action)
    assert environment.state()["tick"] == 4  # ctrl+c is no letter, but an action
    environment.execute(Action("release", keys=("ctrl",)))
    environment.execute(Action("type", text="c"))
    assert environment.state()["typed"] == "C"
    environment.execute(Action("press", keys=("ctrl",)))
    environment.close()
    assert environment.held == []


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("platform", PLATFORMS)
def test_an_episode_shows_every_tick_and_ends_with_the_experts_success(task, platform):
    environment: Environment = SimulatorEnvironment(task, platform)
    assert isinstance(environment, SimulatorEnvironment)
    observation = environment.reset(12)
    ticks = 4 if task == "area-control" else 1
    for _ in range(30):
        assert len(observation.frames) == ticks
        assert observation.frames[-1] is observation.image
        assert observation.image.size == (environment.screen.width, environment.screen.height)
        assert observation.tick == environment.state().get("tick", 0)
        if observation.done:
            break
        observation = environment.execute(decide(environment.game).action)
    assert (observation.done, observation.success, observation.note) == (True, True, "the game is won")


def test_the_clock_stands_still_while_the_agent_looks_and_thinks():
    environment = SimulatorEnvironment("area-control", "desktop")
    before = environment.reset(3)
    for action in (Action("hover", (9, 9)), Action("finished"), Action("type", text="b")):
        assert environment.execute(action).tick == before.tick
    assert environment.execute(Action("wait")).tick == before.tick + 4


def test_the_same_seed_shows_the_same():
    one, two = (SimulatorEnvironment("target-localisation", "web") for _ in range(2))
    assert np.array_equal(np.asarray(one.reset(8).image), np.asarray(two.reset(8).image))
    assert not np.array_equal(np.asarray(one.reset(9).image), np.asarray(two.reset(8).image))


SCRIPT: dict[Platform, list[Action]] = {
    "desktop": [
        Action("right_single", (40, 60)),
        Action("left_double", (30, 44)),
        Action("hotkey", keys=("ctrl", "c")),
        Action("type", text="B", submit=True),
        Action("hover", (9, 9)),
    ],
    "mobile": [
        Action("long_press", (26, 54)),
        Action("scroll", (84, 100), direction="down"),
        Action("press_back"),
        Action("click", (142, 170)),
    ],
    "web": [
        Action("scroll", (60, 60), direction="down"),
        Action("drag", (10, 60), (90, 120)),
        Action("type", text="c\n"),
        Action("click", (22, 50)),
    ],
}


@pytest.fixture(scope="module")
def site() -> Generator[GameSite]:
    with serve_games() as running:
        yield running


@pytest.fixture(scope="module")
def chromium() -> Generator[Chromium]:
    running = Chromium()
    yield running
    running.close()


def seen(observation: Observation) -> tuple[object, ...]:
    frames = [frame.tobytes() for frame in observation.frames]
    return observation.image.tobytes(), frames, observation.tick, observation.done, observation.success


@pytest.mark.e2e
@pytest.mark.parametrize(
    ("task", "platform"),
    [("target-localisation", "web"), ("resource-allocation", "mobile"), ("area-control", "desktop")],
)
def test_typed_actions_on_the_page_give_the_simulators_episode(chromium, site, task, platform):
    assert first_difference(chromium, site, task, platform, 7) is None


def first_difference(
    chromium: Chromium, site: GameSite, task: str, platform: Platform, most: int
) -> Action | str | None:
    """The action after which page and simulator differ: first those of the script, then the expert's."""
    simulator = SimulatorEnvironment(task, platform)
    width, height = simulator.screen.width, simulator.screen.height
    url = site.page(task, platform)
    with BrowserEnvironment(
        url, platform=platform, width=width, height=height, chromium=chromium, settle_milliseconds=0, pace=0
    ) as browser:
        if seen(browser.reset(6)) != seen(simulator.reset(6)):
            return "reset"
        script = SCRIPT[platform] if task != "target-localisation" else SCRIPT[platform][:1]
        for _ in range(most):
            if simulator.game.done:
                break
            action, script = (script[0], script[1:]) if script else (decide(simulator.game).action, [])
            same = seen(browser.execute(action)) == seen(simulator.execute(action))
            if not same or browser.state_hash() != simulator.state_hash():
                return action
    return None
