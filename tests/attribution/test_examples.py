"""Images with texts and labels from folders, parquet files and data sets."""

from __future__ import annotations

import csv
import io
import json
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from plugins.attribution.errors import AttributionInputError
from plugins.attribution.examples import Example, Skipped, read_examples
from tests.attribution.memory import memory_under

ROWS = [("a.png", "what colour", "red"), ("b.png", "what shape", "blue")]


def picture(side: int = 8, colour: tuple[int, int, int] = (255, 0, 0)) -> Image.Image:
    return Image.new("RGB", (side, side), colour)


def encoded(image: Image.Image, form: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def folder_of(path: Path, kind: str, rows: list[tuple[str, str, str]] | None = None) -> Path:
    """A folder as `datasets` lays one out: images and a file of metadata."""
    rows = ROWS if rows is None else rows
    for name in ("a.png", "b.png"):
        picture().save(path / name)
    records = [{"file_name": name, "text": text, "label": label} for name, text, label in rows]
    if kind == "csv":
        with (path / "metadata.csv").open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, ["file_name", "text", "label"])
            writer.writeheader()
            writer.writerows(records)
    elif kind == "jsonl":
        (path / "metadata.jsonl").write_text("\n".join(json.dumps(each) for each in records), encoding="utf-8")
    else:
        pq.write_table(pa.Table.from_pylist(records), path / "metadata.parquet")
    return path


def all_of(source: Any, **options: Any) -> list[Example | Skipped]:
    return list(read_examples(source, **options))


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_a_folder_with_metadata_gives_its_examples_in_order(tmp_path: Path, kind: str) -> None:
    found = all_of(folder_of(tmp_path, kind))
    assert [(each.name, each.text, each.label) for each in found if isinstance(each, Example)] == ROWS
    assert all(isinstance(each, Example) and each.image and each.image.size == (8, 8) for each in found)


@pytest.mark.parametrize(
    "name", ["../outside.png", "/etc/hostname", "sub/../../outside.png", "link.png", "", "a\0.png"]
)
def test_a_file_name_that_leaves_the_folder_is_refused(tmp_path: Path, name: str) -> None:
    picture().save(tmp_path / "outside.png")
    inside = tmp_path / "data"
    inside.mkdir()
    (inside / "link.png").symlink_to(tmp_path / "outside.png")
    folder_of(inside, "jsonl", [(name, "what", "red")])
    with pytest.raises(AttributionInputError, match="is not inside data"):
        all_of(inside)


@pytest.mark.parametrize("form", ["bytes", "struct"])
def test_a_parquet_file_gives_its_images_as_bytes_or_as_datasets_writes_them(tmp_path: Path, form: str) -> None:
    data = encoded(picture())
    images = [data if form == "bytes" else {"bytes": data, "path": f"far/{i}.png"} for i in range(3)]
    table = pa.table({"image": images, "text": ["a", "b", "c"], "label": [0, 1, None], "other": [1, 2, 3]})
    pq.write_table(table, tmp_path / "data.parquet", row_group_size=2)
    found = all_of(tmp_path / "data.parquet")
    names = ["0", "1", "2"] if form == "bytes" else ["0.png", "1.png", "2.png"]
    assert [(each.name, each.text, each.label) for each in found if isinstance(each, Example)] == list(
        zip(names, "abc", ["0", "1", None], strict=True)
    )


def test_a_large_parquet_file_is_read_piece_by_piece(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (128, 128, 3), dtype=np.uint8)
    data = encoded(Image.fromarray(noise))
    path = tmp_path / "large.parquet"
    schema = pa.schema({"image": pa.binary(), "text": pa.string()})
    with pq.ParquetWriter(path, schema, compression="none", use_dictionary=False) as writer:
        for _ in range(20):
            writer.write_table(pa.table({"image": [data] * 50, "text": ["what"] * 50}, schema))
    assert path.stat().st_size > 45 * 2**20
    with memory_under(20):
        assert sum(1 for _ in read_examples(path)) == 1000


def test_mappings_and_functions_that_return_them_are_read_as_they_are_needed() -> None:
    made: list[int] = []

    def rows() -> Iterator[dict[str, Any]]:
        for i in range(1000):
            made.append(i)
            yield {"image": picture(), "text": f"row {i}", "label": i % 2, "name": f"n{i}"}

    found = next(iter(read_examples(rows)))
    assert made == [0]
    assert isinstance(found, Example)
    assert (found.text, found.label, found.name) == ("row 0", "0", "n0")
    assert len(all_of(rows())) == 1000


def test_an_image_is_upright_and_rgb() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    wide = Image.new("L", (20, 10))
    (found,) = all_of([{"image": encoded(wide, "JPEG", exif=exif), "text": "what"}])
    assert isinstance(found, Example)
    assert found.image is not None
    assert (found.image.size, found.image.mode) == ((10, 20), "RGB")


def bomb() -> bytes:
    """A PNG whose header says 30,000 x 30,000."""
    header = struct.pack(">IIBBBBB", 30_000, 30_000, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(b"\0" * 99)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks
    )


@pytest.mark.parametrize(
    ("image", "reason"),
    [
        (encoded(picture(64))[:60], "damaged"),
        (b"", "damaged"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not an image of PNG"),
        (bomb(), "megapixels"),
        (encoded(picture(200)), "megapixels, limit 0.01"),
        (picture(200), "megapixels, limit 0.01"),
        ({"bytes": None, "path": "/etc/hostname"}, "without bytes"),
        ("/etc/hostname", "without bytes"),
        (None, "without bytes"),
    ],
)
def test_an_image_that_cannot_be_read_is_skipped_with_the_reason_and_the_rest_goes_on(image: Any, reason: str) -> None:
    rows = [{"image": image, "text": "what"}, {"image": picture(), "text": "what"}]
    first, second = all_of(rows, max_pixels=10_000)
    assert isinstance(first, Skipped)
    assert first.name == "0"
    assert reason in first.reason
    assert isinstance(second, Example)


def test_a_missing_file_and_a_missing_text_are_skipped(tmp_path: Path) -> None:
    rows = [("lost.png", "what", "red"), ("a.png", "", "red"), ("b.png", "what", "")]
    first, second, third = all_of(folder_of(tmp_path, "csv", rows))
    assert first == Skipped("lost.png", "there is no such file")
    assert second == Skipped("a.png", "it has no text")
    assert isinstance(third, Example)
    assert third.label is None


def broken(path: Path, what: str) -> Any:
    """Sources that cannot be read."""
    if what == "columns":
        (path / "metadata.csv").write_text("file_name,caption\na.png,what\n", encoding="utf-8")
        return path
    if what == "parquet columns":
        pq.write_table(pa.table({"picture": [b"x"], "text": ["a"]}), path / "data.parquet")
        return path / "data.parquet"
    if what == "parquet":
        (path / "data.parquet").write_bytes(b"PAR1 no")
        return path / "data.parquet"
    if what == "json":
        (path / "metadata.jsonl").write_text('{"file_name": "a.png"', encoding="utf-8")
        return path
    if what == "two files":
        folder_of(path, "csv")
        return folder_of(path, "jsonl")
    return {
        "nothing": path / "lost",
        "no metadata": path,
        "empty": [],
        "rows": [1],
        "mapping": {"image": 1},
        "number": 5,
        "keys": [{"image": picture(), "question": "what"}],
    }[what]


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("columns", r"metadata\.csv has no 'text'; it has 'file_name', 'caption'"),
        ("parquet columns", r"data\.parquet has no 'image'; it has 'picture', 'text'"),
        ("parquet", "damaged or not a parquet file"),
        ("json", r"line 1 of metadata\.jsonl is not JSON"),
        ("two files", "of which one is needed"),
        ("nothing", "neither a folder with"),
        ("no metadata", "none of metadata"),
        ("empty", "there are no examples"),
        ("rows", "row 0 is a int"),
        ("mapping", "examples are a dict"),
        ("number", "examples are a int"),
        ("keys", "row 0 has no 'text'"),
    ],
)
def test_a_source_that_cannot_be_read_is_refused_with_what_is_allowed(tmp_path: Path, what: str, message: str) -> None:
    source = broken(tmp_path, what)
    with pytest.raises(AttributionInputError, match=message):
        all_of(source)
