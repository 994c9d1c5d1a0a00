"""What a run looks like in figures: cards, tables and read-outs. Every value in HTML is escaped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from apps.components import note, readout, table
from apps.tracking.plots import GROUPS, expert_columns
from apps.tracking.request import MASKED, MOST_LANES, PROMPTED, SENSORS, TASKS

RARE = 0.05  # share of the selections below which an expert hardly works
# name: (title, what it says, whether it is a share of 1)
METRICS = {
    "j_and_f": ("J&F", "mean of region and contour agreement", True),
    "j": ("J", "region agreement, the IoU of masks", True),
    "f": ("F", "contour agreement", True),
    "success_auc": ("Success AUC", "share of frames above an IoU, over all IoUs", True),
    "hota": ("HOTA", "detection and association together", True),
    "det_a": ("DetA", "were the objects found", True),
    "ass_a": ("AssA", "did each keep one id", True),
    "id_f1": ("IDF1", "instances under the right id", True),
    "mota": ("MOTA", "1 minus misses, false alarms and id switches per true instance", True),
    "smotsa": ("sMOTSA", "MOTA with masks weighed by their IoU", True),
    "id_switches": ("Id switches", "an object went on under another id", False),
    "misses": ("Misses", "true instances that were not found", False),
    "false_positives": ("False alarms", "instances where there is nothing", False),
}
CARDS = {
    "vos": ("j_and_f", "hota", "id_f1", "id_switches"),
    "sot": ("success_auc", "hota", "id_f1", "id_switches"),
    "mots": ("hota", "id_f1", "j_and_f", "id_switches"),
    "mot": ("hota", "id_f1", "mota", "id_switches"),
}


def notes(result: Mapping[str, Any]) -> str:
    """What has to be known before any figure is read."""
    texts = []
    if result["ended"]:
        clip = result["clip"]
        texts.append(f"{result['ended'].rstrip('.')}: {clip['frames']} of {clip['of']} frames are done")
    texts += result["truth"]["notes"] if result["truth"] else []
    if not result["objects"]:
        texts.append("nothing was found in this clip: the small model may not know such objects; draw them instead")
    return "".join(map(note, texts))


def score_cards(result: Mapping[str, Any]) -> str:
    """The few scores that answer the question, large; "" where the truth is not known."""
    if result["truth"] is None:
        return ""
    figures = result["truth"]["figures"]
    cards = "".join(
        f'<div class="score"><dt>{escape(METRICS[name][0])}</dt><dd>{_figure(name, figures[name])}</dd>'
        f'<dd class="why">{escape(METRICS[name][1])}</dd></div>'
        for name in CARDS[result["task"]]
        if name in figures
    )
    return f'<dl class="scores" aria-label="Scores against the truth">{cards}</dl>'


def metrics_table(result: Mapping[str, Any]) -> str:
    """Every score; or why there is none."""
    truth = result["truth"]
    if truth is None:
        own = "videos" in result["params"]
        why = "Nobody told this page the truth of your videos, so nothing is scored." if own else "Nothing to score."
        return f'<p class="quiet">{why}</p>'
    rows = [(METRICS[name][0], _figure(name, value), METRICS[name][1]) for name, value in truth["figures"].items()]
    skipped = " The prompted first frame does not count." if truth["skipped"] else ""
    kind = "masks" if result["task"] in MASKED else "boxes"
    return table(("Score", "Value", "What it says"), rows, label="Scores") + (
        f'<p class="quiet">Of {kind}, against the generated truth.{skipped}</p>'
    )


def sensors_table(result: Mapping[str, Any]) -> str:
    """Overlap by the sensors that were on: what a cut cost."""
    truth = result["truth"]
    if truth is None:
        return ""
    rows = [(_sensors(row["sensors"]), str(row["frames"]), f"{row['overlap']:.3f}") for row in truth["by_sensors"]]
    text = table(("Sensors that were on", "Frames", "Mean IoU"), rows, label="Overlap by sensors")
    if len(rows) == 1:
        text += (
            '<p class="quiet">Cut a sensor while the next run goes on: the frames without it get a row of their own '
            "here.</p>"
        )
    return text


def objects_table(result: Mapping[str, Any]) -> str:
    """The timeline in figures."""
    if not result["objects"]:
        return '<p class="quiet">No objects.</p>'
    # Keys of a result are text: it is kept as JSON.
    truth = result["truth"]["per_object"] if result["truth"] and result["task"] in PROMPTED else {}
    rows = [
        (
            f"Object {row['id']}",
            f"{row['first_frame'] + 1} – {row['last_frame'] + 1}",
            str(row["frames"]),
            str(row["stale_frames"]),
            f"{row['mean_score']:.2f}",
            *([f"{truth[str(row['id'])]:.3f}" if str(row["id"]) in truth else "–"] if truth else []),
        )
        for row in result["objects"][:MOST_LANES]
    ]
    headings = ("Object", "First and last frame", "Frames", "Held", "Mean score", *(["IoU"] if truth else []))
    left_out = len(result["objects"]) - len(rows)
    more = f'<p class="quiet">{left_out} more objects are in tracks.json.</p>' if left_out else ""
    return table(headings, rows, label="Objects") + more


def experts_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """The heat map in figures, and the expert that is used least."""
    if not rows:
        return '<p class="quiet">This checkpoint has no experts switched on.</p>'
    groups = list(dict.fromkeys(group for group, _ in expert_columns(rows)))
    shares = {(row["layer"], row["group"]): row["shares"] for row in rows}
    cells = [
        (
            f"Layer {layer + 1}",
            *(
                " / ".join(f"{100 * share:.0f}" for share in shares[layer, group]) if (layer, group) in shares else "–"
                for group in groups
            ),
        )
        for layer in sorted({row["layer"] for row in rows})
    ]
    headings = ("Layer", *(f"{GROUPS[group]}, %" for group in groups))
    return table(headings, cells, label="Experts") + f'<p class="quiet">{escape(_least(rows))}</p>'


def _least(rows: Sequence[Mapping[str, Any]]) -> str:
    row = min(rows, key=lambda row: row["least"])
    number = row["shares"].index(row["least"]) + 1
    text = (
        f"Least used: {100 * row['least']:.0f} % of its group's selections, expert {number} of "
        f"{GROUPS[row['group']].lower() if row['group'] == 'common' else GROUPS[row['group']]} in layer "
        f"{row['layer'] + 1}."
    )
    rare = sum(share < RARE for each in rows for share in each["shares"])
    return text + (f" {rare} experts have less than {100 * RARE:.0f} %." if rare else " Every expert works.")


def caption(result: Mapping[str, Any]) -> str:
    """The figures without which no other should be read."""
    run, clip = result["run"], result["clip"]
    pace = run["ms_per_frame"]
    height, width = clip["size"]
    values = {
        "Clip": f"{clip['frames']} frames of {width} × {height}",
        "Task": TASKS[result["task"]],
        "Per frame": f"{pace['median']:.0f} ms median, {pace['p95']:.0f} ms at the 95th percentile",
        "Speed": f"{run['frames_per_second']:.1f} frames/s, drawing and pace left out",
        "Device": f"{run['device']}, {run['dtype']}",
        "Attention": f"{run['attention']['backend']}: {run['attention']['reason']}",
        "Model": f"{run['checkpoint']}, {run['parameters'] / 1e6:.1f} M parameters, all tasks and sensors",
    }
    if run["peak_memory_bytes"] is not None:
        values["Peak memory"] = f"{run['peak_memory_bytes'] / 2**20:,.0f} MB{_memory(run['device'])}"
    if run["seed"] is not None:
        values["Seed"] = str(run["seed"])
    return readout(values, label="How this was measured")


def _memory(device: str) -> str:
    return "" if device.startswith("cuda") else " of the whole process, this app included"


def _sensors(names: Sequence[str]) -> str:
    return " + ".join(SENSORS[name] for name in names) or "none: the last result is held"


def _figure(name: str, value: float | None) -> str:
    if value is None:  # not a number: the truth has no object to judge by
        return "–"
    return (f"{value:.3f}" if METRICS[name][2] else f"{value:,.0f}").replace("-", "−")
