"""ByteTrack as a baseline: what the model detects in each frame, associated by boxes and motion alone.

ByteTrack (arXiv 2110.06864) is that of the library `trackers`; it sees the very detections that our matching sees.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np
from torch.nn import functional

from .candidates import Candidates, distinct
from .errors import TrackingError
from .metric_parts import box_iou
from .results import FrameInstances, Task, Tracks

Associate = Callable[[Sequence[FrameInstances], int, int, Task], Tracks]
FRAME_RATE = 30.0  # at which the library counts its buffer in frames
MISSING = "the ByteTrack baseline needs the package trackers"
HOW_TO_GET = "run pip install 'trackers>=2.6,<3', or leave the baseline out"


@dataclass(frozen=True)
class ByteTrackSettings:
    """Arguments of `trackers.ByteTrackTracker`; the defaults are the library's.

    Attributes:
        lost_track_buffer: frames without a match after which a track ends.
        track_activation_threshold: score that opens a track. high_conf_det_threshold: score of the first round.
        minimum_consecutive_frames: frames before a track gets its id. minimum_iou_threshold: of a match.
    """

    lost_track_buffer: int = 30
    track_activation_threshold: float = 0.7
    minimum_consecutive_frames: int = 2
    minimum_iou_threshold: float = 0.1
    high_conf_det_threshold: float = 0.6

    @classmethod
    def like(cls, config: Any) -> ByteTrackSettings:
        """As lenient as the session of a `SataConfig`: its thresholds, its patience, an id at once."""
        return cls(
            lost_track_buffer=config.max_missed_frames,
            track_activation_threshold=config.new_track_threshold,
            minimum_consecutive_frames=1,
            high_conf_det_threshold=config.new_track_threshold,
        )


def byte_trackers(config: Any) -> dict[str, Associate]:
    """The baselines by name: with the thresholds of a `SataConfig` and with the library's own.

    Raises:
        TrackingError: without the library.
    """
    tracker_class()
    settings = {
        "ByteTrack, our thresholds": ByteTrackSettings.like(config),
        "ByteTrack, its defaults": ByteTrackSettings(),
    }
    return {name: _associate_with(chosen) for name, chosen in settings.items()}


def _associate_with(settings: ByteTrackSettings) -> Associate:
    def associate(detections: Sequence[FrameInstances], height: int, width: int, task: Task) -> Tracks:
        return byte_track(detections, height, width, task, settings)

    return associate


def tracker_class() -> Any:
    """`trackers.ByteTrackTracker`.

    Raises:
        TrackingError: where it cannot be imported.
    """
    try:
        return import_module("trackers").ByteTrackTracker
    except (ImportError, AttributeError) as error:
        raise TrackingError(f"{MISSING} ({error}): {HOW_TO_GET}") from error


def detections_of(found: Candidates, height: int, width: int) -> FrameInstances:
    """A session's detections of one frame, repeats left out as the session does; ids only number them.

    Masks bool [n, height, width], boxes as they were detected, in pixels, scores 0..1; empty masks are left out.
    """
    found = distinct(found)
    if not len(found):
        return FrameInstances.empty((height, width))
    size = (height, width)
    full = functional.interpolate(found.masks[:, None], size, mode="bilinear", align_corners=False)[:, 0] > 0.5
    masks = full.cpu().numpy()
    seen = masks.any((1, 2))
    boxes = (found.boxes.cpu().numpy() * np.array([width, height, width, height], np.float32))[seen]
    return FrameInstances(np.arange(len(boxes)), boxes, masks[seen], found.scores.cpu().numpy()[seen])


def byte_track(
    detections: Sequence[FrameInstances],
    height: int,
    width: int,
    task: Task = "mots",
    settings: ByteTrackSettings | None = None,
) -> Tracks:
    """Associate detections, one `FrameInstances` per frame; what gets no id is left out.

    The library names an object only when it is matched again. Its first detection then gets the id too, so that the
    baseline does not lose the first frame of every object.
    """
    settings = settings or ByteTrackSettings()
    tracker = tracker_class()(
        lost_track_buffer=settings.lost_track_buffer,
        frame_rate=FRAME_RATE,
        track_activation_threshold=settings.track_activation_threshold,
        minimum_consecutive_frames=settings.minimum_consecutive_frames,
        minimum_iou_threshold=settings.minimum_iou_threshold,
        high_conf_det_threshold=settings.high_conf_det_threshold,
    )
    names = [_named(tracker, frame) for frame in detections]
    name_first_detections(names, detections, settings)
    frames = tuple(_with_ids(frame, own) for frame, own in zip(detections, names, strict=True))
    tracks = Tracks(frames, height, width, "mots")
    return tracks if task == "mots" else tracks.without_masks()


def _named(tracker: Any, frame: FrameInstances) -> np.ndarray:
    """The library's id of each detection, int64 [n], -1 for none. It may return them in another order."""
    given = frame.to_supervision()
    given.tracker_id = None
    given.data["row"] = np.arange(len(frame))
    returned = tracker.update(given)
    names = np.full(len(frame), -1, np.int64)
    if len(returned):
        names[returned.data["row"]] = returned.tracker_id
    return names


def name_first_detections(
    names: list[np.ndarray], detections: Sequence[FrameInstances], settings: ByteTrackSettings
) -> None:
    """Give a track's id to the nameless detections that opened it, in place.

    Those are what overlaps it most in the frames that the library waits before it names a track.

    Args:
        names: per frame, int64 [n], -1 for a detection without an id.
    """
    first: dict[int, tuple[int, int]] = {}
    for place, own in enumerate(names):
        for row in np.flatnonzero(own >= 0).tolist():
            first.setdefault(int(own[row]), (place, row))
    waits = max(1, settings.minimum_consecutive_frames - 1)
    for id, (place, row) in first.items():
        for earlier in range(place - 1, max(place - waits, 0) - 1, -1):
            box, boxes = detections[earlier + 1].xyxy[row : row + 1], detections[earlier].xyxy
            overlap = np.where(names[earlier] < 0, box_iou(box.astype(float), boxes.astype(float))[0], 0.0)
            if not overlap.size or overlap.max() <= 0 or overlap.max() < settings.minimum_iou_threshold:
                break
            row = int(overlap.argmax())
            names[earlier][row] = id


def _with_ids(frame: FrameInstances, names: np.ndarray) -> FrameInstances:
    kept = names >= 0
    masks = None if frame.masks is None else frame.masks[kept]
    return FrameInstances(names[kept], frame.xyxy[kept], masks, frame.scores[kept])
