"""A report as one HTML file that needs nothing else: verdicts, plots, and a table beside every plot."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

import plotly.graph_objects as go

from .estimation import ATOMS
from .figures import atoms_figure, depth_figure, heat_map, layers_of

if TYPE_CHECKING:
    import pandas as pd

    from .report import AttributionReport

STYLE = """
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif; }
body { max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; font-size: 0.9rem; }
th, td { padding: 0.3rem 0.6rem; text-align: right; border-bottom: 1px solid #8884; }
th:first-child, td:first-child { text-align: left; }
.scroll { overflow-x: auto; }
.plot { background: #fff; border-radius: 0.5rem; padding: 0.5rem; }
.quiet { opacity: 0.8; font-size: 0.9rem; }
"""
TITLES = {
    "stream": "Stream by depth: one stream is read at the layer, the target stays",
    "target": "Target by depth: what the model would decide at the layer, the sources stay",
}


def to_html(report: AttributionReport) -> str:
    """The whole report as one page; every value from outside is escaped."""
    names = " and ".join(report.names)
    parts = [f"<h1>What {escape(names)} say about the {_target(report)}</h1>", _verdicts(report)]
    parts += [_plot(atoms_figure(report), first=True), _table(report)]
    for kind, title in TITLES.items():
        if layers_of(report, kind):
            parts += [f"<h2>{escape(title)}</h2>", _plot(depth_figure(report, kind)), _plot(heat_map(report, kind))]
            parts.append(_layers_table(report, kind))
    parts += [f'<p class="quiet">{escape(line)}</p>' for line in (report.caption(), *report.warnings)]
    if report.model is not None and report.model.skipped:
        items = "".join(f"<li>{escape(name)}: {escape(reason)}</li>" for name, reason in report.model.skipped[:100])
        parts.append(f"<h2>{len(report.model.skipped):,} examples were skipped</h2><ul>{items}</ul>")
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(names)}</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<style>{STYLE}</style></head><body>{''.join(parts)}</body></html>"
    )


def _target(report: AttributionReport) -> str:
    if report.model is None:
        return "target"
    return f"{report.model.target} of {escape(report.model.model)}"


def _verdicts(report: AttributionReport) -> str:
    items = (f"<li><strong>{escape(v.name)}: {v.decision}.</strong> {escape(v.reason)}</li>" for v in report.verdicts)
    return f"<ul>{''.join(items)}</ul>"


def _plot(figure: go.Figure, *, first: bool = False) -> str:
    """A plot; the first one carries the library, so that the file works without a network."""
    figure.update_layout(height=340, template="plotly_white", showlegend=True, margin={"l": 8, "r": 8, "t": 24, "b": 8})
    body = figure.to_html(full_html=False, include_plotlyjs=first, config={"displayModeBar": False})
    return f'<div class="plot">{body}</div>'


def _table(report: AttributionReport) -> str:
    frame = report.to_frame()
    shown = frame[frame["kind"] == "decision"][["quantity", "bits", "low", "high", "share_of_target", "p_value"]]
    return _html_table(shown)


def _layers_table(report: AttributionReport, kind: str) -> str:
    import pandas as pd

    rows = [
        {"layer": each.layer, **{report.label(name): each.quantities[name].value for name in (*ATOMS, "total")}}
        for each in layers_of(report, kind)
    ]
    return _html_table(pd.DataFrame(rows))


def _html_table(frame: pd.DataFrame) -> str:
    table = frame.to_html(index=False, float_format="{:.3f}".format, border=0, na_rep="withheld")
    return f'<div class="scroll">{table}</div>'
