"""Trackers of transformers to be timed beside ours, with random weights: speed does not depend on what they learned."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.nn import functional
from transformers import (
    EdgeTamVideoConfig,
    EdgeTamVideoInferenceSession,
    EdgeTamVideoModel,
    Sam2VideoConfig,
    Sam2VideoInferenceSession,
    Sam2VideoModel,
    Sam2VisionConfig,
)
from transformers.models.sam2.configuration_sam2 import Sam2HieraDetConfig

from .errors import TrackingError
from .views import normalised

Box = Sequence[float]
CORNERS = (2, 3)  # the labels of a box's two corners among SAM 2's points
STRIDE = 16  # of the map that memory attends to
MOST_LATENTS = 16  # a side of EdgeTAM's grid of latents
SMALLEST_SIDE, LARGEST_SIDE = 64, 1024


@dataclass(frozen=True)
class Trunk:
    """A Hiera trunk: channels and blocks of its four stages, and the blocks that attend globally."""

    widths: tuple[int, ...] = (96, 192, 384, 768)
    blocks: tuple[int, ...] = (1, 2, 7, 2)
    global_blocks: tuple[int, ...] = (5, 7, 9)


HIERA_TINY = Trunk()
REPVIT_WIDTHS = Trunk((48, 96, 192, 384))


@dataclass(frozen=True)
class Peer:
    """A tracker to time.

    Attributes:
        name: what it is called in the report. config: what was built, in words.
        parameters: how many. sensors: what it looks at.
        run: seconds per frame of RGB frames uint8 [T, H, W, 3], in the first of which boxes in pixels are prompted.
    """

    name: str
    config: str
    parameters: int
    sensors: tuple[str, ...]
    run: Callable[[np.ndarray, Sequence[Box]], list[float]]


def vision(side: int, trunk: Trunk) -> Sam2VisionConfig:
    """SAM 2's image encoder for square images."""
    return Sam2VisionConfig(
        backbone_config=Sam2HieraDetConfig(
            hidden_size=trunk.widths[0],
            image_size=[side, side],
            embed_dim_per_stage=list(trunk.widths),
            blocks_per_stage=list(trunk.blocks),
            global_attention_blocks=list(trunk.global_blocks),
        ),
        backbone_channel_list=list(reversed(trunk.widths)),
        backbone_feature_sizes=[[side // stride] * 2 for stride in (4, 8, 16)],
    )


def sam2_video(side: int, trunk: Trunk = HIERA_TINY) -> Peer:
    """`Sam2VideoModel`: the default configuration, which is SAM 2.1 tiny's, for images of that side."""
    check_side(side)
    cells = side // STRIDE
    config = Sam2VideoConfig(
        vision_config=vision(side, trunk),
        prompt_encoder_config={"image_size": side},
        image_size=side,
        memory_attention_rope_feat_sizes=[cells, cells],
    )
    text = f"SAM 2.1 Hiera tiny at {side} x {side}" if trunk == HIERA_TINY else f"Hiera {trunk.widths} at {side}"
    return _peer(Sam2VideoModel, Sam2VideoInferenceSession, config, text)


def edgetam_video(side: int, trunk: Trunk = REPVIT_WIDTHS) -> Peer:
    """`EdgeTamVideoModel`: the default configuration, but for the trunk: RepViT-M1 comes with timm, which we lack."""
    check_side(side)
    cells = side // STRIDE
    grid = min(MOST_LATENTS, cells)
    config = EdgeTamVideoConfig(
        vision_config=vision(side, trunk),
        prompt_encoder_config={"image_size": side},
        image_size=side,
        memory_attention_rope_feat_sizes=[cells, cells],
        memory_attention_rope_k_sizes=[grid, grid],
        perceiver_resampler_num_latents_2d=grid * grid,
    )
    text = f"EdgeTAM at {side} x {side}, {grid} x {grid} latents, Hiera trunk of RepViT-M1's widths {trunk.widths}"
    return _peer(EdgeTamVideoModel, EdgeTamVideoInferenceSession, config, text)


def check_side(side: int) -> None:
    """Refuse a side at which the peers' maps would not fit each other."""
    if side % 32 or not SMALLEST_SIDE <= side <= LARGEST_SIDE:
        raise TrackingError(
            f"side of the peers is {side}: give a multiple of 32 from {SMALLEST_SIDE} to {LARGEST_SIDE}"
        )


def _peer(model_class: Any, session_class: Any, config: Any, text: str) -> Peer:
    state = torch.random.get_rng_state()
    torch.manual_seed(0)
    model = model_class(config).eval()
    torch.random.set_rng_state(state)

    def run(frames: np.ndarray, boxes: Sequence[Box]) -> list[float]:
        return _timed(model, session_class, config.image_size, frames, boxes)

    count = sum(value.numel() for value in model.parameters())
    return Peer(model_class.__name__, text, count, ("rgb",), run)


def _timed(model: Any, session_class: Any, side: int, frames: np.ndarray, boxes: Sequence[Box]) -> list[float]:
    """Seconds per frame, from the frame as bytes to masks of its own size."""
    height, width = frames.shape[1:3]
    session = session_class(video_height=height, video_width=width, dtype=torch.float32)
    labels = torch.tensor([[CORNERS]], dtype=torch.int32)
    for place, box in enumerate(boxes):
        corners = torch.tensor(box, dtype=torch.float32).reshape(1, 1, 2, 2) * side / torch.tensor([width, height])
        index = session.obj_id_to_idx(place + 1)
        session.add_point_inputs(index, 0, {"point_coords": corners, "point_labels": labels})
    session.obj_with_new_inputs = list(session.obj_ids)
    seconds = []
    for frame in frames:
        began = time.perf_counter()
        image = functional.interpolate(normalised(frame[None]), (side, side), mode="bilinear", align_corners=False)
        found = model(inference_session=session, frame=image[0])
        masks = functional.interpolate(found.pred_masks.float(), (height, width), mode="bilinear", align_corners=False)
        _ = (masks > 0).numpy()
        seconds.append(time.perf_counter() - began)
    return seconds
