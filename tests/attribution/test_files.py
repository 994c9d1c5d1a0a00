"""Bad files: each kind is refused with a sentence that says what is allowed, before it costs memory."""

from __future__ import annotations

import io
import os
import zipfile
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from plugins.attribution import AttributionInputError
from plugins.attribution.files import MAX_FILE_VALUES
from plugins.attribution.inputs import look_at, read_streams
from tests.attribution.memory import MEGABYTE, memory_under

N = 60
RNG = np.random.default_rng(0)
X1, X2, Y = RNG.standard_normal((N, 2)), RNG.standard_normal(N), np.arange(N) % 3


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def csv_of(*rows: str, header: str = "a,b,y", repeat: int = 20) -> str:
    return "\n".join([header, *(rows * repeat)]) + "\n"


@pytest.mark.parametrize("suffix", ["npz", "csv", "parquet"])
def test_an_empty_file_is_refused_with_what_it_should_hold(suffix: str, tmp_path: Path) -> None:
    with pytest.raises(AttributionInputError, match=rf"cannot be read as {suffix} .*: an? {suffix} h?a?"):
        read_streams(write(tmp_path / f"data.{suffix}", b""))


@pytest.mark.parametrize("suffix", ["npz", "csv", "parquet"])
def test_an_upload_of_five_gigabytes_is_refused_unread(suffix: str, tmp_path: Path) -> None:
    path = write(tmp_path / f"data.{suffix}", b"")
    os.truncate(path, 5 * 2**30)
    with memory_under(5), pytest.raises(AttributionInputError, match=r"5,120 MB, limit 200 MB: use fewer rows"):
        read_streams(path)


def test_files_of_another_kind_or_missing_are_refused(tmp_path: Path) -> None:
    with pytest.raises(AttributionInputError, match=r"data\.pkl is not one of \.npz, \.parquet, \.csv"):
        read_streams(write(tmp_path / "data.pkl", b"x"))
    with pytest.raises(AttributionInputError, match=r"there is no file gone\.csv"):
        read_streams(tmp_path / "gone.csv")
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(AttributionInputError, match="there is no file"):
        read_streams(tmp_path / "folder.csv")


@pytest.mark.parametrize("suffix", ["npz", "parquet"])
def test_damaged_files_are_read_or_refused_but_never_break(suffix: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    path = tmp_path / f"data.{suffix}"
    if suffix == "npz":
        np.savez_compressed(path, a=X1, b=X2, y=Y)
    else:
        pd.DataFrame({"a": X2, "b": X2, "y": Y}).to_parquet(path)
    whole, refused = path.read_bytes(), 0
    for case in range(150):
        broken = bytearray(whole)
        for position in rng.integers(len(whole), size=3):
            broken[position] = rng.integers(256)
        path.write_bytes(broken[: rng.integers(len(whole))] if case % 3 == 0 else broken)
        try:
            read_streams(path)
        except AttributionInputError:
            refused += 1
    assert refused >= 50


def test_a_callback_is_called_while_reading_and_its_error_passes(tmp_path: Path) -> None:
    def stop(fraction: float, message: str) -> None:
        raise RuntimeError("stopped")

    path = write(tmp_path / "data.csv", csv_of("1,2,0", "3,4,1"))
    with pytest.raises(RuntimeError, match="stopped"):
        read_streams(path, callback=stop)


# npz


def zipped(path: Path, entries: dict[str, Iterable[bytes]]) -> Path:
    """An npz of raw entries, compressed."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, chunks in entries.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                for chunk in chunks:
                    file.write(chunk)
    return path


def npy(shape: tuple[int, ...], descr: str = "<f8") -> bytes:
    """The header of an array."""
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": descr, "fortran_order": False, "shape": shape})
    return buffer.getvalue()


def small(n: int) -> dict[str, Iterable[bytes]]:
    target = (np.arange(n) % 2).astype("<i8")
    return {"b": [npy((n,)), bytes(8 * n)], "y": [npy((n,), "<i8"), target.tobytes()]}


def test_an_npz_comes_back_as_it_was_written(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "data.npz", thermal=X1, label=Y, colour=X2)
    streams = read_streams(tmp_path / "data.npz")
    assert streams.names == ("thermal", "colour")
    assert np.array_equal(streams.x1, X1)
    assert np.array_equal(streams.x2[:, 0], X2)
    assert np.array_equal(streams.y, Y)
    assert look_at(tmp_path / "data.npz").streams == ("thermal", "colour")


def test_a_highly_compressed_huge_array_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    rows = 10_000
    entries = {"a": [npy((rows, 7_000)), *[bytes(MEGABYTE)] * (rows * 7_000 * 8 // MEGABYTE + 1)], **small(rows)}
    path = zipped(tmp_path / "bomb.npz", entries)
    assert path.stat().st_size < MEGABYTE
    with memory_under(20), pytest.raises(AttributionInputError, match=f"70,000,000 values, limit {MAX_FILE_VALUES:,}"):
        read_streams(path)


def test_arrays_that_are_huge_only_together_or_by_their_type_are_refused(tmp_path: Path) -> None:
    rows = 10_000
    half = [npy((rows, 4_000)), *[bytes(MEGABYTE)] * 305, bytes(rows * 4_000 * 8 - 305 * MEGABYTE)]
    path = zipped(tmp_path / "two.npz", {**small(rows), "a": half, "b": half})
    with memory_under(20), pytest.raises(AttributionInputError, match=r"unpacks to 610 MB, limit 488 MB"):
        read_streams(path)
    texts = [npy((600,), "|S1000000"), *[bytes(MEGABYTE)] * 572, bytes(600_000_000 - 572 * MEGABYTE)]
    path = zipped(tmp_path / "texts.npz", {"a": texts, **small(600)})
    with memory_under(20), pytest.raises(AttributionInputError, match=r"unpacks to 572 MB, limit 488 MB"):
        read_streams(path)


@pytest.mark.parametrize(
    ("shape", "megabytes", "reason"),
    [
        ((100, 3), 300, r"says it holds 2,400 bytes and unpacks to 314,\d+,\d+: the file is damaged or hostile"),
        ((50_000, 1_000), 1, r"says it holds 400,000,000 bytes and unpacks to 1,\d+,\d+"),
        ((10**6, 10**6), 1, r"1,000,000 columns, limit 20,000"),
        ((10**12,), 1, r"more than 2,000,000 rows"),
        ((-100, 3), 0, r"cannot be read as npz"),
        ((2, 2, 2), 0, r"has shape \(2, 2, 2\): give \[n\] or \[n, columns\]"),
    ],
)
def test_a_header_that_lies_is_refused(shape: tuple[int, ...], megabytes: int, reason: str, tmp_path: Path) -> None:
    path = zipped(tmp_path / "liar.npz", {"a": [npy(shape), *[bytes(MEGABYTE)] * megabytes], **small(100)})
    with memory_under(20), pytest.raises(AttributionInputError, match=reason):
        read_streams(path)


def test_a_directory_of_the_archive_that_lies_gets_no_more_than_it_says(tmp_path: Path) -> None:
    """The entry unpacks to 64 MB, header and directory both say a few kilobytes."""
    path = zipped(tmp_path / "liar.npz", {"a": [npy((100, 3)), *[bytes(MEGABYTE)] * 64], **small(100)})
    with zipfile.ZipFile(path) as archive:
        real = archive.getinfo("a.npy").file_size
    content = path.read_bytes()
    lying = content.replace(real.to_bytes(8, "little"), (2528).to_bytes(8, "little"))
    lying = lying.replace(real.to_bytes(4, "little"), (2528).to_bytes(4, "little"))
    assert lying != content
    with memory_under(20), suppress(AttributionInputError):
        assert read_streams(write(path, lying)).x1.shape == (100, 3)


def test_pickled_objects_are_refused_and_never_run(tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple:
            return (Path.touch, (tmp_path / "ran",))

    objects = np.empty(N, dtype=object)
    objects[:] = [Bomb() for _ in range(N)]
    np.savez(tmp_path / "data.npz", a=objects, b=X2, y=Y)
    with pytest.raises(AttributionInputError, match="holds pickled objects, which are never loaded: save plain"):
        read_streams(tmp_path / "data.npz")
    assert not (tmp_path / "ran").exists()


def test_an_npz_of_other_than_three_arrays_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "data.npz"
    for arrays in ({"a": X1, "y": Y}, {"a": X1, "b": X2, "c": X2, "y": Y}, {"a": X1, "b": X2, "c": Y}):
        np.savez(path, allow_pickle=False, **arrays)
        with pytest.raises(AttributionInputError, match="it needs three, two streams and one named y, target or label"):
            read_streams(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "hello")
    with pytest.raises(AttributionInputError, match=r"holds the arrays 'readme\.txt'"):
        read_streams(path)


def test_a_file_that_is_two_things_at_once_is_read_as_what_was_checked(tmp_path: Path) -> None:
    np.savez(tmp_path / "good.npz", a=X1, b=X2, y=Y)
    front = io.BytesIO()
    np.save(front, np.zeros((5, 5)))
    path = write(tmp_path / "both.npz", front.getvalue() + (tmp_path / "good.npz").read_bytes())
    assert np.array_equal(read_streams(path).x1, X1)


# csv


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (
            csv_of("1,2,0", "3,oops,1", "4,4,1"),
            r"column b holds text where numbers belong: 'oops' in row 2 and 19 more",
        ),
        (
            csv_of("1,2,3,0", "u,4,5,1", header="s.1,s.2,t,y"),
            r"column s\.1 holds text where numbers belong: 'u' in row",
        ),
        (csv_of("1,,0", "3,4,1"), r"b has 20 missing or infinite values, the first in row 1"),
        (csv_of("1,2,", "3,4,1", "3,4,0"), r"the target has missing or infinite values: drop those rows"),
        (csv_of("1,2,0", "1,3,1", header="a,a,y"), r"two columns are called 'a': each needs a name of its own"),
        (csv_of("1,2,0,1", "1,3,1,0"), r"the first row has more values than the header has names"),
        (csv_of("1,2,0") + "1,2,3,4,5\n", r"cannot be read as csv .*: a csv has a header row"),
        (csv_of("1;2;0", header="a;b;y"), r"no target column: name it y, target or label"),
        (csv_of("1,2,3,4", "4,5,6,7", header="a,b,c,d"), r"no target column"),
        (csv_of("1,2,3,0", header="a,b,c,y"), r"the columns name 3 streams \('a', 'b', 'c'\), two are needed"),
        ("a,b,y\n", r"one class only \(no examples\)"),
        (b"\0" * 1000, r"no target column"),
        (RNG.bytes(5000), r"cannot be read as csv"),
        ("é,b,y\n1,2,ü\n".encode("latin-1") * 30, r"cannot be read as csv .*UTF-8 text"),
        (csv_of("1,2,0", "1,3,1").encode("utf-16"), r"cannot be read as csv .*UTF-8 text"),
        (csv_of(f"{'z' * 300},2,0", "b,3,1"), r"a has a text of 300 characters in row 1"),
        (csv_of("0.5,2,0.25", *(f"1,2,{i / 7}" for i in range(60)), repeat=1), r"bin a continuous target first"),
    ],
)
def test_bad_csv_is_refused_with_what_is_allowed(content: str | bytes, reason: str, tmp_path: Path) -> None:
    with pytest.raises(AttributionInputError, match=reason):
        read_streams(write(tmp_path / "data.csv", content))


def test_a_csv_of_fifty_thousand_columns_is_refused_from_its_header(tmp_path: Path) -> None:
    names = ",".join([*(f"a.{i}" for i in range(25_000)), *(f"b.{i}" for i in range(25_000)), "y"])
    path = write(tmp_path / "wide.csv", names + "\n" + ("1," * 50_000 + "1\n") * 3)
    with memory_under(20), pytest.raises(AttributionInputError, match=r"50,001 columns, limit 20,000"):
        read_streams(path)


def test_streams_of_a_csv_are_told_by_their_names(tmp_path: Path) -> None:
    path = write(tmp_path / "data.csv", csv_of("1,5,2,no", "3,6,4,yes", header="thermal.1,colour,thermal.2,label"))
    streams = read_streams(path)
    assert streams.names == ("thermal", "colour")
    assert streams.x1[:2].tolist() == [[1, 2], [3, 4]]
    assert streams.y[:2].tolist() == ["no", "yes"]
    assert look_at(path).target == "label"


def test_columns_can_be_chosen_and_others_are_not_read(tmp_path: Path) -> None:
    path = write(tmp_path / "data.csv", csv_of("7,1,x,0", "8,2,?,1", header="a,b,note,kind"))
    streams = read_streams(path, stream_1=["b"], stream_2=["a"], target="kind")
    assert (streams.x1[0, 0], streams.x2[0, 0]) == (1, 7)
    assert "no target column" in look_at(path).problem
    for stream_2, reason in (
        (None, "for one stream only"),
        (["b"], "in two places"),
        (["kind"], "in two places"),
        (["gone"], "there is no column 'gone'; the columns are 'a'"),
    ):
        with pytest.raises(AttributionInputError, match=reason):
            read_streams(path, stream_1=["b"], stream_2=stream_2, target="kind")


def test_labels_that_look_like_numbers_in_one_part_of_a_csv_stay_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("plugins.attribution.files.VALUES_PER_PIECE", 30)  # ten rows at a time
    path = write(tmp_path / "data.csv", csv_of(*["1,2,01"] * 30, *["1,2,x"] * 30, repeat=1))
    assert sorted(set(read_streams(path).y.tolist())) == ["01", "x"]


# parquet


def parquet(path: Path, columns: dict, **kwargs) -> Path:
    pq.write_table(pa.table(columns), path, **kwargs)
    return path


def test_a_parquet_comes_back_as_it_was_written(tmp_path: Path) -> None:
    columns = {"a.1": X2, "a.2": X2 * 2, "b": ["u", "v", "w"] * 20, "y": pa.array(["p", "q"] * 30).dictionary_encode()}
    streams = read_streams(parquet(tmp_path / "data.parquet", columns))
    assert streams.names == ("a", "b")
    np.testing.assert_array_equal(streams.x1, np.stack([X2, X2 * 2], axis=1))
    assert streams.categories == (None, ("u", "v", "w"))
    assert streams.y[:2].tolist() == ["p", "q"]


@pytest.mark.parametrize(
    ("columns", "reason"),
    [
        (
            {"a": [[1.0, 2.0]] * 40, "b": [1.0] * 40, "y": [0, 1] * 20},
            r"column a holds list.*: each cell is one number",
        ),
        ({"a": [{"k": 1}] * 40, "b": [1.0] * 40, "y": [0, 1] * 20}, r"column a holds struct"),
        ({"a": pa.array([1, None] * 20), "b": [1.0] * 40, "y": [0, 1] * 20}, r"a has 20 missing or infinite values"),
        ({"a": pa.array([1] * 40, pa.timestamp("s")), "b": [1.0] * 40, "y": [0, 1] * 20}, r"column a holds times"),
        ({"a": [1.0] * 40, "b": [1.0] * 40, "y": pa.array(["u", None] * 20)}, r"the target has missing values"),
    ],
)
def test_bad_parquet_is_refused_with_what_is_allowed(columns: dict, reason: str, tmp_path: Path) -> None:
    with pytest.raises(AttributionInputError, match=reason):
        read_streams(parquet(tmp_path / "data.parquet", columns))


def test_parquet_columns_of_one_name_are_refused(tmp_path: Path) -> None:
    table = pa.table([pa.array(X2), pa.array(X2), pa.array(Y)], names=["a", "a", "y"])
    pq.write_table(table, tmp_path / "data.parquet")
    with pytest.raises(AttributionInputError, match="two columns are called 'a'"):
        read_streams(tmp_path / "data.parquet")


def test_a_parquet_that_declares_too_many_rows_or_values_is_refused_unread(tmp_path: Path) -> None:
    zeros = np.zeros(2_000_001, dtype=np.int8)
    path = parquet(tmp_path / "rows.parquet", dict.fromkeys("aby", zeros))
    assert path.stat().st_size < MEGABYTE
    with memory_under(20), pytest.raises(AttributionInputError, match="more than 2,000,000 rows"):
        read_streams(path)
    zeros = np.zeros(1_000_000, dtype=np.int8)
    columns = {f"{stream}.{i}": zeros for stream in "ab" for i in range(35)} | {"y": zeros}
    path = parquet(tmp_path / "values.parquet", columns)
    assert path.stat().st_size < MEGABYTE
    with memory_under(20), pytest.raises(AttributionInputError, match=r"71,000,000 values, limit 64,000,000"):
        read_streams(path)


def test_one_long_text_repeated_on_every_row_does_not_fill_the_memory(tmp_path: Path) -> None:
    text = pa.DictionaryArray.from_arrays(pa.array([0] * 5000, pa.int32()), pa.array(["x" * MEGABYTE]))
    columns = {"a": text, "b": np.zeros(5000), "y": np.arange(5000) % 2}
    path = parquet(tmp_path / "bomb.parquet", columns, store_schema=False)
    assert path.stat().st_size < MEGABYTE  # and five gigabytes, were each row to have its own
    with memory_under(50), pytest.raises(AttributionInputError, match=r"a text of 1,048,576 bytes, limit 1,000"):
        read_streams(path)


def test_parquet_columns_that_unpack_to_too_much_are_refused_unread(tmp_path: Path) -> None:
    plain = {"use_dictionary": False, "compression": "zstd", "store_schema": False}
    texts = pa.array(["x" * 900] * 600_000)
    columns = {"a": texts, "b": np.zeros(600_000, np.int8), "y": np.zeros(600_000, np.int8)}
    path = parquet(tmp_path / "bomb.parquet", columns, **plain)
    del texts, columns
    assert path.stat().st_size < MEGABYTE
    with memory_under(20), pytest.raises(AttributionInputError, match=r"unpack to 5\d\d MB, limit 488 MB"):
        read_streams(path)
