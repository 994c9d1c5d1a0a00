"""Files that are hostile until checked: what they say they hold is checked before it is unpacked, and while it is."""

from __future__ import annotations

import lzma
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING

import numpy as np

from .errors import AttributionInputError

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa
    import pyarrow.parquet as pq

MAX_FILE_BYTES = 200 * 2**20
MAX_COLUMNS = 20_000
MAX_ROWS = 2_000_000
MAX_FILE_VALUES = 64_000_000  # of all columns that are used; 512 MB unpacked
MAX_TEXT_BYTES = 1000
VALUES_PER_PIECE = 1_000_000
TARGET_NAMES = ("y", "target", "label")
EXPECTED = {
    ".npz": "an npz holds three arrays, two streams and one named y, target or label",
    ".parquet": "a parquet has stream columns and a target column, of numbers or texts",
    ".csv": "a csv has a header row, commas between columns, and UTF-8 text",
}

Tell = Callable[[float, str], None]


def check_file(path: Path) -> None:
    """Refuse what is missing, of another kind or too large, before a byte of it is read."""
    if not path.is_file():
        raise AttributionInputError(f"there is no file {path.name}")
    if path.suffix.lower() not in EXPECTED:
        raise AttributionInputError(f"{path.name} is not one of {', '.join(EXPECTED)}")
    size = path.stat().st_size
    if size > MAX_FILE_BYTES:
        raise AttributionInputError(
            f"{path.name} is {size / 2**20:,.0f} MB, limit {MAX_FILE_BYTES / 2**20:.0f} MB: use fewer rows or columns, "
            "or count shards with PIDAttributionPipeline.count and merge them"
        )


def check_size(rows: int, columns: int, most: int = MAX_FILE_VALUES) -> None:
    """Refuse a table that is too long, too wide or has more than `most` values."""
    if columns > MAX_COLUMNS:
        raise AttributionInputError(f"{columns:,} columns, limit {MAX_COLUMNS:,}: pool or project the features first")
    if rows > MAX_ROWS:
        raise AttributionInputError(
            f"more than {MAX_ROWS:,} rows: count shards with PIDAttributionPipeline.count and merge them"
        )
    if rows * columns > most:
        raise AttributionInputError(
            f"{rows:,} rows of {columns:,} columns are {rows * columns:,} values, limit {most:,}: "
            "use fewer rows or columns"
        )


def npz_names(path: Path) -> tuple[str, str, str]:
    """The names of the two streams and the target, once every array's header has been checked."""
    with _as_input_error(path), zipfile.ZipFile(path) as archive:
        return _order(_npz_members(path, archive))


def read_npz(path: Path) -> tuple[tuple[str, str], list[np.ndarray]]:
    """The names of the two streams, and the arrays: stream 1, stream 2, target."""
    # Not numpy.load: it goes by the first bytes and may take the same file for something that was not checked.
    with _as_input_error(path), zipfile.ZipFile(path) as archive:
        members = _npz_members(path, archive)
        first, second, target = _order(members)
        arrays = []
        for name in (first, second, target):
            with archive.open(members[name]) as file:
                arrays.append(np.lib.format.read_array(file, allow_pickle=False))
    return (first, second), arrays


def _order(members: dict[str, zipfile.ZipInfo]) -> tuple[str, str, str]:
    target = next(name for name in members if name.lower() in TARGET_NAMES)
    first, second = (name for name in members if name != target)
    return first, second, target


def _npz_members(path: Path, archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
    names = list(members)
    targets = [name for name in names if name.lower() in TARGET_NAMES]
    if len(archive.infolist()) != 3 or len(names) != 3 or len(targets) != 1:
        raise AttributionInputError(
            f"{path.name} holds the arrays {some(names)}: it needs three, two streams and one named y, target or label"
        )
    unpacked = 0
    for name, info in members.items():
        with archive.open(info) as file:
            unpacked += _check_npy(name, info, file)
    if unpacked > 8 * MAX_FILE_VALUES:
        raise AttributionInputError(
            f"{path.name} unpacks to {unpacked / 2**20:,.0f} MB, limit {8 * MAX_FILE_VALUES / 2**20:,.0f} MB: "
            "use fewer rows or columns, or count shards with PIDAttributionPipeline.count and merge them"
        )
    return members


def _check_npy(name: str, info: zipfile.ZipInfo, file: IO[bytes]) -> int:
    """Read an array's header only: its type must hold no objects, its size must be what the archive says and small.

    Returns:
        The bytes that it unpacks to.
    """
    version = np.lib.format.read_magic(file)
    read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read_header(file)
    if dtype.hasobject:
        raise AttributionInputError(
            f"array {name} holds pickled objects, which are never loaded: save plain numbers or strings"
        )
    if len(shape) not in (1, 2):
        raise AttributionInputError(f"array {name} has shape {shape}: give [n] or [n, columns]")
    check_size(shape[0], shape[1] if len(shape) == 2 else 1)
    size = int(np.prod(shape)) * dtype.itemsize
    if abs(info.file_size - size) > 65536:
        raise AttributionInputError(
            f"array {name} says it holds {size:,} bytes and unpacks to {info.file_size:,}: "
            "the file is damaged or hostile"
        )
    return size


def header(path: Path) -> list[str]:
    """Column names of a csv or parquet, after a look at its size; each occurs once."""
    import pandas as pd
    import pyarrow.parquet as pq

    with _as_input_error(path):
        if path.suffix.lower() == ".parquet":
            with pq.ParquetFile(path) as file:
                names = [str(name) for name in file.schema_arrow.names]
                check_size(file.metadata.num_rows, len(names), most=MAX_ROWS * MAX_COLUMNS)
            written = names
        else:
            with path.open("rb") as raw:
                check_size(0, raw.readline(2**22).count(b",") + 1)
            start = pd.read_csv(path, compression=None, nrows=1)
            if not isinstance(start.index, pd.RangeIndex):
                raise AttributionInputError("the first row has more values than the header has names: name each column")
            names = [str(name) for name in start.columns]
            # As written: pandas renames a repeated column "a" to "a.1".
            first = pd.read_csv(path, compression=None, nrows=1, header=None, dtype=str, keep_default_na=False)
            written = [name for name in first.iloc[0] if name]
    repeated = next((name for name, times in Counter(written).items() if times > 1), None)
    if repeated is not None:
        raise AttributionInputError(f"two columns are called {repeated!r}: each needs a name of its own, rename one")
    return names


def read_columns(path: Path, columns: list[str], tell: Tell) -> pd.DataFrame:
    """Some columns of a csv or parquet, in pieces of about a million values."""
    import pandas as pd

    parts: list[pd.DataFrame] = []
    read = 0
    parquet = path.suffix.lower() == ".parquet"
    pieces = _parquet_pieces(path, columns) if parquet else _csv_pieces(path, columns)
    while (part := _next(path, pieces)) is not None:
        parts.append(part)
        read += len(part)
        check_size(read, len(columns))
        tell(0.0, "reading")
    frame = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=columns)
    if not parquet:
        with _as_input_error(path):
            _read_text_as_text(path, frame, parts)
    return frame


def _next(path: Path, pieces: Generator[pd.DataFrame]) -> pd.DataFrame | None:
    with _as_input_error(path):  # around the reading only: what a callback raises is not the file's fault
        return next(pieces, None)


def _csv_pieces(path: Path, columns: list[str]) -> Generator[pd.DataFrame]:
    import pandas as pd

    rows = max(1, VALUES_PER_PIECE // len(pd.read_csv(path, compression=None, nrows=0).columns))
    # All columns: with usecols pandas lets rows of too many values pass.
    with pd.read_csv(path, compression=None, low_memory=False, chunksize=rows) as pieces:
        for piece in pieces:
            yield piece[columns].copy()


def _read_text_as_text(path: Path, frame: pd.DataFrame, parts: list[pd.DataFrame]) -> None:
    """Where some pieces of a column looked like numbers and others not, read all of it again: "01" is not "1"."""
    import pandas as pd

    for name in frame.columns:
        kinds = {part[name].dtype.kind in "biuf" for part in parts}
        if len(kinds) > 1:
            frame[name] = pd.read_csv(path, compression=None, usecols=[name], dtype=str)[name]


def _parquet_pieces(path: Path, columns: list[str]) -> Generator[pd.DataFrame]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        _check_parquet(file, columns)
        types = {name: file.schema_arrow.field(name).type for name in columns}
    texts = [name for name, kind in types.items() if _is_text(kind)]
    # As dictionaries a text that fills the column takes its space once, not once a row.
    with pq.ParquetFile(path, read_dictionary=texts) as file:
        for batch in file.iter_batches(max(1, VALUES_PER_PIECE // len(columns)), columns=columns):
            for name in texts:
                _check_texts(name, batch.column(name))
            part = pa.Table.from_batches([batch]).to_pandas()
            yield part.astype(dict.fromkeys(texts, object))


def _check_parquet(file: pq.ParquetFile, columns: list[str]) -> None:
    import pyarrow as pa

    metadata = file.metadata
    check_size(metadata.num_rows, len(columns))
    for name in columns:
        if pa.types.is_nested(file.schema_arrow.field(name).type):
            raise AttributionInputError(
                f"column {name} holds {file.schema_arrow.field(name).type}: each cell is one number or one text; "
                "write lists as columns stream.1, stream.2, ..."
            )
    unpacked = 0
    for group in range(metadata.num_row_groups):
        for index in range(metadata.num_columns):
            chunk = metadata.row_group(group).column(index)
            unpacked += chunk.total_uncompressed_size if chunk.path_in_schema in columns else 0
    if unpacked > 8 * MAX_FILE_VALUES:
        raise AttributionInputError(
            f"the columns unpack to {unpacked / 2**20:,.0f} MB, limit {8 * MAX_FILE_VALUES / 2**20:,.0f} MB: "
            "use fewer rows or columns"
        )


def _is_text(kind: pa.DataType) -> bool:
    import pyarrow as pa

    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    checks = (pa.types.is_string, pa.types.is_large_string, pa.types.is_binary, pa.types.is_large_binary)
    return any(check(kind) for check in checks)


def _check_texts(name: str, column: pa.Array) -> None:
    import pyarrow as pa
    import pyarrow.compute as pc

    values = column.dictionary if isinstance(column, pa.DictionaryArray) else column
    lengths = pc.call_function("binary_length", [values])
    longest = pc.call_function("max", [lengths]).as_py() or 0
    if longest > MAX_TEXT_BYTES:
        raise AttributionInputError(
            f"column {name} holds a text of {longest:,} bytes, limit {MAX_TEXT_BYTES:,}: a stream is numbers or the "
            "names of categories"
        )


@contextmanager
def _as_input_error(path: Path) -> Generator[None]:
    """Whatever a reader finds wrong with a file, as our error with the first line of its reason."""
    import pyarrow as pa

    try:
        yield
    except AttributionInputError:
        raise
    except (
        zipfile.BadZipFile,
        zlib.error,
        lzma.LZMAError,
        pa.ArrowException,
        ValueError,
        TypeError,
        LookupError,
        OSError,
        EOFError,
        OverflowError,
        MemoryError,
        NotImplementedError,
        RuntimeError,
    ) as error:
        reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        suffix = path.suffix.lower()
        raise AttributionInputError(
            f"{path.name} cannot be read as {suffix[1:]} ({reason}): {EXPECTED[suffix]}"
        ) from error


def some(names: list[str]) -> str:
    """The first few names, quoted."""
    shown = ", ".join(repr(name[:40]) for name in names[:8])
    return shown + (f" and {len(names) - 8:,} more" if len(names) > 8 else "") if names else "none"
