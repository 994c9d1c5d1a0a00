"""Plots of a report: the four atoms, and the atoms by depth as stacked bars and as a heat map."""

from __future__ import annotations

import math
from html import escape
from typing import TYPE_CHECKING

import plotly.graph_objects as go

from .estimation import ATOMS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .estimation import Estimate
    from .layers import LayerReading
    from .report import AttributionReport

# Okabe and Ito's colours, told apart by colour-blind readers; the same for an atom everywhere.
COLOURS = {"redundancy": "#0072B2", "unique_1": "#009E73", "unique_2": "#E69F00", "synergy": "#CC79A7"}
NULL_COLOUR = "rgba(128, 140, 146, 0.45)"
INK = "#5b6a72"


def depth_figure(report: AttributionReport, kind: str) -> go.Figure:
    """Atoms stacked for each layer, whiskers on the sum, and a grey line where shuffled data stays (95 %).

    Args:
        kind: "stream" or "target", as of `LayerReading`.
    """
    layers = layers_of(report, kind)
    names = [each.layer for each in layers]
    figure = go.Figure()
    for atom in ATOMS:
        label = escape(report.label(atom))
        figure.add_bar(
            name=label,
            x=names,
            y=[_shown(each.quantities[atom].value) for each in layers],
            marker_color=COLOURS[atom],
            hovertemplate=f"%{{x}}, {label}: %{{y:.3f}} bits<extra></extra>",
        )
    totals = [each.quantities["total"] for each in layers]
    figure.add_scatter(
        x=names,
        y=[_shown(e.value) for e in totals],
        error_y=_whiskers(totals),
        mode="markers",
        marker={"size": 1, "color": INK},
        hoverinfo="skip",
    )
    figure.add_scatter(
        x=names,
        y=[e.null_high for e in totals],
        mode="markers",
        marker={"symbol": "line-ew", "size": 22, "line": {"width": 3, "color": NULL_COLOUR}},
        hovertemplate="%{x}: shuffled data stays under %{y:.3f} bits<extra></extra>",
    )
    figure.update_layout(barmode="stack", bargap=0.3)
    figure.update_yaxes(title_text="bits", rangemode="tozero")
    return figure


def heat_map(report: AttributionReport, kind: str) -> go.Figure:
    """Atoms against layers, bits written into the cells."""
    layers = layers_of(report, kind)
    rows = [*ATOMS, "total"][::-1]
    values = [[_shown(each.quantities[name].value) for each in layers] for name in rows]
    figure = go.Figure(
        go.Heatmap(
            z=values,
            x=[each.layer for each in layers],
            y=[escape(_short(report, name)) for name in rows],
            colorscale=[[0, "rgba(20, 140, 200, 0)"], [1, "rgba(20, 140, 200, 0.55)"]],  # on light and on dark
            zmin=0,
            text=[[f"{value:.2f}" for value in row] for row in values],
            texttemplate="%{text}",
            showscale=False,
            xgap=2,
            ygap=2,
            hovertemplate="%{x}, %{y}: %{z:.3f} bits<extra></extra>",
        )
    )
    figure.update_xaxes(showgrid=False)
    figure.update_yaxes(ticksuffix="  ", showgrid=False)
    return figure


def atoms_figure(report: AttributionReport) -> go.Figure:
    """The decision's four atoms with intervals, and the band where shuffled data stays."""
    estimates = [report.quantities[atom] for atom in ATOMS]
    labels = [escape(report.label(atom)) for atom in ATOMS]
    figure = go.Figure()
    figure.add_bar(
        x=labels, y=[e.null_high for e in estimates], width=0.86, marker_color=NULL_COLOUR, name="shuffled, 95 %"
    )
    figure.add_bar(
        x=labels,
        y=[_shown(e.value) for e in estimates],
        width=0.5,
        error_y=_whiskers(estimates),
        marker_color=[COLOURS[atom] for atom in ATOMS],
        name="measured",
    )
    figure.update_layout(barmode="overlay")
    figure.update_yaxes(title_text="bits", rangemode="tozero")
    return figure


def layers_of(report: AttributionReport, kind: str) -> list[LayerReading]:
    """The layers of one profile, in order of depth."""
    return [each for each in report.layers if each.kind == kind]


def _short(report: AttributionReport, name: str) -> str:
    """A quantity's name, short enough for an axis on a narrow screen."""
    first, second = report.names
    names = {"redundancy": "Redundant", "unique_1": f"Only {first}", "unique_2": f"Only {second}"}
    return (names | {"synergy": "Synergy", "total": "Both"})[name]


def _whiskers(estimates: Sequence[Estimate]) -> dict[str, object]:
    """Asymmetric error bars from the intervals; none where a value is withheld."""
    shown = [_shown(e.value) for e in estimates]
    pairs = list(zip(estimates, shown, strict=True))
    return {
        "type": "data",
        "symmetric": False,
        "array": [0.0 if math.isnan(e.high) else max(0.0, e.high - x) for e, x in pairs],
        "arrayminus": [0.0 if math.isnan(e.low) else max(0.0, x - e.low) for e, x in pairs],
        "color": INK,
        "thickness": 1.6,
        "width": 5,
    }


def _shown(value: float) -> float:
    """A bar's length: unbiased estimates of zero may be negative, withheld ones are NaN."""
    return 0.0 if math.isnan(value) else max(0.0, value)
