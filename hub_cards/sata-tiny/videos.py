"""The videos that are tracked: what the caller has in memory, or in files, brought to one aligned form and checked."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from .errors import TrackingError
from .video_files import VideoLimits, check_extent, read_clip, sensors_of
from .views import checked_frame

Frames = Sequence[np.ndarray | None] | np.ndarray


@dataclass(frozen=True, eq=False)
class AlignedVideo:
    """A video of one or several aligned sensors; frame t of each is of the same moment and shows the same pixels.

    Attributes:
        frames: modality to T frames, uint8 [H, W, 3] or [H, W], None where the sensor gave nothing.
        height, width: of every frame, pixels.
        fps: frames per second; None where nothing says.
    """

    frames: Mapping[str, Frames]
    height: int
    width: int
    fps: float | None = None

    def __len__(self) -> int:
        return len(next(iter(self.frames.values())))

    def __iter__(self) -> Iterator[dict[str, np.ndarray]]:
        """Per moment, the frames of the sensors that gave one."""
        return (self.moment(number) for number in range(len(self)))

    def moment(self, number: int) -> dict[str, np.ndarray]:
        """The frames of one moment, counted from 0."""
        found = {name: frames[number] for name, frames in self.frames.items()}
        return {name: frame for name, frame in found.items() if frame is not None}

    @property
    def modalities(self) -> tuple[str, ...]:
        """Its sensors."""
        return tuple(self.frames)

    def summary(self) -> dict[str, Any]:
        """Its measures, JSON-able; `missing` counts the frames that a sensor did not give."""
        missing = {name: sum(frame is None for frame in frames) for name, frames in self.frames.items()}
        return {"frames": len(self), "height": self.height, "width": self.width, "fps": self.fps, "missing": missing}


def open_video(
    source: Any,
    known: tuple[str, ...],
    *,
    modalities: tuple[str, ...] | None = None,
    resample: bool = False,
    limits: VideoLimits | None = None,
) -> AlignedVideo:
    """Read and check a video.

    Args:
        source: {modality: frames, a video file or a folder of images}; a Scene (anything with such `frames`, and
            `present` where sensors have gaps); one file or folder; uint8 [T, H, W, 3], taken for RGB.
        known: the modalities that the model knows, the first leads where sensors are resampled.
        modalities: those to take; the others are not read. All where None.
        resample: bring every sensor to the size and the number of frames of the leading one, by bilinear scaling and
            by taking the nearest frame; the first and the last frame of each are taken for the same moments.

    Raises:
        TrackingError: nothing to read, an unknown modality, a file that is not a video, sensors that do not match, or
            more than the limits allow.
    """
    if isinstance(source, AlignedVideo):
        return _restricted(source, modalities)
    limits = limits or VideoLimits()
    parts = {name: value for name, value in _parts(source, known).items() if modalities is None or name in modalities}
    if not parts:
        raise TrackingError(f"the video has none of {', '.join(modalities or known)}: give at least one of them")
    clips: dict[str, Frames] = {}
    rates: dict[str, float | None] = {}
    for name in sorted(parts, key=known.index):
        clips[name], rates[name] = _frames(name, parts[name], limits)
    sizes = {name: _size(name, frames) for name, frames in clips.items()}
    lead = next(iter(clips))
    clips = _matched(clips, sizes, lead, resample=resample)
    rate = next((rates[name] for name in rates if rates[name]), None) if rates[lead] is None else rates[lead]
    return AlignedVideo(clips, *sizes[lead], rate)


def _restricted(video: AlignedVideo, modalities: tuple[str, ...] | None) -> AlignedVideo:
    kept = {name: frames for name, frames in video.frames.items() if modalities is None or name in modalities}
    if not kept:
        raise TrackingError(f"the video has {', '.join(video.modalities)} only: choose among them")
    return AlignedVideo(kept, video.height, video.width, video.fps)


def _parts(source: Any, known: tuple[str, ...]) -> dict[str, Any]:
    """By modality, what its frames are to be had from."""
    if isinstance(source, str | os.PathLike):
        return dict(sensors_of(source, known))
    if isinstance(source, np.ndarray):
        return {known[0]: source}
    frames = source if isinstance(source, Mapping) else getattr(source, "frames", None)
    if not isinstance(frames, Mapping):
        raise TrackingError(
            f"a video of type {type(source).__name__} is not read: give {{modality: frames or path}}, a path or a Scene"
        )
    unknown = [name for name in frames if name not in known]
    if unknown:
        raise TrackingError(f"unknown modality {str(unknown[0])[:40]!r}: name {', '.join(known)}")
    present = getattr(source, "present", {})
    return {name: _gaps(value, present.get(name)) for name, value in frames.items() if value is not None}


def _gaps(frames: Any, present: Any) -> Any:
    """Frames of a scene, None where the sensor was off: a black frame would be believed."""
    if present is None or bool(np.all(present)):
        return frames
    return [frame if there else None for frame, there in zip(frames, present, strict=True)]


def _frames(name: str, value: Any, limits: VideoLimits) -> tuple[Frames, float | None]:
    if isinstance(value, str | os.PathLike):
        return read_clip(value, name, limits)
    if isinstance(value, np.ndarray):
        right = value.dtype == np.uint8 and 0 not in value.shape
        if not right or value.ndim not in (3, 4) or (value.ndim == 4 and value.shape[3] != 3):
            raise TrackingError(
                f"{name} is {value.dtype} {list(value.shape)}: give uint8 [frames, height, width, 3] or "
                "[frames, height, width]"
            )
    elif not isinstance(value, Sequence) or isinstance(value, bytes):
        raise TrackingError(f"{name} is a {type(value).__name__}: give an array, a list of frames or a path")
    if not len(value):
        raise TrackingError(f"{name} has no frames: give one or more")
    check_extent(f"{name}", len(value), None, limits)
    if isinstance(value, np.ndarray):
        return value, None
    return [None if frame is None else checked_frame(name, frame, (name,)) for frame in value], None


def _size(name: str, frames: Frames) -> tuple[int, int]:
    """Height and width of all frames."""
    sizes = {frame.shape[:2] for frame in frames if frame is not None}
    if len(sizes) != 1:
        what = "changes its size from frame to frame" if sizes else "gives no frame at all"
        raise TrackingError(f"{name} {what}: give frames of one size")
    ((height, width),) = sizes
    return int(height), int(width)


def _matched(
    clips: dict[str, Frames], sizes: dict[str, tuple[int, int]], lead: str, *, resample: bool
) -> dict[str, Frames]:
    """The clips, all as long and as large as the leading one; only if they may be changed to be so."""
    lengths = {name: len(frames) for name, frames in clips.items()}
    if not resample and len(set(lengths.values())) > 1:
        listed = ", ".join(f"{name} {length}" for name, length in lengths.items())
        raise TrackingError(
            f"the sensors have different numbers of frames ({listed}): cut them to the same moments, or pass "
            f"resample=True to stretch all to the {lengths[lead]} of {lead}"
        )
    if not resample and len(set(sizes.values())) > 1:
        listed = ", ".join(f"{name} {height} x {width}" for name, (height, width) in sizes.items())
        raise TrackingError(
            f"the sensors' frames differ in size ({listed}): align them, or pass resample=True to scale all to the "
            f"{sizes[lead][0]} x {sizes[lead][1]} of {lead}, which aligns only sensors that see the same"
        )
    return {name: _resampled(frames, lengths[lead], sizes[name], sizes[lead]) for name, frames in clips.items()}


def _resampled(frames: Frames, length: int, size: tuple[int, int], wanted: tuple[int, int]) -> Frames:
    if len(frames) == length and size == wanted:
        return frames
    places = np.linspace(0, len(frames) - 1, length).round().astype(int).tolist()
    return [None if frames[place] is None else _scaled(frames[place], wanted) for place in places]


def _scaled(frame: Any, size: tuple[int, int]) -> np.ndarray:
    """A frame at another (height, width), bilinear."""
    if frame.shape[:2] == size:
        return frame
    return np.asarray(Image.fromarray(frame).resize(size[::-1], Image.Resampling.BILINEAR))
