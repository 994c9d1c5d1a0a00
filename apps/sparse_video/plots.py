"""The page's plots; beside each stands a table with the same figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import plotly.graph_objects as go

from apps.figures import style_figure
from apps.sparse_video.player import NAMES

# Okabe and Ito's colours, told apart by colour-blind readers; the same for a method everywhere.
COLOURS = {"dense": "#7b8a92", "sparse": "#E69F00", "rectified": "#009E73", "centroid": "#CC79A7"}
_DASHES = {"dense": "dot", "sparse": "dash", "rectified": "solid", "centroid": "dashdot"}


def legend(methods: Sequence[str]) -> str:
    """What the colours mean."""
    items = "".join(
        f'<li><span style="background:{COLOURS[method]}"></span>{NAMES[method]}</li>'
        for method in COLOURS
        if method in methods
    )
    return f'<ul class="legend">{items}</ul>'


def steps_figure(result: Mapping[str, Any]) -> go.Figure:
    """Seconds of each denoising step, one line per kind of attention."""
    figure = go.Figure()
    for clip in result["clips"]:
        seconds = clip["run"]["step_seconds"]
        _line(figure, clip["method"], range(1, len(seconds) + 1), seconds, "step %{x}: %{y:.2f} s")
    _style(figure, x="step", y="seconds")
    figure.update_yaxes(rangemode="tozero")
    figure.update_xaxes(dtick=1 if len(result["clips"][0]["run"]["step_seconds"]) <= 15 else None)
    return figure


def fidelity_figure(result: Mapping[str, Any]) -> go.Figure | None:
    """PSNR against dense, frame by frame; None where nothing was compared with dense."""
    clips = [clip for clip in result["clips"] if clip["psnr_per_frame"]]
    if not clips:
        return None
    figure = go.Figure()
    for clip in clips:
        values = clip["psnr_per_frame"]
        _line(figure, clip["method"], range(1, len(values) + 1), values, "frame %{x}: %{y:.1f} dB")
    _style(figure, x="frame", y="PSNR against dense, dB")
    return figure


def error_figure(inside: Mapping[str, Any]) -> go.Figure:
    """Relative error of the attention's output by layer, same inputs and same blocks for every method."""
    figure = go.Figure()
    layers = [f"{row['layer'] + 1}" for row in inside["layers"]]
    for method in COLOURS:
        if method in inside["layers"][0]["errors"]:
            figure.add_bar(
                name=NAMES[method],
                x=layers,
                y=[100 * row["errors"].get(method, 0.0) for row in inside["layers"]],
                marker_color=COLOURS[method],
                hovertemplate=f"{NAMES[method]}, layer %{{x}}: %{{y:.1f}} %<extra></extra>",
            )
    _style(figure, x="layer", y="error, %")
    figure.update_layout(barmode="group", bargap=0.3)
    figure.update_xaxes(type="category")
    return figure


def _line(figure: go.Figure, method: str, x: Sequence[int], y: Sequence[float | None], hover: str) -> None:
    figure.add_scatter(
        name=NAMES[method],
        x=list(x),
        y=list(y),
        mode="lines+markers",
        line={"color": COLOURS[method], "width": 2.5, "dash": _DASHES[method]},
        marker={"size": 6},
        hovertemplate=f"{NAMES[method]}, {hover}<extra></extra>",
    )


def _style(figure: go.Figure, *, x: str, y: str) -> None:
    style_figure(figure, height=250)
    figure.update_xaxes(title_text=x)
    figure.update_yaxes(title_text=y, title_font_size=13, zeroline=False, ticksuffix=" ")
