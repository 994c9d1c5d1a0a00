"""Small clips for the tests, made up by hand or by hypothesis."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from hypothesis import strategies as st

from plugins.tracking.results import FrameInstances, Task, Tracks, masks_to_boxes

HEIGHT, WIDTH = 9, 14


def box_frame(boxes: Mapping[int, Sequence[float]]) -> FrameInstances:
    """Boxes xyxy by id, scores 1."""
    ids, xyxy = np.array(list(boxes), np.int64), np.array(list(boxes.values()), np.float32).reshape(-1, 4)
    return FrameInstances(ids, xyxy, None, np.ones(len(ids), np.float32))


def box_clip(*frames: Mapping[int, Sequence[float]], height: int = 100, width: int = 100) -> Tracks:
    return Tracks(tuple(box_frame(boxes) for boxes in frames), height, width, "mot")


def mask_frame(masks: dict[int, np.ndarray], shape: tuple[int, int] = (HEIGHT, WIDTH)) -> FrameInstances:
    """Masks by id, boxes tight, scores 1."""
    stacked = np.array(list(masks.values()), bool).reshape(-1, *shape)
    return FrameInstances(np.array(list(masks), np.int64), masks_to_boxes(stacked), stacked, np.ones(len(masks)))


def mask_clip(*frames: dict[int, np.ndarray], shape: tuple[int, int] = (HEIGHT, WIDTH), task: Task = "mots") -> Tracks:
    return Tracks(tuple(mask_frame(masks, shape) for masks in frames), *shape, task)


def rectangle(x0: int, y0: int, width: int, height: int, shape: tuple[int, int] = (HEIGHT, WIDTH)) -> np.ndarray:
    mask = np.zeros(shape, bool)
    mask[y0 : y0 + height, x0 : x0 + width] = True
    return mask


@st.composite
def masks(draw: Any) -> np.ndarray:
    """A rectangle, one with holes, or nothing: coarse, so that equal overlaps are common."""
    x0, y0 = draw(st.integers(0, WIDTH - 1)), draw(st.integers(0, HEIGHT - 1))
    mask = rectangle(x0, y0, draw(st.integers(0, 8)), draw(st.integers(0, 8)))
    seed = draw(st.integers(0, 3))
    return mask & (np.random.default_rng(seed).random(mask.shape) < 0.7) if seed else mask


@st.composite
def mask_clips(draw: Any, length: int | None = None, ids: Sequence[int] = (0, 1, 2, 7)) -> Tracks:
    """A clip of masks that may overlap and may be empty, boxes tight, scores 1, the order of ids free."""
    length = length or draw(st.integers(1, 4))
    chosen = [draw(st.lists(st.sampled_from(ids), unique=True)) for _ in range(length)]
    return mask_clip(*({id: draw(masks()) for id in here} for here in chosen))


@st.composite
def box_clips(
    draw: Any, length: int | None = None, fraction: float = 0.5, ids: Sequence[int] = (0, 1, 2, 5, 300)
) -> Tracks:
    """A clip of boxes at multiples of `fraction`, some without area, some partly outside."""
    length = length or draw(st.integers(1, 5))
    places, sizes = st.integers(-4, 20), st.integers(0, 12)
    frames = []
    for _ in range(length):
        chosen = draw(st.lists(st.sampled_from(ids), unique=True))
        corners = {id: (draw(places), draw(places), draw(sizes), draw(sizes)) for id in chosen}
        boxes = {id: (x, y, x + w, y + h) for id, (x, y, w, h) in corners.items()}
        frames.append({id: [fraction * value for value in box] for id, box in boxes.items()})
    return box_clip(*frames, height=HEIGHT, width=WIDTH)


def pairs(clips: Any) -> Any:
    """Two clips of one length, each made by `clips(length=...)`."""
    return st.integers(1, 5).flatmap(lambda length: st.tuples(clips(length=length), clips(length=length)))


def drifting_pair(seed: int) -> tuple[Tracks, Tracks]:
    """Objects that move slowly and a tracker that mostly follows: it drifts, misses, doubles and swaps ids."""
    rng = np.random.default_rng(seed)
    places = rng.integers(0, (8, 4), (4, 2))
    truth, prediction, names = [], [], [4, 5, 6, 7]
    for _ in range(6):
        places = np.clip(places + rng.integers(-1, 2, places.shape), 0, (8, 4))
        if rng.random() < 0.3:
            names = rng.permutation(names).tolist()
        guesses = np.maximum(places + rng.integers(-1, 2, places.shape), 0)
        truth.append({id: _block(place) for id, place in enumerate(places) if rng.random() < 0.9})
        found = {id: _block(place) for id, place in zip(names, guesses, strict=True) if rng.random() < 0.8}
        prediction.append(found | ({9: _block(places[0])} if rng.random() < 0.5 else {}))
    return mask_clip(*truth), mask_clip(*prediction)


def _block(place: np.ndarray) -> np.ndarray:
    return rectangle(int(place[0]), int(place[1]), 5, 4)
