"""The report of an evaluation as the tables of the card."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

Row = dict[str, Any]
Columns = Sequence[tuple[str, str]]

VOS: Columns = (("J", "j"), ("F", "f"), ("J&F", "j_and_f"), ("J, second half", "late_j"))
SOT: Columns = (
    ("success AUC", "success_auc"),
    ("precision, 20 px", "precision"),
    ("normalised precision", "normalised_precision"),
    ("mean IoU", "average_overlap"),
)
MOT: Columns = (
    ("HOTA", "hota"),
    ("DetA", "det_a"),
    ("AssA", "ass_a"),
    ("IDF1", "id_f1"),
    ("MOTA", "mota"),
    ("id switches", "id_switches"),
)
MOTS: Columns = (*MOT[:-1], ("sMOTSA", "smotsa"), MOT[-1])
TASK_COLUMNS = {"vos": VOS, "sot": SOT, "mots": MOTS, "mot": MOT}
TITLES = {
    "vos": "Video object segmentation (prompted objects)",
    "sot": "Single-object tracking (one prompted object)",
    "mots": "Multi-object tracking and segmentation (nothing prompted)",
    "mot": "Multi-object tracking (nothing prompted, boxes)",
}
SIDES = {"least": "at least", "above": "above", "below": "below"}


def as_markdown(report: Row) -> str:
    """The tables of a report of `evaluate`, every figure of which is in the report itself."""
    return "\n\n".join("\n".join(part) for part in _parts(report))


def _parts(report: Row) -> Iterator[list[str]]:
    yield _heading(report)
    for task, columns in TASK_COLUMNS.items():
        if rows := [row for row in report["cases"] if row["task"] == task]:
            yield [f"**{TITLES[task]}**", "", *_case_table(rows, columns)]
    found = report["findings"]
    if "night" in found:
        night = found["night"]
        yield [
            f"Night: J {number(night['j'])} with thermal, {number(night['j_rgb_alone'])} with RGB alone: "
            f"{number(night['gain'])} gained."
        ]
    if "twins" in found:
        yield ["**Twins: how often ids switch**", "", *_twins_table(found["twins"])]
    if "cuts" in found:
        yield ["**One sensor cut in the middle of the clip**", "", *_cuts_table(found["cuts"])]
    if "association" in found:
        yield ["**Association of the same detections**", "", *_association_table(found["association"])]
    if report["experts"]:
        yield ["**Experts: share of the selections in their group**", "", *_experts_table(report["experts"])]
    if report["bars"]:
        yield ["**Bars**", "", *_bars_table(report["bars"])]
    if report["notes"]:
        yield [f"- {note}" for note in report["notes"]]


def _heading(report: Row) -> list[str]:
    height, width = report["size"]
    return [
        f"{report['checkpoint']}, {report['date']}: held-out seeds {report['seeds']}, {report['frames']} frames of "
        f"{width} x {height}; {report['prompts']}"
    ]


def table(head: Sequence[str], rows: Sequence[Sequence[str]], texts: int = 1) -> list[str]:
    """Lines of a Markdown table; the first `texts` columns are text, the others numbers."""
    line = ["---" if place < texts else "---:" for place in range(len(head))]
    return [f"| {' | '.join(cells)} |" for cells in (head, line, *rows)]


def number(value: float | None) -> str:
    """A figure as it is printed; nothing where it was not measured."""
    if value is None:
        return ""
    return str(value) if isinstance(value, int) else f"{value:.3f}"


def sensors(row: Row) -> str:
    """The sensors of a row, with what was cut."""
    text = " + ".join(row["modalities"])
    return text + (f", {row['cut']} cut" if row.get("cut") else "")


def _case_table(rows: Sequence[Row], columns: Columns) -> list[str]:
    head = ["condition", "sensors", "clips", *(title for title, _ in columns)]
    lines = [
        [row["condition"], sensors(row), number(row["clips"]), *(number(row["scores"].get(key)) for _, key in columns)]
        for row in rows
    ]
    return table(head, lines, texts=2)


def _twins_table(rows: Sequence[Row]) -> list[str]:
    head = ("sensors", "id switches", "true instances", "over RGB alone")
    keys = ("id_switches", "true_instances", "share_of_rgb_alone")
    return table(head, [[sensors(row), *(number(row[key]) for key in keys)] for row in rows])


def _cuts_table(rows: Sequence[Row]) -> list[str]:
    head = ("condition", "sensors", "J", "kept", "J from the cut on", "kept of it")
    keys = ("j", "kept", "late_j", "late_kept")
    lines = [[row["condition"], sensors(row), *(number(row[key]) for key in keys)] for row in rows]
    return table(head, lines, texts=2)


def _association_table(rows: Sequence[Row]) -> list[str]:
    head = ["condition", "sensors", "association", *(title for title, _ in MOT)]
    lines = [
        [f"{row['condition']} ({row['task'].upper()})", sensors(row), row["association"]]
        + [number(row[key]) for _, key in MOT]
        for row in rows
    ]
    return table(head, lines, texts=3)


def _experts_table(rows: Sequence[Row]) -> list[str]:
    most = max(len(row["shares"]) for row in rows)
    head = ["block", "group", *(f"expert {place + 1}" for place in range(most)), "least"]
    lines = [
        [str(row["layer"]), row["group"]]
        + [number(share) for share in row["shares"]]
        + [""] * (most - len(row["shares"]))
        + [number(row["least"])]
        for row in rows
    ]
    return table(head, lines, texts=2)


def _bars_table(rows: Sequence[Row]) -> list[str]:
    met = {True: "yes", False: "no", None: "not measured"}
    lines = [
        [row["text"], number(row["value"]), f"{SIDES[row['side']]} {row['bar']:g}", met[row["met"]]] for row in rows
    ]
    return table(("what", "value", "bar", "met"), lines)
