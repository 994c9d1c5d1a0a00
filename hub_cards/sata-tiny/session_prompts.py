"""What a caller asks to be tracked: boxes, masks and points in pixels, hostile until checked."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from .errors import TrackingError

PROMPTED = ("sot", "vos")  # the tasks that follow what was prompted for, and nothing else
WAYS = ("box", "mask", "points")
KEYS = ("id", "frame", *WAYS, "labels")
LARGEST_ID = 2**31 - 1  # automatic ids count on from here, and every format has to hold them


@dataclass(frozen=True, eq=False)
class Prompt:
    """One object to follow from a frame on, by one of the three.

    Attributes:
        id: comes back verbatim in every result.
        frame: on which it was drawn, from 0.
        box: (x0, y0, x1, y1) in pixels.
        mask: bool [H, W].
        points: [p, 2] (x, y) in pixels, with `labels` [p], 1 on the object and 0 beside it; all 1 where left out.
    """

    id: int
    frame: int
    box: tuple[float, float, float, float] | None = None
    mask: np.ndarray | None = None
    points: np.ndarray | None = None
    labels: np.ndarray | None = None

    def __post_init__(self) -> None:
        given = [name for name in WAYS if getattr(self, name) is not None]
        if len(given) != 1:
            raise TrackingError(f"a prompt is a box, a mask or points; {' and '.join(given) or 'none'} was given")
        for name, most in (("id", LARGEST_ID), ("frame", None)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 0:
                raise TrackingError(f"{name} {value!r} is not a whole number from 0 on")
            if most is not None and value > most:
                raise TrackingError(f"{name} {value} is above {most}: give a smaller one")
            object.__setattr__(self, name, int(value))

    def check(self, height: int, width: int) -> None:
        """Refuse what does not fit a frame of that size.

        Raises:
            TrackingError: a box without area in the frame, a mask of another size or empty, points outside.
        """
        if self.box is not None:
            checked_box(self.box, height, width)
        elif self.points is not None:
            checked_points(self.points, self.labels, height, width)
        else:
            checked_mask(self.mask, height, width)

    def record(self) -> dict[str, Any]:
        """As a run record holds it; of a mask its size and its box."""
        found: dict[str, Any] = {"id": self.id, "frame": self.frame}
        if self.box is not None:
            return found | {"box": [float(value) for value in self.box]}
        if self.points is not None:
            labels = None if self.labels is None else np.asarray(self.labels).tolist()
            return found | {"points": np.asarray(self.points).tolist(), "labels": labels}
        rows, columns = np.nonzero(np.asarray(self.mask))
        box = [int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1]
        return found | {"mask": {"pixels": len(rows), "box": box}}


def read_prompts(
    prompts: Iterable[Mapping[str, Any]] | None, task: str, *, frames: int | None, size: tuple[int, int] | None
) -> list[Prompt]:
    """Prompts as a call takes them, `{"id": 7, "frame": 0, "box": [x0, y0, x1, y1]}`, checked before any work.

    Args:
        prompts: "frame" is 0 unless given; "mask" or "points" and "labels" in the place of "box".
        frames, size: of the video, (height, width); None where not known yet.

    Raises:
        TrackingError: a prompt that cannot be used, an id that comes twice, or none for a task that needs them.
    """
    if isinstance(prompts, Mapping | str):
        raise TrackingError("prompts is one prompt or a text: give a list of prompts, also for a single one")
    found = [_read(entry, place) for place, entry in enumerate(prompts or ())]
    if task in PROMPTED and not found:
        raise TrackingError(
            f"task {task!r} follows what you point at, and there is no prompt: give "
            'prompts=[{"id": 1, "frame": 0, "box": [x0, y0, x1, y1]}], or choose mot or mots'
        )
    ids = [prompt.id for prompt in found]
    twice = sorted({id for id in ids if ids.count(id) > 1})
    if twice:
        raise TrackingError(f"id {twice[0]} is prompted for more than once: give each object its own id")
    for prompt in found:
        if frames is not None and prompt.frame >= frames:
            raise TrackingError(
                f"the prompt of id {prompt.id} is on frame {prompt.frame}, the video has {frames}: "
                f"give a frame from 0 to {frames - 1}"
            )
        if size is not None:
            prompt.check(*size)
    return found


def _read(entry: Any, place: int) -> Prompt:
    if isinstance(entry, Prompt):
        return entry
    if not isinstance(entry, Mapping) or "id" not in entry:
        raise TrackingError(f'prompt {place} has no id: give {{"id": 1, "frame": 0, "box": [x0, y0, x1, y1]}}')
    unknown = sorted(str(key)[:40] for key in entry if key not in KEYS)
    if unknown:
        raise TrackingError(f"prompt {place} has {unknown[0]!r}, which is not known: use {', '.join(KEYS)}")
    values = dict(entry)
    return Prompt(values.pop("id"), values.pop("frame", 0), **values)


def checked_box(box: Any, height: int, width: int) -> tuple[float, ...]:
    """A box in pixels, cut to the frame."""
    try:
        values = tuple(float(value) for value in box)
    except (TypeError, ValueError):
        values = ()
    if len(values) != 4 or not all(np.isfinite(values)):
        raise TrackingError(f"box {str(box)[:80]!r} is not four numbers: give x0, y0, x1, y1 in pixels")
    x0, y0 = max(0.0, values[0]), max(0.0, values[1])
    x1, y1 = min(float(width), values[2]), min(float(height), values[3])
    if x1 - x0 < 1 or y1 - y0 < 1:
        raise TrackingError(
            f"box {values} has no area inside the frame of {width} x {height}: give x0 < x1 and y0 < y1 within it"
        )
    return x0, y0, x1, y1


def checked_points(points: Any, labels: Any, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Points float32 [p, 2] inside the frame and labels int64 [p], at least one of them on the object."""
    try:
        at = np.asarray(points, np.float32)
        marks = np.ones(len(at), np.int64) if labels is None else np.asarray(labels, np.int64)
    except (TypeError, ValueError) as error:
        raise TrackingError("points or labels are not numbers: give [p, 2] pixels (x, y) and p labels") from error
    if at.ndim != 2 or at.shape[1:] != (2,) or marks.shape != (len(at),) or not np.isfinite(at).all():
        raise TrackingError(
            f"points are {at.shape} with {marks.size} labels: give [p, 2] finite pixels (x, y) and p labels"
        )
    if not np.isin(marks, (0, 1)).all() or not (marks == 1).any():
        raise TrackingError("labels are 1 (on the object) or 0 (beside it), with at least one 1")
    if (at < 0).any() or (at[:, 0] > width).any() or (at[:, 1] > height).any():
        raise TrackingError(f"a point lies outside the frame of {width} x {height} pixels")
    return at, marks


def checked_mask(mask: Any, height: int, width: int) -> np.ndarray:
    """A mask bool [H, W] of the frame's size that is not empty."""
    found = np.asarray(mask)
    if found.shape != (height, width) or found.dtype != np.bool_:
        raise TrackingError(f"mask is {found.dtype} {list(found.shape)}: give bool [{height}, {width}], as the frame")
    if not found.any():
        raise TrackingError("mask is empty: mark at least one pixel of the object")
    return found
