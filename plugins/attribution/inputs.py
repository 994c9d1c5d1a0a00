"""Two feature streams and a target, from arrays or from files that are hostile until checked."""

from __future__ import annotations

import zipfile
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from .errors import AttributionInputError

if TYPE_CHECKING:
    import pandas as pd

MAX_FILE_BYTES = 200 * 2**20
MAX_COLUMNS = 20_000
MAX_ROWS = 2_000_000
MAX_VALUES = 250_000_000  # rows times columns
MAX_CLASSES = 50
MAX_CATEGORIES = 50
MIN_EXAMPLES = 20
TARGET_NAMES = ("y", "target", "label")
SUFFIXES = (".npz", ".parquet", ".csv")


@dataclass(frozen=True)
class Streams:
    """Two feature streams and a target, checked.

    Attributes:
        x1: [n, d1], float64, finite. x2: [n, d2].
        y: [n], integers or strings, two classes or more.
        names: of the two streams.
    """

    x1: np.ndarray
    x2: np.ndarray
    y: np.ndarray
    names: tuple[str, str]


def check_streams(x1: Any, x2: Any, y: Any, names: tuple[str, str] = ("x1", "x2")) -> Streams:
    """Streams from arrays, tensors, lists, a `Streams`, or the path of a file.

    Raises:
        AttributionInputError: lengths that differ, values that are not finite numbers, too many or too few classes.
    """
    if isinstance(x1, str | Path):
        if x2 is not None or y is not None:
            raise AttributionInputError("give either a file or three arrays, not both")
        return read_streams(x1)
    if isinstance(x1, Streams):
        x1, x2, y, names = x1.x1, x1.x2, x1.y, x1.names
    if x2 is None or y is None:
        raise AttributionInputError("three things are needed: x1, x2 and the target y")
    first, second = _check_names(names)
    stream_1, stream_2, target = _stream(x1, first), _stream(x2, second), _target(y)
    sizes = {first: len(stream_1), second: len(stream_2), "the target": len(target)}
    if len(set(sizes.values())) > 1:
        raise AttributionInputError(
            "lengths differ: "
            + ", ".join(f"{name} has {size:,} rows" for name, size in sizes.items())
            + "; row i of each must be the same example"
        )
    if len(target) < MIN_EXAMPLES:
        raise AttributionInputError(f"{len(target)} examples are too few: give {MIN_EXAMPLES} or more")
    return Streams(stream_1, stream_2, target, (first, second))


def read_streams(
    path: str | Path,
    *,
    stream_1: list[str] | None = None,
    stream_2: list[str] | None = None,
    target: str | None = None,
) -> Streams:
    """Read a file.

    An npz holds three arrays: two streams and one named y, target or label. A csv or parquet has a target column of
    that name and stream columns named "stream.feature"; or exactly three columns, the target being y or the last.

    Args:
        stream_1, stream_2, target: columns of a csv or parquet, when their names do not say.
    """
    path = Path(path)
    check_file(path)
    if path.suffix.lower() == ".npz":
        return _from_npz(path)
    frame = _read_frame(path)
    layout = column_layout([str(name) for name in frame.columns], stream_1, stream_2, target)
    parts = [_numbers(frame, columns) for columns in layout.columns]
    return check_streams(parts[0], parts[1], frame[layout.target].to_numpy(), layout.names)


@dataclass(frozen=True)
class FileSummary:
    """What a file seems to hold, without its data.

    Attributes:
        columns: of a csv or parquet, in order; empty for npz.
        streams: a phrase for each stream. target: its name.
        problem: why it cannot be told, or "".
    """

    columns: tuple[str, ...] = ()
    streams: tuple[str, str] = ("", "")
    target: str = ""
    problem: str = ""


def look_at(path: str | Path) -> FileSummary:
    """Read a file's header only and say what its streams are; a csv or parquet that does not say gets a problem."""
    path = Path(path)
    check_file(path)
    if path.suffix.lower() == ".npz":
        first, second, target = _npz_names(path)
        return FileSummary(streams=(first, second), target=target)
    columns = _header(path)
    try:
        layout = column_layout(columns)
    except AttributionInputError as error:
        return FileSummary(columns=tuple(columns), problem=str(error))
    first, second = (
        f"{name}: {len(group)} column{'s' if len(group) > 1 else ''}"
        for name, group in zip(layout.names, layout.columns, strict=True)
    )
    return FileSummary(tuple(columns), (first, second), layout.target)


def check_file(path: Path) -> None:
    """Refuse what is missing, of another kind or too large, before a byte of it is read."""
    if not path.is_file():
        raise AttributionInputError(f"there is no file {path.name}")
    if path.suffix.lower() not in SUFFIXES:
        raise AttributionInputError(f"{path.name} is not one of {', '.join(SUFFIXES)}")
    size = path.stat().st_size
    if size > MAX_FILE_BYTES:
        raise AttributionInputError(
            f"{path.name} is {size / 2**20:,.0f} MB, limit {MAX_FILE_BYTES / 2**20:.0f} MB: use fewer rows or columns, "
            "or count shards with PIDAttributionPipeline.count and merge them"
        )


@dataclass(frozen=True)
class ColumnLayout:
    """Which columns are what. `columns`: of stream 1 and 2."""

    columns: tuple[list[str], list[str]]
    target: str
    names: tuple[str, str]


def column_layout(
    header: list[str],
    stream_1: list[str] | None = None,
    stream_2: list[str] | None = None,
    target: str | None = None,
) -> ColumnLayout:
    """Tell the streams and the target from the column names, or check the ones that are given."""
    _check_size(0, len(header))
    if len(set(header)) < len(header):
        raise AttributionInputError("two columns have the same name: rename one")
    found_target = target or next((name for name in header if name.lower() in TARGET_NAMES), None)
    if found_target is None and len(header) == 3:
        found_target = header[-1]
    missing = [n for n in [*(stream_1 or []), *(stream_2 or []), *filter(None, [target])] if n not in header]
    if missing:
        raise AttributionInputError(f"there is no column {missing[0]!r}; the columns are {_some(header)}")
    if found_target is None:
        raise AttributionInputError(
            f"no target column: name it y, target or label, or say which of {_some(header)} it is"
        )
    if stream_1 and stream_2:
        if found_target in stream_1 + stream_2 or set(stream_1) & set(stream_2):
            raise AttributionInputError("a column is in two places: the streams and the target share none")
        return ColumnLayout((stream_1, stream_2), found_target, (_title(stream_1, "x1"), _title(stream_2, "x2")))
    others = [name for name in header if name != found_target]
    if len(others) == 2:
        return ColumnLayout(([others[0]], [others[1]]), found_target, (others[0], others[1]))
    groups: dict[str, list[str]] = {}
    for name in others:
        groups.setdefault(name.split(".")[0], []).append(name)
    if len(groups) != 2:
        raise AttributionInputError(
            f"the columns name {len(groups)} streams ({_some(list(groups))}), two are needed: name columns "
            '"stream.feature", such as thermal.1, thermal.2, colour.1, or choose the columns of each stream'
        )
    first, second = groups
    return ColumnLayout((groups[first], groups[second]), found_target, (first, second))


def _from_npz(path: Path) -> Streams:
    first, second, target = _npz_names(path)
    with _as_input_error(path), np.load(path, allow_pickle=False) as arrays:
        return check_streams(arrays[first], arrays[second], arrays[target], (first, second))


def _npz_names(path: Path) -> tuple[str, str, str]:
    """The names of the two streams and the target, once every array's header has been checked."""
    with _as_input_error(path), zipfile.ZipFile(path) as archive:
        headers = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
        _check_names_of_arrays(path, list(headers))
        for name, info in headers.items():
            with archive.open(info) as file:
                _check_npy(name, info, file)
    target = next(name for name in headers if name.lower() in TARGET_NAMES)
    first, second = (name for name in headers if name != target)
    return first, second, target


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
        pa.ArrowException,
        ValueError,
        OSError,
        EOFError,
        OverflowError,
        NotImplementedError,
        RuntimeError,
    ) as error:
        reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise AttributionInputError(f"{path.name} cannot be read as {path.suffix[1:]} ({reason})") from error


def _check_names_of_arrays(path: Path, names: list[str]) -> None:
    targets = [name for name in names if name.lower() in TARGET_NAMES]
    if len(names) != 3 or len(targets) != 1:
        raise AttributionInputError(
            f"{path.name} holds the arrays {_some(names)}: it needs three, two streams and one named y, target or label"
        )


def _check_npy(name: str, info: zipfile.ZipInfo, file: IO[bytes]) -> None:
    """Read an array's header only: its type must hold no objects, its size must be what the archive says and small."""
    version = np.lib.format.read_magic(file)
    read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read_header(file)
    if dtype.hasobject:
        raise AttributionInputError(
            f"array {name} holds pickled objects, which are never loaded: save plain numbers or strings"
        )
    if len(shape) not in (1, 2):
        raise AttributionInputError(f"array {name} has shape {shape}: give [n] or [n, columns]")
    _check_size(shape[0], shape[1] if len(shape) == 2 else 1)
    size = int(np.prod(shape)) * dtype.itemsize
    if abs(info.file_size - size) > 65536 or size > 8 * MAX_VALUES:
        raise AttributionInputError(
            f"array {name} says it holds {size:,} bytes and unpacks to {info.file_size:,}: "
            "the file is damaged or hostile"
        )


def _read_frame(path: Path) -> pd.DataFrame:
    import pandas as pd
    import pyarrow.parquet as pq

    _header(path)
    with _as_input_error(path):
        if path.suffix.lower() == ".parquet":
            return pq.read_table(path).to_pandas()
        frame = pd.read_csv(path, compression=None, low_memory=False, nrows=MAX_ROWS + 1)
    _check_size(len(frame), frame.shape[1])
    return frame


def _header(path: Path) -> list[str]:
    """Column names of a csv or parquet, after a look at its size."""
    import pandas as pd
    import pyarrow.parquet as pq

    with _as_input_error(path):
        if path.suffix.lower() == ".parquet":
            with pq.ParquetFile(path) as file:
                _check_size(file.metadata.num_rows, len(file.schema_arrow.names))
                return [str(name) for name in file.schema_arrow.names]
        with path.open("rb") as file:
            _check_size(0, file.readline(2**22).count(b",") + 1)
        return [str(name) for name in pd.read_csv(path, compression=None, nrows=0).columns]


def _check_size(rows: int, columns: int) -> None:
    if columns > MAX_COLUMNS:
        raise AttributionInputError(f"{columns:,} columns, limit {MAX_COLUMNS:,}: pool or project the features first")
    if rows > MAX_ROWS:
        raise AttributionInputError(
            f"more than {MAX_ROWS:,} rows: count shards with PIDAttributionPipeline.count and merge them"
        )
    if rows * columns > MAX_VALUES:
        raise AttributionInputError(
            f"{rows:,} rows of {columns:,} columns are {rows * columns:,} values, limit {MAX_VALUES:,}: "
            "use fewer rows or columns"
        )


def _numbers(frame: pd.DataFrame, columns: list[str]) -> np.ndarray:
    """Stream columns as numbers, or one column of category names as it is."""
    import pandas as pd

    if len(columns) == 1 and not _mostly_numbers(frame[columns[0]]):
        return frame[columns[0]].to_numpy()
    parts = []
    for name in columns:
        column = frame[name]
        numbers = pd.to_numeric(column, errors="coerce")
        text = numbers.isna() & column.notna()
        if text.any():
            row = int(text.to_numpy().argmax())
            raise AttributionInputError(
                f"column {name} holds text where numbers belong: {str(column.iloc[row])[:40]!r} in row {row + 1}"
                + (f" and {int(text.sum()) - 1:,} more" if text.sum() > 1 else "")
                + ": correct or drop those rows; a stream of categories is one column of at most "
                f"{MAX_CATEGORIES} names"
            )
        parts.append(numbers.to_numpy(dtype=np.float64))
    return np.stack(parts, axis=1)


def _mostly_numbers(column: pd.Series) -> bool:
    import pandas as pd

    return bool(pd.to_numeric(column.dropna().head(1000), errors="coerce").notna().mean() >= 0.5)


def _stream(values: Any, name: str) -> np.ndarray:
    array = _as_array(values)
    if array.ndim == 1:
        array = array[:, None]
    if array.ndim != 2 or array.shape[1] == 0:
        raise AttributionInputError(f"{name} has shape {array.shape}: give [n] or [n, columns]")
    _check_size(*array.shape)
    if array.dtype.kind in "OUS":
        return _categories(array, name)
    if array.dtype.kind not in "biuf":
        raise AttributionInputError(f"{name} is of type {array.dtype}: give numbers, or one column of categories")
    array = array.astype(np.float64)
    bad = ~np.isfinite(array)
    if bad.any():
        row, column = np.argwhere(bad)[0]
        raise AttributionInputError(
            f"{name} has {int(bad.sum()):,} missing or infinite values, the first in row {row + 1}, "
            f"column {column + 1}: fill them in or drop those rows"
        )
    return array


def _categories(array: np.ndarray, name: str) -> np.ndarray:
    """One column of names as whole numbers."""
    if array.shape[1] != 1:
        raise AttributionInputError(f"{name} holds text in {array.shape[1]} columns: text is allowed in one only")
    labels = np.array([str(value) for value in array[:, 0]])
    categories, codes = np.unique(labels, return_inverse=True)
    if len(categories) > MAX_CATEGORIES:
        raise AttributionInputError(
            f"{name} holds {len(categories):,} different texts, at most {MAX_CATEGORIES} categories are allowed: "
            "give numbers, such as an embedding, instead"
        )
    return codes[:, None].astype(np.float64)


def _target(values: Any) -> np.ndarray:
    array = _as_array(values)
    array = array[:, 0] if array.ndim == 2 and array.shape[1] == 1 else array
    if array.ndim != 1:
        raise AttributionInputError(f"the target has shape {array.shape}: give one class label per example, [n]")
    if array.dtype.kind == "f":
        if not np.isfinite(array).all():
            raise AttributionInputError("the target has missing or infinite values: drop those rows")
        array = array.astype(np.int64) if np.array_equal(array, np.rint(array)) else array
    elif array.dtype.kind in "OUS":
        if any(value is None or value != value for value in array.tolist()):
            raise AttributionInputError("the target has missing values: drop those rows")
        array = np.array([str(value) for value in array.tolist()])
    classes, counts = np.unique(array, return_counts=True)
    if len(classes) > MAX_CLASSES:
        raise AttributionInputError(
            f"the target has {len(classes):,} different values, at most {MAX_CLASSES} classes are allowed: "
            "bin a continuous target first, for example into quartiles"
        )
    if len(classes) < 2:
        raise AttributionInputError(
            f"the target has one class only ({classes[0] if len(classes) else 'no examples'}): "
            "give examples of two or more"
        )
    if counts.min() < 2:
        raise AttributionInputError(
            f"class {classes[counts.argmin()]} has one example: merge or drop rare classes, each needs two or more"
        )
    return array


def _as_array(values: Any) -> np.ndarray:
    if hasattr(values, "detach"):  # a tensor, of any device and dtype
        values = values.detach().cpu()
        values = values.float() if values.is_floating_point() else values
    try:
        return np.asarray(values)
    except (ValueError, TypeError) as error:
        raise AttributionInputError(f"the input cannot be read as an array ({error})") from error


def _check_names(names: tuple[str, str]) -> tuple[str, str]:
    if len(names) != 2 or names[0] == names[1]:
        raise AttributionInputError(f"names are {names}: give two different names")
    first, second = (str(name).strip()[:60] or f"x{i + 1}" for i, name in enumerate(names))
    return first, second


def _title(columns: list[str], fallback: str) -> str:
    stems = {name.split(".")[0] for name in columns}
    return stems.pop() if len(stems) == 1 else fallback


def _some(names: list[str]) -> str:
    shown = ", ".join(repr(name[:40]) for name in names[:8])
    return shown + (f" and {len(names) - 8:,} more" if len(names) > 8 else "") if names else "none"
