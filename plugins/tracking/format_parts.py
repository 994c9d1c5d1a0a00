"""What the formats are made of: files that are hostile until checked, writing all or nothing, run-length codes."""

from __future__ import annotations

import json
import math
import re
import secrets
import shutil
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask as coco

from .errors import TrackingError
from .results import FrameInstances, Task, Tracks, masks_to_boxes

MAX_FILE_BYTES = 512 * 2**20
MAX_FRAMES = 100_000
MAX_SIDE = 16_384
MAX_MASK_PIXELS = 2**31  # of all masks of a file: 2 GiB in memory
MAX_NUMBER = 1e38  # two of them still add up to a float32
MAX_ID = 2**63 - 1
MAX_RUN_CHARACTERS = 7  # 35 bits, far above MAX_SIDE squared

WHOLE_NUMBER = re.compile(r"([0-9]{1,19})(\.0*)?")


@dataclass
class Budget:
    """How many more pixels of masks may be unpacked from a file: a short run-length code can stand for billions."""

    left: int = MAX_MASK_PIXELS

    def spend(self, pixels: int, where: str) -> None:
        self.left -= pixels
        if self.left < 0:
            raise TrackingError(
                f"{where}: the masks up to here take more than {MAX_MASK_PIXELS / 2**30:.0f} GiB: "
                "split the file or lower the resolution"
            )


@dataclass
class Draft:
    """A clip while it is read: for each frame, counted from 0, and each id a box, a mask and a score.

    A row without a box gets its mask's.
    """

    height: int
    width: int
    rows: dict[int, dict[int, tuple[np.ndarray | None, np.ndarray | None, float]]] = field(default_factory=dict)

    def add(
        self, where: str, frame: int, id: int, xyxy: np.ndarray | None, mask: np.ndarray | None, score: float
    ) -> None:
        here = self.rows.setdefault(frame, {})
        if id in here:
            raise TrackingError(
                f"{where}: id {id} comes a second time in frame {frame + 1}: give each frame an id once"
            )
        here[id] = xyxy, mask, score

    def tracks(self, num_frames: int, task: Task) -> Tracks:
        """The clip; the draft is empty afterwards, so that masks are not held twice."""
        masks = task in ("vos", "mots")
        frames = (self._frame(self.rows.pop(place, {}), masks) for place in range(num_frames))
        return Tracks(tuple(frames), self.height, self.width, task)

    def _frame(self, rows: dict[int, tuple], masks: bool) -> FrameInstances:
        if not rows:
            return FrameInstances.empty((self.height, self.width) if masks else None)
        boxes, mask_rows, scores = zip(*rows.values(), strict=True)
        stacked = np.stack(mask_rows) if masks else None
        tight = np.zeros((len(rows), 4)) if stacked is None else masks_to_boxes(stacked)
        xyxy = np.stack([own if box is None else box for box, own in zip(boxes, tight, strict=True)])
        return FrameInstances(np.array(list(rows), np.int64), xyxy, stacked, np.array(scores, np.float32))


def check_file(path: Path) -> None:
    """Refuse what is no file or too large, before a byte of it is read."""
    if not path.is_file():
        raise TrackingError(f"there is no file {path}: check the path")
    if path.stat().st_size > MAX_FILE_BYTES:
        raise TrackingError(
            f"{path.name} is {path.stat().st_size / 2**20:,.0f} MiB, limit {MAX_FILE_BYTES / 2**20:.0f}: split it"
        )


def read_text(path: Path) -> str:
    check_file(path)
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise TrackingError(f"{path.name} is not text ({error}): give a file in UTF-8") from error


def read_lines(path: Path) -> Iterator[tuple[str, str]]:
    """Each line with something on it, after its name for messages."""
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        if line.strip():
            yield f"{path.name}, line {number}", line.strip()


def read_json(path: Path) -> Any:
    try:
        return json.loads(read_text(path), parse_constant=_refuse_constant)
    except (json.JSONDecodeError, RecursionError, TrackingError) as error:
        raise TrackingError(f"{path.name} is not JSON ({error}): export it again") from error
    except ValueError as error:  # an integer of thousands of digits
        raise TrackingError(f"{path.name} holds a number that is too long ({error}): export it again") from error


def _refuse_constant(text: str) -> None:
    raise TrackingError(f"{text} is no JSON number")


def take(entry: Any, key: str, kind: type | tuple[type, ...], where: str) -> Any:
    """`entry[key]`, if it is there and of that kind."""
    if not isinstance(entry, dict) or key not in entry:
        raise TrackingError(f"{where}: {key!r} is missing: export the file again")
    value = entry[key]
    if not isinstance(value, kind) or isinstance(value, bool):
        raise TrackingError(f"{where}: {key!r} is a {type(value).__name__}: see the format for what it must be")
    return value


def whole(value: str | int, name: str, where: str, low: int, high: int) -> int:
    """A whole number within bounds, also when written 7.0."""
    found = WHOLE_NUMBER.fullmatch(str(value).strip())
    number = int(found[1]) if found else -1
    if not low <= number <= high:
        raise TrackingError(f"{where}: {name} is {str(value)[:40]!r}: give a whole number from {low} to {high}")
    return number


def decimal(value: str | float, name: str, where: str) -> float:
    """A finite number that a float32 can hold."""
    try:
        number = float(value)
    except (ValueError, OverflowError):
        number = math.nan
    if not abs(number) <= MAX_NUMBER:
        raise TrackingError(f"{where}: {name} is {str(value)[:40]!r}: give a number up to {MAX_NUMBER:.0e}")
    return number


def corners(box: list, where: str) -> np.ndarray:
    """x, y, width, height as texts or numbers to xyxy, float64 [4]."""
    x, y, width, height = (
        decimal(value, name, where) for value, name in zip(box, ("left", "top", "width", "height"), strict=True)
    )
    if width < 0 or height < 0:
        raise TrackingError(f"{where}: the box is {width:g} x {height:g} pixels: give left, top, width, height")
    return np.array([x, y, x + width, y + height])


def extents(xyxy: np.ndarray) -> list[float]:
    """xyxy float32 [4] to x, y, width, height, from which `corners` finds the same float32 again."""
    x0, y0, x1, y1 = (float(value) for value in xyxy)
    return [x0, y0, x1 - x0, y1 - y0]


def write_text(path: Path, text: str) -> None:
    """Write so that a reader, or a crash, sees the old file or the new one and nothing between."""
    if path.is_dir() or not path.parent.is_dir():
        raise TrackingError(f"{path} cannot be a file: give a file name in a folder that exists")
    partial = _partial(path)
    try:
        partial.write_text(text, encoding="utf-8", newline="\n")
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def new_folder(folder: Path) -> Generator[Path]:
    """A folder to fill; it takes its name when it is full, and goes where filling it failed."""
    if not folder.parent.is_dir():
        raise TrackingError(f"{folder.parent} is no folder: create it first")
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise TrackingError(f"{folder} holds something already: empty it or give another folder")
    partial = _partial(folder)
    try:
        partial.mkdir()
        yield partial
        if folder.exists():
            folder.rmdir()
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _partial(path: Path) -> Path:
    return path.with_name(f".{path.name}-{secrets.token_hex(4)}")


def encode_text(mask: np.ndarray) -> str:
    """COCO's compressed run-length code of a mask, bool [H, W]."""
    return coco.encode(np.asfortranarray(mask, np.uint8))["counts"].decode("ascii")


def encode_runs(mask: np.ndarray) -> list[int]:
    """COCO's plain run-length code of a mask, bool [H, W]: column by column, off first."""
    flat = mask.T.ravel()
    changes = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    runs = np.diff(changes, prepend=0, append=flat.size).tolist()
    return [0, *runs] if flat[0] else runs


def decode(counts: str | list, height: int, width: int, where: str) -> np.ndarray:
    """Mask bool [height, width] of either code.

    Not pycocotools' decoder: it fills a mask whose runs end early with whatever lay in memory.
    """
    runs = _runs_of_text(counts, where) if isinstance(counts, str) else _runs_of_list(counts, where)
    if (runs < 0).any() or (runs > height * width).any() or runs.sum() != height * width:
        raise TrackingError(f"{where}: the run-length code is not of {height} x {width} pixels: export it again")
    values = np.arange(len(runs)) % 2 == 1
    return np.ascontiguousarray(np.repeat(values, runs).reshape(width, height).T)


def _runs_of_list(counts: list, where: str) -> np.ndarray:
    if not all(type(count) is int and 0 <= count <= MAX_SIDE**2 for count in counts):
        raise TrackingError(f"{where}: the run-length code holds something else than pixel counts: export it again")
    return np.array(counts, np.int64)


def _runs_of_text(text: str, where: str) -> np.ndarray:
    """Runs of the compressed code: 5 bits to a character, low ones first, the sixth for "goes on".

    The last character's highest bit is the sign, and from the fourth run on each stands for its difference to the run
    two before it.
    """
    codes = np.frombuffer(text.encode("utf-8", "surrogatepass"), np.uint8).astype(np.int64) - ord("0")
    ends = np.flatnonzero(codes < 32)
    lengths = np.diff(ends, prepend=-1)
    broken = not len(codes) or codes.min() < 0 or codes.max() > 63 or codes[-1] >= 32
    if broken or lengths.max() > MAX_RUN_CHARACTERS:
        raise TrackingError(f"{where}: {text[:20]!r} is no COCO run-length code: export it again")
    starts = ends - lengths + 1
    shifts = 5 * (np.arange(len(codes)) - np.repeat(starts, lengths))
    runs = np.add.reduceat((codes & 31) << shifts, starts)
    runs -= (codes[ends] & 16 != 0) * (np.int64(1) << (5 * lengths))
    runs[1::2] = np.cumsum(runs[1::2])
    runs[2::2] = np.cumsum(runs[2::2])
    return runs
