"""The screen that actions are meant for, and the space in which a model gives its coordinates."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from .errors import UIActionInputError

Coordinates = Literal["absolute", "relative-1000"]


@dataclass(frozen=True, slots=True)
class Screen:
    """Sizes in pixels.

    Attributes:
        width, height: of the screen, css pixels; actions are given in these.
        model_width, model_height: of the image that the model saw, to which its absolute coordinates refer; the
            screen's own size if left out.
        coordinates: "absolute" in the model's image (Qwen2.5-VL, UI-TARS-1.5), or "relative-1000": 0 to 1000 along
            each side (UI-TARS 1.0, Qwen3-VL).
    """

    width: int
    height: int
    model_width: int | None = None
    model_height: int | None = None
    coordinates: Coordinates = "absolute"

    def __post_init__(self) -> None:
        if self.width < 1 or self.height < 1:
            raise UIActionInputError(f"a screen of {self.width} x {self.height} pixels: give at least 1 x 1")
        if (self.model_width is None) != (self.model_height is None):
            raise UIActionInputError("give both model_width and model_height, or neither")
        if self.model_width is not None and self.model_height is not None:
            sides = self.model_width, self.model_height
            if min(sides) < 1:
                raise UIActionInputError(f"the model's image is {sides[0]} x {sides[1]} pixels: give at least 1 x 1")
        if self.coordinates not in get_args(Coordinates):
            raise UIActionInputError(
                f"coordinates {self.coordinates!r}: choose one of {', '.join(get_args(Coordinates))}"
            )

    @property
    def model_size(self) -> tuple[int, int]:
        """(width, height) of the image that the model saw."""
        return self.model_width or self.width, self.model_height or self.height
