"""Metrics of tracking, each of a true and a predicted clip; `combine` makes one score of several clips.

Every frame of the clips counts. Where a benchmark leaves frames out, such as the prompted first one, leave them out of
both clips: `dataclasses.replace(tracks, frames=tracks.frames[1:])`. An instance counts as detected although its mask
is empty, so leave absent objects out.
"""

from __future__ import annotations

from typing import Any, Literal, get_args

import numpy as np
from scipy.optimize import linear_sum_assignment

from .errors import TrackingError
from .metric_parts import (
    ABSENT,
    Comparison,
    Similarity,
    boundary_accuracy,
    centre_distances,
    check_masks,
    check_same_clip,
    compare,
    object_boxes,
    paired_iou,
    region_similarity,
    relative_centre_distances,
)
from .metric_scores import ALPHAS, ClearScores, HotaScore, IdentityScores, JFScores, MotsScores, combine
from .results import Tracks

__all__ = [
    "ClearScores",
    "HotaScore",
    "IdentityScores",
    "JFScores",
    "MotsScores",
    "average_overlap",
    "combine",
    "hota",
    "id_f1",
    "j_and_f",
    "mota",
    "normalised_precision",
    "normalised_precision_auc",
    "precision",
    "smotsa",
    "success_auc",
    "success_rate",
]

Pairing = Literal["best", "ids"]
PAIRINGS: tuple[str, ...] = get_args(Pairing)

EPSILON = np.finfo(float).eps
CONTINUED = 1000  # what carrying on with the last frame's match is worth, against a similarity of at most 1


def success_auc(truth: Tracks, prediction: Tracks, *, thresholds: int = 21) -> float:
    """Area under the success curve: mean over thresholds from 0 to 1 of the share of frames with an IoU above it.

    Args:
        truth, prediction: clips of one object (`Tracks.track`). Frames where the truth lacks it, or its box has no
            area, do not count; where the prediction lacks it, its IoU is 0.
        thresholds: how many; 21 for OTB, LaSOT and most others, 101 for GOT-10k.
    """
    if thresholds < 2:
        raise TrackingError(f"thresholds is {thresholds}: give 2 or more, 21 as a rule")
    overlaps = paired_iou(*object_boxes(truth, prediction))
    return float((overlaps > np.linspace(0, 1, thresholds)[:, None]).mean())


def success_rate(truth: Tracks, prediction: Tracks, *, threshold: float = 0.5) -> float:
    """Share of frames with an IoU above the threshold, GOT-10k's SR; frames as in `success_auc`."""
    return float((paired_iou(*object_boxes(truth, prediction)) > threshold).mean())


def average_overlap(truth: Tracks, prediction: Tracks) -> float:
    """Mean IoU, GOT-10k's AO; frames as in `success_auc`."""
    return float(paired_iou(*object_boxes(truth, prediction)).mean())


def precision(truth: Tracks, prediction: Tracks, *, pixels: float = 20.0) -> float:
    """Share of frames whose box centres are at most so many pixels apart; frames as in `success_auc`."""
    return float((centre_distances(*object_boxes(truth, prediction)) <= pixels).mean())


def normalised_precision(truth: Tracks, prediction: Tracks, *, threshold: float = 0.2) -> float:
    """Precision with centre errors in widths and heights of the true box, at one threshold (LaSOT's figure)."""
    return float((relative_centre_distances(*object_boxes(truth, prediction)) <= threshold).mean())


def normalised_precision_auc(truth: Tracks, prediction: Tracks) -> float:
    """Mean of the normalised precision over the 51 thresholds 0, 0.01, ..., 0.5 (TrackingNet's figure)."""
    errors = relative_centre_distances(*object_boxes(truth, prediction))
    return float((errors <= np.linspace(0, 0.5, 51)[:, None]).mean())


def hota(truth: Tracks, prediction: Tracks, *, similarity: Similarity = "box") -> HotaScore:
    """HOTA: J. Luiten et al., "HOTA: A Higher Order Metric for Evaluating Multi-Object Tracking", 2021, section 5."""
    clip = compare(truth, prediction, similarity)
    lengths = clip.truth_counts[:, None] + clip.prediction_counts
    alignment = _global_alignment(clip, lengths)
    matches = np.zeros((len(ALPHAS), *lengths.shape), np.int64)
    located = np.zeros(len(ALPHAS))
    for true, predicted, overlap in clip:
        rows, columns = linear_sum_assignment(-(alignment[np.ix_(true, predicted)] * overlap))
        found = overlap[rows, columns] >= ALPHAS[:, None] - EPSILON
        matches[:, true[rows], predicted[columns]] += found
        located += (found * overlap[rows, columns]).sum(1)
    true_positives = matches.sum((1, 2))
    return HotaScore(
        true_positives,
        clip.truth_counts.sum() - true_positives,
        clip.prediction_counts.sum() - true_positives,
        (matches * (matches / np.maximum(1, lengths - matches))).sum((1, 2)),
        located,
    )


def _global_alignment(clip: Comparison, lengths: np.ndarray) -> np.ndarray:
    """How well two tracks agree over the whole clip, before matching: float64 [true ids, predicted ids], 0..1."""
    potential = np.zeros(lengths.shape)
    for true, predicted, overlap in clip:
        either = overlap.sum(0) + overlap.sum(1)[:, None] - overlap
        shares = np.divide(overlap, either, out=np.zeros_like(overlap), where=either > EPSILON)
        potential[np.ix_(true, predicted)] += shares
    return potential / (lengths - potential)


def id_f1(
    truth: Tracks, prediction: Tracks, *, similarity: Similarity = "box", threshold: float = 0.5
) -> IdentityScores:
    """IDF1: whole tracks are paired so that the fewest instances are left wrong.

    A pair of tracks is right where their similarity is `threshold` or more. E. Ristani et al., "Performance Measures
    and a Data Set for Multi-Target, Multi-Camera Tracking", 2016, section 3.
    """
    clip = compare(truth, prediction, similarity)
    right = np.zeros((clip.num_truth_ids, clip.num_prediction_ids), np.int64)
    for true, predicted, overlap in clip:
        right[np.ix_(true, predicted)] += overlap >= threshold
    # A track without a partner gains nothing, and neither does one whose partner is nowhere near it.
    paired = int(right[linear_sum_assignment(-right)].sum())
    return IdentityScores(paired, int(clip.truth_counts.sum()) - paired, int(clip.prediction_counts.sum()) - paired)


def mota(truth: Tracks, prediction: Tracks, *, similarity: Similarity = "box", threshold: float = 0.5) -> ClearScores:
    """CLEAR MOT: matches of the last frame go on where they can, the rest are those of the greatest similarity.

    K. Bernardin, R. Stiefelhagen, "Evaluating Multiple Object Tracking Performance: The CLEAR MOT Metrics", 2008.
    """
    return ClearScores(*_clear(compare(truth, prediction, similarity), threshold))


def smotsa(truth: Tracks, prediction: Tracks) -> MotsScores:
    """MOTSA, sMOTSA and MOTSP: CLEAR MOT of masks that overlap by half or more."""
    return MotsScores(*_clear(compare(truth, prediction, "mask"), 0.5))


def _clear(clip: Comparison, threshold: float) -> tuple[Any, ...]:
    """The fields of ClearScores."""
    last_ever, last_frame = np.full((2, clip.num_truth_ids), -1)
    matched, starts = np.zeros((2, clip.num_truth_ids), np.int64)
    located, switches = 0.0, 0
    for true, predicted, overlap in clip:
        if not overlap.size:
            continue
        rows, columns = _clear_matches(overlap, predicted == last_frame[true, None], threshold)
        true, predicted = true[rows], predicted[columns]
        switches += int(((last_ever[true] >= 0) & (last_ever[true] != predicted)).sum())
        starts[true] += last_frame[true] < 0
        last_frame[:] = -1
        last_ever[true] = last_frame[true] = predicted
        matched[true] += 1
        located += float(overlap[rows, columns].sum())
    hits = int(matched.sum())
    share = matched / np.maximum(1, clip.truth_counts)
    most, some = int((share > 0.8).sum()), int((share >= 0.2).sum())
    return (
        hits,
        int(clip.truth_counts.sum()) - hits,
        int(clip.prediction_counts.sum()) - hits,
        switches,
        located,
        most,
        some - most,
        len(share) - some,
        int(np.maximum(starts - 1, 0).sum()),
    )


def _clear_matches(overlap: np.ndarray, continued: np.ndarray, threshold: float) -> tuple[np.ndarray, np.ndarray]:
    worth = np.where(overlap < threshold - EPSILON, 0.0, CONTINUED * continued + overlap)
    rows, columns = linear_sum_assignment(-worth)
    kept = worth[rows, columns] > EPSILON
    return rows[kept], columns[kept]


def j_and_f(truth: Tracks, prediction: Tracks, *, pairing: Pairing = "best") -> JFScores:
    """Region similarity J and boundary accuracy F of masks (F. Perazzi et al., 2016, section 5).

    Args:
        pairing: "best" pairs true with predicted objects so that J is greatest, as the unsupervised track of DAVIS and
            TrackEval do; "ids" pairs equal ids, as for prompted objects.
    """
    if pairing not in PAIRINGS:
        raise TrackingError(f"pairing is {pairing!r}: choose one of {', '.join(PAIRINGS)}")
    check_same_clip(truth, prediction)
    check_masks(truth, prediction)
    true_ids = truth.ids()
    if pairing == "ids":
        partners = true_ids
        object_j = np.diagonal(region_similarity(truth, prediction, partners).mean(2))
    else:
        rivals = prediction.ids() + (ABSENT,) * (len(true_ids) - len(prediction.ids()))
        j = region_similarity(truth, prediction, rivals).mean(2)
        rows, columns = linear_sum_assignment(-j)
        rows = rows[np.argsort(columns)]
        partners = tuple(rivals[row] for row in rows)
        object_j = j[rows, np.arange(len(true_ids))]
    object_f = boundary_accuracy(truth, prediction, partners).mean(1)
    return JFScores(true_ids, tuple(object_j.tolist()), tuple(object_f.tolist()))
