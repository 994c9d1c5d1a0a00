"""How good it was, where the truth is known: the plugin's metrics, and the overlap frame by frame."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from apps.tracking.request import MASKED, PROMPTED
from core.registry import load_object

_NOWHERE = 0.1  # IoU below which a drawn box is on no object


def score(
    task: str, scene: Any, prompts: Sequence[Mapping[str, Any]], tracks: Any, sensors: Sequence[Sequence[str]]
) -> dict[str, Any] | None:
    """Everything that the page shows of the truth; None where there is nothing to compare.

    Args:
        tracks: the plugin's Tracks, of as many frames as were done.
        sensors: per frame, those that were on.

    Returns:
        `figures` by name, `per_object` overlap by id, `overlap` per frame (None where no object is in view),
        `by_sensors` rows, `skipped` frames at the start, and `notes`.
    """
    truth, known, notes = true_tracks(task, scene, prompts, len(tracks))
    if truth is None:
        return None
    if known is not None:
        tracks = replace(tracks, frames=tuple(frame.select(known) for frame in tracks.frames))
    skipped = int(task in PROMPTED and len(tracks) > 1)
    shown = replace(truth, frames=truth.frames[skipped:]), replace(tracks, frames=tracks.frames[skipped:])
    if not shown[0].ids():
        return None
    overlap, per_object = overlaps(*shown, by_id=task in PROMPTED)
    return {
        "figures": figures(task, *shown),
        "per_object": per_object,
        "overlap": [None] * skipped + overlap,
        "by_sensors": by_sensors(overlap, sensors[skipped:]),
        "skipped": skipped,
        "notes": notes,
    }


def true_tracks(
    task: str, scene: Any, prompts: Sequence[Mapping[str, Any]], count: int
) -> tuple[Any, list[int] | None, list[str]]:
    """The true clip under the ids that were asked for, those ids (None for everything), and what had to be left out."""
    ids = scene.ids[:count].astype(np.int64)
    known, notes = None, []
    if task in PROMPTED:
        pairs = true_objects(scene, prompts)
        lost = [prompt["id"] for prompt in prompts if prompt["id"] not in pairs]
        if lost:
            listed = ", ".join(map(str, lost))
            notes.append(f"what is drawn as {listed} lies on no object of its own and is left out of the scores")
        if not pairs:
            return None, None, notes
        named = np.zeros_like(ids)
        for name, number in pairs.items():
            named[ids == number] = name
        # An id of 0 stands for background in an id map, so those objects cannot be judged.
        ids, known = named, [name for name in pairs if name]
    truth = load_object("plugins.tracking.results:Tracks").from_id_map(ids, task if task in MASKED else "vos")
    return (truth if task in MASKED else truth.without_masks()), known, notes


def true_objects(scene: Any, prompts: Sequence[Mapping[str, Any]]) -> dict[int, int]:
    """By the id of a prompt, the true object that it was drawn on; each true object once."""
    pairs: dict[int, int] = {}
    for prompt in prompts:
        frame = min(int(prompt.get("frame", 0)), len(scene.ids) - 1)
        found = _under(prompt, scene.ids[frame], scene.boxes[frame])
        if found is not None and found not in pairs.values():
            pairs[int(prompt["id"])] = found
    return pairs


def _under(prompt: Mapping[str, Any], ids: np.ndarray, boxes: Mapping[int, Sequence[float]]) -> int | None:
    if prompt.get("box") is not None:
        scored = [(box_iou(np.asarray(prompt["box"], float), np.asarray(box, float)), id) for id, box in boxes.items()]
        best, number = max(scored, default=(0.0, 0))
        return number if best > _NOWHERE else None
    points = np.asarray(prompt.get("points", ()), float).reshape(-1, 2)
    labels = prompt.get("labels") or [1] * len(points)
    hit = [
        int(ids[min(int(y), ids.shape[0] - 1), min(int(x), ids.shape[1] - 1)])
        for (x, y), label in zip(points, labels, strict=True)
        if label == 1
    ]
    hit = [number for number in hit if number]
    return max(set(hit), key=hit.count) if hit else None


def figures(task: str, truth: Any, tracks: Any) -> dict[str, float]:
    """Scores by name, of the whole clip."""
    metrics = "plugins.tracking.metrics:"
    masked = task in MASKED
    if masked:
        tracks = load_object("plugins.tracking.evaluate_scores:writable")(tracks)
    similarity = "mask" if masked else "box"
    found: dict[str, float] = {}
    if masked:
        jf = load_object(metrics + "j_and_f")(truth, tracks, pairing="ids" if task in PROMPTED else "best")
        found |= {"j_and_f": jf.mean, "j": jf.j, "f": jf.f}
    if task == "sot":
        auc = load_object(metrics + "success_auc")
        followed = [id for id in truth.ids() if id in tracks.ids()]
        found["success_auc"] = sum(auc(truth.track(id), tracks.track(id)) for id in followed) / len(truth.ids())
    hota = load_object(metrics + "hota")(truth, tracks, similarity=similarity)
    clear = load_object(metrics + "mota")(truth, tracks, similarity=similarity)
    found |= {"hota": hota.hota, "det_a": hota.det_a, "ass_a": hota.ass_a}
    found |= {"id_f1": load_object(metrics + "id_f1")(truth, tracks, similarity=similarity).id_f1, "mota": clear.mota}
    if task == "mots":
        found["smotsa"] = load_object(metrics + "smotsa")(truth, tracks).smotsa
    return found | {"id_switches": clear.id_switches, "misses": clear.misses, "false_positives": clear.false_positives}


def overlaps(truth: Any, tracks: Any, *, by_id: bool) -> tuple[list[float | None], dict[int, float]]:
    """Mean IoU of the true objects in each frame (None where none is in view), and of each over its frames.

    An object is compared with the instance of its id, or, where not `by_id`, with whichever covers it best.
    """
    frames: list[float | None] = []
    objects: dict[int, list[float]] = {}
    for true, found in zip(truth.frames, tracks.frames, strict=True):
        table = _iou_table(true, found)
        own = true.ids[:, None] == found.ids if by_id else np.ones(table.shape, bool)
        best = np.where(own, table, 0).max(1, initial=0.0)
        frames.append(float(best.mean()) if len(best) else None)
        for identity, value in zip(true.ids.tolist(), best.tolist(), strict=True):
            objects.setdefault(identity, []).append(value)
    return frames, {identity: float(np.mean(values)) for identity, values in sorted(objects.items())}


def _iou_table(true: Any, found: Any) -> np.ndarray:
    """IoU of every pair, [true, found]: of masks where both have them, else of boxes."""
    if not len(true) or not len(found):
        return np.zeros((len(true), len(found)))
    if true.masks is None or found.masks is None:
        return np.array([[box_iou(one, two) for two in found.xyxy] for one in true.xyxy])
    one = true.masks.reshape(len(true), -1).astype(np.float32)
    two = found.masks.reshape(len(found), -1).astype(np.float32)
    shared = one @ two.T
    return shared / np.maximum(one.sum(1)[:, None] + two.sum(1) - shared, 1)


def box_iou(one: np.ndarray, two: np.ndarray) -> float:
    """IoU of two boxes xyxy."""
    sides = np.minimum(one[2:], two[2:]) - np.maximum(one[:2], two[:2])
    shared = float(np.prod(np.maximum(sides, 0)))
    either = float(np.prod(one[2:] - one[:2]) + np.prod(two[2:] - two[:2])) - shared
    return shared / either if either > 0 else 0.0


def by_sensors(overlap: Sequence[float | None], sensors: Sequence[Sequence[str]]) -> list[dict[str, Any]]:
    """Mean overlap for each set of sensors that was on, the largest set first."""
    groups: dict[tuple[str, ...], list[float]] = {}
    for value, on in zip(overlap, sensors, strict=True):
        if value is not None:
            groups.setdefault(tuple(on), []).append(value)
    ordered = sorted(groups.items(), key=lambda group: -len(group[0]))
    return [{"sensors": list(on), "frames": len(v), "overlap": float(np.mean(v))} for on, v in ordered]
