"""From a frame of several sensors to the two streams that the model takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional

from .errors import TrackingError
from .modalities import RGB

MEAN, STD = 0.45, 0.225
MOST_PIXELS = 4096 * 4096

Channels = float | Sequence[float]


@dataclass(frozen=True)
class View:
    """One frame as the model takes it: streams float [1, 3, h, w], and what they are, int64 [1].

    `paired` is False where both streams would be the same; `other` is then `first`.
    """

    first: torch.Tensor
    other: torch.Tensor
    first_modality: torch.Tensor
    modality: torch.Tensor
    paired: bool


def normalised(frames: np.ndarray, mean: Channels = MEAN, std: Channels = STD) -> torch.Tensor:
    """uint8 [T, H, W, 3] to what the model takes, float [T, 3, H, W]; `mean` and `std` of 0..1, or one per channel."""
    values = torch.from_numpy(np.require(frames, requirements=["C", "W"])).permute(0, 3, 1, 2).float() / 255
    centre, spread = (torch.tensor(value, dtype=torch.float32).reshape(-1, 1, 1) for value in (mean, std))
    return (values - centre) / spread


def checked_frame(name: str, frame: np.ndarray, modalities: tuple[str, ...]) -> np.ndarray:
    """A sensor's frame as uint8 [H, W, 3]; grey ones [H, W] are repeated.

    Raises:
        TrackingError: for an unknown sensor, another type, or another shape.
    """
    if name not in modalities:
        raise TrackingError(f"unknown modality {name!r}: name {', '.join(modalities)}")
    frame = np.asarray(frame)
    if frame.ndim == 2:
        frame = np.repeat(frame[..., None], 3, axis=2)
    if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3 or 0 in frame.shape:
        raise TrackingError(
            f"{name} is {frame.dtype} {list(frame.shape)}: give uint8 [height, width, 3] or [height, width]"
        )
    if frame.shape[0] * frame.shape[1] > MOST_PIXELS:
        raise TrackingError(f"{name} has {frame.shape[0]} x {frame.shape[1]} pixels: at most {MOST_PIXELS:,} in all")
    return frame


def model_size(height: int, width: int, longest: int, stride: int) -> tuple[int, int]:
    """The size at which a frame is looked at: its longer side near `longest`, both multiples of `stride`."""
    scale = longest / max(height, width)
    return tuple(max(stride, round(side * scale / stride) * stride) for side in (height, width))  # ty: ignore[invalid-explicit-return]


def make_view(
    frames: Mapping[str, np.ndarray | None],
    modalities: tuple[str, ...],
    longest: int,
    stride: int,
    mean: Channels = MEAN,
    std: Channels = STD,
) -> tuple[View | None, tuple[int, int]]:
    """The view of one frame and the frame's size (height, width); no view where every sensor is missing.

    RGB is joined by the first other sensor, in the order of `modalities`, that is there. Where only one kind is there,
    it takes both places under its own name: a black frame under the name of a sensor that is off would be believed.

    Raises:
        TrackingError: sensors of different sizes, or a frame that is not one.
    """
    present = {name: checked_frame(name, frame, modalities) for name, frame in frames.items() if frame is not None}
    if not present:
        return None, (0, 0)
    sizes = {name: frame.shape[:2] for name, frame in present.items()}
    if len(set(sizes.values())) > 1:
        listed = ", ".join(f"{name} {height} x {width}" for name, (height, width) in sizes.items())
        raise TrackingError(f"the sensors' frames differ in size ({listed}): align and resize them to one size first")
    height, width = next(iter(sizes.values()))
    size = model_size(height, width, longest, stride)
    others = [name for name in modalities[1:] if name in present]
    names = [modalities[RGB], others[0]] if modalities[RGB] in present and others else [next(iter(others or present))]
    streams = [resized(normalised(present[name][None], mean, std), size) for name in names]
    places = [torch.tensor([modalities.index(name)]) for name in names]
    return View(streams[0], streams[-1], places[0], places[-1], len(names) == 2), (height, width)


def resized(frames: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """[T, 3, H, W] to another size, anti-aliased; untouched where it is that size."""
    if tuple(frames.shape[2:]) == size:
        return frames
    return functional.interpolate(frames, size, mode="bilinear", align_corners=False, antialias=True)
