"""Sizes of images as models see them, and points between the spaces."""

from __future__ import annotations

import math

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from plugins.ui_action.coordinates import (
    MAX_PIXELS,
    MIN_PIXELS,
    css_to_device,
    css_to_model,
    css_to_unit,
    decode,
    device_to_css,
    encode,
    model_to_css,
    relative_to_unit,
    require_same_size,
    smart_resize,
    unit_to_css,
    unit_to_relative,
)
from plugins.ui_action.errors import ConfigError, UIActionInputError
from plugins.ui_action.parser import parse_response
from plugins.ui_action.screen import Screen

FULL = Screen(1920, 1080, 1932, 1092)

# (height, width), as measured on the processors themselves.
RESIZED = {
    (1080, 1920): (1092, 1932),
    (720, 1280): (728, 1288),
    (768, 1024): (756, 1036),
    (480, 640): (476, 644),
    (2340, 1080): (2352, 1092),
    (844, 390): (840, 392),
    (2160, 3840): (2156, 3836),
    (1440, 2560): (1428, 2548),
    (4320, 7680): (2688, 4760),
    (252, 392): (252, 392),
    (100, 5000): (112, 5012),
    (42, 70): (224, 364),
    (224, 224): (280, 280),
    (14, 14): (280, 280),
    (10, 10): (280, 280),
}


@pytest.mark.parametrize("size", RESIZED)
def test_images_are_resized_as_qwen_does(size: tuple[int, int]) -> None:
    assert smart_resize(*size) == RESIZED[size]


def test_limits_and_factors_of_other_models() -> None:
    assert smart_resize(224, 224, min_pixels=3136) == (224, 224)
    assert smart_resize(1080, 1920, max_pixels=1280 * 784) == (728, 1316)
    assert smart_resize(2160, 3840, max_pixels=1280 * 784) == (728, 1316)
    assert smart_resize(1080, 1920, 32, 256 * 1024, 1280 * 1024) == (832, 1504)


@pytest.mark.parametrize(("pixels", "sides"), [(70, 56), (126, 112), (182, 168), (14, 28)])
def test_halves_are_rounded_to_even(pixels: int, sides: int) -> None:
    assert smart_resize(pixels, 280, min_pixels=28 * 28) == (sides, 280)


@pytest.mark.parametrize(
    "arguments", [(10, 2010), (0, 5), (5, -1), (10, 10, 0), (10, 10, 28, 900, 800), (10, 10, 28, 0, 783)]
)
def test_what_cannot_be_resized_is_refused(arguments: tuple[int, ...]) -> None:
    with pytest.raises(UIActionInputError, match=r"give|crop"):
        smart_resize(*arguments)
    with pytest.raises(ValueError, match=r"pixels"):
        smart_resize(*arguments)


@given(st.integers(1, 9000), st.integers(1, 9000))
def test_resized_sides_are_multiples_within_the_limits_and_stay(height: int, width: int) -> None:
    assume(max(height, width) <= 150 * min(height, width))
    found = smart_resize(height, width)
    area = height * width
    assert found[0] % 28 == found[1] % 28 == 0
    assert MIN_PIXELS <= found[0] * found[1] <= MAX_PIXELS
    assert smart_resize(*found) == found
    # The proportions stay but for one factor a side; all of it where Qwen's own arithmetic just misses a multiple.
    scales = [1.0, math.sqrt(MIN_PIXELS / area), math.sqrt(MAX_PIXELS / area)]
    errors = [max(abs(found[0] - height * scale), abs(found[1] - width * scale)) for scale in scales]
    assert min(errors) <= 28 + 1e-6


@given(st.integers(10, 120), st.integers(10, 120))
def test_multiples_of_the_factor_within_the_limits_stay(rows: int, columns: int) -> None:
    assert smart_resize(rows * 28, columns * 28) == (rows * 28, columns * 28)


SCREENS = {
    Screen(1920, 1080, 1932, 1092): 0.497,
    Screen(1920, 1080, 1316, 728): 0.736,
    Screen(3840, 2160, 3836, 2156): 0.501,
    Screen(3840, 2160, 1316, 728): 1.484,
    Screen(252, 168): 0.0,
}


@pytest.mark.parametrize("screen", SCREENS)
def test_the_worst_pixel_comes_back_as_near_as_was_measured(screen: Screen) -> None:
    across = max(abs(decode(encode((x, 0), screen), screen)[0] - x) for x in range(screen.width))
    down = max(abs(decode(encode((0, y), screen), screen)[1] - y) for y in range(screen.height))
    assert max(across, down) == pytest.approx(SCREENS[screen], abs=5e-4)
    assert across <= 0.5 * screen.width / screen.model_size[0] + 1e-6
    assert down <= 0.5 * screen.height / screen.model_size[1] + 1e-6


@given(st.floats(0, 1919), st.floats(0, 1079), st.integers(28, 4000), st.integers(28, 4000))
def test_a_point_comes_back_within_half_a_pixel_of_the_model(x: float, y: float, width: int, height: int) -> None:
    screen = Screen(1920, 1080, width, height)
    there = decode(encode((x, y), screen), screen)
    assert abs(there[0] - x) <= 0.5 * 1920 / width + 1e-6
    assert abs(there[1] - y) <= 0.5 * 1080 / height + 1e-6
    assert model_to_css(css_to_model((x, y), screen), screen) == pytest.approx((x, y))


@given(st.floats(0, 1), st.floats(0, 1))
def test_thousandths_are_off_by_half_a_thousandth(x: float, y: float) -> None:
    assert relative_to_unit(unit_to_relative((x, y))) == pytest.approx((x, y), abs=0.0005 + 1e-12)
    assert css_to_unit(unit_to_css((x, y), FULL), FULL) == pytest.approx((x, y))


def test_the_centre_is_the_centre_in_every_space() -> None:
    assert encode((960, 540), FULL) == (966, 546)
    assert decode((966, 546), FULL) == pytest.approx((960, 540))
    assert css_to_unit((960, 540), FULL) == (0.5, 0.5)
    assert unit_to_relative((0.5, 0.5)) == (500, 500)
    assert encode((960, 540), Screen(1920, 1080, 1932, 1092, "relative-1000")) == (500, 500)


def test_device_pixels_of_a_fine_screen_are_two_for_one() -> None:
    assert css_to_device((960, 540), 2) == (1920, 1080)
    assert device_to_css((1920, 1080), 2) == (960, 540)


@given(st.integers(0, 1919), st.integers(0, 1079))
def test_both_ways_to_write_a_place_are_read_as_the_same(x: int, y: int) -> None:
    relative = Screen(1920, 1080, 1932, 1092, "relative-1000")
    places = []
    for screen, sides in ((FULL, (1932, 1092)), (relative, (1000, 1000))):
        written = f"({x / 1920 * sides[0]:.6f},{y / 1080 * sides[1]:.6f})"
        places += [parse_response(f"Action: click(start_box='{written}')", screen=screen).actions[0].start]
    assert places[0] == pytest.approx((x, y), abs=1e-5)
    assert places[1] == pytest.approx((x, y), abs=1e-5)


def test_a_model_that_saw_another_size_is_refused() -> None:
    require_same_size(FULL, (1, 78, 138))
    with pytest.raises(ConfigError, match=r"saw 1316 x 728 pixels, the screen says 1932 x 1092.*model_width=1316"):
        require_same_size(FULL, (1, 52, 94))
    with pytest.raises(ConfigError, match="one row"):
        require_same_size(FULL, (78, 138))


def test_what_a_wrong_size_would_click() -> None:
    """The most reported problem of UI-TARS, and why it is refused."""
    assert decode((658, 364), FULL) == pytest.approx((653.9, 360), abs=0.05)
    assert decode((658, 364), Screen(1920, 1080, 1316, 728)) == pytest.approx((960, 540))


@pytest.mark.parametrize("size", [(0, 5), (5, 0), (-1, 5)])
def test_a_screen_whose_image_has_no_pixels_is_refused(size):
    with pytest.raises(UIActionInputError, match="at least 1 x 1"):
        Screen(10, 10, *size)
    with pytest.raises(UIActionInputError, match="at least 1 x 1"):
        Screen(*size)
