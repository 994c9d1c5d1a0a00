"""JSON files that are either whole or not there, for job states and run records."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import tempfile
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Any


def to_plain(value: Any) -> Any:
    """The value as JSON knows it: dict, list, str, int, float, bool or None.

    Arrays, tensors and their scalars become lists and numbers, paths become text, dataclasses become dicts,
    and numbers that JSON lacks (NaN, infinities) become None. Raises TypeError for anything else.
    """
    if value is None or isinstance(value, bool | str | int):
        return value
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): to_plain(item) for key, item in value.items()}
    if isinstance(value, AbstractSet):
        return sorted(to_plain(item) for item in value)
    if isinstance(value, Sequence) and not isinstance(value, bytes | bytearray):
        return [to_plain(item) for item in value]
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: to_plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if hasattr(value, "tolist"):  # numpy and torch, without importing either
        return to_plain(value.tolist())
    raise TypeError(f"{type(value).__name__} has no JSON form: pass numbers, text, lists, dicts or arrays.")


def to_text(value: Any) -> str:
    """JSON text of the value, indented, with a newline at its end."""
    return json.dumps(to_plain(value), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def write_json(path: Path, value: Any) -> None:
    """Write the value so that a reader, or a crash, sees the old file or the new one and nothing between."""
    text = to_text(value)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
