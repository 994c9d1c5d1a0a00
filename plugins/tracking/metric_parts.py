"""What the metrics are made of: two clips side by side, overlaps of boxes and masks, boundaries of masks."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from .errors import TrackingError
from .results import FrameInstances, Tracks

Similarity = Literal["box", "mask"]
SIMILARITIES: tuple[str, ...] = get_args(Similarity)
ABSENT = -1  # the id of an object that is in no frame


@dataclass(frozen=True)
class Comparison:
    """Two clips frame by frame, every id replaced by its place among the sorted ids of its clip.

    Attributes:
        truth: per frame, int64 [n]. prediction: per frame, int64 [m].
        similarity: per frame, float64 [n, m], 0..1.
        num_truth_ids, num_prediction_ids: how many ids each clip has.
    """

    truth: tuple[np.ndarray, ...]
    prediction: tuple[np.ndarray, ...]
    similarity: tuple[np.ndarray, ...]
    num_truth_ids: int
    num_prediction_ids: int

    def __iter__(self) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        return zip(self.truth, self.prediction, self.similarity, strict=True)

    @property
    def truth_counts(self) -> np.ndarray:
        """In how many frames each true object is, int64 [num_truth_ids]."""
        return np.bincount(np.concatenate(self.truth), minlength=self.num_truth_ids)

    @property
    def prediction_counts(self) -> np.ndarray:
        """In how many frames each predicted object is, int64 [num_prediction_ids]."""
        return np.bincount(np.concatenate(self.prediction), minlength=self.num_prediction_ids)


def compare(truth: Tracks, prediction: Tracks, similarity: Similarity) -> Comparison:
    """Put two clips side by side.

    Args:
        similarity: intersection over union of "box" or "mask".
    """
    if similarity not in SIMILARITIES:
        raise TrackingError(f"similarity is {similarity!r}: choose one of {', '.join(SIMILARITIES)}")
    check_same_clip(truth, prediction)
    if similarity == "mask":
        check_masks(truth, prediction)
    measure = box_similarity if similarity == "box" else mask_similarity
    true_ids, predicted_ids = np.array(truth.ids(), np.int64), np.array(prediction.ids(), np.int64)
    return Comparison(
        tuple(np.searchsorted(true_ids, frame.ids) for frame in truth.frames),
        tuple(np.searchsorted(predicted_ids, frame.ids) for frame in prediction.frames),
        tuple(measure(*frames) for frames in zip(truth.frames, prediction.frames, strict=True)),
        len(true_ids),
        len(predicted_ids),
    )


def check_same_clip(truth: Tracks, prediction: Tracks) -> None:
    """Refuse two clips of different length or size."""
    shapes = [(len(tracks.frames), tracks.height, tracks.width) for tracks in (truth, prediction)]
    if shapes[0] != shapes[1]:
        texts = [f"{frames} frames of {height} x {width} pixels" for frames, height, width in shapes]
        raise TrackingError(f"the truth has {texts[0]}, the prediction {texts[1]}: give both for the same clip")


def check_masks(truth: Tracks, prediction: Tracks) -> None:
    """Refuse a clip without masks."""
    for name, tracks in (("truth", truth), ("prediction", prediction)):
        if not tracks.has_masks:
            raise TrackingError(f"the {name} has no masks: give masks, or compare boxes")


def box_similarity(first: FrameInstances, second: FrameInstances) -> np.ndarray:
    """Intersection over union of the boxes of two frames, float64 [n, m]."""
    return box_iou(first.xyxy.astype(np.float64), second.xyxy.astype(np.float64))


def box_iou(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Intersection over union of all pairs, xyxy [n, 4] and [m, 4] to [n, m]; 0 for boxes without area."""
    start = np.maximum(first[:, None, :2], second[None, :, :2])
    end = np.minimum(first[:, None, 2:], second[None, :, 2:])
    intersection = np.maximum(end - start, 0).prod(2)
    areas = [(boxes[:, 2:] - boxes[:, :2]).prod(1) for boxes in (first, second)]
    union = areas[0][:, None] + areas[1] - intersection
    return np.divide(intersection, union, out=np.zeros_like(union), where=intersection > 0)


def mask_similarity(first: FrameInstances, second: FrameInstances) -> np.ndarray:
    """Intersection over union of the masks of two frames, float64 [n, m]; 0 for empty masks."""
    intersection, first_area, second_area = mask_overlap(first, second)
    union = first_area[:, None] + second_area - intersection
    return np.divide(intersection, union, out=np.zeros_like(union), where=intersection > 0)


def mask_overlap(first: FrameInstances, second: FrameInstances) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pixels that two frames' masks share, float64 [n, m], and pixels of each mask, float64 [n] and [m]."""
    if first.masks is None or second.masks is None or not len(first) or not len(second):
        shared = np.zeros((len(first), len(second)))
        return shared, _areas(first), _areas(second)
    one, two = _packed(first.masks), _packed(second.masks)
    shared = np.stack([np.bitwise_count(row & two).sum(1) for row in one])
    return shared.astype(np.float64), _areas(first), _areas(second)


def _areas(frame: FrameInstances) -> np.ndarray:
    if frame.masks is None:
        return np.zeros(len(frame))
    return np.count_nonzero(frame.masks, axis=(1, 2)).astype(np.float64)


def _packed(masks: np.ndarray) -> np.ndarray:
    """Masks as bits, 64 to a number: bool [n, H, W] to uint64 [n, ceil(HW / 64)]."""
    packed = np.packbits(masks.reshape(len(masks), -1), axis=1)
    return np.pad(packed, ((0, 0), (0, -packed.shape[1] % 8))).view(np.uint64)


def boundaries(masks: np.ndarray) -> np.ndarray:
    """Pixels that differ from a neighbour to the right, below or both: bool [n, H, W] to bool [n, H, W]."""
    padded = np.pad(masks, ((0, 0), (0, 1), (0, 1)), mode="edge")
    return (masks ^ padded[:, :-1, 1:]) | (masks ^ padded[:, 1:, :-1]) | (masks ^ padded[:, 1:, 1:])


def dilate(masks: np.ndarray, radius: int) -> np.ndarray:
    """Pixels with a pixel of the mask within `radius`, bool [n, H, W]: row by row of the disk, from its narrow end."""
    height = masks.shape[1]
    wide, reach = masks.copy(), 0
    grown = np.zeros_like(masks)
    for row in range(min(radius, height - 1), -1, -1):
        while reach < math.isqrt(radius**2 - row**2):
            reach += 1
            wide[:, :, reach:] |= masks[:, :, :-reach]
            wide[:, :, :-reach] |= masks[:, :, reach:]
        grown[:, row:] |= wide[:, : height - row]
        grown[:, : height - row] |= wide[:, row:]
    return grown


def boundary_f(truth: np.ndarray, prediction: np.ndarray) -> np.ndarray:
    """Boundary F of DAVIS for n pairs of masks, bool [n, H, W] each, to float64 [n].

    F. Perazzi et al., "A Benchmark Dataset and Evaluation Methodology for Video Object Segmentation", 2016, section
    5.1: harmonic mean of how much of either boundary lies within a tolerance, 0.008 of the diagonal, of the other.
    """
    radius = math.ceil(0.008 * float(np.linalg.norm(truth.shape[1:])))
    true_edges, edges = boundaries(truth), boundaries(prediction)
    num_true, num = (np.count_nonzero(part, axis=(1, 2)) for part in (true_edges, edges))
    near_truth = np.count_nonzero(edges & dilate(true_edges, radius), axis=(1, 2))
    near_prediction = np.count_nonzero(true_edges & dilate(edges, radius), axis=(1, 2))
    precision = near_truth / np.maximum(num, 1)
    recall = near_prediction / np.maximum(num_true, 1)
    f = 2 * precision * recall / np.where(precision + recall > 0, precision + recall, 1)
    return np.where((num == 0) & (num_true == 0), 1.0, f)


def region_similarity(truth: Tracks, prediction: Tracks, ids: Sequence[int]) -> np.ndarray:
    """J, the mask IoU of the predicted objects `ids` with every true one, 1 where both are absent.

    Returns:
        float64 [ids, true ids, frames].
    """
    true_ids, frames = truth.ids(), len(truth.frames)
    shared = np.zeros((len(ids), len(true_ids), frames))
    areas, true_areas = np.zeros((len(ids), frames)), np.zeros((len(true_ids), frames))
    for t, (true, predicted) in enumerate(zip(truth.frames, prediction.frames, strict=True)):
        here, true_here = _places(predicted, ids), _places(true, true_ids)
        overlap, area, true_area = mask_overlap(predicted.select(ids), true)
        shared[here[:, None], true_here, t], areas[here, t], true_areas[true_here, t] = overlap, area, true_area
    union = areas[:, None] + true_areas - shared
    return np.divide(shared, union, out=np.ones_like(shared), where=union > 0)


def boundary_accuracy(truth: Tracks, prediction: Tracks, partners: Sequence[int]) -> np.ndarray:
    """F of every true object with the predicted object of id `partners`, float64 [true ids, frames]."""
    shape = truth.height, truth.width
    scores = [
        boundary_f(_stack(true, truth.ids(), shape), _stack(predicted, partners, shape))
        for true, predicted in zip(truth.frames, prediction.frames, strict=True)
    ]
    return np.stack(scores, axis=1)


def _places(frame: FrameInstances, ids: Sequence[int]) -> np.ndarray:
    """Where in `ids` each of the frame's instances is, those left out that are not in it."""
    return np.array([ids.index(id) for id in frame.ids.tolist() if id in ids], np.int64)


def _stack(frame: FrameInstances, ids: Sequence[int], shape: tuple[int, int]) -> np.ndarray:
    """Masks of those ids, empty where one is absent: bool [ids, H, W]."""
    masks = np.zeros((len(ids), *shape), bool)
    if frame.masks is not None:
        masks[_places(frame, ids)] = frame.masks[np.isin(frame.ids, ids)]
    return masks


def object_boxes(truth: Tracks, prediction: Tracks) -> tuple[np.ndarray, np.ndarray]:
    """Boxes of the one object of two clips, in the frames where the truth has one with area.

    Returns:
        True boxes, float64 [frames, 4], and predicted ones, not numbers where the object was not predicted.
    """
    check_same_clip(truth, prediction)
    true, predicted = _track_boxes("truth", truth), _track_boxes("prediction", prediction)
    counts = (true[:, 2:] > true[:, :2]).all(1)
    if not counts.any():
        raise TrackingError("the truth has a box with area in no frame: give a clip that shows the object")
    return true[counts], predicted[counts]


def _track_boxes(name: str, tracks: Tracks) -> np.ndarray:
    """xyxy float64 [frames, 4], not numbers where the object is absent."""
    ids = tracks.ids()
    if len(ids) > 1:
        raise TrackingError(f"the {name} has {len(ids)} objects: choose one with {name}.track(id)")
    boxes = np.full((len(tracks.frames), 4), np.nan)
    for place, frame in enumerate(tracks.frames):
        boxes[place] = frame.xyxy[0] if len(frame) else np.nan
    return boxes


def paired_iou(true: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """IoU of box with box, xyxy [n, 4] each, to float64 [n]; 0 where one is absent."""
    pairs = zip(true[:, None], np.nan_to_num(predicted)[:, None], strict=True)
    return np.array([box_iou(one, two)[0, 0] for one, two in pairs])


def centre_distances(true: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Pixels between the centres, xyxy [n, 4] each, to float64 [n]; infinite where one is absent."""
    return _lengths(_centres(true) - _centres(predicted))


def relative_centre_distances(true: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """The same with each coordinate in widths or heights of the true box."""
    return _lengths((_centres(true) - _centres(predicted)) / (true[:, 2:] - true[:, :2]))


def _centres(boxes: np.ndarray) -> np.ndarray:
    return (boxes[:, :2] + boxes[:, 2:]) / 2


def _lengths(vectors: np.ndarray) -> np.ndarray:
    return np.nan_to_num(np.linalg.norm(vectors, axis=1), nan=np.inf)
