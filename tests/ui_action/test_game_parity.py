"""The browser's games are the simulator's: the same state at every tick, the same pixels."""

from __future__ import annotations

import base64
import hashlib
import io
import os
from collections.abc import Generator
from dataclasses import asdict
from typing import Any

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Browser, Page

from plugins.ui_action.actions import PLATFORMS, Action, Platform
from plugins.ui_action.environments.simulator import events
from plugins.ui_action.games import TASKS, Game, make_game
from plugins.ui_action.games.events import Event
from plugins.ui_action.games.experts import decide, random_action
from plugins.ui_action.games.prng import Xorshift32
from plugins.ui_action.games.raster import raster
from plugins.ui_action.games.site import GameSite, serve_games
from plugins.ui_action.screen import Screen

# `make parity` plays more: as many as a claim about all of them asks for.
SEEDS, ACTIONS = (200, 50) if os.environ.get("QUARTET_LONG") else (6, 30)
CELLS = [(task, platform) for task in TASKS for platform in PLATFORMS]
CODES = ("B2\n", "a\n", "\n", "Z9", "c", "é\n")
# Replays events and gives a SHA-256 over the hashes of all states, tick by tick; the page may import its own modules.
REPLAY = """async ({task, platform, adversarial, plays}) => {
  const { Game } = await import("/game.js");
  const game = new Game(task, platform, adversarial);
  const results = [];
  for (const { seed, events } of plays) {
    const hashes = [];
    for (const state of game.reset(seed)) hashes.push(await game.stateHash(state));
    for (const event of events) {
      const states = game.handle(event);
      for (const state of states.length ? states : [game.rules]) hashes.push(await game.stateHash(state));
    }
    results.push(hashes);
  }
  return results;
}"""


@pytest.fixture(scope="module")
def site() -> Generator[GameSite]:
    with serve_games() as running:
        yield running


@pytest.fixture(scope="module")
def tab(site: GameSite, browser: Browser) -> Generator[Page]:
    page = browser.new_page(viewport={"width": 252, "height": 252}, device_scale_factor=1)
    yield page
    page.close()


def any_action(game: Game, random: Xorshift32) -> Action:
    """Half of the time what gets on in the game, so that a play does not end at once in the same place."""
    roll = random.below(10)
    if roll < 4 and not game.done:
        return decide(game).action
    if roll == 4:
        return Action("type", text=CODES[random.below(len(CODES))])
    if roll == 5 and game.platform != "mobile":
        return Action("hotkey", keys=(("ctrl", "c"), ("escape",), ("backspace",), ("shift", "b"))[random.below(4)])
    return random_action(game, random)


def play(game: Game, seed: int, actions: int) -> tuple[list[Event], list[str]]:
    """Events of random actions, and the hash of the state at every tick."""
    size, random = Screen(game.layout.width, game.layout.height), Xorshift32(seed, 7)
    hashes = [game.state_hash(state) for state in game.reset(seed)]
    done: list[Event] = []
    for _ in range(actions):
        for event in events(any_action(game, random), game.platform, size):
            done.append(event)
            hashes += [game.state_hash(state) for state in game.handle(event) or (game.rules,)]
    return done, hashes


def as_javascript(event: Event) -> dict[str, Any]:
    fields = asdict(event)
    return {**fields, "endX": fields.pop("end_x"), "endY": fields.pop("end_y")}


def differing(tab: Page, task: str, platform: Platform, seeds: range, actions: int) -> list[tuple[int, int]]:
    """(seed, tick) of the first state that differs, for every seed for which one does."""
    game = make_game(task, platform, adversarial=True)
    ours = {seed: play(game, seed, actions) for seed in seeds}
    plays = [{"seed": seed, "events": [as_javascript(event) for event in done]} for seed, (done, _) in ours.items()]
    theirs = tab.evaluate(REPLAY, {"task": task, "platform": platform, "adversarial": True, "plays": plays})
    found = []
    for (seed, (_, hashes)), other in zip(ours.items(), theirs, strict=True):
        if hashes != other:
            pairs = zip(hashes, other, strict=False)
            found.append((seed, next((tick for tick, (one, two) in enumerate(pairs) if one != two), -1)))
    return found


@pytest.mark.e2e
@pytest.mark.parametrize("task", TASKS)
def test_every_state_of_a_random_play_is_the_same_in_the_browser(tab, site, task):
    tab.goto(site.page(task, "desktop"))
    tab.wait_for_function("() => window.quartet")
    for number, platform in enumerate(PLATFORMS):
        assert differing(tab, task, platform, range(number * SEEDS, (number + 1) * SEEDS), ACTIONS) == []


@pytest.mark.e2e
@pytest.mark.parametrize(("task", "platform"), CELLS)
def test_a_screenshot_of_the_page_is_the_drawn_screen_byte_for_byte(tab, site, task, platform):
    game = make_game(task, platform, adversarial=True)
    game.reset(3)
    tab.set_viewport_size({"width": game.layout.width, "height": game.layout.height})
    tab.goto(site.page(task, platform, seed=3, adversarial=True))
    tab.wait_for_function("() => window.quartet")
    tab.evaluate("() => window.quartet.frames()")  # those of the reset
    shots, shown = [(screenshot(tab), raster(game.display()))], []
    for event in middle_of_the_game(game):
        perform(tab, event)
        shown += game.handle(event)
        shots.append((screenshot(tab), raster(game.display())))
    told = [decoded(url) for url in tab.evaluate("() => window.quartet.frames()")]
    shots += list(zip(told, [raster(game.display(state)) for state in shown], strict=True))
    assert [np.array_equal(np.asarray(one), np.asarray(two)) for one, two in shots] == [True] * len(shots)
    assert len({hashlib.sha256(two.tobytes()).digest() for _, two in shots}) > 2


def middle_of_the_game(game: Game) -> list[Event]:
    """What selects the wrong unit, sends or mans something; then what ends the game."""
    last = Event("tap", *game.layout.quit.centre)
    if game.task == "target-localisation":
        wrong = next(each for each in game.objects() if each.number != game.state()["target"])
        return [Event("tap", *wrong.box.centre), last]
    found = {(each.name, each.number): each.box.centre for each in game.objects()}
    if game.task == "area-control":
        return [Event("tap", *found["sector", 0]), last]
    sent = {
        "desktop": [Event("tap", *found.get(("reserve", 0), (0, 0))), Event("tap", *found["front", 1])],
        "mobile": [Event("drag", *found.get(("reserve", 0), (0, 0)), *found["front", 1])],
        "web": [Event("tap", *found.get(("plus", 1), (0, 0)))],
    }
    return [*sent[game.platform], last]


def perform(tab: Page, event: Event) -> None:
    tab.mouse.move(event.x, event.y)
    tab.mouse.down()
    if event.kind == "drag":
        tab.mouse.move(event.end_x, event.end_y)
    tab.mouse.up()


def screenshot(tab: Page) -> Image.Image:
    return Image.open(io.BytesIO(tab.screenshot(scale="css"))).convert("RGB")


def decoded(url: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))).convert("RGB")


@pytest.mark.e2e
def test_the_page_tells_what_an_environment_asks_for(tab, site):
    game = make_game("area-control", "web", adversarial=True)
    game.reset(9)
    tab.goto(site.page("area-control", "web", seed=9, adversarial=True))
    tab.wait_for_function("() => window.quartet")
    assert tab.evaluate("() => quartet.state()") == game.state()
    assert tab.evaluate("() => quartet.stateHash()") == game.state_hash()
    assert tab.evaluate("() => [quartet.done(), quartet.success(), quartet.tick()]") == [False, False, 0]
    assert tab.title() == game.instruction
    tab.evaluate("() => quartet.wait(5000)")
    game.handle(Event("wait"))
    assert tab.evaluate("() => quartet.state()") == game.state()
    tab.evaluate("() => quartet.reset(4)")
    game.reset(4)
    assert tab.evaluate("() => quartet.stateHash()") == game.state_hash()


@pytest.mark.e2e
def test_the_page_may_fetch_nothing_from_elsewhere(tab, site):
    tab.goto(site.page("area-control", "web"))
    tab.wait_for_function("() => window.quartet")
    refused = "async () => { try { await fetch('http://127.0.0.2:9/'); return ''; } catch (e) { return e.name; } }"
    tab.evaluate("""() => { window.violated = new Promise((done) => document.addEventListener(
      "securitypolicyviolation", (event) => done(event.violatedDirective))); }""")
    assert tab.evaluate(refused) == "TypeError"
    assert tab.evaluate("() => window.violated") == "connect-src"
