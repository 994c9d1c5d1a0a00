"""What of a run a model is shown: the strategy's media of this decision, and how much of earlier turns.

Static image S, multi-image sequence M and video V are those of arXiv 2511.12937. The media of one decision stand in the
order V, M, S, so that the current screen is always the last one seen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from PIL import Image

from .backends.base import Turn, Video
from .coordinates import FACTOR
from .errors import UIActionInputError
from .strategy import MEDIA, Medium, Strategy
from .visual_tokens import image_tokens, video_tokens

Media = tuple[Image.Image | Video, ...]


@dataclass(frozen=True)
class Memory:
    """Which screens a model is shown; the texts of all turns it always gets.

    Attributes:
        media: of the current decision, some of "V", "M", "S", in this order.
        images: K, the screens of M: the current one and those before it, one after each action.
        frames: F, even, the last frames of V since the last action.
        fps: of V.
        turns: earlier turns whose screen is shown again, beside the current decision's media.
        max_visual_tokens: beyond it the oldest image is left out first, the current screen never; None: no limit.

    Raises:
        UIActionInputError: media out of order, an odd F, numbers below their least.
    """

    media: tuple[Medium, ...] = ("S",)
    images: int = 3
    frames: int = 4
    fps: float = 2.0
    turns: int = 0
    max_visual_tokens: int | None = None

    def __post_init__(self) -> None:
        if not self.media or self.media != tuple(name for name in MEDIA if name in self.media):
            raise UIActionInputError(f"media {self.media}: give some of V, M, S, each once and in this order")
        if self.images < 1 or self.frames < 2 or self.frames % 2:
            raise UIActionInputError(
                f"{self.images} images and {self.frames} frames: give at least 1 image, and 2, 4, 6, ... frames"
            )
        if not 0 < self.fps < float("inf") or self.turns < 0:
            raise UIActionInputError(
                f"{self.fps} frames per second, {self.turns} turns: give more than 0, and 0 or more"
            )
        if self.max_visual_tokens is not None and self.max_visual_tokens < 1:
            raise UIActionInputError(f"{self.max_visual_tokens} visual tokens: give at least 1, or None for no limit")

    @classmethod
    def of(cls, strategy: str) -> Memory:
        """That of a strategy such as "M*V+S": the media of its largest term, of which an agent can show the most.

        Raises UIActionInputError for what is no strategy.
        """
        return cls(media=Strategy.parse(strategy).terms[0])

    def show(self, screens: Sequence[Image.Image], frames: Sequence[Image.Image]) -> Media:
        """The media of the current decision.

        Args:
            screens: one after each action so far, oldest first, at least one; the last is the current one.
            frames: since the last action, oldest first; the last is the current screen.
        """
        shown: list[Image.Image | Video] = []
        if "V" in self.media:
            shown.append(Video(even(frames[-self.frames :]), self.fps))
        if "M" in self.media:
            shown.extend(screens[-self.images :])
        if "S" in self.media:
            shown.append(screens[-1])
        return tuple(shown)

    def recall(self, turns: Sequence[Turn]) -> tuple[Turn, ...]:
        """All earlier turns, oldest first; those before the last `turns` without their screens."""
        first = len(turns) - self.turns
        return tuple(turn if index >= first else replace(turn, media=()) for index, turn in enumerate(turns))

    def within_budget(self, history: tuple[Turn, ...], media: Media) -> tuple[tuple[Turn, ...], Media]:
        """Both, without as many of the oldest screens as keep them within `max_visual_tokens`.

        Screens of earlier turns go first, then those of M, then the two oldest frames of a video at a time. The current
        screen stays, even where it alone is too much; a video that ends in it keeps its last two frames.
        """
        turns, shown = list(history), list(media)
        while self.max_visual_tokens is not None and _tokens(turns, shown) > self.max_visual_tokens:
            oldest = next((index for index, turn in enumerate(turns) if turn.media), None)
            if oldest is not None:
                turns[oldest] = replace(turns[oldest], media=turns[oldest].media[1:])
            elif not _drop_oldest(shown):
                break
        return tuple(turns), tuple(shown)


def even(frames: Sequence[Image.Image]) -> tuple[Image.Image, ...]:
    """An even number of frames: the last one is repeated if need be."""
    return (*frames, *frames[-1:]) if len(frames) % 2 else tuple(frames)


def visual_tokens(media: Media) -> int:
    """Tokens of images and videos with their delimiters, each side rounded to what a model sees without a limit."""
    return sum(
        video_tokens(*_seen(each.frames[0]), len(each.frames))
        if isinstance(each, Video)
        else image_tokens(*_seen(each))
        for each in media
    )


def _seen(image: Image.Image) -> tuple[int, int]:
    return max(1, round(image.width / FACTOR)) * FACTOR, max(1, round(image.height / FACTOR)) * FACTOR


def _tokens(turns: Sequence[Turn], media: Sequence[Image.Image | Video]) -> int:
    return visual_tokens(tuple(media)) + sum(visual_tokens(turn.media) for turn in turns)


def _drop_oldest(media: list[Image.Image | Video]) -> bool:
    """Take out the oldest screen, or two frames, that is not the current one; whether there was any."""
    still = next((index for index, each in enumerate(media[:-1]) if not isinstance(each, Video)), None)
    if still is not None:
        del media[still]
        return True
    if isinstance(media[0], Video) and len(media[0].frames) > 2:
        media[0] = Video(media[0].frames[2:], media[0].fps)
        return True
    if len(media) > 1:  # two frames before the current screen
        del media[0]
        return True
    return False
