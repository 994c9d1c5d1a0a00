"""Scrolls as turns of a wheel and as paths of a finger."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plugins.ui_action.actions import Action, Direction, Platform
from plugins.ui_action.errors import UIActionInputError
from plugins.ui_action.gestures import Swipe, Wheel, scroll_gesture
from plugins.ui_action.parser import parse_response
from plugins.ui_action.screen import Screen

SCREEN = Screen(1920, 1080, 1932, 1092)
CENTRE = (960, 540)

WHEELS: dict[Direction, tuple[float, float]] = {
    "up": (0, -864),
    "down": (0, 864),
    "left": (-1536, 0),
    "right": (1536, 0),
}


@pytest.mark.parametrize("platform", ["desktop", "web"])
@pytest.mark.parametrize("direction", WHEELS)
def test_a_wheel_reveals_what_lies_in_the_direction(direction: Direction, platform: Platform) -> None:
    action = Action("scroll", start=CENTRE, direction=direction)
    assert scroll_gesture(action, SCREEN, platform) == Wheel(CENTRE, *WHEELS[direction])


@given(st.sampled_from(sorted(WHEELS)), st.floats(0, 1919), st.floats(0, 1079))
def test_a_finger_goes_the_other_way_and_stays_on_the_screen(direction: Direction, x: float, y: float) -> None:
    found = scroll_gesture(Action("scroll", start=(x, y), direction=direction), SCREEN, "mobile")
    assert isinstance(found, Swipe)
    dx, dy = WHEELS[direction]
    assert (found.start[0] - found.end[0], found.start[1] - found.end[1]) == pytest.approx((dx, dy))
    for place in (found.start, found.end):
        assert 0 <= place[0] <= 1919
        assert 0 <= place[1] <= 1079


def test_a_finger_begins_where_it_is_told_to_if_there_is_room() -> None:
    up = scroll_gesture(Action("scroll", start=(960, 1000), direction="down"), SCREEN, "mobile")
    assert up == Swipe((960, 1000), (960, 136))


def test_revealing_the_right_is_a_swipe_to_the_left() -> None:
    found = scroll_gesture(Action("scroll", start=CENTRE, direction="right"), SCREEN, "mobile")
    assert isinstance(found, Swipe)
    assert found.end[0] < found.start[0]
    assert found.end[1] == found.start[1] == 540


def test_the_path_of_a_finger_upwards_reveals_what_is_below() -> None:
    text = "Action: scroll(start_box='(966,900)', end_box='(966,200)')"
    [action] = parse_response(text, screen=SCREEN, platform="mobile").actions
    swipe, wheel = (scroll_gesture(action, SCREEN, platform) for platform in ("mobile", "web"))
    assert isinstance(swipe, Swipe)
    assert isinstance(wheel, Wheel)
    assert (*swipe.start, *swipe.end) == pytest.approx((960, 890.110, 960, 197.802), abs=5e-4)
    assert (wheel.dx, wheel.dy) == pytest.approx((0, 692.308), abs=5e-4)


def test_a_scroll_without_a_point_is_at_the_centre() -> None:
    assert scroll_gesture(Action("scroll", direction="down"), SCREEN, "web") == Wheel(CENTRE, 0, 864)


@pytest.mark.parametrize("action", [Action("click", start=CENTRE), Action("scroll", start=CENTRE)])
def test_what_is_no_scroll_is_refused(action: Action) -> None:
    with pytest.raises(UIActionInputError, match="no scroll"):
        scroll_gesture(action, SCREEN, "web")
