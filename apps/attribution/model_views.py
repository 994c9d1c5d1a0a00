"""What a report on a model looks like: atoms by depth, the dropping test beside them, and what the analysis cost."""

from __future__ import annotations

import io
from base64 import b64encode
from collections.abc import Sequence
from html import escape
from typing import Any

import plotly.graph_objects as go

from apps.attribution.views import ATOMS, DECISIONS, NOTHING_LOST, interval, number, short_labels
from apps.components import note, readout, table
from apps.figures import style_figure
from core.registry import load_object

ABOUT = {
    "stream": "**Stream by depth.** One stream is read at the layer, the other at its own encoder; the target stays. "
    "Where the other modality arrives in a stream, what only the other one knew becomes redundant, and what only both "
    "together knew is known to the stream alone.",
    "target": "**Target by depth.** Both sources stay; the target is what the model's own head would decide from the "
    "layer's state.",
}


def depth_figure(report: Any, kind: str) -> go.Figure:
    """Atoms stacked by layer."""
    figure = load_object("plugins.attribution.figures:depth_figure")(report, kind)
    style_figure(figure, height=320)
    return figure


def heat_map(report: Any, kind: str) -> go.Figure:
    """Atoms against layers."""
    figure = load_object("plugins.attribution.figures:heat_map")(report, kind)
    style_figure(figure, height=230)
    return figure


def examples_strip(rows: Sequence[dict[str, Any]]) -> str:
    """A few generated examples as they are given to the model: picture, text, and the right answer."""
    figures = "".join(
        f'<figure><img src="{_data_address(row["image"])}" alt="A generated picture" width="96" height="96">'
        f"<figcaption>{escape(row['text'])} → <strong>{escape(row['label'])}</strong></figcaption></figure>"
        for row in rows
    )
    return f'<div class="examples">{figures}</div>'


def _data_address(image: Any) -> str:
    """A small picture as an address of its own."""
    file = io.BytesIO()
    image.save(file, "PNG")
    return f"data:image/png;base64,{b64encode(file.getvalue()).decode()}"


def layers_table(report: Any, kind: str) -> str:
    """The plots' accessible twin: bits with intervals, layer by layer."""
    rows = []
    for each in report.layers:
        if each.kind == kind:
            atoms = [_cell(each.quantities[name]) for name in (*ATOMS, "total")]
            rows.append((each.layer, *atoms, number(each.quantities["total"].null_high)))
    if not rows:
        return '<p class="quiet">No layer of this kind was asked for.</p>'
    headings = ("Layer", *short_labels(report.names).values(), "Both", "Shuffled (95 %)")
    return table(headings, rows, label="Atoms by layer, in bits")


def truth_table(report: Any, truth: Sequence[float] | None) -> str:
    """Measured atoms of the decision beside the planted ones."""
    if truth is None:
        return ""
    rows = [
        (label, f"{planted:.3f}", number(report.quantities[atom].value), interval(report.quantities[atom]))
        for (atom, label), planted in zip(short_labels(report.names).items(), truth, strict=True)
    ]
    percent = round(100 * report.confidence)
    headings = ("At the decision", "Planted, bits", "Measured, bits", f"{percent} % interval")
    return table(headings, rows, label="Planted and measured atoms")


def dropping_table(report: Any) -> str:
    """The same question, answered by exchanging a modality, beside what the atoms say."""
    test = report.model.dropping
    if test is None:
        return ""
    rows = []
    for stream, verdict in enumerate(report.verdicts, start=1):
        drop = test.drop(stream)
        usual = "it can go" if drop < NOTHING_LOST else "it matters"
        lost, alone = verdict.lost_if_removed, verdict.worth_alone
        rows.append(
            (
                verdict.name,
                f"{100 * drop:.1f} points",
                usual,
                f"{number(lost.value)} bits",
                f"{number(alone.value)} bits",
                DECISIONS[verdict.decision][1],
            )
        )
    headings = ("Modality", "Accuracy lost", "The usual reading", "Lost without it", "Worth alone", "The atoms say")
    right = "the labels" if test.reference == "label" else "the model's own answers"
    return table(headings, rows, label="Modality exchange and atoms") + (
        f'<p class="quiet">Accuracy against {right}: {100 * test.both:.1f} % as it is, '
        f"{100 * test.without_1:.1f} % with another example's {escape(report.names[0])}, "
        f"{100 * test.without_2:.1f} % with another example's {escape(report.names[1])}. "
        f"{escape(misled(report))}</p>"
    )


def misled(report: Any) -> str:
    """Where exchanging a modality misleads on this data, if it does."""
    test, q = report.model.dropping, report.quantities
    drops = [test.drop(stream) for stream in (1, 2)]
    shared, joint = q["redundancy"].low > report.threshold, q["synergy"].low > report.threshold
    if shared and min(drops) < NOTHING_LOST:
        unused = report.names[drops.index(min(drops))]
        return (
            f"It says that {unused} can go, because this model does not look at it; the atoms say that it repeats "
            f"{q['redundancy'].value:.2f} bits of the other and could stand in for it."
        )
    if shared and min(drops) > NOTHING_LOST and q["unique_1"].high < report.threshold > q["unique_2"].high:
        return "It says that both are needed; the atoms say that each could do the whole work alone."
    if joint and min(drops) > NOTHING_LOST:
        return (
            "It charges a loss to each, and cannot say that what is lost exists only in their combination: the atoms "
            f"put {q['synergy'].value:.2f} bits into synergy, once."
        )
    return ""


def cost_readout(report: Any, seconds: float) -> str:
    """What the analysis cost, against the plain forward passes."""
    m = report.model
    plain = max(m.seconds_in_model, 1e-9)
    values = {
        "Model": f"{m.model} ({m.family})",
        "Explained": f"the model's {m.target}",
        "Examples": f"{m.examples:,}" + (f", {len(m.skipped):,} skipped" if m.skipped else ""),
        "Plain forward passes": f"{m.seconds_in_model:.2f} s",
        "Reading the layers": f"{m.seconds_pooling:.2f} s, {100 * m.capture_overhead:.1f} % on top",
        "Statistics": f"{m.seconds_analysing:.2f} s, {m.seconds_analysing / plain:.1f} times the passes",
        "Samples per cell": f"{report.samples_per_cell:.1f}",
        "Certified solver gap": f"{report.gap:.0e} bits",
        "Wall time": f"{seconds:.1f} s",
        "Peak memory": f"{(report.run.get('peak_memory_bytes') or 0) / 2**20:,.0f} MB",
        "Device": str(report.run.get("device", "")),
        "Attention": str(report.run.get("attention", {}).get("backend", "")),
        "Seed": str(report.run.get("seed", "")),
    }
    return "".join(note(warning) for warning in report.warnings) + readout(values, label="What the analysis cost")


def skipped_list(report: Any) -> str:
    """Examples that were left out, and why."""
    if not report.model.skipped:
        return ""
    rows = [(name, reason) for name, reason in report.model.skipped[:50]]
    return table(("Skipped", "Reason"), rows, label="Examples that were left out")


def _cell(e: Any) -> str:
    return f"{number(e.value)} ({interval(e)})" if interval(e) else "withheld"
