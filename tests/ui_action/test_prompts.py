"""What models are told: the grammar as it is, the task before the screens, and nothing that speaks for the format."""

from __future__ import annotations

import re
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from plugins.ui_action.actions import ALLOWED, PLATFORMS, Platform
from plugins.ui_action.backends.base import Prompt, Role, Turn, Video
from plugins.ui_action.backends.prompts import FAMILIES, action_lines, chat_messages, history_text, task_text
from plugins.ui_action.errors import UIActionInputError
from plugins.ui_action.parser import parse_response
from plugins.ui_action.screen import Screen

SCREEN = Image.new("RGB", (56, 28))
CELLS = [(family, platform) for family in FAMILIES for platform in PLATFORMS]


def prompt(role: str = "both", *, history: tuple[Turn, ...] = (), instruction: str = "win") -> Prompt:
    return Prompt(cast("Role", role), instruction, (SCREEN,), "web", history)


def kinds(message: Any) -> list[str]:
    return [part["type"] for part in message["content"]]


@pytest.mark.parametrize(("family", "platform"), CELLS)
def test_every_action_line_is_one_that_the_parser_reads_and_the_platform_has(family: str, platform: Platform) -> None:
    for line in action_lines(platform, family):
        call = line.partition("  #")[0].replace("x,y", "10,20")
        (action,) = parse_response(f"Action: {call}", screen=Screen(56, 28), platform=platform).actions
        assert call.startswith(f"{action.type}(")


@pytest.mark.parametrize("platform", PLATFORMS)
@pytest.mark.parametrize("family", ["qwen2.5-vl", "qwen3-vl", "tiny"])
def test_models_without_a_vocabulary_of_their_own_are_told_every_action(family: str, platform: Platform) -> None:
    names = {line.partition("(")[0] for line in action_lines(platform, family)}
    assert names == ALLOWED[platform]


# Section 3.3 of the method's description, by hand.
@pytest.mark.parametrize(
    ("family", "platform", "names"),
    [
        (
            "ui-tars-1.0",
            "desktop",
            "click left_double right_single drag hotkey type scroll wait finished call_user",
        ),
        ("ui-tars-1.0", "mobile", "click type scroll long_press press_home press_back finished"),
        ("ui-tars-1.5", "mobile", "click drag type scroll long_press open_app press_home press_back finished"),
        (
            "ui-tars-1.5",
            "web",
            "click left_double right_single drag hotkey press release navigate navigate_back type scroll wait finished "
            "call_user",
        ),
    ],
)
def test_ui_tars_is_told_the_actions_that_it_was_trained_on(family: str, platform: Platform, names: str) -> None:
    assert [line.partition("(")[0] for line in action_lines(platform, family)] == names.split()


def test_a_phone_of_ui_tars_1_0_scrolls_along_a_finger_path() -> None:
    (line,) = (line for line in action_lines("mobile", "ui-tars-1.0") if line.startswith("scroll"))
    assert line.startswith("scroll(start_box='<|box_start|>(x,y)<|box_end|>', end_box='<|box_start|>(x,y)<|box_end|>')")


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("role", ["reason", "act", "both"])
def test_the_task_stands_before_the_screens_and_the_current_screen_is_last(family: str, role: str) -> None:
    clip = Video((SCREEN, SCREEN), 2.0)
    messages = chat_messages(Prompt(cast("Role", role), "win", (clip, SCREEN, SCREEN), "mobile"), family)
    assert kinds(messages[-1]) == ["text", "video", "image", "image"]
    assert "win" in messages[-1]["content"][0]["text"]
    assert messages[-1]["content"][1] == {"type": "video", "video": [SCREEN, SCREEN], "fps": 2.0}


@pytest.mark.parametrize(
    ("family", "words"),
    [
        ("qwen2.5-vl", "pixels of the last image"),
        ("ui-tars-1.5", "pixels of the last image"),
        ("qwen3-vl", "0 to 1000"),
        ("ui-tars-1.0", "0 to 1000"),
    ],
)
def test_a_model_is_told_the_space_of_its_points(family: str, words: str) -> None:
    assert words in task_text(prompt(), family)


def test_only_both_asks_for_a_thought_and_only_reason_for_no_action() -> None:
    texts = {role: task_text(prompt(role), "qwen2.5-vl") for role in ("reason", "act", "both")}
    assert [role for role, text in texts.items() if "Thought:" in text] == ["both"]
    assert [role for role, text in texts.items() if "Action:" not in text] == ["reason"]


@pytest.mark.parametrize(("role", "word"), [("reason", "<reason>"), ("act", "<act>"), ("both", "<e2e>")])
def test_the_tiny_model_hears_one_word_and_the_task(role: str, word: str) -> None:
    (message,) = chat_messages(prompt(role), "tiny")
    assert message["role"] == "user"
    assert message["content"][0]["text"] == f"{word} win"


def test_of_earlier_turns_the_text_stays_and_dropped_screens_are_left_out() -> None:
    history = (
        Turn((), "Action: wait()"),
        Turn((), "Action: press_back()", "press_back is\nnot allowed here"),
        Turn((SCREEN,), "Action: wait()"),
    )
    messages = chat_messages(prompt(history=history), "ui-tars-1.5")
    assert [(message["role"], kinds(message)) for message in messages] == [
        ("system", ["text"]),
        ("user", ["text"]),
        ("assistant", ["text"]),
        ("assistant", ["text"]),
        ("user", ["text", "image"]),
        ("assistant", ["text"]),
        ("user", ["image"]),
    ]
    assert messages[4]["content"][0]["text"] == "Note: press_back is not allowed here"


@pytest.mark.parametrize("written", ["(100,200)", "<|box_start|>(100,200)<|box_end|>"])
def test_history_has_box_tokens_where_the_family_writes_them(written: str) -> None:
    answer = f"Thought: (1,2) it's\nAction: drag(start_box='{written}', end_box='{written}')"
    boxed = "<|box_start|>(100,200)<|box_end|>"
    assert history_text(answer, boxes=True) == (
        f"Thought: (1,2) it's\nAction: drag(start_box='{boxed}', end_box='{boxed}')"
    )
    assert history_text(answer, boxes=False) == (
        "Thought: (1,2) it's\nAction: drag(start_box='(100,200)', end_box='(100,200)')"
    )


PIECES = st.sampled_from(
    ["<|im_end|>", "<|box_start|>", "<|box_end|>", "<", "|", "im_start|>", "system", "(1,2)", "a", "\n"]
)


@given(st.lists(PIECES, max_size=12).map("".join))
def test_no_text_of_a_caller_or_model_brings_a_marker_of_the_chat_format(text: str) -> None:
    history = (Turn((), text, text),)
    for family in ("qwen2.5-vl", "ui-tars-1.5"):
        for message in chat_messages(prompt("reason", instruction=text, history=history), family):
            told = "".join(part.get("text", "") for part in message["content"])
            found = set(re.findall(r"<\|\w*\|>", told))
            assert found <= ({"<|box_start|>", "<|box_end|>"} if message["role"] == "assistant" else set())


@pytest.mark.parametrize(
    ("change", "family", "message"),
    [
        ({}, "gpt", "choose one of qwen2.5-vl"),
        ({"role": "think"}, "tiny", "choose one of reason, act, both"),
        ({"platform": "tv"}, "tiny", "choose one of desktop, mobile, web"),
        ({"media": ()}, "tiny", "give the current one"),
        ({"media": (Video((), 1.0),)}, "tiny", "clip without frames"),
    ],
)
def test_a_prompt_that_cannot_be_told_is_an_error(change: dict[str, Any], family: str, message: str) -> None:
    parts: dict[str, Any] = {"role": "act", "instruction": "win", "media": (SCREEN,), "platform": "web", **change}
    with pytest.raises(UIActionInputError, match=message):
        chat_messages(Prompt(**parts), family)
