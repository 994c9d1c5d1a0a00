"""How plots look on every page; their text takes the theme's colours by CSS."""

from __future__ import annotations

import plotly.graph_objects as go

from apps.theme import SANS


def style_figure(figure: go.Figure, *, height: int) -> None:
    """Transparent, in the page's letters, without a legend of its own; `height` in pixels."""
    figure.update_layout(
        height=height,
        margin={"l": 8, "r": 16, "t": 8, "b": 8},
        showlegend=False,
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        font={"size": 13, "family": ", ".join(SANS)},
        hoverlabel={"font_size": 13},
    )
    figure.update_yaxes(automargin=True, fixedrange=True)
    figure.update_xaxes(title_font_size=13, automargin=True, zeroline=False, fixedrange=True)
