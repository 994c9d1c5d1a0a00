"""What screens cost in tokens."""

from __future__ import annotations

import pytest

from plugins.ui_action.errors import UIActionInputError
from plugins.ui_action.strategy import Strategy
from plugins.ui_action.visual_tokens import image_pads, image_tokens, term_tokens, video_pads, video_tokens

# Width, height: tokens of one screen without delimiters, then of S, M, V, M*V and S*M*V, with 3 images and 4 frames.
COSTS = {
    (168, 112): (24, 26, 78, 50, 128, 154),
    (112, 168): (24, 26, 78, 50, 128, 154),
    (140, 140): (25, 27, 81, 52, 133, 160),
    (196, 196): (49, 51, 153, 100, 253, 304),
    (252, 168): (54, 56, 168, 110, 278, 334),
    (168, 252): (54, 56, 168, 110, 278, 334),
    (1932, 1092): (2691, 2693, 8079, 5384, 13463, 16156),
}


@pytest.mark.parametrize("size", COSTS)
def test_every_kind_of_sample_costs_what_the_model_is_fed(size: tuple[int, int]) -> None:
    kinds = [Strategy.parse(text).terms for text in ("S", "M", "V", "M*V", "S*M*V")]
    found = [term_tokens(term, *size, images=3, frames=4) for [term] in kinds]
    assert (image_pads(*size), *found) == COSTS[size]
    assert image_tokens(*size) == COSTS[size][1]


def test_an_odd_number_of_frames_is_made_even() -> None:
    assert [video_pads(196, 196, frames) for frames in (1, 2, 3, 4, 5)] == [49, 49, 98, 98, 147]
    assert video_tokens(196, 196, 3) == 100


@pytest.mark.parametrize("size", [(1920, 1080), (0, 28), (28, 14), (-28, -28)])
def test_sizes_that_no_model_sees_are_refused(size: tuple[int, int]) -> None:
    with pytest.raises(UIActionInputError, match="multiples of 28"):
        image_pads(*size)


def test_media_of_nothing_are_refused() -> None:
    with pytest.raises(UIActionInputError, match="0 frames: give at least 1"):
        video_pads(28, 28, 0)
    with pytest.raises(UIActionInputError, match="0 images: give at least 1"):
        term_tokens(("M",), 28, 28, images=0, frames=2)
