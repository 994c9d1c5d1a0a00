"""Pipelines of random weights whose thresholds let something through, and scenes small enough for them."""

from __future__ import annotations

from typing import Any

import numpy as np

from plugins.tracking.pipeline_sata import SataPipeline
from plugins.tracking.processing_sata import SataProcessor
from plugins.tracking.results import FrameInstances, Tracks
from plugins.tracking.scenes import Scene, generate_scene

from .tiny import tiny_model, wake_experts

SIDE = 64
LOOSE: dict[str, Any] = {
    "mask_affinity_threshold": 0.1,
    "match_threshold": -1.0,
    "new_track_threshold": 0.0,
    "keep_threshold": 0.0,
}
BOX = {"id": 7, "frame": 0, "box": [5, 5, 30, 30]}


def tiny_pipeline(**changes: Any) -> SataPipeline:
    model = wake_experts(tiny_model(**(LOOSE | changes)))
    return SataPipeline(model, SataProcessor.for_model(model, size={"longest_edge": SIDE}), device="cpu")


def small_scene(frames: int = 4, **changes: Any) -> Scene:
    return generate_scene(5, frames=frames, size=(SIDE, SIDE), objects=2, **changes)


def alike(one: FrameInstances, two: FrameInstances) -> bool:
    """The same instances up to the last digits, which differ with where weights lie in memory."""
    close = np.allclose(one.xyxy, two.xyxy, atol=1.01) and np.allclose(one.scores, two.scores, atol=1e-4)
    return np.array_equal(one.ids, two.ids) and close


def tracks_alike(one: Tracks, two: Tracks) -> bool:
    return all(alike(first, second) for first, second in zip(one.frames, two.frames, strict=True))
