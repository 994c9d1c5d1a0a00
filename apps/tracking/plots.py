"""The page's plots; beside each stands a table with the same figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import plotly.graph_objects as go

from apps.figures import style_figure
from apps.tracking.request import SENSORS

ACCENT, CUT = "#1c8a86", "#E69F00"
# More of one colour, the less of the page shows through: the same in light and dark.
SCALE = ((0.0, "rgba(31, 158, 152, 0.05)"), (0.5, "rgba(31, 158, 152, 0.7)"), (1.0, "rgba(31, 158, 152, 1)"))
GROUPS = {"common": "Common", **SENSORS}


def overlap_figure(result: Mapping[str, Any]) -> go.Figure | None:
    """Overlap with the truth in each frame, and in which of them a sensor was cut; None without truth."""
    truth = result["truth"]
    if truth is None:
        return None
    values = truth["overlap"]
    figure = go.Figure()
    figure.add_scatter(
        x=list(range(1, len(values) + 1)),
        y=values,
        mode="lines+markers",
        line={"color": ACCENT, "width": 2.5},
        marker={"size": 5},
        hovertemplate="frame %{x}: %{y:.2f}<extra></extra>",
    )
    for first, last in cut_ranges(result):
        figure.add_vrect(x0=first + 0.5, x1=last + 1.5, fillcolor=CUT, opacity=0.28, line_width=0)
    style_figure(figure, height=230)
    figure.update_xaxes(title_text="frame")
    figure.update_yaxes(
        title_text="IoU, mean over objects", title_font_size=13, range=[-0.03, 1.03], ticksuffix=" ", zeroline=False
    )
    return figure


def cut_ranges(result: Mapping[str, Any]) -> list[tuple[int, int]]:
    """Runs of frames, first and last from 0, in which a sensor that was asked for gave nothing."""
    ranges: list[tuple[int, int]] = []
    for number, on in enumerate(result["on"]):
        if len(on) == len(result["sensors"]):
            continue
        if ranges and ranges[-1][1] == number - 1:
            ranges[-1] = ranges[-1][0], number
        else:
            ranges.append((number, number))
    return ranges


def overlap_legend(result: Mapping[str, Any]) -> str:
    """What the line and the bands mean."""
    if result["truth"] is None:
        return ""
    items = [f'<li><span style="background:{ACCENT}"></span>Overlap with the true objects</li>']
    if cut_ranges(result):
        items.append(f'<li><span style="background:{CUT};opacity:.45"></span>A sensor was off</li>')
    return f'<ul class="legend">{"".join(items)}</ul>'


def expert_columns(rows: Sequence[Mapping[str, Any]]) -> list[tuple[str, int]]:
    """Group and number of every expert, in the order of the plot: common ones first."""
    sizes = {row["group"]: len(row["shares"]) for row in rows}
    return [(group, number) for group in GROUPS if group in sizes for number in range(sizes[group])]


def expert_figure(rows: Sequence[Mapping[str, Any]]) -> go.Figure | None:
    """Share of its group's selections that each expert had, layer by layer; None where there are no experts."""
    if not rows:
        return None
    columns = expert_columns(rows)
    shares = {(row["layer"], row["group"]): row["shares"] for row in rows}
    layers = sorted({row["layer"] for row in rows})
    table = [
        [100 * shares[layer, group][number] if (layer, group) in shares else None for group, number in columns]
        for layer in layers
    ]
    figure = go.Figure(
        go.Heatmap(
            z=table,
            x=[[GROUPS[group] for group, _ in columns], [str(number + 1) for _, number in columns]],
            y=[f"layer {layer + 1}" for layer in layers],
            zmin=0,
            zmax=100,
            colorscale=[list(stop) for stop in SCALE],
            showscale=False,
            xgap=2,
            ygap=2,
            hovertemplate="%{y}, %{x}: %{z:.0f} %<extra></extra>",
        )
    )
    style_figure(figure, height=90 + 30 * len(layers))
    figure.update_yaxes(autorange="reversed", showgrid=False, ticksuffix=" ")
    figure.update_xaxes(showgrid=False, side="top", showdividers=False)
    return figure


def expert_legend() -> str:
    """What the colours of the heat map mean."""
    stops = ", ".join(f"{colour} {100 * place:.0f}%" for place, colour in SCALE)
    return (
        f'<div class="scale"><span>0 %</span><i style="background:linear-gradient(90deg, {stops})"></i>'
        "<span>100 % of a group's selections</span></div>"
    )
