"""Actions as text, and back."""

from __future__ import annotations

from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plugins.ui_action.actions import Action, Direction, Point
from plugins.ui_action.errors import UIActionInputError
from plugins.ui_action.keys import KEYS
from plugins.ui_action.parser import Response, parse_response
from plugins.ui_action.screen import Screen
from plugins.ui_action.serialiser import serialise

FULL = Screen(1920, 1080, 1932, 1092)
SCREENS = (FULL, Screen(252, 168), Screen(3840, 2160, 1316, 728), Screen(1920, 1080, 1932, 1092, "relative-1000"))


def points(screen: Screen) -> st.SearchStrategy[Point]:
    return st.tuples(st.floats(0, screen.width - 1), st.floats(0, screen.height - 1))


def actions(screen: Screen) -> st.SearchStrategy[Action]:
    """Of every kind, as a parser gives them."""
    start, text, named = points(screen), st.text(), st.text(min_size=1).filter(str.strip)
    times = st.integers(0, 60_000)

    def made(*kinds: str, **parts: st.SearchStrategy) -> st.SearchStrategy[Action]:
        return st.builds(Action, st.sampled_from(kinds), **parts)

    return st.one_of(
        made("click", "left_double", "right_single", "hover", start=start),
        made("drag", "scroll", start=start, end=start),
        made("scroll", start=start, direction=st.sampled_from(get_args(Direction))),
        made("hotkey", keys=st.lists(st.sampled_from((*KEYS, "+")), min_size=1, max_size=3).map(tuple)),
        made("press", "release", keys=st.tuples(st.sampled_from((*KEYS, "+")))),
        made("type", text=text.map(lambda typed: typed.rstrip("\n")), submit=st.booleans()),
        made("type", text=text, submit=st.just(True)),
        made("long_press", start=start, milliseconds=times),
        made("wait", milliseconds=times),
        made("open_app", text=named),
        made("navigate", text=st.text("ab/.:?", min_size=1).map("http://x".__add__)),
        made("finished", text=text),
        made("press_home", "press_back", "navigate_back", "call_user"),
    )


def prose() -> st.SearchStrategy[str | None]:
    """Thoughts in which nothing of the grammar occurs."""
    return st.text("ab:'\\(攻🚀 \n").map(lambda said: said.strip() or None)


def assert_near(read: Action, written: Action, screen: Screen) -> None:
    """Equal but for the rounding of points to the model's own numbers."""
    sides = (1000, 1000) if screen.coordinates == "relative-1000" else screen.model_size
    steps = (0.5 * screen.width / sides[0] + 1e-6, 0.5 * screen.height / sides[1] + 1e-6)
    for was, now in ((written.start, read.start), (written.end, read.end)):
        assert (was is None) == (now is None)
        if was is not None and now is not None:
            assert abs(was[0] - now[0]) <= steps[0]
            assert abs(was[1] - now[1]) <= steps[1]
    blank = {"start": None, "end": None}
    fields = read.__dataclass_fields__
    assert {name: getattr(read, name) for name in fields} | blank == (
        {name: getattr(written, name) for name in fields} | blank
    )


@given(st.data(), st.sampled_from(SCREENS), st.booleans())
def test_written_actions_are_read_as_the_same(data: st.DataObject, screen: Screen, box_tokens: bool) -> None:
    written = data.draw(st.lists(actions(screen), min_size=1, max_size=3))
    response = Response(data.draw(prose()), data.draw(prose()), tuple(written))
    text = serialise(response, screen=screen, box_tokens=box_tokens)
    read = parse_response(text, screen=screen, lenient=False)
    assert (read.thought, read.reflection, read.flags) == (response.thought, response.reflection, ())
    for was, now in zip(written, read.actions, strict=True):
        assert_near(now, was, screen)
    # What was read has whole numbers of the model's pixels, and so comes back exactly.
    again = parse_response(serialise(read, screen=screen), screen=screen, lenient=False)
    assert again == read


@given(st.integers(0, 1931), st.integers(0, 1091))
def test_whole_numbers_of_the_models_pixels_come_back_exactly(x: int, y: int) -> None:
    text = f"Thought: t\nAction: click(start_box='({x},{y})')"
    read = parse_response(text, screen=FULL)
    written = serialise(read, screen=FULL)
    assert parse_response(written, screen=FULL) == read
    if x < 1931 and y < 1091:  # there the screen's last pixel is nearer
        assert written == text


WRITTEN = {
    "click(start_box='(966,546)')": Action("click", start=(960, 540)),
    "drag(start_box='(0,0)', end_box='(966,546)')": Action("drag", start=(0, 0), end=(960, 540)),
    "scroll(start_box='(966,546)', direction='down')": Action("scroll", start=(960, 540), direction="down"),
    "hotkey(key='ctrl plus')": Action("hotkey", keys=("ctrl", "+")),
    r"type(content='it\'s C:\\new\n')": Action("type", text=r"it's C:\new", submit=True),
    "long_press(start_box='(966,546)', time='1.25')": Action("long_press", start=(960, 540), milliseconds=1250),
    "wait()": Action("wait", milliseconds=5000),
    "finished()": Action("finished"),
    "open_app(app_name='Maps')": Action("open_app", text="Maps"),
}


@pytest.mark.parametrize("text", WRITTEN)
def test_calls_are_written_as_ui_tars_writes_them(text: str) -> None:
    assert serialise(WRITTEN[text], screen=FULL) == f"Action: {text}"


def test_thoughts_stand_before_the_actions_and_points_between_box_tokens() -> None:
    response = Response("t", None, (Action("click", start=(960, 540)), Action("wait")))
    assert serialise(response, screen=FULL, box_tokens=True) == (
        "Thought: t\nAction: click(start_box='<|box_start|>(966,546)<|box_end|>')\n\nwait()"
    )
    assert serialise(Response("s", "r", (Action("wait"),)), screen=FULL) == (
        "Reflection: r\nAction_Summary: s\nAction: wait()"
    )


def test_a_newline_at_the_end_of_typed_text_is_enter() -> None:
    written = serialise(Action("type", text="a\n"), screen=FULL)
    assert parse_response(written, screen=FULL).actions == (Action("type", text="a", submit=True),)


PIECES = ("Action:", "Action：", "Action_Summary:", "Thought:", "<think>", "</think>", "<answer>", "<computer_env>")


@given(*[st.lists(st.sampled_from((*PIECES, "```", "\n", " ", "a", "wait()")), max_size=8).map("".join)] * 2)
def test_a_thought_comes_back_or_is_refused(thought: str, reflection: str) -> None:
    response = Response(thought, reflection, (Action("wait", milliseconds=5000),))
    try:
        text = serialise(response, screen=FULL)
    except UIActionInputError:
        return
    read = parse_response(text, screen=FULL, lenient=False)
    assert (read.thought or "", read.reflection or "") == (thought.strip(), reflection.strip())
    assert read.actions == response.actions


@pytest.mark.parametrize("thought", ["a\nAction: finished()", "a\n<answer>", "a\n<computer_env>", "a\n```"])
def test_a_thought_that_would_be_read_as_something_else_is_refused(thought: str) -> None:
    with pytest.raises(UIActionInputError, match="leave out"):
        serialise(Response(thought, None, (Action("wait"),)), screen=FULL)


def test_a_code_block_may_stand_in_a_thought() -> None:
    response = Response("a\n```\nb\n```", None, (Action("wait", milliseconds=5000),))
    assert parse_response(serialise(response, screen=FULL), screen=FULL) == response


@pytest.mark.parametrize(
    "action",
    [Action("click"), Action("drag", start=(1, 1)), Action("click", start=(1920, 5)), Action("click", start=(-0.1, 5))],
)
def test_an_action_without_its_points_on_the_screen_is_not_written(action: Action) -> None:
    with pytest.raises(UIActionInputError, match=r"give start|not on the screen"):
        serialise(action, screen=FULL)


def test_nothing_is_no_text() -> None:
    with pytest.raises(UIActionInputError, match="at least one"):
        serialise([], screen=FULL)
