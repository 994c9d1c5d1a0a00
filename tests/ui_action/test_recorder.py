"""Expert play is recorded as the agent loop would see it, and becomes samples of the combination algebra."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from plugins.ui_action.actions import PLATFORMS
from plugins.ui_action.backends.prompts import chat_messages
from plugins.ui_action.environments.simulator import SimulatorEnvironment
from plugins.ui_action.games import TASKS
from plugins.ui_action.memory import Memory
from plugins.ui_action.parser import parse_response
from plugins.ui_action.processing import ScreenProcessor
from plugins.ui_action.recorder import LABELS, record
from plugins.ui_action.samples import answer_of, prompt_of, sample_of
from plugins.ui_action.small_model import new_tokenizer
from plugins.ui_action.strategy import Strategy

CELLS = [(task, platform) for task in TASKS for platform in PLATFORMS]


def pixels(image) -> bytes:
    return image.tobytes()


@pytest.fixture(scope="module")
def processor() -> ScreenProcessor:
    return ScreenProcessor(
        new_tokenizer(["Select the red tank. Action: click(start_box='<|box_start|>(1,2)<|box_end|>')"])
    )


@pytest.mark.parametrize(("task", "platform"), CELLS)
def test_what_is_recorded_is_what_the_agents_memory_would_show(task, platform):
    environment, memory = SimulatorEnvironment(task, platform), Memory(("V", "M", "S"))
    now = environment.reset(7)
    screens = [now.image]
    for each in record(task, platform, 7):
        shown: Any = memory.show(screens, now.frames)
        asked: Any = prompt_of(each, "reason", ("V", "M", "S")).media
        assert list(map(pixels, asked[0].frames)) == list(map(pixels, shown[0].frames))
        assert list(map(pixels, asked[1:])) == list(map(pixels, shown[1:]))
        now = environment.execute(each.decision.action)
        screens.append(now.image)
    assert now.success


@pytest.mark.parametrize(("task", "platform"), CELLS)
def test_every_answer_is_read_back_as_the_experts_action(task, platform):
    for each in record(task, platform, 11):
        for role in ("act", "both"):
            said = parse_response(answer_of(each, role), screen=each.screen, platform=platform)
            (action,) = said.actions
            assert action == replace(each.decision.action, milliseconds=action.milliseconds)  # a wait has its own
            assert said.thought == (each.decision.sentence if role == "both" else None)


@pytest.mark.parametrize("strategy", ["S", "M*V+S", "S*M*V"])
def test_labels_are_one_for_each_visual_token(processor, strategy):
    each = list(record("area-control", "web", 3))[2]
    for term in Strategy.parse(strategy).terms:
        sample = sample_of(each, "reason", term, processor)
        pads = sum(token in (processor.image_id, processor.video_id) for token in sample.encoded.ids)
        assert sum(len(labels.rows) for labels in sample.labels) == pads == sum(p.tokens for p in sample.encoded.media)


def test_a_stumbling_expert_goes_on_from_where_it_is_and_is_still_recorded():
    plain = list(record("resource-allocation", "desktop", 5))
    again = list(record("resource-allocation", "desktop", 5))
    stumbling = list(record("resource-allocation", "desktop", 5, stumbling=0.5))
    assert [each.decision for each in plain] == [each.decision for each in again]
    assert plain[0].decision == stumbling[0].decision
    assert [pixels(each.screens[-1]) for each in plain] != [pixels(each.screens[-1]) for each in stumbling]


@pytest.mark.parametrize("platform", PLATFORMS)
def test_what_has_to_be_read_is_labelled_too(platform):
    for each in record("resource-allocation", platform, 503):  # the third front needs one unit, the others two
        shown = [LABELS[kind - 1] for kind in each.screen_layouts[-1].kinds]
        assert [name for name in shown if name.startswith("front")] == ["front", "front", "front of one"]
        slots = dict(each.decision.slots)
        if slots["intent"] == "send" and slots["units"] == "1 unit" and slots["front"] != "3":
            assert shown[-1] == f"sent to {slots['front']}"
            assert each.screen_layouts[-1].boxes[-1][1] > 0


def test_units_are_left_out_but_never_the_one_asked_for():
    for seed in range(5):
        (each,) = record("target-localisation", "mobile", seed, most_units=2)
        units = [kind for kind in each.screen_layouts[-1].kinds if kind <= 16]
        assert len(units) == 2
        assert each.screen_layouts[-1].target in each.screen_layouts[-1].boxes


def test_the_task_stands_before_the_screens_and_nothing_of_the_answer_in_the_prompt():
    each = next(iter(record("target-localisation", "web", 1)))
    (message,) = chat_messages(prompt_of(each, "reason", ("S",)), "tiny")
    assert message["content"][0]["text"] == f"<reason> {each.instruction}"
    assert np.array(message["content"][1]["image"]).shape == (196, 196, 3)
