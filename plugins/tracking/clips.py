"""Batches of generated clips for training: aligned frames, masks, boxes and who is who."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from .boxes import boxes_of_masks
from .modalities import MODALITIES, RGB
from .scenes import Scene, random_scene
from .views import normalised

DROP_SENSOR = 0.15  # of the pairs, half of them lose RGB and half the other
FEWEST_PIXELS = 12  # of an object that counts as visible
NEXT_DRAW = 1_000_003


@dataclass(frozen=True)
class ClipBatch:
    """B clips of F frames with n objects in all.

    Attributes:
        rgb, other: float [B * F, 3, H, W], a clip's frames one after the other; first, modality: int64 [B * F], what
            the two streams are.
        clip: int64 [n], the clip of each object.
        masks: float [n, F, h, w] in 0..1 at half the size. boxes: [n, F, 4] in units of the sides.
        visible: bool [n, F].
    """

    rgb: torch.Tensor
    other: torch.Tensor
    first: torch.Tensor
    modality: torch.Tensor
    clip: torch.Tensor
    masks: torch.Tensor
    boxes: torch.Tensor
    visible: torch.Tensor

    @property
    def frames(self) -> int:
        return self.masks.shape[1]

    def to(self, device: torch.device) -> ClipBatch:
        """The same on a device."""
        return ClipBatch(**{each.name: getattr(self, each.name).to(device) for each in fields(self)})


def sensors(
    scene: Scene, rng: np.random.Generator, shares: Sequence[float] | None = None
) -> tuple[np.ndarray, np.ndarray, int, int]:
    """The two streams of a clip and what they are; where a sensor is dropped, the other one stands in for it.

    `shares` are how often each modality is the second stream; None for all as often.
    """
    index = int(rng.integers(0, len(MODALITIES)) if shares is None else rng.choice(len(MODALITIES), p=shares))
    rgb, other = scene.frames["rgb"], scene.frames[MODALITIES[index]]
    if index != RGB and rng.random() < DROP_SENSOR:
        if rng.random() < 0.5:
            return other, other, index, index
        return rgb, rgb, RGB, RGB
    return rgb, other, RGB, index


def visible_scene(seed: int, frames: int, size: tuple[int, int], **fixed: Any) -> tuple[Scene, list[np.ndarray]]:
    """The scene of a seed and the masks bool [T, H, W] of what can be seen in it; drawn again until there is some.

    `fixed` is as of `random_scene`.
    """
    while True:
        scene = random_scene(seed, frames=frames, size=size, **fixed)
        masks = [scene.ids == number for number in range(1, len(scene.objects) + 1)]
        masks = [mask for mask in masks if (mask.sum((1, 2)) >= FEWEST_PIXELS).any()]
        if masks:
            return scene, masks
        seed += NEXT_DRAW


def clip_batch(
    seed: int,
    count: int,
    frames: int,
    size: tuple[int, int],
    twins: float | None = None,
    stride: int | None = None,
    shares: Sequence[float] | None = None,
) -> ClipBatch:
    """`count` clips, each of a seed of its own from `seed` on.

    Args:
        twins: the share of clips whose objects look alike; None leaves it to `random_scene`.
        stride: each clip's is drawn from 1 to this; None leaves it to `random_scene`. Paths cross in the middle of a
            clip, so that far strides show twins both apart and together, and near ones only together.
        shares: as of `sensors`.
    """
    rng = np.random.default_rng(seed)
    streams, owners, masks = [], [], []
    for index in range(count):
        fixed: dict[str, Any] = {} if twins is None else {"twins": bool(rng.random() < twins)}
        if stride is not None:
            fixed["stride"] = int(rng.integers(1, stride + 1))
        scene, seen = visible_scene(seed + index, frames, size, **fixed)
        streams.append(sensors(scene, rng, shares))
        owners += [index] * len(seen)
        masks += seen
    full = torch.from_numpy(np.stack(masks))
    return ClipBatch(
        rgb=torch.cat([normalised(rgb) for rgb, *_ in streams]),
        other=torch.cat([normalised(other) for _, other, *_ in streams]),
        first=torch.tensor([first for *_, first, _ in streams]).repeat_interleave(frames),
        modality=torch.tensor([index for *_, index in streams]).repeat_interleave(frames),
        clip=torch.tensor(owners),
        masks=functional.avg_pool2d(full.float(), 2),
        boxes=boxes_of_masks(full.flatten(0, 1)).unflatten(0, full.shape[:2]),
        visible=full.sum((2, 3)) >= FEWEST_PIXELS,
    )
