"""What the screens show, and what they must not."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plugins.ui_action.actions import PLATFORMS
from plugins.ui_action.games import TASKS, area, make_game, resource
from plugins.ui_action.games.assets import palette, palette_names, sprite_names, sprite_rows, theme
from plugins.ui_action.games.display import RECT, SPAN, SPRITE, Display, Painter
from plugins.ui_action.games.objects import CLASSES
from plugins.ui_action.games.raster import raster
from plugins.ui_action.games.target import COLOURS, KINDS

SIZES = {"desktop": (252, 168), "mobile": (168, 252), "web": (196, 196)}
CELLS = [(task, platform) for task in TASKS for platform in PLATFORMS]
SMALL = st.integers(-12, 40)


def pixels(display: Display) -> np.ndarray:
    return np.asarray(raster(display))


@pytest.mark.parametrize(("task", "platform"), CELLS)
def test_a_screen_has_its_platforms_size_in_whole_visual_tokens(task, platform):
    image = raster(make_game(task, platform).display())
    assert image.size == SIZES[platform]
    assert image.mode == "RGB"
    assert [side % 28 for side in image.size] == [0, 0]


@pytest.mark.parametrize(("task", "platform"), CELLS)
def test_whatever_can_be_pressed_is_inside_the_screen_apart_and_large_enough(task, platform):
    game = make_game(task, platform, adversarial=True)
    found = [each for each in game.objects() if each.name != "convoy"]
    assert {each.name for each in found} <= set(CLASSES)
    for each in found:
        x, y, width, height = each.box
        assert min(width, height) >= 14
        assert 0 <= x <= x + width <= game.layout.width
        assert 0 <= y <= y + height <= game.layout.height
        assert (each.column, each.row) == ((x + width // 2) // 28, (y + height // 2) // 28)
    for one, two in combinations([each.box for each in found], 2):
        assert not (
            abs(2 * one.x + one.width - 2 * two.x - two.width) < one.width + two.width
            and abs(2 * one.y + one.height - 2 * two.y - two.height) < one.height + two.height
        )


def test_units_differ_in_outline_by_kind_and_in_colour_by_team():
    shapes = {kind: np.zeros((24, 24), bool) for kind in KINDS}
    for kind, shape in shapes.items():
        for y, row in enumerate(sprite_rows(kind)):
            shape[y, : len(row)] = [letter != "." for letter in row]
    for one, two in combinations(shapes.values(), 2):
        assert (one ^ two).sum() > 0.2 * (one | two).sum()
    looks = set()
    for colour in COLOURS:
        painter = Painter()
        painter.sprite("tank", colour, 0, 0)
        looks.add(pixels(Display(20, 16, (), tuple(painter.commands))).tobytes())
    assert len(looks) == 4


def test_a_convoy_looks_the_same_from_all_sides():
    rows = np.array([list(row) for row in sprite_rows("convoy")])
    assert np.array_equal(rows, rows[::-1])
    assert np.array_equal(rows, rows[:, ::-1])


@pytest.mark.parametrize("platform", PLATFORMS)
def test_what_was_sent_is_on_the_screen_right_after_it_only(platform):
    game = make_game("resource-allocation", platform)
    (begun,) = resource.apply(resource.begin(0), ("idle",))
    bare = pixels(game.display(begun))
    (once,) = resource.apply(begun, ("send", 0))
    (other,) = resource.apply(begun, ("send", 1))
    (twice,) = resource.apply(once, ("send", 0))
    (idle,) = resource.apply(twice, ("idle",))
    assert not np.array_equal(pixels(game.display(once)), bare)
    assert not np.array_equal(pixels(game.display(once)), pixels(game.display(other)))
    assert np.array_equal(pixels(game.display(twice)), pixels(game.display(once)))
    assert np.array_equal(pixels(game.display(idle)), bare)


@pytest.mark.parametrize("platform", PLATFORMS)
@pytest.mark.parametrize("at", [4, 8, 12])
def test_one_screen_does_not_tell_where_a_convoy_goes_and_two_ticks_do(platform, at):
    game = make_game("area-control", platform)
    kinds = [area.Convoy(2, at, heading, speed) for heading in (1, -1) for speed in (1, 2)]
    now, then = set(), set()
    for convoy in kinds:
        state = replace(game.rules, schedule=(convoy,), road=((0, at),), sent=1)
        before = replace(state, road=((0, at - convoy.heading * convoy.speed),))
        now.add(pixels(game.display(state)).tobytes())
        then.add(pixels(game.display(before)).tobytes())
    assert (len(now), len(then)) == (1, 4)


def drawn_slowly(command: tuple[int, ...], side: int) -> np.ndarray:
    """One command, pixel by pixel, straight from the description in display.py."""
    canvas = np.zeros((side, side, 3), np.uint8)
    kind, x, y = command[:3]
    if kind in (RECT, SPAN):
        width, height = (command[3], command[4]) if kind == RECT else (command[3], 1)
        spots = {(x + right, y + down): command[-1] for right in range(width) for down in range(height)}
    else:
        rows, tones = sprite_rows(sprite_names()[command[3]]), palette_colours(command[4])
        spots = {
            (x + right, y + down): tones[letter]
            for down, row in enumerate(rows)
            for right, letter in enumerate(row)
            if letter != "."
        }
    for (column, row), colour in spots.items():
        if 0 <= column < side and 0 <= row < side:
            canvas[row, column] = colour >> 16, colour >> 8 & 255, colour & 255
    return canvas


def palette_colours(number: int) -> dict[str, int]:
    return dict(palette(palette_names()[number]))


@settings(max_examples=80)
@given(
    st.one_of(
        st.tuples(st.just(RECT), SMALL, SMALL, st.integers(1, 50), st.integers(1, 50), st.integers(1, 0xFFFFFF)),
        st.tuples(st.just(SPAN), SMALL, SMALL, st.integers(1, 50), st.integers(1, 0xFFFFFF)),
        st.tuples(
            st.just(SPRITE),
            SMALL,
            SMALL,
            st.integers(0, len(sprite_names()) - 1),
            st.integers(0, len(palette_names()) - 1),
        ),
    )
)
def test_every_command_is_cut_off_at_the_edges(command):
    assert np.array_equal(pixels(Display(32, 32, (), (command,))), drawn_slowly(command, 32))


def test_a_text_is_written_in_the_own_font_and_unknown_signs_become_question_marks():
    painter, odd = Painter(), Painter()
    painter.text("I?", 1, 1, 0xFFFFFF)
    odd.text("I€", 1, 1, 0xFFFFFF)
    image = pixels(Display(14, 9, (), tuple(painter.commands)))[..., 0] > 0
    assert ["".join(".#"[int(dot)] for dot in row) for row in image[1:8, 1:6]] == [".###.", *["..#.."] * 5, ".###."]
    assert np.array_equal(image, pixels(Display(14, 9, (), tuple(odd.commands)))[..., 0] > 0)


def test_every_platform_has_the_same_colours_by_name():
    assert len({tuple(sorted(theme(platform))) for platform in PLATFORMS}) == 1


@pytest.mark.parametrize("task", TASKS)
def test_a_game_that_has_ended_says_so(task):
    game = make_game(task, "web")
    ends = [pixels(game.display(replace(game.rules, outcome=outcome))) for outcome in ("playing", "won", "lost")]
    assert len({end.tobytes() for end in ends}) == 3
