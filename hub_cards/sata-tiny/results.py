"""What a tracker returns: the instances of every frame, in arrays that are checked once and never change."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any, Literal, get_args

import numpy as np

from .errors import TrackingError

Task = Literal["sot", "vos", "mot", "mots"]
TASKS: tuple[str, ...] = get_args(Task)
BOX_TASK: dict[str, Task] = {"sot": "sot", "vos": "sot", "mot": "mot", "mots": "mot"}

_ALL_FRESH = np.zeros(0, bool)  # stands for "stale was not given"


@dataclass(frozen=True, eq=False)
class FrameInstances:
    """The n instances of one frame; two are equal when they hold the same instances, in whatever order.

    Attributes:
        ids: int64 [n], 0 or more, each once.
        xyxy: float32 [n, 4], boxes (x0, y0, x1, y1) in pixels; the right and the bottom edge are exclusive.
        masks: bool [n, H, W], or None where only boxes are tracked.
        scores: float32 [n], the tracker's confidence.
        stale: bool [n], True where an instance is held over from an earlier frame; all False unless given.
    """

    ids: np.ndarray
    xyxy: np.ndarray
    masks: np.ndarray | None
    scores: np.ndarray
    stale: np.ndarray = field(default_factory=lambda: _ALL_FRESH)

    def __post_init__(self) -> None:
        count = np.size(self.ids)
        stale = np.zeros(count, bool) if self.stale is _ALL_FRESH else self.stale
        arrays = {
            "ids": _checked("ids", self.ids, "iu", np.int64, (count,)),
            "xyxy": _checked("xyxy", self.xyxy, "fiu", np.float32, (count, 4)),
            "scores": _checked("scores", self.scores, "fiu", np.float32, (count,)),
            "stale": _checked("stale", stale, "b", np.bool_, (count,)),
        }
        if self.masks is not None:
            arrays["masks"] = _checked("masks", self.masks, "b", np.bool_, (count, None, None))
        for name, array in arrays.items():
            object.__setattr__(self, name, array)
        self._check_ids()
        self._check_boxes()

    def _check_ids(self) -> None:
        if (self.ids < 0).any():
            raise TrackingError(f"id {self.ids.min()} is below zero: number the instances from 0 or 1 upwards")
        distinct, counts = np.unique(self.ids, return_counts=True)
        if (counts > 1).any():
            raise TrackingError(f"id {distinct[counts > 1][0]} comes more than once in a frame: give each its own")

    def _check_boxes(self) -> None:
        wrong = (self.xyxy[:, 2:] < self.xyxy[:, :2]).any(1)
        if wrong.any():
            raise TrackingError(
                f"box {self.xyxy[wrong][0].tolist()} of id {self.ids[wrong][0]} ends before it starts: "
                "give x0, y0, x1, y1 with x0 <= x1 and y0 <= y1, not x, y, width, height"
            )

    @classmethod
    def empty(cls, shape: tuple[int, int] | None = None) -> FrameInstances:
        """A frame without instances; with `shape`, height and width, its masks are [0, H, W] rather than None."""
        masks = None if shape is None else np.zeros((0, *shape), bool)
        return cls(np.zeros(0, np.int64), np.zeros((0, 4), np.float32), masks, np.zeros(0, np.float32))

    def __len__(self) -> int:
        return len(self.ids)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, FrameInstances):
            return NotImplemented
        if len(self) != len(other):
            return False
        return len(self) == 0 or all(_equal(one, two) for one, two in zip(self._by_id(), other._by_id(), strict=True))

    __hash__ = None

    def _by_id(self) -> list[np.ndarray | None]:
        order = np.argsort(self.ids)
        arrays = (self.ids, self.xyxy, self.masks, self.scores, self.stale)
        return [None if array is None else array[order] for array in arrays]

    def select(self, ids: Iterable[int]) -> FrameInstances:
        """Those instances whose id is one of `ids`, in this frame's order; ids that are not here are passed over."""
        return self._keep(np.isin(self.ids, list(ids)))

    def without_masks(self) -> FrameInstances:
        """The same instances as boxes only."""
        return replace(self, masks=None)

    def disjoint(self) -> FrameInstances:
        """The same instances, each pixel left to the highest score among the masks that claim it (then the lowest id).

        Boxes are tightened where a mask lost pixels.
        """
        if self.masks is None or not overlaps(self.masks):
            return self
        order = np.lexsort((self.ids, -self.scores))
        masks = self.masks[order]
        masks[1:] &= ~np.logical_or.accumulate(masks, axis=0)[:-1]
        masks = masks[np.argsort(order)]
        changed = (masks != self.masks).any((1, 2))
        return replace(self, masks=masks, xyxy=np.where(changed[:, None], masks_to_boxes(masks), self.xyxy))

    def to_supervision(self) -> Any:
        """A copy as `supervision.Detections`, for its annotators; ids are its tracker ids, `stale` is in its data."""
        try:
            from supervision import Detections
        except ImportError as error:
            raise TrackingError(f"supervision cannot be imported ({error}): run pip install supervision") from error
        return Detections(
            xyxy=self.xyxy.copy(),
            mask=None if self.masks is None else self.masks.copy(),
            confidence=self.scores.copy(),
            tracker_id=self.ids.copy(),
            data={"stale": self.stale.copy()},
        )

    def _keep(self, kept: np.ndarray) -> FrameInstances:
        if kept.all():
            return self
        masks = None if self.masks is None else self.masks[kept]
        return FrameInstances(self.ids[kept], self.xyxy[kept], masks, self.scores[kept], self.stale[kept])


@dataclass(frozen=True)
class Tracks:
    """A tracked clip.

    Attributes:
        frames: the instances of each frame, one or more frames; all that have instances have masks, or none has.
        height, width: of every frame, pixels.
        task: "sot" and "vos" follow prompted objects by box and by mask, "mot" and "mots" everything detected.
        run: JSON-able record of the call that made them; two clips may be equal without it.
    """

    frames: tuple[FrameInstances, ...]
    height: int
    width: int
    task: Task
    run: dict[str, Any] = field(default_factory=dict, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "frames", tuple(self.frames))
        if not self.frames or not all(isinstance(frame, FrameInstances) for frame in self.frames):
            raise TrackingError("frames holds something else than FrameInstances, or nothing: give one per frame")
        for name in ("height", "width"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
                raise TrackingError(f"{name} is {value!r}: give a whole number of pixels, 1 or more")
            object.__setattr__(self, name, int(value))
        if self.task not in TASKS:
            raise TrackingError(f"task is {self.task!r}: choose one of {', '.join(TASKS)}")
        self._check_masks()

    def _check_masks(self) -> None:
        with_masks = [frame.masks is not None for frame in self.frames if len(frame)]
        if any(with_masks) and not all(with_masks):
            raise TrackingError("some frames have masks and others have none: give masks to all or call without_masks")
        for place, frame in enumerate(self.frames):
            if frame.masks is not None and frame.masks.shape[1:] != (self.height, self.width):
                raise TrackingError(
                    f"masks of frame {place} are {frame.masks.shape[1]} x {frame.masks.shape[2]} pixels high and wide, "
                    f"the clip is {self.height} x {self.width}: resize the masks to the clip"
                )

    @classmethod
    def from_id_map(cls, ids: np.ndarray, task: Task = "vos") -> Tracks:
        """The clip that an id map shows: boxes tight, scores 1, ids ascending.

        Args:
            ids: integers [T, H, W], the id at each pixel; 0 is background.
        """
        ids = np.asarray(ids)
        if ids.ndim != 3 or ids.dtype.kind not in "iu" or 0 in ids.shape:
            raise TrackingError(f"id map is {ids.dtype} {list(ids.shape)}: give integers [frames, height, width]")
        return cls(tuple(_from_ids(frame) for frame in ids), ids.shape[1], ids.shape[2], task)

    def __len__(self) -> int:
        return len(self.frames)

    @property
    def has_masks(self) -> bool:
        """Whether every instance has a mask; True for a clip without instances."""
        return all(frame.masks is not None for frame in self.frames if len(frame))

    def ids(self) -> tuple[int, ...]:
        """Every id of the clip, once, ascending."""
        return tuple(np.unique(np.concatenate([frame.ids for frame in self.frames])).tolist())

    def track(self, id: int) -> Tracks:
        """The clip with this one object only; frames where it is absent are empty."""
        if id not in self.ids():
            raise TrackingError(f"no frame has id {id}: choose one of {list(self.ids())}")
        return replace(self, frames=tuple(frame.select([id]) for frame in self.frames))

    def without_masks(self) -> Tracks:
        """The clip as boxes only: "vos" becomes "sot", "mots" becomes "mot"."""
        frames = tuple(frame.without_masks() for frame in self.frames)
        return replace(self, frames=frames, task=BOX_TASK[self.task])

    def disjoint(self) -> Tracks:
        """The clip with each pixel in one mask at most, as MOTS and DAVIS files need it; see FrameInstances."""
        return replace(self, frames=tuple(frame.disjoint() for frame in self.frames))

    def summary(self) -> dict[str, Any]:
        """What was tracked, as JSON-able numbers: frames are counted from 0."""
        return {
            "task": self.task,
            "frames": len(self),
            "height": self.height,
            "width": self.width,
            "masks": self.has_masks,
            "objects": [self._object_summary(id) for id in self.ids()],
        }

    def _object_summary(self, id: int) -> dict[str, Any]:
        seen = [place for place, frame in enumerate(self.frames) if id in frame.ids]
        here = [(self.frames[place], self.frames[place].ids == id) for place in seen]
        return {
            "id": id,
            "frames": len(seen),
            "first_frame": seen[0],
            "last_frame": seen[-1],
            "mean_score": float(np.mean([frame.scores[one] for frame, one in here], dtype=np.float64)),
            "stale_frames": sum(bool(frame.stale[one].any()) for frame, one in here),
        }


def masks_to_boxes(masks: np.ndarray) -> np.ndarray:
    """Tight boxes of masks, float32 [n, 4] as in FrameInstances; zeros for an empty mask.

    Args:
        masks: bool [n, H, W].
    """
    masks = _checked("masks", masks, "b", np.bool_, (len(masks), None, None))
    columns, rows = np.logical_or.reduce(masks, axis=1), np.logical_or.reduce(masks, axis=2)
    starts = columns.argmax(1), rows.argmax(1)
    ends = masks.shape[2] - columns[:, ::-1].argmax(1), masks.shape[1] - rows[:, ::-1].argmax(1)
    boxes = np.stack([*starts, *ends], axis=1).astype(np.float32)
    return boxes * np.logical_or.reduce(rows, axis=1)[:, None]


def overlaps(masks: np.ndarray) -> bool:
    """Whether any pixel is in two of the masks, bool [n, H, W]."""
    return len(masks) > 1 and bool((masks.sum(0) > 1).any())


def _from_ids(id_map: np.ndarray) -> FrameInstances:
    ids = np.unique(id_map)
    ids = ids[ids != 0]
    masks = id_map == ids[:, None, None]
    return FrameInstances(ids, masks_to_boxes(masks), masks, np.ones(len(ids), np.float32))


def _checked(name: str, value: Any, kinds: str, dtype: type[np.generic], shape: tuple[int | None, ...]) -> np.ndarray:
    """`value` as a read-only array of that dtype, if it is of one of those kinds, of that shape and finite.

    It is copied unless nobody can write to it: an array that its owner changes later would not stay checked.
    """
    try:
        array = np.asarray(value)
    except (TypeError, ValueError) as error:
        raise TrackingError(f"{name} is not an array ({error}): give {_wanted(dtype, shape)}") from error
    fits = array.ndim == len(shape) and all(want in (None, is_) for want, is_ in zip(shape, array.shape, strict=True))
    if array.dtype.kind not in kinds or not fits:
        raise TrackingError(f"{name} is {array.dtype} {list(array.shape)}: give {_wanted(dtype, shape)}")
    with np.errstate(over="ignore"):
        cast = array.astype(dtype, copy=array.flags.writeable or array.base is not None)
    if cast.dtype.kind == "f" and not np.isfinite(cast).all():
        raise TrackingError(f"{name} holds a number that is not finite or too large: give finite {np.dtype(dtype)}")
    cast.flags.writeable = False
    return cast


def _wanted(dtype: type[np.generic], shape: tuple[int | None, ...]) -> str:
    sizes = iter(("height", "width"))
    return f"{np.dtype(dtype)} [{', '.join(next(sizes) if size is None else str(size) for size in shape)}]"


def _equal(one: np.ndarray | None, two: np.ndarray | None) -> bool:
    if one is None or two is None:
        return one is two
    return np.array_equal(one, two)
