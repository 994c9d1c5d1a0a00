"""Tracks drawn over their video: masks, boxes and ids, one colour per id, and the video of it as mp4."""

from __future__ import annotations

import colorsys
import os
import tempfile
from collections.abc import Iterable, Iterator
from fractions import Fraction
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

from .errors import TrackingError
from .results import FrameInstances, Tracks

if TYPE_CHECKING:  # the videos' checks import torch, drawing does without
    from .videos import AlignedVideo

GOLDEN = 0.6180339887498949  # neighbouring ids get hues that are far apart
MASK_OPACITY = 0.45
SMALLEST_SIDE = 256  # smaller frames are enlarged, so that lines and ids can be read
MAX_FPS = 240
DEFAULT_FPS = 10.0

Colour = tuple[int, int, int]


@lru_cache(maxsize=1024)
def colour_of(id: int) -> Colour:
    """The colour of an id, red, green and blue in 0..255: the same in every frame, video and program."""
    hue = (0.12 + GOLDEN * id) % 1.0
    lightness = (0.60, 0.50, 0.70)[id // 8 % 3]
    red, green, blue = colorsys.hls_to_rgb(hue, lightness, 0.85)
    return round(255 * red), round(255 * green), round(255 * blue)


def draw_instances(frame: np.ndarray, instances: FrameInstances, *, scale: int = 1, ids: bool = True) -> np.ndarray:
    """A frame with its instances: masks tinted and outlined, boxes, ids. What is stale has a broken box and no tint.

    Args:
        frame: uint8 [H, W, 3] or [H, W].
        scale: how many times as large the picture becomes.
        ids: whether to write them.

    Returns:
        uint8 [scale * H, scale * W, 3].

    Raises:
        TrackingError: the masks are of another size than the frame.
    """
    picture = np.repeat(frame[..., None], 3, axis=2) if frame.ndim == 2 else frame
    if instances.masks is not None and instances.masks.shape[1:] != picture.shape[:2]:
        raise TrackingError(
            f"the masks are {instances.masks.shape[1]} x {instances.masks.shape[2]}, the frame {picture.shape[0]} x "
            f"{picture.shape[1]}: draw tracks on the video that they are of"
        )
    picture = picture.repeat(scale, axis=0).repeat(scale, axis=1).copy()
    if instances.masks is not None:
        for id, mask, stale in zip(instances.ids.tolist(), instances.masks, instances.stale, strict=True):
            _tint(picture, mask.repeat(scale, axis=0).repeat(scale, axis=1), colour_of(id), filled=not stale)
    image = Image.fromarray(picture)
    draw = ImageDraw.Draw(image)
    for id, box, stale in zip(instances.ids.tolist(), instances.xyxy, instances.stale, strict=True):
        corners = _inside(scale * box, image.width, image.height)
        _box(draw, corners, colour_of(id), broken=bool(stale))
        if ids:
            _label(draw, corners, str(id), colour_of(id))
    return np.asarray(image)


def _tint(picture: np.ndarray, mask: np.ndarray, colour: Colour, *, filled: bool) -> None:
    if filled:
        picture[mask] = ((1 - MASK_OPACITY) * picture[mask] + MASK_OPACITY * np.array(colour)).astype(np.uint8)
    picture[mask & ~ndimage.binary_erosion(mask)] = colour


def _inside(box: np.ndarray, width: int, height: int) -> tuple[int, int, int, int]:
    """The corner pixels of a box, the last ones included."""
    x0, y0, x1, y1 = (round(float(value)) for value in np.clip(box, 0, (width, height, width, height)))
    x0, y0 = min(x0, width - 1), min(y0, height - 1)
    return x0, y0, max(x0, x1 - 1), max(y0, y1 - 1)


def _box(draw: ImageDraw.ImageDraw, corners: tuple[int, int, int, int], colour: Colour, *, broken: bool) -> None:
    if not broken:
        draw.rectangle(corners, outline=colour)
        return
    x0, y0, x1, y1 = corners
    for x in range(x0, x1 + 1, 8):
        draw.line([(x, y0), (min(x + 3, x1), y0)], colour)
        draw.line([(x, y1), (min(x + 3, x1), y1)], colour)
    for y in range(y0, y1 + 1, 8):
        draw.line([(x0, y), (x0, min(y + 3, y1))], colour)
        draw.line([(x1, y), (x1, min(y + 3, y1))], colour)


def _label(draw: ImageDraw.ImageDraw, corners: tuple[int, int, int, int], text: str, colour: Colour) -> None:
    """The id on its colour, above the box where there is room, black or white as the colour is light or dark."""
    font = ImageFont.load_default()
    width, height = (int(value) for value in draw.textbbox((0, 0), text, font=font)[2:])
    x, y = corners[0], corners[1] - height - 2 if corners[1] >= height + 2 else corners[1]
    light = 0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2] > 140
    draw.rectangle((x, y, x + width + 3, y + height + 2), fill=colour)
    draw.text((x + 2, y + 1), text, fill="black" if light else "white", font=font)


def overlay_frames(
    video: AlignedVideo, tracks: Tracks, *, modalities: tuple[str, ...] | None = None, scale: int | None = None
) -> Iterator[np.ndarray]:
    """The frames of a video with its tracks, its sensors side by side: uint8 [scale * H, n * scale * W, 3] each.

    Args:
        tracks: of the video, or of its first frames where tracking ended early; the others are left out.
        modalities: the sensors to show, all where None. One that gave nothing is black in that frame.
        scale: how many times as large; None brings the shorter side to 256 pixels or more.
    """
    if (video.height, video.width) != (tracks.height, tracks.width) or len(tracks) > len(video):
        raise TrackingError(
            f"the tracks are of {len(tracks)} frames of {tracks.height} x {tracks.width}, the video has {len(video)} "
            f"of {video.height} x {video.width}: give the video that they are of"
        )
    names = video.modalities if modalities is None else modalities
    enlarged = scale or -(-SMALLEST_SIDE // min(video.height, video.width))
    dark = np.zeros((video.height, video.width, 3), np.uint8)
    for number, instances in enumerate(tracks.frames):
        sensors = video.moment(number)
        panels = [draw_instances(sensors.get(name, dark), instances, scale=enlarged) for name in names]
        yield np.concatenate(panels, axis=1)


def write_overlay(
    path: str | os.PathLike[str],
    video: AlignedVideo,
    tracks: Tracks,
    *,
    fps: float | None = None,
    modalities: tuple[str, ...] | None = None,
) -> Path:
    """Write the video with its tracks as an mp4 that browsers play; the video's own rate, or 10 frames per second."""
    rate = fps or video.fps or DEFAULT_FPS
    return write_mp4(path, overlay_frames(video, tracks, modalities=modalities), rate)


def write_mp4(path: str | os.PathLike[str], frames: Iterable[np.ndarray], fps: float) -> Path:
    """Write an mp4 (H.264, yuv420p, index first); it appears whole or not at all.

    Args:
        path: ends in ".mp4", in a folder that exists.
        frames: uint8 RGB [H, W, 3], all of one size; an odd side gains one pixel, a copy of its last.
        fps: above 0 and at most 240.

    Raises:
        TrackingError: no frames, or a path or rate that is not as above.
    """
    target = Path(path)
    if target.suffix.lower() != ".mp4" or target.is_dir() or not target.parent.is_dir():
        raise TrackingError(f"{target} cannot be written: name an .mp4 in a folder that exists")
    if not 0 < fps <= MAX_FPS:
        raise TrackingError(f"fps is {fps}: give a number above 0 and at most {MAX_FPS}")
    images = iter(frames)
    first = next(images, None)
    if first is None:
        raise TrackingError("there are no frames to write")
    handle, partial = tempfile.mkstemp(suffix=".mp4", prefix=".partial-", dir=target.parent)
    os.close(handle)
    try:
        _encode(partial, chain([first], images), first.shape, Fraction(fps).limit_denominator(1001))
        os.chmod(partial, 0o644)  # mkstemp makes it private; a result is an ordinary file
        os.replace(partial, target)
    except BaseException:
        Path(partial).unlink(missing_ok=True)
        raise
    return target


def _encode(path: str, frames: Iterable[np.ndarray], shape: tuple[int, ...], rate: Fraction) -> None:
    import av

    odd = (0, shape[0] % 2), (0, shape[1] % 2), (0, 0)
    if "libx264" not in av.codecs_available:
        raise TrackingError("this build of PyAV has no H.264 encoder: run pip install -U av")
    with av.open(path, "w", format="mp4", options={"movflags": "+faststart"}) as container:
        stream = container.add_stream("libx264", rate=rate, options={"crf": "18", "preset": "veryfast"})
        stream.width, stream.height, stream.pix_fmt = shape[1] + odd[1][1], shape[0] + odd[0][1], "yuv420p"
        for image in frames:
            padded = np.ascontiguousarray(np.pad(image, odd, mode="edge"), np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(padded, format="rgb24")))
        container.mux(stream.encode(None))
