"""Scores of one clip by task, their sum over clips, and the figures that are reported."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from .metrics import (
    average_overlap,
    combine,
    hota,
    id_f1,
    j_and_f,
    mota,
    normalised_precision,
    precision,
    smotsa,
    success_auc,
)
from .results import FrameInstances, Task, Tracks

Scores = dict[str, Any]  # name to a score of `metrics`, which `combine` adds up; empty where nothing can be judged


def score_clip(task: Task, truth: Tracks, prediction: Tracks, prompts: Mapping[int, int]) -> Scores:
    """Scores of a clip.

    Args:
        truth: with masks.
        prompts: for SOT and VOS, the objects that were asked for and the frame of each prompt, which does not count.
    """
    if task == "sot":
        return _single_object(truth, prediction, prompts)
    if task == "vos":
        return _prompted_masks(truth, writable(prediction), prompts)
    if task == "mot":
        boxes = truth.without_masks()
        return {
            "hota": hota(boxes, prediction),
            "identity": id_f1(boxes, prediction),
            "clear": mota(boxes, prediction),
        }
    prediction = writable(prediction)
    return {
        "hota": hota(truth, prediction, similarity="mask"),
        "identity": id_f1(truth, prediction, similarity="mask"),
        "clear": mota(truth, prediction, similarity="mask"),
        "mots": smotsa(truth, prediction),
    }


def _single_object(truth: Tracks, prediction: Tracks, prompts: Mapping[int, int]) -> Scores:
    for id, first in prompts.items():
        true, guess = after(truth, id, first + 1), after(prediction, id, first + 1)
        if true is not None and guess is not None and true.ids():
            return {
                "success_auc": success_auc(true, guess),
                "precision": precision(true, guess),
                "normalised_precision": normalised_precision(true, guess),
                "average_overlap": average_overlap(true, guess),
            }
    return {}


def _prompted_masks(truth: Tracks, prediction: Tracks, prompts: Mapping[int, int]) -> Scores:
    """J and F of every object after its prompt, and once more of the second half of the clip only."""
    parts: dict[str, list[Any]] = {"jf": [], "late": []}
    for id, first in prompts.items():
        for name, start in (("jf", first + 1), ("late", max(first + 1, len(truth) // 2))):
            true, guess = after(truth, id, start), after(prediction, id, start)
            if true is not None and guess is not None and true.ids():
                parts[name].append(j_and_f(true, guess, pairing="ids"))
    return {name: combine(scores) for name, scores in parts.items() if scores}


def after(tracks: Tracks, id: int, start: int) -> Tracks | None:
    """One object's frames from `start` on; None where there are none."""
    frames = tuple(frame.select([id]) for frame in tracks.frames[start:])
    return replace(tracks, frames=frames) if frames else None


def writable(tracks: Tracks) -> Tracks:
    """The clip as DAVIS and MOTS files can hold it: each pixel in one mask at most, and no empty masks."""
    return replace(tracks, frames=tuple(_with_pixels(frame) for frame in tracks.disjoint().frames))


def _with_pixels(frame: FrameInstances) -> FrameInstances:
    if frame.masks is None:
        return frame
    return frame.select(frame.ids[np.asarray(frame.masks).any((1, 2))].tolist())


def pooled(clips: Iterable[Scores]) -> Scores:
    """One score of several clips, name by name; clips where nothing could be judged do not count."""
    parts: dict[str, list[Any]] = {}
    for clip in clips:
        for name, score in clip.items():
            parts.setdefault(name, []).append(score)
    return {name: combine(scores) for name, scores in parts.items()}


def figures(scores: Scores) -> dict[str, float]:
    """The figures of a task's scores, by the names of the report; all 0..1 but the counts and MOTA's kin."""
    found: dict[str, float] = {}
    if "jf" in scores:
        found |= {"j": scores["jf"].j, "f": scores["jf"].f, "j_and_f": scores["jf"].mean}
        found["objects"] = len(scores["jf"].object_ids)
    if "late" in scores:
        found["late_j"] = scores["late"].j
    if "hota" in scores:
        found |= scores["hota"].summary() | scores["identity"].summary()
        found |= {"mota": scores["clear"].mota, "id_switches": scores["clear"].id_switches}
        found["true_instances"] = scores["clear"].true_positives + scores["clear"].misses
    if "mots" in scores:
        found |= scores["mots"].summary()
    return found | {name: score for name, score in scores.items() if isinstance(score, float)}
