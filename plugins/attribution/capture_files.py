"""Folders that the commands write and read: codes of a capture, and tables with the discretisers that made them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .errors import AttributionInputError
from .layers import ModelRecord
from .pinned import TABLES_FILE, LayerTables, PinnedDiscretisers
from .report import AttributionReport

if TYPE_CHECKING:
    import pandas as pd

CODES_FILE = "codes.parquet"
RECORD_FILE = "capture.json"
PINNED_FOLDER = "pinned"
PARTS = ("x1", "x2", "y")

Codes = Mapping[str, tuple[np.ndarray, np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class Capture:
    """What `capture` leaves: codes, and how they were made.

    Attributes:
        codes: (x1, x2, y) by question name, [n] each.
        pinned: the discretisers that made them.
        record: of the model and the cost.
    """

    codes: Codes
    pinned: PinnedDiscretisers
    record: ModelRecord

    def save(self, folder: Path) -> None:
        """Write into a new or empty folder."""
        import pandas as pd

        check_new(folder)
        folder.mkdir(parents=True, exist_ok=True)
        columns = {f"{name}/{part}": codes for name, each in self.codes.items() for part, codes in _parts(each)}
        self.pinned.save(folder / PINNED_FOLDER)
        (folder / RECORD_FILE).write_text(json.dumps(asdict(self.record), indent=2) + "\n", "utf-8")
        pd.DataFrame(columns).to_parquet(folder / CODES_FILE, index=False)

    @classmethod
    def load(cls, folder: Path) -> Capture:
        """Read what `save` wrote."""
        import pandas as pd
        from pyarrow import ArrowException

        pinned = PinnedDiscretisers.load(folder / PINNED_FOLDER)
        try:
            frame = pd.read_parquet(folder / CODES_FILE)
            record = ModelRecord.from_dict(json.loads((folder / RECORD_FILE).read_text("utf-8")))
            codes = {q.name: _three(frame, q.name) for q in pinned.questions if f"{q.name}/x1" in frame}
            return cls(codes, pinned, record)
        except (OSError, KeyError, ValueError, TypeError, ArrowException) as error:
            raise AttributionInputError(f"{folder.name} is not a folder that `capture` wrote ({error})") from error

    def count(self) -> LayerTables:
        """Joint counts of the codes."""
        tables = {}
        for name, codes in self.codes.items():
            tables[name] = self.pinned.of(name).empty_counts().update(*codes)
        return LayerTables(tables)


def check_new(folder: Path) -> None:
    """Refuse a folder that holds something."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise AttributionInputError(f"{folder.name} is not empty: name a new folder")


def merged(captures: Iterable[Capture]) -> tuple[LayerTables, PinnedDiscretisers]:
    """The counts of all captures, which must have been made with the same discretisers."""
    tables, pinned = None, None
    for capture in captures:
        if pinned is not None and identities(capture.pinned) != identities(pinned):
            raise AttributionInputError(
                "these captures were made with different discretisers, the same code means different things: capture "
                "the later ones with --pinned and the first one's folder"
            )
        pinned = pinned or capture.pinned
        tables = capture.count() if tables is None else tables.merge(capture.count())
    if tables is None or pinned is None:
        raise AttributionInputError("there is nothing to count: name one folder that `capture` wrote, or more")
    return tables, pinned


def identities(pinned: PinnedDiscretisers) -> dict[str, str]:
    """SHA-256 of each discretiser, by question name."""
    return {name: each.identity for name, each in pinned.discretisers.items()}


def save_tables(folder: Path, tables: LayerTables, pinned: PinnedDiscretisers) -> None:
    """Tables with their discretisers beside them; the tables come last, so that a cut leaves no half-written folder."""
    pinned.save(folder / PINNED_FOLDER)
    tables.save(folder / TABLES_FILE)


def load_tables(folder: Path) -> tuple[LayerTables, PinnedDiscretisers]:
    """Read what `save_tables` wrote."""
    if not (folder / TABLES_FILE).is_file():
        raise AttributionInputError(f"{folder.name} holds no {TABLES_FILE}: name a folder that `count` wrote")
    return LayerTables.load(folder / TABLES_FILE), PinnedDiscretisers.load(folder / PINNED_FOLDER)


def as_text(report: AttributionReport, form: str) -> str:
    """A report as the text of a .json, .md, .csv or .html file."""
    from .html_report import to_html

    makers: dict[str, Callable[[AttributionReport], str]] = {
        ".html": to_html,
        ".md": lambda each: each.to_markdown() + "\n",
        ".json": lambda each: each.to_json() + "\n",
        ".csv": lambda each: each.to_frame().to_csv(index=False),
    }
    return makers[form](report)


def _parts(codes: tuple[np.ndarray, np.ndarray, np.ndarray]) -> Iterable[tuple[str, np.ndarray]]:
    return ((part, each.astype(np.int32)) for part, each in zip(PARTS, codes, strict=True))


def _three(frame: pd.DataFrame, name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    first, second, target = (frame[f"{name}/{part}"].to_numpy(np.int64) for part in PARTS)
    return first, second, target
