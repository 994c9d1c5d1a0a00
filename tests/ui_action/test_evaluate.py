"""Evaluation gives an expert full marks and a fool none, and reads what sentences mean."""

from __future__ import annotations

import json
import math
from collections.abc import Callable

import pytest

from plugins.ui_action import evaluate
from plugins.ui_action.actions import PLATFORMS, Action, Platform
from plugins.ui_action.backends.base import Completion, Prompt, Video
from plugins.ui_action.environments.simulator import SimulatorEnvironment
from plugins.ui_action.errors import UIActionInputError
from plugins.ui_action.evaluate import as_markdown, evaluate_cell, held_out_seeds, judge, same_action, summarise
from plugins.ui_action.games import TASKS, experts, make_game
from plugins.ui_action.games.assets import Box
from plugins.ui_action.recorder import record
from plugins.ui_action.screen import Screen
from plugins.ui_action.serialiser import serialise
from plugins.ui_action.wording import meaning, spans


@pytest.fixture(autouse=True)
def few_seeds_for_ceilings(monkeypatch):
    monkeypatch.setattr(evaluate, "CEILING_SEEDS", range(10))


class Oracle:
    """Plays along with a game of its own, and so knows at each prompt what an expert would say and do."""

    name = "oracle"

    def __init__(self, task: str, platform: Platform, seed: int) -> None:
        self.environment = SimulatorEnvironment(task, platform)
        self.environment.reset(seed)

    def complete(self, prompt: Prompt) -> Completion:
        decision = experts.decide(self.environment.game)
        screen = self.environment.screen
        if prompt.role == "reason":
            return Completion(decision.sentence, screen, 100, 12, 5.0, 7.0)
        self.environment.execute(decision.action)
        return Completion(serialise(decision.action, screen=screen), screen)


class Constant:
    """Says the same to everything."""

    name = "constant"

    def __init__(self, sentence: str, action: str) -> None:
        self.sentence, self.action = sentence, action

    def complete(self, prompt: Prompt) -> Completion:
        last = prompt.media[-1]
        screen = Screen(*(last.frames[-1] if isinstance(last, Video) else last).size)
        return Completion(self.sentence if prompt.role == "reason" else self.action, screen)


def knowing(each, answer: Callable[[], str]) -> Constant:
    return Constant(each.decision.sentence, answer())


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("platform", PLATFORMS)
def test_an_expert_gets_full_marks(task, platform):
    for each in record(task, platform, 4):
        found = judge(
            knowing(each, lambda each=each: serialise(each.decision.action, screen=each.screen)), each, ("S",)
        )
        assert (found.bleu, found.means, found.parsed, found.exact) == (pytest.approx(100), True, True, True)
        assert found.hit is (None if each.decision.target is None else True)
    won = evaluate.play(Oracle(task, platform, 4), SimulatorEnvironment(task, platform), task, 4, ("S",))
    assert won["success"]


def test_a_fool_gets_none():
    cell = evaluate_cell(
        Constant("Click.", "Action: click(start_box='(1,1)')"),
        "target-localisation",
        "web",
        range(3),
        ("S",),
        decisions_of=2,
    )
    assert cell["success"] == 0.0
    assert [game["status"] for game in cell["games"]] == ["failure"] * 3
    assert (cell["decisions"]["means"], cell["decisions"]["hit"], cell["decisions"]["exact"]) == (0, 0, 0)
    assert cell["decisions"]["parsed"] == 1
    assert "| target-localisation | web | 100 % | 0 % | 0 % | 100 % | 0 % |" in as_markdown(
        {"checkpoint": "x", "date": "2026", "seeds": "0:3", "media": "S", "cells": [cell]}
    )


def test_nonsense_is_not_parsed_and_loses_the_game():
    backend = Constant("?", "I cannot see anything.")
    cell = evaluate_cell(backend, "area-control", "mobile", [2], ("S",), decisions_of=1)
    assert cell["decisions"]["parsed"] == 0
    assert not cell["games"][0]["success"]


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("platform", PLATFORMS)
def test_all_that_experts_say_is_understood(task, platform):
    game = make_game(task, platform)
    game.reset(9)
    while not game.done:
        for phrasing in range(12):
            decision = experts.decide(game, phrasing)
            assert meaning(decision.sentence) == dict(decision.slots)
        environment = SimulatorEnvironment(task, platform)
        environment.game = game
        environment.execute(decision.action)


@pytest.mark.parametrize(
    "text", ["", "Wait.", "The convoy is about to enter sector E, so man it.", "Front x still needs 1 unit, so pick"]
)
def test_what_no_expert_says_means_nothing(text):
    assert meaning(text) is None


def test_what_a_sentence_decides_is_how_it_begins_and_its_values():
    said = "The convoy is about to enter sector C, so man it."
    assert [said[first:last] for first, last in spans(said)] == ["The convoy is", "C"]
    assert [first for first, _ in spans("It is too early to man a sector. Wait.")] == [0]
    assert spans("Man sector E, the convoy enters it next.") == []


def test_an_action_is_the_same_only_with_the_same_type_inside_the_same_target():
    box = Box(10, 10, 20, 20)
    click = Action("click", (20.0, 20.0))
    assert same_action(Action("click", (12.0, 28.0)), click, box, "web")
    assert not same_action(Action("click", (31.0, 20.0)), click, box, "web")
    assert not same_action(Action("left_double", (20.0, 20.0)), click, box, "web")
    drag = Action("drag", (100.0, 100.0), (20.0, 20.0))
    assert same_action(Action("drag", (105.0, 104.0), (12.0, 12.0)), drag, box, "mobile")
    assert not same_action(Action("drag", (120.0, 100.0), (12.0, 12.0)), drag, box, "mobile")
    assert same_action(Action("wait"), Action("wait"), None, "web")


def test_decisions_that_point_at_nothing_do_not_count_as_hits():
    each = next(each for each in record("area-control", "desktop", 1) if each.decision.target is None)
    found = judge(knowing(each, lambda: "Action: wait()"), each, ("V",))
    assert found.exact
    assert math.isnan(summarise([found])["hit"])


@pytest.mark.parametrize("seeds", ["5", "5:5", "0:10001", "9999999:10000001", "-1:3", "0:٣", "1:2:3"])
def test_seeds_that_cannot_be_used_are_refused(seeds):
    with pytest.raises(UIActionInputError, match="seeds"):
        held_out_seeds(seeds)


@pytest.mark.e2e
def test_the_command_writes_what_it_prints(monkeypatch, tmp_path, capsys):
    from plugins.ui_action.pipeline_ui_action import UIActionPipeline

    class Stub:
        def backend(self):
            return Constant("Wait.", "Action: wait()")

    monkeypatch.setattr(UIActionPipeline, "from_pretrained", lambda *_, **__: Stub())
    file = tmp_path / "found.json"
    evaluate.evaluate_command(
        task="area-control",
        platform="web",
        seeds="0:2",
        checkpoint="x",
        strategy="M*V+S",
        decisions_of=1,
        in_browser=1,
        device="cpu",
        json=file,
    )
    report = json.loads(file.read_text())
    assert capsys.readouterr().out.strip() == as_markdown(report)
    assert report["media"] == "M*V"
    assert report["cells"][0]["ceiling"] <= 1
    assert report["cells"][0]["same_in_browser"] == 1
    assert "1 of 1 games went the same" in as_markdown(report)
