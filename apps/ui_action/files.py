"""Everything that can be taken away: the trace with its screens, a report, the steps as a table, the record."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from apps.ui_action.parts import part
from core.jsonfile import write_json

DOWNLOADS = ("trace.zip", "report.html", "steps.csv", "across.csv", "results.json", "run.json")
_TEXTS = ("sentence", "thought", "action", "error", "flags", "asked")
_COLUMNS = (
    *("number", "tick", "sentence", "thought", "action", "fate", "code", "reason", "error", "flags", "asked"),
    *("reason_ms", "act_ms", "parse_ms", "wait_ms", "execute_ms", "turn_ms"),
    *("prompt_tokens", "output_tokens", "state_before", "state_after"),
)


def screen_name(number: int) -> str:
    """The file of the screen that step `number` began with; that of the step after the last one is the last screen."""
    return f"screen-{number:03d}.png"


def write_files(directory: Path, trace: Path, result: Mapping[str, Any], screens: Sequence[Any], record: Any) -> None:
    """Write every download, and the screens.

    Args:
        trace: the trace's file, its screenshots beside it.
        screens: one for each step, and the last one.
        record: the run record.
    """
    for number, image in enumerate(screens, 1):
        image.save(directory / screen_name(number), "PNG")
    with zipfile.ZipFile(directory / "trace.zip", "w") as archive:
        archive.write(trace, trace.name, zipfile.ZIP_DEFLATED)
        for picture in sorted(trace.parent.glob("*.png")):  # stored: png is packed already
            archive.write(picture, picture.name)
    part("report:write_report")(part("trace:read_trace")(trace), directory / "report.html")
    _write_steps(directory / "steps.csv", result["steps"])
    write_json(directory / "results.json", result)
    record.write(directory)


def write_across(directory: Path, result: Mapping[str, Any], record: Any) -> None:
    """Write the downloads of a run over all games."""
    import pandas as pd

    pd.DataFrame(result["cells"]).to_csv(directory / "across.csv", index=False)
    write_json(directory / "results.json", result)
    record.write(directory)


def _write_steps(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    import pandas as pd

    table = [
        {**row, **{name: _cell(row[name]) for name in _TEXTS}}
        | {name: _cell("; ".join(each[name] for each in row["actions"])) for name in ("fate", "code", "reason")}
        for row in rows
    ]
    pd.DataFrame(table, columns=list(_COLUMNS)).to_csv(path, index=False)


def _cell(value: Any) -> str:
    """Text that no spreadsheet takes for a formula: a model may have written it."""
    text = value if isinstance(value, str) else "; ".join(value)
    return f"'{text}" if text[:1] in ("=", "+", "-", "@", "\t", "\r") else text
