"""Traces that somebody uploads: taken apart under limits, by name and size, before anything of them is believed."""

from __future__ import annotations

import lzma
import re
import struct
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import IO

from core.errors import InputError

TRACE = "trace.jsonl"
MOST_FILES = 400
MOST_BYTES, MOST_FILE_BYTES = 64 * 2**20, 16 * 2**20
# All that zipfile lets through of a damaged, encrypted or unusual archive.
UNREADABLE = (
    *(zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error),
    *(EOFError, NotImplementedError, RuntimeError, OSError, UnicodeError),
)
_CHUNK = 1 << 16
_PICTURE = re.compile(r"[0-9a-f]{64}\.png")


def unpack(uploads: Sequence[Path], folder: Path) -> Path:
    """Lay a trace and its screens out in a folder; the trace's path.

    Args:
        uploads: one zip, or trace.jsonl and as many screens as there are.

    Raises:
        InputError: no trace in it, two of them, too much of anything, or no zip.
    """
    if not uploads:
        raise InputError("There is no trace yet: add the trace.zip of a run, or its trace.jsonl.")
    if len(uploads) > MOST_FILES:
        raise InputError(f"{len(uploads)} files are given, limit {MOST_FILES}: give one trace.")
    writer = _Writer(folder)
    for path in uploads:
        if zipfile.is_zipfile(path):
            _unpack_zip(path, writer)
        else:
            name = TRACE if path.suffix.lower() == ".jsonl" else path.name
            with path.open("rb") as file:
                writer.write(name, file)
    if not (folder / TRACE).is_file():
        raise InputError(f"There is no {TRACE} in it: give the trace.zip of a run, or its {TRACE}.")
    return folder / TRACE


class _Writer:
    """Writes into one folder, under names of its own choice, up to a limit."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._left = MOST_BYTES

    def write(self, name: str, file: IO[bytes]) -> None:
        """Copy an open file if it belongs to a trace; its length is what is read, whatever an index says."""
        if name != TRACE and not _PICTURE.fullmatch(name):
            return
        target = self._folder / name
        if target.exists():
            raise InputError(f"{name[:16]} is there twice: give one trace at a time.")
        size = 0
        with target.open("wb") as out:
            while chunk := file.read(_CHUNK):
                size += len(chunk)
                self._left -= len(chunk)
                if size > MOST_FILE_BYTES or self._left < 0:
                    raise InputError(
                        f"More than {MOST_FILE_BYTES >> 20} MB in a file, or {MOST_BYTES >> 20} MB in all: give a "
                        "shorter run."
                    )
                out.write(chunk)


def _unpack_zip(path: Path, writer: _Writer) -> None:
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            if len(entries) > MOST_FILES:
                raise InputError(f"The zip holds {len(entries)} files, limit {MOST_FILES}: give one trace.")
            for entry in entries:
                if not entry.filename.endswith("/"):  # `is_dir` fails for an entry without a name
                    with archive.open(entry) as file:
                        writer.write(_plain_name(entry.filename), file)
    except UNREADABLE as error:
        raise InputError("This zip cannot be read: it is damaged, encrypted or packed in an unusual way.") from error


def _plain_name(name: str) -> str:
    """The last part of a name; one that leads elsewhere is refused."""
    parts = PurePosixPath(name.replace("\\", "/")).parts
    if not parts or name.startswith(("/", "\\")) or ".." in parts or ":" in parts[0] or len(parts) > 2:
        raise InputError(f"The zip holds {name[:80]!r}, a name that leads elsewhere: give the trace.zip of a run.")
    return parts[-1]
