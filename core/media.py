"""Video in and out through PyAV, with caps checked before decoding and again while decoding.

A header is a claim by whoever made the file, so every cap is checked twice. Frames are uint8 RGB, [H, W, 3].
Images are read by `read_image`, from core.images.
"""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from core.errors import InputError, LimitError, UnavailableError
from core.images import ImageLimits, check_pixels, existing_file, mebibytes, read_image

if TYPE_CHECKING:
    from av import VideoFrame
    from av.container import InputContainer
    from av.video.stream import VideoStream

# Containers only. FFmpeg would also follow playlists and concat scripts, whatever the file is called, and
# those name other files and hosts.
_CONTAINERS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,gif,ogg"
__all__ = [
    "Clip",
    "ImageLimits",
    "VideoInfo",
    "VideoLimits",
    "iter_frames",
    "probe_video",
    "read_image",
    "read_video",
    "write_video",
]
_READABLE = "use mp4, mov, webm, mkv, avi or gif"


@dataclass(frozen=True)
class VideoLimits:
    """The largest clip that is read.

    Attributes:
        max_bytes: File size, bytes.
        max_seconds: Playing time, seconds.
        max_frames: Number of frames.
        max_pixels: Width x height of one frame.
        max_decoded_bytes: Memory for all decoded frames of one clip, bytes; `iter_frames` does not count it.
    """

    max_bytes: int = 200 * 2**20
    max_seconds: float = 30.0
    max_frames: int = 900
    max_pixels: int = 1920 * 1088
    max_decoded_bytes: int = 2**30

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not value > 0:
                raise InputError(f"{name} is {value}; a limit must be above 0.")


@dataclass(frozen=True)
class VideoInfo:
    """What a video's header says, nothing decoded.

    Attributes:
        width: As stored, before a rotation that the header may ask for, pixels.
        height: Likewise.
        fps: Mean frames per second; None when the header does not say.
        seconds: Playing time; None when the header does not say.
        frames: Number of frames, from the header or from seconds x fps; None when neither is known.
        codec: Such as "h264" or "vp9".
        size_bytes: File size.
    """

    width: int
    height: int
    fps: float | None
    seconds: float | None
    frames: int | None
    codec: str
    size_bytes: int


@dataclass(frozen=True)
class Clip:
    """A decoded clip.

    Attributes:
        frames: uint8 RGB, [T, H, W, 3].
        fps: Mean frames per second.
    """

    frames: np.ndarray
    fps: float

    def __post_init__(self) -> None:
        shape = self.frames.shape
        if self.frames.dtype != np.uint8 or len(shape) != 4 or shape[-1] != 3 or 0 in shape:
            raise InputError(f"frames are {self.frames.dtype} {list(shape)}; they must be uint8 [T, H, W, 3].")
        _check_fps(self.fps)

    @property
    def seconds(self) -> float:
        """Playing time."""
        return len(self.frames) / self.fps


def probe_video(path: str | Path, *, max_bytes: int | None = None) -> VideoInfo:
    """Read a video's header.

    Raises:
        InputError: the file is missing or is not a video that is read here.
        LimitError: the file is larger than `max_bytes`.
    """
    file = existing_file(path, max_bytes)
    with _opened(file) as (container, stream):
        return _info(file, container, stream)


def read_video(path: str | Path, limits: VideoLimits | None = None) -> Clip:
    """Decode a whole clip, turned upright as its header asks.

    Raises:
        InputError: not a video, damaged, cut off, or its frame size changes midway.
        LimitError: over a limit, by its header or by what is decoded.
    """
    limits = limits or VideoLimits()
    info = probe_video(path, max_bytes=limits.max_bytes)
    if info.frames is not None:
        _check_memory(info.frames, info.width * info.height, limits)
    frames: list[np.ndarray] = []
    for frame in iter_frames(path, limits):
        _check_memory(len(frames) + 1, frame.shape[0] * frame.shape[1], limits)
        frames.append(frame)
    return Clip(np.stack(frames), info.fps or len(frames) / (info.seconds or 1.0))


def iter_frames(path: str | Path, limits: VideoLimits | None = None) -> Iterator[np.ndarray]:
    """Decode a clip frame by frame, uint8 RGB [H, W, 3], with the checks and errors of `read_video`."""
    import av

    limits = limits or VideoLimits()
    file = existing_file(path, limits.max_bytes)
    with _opened(file) as (container, stream):
        info = _info(file, container, stream)
        _check_header(info, limits)
        # The decoder itself refuses a larger frame before it takes memory for it.
        stream.codec_context.options = {"max_pixels": str(limits.max_pixels)}
        stream.thread_type = "AUTO"
        count, end, shape = 0, 0.0, None
        try:
            for frame, frame_end in _decoded(container, stream, info):
                count, end = count + 1, max(end, frame_end)
                _check_decoded(frame, count, end, limits)
                image = _upright(frame)
                if shape not in (None, image.shape):
                    raise InputError(f"The frame size changes at frame {count}; re-encode the clip as mp4.")
                shape = image.shape
                yield image
        except av.FFmpegError as error:
            raise _damaged(count) from error
        if count == 0 or _falls_short(end, container, stream, info):
            raise _damaged(count)


@contextmanager
def _opened(file: Path) -> Generator[tuple[InputContainer, VideoStream]]:
    import av

    options = {"format_whitelist": _CONTAINERS, "protocol_whitelist": "file"}
    try:
        container = av.open(str(file), options=options, metadata_errors="replace")
    except av.FFmpegError as error:
        raise InputError(f"{file.name!r} is not a video that is read here; {_READABLE}.") from error
    with container:
        if not container.streams.video:
            raise InputError(f"{file.name!r} holds no video stream; {_READABLE}.")
        yield container, container.streams.video[0]


def _info(file: Path, container: InputContainer, stream: VideoStream) -> VideoInfo:
    rate = stream.average_rate or stream.guessed_rate
    fps = float(rate) if rate else None
    seconds = _stream_seconds(stream)
    if seconds is None and container.duration:
        seconds = container.duration / 1e6
    frames = stream.frames or (round(seconds * fps) if seconds and fps else None)
    context = stream.codec_context
    return VideoInfo(
        width=context.width,
        height=context.height,
        fps=fps,
        seconds=seconds,
        frames=frames,
        codec=context.name,
        size_bytes=file.stat().st_size,
    )


def _stream_seconds(stream: VideoStream) -> float | None:
    if not stream.duration or stream.time_base is None:
        return None
    return float(stream.duration * stream.time_base)


def _check_header(info: VideoInfo, limits: VideoLimits) -> None:
    if info.width < 1 or info.height < 1:
        raise InputError(f"The video's header gives no frame size; {_READABLE}.")
    check_pixels("The clip", info.width, info.height, limits.max_pixels)
    if info.seconds is not None:
        _check_seconds(info.seconds, limits)
    if info.frames is not None:
        _check_count(info.frames, limits)


def _check_decoded(frame: VideoFrame, count: int, end: float, limits: VideoLimits) -> None:
    check_pixels("The clip", frame.width, frame.height, limits.max_pixels)
    _check_count(count, limits)
    _check_seconds(end, limits)


def _check_seconds(seconds: float, limits: VideoLimits) -> None:
    # A tenth of a second of grace: a clip cut to the limit ends a frame or so after it.
    if seconds > limits.max_seconds + 0.1:
        raise LimitError(f"The clip is {seconds:.3g} s, limit {limits.max_seconds:g} s: trim it.")


def _check_count(frames: int, limits: VideoLimits) -> None:
    if frames > limits.max_frames:
        raise LimitError(
            f"The clip has {frames} frames or more, limit {limits.max_frames}: trim it or lower the frame rate."
        )


def _check_memory(frames: int, pixels: int, limits: VideoLimits) -> None:
    size = frames * pixels * 3
    if size > limits.max_decoded_bytes:
        raise LimitError(
            f"The clip takes {mebibytes(size)} or more once decoded, limit "
            f"{mebibytes(limits.max_decoded_bytes)}: trim it, scale it down or lower the frame rate."
        )


def _decoded(container: InputContainer, stream: VideoStream, info: VideoInfo) -> Iterator[tuple[VideoFrame, float]]:
    """Each frame with the time at which it ends, in seconds from the first frame."""
    start: float | None = None
    count = 0
    for packet in container.demux(stream):
        if packet.is_corrupt:
            raise _damaged(count)
        for frame in packet.decode():
            count += 1
            length = 1.0 / info.fps if info.fps else 0.0
            if frame.duration and frame.time_base is not None:
                length = float(frame.duration * frame.time_base)
            time = frame.time if frame.time is not None else (count - 1) * length
            start = time if start is None else start
            yield frame, time - start + length


def _falls_short(end: float, container: InputContainer, stream: VideoStream, info: VideoInfo) -> bool:
    """Whether clearly less came out than the header promised: a file cut between two packets ends quietly."""
    promised = _stream_seconds(stream)
    if promised is None and len(container.streams) == 1:
        promised = info.seconds
    if promised is None:
        return False
    return end < promised - max(0.1 * promised, 3.0 / (info.fps or 25.0))


def _damaged(frames: int) -> InputError:
    return InputError(f"The video is cut off or damaged: only {frames} frames can be read. Export or upload it again.")


def _upright(frame: VideoFrame) -> np.ndarray:
    """The frame as [H, W, 3], turned by the quarter turns that phones write into the header."""
    image = frame.to_ndarray(format="rgb24")
    quarter_turns = round(frame.rotation / 90) % 4
    return np.ascontiguousarray(np.rot90(image, quarter_turns)) if quarter_turns else image


def write_video(path: str | Path, frames: np.ndarray | Iterable[np.ndarray], fps: float) -> Path:
    """Write an mp4 that browsers play (H.264, yuv420p, index first); the file appears whole or not at all.

    Args:
        path: Ends in ".mp4"; its folder is made when missing.
        frames: uint8 RGB [T, H, W, 3], or an iterable of [H, W, 3]. H.264 in yuv420p needs even sizes: an odd
            width or height gains one pixel, a copy of the last column or row.
        fps: Frames per second, above 0 and at most 240.

    Returns:
        The path written.

    Raises:
        InputError: no frames, or frames, fps or file name that are not as above.
    """
    target = Path(path)
    if target.suffix.lower() != ".mp4":
        raise InputError(f"{target.name!r} does not end in .mp4, the only format that is written.")
    rate = _check_fps(fps)
    images = iter(frames)
    first = next(images, None)
    if first is None:
        raise InputError("There are no frames to write.")
    _check_frame(first, np.shape(first))
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, partial = tempfile.mkstemp(suffix=".mp4", prefix=".partial-", dir=target.parent)
    os.close(handle)
    try:
        _encode(partial, chain([first], images), first.shape, rate)
        os.chmod(partial, 0o644)  # mkstemp makes it private; a result is an ordinary file
        os.replace(partial, target)
    except BaseException:
        Path(partial).unlink(missing_ok=True)
        raise
    return target


def _check_fps(fps: float) -> Fraction:
    if not (math.isfinite(fps) and 0 < fps <= 240):
        raise InputError(f"fps is {fps}; it must be above 0 and at most 240.")
    return Fraction(fps).limit_denominator(1001)


def _check_frame(frame: np.ndarray, shape: tuple[int, ...]) -> None:
    right = isinstance(frame, np.ndarray) and frame.dtype == np.uint8 and frame.ndim == 3
    if not right or frame.shape[-1] != 3 or 0 in frame.shape:
        found = f"{frame.dtype} {list(frame.shape)}" if isinstance(frame, np.ndarray) else type(frame).__name__
        raise InputError(f"A frame is {found}; it must be uint8 RGB [H, W, 3].")
    if frame.shape != shape:
        raise InputError(f"Frames differ in size: {list(frame.shape)} after {list(shape)}.")


def _encode(path: str, frames: Iterable[np.ndarray], shape: tuple[int, ...], rate: Fraction) -> None:
    import av

    height, width = shape[0] + shape[0] % 2, shape[1] + shape[1] % 2
    if "libx264" not in av.codecs_available:
        raise UnavailableError("This build of PyAV has no H.264 encoder.", "Run 'pip install -U av'.")
    with av.open(path, "w", format="mp4", options={"movflags": "+faststart"}) as container:
        # A crf of 16 is visually lossless: people compare these clips pixel by pixel.
        stream = container.add_stream("libx264", rate=rate, options={"crf": "16", "preset": "veryfast"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for image in frames:
            _check_frame(image, shape)
            padded = np.pad(image, ((0, height - shape[0]), (0, width - shape[1]), (0, 0)), mode="edge")
            container.mux(stream.encode(av.VideoFrame.from_ndarray(padded, format="rgb24")))
        container.mux(stream.encode(None))
