"""Images with texts and labels, one by one, from folders, parquet files and data sets; hostile until checked."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import AttributionInputError
from .files import some

if TYPE_CHECKING:
    from PIL.Image import Image

MAX_PIXELS = 40_000_000
MAX_BYTES = 50 * 2**20
MAX_TEXT = 20_000  # characters
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF")
METADATA = ("metadata.csv", "metadata.jsonl", "metadata.parquet")
ROWS_AT_ONCE = 32  # of a parquet file

Mappings = Iterable[Mapping[str, Any]]
Source = str | Path | Mappings | Callable[[], Mappings]


@dataclass(frozen=True)
class Example:
    """One image with its text.

    Attributes:
        image: RGB, decoded; None where a model is asked about text alone.
        label: None where the source has none.
        name: a file's name, or the number of the row.
    """

    image: Image | None
    text: str
    label: str | None
    name: str


@dataclass(frozen=True)
class Skipped:
    """An example that could not be used, and why."""

    name: str
    reason: str


@dataclass(frozen=True)
class _Raw:
    """A row before its image is decoded; `image` is bytes, a path that was checked, or an image."""

    image: Any
    text: Any
    label: Any
    name: str


def read_examples(source: Source, *, max_pixels: int = MAX_PIXELS) -> Iterator[Example | Skipped]:
    """Examples one by one; an image that cannot be decoded, or is too large, comes as a `Skipped` in its place.

    Args:
        source: a folder with metadata.csv, .jsonl or .parquet (columns file_name, text, label; the imagefolder
            convention); a parquet file (image: bytes or {"bytes", "path"}; text; label); mappings with image, text and
            label, as data sets of `datasets` give them; or a function that returns such mappings.
        max_pixels: width x height, from the image's header, before it is decoded.

    Raises:
        AttributionInputError: no such source, missing columns, no rows, or a file name that leaves its folder.
    """
    rows = _rows(source)
    return _decoded(rows, max_pixels)


def _rows(source: Source) -> Iterator[_Raw]:
    if isinstance(source, str | Path):
        path = Path(source).expanduser()
        if path.is_dir():
            return _folder(path)
        if path.is_file() and path.suffix.lower() == ".parquet":
            return _parquet(path)
        raise AttributionInputError(
            f"{str(source)[:200]!r} is neither a folder with {' or '.join(METADATA)} nor a .parquet file"
        )
    rows = source() if callable(source) else source
    if isinstance(rows, Mapping | str | bytes) or not isinstance(rows, Iterable):
        raise AttributionInputError(
            f"examples are a {type(rows).__name__}: give a folder, a .parquet file, or mappings with image, text and "
            "label, such as a data set of the datasets library"
        )
    return _mappings(rows)


def _decoded(rows: Iterator[_Raw], max_pixels: int) -> Iterator[Example | Skipped]:
    empty = True
    for row in rows:
        empty = False
        try:
            text = _text(row.text)
            yield Example(_image(row.image, max_pixels), text, _label(row.label), row.name)
        except AttributionInputError as error:
            yield Skipped(row.name, str(error))
    if empty:
        raise AttributionInputError("there are no examples: give a source with one row or more")


def _mappings(rows: Mappings) -> Iterator[_Raw]:
    for number, row in enumerate(rows):
        if not isinstance(row, Mapping):
            raise AttributionInputError(
                f"row {number} is a {type(row).__name__}: give mappings with image, text and label"
            )
        _check_columns(list(row), ("image", "text"), f"row {number}")
        yield _Raw(row["image"], row["text"], row.get("label"), str(row.get("name", number)))


def _folder(folder: Path) -> Iterator[_Raw]:
    found = [name for name in METADATA if (folder / name).is_file()]
    if len(found) != 1:
        has = f"{some(found)}, of which one is needed" if found else "none of " + ", ".join(METADATA)
        raise AttributionInputError(
            f"{folder} holds {has}: put the columns file_name, text and label into one such file beside the images"
        )
    file = folder / found[0]
    readers = {".csv": _csv, ".jsonl": _jsonl, ".parquet": _parquet_rows}
    for row in readers[file.suffix](file):
        _check_columns(list(row), ("file_name", "text"), file.name)
        name = str(row["file_name"])
        yield _Raw(_inside(folder, name), row["text"], row.get("label"), name)


def _inside(folder: Path, name: str) -> Path:
    """The file of that name; refused where it leaves the folder, by `..`, an absolute path or a link."""
    try:
        path = (folder / name).resolve()
        inside = path.is_relative_to(folder.resolve())
    except (OSError, ValueError, RuntimeError):
        inside = False
    if not inside or not name.strip():
        raise AttributionInputError(
            f"file_name {name[:100]!r} is not inside {folder.name}: names are relative to the folder of the metadata"
        )
    return path


def _csv(file: Path) -> Iterator[dict[str, Any]]:
    try:
        with file.open(encoding="utf-8-sig", newline="") as lines:
            yield from csv.DictReader(lines)
    except (UnicodeDecodeError, csv.Error) as error:
        raise AttributionInputError(f"{file.name} is not a csv file in UTF-8 ({error}): save it as one") from error


def _jsonl(file: Path) -> Iterator[dict[str, Any]]:
    with file.open(encoding="utf-8", errors="replace") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise AttributionInputError(f"line {number} of {file.name} is not JSON: correct it") from error
            if not isinstance(row, dict):
                raise AttributionInputError(f"line {number} of {file.name} is not an object: write one on each line")
            yield row


def _parquet(file: Path) -> Iterator[_Raw]:
    for number, row in enumerate(_parquet_rows(file, ("image", "text"))):
        image = row["image"]
        name = image.get("path") if isinstance(image, dict) else None
        yield _Raw(image, row["text"], row.get("label"), Path(name).name if name else str(number))


def _parquet_rows(file: Path, needed: tuple[str, ...] = ("file_name", "text")) -> Iterator[dict[str, Any]]:
    """Rows of the needed columns and the label, a few at a time, so that a large file never lies in memory."""
    import pyarrow as pa
    from pyarrow.parquet import ParquetFile

    try:
        with ParquetFile(file) as table:
            names = table.schema_arrow.names
            _check_columns(names, needed, file.name)
            columns = [*needed, *(name for name in ("label",) if name in names)]
            for group in range(table.num_row_groups):  # all at once would be read ahead
                for part in table.iter_batches(ROWS_AT_ONCE, [group], columns, use_threads=False):
                    yield from part.to_pylist()
    except (pa.ArrowException, OSError) as error:
        raise AttributionInputError(
            f"{file.name} is damaged or not a parquet file ({' '.join(str(error).split())[:120]}): write it again"
        ) from error


def _check_columns(found: list[Any], needed: tuple[str, ...], where: str) -> None:
    missing = [name for name in needed if name not in found]
    if missing:
        raise AttributionInputError(
            f"{where} has no {missing[0]!r}; it has {some([str(name) for name in found])}: needed are "
            f"{some(list(needed))}, and 'label' where there are labels"
        )


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise AttributionInputError("it has no text")
    if len(value) > MAX_TEXT:
        raise AttributionInputError(f"the text has {len(value):,} characters, {MAX_TEXT:,} are allowed")
    return value


def _label(value: Any) -> str | None:
    return None if value is None or value != value or str(value) == "" else str(value)


def _image(value: Any, max_pixels: int) -> Image:
    """Decoded, upright, RGB.

    Raises:
        AttributionInputError: it cannot be decoded, or is too large.
    """
    import PIL.Image

    if isinstance(value, PIL.Image.Image):
        _check_pixels(value, max_pixels)
        return _upright(value)
    opened = _opened(value)
    try:
        with PIL.Image.open(opened, formats=FORMATS) as image:
            _check_pixels(image, max_pixels)
            return _upright(image)
    except AttributionInputError:
        raise
    except PIL.Image.DecompressionBombError as error:
        raise AttributionInputError(f"the image has far more than {max_pixels / 1e6:.3g} megapixels") from error
    except FileNotFoundError as error:
        raise AttributionInputError("there is no such file") from error
    # Pillow's readers raise all of these on damaged files.
    except (OSError, ValueError, SyntaxError, EOFError, TypeError, IndexError, KeyError, OverflowError) as error:
        raise AttributionInputError(f"it is damaged or not an image of {', '.join(FORMATS)}") from error


def _opened(value: Any) -> io.BytesIO | Path:
    """What Pillow can open: a checked path, or encoded bytes; `datasets` writes those as {"bytes", "path"}."""
    if isinstance(value, Path):
        if value.is_file() and value.stat().st_size > MAX_BYTES:
            raise AttributionInputError(f"the file has more than {MAX_BYTES / 2**20:.0f} MiB")
        return value
    encoded = value.get("bytes") if isinstance(value, Mapping) else value
    if not isinstance(encoded, bytes | bytearray | memoryview):
        raise AttributionInputError(
            f"the image is a {type(value).__name__} without bytes: give encoded bytes, or an image of Pillow"
        )
    if len(encoded) > MAX_BYTES:
        raise AttributionInputError(f"the image has more than {MAX_BYTES / 2**20:.0f} MiB")
    return io.BytesIO(encoded)


def _check_pixels(image: Image, limit: int) -> None:
    width, height = image.size
    if width * height > limit:
        raise AttributionInputError(
            f"the image is {width}x{height} = {width * height / 1e6:.3g} megapixels, limit {limit / 1e6:.3g}"
        )
    if width == 0 or height == 0:
        raise AttributionInputError("the image has no pixels")


def _upright(image: Image) -> Image:
    from PIL import ImageOps

    return ImageOps.exif_transpose(image).convert("RGB")
