"""What a report looks like: verdict cards, plots and the tables beside them. Every value in HTML is escaped."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from typing import Any

import plotly.graph_objects as go

from apps.components import note, readout, sentence, table
from apps.figures import style_figure

# Okabe and Ito's colours, told apart by colour-blind readers; the same for an atom everywhere.
COLOURS = {"redundancy": "#0072B2", "unique_1": "#009E73", "unique_2": "#E69F00", "synergy": "#CC79A7"}
NULL_COLOUR = "rgba(128, 140, 146, 0.45)"
ATOMS = tuple(COLOURS)
DECISIONS = {
    "keep": ("good", "Keep"),
    "needs early fusion": ("good", "Needs early fusion"),
    "keep as failover": ("spare", "Keep as failover"),
    "drop": ("drop", "Drop"),
    "inconclusive": ("open", "Inconclusive"),
}
MOST_CHOICES = 500  # columns offered in a menu; others can be typed
NOTHING_LOST = 0.01  # accuracy; what the usual test takes for "it can go"


def short_labels(names: Sequence[str]) -> dict[str, str]:
    """Atoms by the streams' names, short enough for an axis; not escaped."""
    return {
        "redundancy": "Redundant",
        "unique_1": f"Only {names[0]}",
        "unique_2": f"Only {names[1]}",
        "synergy": "Synergy",
    }


def verdict_cards(report: Any, costs: Sequence[float | None]) -> str:
    """One card a stream: what to do, why, and what a dollar buys."""
    cards = []
    for stream, (verdict, cost) in enumerate(zip(report.verdicts, costs, strict=True), start=1):
        tone, title = DECISIONS[verdict.decision]
        lost, alone = verdict.lost_if_removed, verdict.worth_alone
        facts = {
            "Lost if removed": _with_interval(lost),
            "Worth alone": _with_interval(alone),
            "Shapley share": _bits(verdict.shapley_share),
            "Accuracy lost if removed": f"{100 * report.accuracy.drop(stream):.1f} points",
        }
        if verdict.samples_needed is not None:
            facts["To settle it"] = f"n ≥ {verdict.samples_needed:,}"
        if cost:
            facts["Bits per dollar a month"] = (
                f"{lost.value / cost:.4f} ({lost.low / cost:.4f} to {lost.high / cost:.4f})"
            )
        cards.append(
            f'<article class="verdict verdict-{tone}"><h3>{escape(verdict.name)}</h3>'
            f'<p class="decision">{escape(title)}</p><p>{escape(sentence(verdict.reason))}</p>'
            f"{readout(facts, label=f'Figures of {verdict.name}')}</article>"
        )
    return f'<div class="verdicts">{"".join(cards)}</div>'


def stack_legend(names: Sequence[str]) -> str:
    """What the colours mean."""
    items = "".join(
        f'<li><span style="background:{COLOURS[atom]}"></span>{escape(label)}</li>'
        for atom, label in short_labels(names).items()
    )
    return f'<ul class="legend">{items}<li><span class="dotted"></span>all there is to know, H(Y)</li></ul>'


def atoms_legend(*, truth: bool) -> str:
    """What else the plot of the atoms shows."""
    diamond = '<li><span class="diamond"></span>truth</li>' if truth else ""
    band = f'<li><span style="background:{NULL_COLOUR}"></span>where shuffled data stays, 95 %</li>'
    return f'<ul class="legend"><li><span class="whisker"></span>interval</li>{band}{diamond}</ul>'


def stack_figure(report: Any) -> go.Figure:
    """What both streams, and each alone, say about the target: atoms stacked, with the interval of the sum."""
    first, second = (escape(name) for name in report.names)  # plotly reads markup in text
    labels, quantities = short_labels((first, second)), report.quantities
    rows = {
        f"{second} alone": ("information_2", ("redundancy", "unique_2")),
        f"{first} alone": ("information_1", ("redundancy", "unique_1")),
        "both": ("total", ATOMS),
    }
    figure = go.Figure()
    for atom in ATOMS:
        widths = [_shown(quantities[atom].value) if atom in atoms else 0.0 for _, atoms in rows.values()]
        figure.add_bar(
            name=labels[atom],
            y=list(rows),
            x=widths,
            orientation="h",
            marker_color=COLOURS[atom],
            hovertemplate=f"{labels[atom]}: %{{x:.3f}} bits<extra></extra>",
        )
    sums = [quantities[name] for name, _ in rows.values()]
    figure.add_scatter(
        y=list(rows),
        x=[_shown(e.value) for e in sums],
        error_x=_whiskers(sums),
        mode="markers",
        marker={"size": 1, "color": "#5b6a72"},
        hoverinfo="skip",
    )
    figure.add_vline(x=report.target_entropy, line_dash="dot", line_color="#7b8a92")
    _style(figure, height=230)
    figure.update_layout(barmode="stack")
    figure.update_xaxes(range=[0, 1.04 * report.target_entropy], title_text="bits")
    return figure


def atoms_figure(quantities: dict[str, Any], names: Sequence[str], truth: dict[str, float] | None = None) -> go.Figure:
    """The four atoms with their intervals; the grey band is where shuffled data lands, a diamond is the truth."""
    labels = short_labels([escape(name) for name in names])
    order = ATOMS[::-1]
    axis = [labels[atom] for atom in order]
    estimates = [quantities[atom] for atom in order]
    figure = go.Figure()
    figure.add_bar(
        name="shuffled data (95 %)",
        y=axis,
        x=[e.null_high for e in estimates],
        orientation="h",
        width=0.86,
        marker_color=NULL_COLOUR,
        hovertemplate="shuffled data stays under %{x:.3f} bits<extra></extra>",
    )
    figure.add_bar(
        y=axis,
        x=[_shown(e.value) for e in estimates],
        orientation="h",
        width=0.5,
        error_x=_whiskers(estimates),
        marker_color=[COLOURS[atom] for atom in order],
        hovertemplate="%{y}: %{x:.3f} bits<extra></extra>",
    )
    if truth:
        figure.add_scatter(
            name="truth",
            y=axis,
            x=[truth[atom] for atom in order],
            mode="markers",
            marker={"symbol": "diamond-open", "size": 13, "color": "#d1495b", "line": {"width": 2.5}},
            hovertemplate="truth: %{x:.3f} bits<extra></extra>",
        )
    _style(figure, height=260)
    figure.update_layout(barmode="overlay")
    figure.update_xaxes(title_text="bits", rangemode="tozero")
    return figure


def quantities_table(report: Any) -> str:
    """All quantities with errors, the plot's accessible twin."""
    percent = round(100 * report.confidence)
    rows = []
    for name, e in report.quantities.items():
        note = "" if e.reliable else "too few samples"
        share = "" if math.isnan(e.value) else f"{100 * max(e.value, 0.0) / report.target_entropy:.0f} %"
        rows.append(
            (report.label(name), number(e.value), interval(e), share, number(e.null_high), f"{e.p_value:.2f}", note)
        )
    headings = ("Quantity", "Bits", f"{percent} % interval", "Of H(Y)", "Shuffled (95 %)", "p", "")
    return table(headings, rows, label="Atoms and what follows from them, in bits")


def accuracy_table(report: Any) -> str:
    """What the usual drop-the-modality test would have concluded, beside what the atoms say."""
    rows = []
    for stream, verdict in enumerate(report.verdicts, start=1):
        drop = report.accuracy.drop(stream)
        usual = "it can go" if drop < NOTHING_LOST else "it matters"
        without = report.accuracy.only_2 if stream == 1 else report.accuracy.only_1
        rows.append(
            (verdict.name, _percent(without), f"{100 * drop:.1f} points", usual, DECISIONS[verdict.decision][1])
        )
    headings = ("Stream", "Accuracy without it", "Accuracy lost", "The usual reading", "The atoms say")
    return table(headings, rows, label="Drop-the-modality accuracy test") + (
        f'<p class="quiet">With both streams {_percent(report.accuracy.both)}, with neither '
        f"{_percent(report.accuracy.neither)}; a lookup classifier on one half, scored on the other. "
        f"{escape(_misled(report))}</p>"
    )


def _misled(report: Any) -> str:
    """Where the accuracy test goes wrong on this data, if it does."""
    drops = [report.accuracy.drop(stream) for stream in (1, 2)]
    decisions = {verdict.decision for verdict in report.verdicts}
    if max(drops) < NOTHING_LOST and decisions != {"drop"}:
        return (
            "Read one stream at a time, the test says that both can go: it cannot see that each is the other's backup."
        )
    if "needs early fusion" in decisions:
        return "The test sees that something is lost, but not that it exists only in the combination."
    return ""


def audit_table(report: Any, audit: Any | None) -> str:
    """The whole analysis again with shuffled labels: what the method says about noise."""
    if audit is None:
        return '<p class="quiet">The noise audit was switched off for this run.</p>'
    rows = [
        (report.label(name), number(report.quantities[name].value), number(e.value), interval(e))
        for name, e in audit.quantities.items()
        if name in (*ATOMS, "total")
    ]
    loud = [name for name in ATOMS if audit.quantities[name].low > report.threshold]
    conclusion = (
        "Shuffled labels read as nothing, as they should."
        if not loud
        else "Shuffled labels read as something: do not trust this analysis; give more samples or use fewer bins."
    )
    headings = ("Quantity", "Your data, bits", "Labels shuffled, bits", "Interval")
    return f"<p>{escape(conclusion)}</p>" + table(headings, rows, label="Noise audit")


def reading_table(report: Any) -> str:
    """How much of what a probe reads survives quantising."""
    if not report.readings:
        return ""
    rows = [
        (
            name,
            r.quantiser,
            str(r.symbols),
            f"{number(r.usable_information)} ± {number(r.standard_error)}",
            number(r.binned_information),
            "–" if r.retained is None else f"{100 * r.retained:.0f} %",
        )
        for name, r in zip(report.names, report.readings, strict=True)
    ]
    headings = ("Stream", "Quantiser", "Symbols", "A probe reads, bits", "The codes keep, bits", "Kept")
    total = report.quantities["total"].value
    joint = (
        f'<p class="quiet">Both streams: a joint probe reads {number(report.joint_information)} bits, '
        f"the codes keep {number(total)} bits.</p>"
        if report.joint_information is not None
        else ""
    )
    return table(headings, rows, label="Information kept by quantising") + joint


def caption(report: Any, seconds: float) -> str:
    """The figures without which no atom should be read."""
    n1, n2, ny = report.shape
    values = {
        "Examples": f"{report.examples:,}",
        "Samples per cell": f"{report.samples_per_cell:.1f}",
        "Cells": f"{n1} × {n2} × {ny}",
        "H(Y)": f"{report.target_entropy:.3f} bits",
        "Certified solver gap": f"{report.gap:.0e} bits",
        "Wall time": f"{seconds:.1f} s",
        "Peak memory": f"{(report.run.get('peak_memory_bytes') or 0) / 2**20:,.0f} MB",
        "Solver on": report.run.get("device", ""),
        "Seed": str(report.run.get("seed", "")),
    }
    return "".join(note(warning) for warning in report.warnings) + readout(values, label="How this was measured")


def file_note(summary: Any) -> str:
    """What a file was found to hold, before anything is run."""
    if summary.problem:
        return note(summary.problem)
    first, second = summary.streams
    return f'<p class="quiet">{escape(first)}; {escape(second)}; target {escape(summary.target)}</p>'


def _style(figure: go.Figure, *, height: int) -> None:
    style_figure(figure, height=height)
    figure.update_layout(bargap=0.35)
    figure.update_yaxes(ticksuffix="  ")


def _whiskers(estimates: Sequence[Any]) -> dict[str, Any]:
    """Asymmetric error bars from the intervals; none where a value is withheld."""
    shown = [_shown(e.value) for e in estimates]
    return {
        "type": "data",
        "symmetric": False,
        "array": [0.0 if math.isnan(e.high) else max(0.0, e.high - x) for e, x in zip(estimates, shown, strict=True)],
        "arrayminus": [
            0.0 if math.isnan(e.low) else max(0.0, x - e.low) for e, x in zip(estimates, shown, strict=True)
        ],
        "color": "#5b6a72",
        "thickness": 1.6,
        "width": 5,
    }


def _shown(value: float) -> float:
    """A bar's length: unbiased estimates of zero may be negative, withheld ones are NaN."""
    return 0.0 if math.isnan(value) else max(0.0, value)


def number(value: float) -> str:
    return "withheld" if math.isnan(value) else f"{value:.3f}".replace("-0.000", "0.000")


def interval(e: Any) -> str:
    return "" if math.isnan(e.value) else f"{e.low:.3f} to {e.high:.3f}"


def _with_interval(e: Any) -> str:
    return "withheld" if math.isnan(e.value) else f"{_bits(e.value)} ({interval(e)})"


def _bits(value: float) -> str:
    return "withheld" if math.isnan(value) else f"{number(value)} bits"


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
