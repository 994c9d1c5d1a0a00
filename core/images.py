"""Images in through Pillow, with caps on file size and pixels checked before anything is decoded."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from core.errors import InputError, LimitError

if TYPE_CHECKING:
    from PIL.Image import Image

_IMAGE_FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF")


@dataclass(frozen=True)
class ImageLimits:
    """The largest image that is read: file size in bytes, and width x height."""

    max_bytes: int = 50 * 2**20
    max_pixels: int = 40_000_000


def existing_file(path: str | Path, max_bytes: int | None) -> Path:
    """The file as an absolute path; InputError when it is missing, LimitError when it is over `max_bytes`."""
    file = Path(path)
    if not file.is_file():
        raise InputError(f"There is no file {file.name!r}; upload or choose it again.")
    size = file.stat().st_size
    if max_bytes is not None and size > max_bytes:
        raise LimitError(
            f"The file is {mebibytes(size)}, limit {mebibytes(max_bytes)}: shorten it or compress it more."
        )
    return file.resolve()


def mebibytes(size: int) -> str:
    """A size in bytes for people, such as "1.5 MiB"."""
    return f"{size / 2**20:.3g} MiB"


def check_pixels(what: str, width: int, height: int, limit: int) -> None:
    """Raise LimitError when width x height is over the limit, pixels."""
    if width * height > limit:
        raise LimitError(
            f"{what} is {width}x{height} = {width * height / 1e6:.3g} megapixels, limit {limit / 1e6:.3g}: "
            "scale it down."
        )


def read_image(path: str | Path, limits: ImageLimits | None = None) -> np.ndarray:
    """Read an image as uint8 RGB [H, W, 3], upright by its EXIF tag, transparency laid on white.

    Of an animation the first frame is read; 16-bit greyscale keeps its high byte.

    Raises:
        InputError: the file is missing, damaged or not an image that is read here.
        LimitError: over a limit, by its header: nothing is decoded then.
    """
    import PIL.Image

    limits = limits or ImageLimits()
    file = existing_file(path, limits.max_bytes)
    try:
        with PIL.Image.open(file, formats=_IMAGE_FORMATS) as image:
            check_pixels("The image", *image.size, limits.max_pixels)
            return _as_rgb(image)
    except InputError:
        raise
    except PIL.Image.DecompressionBombError as error:
        raise LimitError(
            f"The image has far more than {limits.max_pixels / 1e6:.3g} megapixels, the limit: scale it down."
        ) from error
    # Pillow's readers raise all of these on damaged files.
    except (OSError, ValueError, SyntaxError, EOFError) as error:
        allowed = ", ".join(_IMAGE_FORMATS)
        raise InputError(f"{file.name!r} is damaged or not an image; use one of {allowed}.") from error


def _as_rgb(image: Image) -> np.ndarray:
    import PIL.Image
    import PIL.ImageOps

    upright: Any = PIL.ImageOps.exif_transpose(image)
    if upright.mode.startswith("I;16") or upright.mode == "I":
        grey = (np.asarray(upright).clip(0, 65535) >> 8).astype(np.uint8)
        return np.repeat(grey[..., None], 3, axis=-1)
    if upright.mode == "F":
        raise InputError("The image holds floating-point values; save it with 8 or 16 bits a channel.")
    if upright.has_transparency_data:
        layer = upright.convert("RGBA")
        upright = PIL.Image.new("RGBA", layer.size, "white")
        upright.alpha_composite(layer)
    return np.array(upright.convert("RGB"))
