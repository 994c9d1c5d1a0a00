"""What of a run a model is shown."""

from __future__ import annotations

from dataclasses import replace

import pytest
from PIL import Image

from plugins.ui_action.backends.base import Turn, Video
from plugins.ui_action.errors import UIActionInputError
from plugins.ui_action.memory import Memory, even, visual_tokens
from tests.ui_action.playground import SIDE


def image(number: int, side: int = SIDE) -> Image.Image:
    return Image.new("RGB", (side, side), (number, 0, 0))


class TestMemory:
    SCREENS = tuple(image(number) for number in range(5))

    @pytest.mark.parametrize(
        ("strategy", "media"),
        [("S", ("S",)), ("M*V+S", ("V", "M")), ("S+V*M", ("V", "M")), ("S*M*V", ("V", "M", "S")), ("MV", ("V", "M"))],
    )
    def test_a_strategy_shows_its_largest_sample(self, strategy, media):
        assert Memory.of(strategy).media == media

    def test_motion_comes_first_and_the_current_screen_last(self):
        clip, *rest = Memory.of("S*M*V").show(self.SCREENS, self.SCREENS)
        assert isinstance(clip, Video)
        assert clip.frames == self.SCREENS[1:]
        assert rest == [*self.SCREENS[2:], self.SCREENS[4]]

    @pytest.mark.parametrize(("given", "shown"), [(1, 2), (2, 2), (3, 4), (4, 4), (7, 4)])
    def test_a_clip_has_an_even_number_of_frames_and_ends_in_the_current_one(self, given, shown):
        frames = [image(number) for number in range(given)]
        (clip,) = Memory.of("V").show(frames[-1:], frames)
        assert isinstance(clip, Video)
        assert len(clip.frames) == shown
        assert clip.frames[-1] is frames[-1]
        assert even(clip.frames) == clip.frames

    def test_all_texts_are_recalled_and_the_screens_of_the_last_turns(self):
        turns = [Turn((image(number),), f"turn {number}") for number in range(6)]
        recalled = Memory(turns=2).recall(turns)
        assert [turn.text for turn in recalled] == [f"turn {number}" for number in range(6)]
        assert [len(turn.media) for turn in recalled] == [0, 0, 0, 0, 1, 1]
        assert [len(turn.media) for turn in Memory(turns=0).recall(turns)] == [0] * 6

    def test_tokens_are_those_of_the_model(self):
        wide = Image.new("RGB", (168, 112))
        fused = (Video((wide,) * 4, 2.0), wide, wide, wide, wide)
        assert visual_tokens(fused) == 154
        assert visual_tokens((Image.new("RGB", (1920, 1080)),)) == 2693

    def test_beyond_the_budget_the_oldest_screens_go_first_and_the_current_never(self):
        memory = Memory(media=("V", "M"), turns=2)
        media = memory.show(self.SCREENS, self.SCREENS)
        history = (Turn((image(9),), "a"), Turn((image(8),), "b"))
        left = []
        for most in range(60, 0, -1):
            turns, shown = replace(memory, max_visual_tokens=most).within_budget(history, media)
            assert [turn.text for turn in turns] == ["a", "b"]
            assert shown[-1] is self.SCREENS[-1]
            assert visual_tokens(shown) + sum(visual_tokens(turn.media) for turn in turns) <= max(most, 6)
            left.append(([len(turn.media) for turn in turns], [_size(each) for each in shown]))
        assert list(dict.fromkeys(map(str, left))) == [
            "([1, 1], [4, 1, 1, 1])",
            "([0, 1], [4, 1, 1, 1])",
            "([0, 0], [4, 1, 1, 1])",
            "([0, 0], [4, 1, 1])",
            "([0, 0], [4, 1])",
            "([0, 0], [2, 1])",
            "([0, 0], [1])",
        ]

    def test_a_clip_alone_keeps_its_last_frames(self):
        _, (clip,) = Memory(media=("V",), max_visual_tokens=1).within_budget((), Memory.of("V").show([], self.SCREENS))
        assert isinstance(clip, Video)
        assert clip.frames == self.SCREENS[3:]

    @pytest.mark.parametrize(
        "wrong",
        [{"media": ()}, {"media": ("S", "V")}, {"frames": 3}, {"images": 0}, {"turns": -1}, {"max_visual_tokens": 0}],
    )
    def test_settings_that_cannot_be_meant_are_refused(self, wrong):
        with pytest.raises(UIActionInputError):
            Memory(**wrong)


def _size(each: Image.Image | Video) -> int:
    return len(each.frames) if isinstance(each, Video) else 1
