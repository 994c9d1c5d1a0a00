"""Two feature streams and a target, from arrays or from files that are hostile until checked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .errors import AttributionInputError
from .files import TARGET_NAMES, check_file, check_size, header, npz_names, read_columns, read_npz, some

if TYPE_CHECKING:
    import pandas as pd

MAX_VALUES = 250_000_000  # rows times columns of an array; files have a lower limit of their own
MAX_CLASSES = 50
MAX_CATEGORIES = 50
MAX_LABEL = 200  # characters
MIN_EXAMPLES = 20

Categories = tuple[tuple[str, ...] | None, tuple[str, ...] | None]


@dataclass(frozen=True)
class Streams:
    """Two feature streams and a target, checked.

    Attributes:
        x1: [n, d1], float64, finite. x2: [n, d2].
        y: [n], integers or strings, two classes or more.
        names: of the two streams.
        categories: of each stream: the names in code order where it is one column of texts, else None.
    """

    x1: np.ndarray
    x2: np.ndarray
    y: np.ndarray
    names: tuple[str, str]
    categories: Categories = (None, None)


def check_streams(
    x1: Any, x2: Any, y: Any, names: tuple[str, str] = ("x1", "x2"), *, fitted: Categories | None = None
) -> Streams:
    """Streams from arrays, tensors, lists, a `Streams`, or the path of a file.

    Args:
        fitted: categories of the discretiser that these examples are for. They keep its codes, and a few examples of
            one class will do.

    Raises:
        AttributionInputError: lengths that differ, values that are not finite numbers, too many or too few classes.
    """
    if isinstance(x1, str | Path | Streams):
        if x2 is not None or y is not None:
            raise AttributionInputError("give either a file or three arrays, not both")
        if not isinstance(x1, Streams):
            return read_streams(x1, fitted=fitted)
        names, y = x1.names, x1.y
        x1, x2 = (_labels_of(x, known) for x, known in zip((x1.x1, x1.x2), x1.categories, strict=True))
    if x2 is None or y is None:
        raise AttributionInputError("three things are needed: x1, x2 and the target y")
    first, second = _check_names(names)
    stream_1, categories_1 = _stream(x1, first)
    stream_2, categories_2 = _stream(x2, second)
    if fitted is not None:
        stream_1 = _recode(stream_1, first, categories_1, fitted[0])
        stream_2 = _recode(stream_2, second, categories_2, fitted[1])
    target = _target(y)
    categories = (categories_1, categories_2) if fitted is None else fitted
    sizes = {first: len(stream_1), second: len(stream_2), "the target": len(target)}
    if len(set(sizes.values())) > 1:
        raise AttributionInputError(
            "lengths differ: "
            + ", ".join(f"{name} has {size:,} rows" for name, size in sizes.items())
            + "; row i of each must be the same example"
        )
    if fitted is None:
        _check_enough(target)
    return Streams(stream_1, stream_2, target, (first, second), categories)


def read_streams(
    path: str | Path,
    *,
    stream_1: list[str] | None = None,
    stream_2: list[str] | None = None,
    target: str | None = None,
    callback: Callable[[float, str], None] | None = None,
    fitted: Categories | None = None,
) -> Streams:
    """Read a file.

    An npz holds three arrays: two streams and one named y, target or label. A csv or parquet has a target column of
    that name and stream columns named "stream.feature"; or exactly three columns, the target being y or the last.

    Args:
        stream_1, stream_2, target: columns of a csv or parquet, when their names do not say.
        callback: called with (fraction, message) between pieces of a large file; may raise to stop.
        fitted: as for `check_streams`.
    """
    path = Path(path)
    check_file(path)
    if path.suffix.lower() == ".npz":
        names, arrays = read_npz(path)
        return check_streams(*arrays, names, fitted=fitted)
    layout = column_layout(header(path), stream_1, stream_2, target)
    wanted = [*layout.columns[0], *layout.columns[1], layout.target]
    frame = read_columns(path, wanted, callback or (lambda fraction, message: None))
    parts = [_numbers(frame, columns) for columns in layout.columns]
    return check_streams(parts[0], parts[1], frame[layout.target].to_numpy(), layout.names, fitted=fitted)


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
        first, second, target = npz_names(path)
        return FileSummary(streams=(first, second), target=target)
    columns = header(path)
    try:
        layout = column_layout(columns)
    except AttributionInputError as error:
        return FileSummary(columns=tuple(columns), problem=str(error))
    first, second = (
        f"{name}: {len(group)} column{'s' if len(group) > 1 else ''}"
        for name, group in zip(layout.names, layout.columns, strict=True)
    )
    return FileSummary(tuple(columns), (first, second), layout.target)


@dataclass(frozen=True)
class ColumnLayout:
    """Which columns are what. `columns`: of stream 1 and 2."""

    columns: tuple[list[str], list[str]]
    target: str
    names: tuple[str, str]


def column_layout(
    columns: list[str],
    stream_1: list[str] | None = None,
    stream_2: list[str] | None = None,
    target: str | None = None,
) -> ColumnLayout:
    """Tell the streams and the target from the column names, or check the ones that are given."""
    found_target = target or next((name for name in columns if name.lower() in TARGET_NAMES), None)
    if found_target is None and len(columns) == 3:
        found_target = columns[-1]
    missing = [n for n in [*(stream_1 or []), *(stream_2 or []), *filter(None, [target])] if n not in columns]
    if missing:
        raise AttributionInputError(f"there is no column {missing[0]!r}; the columns are {some(columns)}")
    if bool(stream_1) != bool(stream_2):
        raise AttributionInputError("columns are chosen for one stream only: choose those of the other too, or of none")
    if found_target is None:
        raise AttributionInputError(
            f"no target column: name it y, target or label, or say which of {some(columns)} it is"
        )
    if stream_1 and stream_2:
        if found_target in stream_1 + stream_2 or set(stream_1) & set(stream_2):
            raise AttributionInputError("a column is in two places: the streams and the target share none")
        return ColumnLayout((stream_1, stream_2), found_target, (_title(stream_1, "x1"), _title(stream_2, "x2")))
    others = [name for name in columns if name != found_target]
    if len(others) == 2:
        return ColumnLayout(([others[0]], [others[1]]), found_target, (others[0], others[1]))
    groups: dict[str, list[str]] = {}
    for name in others:
        groups.setdefault(name.split(".")[0], []).append(name)
    if len(groups) != 2:
        raise AttributionInputError(
            f"the columns name {len(groups)} streams ({some(list(groups))}), two are needed: name columns "
            '"stream.feature", such as thermal.1, thermal.2, colour.1, or choose the columns of each stream'
        )
    first, second = groups
    return ColumnLayout((groups[first], groups[second]), found_target, (first, second))


def _numbers(frame: pd.DataFrame, columns: list[str]) -> np.ndarray:
    """Stream columns as numbers, or one column of category names as it is."""
    import pandas as pd

    if len(columns) == 1 and not _mostly_numbers(frame[columns[0]]):
        return frame[columns[0]].to_numpy()
    parts = []
    for name in columns:
        column = frame[name]
        if column.dtype.kind in "mM":
            raise AttributionInputError(f"column {name} holds times: give numbers, such as seconds since the start")
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


def _stream(values: Any, name: str) -> tuple[np.ndarray, tuple[str, ...] | None]:
    """A stream as float64 [n, d]; where it is one column of texts, their codes and the texts in code order."""
    array = _as_array(values)
    if array.ndim == 1:
        array = array[:, None]
    if array.ndim != 2 or array.shape[1] == 0:
        raise AttributionInputError(f"{name} has shape {array.shape}: give [n] or [n, columns]")
    check_size(*array.shape, most=MAX_VALUES)
    if array.dtype.kind in "OUS":
        return _categories(array, name)
    if array.dtype.kind not in "biuf":
        raise AttributionInputError(f"{name} is of type {array.dtype}: give numbers, or one column of categories")
    array = array.astype(np.float64, copy=False)
    bad = ~np.isfinite(array)
    if bad.any():
        row, column = np.argwhere(bad)[0]
        raise AttributionInputError(
            f"{name} has {int(bad.sum()):,} missing or infinite values, the first in row {row + 1}, "
            f"column {column + 1}: fill them in or drop those rows"
        )
    return array, None


def _categories(array: np.ndarray, name: str) -> tuple[np.ndarray, tuple[str, ...]]:
    """One column of names as whole numbers, and the names."""
    if array.shape[1] != 1:
        raise AttributionInputError(f"{name} holds text in {array.shape[1]} columns: text is allowed in one only")
    categories, codes = np.unique(_labels(array[:, 0], name), return_inverse=True)
    if len(categories) > MAX_CATEGORIES:
        raise AttributionInputError(
            f"{name} holds {len(categories):,} different texts, at most {MAX_CATEGORIES} categories are allowed: "
            "give numbers, such as an embedding, instead"
        )
    return codes[:, None].astype(np.float64), tuple(categories.tolist())


def _labels_of(codes: np.ndarray, categories: tuple[str, ...] | None) -> np.ndarray:
    return codes if categories is None else np.array(categories)[codes[:, 0].astype(np.int64)]


def _recode(
    stream: np.ndarray, name: str, categories: tuple[str, ...] | None, fitted: tuple[str, ...] | None
) -> np.ndarray:
    """The codes that a fitted discretiser gave the same categories."""
    if categories is None and fitted is None:
        return stream
    if categories is None or fitted is None:
        given, expected = ("numbers", "texts") if categories is None else ("texts", "numbers")
        raise AttributionInputError(f"{name} holds {given}, the discretiser was fitted on {expected}: give the same")
    unknown = sorted(set(categories) - set(fitted))
    if unknown:
        raise AttributionInputError(
            f"{name} holds {some(unknown)}, which the discretiser was not fitted on: it knows {some(list(fitted))}"
        )
    codes = np.array([fitted.index(category) for category in categories], dtype=np.float64)
    return codes[stream.astype(np.int64)]


def _labels(values: np.ndarray, name: str) -> np.ndarray:
    """Texts of a column of texts, numbers or bytes, [n]."""
    labels = []
    for row, value in enumerate(values.tolist()):
        if not isinstance(value, str | bytes | int | float) or value != value:
            raise AttributionInputError(
                f"{name} has missing values or none that can be a label, the first in row {row + 1}: "
                "fill them in or drop those rows"
            )
        label = value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
        if len(label) > MAX_LABEL:
            raise AttributionInputError(
                f"{name} has a text of {len(label):,} characters in row {row + 1}, a label has at most {MAX_LABEL}"
            )
        labels.append(label)
    return np.array(labels, dtype=np.str_)


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
        array = _labels(array, "the target")
    elif array.dtype.kind not in "biu":
        raise AttributionInputError(f"the target is of type {array.dtype}: give class labels, numbers or texts")
    return array


def _check_enough(target: np.ndarray) -> None:
    """Refuse too few examples, and too many or too few classes."""
    classes, counts = np.unique(target, return_counts=True)
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
    if len(target) < MIN_EXAMPLES:
        raise AttributionInputError(f"{len(target)} examples are too few: give {MIN_EXAMPLES} or more")


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
