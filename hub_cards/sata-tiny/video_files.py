"""Video files by PyAV and folders of images by Pillow; every file is hostile until checked.

A header is a claim by whoever made the file, so every limit is checked before decoding and again while decoding.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from .errors import TrackingError

# Containers only: FFmpeg would also follow playlists and concat scripts, whatever the file is called, and those name
# other files and hosts.
_CONTAINERS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,gif,ogg"
_VIDEO_ENDINGS = (".mp4", ".mov", ".webm", ".mkv", ".avi", ".gif", ".m4v", ".ogv")
_IMAGE_ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff")
_IMAGE_FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF")
_READABLE = "give mp4, mov, webm, mkv, avi or gif, or a folder of images"


@dataclass(frozen=True)
class VideoLimits:
    """The largest video that is taken.

    Attributes:
        max_frames: of each sensor. max_seconds: playing time, where the file has one.
        max_pixels: height x width. max_bytes: of a file.
        max_decoded_bytes: of all frames of one sensor in memory.
    """

    max_frames: int = 3000
    max_seconds: float = 120.0
    max_pixels: int = 1920 * 1088
    max_bytes: int = 500 * 2**20
    max_decoded_bytes: int = 2 * 2**30

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not value > 0:
                raise TrackingError(f"{name} is {value}: a limit is above 0")


def shown(name: str | os.PathLike[str]) -> str:
    """A file's name for a message: the last part, short, nothing in it that a terminal obeys."""
    return ascii(os.path.basename(os.fspath(name).rstrip("/\\"))[:80])


def check_extent(what: str, frames: int, seconds: float | None, limits: VideoLimits) -> None:
    """Refuse what is too long.

    Raises:
        TrackingError: more frames or more seconds than the limits allow.
    """
    if frames > limits.max_frames:
        raise TrackingError(
            f"{what} has {frames} frames or more, limit {limits.max_frames}: trim it, lower its frame rate, or track "
            "frame by frame with start_session, which has no limit"
        )
    # A tenth of a second of grace: a clip cut to the limit ends a frame or so after it.
    if seconds is not None and seconds > limits.max_seconds + 0.1:
        raise TrackingError(
            f"{what} is {seconds:,.0f} s, limit {limits.max_seconds:g} s: trim it, or track frame by frame with "
            "start_session, which has no limit"
        )


def sensors_of(path: str | os.PathLike[str], known: tuple[str, ...]) -> dict[str, Path]:
    """By modality, the file or folder of one path: a video or a folder of images is RGB (the first known); a folder
    may hold one video or one folder of images per sensor, called as the sensor is.

    Raises:
        TrackingError: nothing is there, or nothing of that.
    """
    name = os.fspath(path)
    if os.path.isfile(name):
        return {known[0]: Path(name)}
    if not os.path.isdir(name):
        raise TrackingError(f"there is no file or folder {shown(name)}: check the path")
    entries = sorted(Path(name).iterdir())
    found = {
        entry.stem: entry
        for entry in entries
        if entry.stem in known and (entry.is_dir() or entry.suffix.lower() in _VIDEO_ENDINGS)
    }
    if found:
        return found
    if any(entry.suffix.lower() in _IMAGE_ENDINGS for entry in entries):
        return {known[0]: Path(name)}
    raise TrackingError(
        f"folder {shown(name)} holds neither images nor sensors: put a video or a folder of images in it for each, "
        f"called {', '.join(known)}"
    )


def read_clip(source: str | os.PathLike[str], modality: str, limits: VideoLimits) -> tuple[np.ndarray, float | None]:
    """All frames of a video file or a folder of images, and the frames per second.

    16-bit images are brought to 8 over the clip as a whole: depth, in any unit, as nearness with 0 for no reading,
    everything else from its lowest to its highest value.

    Returns:
        uint8 [T, H, W, 3], and the rate, None for images.

    Raises:
        TrackingError: it is not there, not readable, damaged, of changing size, or over a limit.
    """
    if not os.path.exists(source):  # os.path, unlike Path, answers False for names that no file system takes
        raise TrackingError(f"there is no file or folder {shown(source)} for {modality}: check the path")
    path = Path(source)
    frames, rate = (_read_images(path, limits), None) if path.is_dir() else _read_video(path, limits)
    sizes = sorted({frame.shape[:2] for frame in frames})
    if len(sizes) != 1:
        raise TrackingError(f"frames of {shown(path)} differ in size ({sizes[0]} and {sizes[-1]}): give one size")
    if all(frame.dtype == np.uint8 for frame in frames):
        return np.stack([_three_channels(frame) for frame in frames]), rate
    return _three_channels(_to_bytes(np.stack([_one_channel(frame) for frame in frames]), modality)), rate


def _three_channels(frames: np.ndarray) -> np.ndarray:
    return frames if frames.shape[-1] == 3 and frames.ndim > 2 else np.repeat(frames[..., None], 3, axis=-1)


def _one_channel(frame: np.ndarray) -> np.ndarray:
    if frame.dtype == np.uint8:
        raise TrackingError("8-bit and 16-bit images are mixed: export all frames of a sensor alike")
    return frame


def _to_bytes(values: np.ndarray, modality: str) -> np.ndarray:
    """Numbers [T, H, W] of more than 8 bits to uint8."""
    values = values.astype(np.float32)
    measured = values[values > 0] if modality == "depth" else values
    if not measured.size:
        return np.zeros(values.shape, np.uint8)
    low, high = np.percentile(measured, (1, 99))
    if modality == "depth":
        nearness = np.where(values > 0, max(low, 1e-6) / np.maximum(values, 1e-6), 0)
        return (255 * nearness.clip(0, 1)).round().astype(np.uint8)
    return (255 * ((values - low) / max(high - low, 1e-6)).clip(0, 1)).round().astype(np.uint8)


def _check_size(what: str, height: int, width: int, limits: VideoLimits) -> None:
    if height < 1 or width < 1:
        raise TrackingError(f"{what} gives no frame size: {_READABLE}")
    if height * width > limits.max_pixels:
        raise TrackingError(
            f"{what} is {width} x {height} pixels, limit {limits.max_pixels / 1e6:.3g} megapixels: scale it down"
        )


def _check_memory(what: str, frames: int, pixels: int, limits: VideoLimits) -> None:
    if 3 * frames * pixels > limits.max_decoded_bytes:
        raise TrackingError(
            f"{what} takes {3 * frames * pixels / 2**20:,.0f} MiB or more once decoded, limit "
            f"{limits.max_decoded_bytes / 2**20:,.0f}: trim it or scale it down"
        )


def _check_bytes(path: Path, limits: VideoLimits) -> None:
    size = path.stat().st_size
    if size > limits.max_bytes:
        raise TrackingError(
            f"{shown(path)} is {size / 2**20:,.0f} MiB, limit {limits.max_bytes / 2**20:,.0f}: shorten it"
        )


def _read_images(folder: Path, limits: VideoLimits) -> list[np.ndarray]:
    root = folder.resolve()
    files = [
        entry for entry in folder.iterdir() if entry.suffix.lower() in _IMAGE_ENDINGS and not entry.name.startswith(".")
    ]
    if not files:
        raise TrackingError(f"folder {shown(folder)} holds no images: give {', '.join(_IMAGE_ENDINGS)}")
    check_extent(f"folder {shown(folder)}", len(files), None, limits)
    frames = []
    for number, file in enumerate(sorted(files, key=_natural), start=1):
        if not file.is_file() or not file.resolve().is_relative_to(root):
            raise TrackingError(f"{shown(file)} is no file of its folder: give the images themselves, not links")
        frames.append(_read_image(file, limits))
        _check_memory(f"folder {shown(folder)}", number, frames[-1].shape[0] * frames[-1].shape[1], limits)
    return frames


def _natural(path: Path) -> list[Any]:
    """So that 2.png comes before 10.png; the parts alternate between text and number and can be compared."""
    return [int(part) if part.isdecimal() else part for part in re.split(r"([0-9]+)", path.name)]


def _read_image(file: Path, limits: VideoLimits) -> np.ndarray:
    """uint8 [H, W, 3], or numbers [H, W] where it is grey of more than 8 bits."""
    _check_bytes(file, limits)
    try:
        with Image.open(file, formats=_IMAGE_FORMATS) as image:
            _check_size(shown(file), image.height, image.width, limits)
            upright: Any = ImageOps.exif_transpose(image)
            if upright.mode == "I" or upright.mode.startswith("I;16"):
                return np.asarray(upright)
            if upright.mode != "F":
                return np.array(upright.convert("RGB"))
    except TrackingError:
        raise
    # Pillow's readers raise all of these on damaged files.
    except (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError) as error:
        raise TrackingError(f"{shown(file)} is damaged or not an image: export it again") from error
    raise TrackingError(f"{shown(file)} holds floating-point values: export it with 8 or 16 bits")


def _read_video(path: Path, limits: VideoLimits) -> tuple[list[np.ndarray], float | None]:
    import av

    if not path.is_file():  # a pipe or a device would never end
        raise TrackingError(f"{shown(path)} is neither a file nor a folder: {_READABLE}")
    _check_bytes(path, limits)
    options = {"format_whitelist": _CONTAINERS, "protocol_whitelist": "file"}
    try:
        container = av.open(str(path.resolve()), options=options, metadata_errors="replace")
    except (av.FFmpegError, ValueError) as error:
        raise TrackingError(f"{shown(path)} is not a video that is read here: {_READABLE}") from error
    with container:
        if not container.streams.video:
            raise TrackingError(f"{shown(path)} holds no video stream: {_READABLE}")
        stream = container.streams.video[0]
        rate = stream.average_rate or stream.guessed_rate
        seconds = _seconds(container, stream)
        promised = stream.frames or (round(seconds * float(rate)) if seconds and rate else 0)
        context = stream.codec_context
        _check_size(shown(path), context.height, context.width, limits)
        check_extent(shown(path), promised, seconds, limits)
        _check_memory(shown(path), promised, context.height * context.width, limits)
        # The decoder itself refuses a larger frame before it takes memory for it.
        context.options = {"max_pixels": str(limits.max_pixels)}
        frames: list[np.ndarray] = []
        try:
            for frame in _decoded(container, stream, path):
                frames.append(_upright(frame))
                _check_size(shown(path), frame.height, frame.width, limits)
                check_extent(shown(path), len(frames), None, limits)
                _check_memory(shown(path), len(frames), frame.height * frame.width, limits)
        except av.FFmpegError as error:
            raise _damaged(path, len(frames)) from error
        # A file cut between two packets ends quietly: clearly less came than the header promised.
        if not frames or len(frames) < 0.9 * promised - 3:
            raise _damaged(path, len(frames))
        return frames, float(rate) if rate else None


def _seconds(container: Any, stream: Any) -> float | None:
    if stream.duration and stream.time_base is not None:
        return float(stream.duration * stream.time_base)
    return container.duration / 1e6 if container.duration else None


def _decoded(container: Any, stream: Any, path: Path) -> Iterator[Any]:
    count = 0
    for packet in container.demux(stream):
        if packet.is_corrupt:
            raise _damaged(path, count)
        for frame in packet.decode():
            count += 1
            yield frame


def _upright(frame: Any) -> np.ndarray:
    """uint8 [H, W, 3], turned by the quarter turns that phones write into the header."""
    image = frame.to_ndarray(format="rgb24")
    turns = round(frame.rotation / 90) % 4
    return np.ascontiguousarray(np.rot90(image, turns)) if turns else image


def _damaged(path: Path, frames: int) -> TrackingError:
    return TrackingError(
        f"{shown(path)} is cut off or damaged, only {frames} frames can be read: export or upload it again"
    )
