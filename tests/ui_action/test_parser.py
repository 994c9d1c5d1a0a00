"""Models' outputs as actions: every form that occurs, and everything that must be refused."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import replace
from typing import get_args

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from plugins.ui_action.actions import ALLOWED, PLATFORMS, Action, ActionType, Platform
from plugins.ui_action.errors import ParseError, UIActionInputError
from plugins.ui_action.parser import Response, parse_response
from plugins.ui_action.screen import Screen

SCREEN = Screen(1920, 1080, 1932, 1092)
RELATIVE = Screen(1920, 1080, 1932, 1092, "relative-1000")
AT = Action("click", start=(99.379, 197.802))
CENTRE = (960, 540)


def parse(text: str, *, lenient: bool = True, screen: Screen = SCREEN) -> Response:
    return parse_response(text, screen=screen, lenient=lenient)


def after_thought(text: str, *, lenient: bool = True, screen: Screen = SCREEN) -> Response:
    return parse(f"Thought: t\n{text}", lenient=lenient, screen=screen)


def outcome(text: str, *, lenient: bool = True) -> Response | ParseError:
    """What becomes of any text; nothing else is ever raised."""
    try:
        return parse(text, lenient=lenient)
    except ParseError as error:
        return error


def near(action: Action) -> Action:
    """With points to a thousandth of a pixel."""
    points = (point and (round(point[0], 3), round(point[1], 3)) for point in (action.start, action.end))
    start, end = points
    return replace(action, start=start, end=end)


def code_of(text: str, *, lenient: bool = True, screen: Screen = SCREEN) -> str:
    with pytest.raises(ParseError) as refused:
        parse(text, lenient=lenient, screen=screen)
    return refused.value.code


CLICKS = [
    "click(start_box='(100,200)')",
    "click(start_box='<|box_start|>(100,200)<|box_end|>')",
    "click(start_box='(100, 200)')",
    "click(point='<point>100 200</point>')",
    'click(start_box="(100,200)")',
    "click(start_box='100,200')",
    "click(start_box='100 200')",
    "left_single(start_box='(100,200)')",
    "left_click(start_box='(100,200)')",
    "click(start_box='(100,200)')</s>",
    "click(start_box='(100,200)')<|im_end|>",
    "click( start_box = '(100,200)' )",
]


@pytest.mark.parametrize("call", CLICKS)
def test_a_click_is_read_in_every_notation(call: str) -> None:
    response = after_thought(f"Action: {call}", lenient=False)
    assert [near(action) for action in response.actions] == [AT]
    assert (response.thought, response.reflection, response.flags) == ("t", None, ())


PLAIN = {
    "click(start_box='(100,200,140,240)')": Action("click", start=(119.255, 217.582)),
    "click(start_box='[100, 200, 140, 240]')": Action("click", start=(119.255, 217.582)),
    "click(start_box='<bbox>100 200 140 240</bbox>')": Action("click", start=(119.255, 217.582)),
    "click(start_box='(100.5,200.25)')": Action("click", start=(99.876, 198.049)),
    "wait()": Action("wait", milliseconds=5000),
    "wait(time='1.5')": Action("wait", milliseconds=1500),
    "finished()": Action("finished"),
    "finished(content='done')": Action("finished", text="done"),
    "call_user()": Action("call_user"),
    "left_double(start_box='(966,546)')": Action("left_double", start=CENTRE),
    "double_click(start_box='(966,546)')": Action("left_double", start=CENTRE),
    "right_single(start_box='(966,546)')": Action("right_single", start=CENTRE),
    "right_click(start_box='(966,546)')": Action("right_single", start=CENTRE),
    "move_to(start_box='(966,546)')": Action("hover", start=CENTRE),
    "drag(start_box='(0,0)', end_box='(966,546)')": Action("drag", start=(0, 0), end=CENTRE),
    "drag(start_point='<point>0 0</point>', end_point='<point>966 546</point>')": Action(
        "drag", start=(0, 0), end=CENTRE
    ),
    "select(start_box='(0,0)', end_box='(966,546)')": Action("drag", start=(0, 0), end=CENTRE),
    "hotkey(key='ctrl c')": Action("hotkey", keys=("ctrl", "c")),
    "hotkey(key='ctrl+c')": Action("hotkey", keys=("ctrl", "c")),
    "hotkey(key='Ctrl C')": Action("hotkey", keys=("ctrl", "c")),
    "press(key='ctrl')": Action("press", keys=("ctrl",)),
    "release(key='ctrl')": Action("release", keys=("ctrl",)),
    "type(content='hello')": Action("type", text="hello"),
    r"type(content='hello\n')": Action("type", text="hello", submit=True),
    r"type(content='a\n\n')": Action("type", text="a\n", submit=True),
    r"type(content='return\n')": Action("type", text="return", submit=True),
    "type(content='a\nb')": Action("type", text="a\nb"),
    r"type(content='it\'s')": Action("type", text="it's"),
    r"type(content='say \"hi\"')": Action("type", text='say "hi"'),
    r'type(content="say \"hi\"")': Action("type", text='say "hi"'),
    "type(content='f(x), y=1')": Action("type", text="f(x), y=1"),
    "type(content='Action: click')": Action("type", text="Action: click"),
    "type(content='\nAction: wait()\n')": Action("type", text="\nAction: wait()", submit=True),
    r"type(content='C:\\new')": Action("type", text=r"C:\new"),
    r"type(content='C:\temp')": Action("type", text=r"C:\temp"),
    "type(content='')": Action("type"),
    "type(content='攻击 🚀')": Action("type", text="攻击 🚀"),
    "scroll(start_box='(966,546)', direction='down')": Action("scroll", start=CENTRE, direction="down"),
    "scroll(start_box='(966,546)', direction='left')": Action("scroll", start=CENTRE, direction="left"),
    "scroll(point='<point>966 546</point>', direction='Up')": Action("scroll", start=CENTRE, direction="up"),
    "scroll(start_box='(966,910)', end_box='(966,182)')": Action("scroll", start=(960, 900), end=(960, 180)),
    "long_press(start_box='(966,546)', time='')": Action("long_press", start=CENTRE, milliseconds=800),
    "long_press(start_box='(966,546)')": Action("long_press", start=CENTRE, milliseconds=800),
    "open_app(app_name='Maps')": Action("open_app", text="Maps"),
    "press_home()": Action("press_home"),
    "home()": Action("press_home"),
    "press_back()": Action("press_back"),
    "back()": Action("press_back"),
    "navigate(content='example.org')": Action("navigate", text="https://example.org"),
    "navigate(content='http://127.0.0.1:8000/a')": Action("navigate", text="http://127.0.0.1:8000/a"),
    "navigate_back()": Action("navigate_back"),
    "click(start_box='(1932,1092)')": Action("click", start=(1919, 1079)),
    "click(start_box='(-1,-1)')": Action("click", start=(0, 0)),
}


@pytest.mark.parametrize("call", PLAIN)
def test_a_call_to_the_letter_is_read_without_flags(call: str) -> None:
    response = after_thought(f"Action: {call}", lenient=False)
    assert [near(action) for action in response.actions] == [PLAIN[call]]
    assert response.flags == ()


def test_relative_coordinates_are_read_in_thousandths_of_the_screen() -> None:
    [action] = after_thought("Action: click(start_box='(100,200)')", screen=RELATIVE).actions
    assert near(action) == Action("click", start=(192, 216))


LENIENT = {
    "Action：click(start_box='(100,200)')": ("lenient:full_width_colon", AT),
    "Action: CLICK(start_box='(100,200)')": ("lenient:upper_case", AT),
    "Action: click(start_box='(100,200)'": ("lenient:unclosed_call", AT),
    "Action: click(start_box='(100,200)'</s>": ("lenient:unclosed_call", AT),
    "Action: click(start_box='(100,200)', button='left')": ("extra_argument:button", AT),
    "Action: type(content='it's')": ("lenient:inner_quote", Action("type", text="it's")),
    "Action: type(content='it's ok', x='')": ("lenient:inner_quote", Action("type", text="it's ok")),
    "Action: finished(content='it's')": ("lenient:inner_quote", Action("finished", text="it's")),
    "Action: scroll(direction='up')": ("default_point", Action("scroll", start=CENTRE, direction="up")),
    "click(start_box='(100,200)')": ("lenient:bare_call", AT),
    "Action: click(start_box='(100,200)')\nI will see what happens.": ("lenient:trailing_text", AT),
    "Action: click(start_box='(100,200)')\nThought: b\nAction: wait()": ("multi_block", AT),
    "so I act. Action: click(start_box='(100,200)')": ("lenient:inline_action", AT),
}


@pytest.mark.parametrize("text", LENIENT)
def test_a_lenient_reading_is_flagged_and_refused_when_strict(text: str) -> None:
    flag, action = LENIENT[text]
    response = after_thought(text)
    assert near(response.actions[0]) == action
    assert len(response.actions) == 1
    assert flag in response.flags
    assert code_of(f"Thought: t\n{text}", lenient=False) in ParseError.CODES


def test_a_thought_without_label_is_kept_and_flagged() -> None:
    response = parse("I wait.\nAction: wait()")
    assert (response.thought, response.flags) == ("I wait.", ("lenient:unlabelled_thought",))
    assert code_of("I wait.\nAction: wait()", lenient=False) == "bad_syntax"


def test_a_call_without_marker_counts_alone_or_after_a_thought_only() -> None:
    assert parse("click(start_box='(100,200)')").flags == ("lenient:bare_call",)
    assert parse("```click(start_box='(100,200)')```").flags == ("lenient:bare_call",)
    assert code_of("click(start_box='(100,200)')", lenient=False) == "no_action"
    assert code_of("You could write\nclick(start_box='(100,200)')") == "no_action"


def test_a_marker_inside_the_text_of_a_bare_call_is_text() -> None:
    assert parse("type(content='a\nAction: wait()')").actions == (Action("type", text="a\nAction: wait()"),)


def test_no_space_is_needed_after_the_marker() -> None:
    assert near(after_thought("Action:click(start_box='(100,200)')", lenient=False).actions[0]) == AT


ENVELOPES = {
    "Action: wait()": (None, None),
    "Reflection: r\nAction_Summary: s\nAction: wait()": ("s", "r"),
    "Action_Summary: s\nAction: wait()": ("s", None),
    "<Thought>t</Thought>\nAction: wait()": ("t", None),
    "<Thought>\nt\n</Thought>\nAction_Summary: s\nAction: wait()": ("t\ns", None),
    "<think>t</think>\n<computer_env>\nAction: wait()\n</computer_env>": ("t", None),
    "<think>t</think><computer_env>Action: wait()</computer_env>": ("t", None),
    "<think_never_used_51bce>t</think_never_used_51bce>\nAction: wait()": ("t", None),
    "<think>Action: finished()</think>\nThought: s\nAction: wait()": ("Action: finished()\ns", None),
    "```\nThought: t\nAction: wait()\n```": ("t", None),
    "Thought: t\n```\nAction: wait()\n```": ("t", None),
    "Thought: t\nAction: ```python\nwait()\n```": ("t", None),
    "Thought: t\r\nAction: wait()\r\n": ("t", None),
    "Thought: a\n\nb\nAction: wait()": ("a\n\nb", None),
    "Thought: '''; print(1) # `x` Action, then \"Action\"\nAction: wait()": (
        "'''; print(1) # `x` Action, then \"Action\"",
        None,
    ),
    "Thought: run\n```\ncode\n```\nAction: wait()": ("run\n```\ncode\n```", None),
    "Thought: 先点击坦克 🚀\nAction: wait()": ("先点击坦克 🚀", None),
}


@pytest.mark.parametrize("text", ENVELOPES)
def test_thought_and_reflection_are_kept_verbatim(text: str) -> None:
    response = parse(text, lenient=False)
    assert response == Response(*ENVELOPES[text], (Action("wait", milliseconds=5000),))


def test_an_answer_finishes() -> None:
    finished = (Action("finished", text="42"),)
    assert parse("<answer>42</answer>", lenient=False) == Response(None, None, finished)
    assert parse("<think>t</think><answer>42</answer>", lenient=False) == Response("t", None, finished)
    assert code_of("<answer>42") == "bad_syntax"


def test_actions_are_separated_by_blank_lines() -> None:
    two = "Action: click(start_box='(0,0)')\n\nclick(start_box='(966,546)')"
    response = after_thought(two, lenient=False)
    assert [action.start for action in response.actions] == [(0, 0), CENTRE]
    assert after_thought(two.replace("\n\n", "\n")) == replace(response, flags=("lenient:single_newline",))
    assert code_of(two.replace("\n\n", "\n"), lenient=False) == "bad_syntax"
    assert code_of(two.replace("\n\n", "; ")) == "bad_syntax"


def test_only_the_first_of_two_blocks_counts() -> None:
    response = parse("Thought: a\nAction: wait()\nThought: b\nAction: finished()")
    assert (response.thought, response.actions) == ("a", (Action("wait", milliseconds=5000),))
    assert response.flags == ("multi_block",)


REFUSED = {
    "Action: drag(start_box='(1,2)')": "missing_argument",
    "Action: click(start_box='')": "missing_argument",
    "Action: click('(1,2)')": "missing_argument",
    "Action: click()": "missing_argument",
    "Action: type()": "missing_argument",
    "Action: hotkey(key='')": "missing_argument",
    "Action: open_app(app_name=' ')": "missing_argument",
    "Action: scroll(start_box='(1,2)')": "missing_argument",
    "Action: scroll(end_box='(1,2)')": "missing_argument",
    "Action: scroll(start_box='(1,2)', direction='in')": "bad_argument",
    "Action: scroll(start_box='(1,2)', end_box='(1,9)', direction='up')": "bad_argument",
    "Action: click(start_box='(1,2)', start_box='(3,4)')": "bad_argument",
    "Action: click(start_box='(1,2)', point='(3,4)')": "bad_argument",
    "Action: wait(time='61')": "bad_argument",
    "Action: wait(time='nan')": "bad_argument",
    "Action: hotkey(key='ctrl shift alt a')": "too_many_keys",
    "Action: press(key='ctrl c')": "too_many_keys",
    "Action: hotkey(key='рубль')": "bad_argument",
    f"Action: hotkey(key='{'a' * 21}')": "bad_argument",
    "Action: click(start_box='(-5,200)')": "out_of_bounds",
    "Action: click(start_box='(5000,200)')": "out_of_bounds",
    "Action: click(start_box='(1933,10)')": "out_of_bounds",
    "Action: drag(start_box='(1,2)', end_box='(1,5000)')": "out_of_bounds",
    f"Action: click(start_box='({'9' * 150},1)')": "out_of_bounds",
    "Action: click(start_box='(nan,1)')": "bad_coordinates",
    "Action: click(start_box='(inf,1)')": "bad_coordinates",
    "Action: click(start_box='(1e2,1)')": "bad_coordinates",
    "Action: click(start_box='(1)')": "bad_coordinates",
    "Action: click(start_box='(1,2,3)')": "bad_coordinates",
    "Action: click(start_box='(1,,2)')": "bad_coordinates",
    "Action: click(start_box='(١,٢)')": "bad_coordinates",
    f"Action: click(start_box='({','.join(['1'] * 200)})')": "bad_coordinates",
    f"Action: click(start_box='({'9' * 5000},1)')": "bad_coordinates",
    "Action: click(start_box='__import__(\"os\")')": "bad_coordinates",
    "Action: teleport(start_box='(1,2)')": "unknown_action",
    "Action: __import__('os').system('x')": "unknown_action",
    "Action: click.x(start_box='(1,2)')": "unknown_action",
    "Action: eval(content='1')": "unknown_action",
    "Action: 点击(start_box='(1,2)')": "unknown_action",
    "": "no_action",
    " \n\t ": "no_action",
    "Thought: x\nAction:": "no_action",
    "Thought: x\nAction: ```\n```": "no_action",
    "Thought: x": "no_action",
    "Thought: a Reaction: wait() or MyAction: wait()": "no_action",
    "Action_Summary: s": "no_action",
    "Action: click": "bad_syntax",
    "Action: 'click'": "bad_syntax",
    "Action: click(start_box=(1,2))": "bad_syntax",
    "Action: click(": "bad_syntax",
    "Action: click(start_box='(1,2)',)": "bad_syntax",
    "Action: click(start_box='(1,2)').x": "bad_syntax",
    "Action: click(start_box='(1,2)'); import os": "bad_syntax",
    "Action: type(content='hello": "bad_syntax",
    r"Action: type(content='hello\')": "bad_syntax",
    "Action: type(content='a') then type(content='b')": "bad_syntax",
    "<think>Action: wait()": "bad_syntax",
    "<Thought>x\nAction: wait()": "bad_syntax",
}


@pytest.mark.parametrize("text", REFUSED)
def test_what_is_no_action_is_refused_for_its_reason(text: str) -> None:
    assert code_of(text) == REFUSED[text]
    assert code_of(text, lenient=False) in ParseError.CODES


def test_an_output_has_a_limited_number_of_actions() -> None:
    assert len(parse("Action: " + "wait()\n\n" * 32).actions) == 32
    assert code_of("Action: " + "wait()\n\n" * 33) == "bad_syntax"


def test_a_call_has_limited_arguments_names_and_unescaped_quotes() -> None:
    sixteen, seventeen = (", ".join(f"x{number}=''" for number in range(count)) for count in (16, 17))
    assert len(parse(f"Action: wait({sixteen})").flags) == 16
    assert code_of(f"Action: wait({seventeen})") == "bad_syntax"
    assert parse(f"Action: wait({'x' * 64}='')").actions
    assert code_of(f"Action: wait({'x' * 65}='')") == "bad_syntax"
    quotes = "a'" * 100
    assert parse(f"Action: type(content='{quotes}a')").actions == (Action("type", text=f"{quotes}a"),)
    assert code_of(f"Action: type(content='{quotes}a'a')") == "bad_syntax"


@pytest.mark.parametrize("platform", PLATFORMS)
@pytest.mark.parametrize("kind", get_args(ActionType))
def test_a_platform_has_its_own_actions_only(platform: Platform, kind: str) -> None:
    text = f"Action: {CALLS[kind]}"
    assert parse_response(text, screen=SCREEN).actions[0].type == kind
    if kind in ALLOWED[platform]:
        assert parse_response(text, screen=SCREEN, platform=platform).actions[0].type == kind
        return
    with pytest.raises(ParseError, match=r"use one of .*click") as refused:
        parse_response(text, screen=SCREEN, platform=platform)
    assert refused.value.code == "unknown_action"


CALLS = {
    **{kind: f"{kind}(start_box='(1,2)')" for kind in ("click", "left_double", "right_single", "hover", "long_press")},
    **{kind: f"{kind}()" for kind in ("press_home", "press_back", "navigate_back", "wait", "finished", "call_user")},
    **{kind: f"{kind}(key='a')" for kind in ("hotkey", "press", "release")},
    **{kind: f"{kind}(content='a')" for kind in ("type", "navigate")},
    "drag": "drag(start_box='(1,2)', end_box='(3,4)')",
    "scroll": "scroll(start_box='(1,2)', direction='up')",
    "open_app": "open_app(app_name='a')",
}

FILLS: dict[str, Callable[[int], str]] = {
    "letters": lambda n: "a" * n,
    "newlines": lambda n: "\n" * n,
    "blank lines": lambda n: "\n " * (n // 2),
    "markers": lambda n: "Action:" * (n // 7),
    "inline markers": lambda n: "x Action:" * (n // 9),
    "actions": lambda n: "Action: " + "wait()\n\n" * (n // 8),
    "bare names": lambda n: "Thought:" + "a(\n" * (n // 3),
    "quotes": lambda n: "Action: type(content=" + "'" * n,
    "quotes and commas": lambda n: "Action: type(content='" + "' ,a" * (n // 4),
    "arguments": lambda n: "Action: click(" + "a=''," * (n // 5),
    "backslashes": lambda n: "Action: type(content='" + "\\" * n,
    "escapes": lambda n: "Action: type(content='" + "\\n" * (n // 2) + "')",
    "closing tokens": lambda n: "Action: type(content='x'" + "</s>" * (n // 4) + "x",
    "blanks before a closing quote": lambda n: "Action: type(content='x'" + " " * n + "x",
    "fences": lambda n: "```" * (n // 3),
    "thoughts": lambda n: "<think>" * (n // 7),
    "tag names": lambda n: "<think" + "k" * n + ">",
    "digits": lambda n: "Action: click(start_box='(" + "9" * n + ",1)')",
    "keys": lambda n: "Action: hotkey(key='" + "\ufdfa" * n + "')",
    "names": lambda n: "Action: " + "a." * (n // 2) + "()",
}


@pytest.mark.parametrize("fill", FILLS)
def test_a_megabyte_of_anything_takes_a_moment(fill: str) -> None:
    text = FILLS[fill](1_000_000)
    begun = time.process_time()
    response = outcome(text)
    # About 0.05 s on a quiet core; what is quadratic takes minutes.
    assert time.process_time() - begun < 1.5
    assert len(str(response)) < 500 or isinstance(response, Response)


PIECES = (
    *("Action:", "Action：", "Thought:", "Reflection:", "Action_Summary:", "<think>", "</think>", "<answer>"),
    *("</answer>", "<Thought>", "</Thought>", "<computer_env>", "</computer_env>", "```", "</s>", "<|im_end|>"),
    *("click", "CLICK", "drag", "type", "scroll", "hotkey", "wait", "finished", "navigate", "wait()", "eval"),
    *("(", ")", ",", "=", "'", '"', "\\", "\\n", "\\'", "\n", "\n\n", " ", ".", "+", "-", "1", "966", "(1,2)"),
    *("<point>", "</point>", "[", "]", "<|box_start|>", "<|box_end|>", "nan", "9999", "start_box=", "content="),
    *(
        "start_box='(1,2)'",
        "end_box='(3,4)'",
        "content='a'",
        "key='ctrl c'",
        "direction='up'",
        "time=''",
        "a",
        "é",
        "攻",
    ),
)

BEGINNINGS = ("", "Action: ", "Action: click(", "Action: type(content='", "Action: wait()", "Action: wait()\n\n")


def test_a_hundred_thousand_hostile_texts_raise_nothing_else() -> None:
    draw = random.Random(3)
    responses = 0
    for _ in range(100_000):
        text = draw.choice(BEGINNINGS) + "".join(draw.choices(PIECES, k=draw.randrange(1, 13)))
        response = outcome(text)
        if isinstance(response, ParseError):
            assert response.code in ParseError.CODES
        else:
            responses += 1
    # Enough of them get as far as an action.
    assert responses > 5000


@given(st.lists(st.sampled_from(PIECES) | st.text(max_size=3), max_size=30).map("".join), st.booleans())
@example("\ud800Action: \ud800()", True)
def test_any_text_is_read_or_refused(text: str, lenient: bool) -> None:
    response = outcome(text, lenient=lenient)
    if isinstance(response, ParseError):
        assert response.code in ParseError.CODES
        return
    assert response.actions
    assert lenient or not response.flags
    for action in response.actions:
        for x, y in filter(None, (action.start, action.end)):
            assert 0 <= x <= 1919
            assert 0 <= y <= 1079


def test_errors_are_input_errors_that_say_what_is_allowed() -> None:
    with pytest.raises(UIActionInputError, match=r"'teleport' is no action: use one of click, .*call_user"):
        parse("Action: teleport()")
    with pytest.raises(UIActionInputError, match=r"\(4968.94, 197.802\) on the screen of 1920 x 1080"):
        parse("Action: click(start_box='(5000,200)')")
