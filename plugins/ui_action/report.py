"""A run as one HTML file: every screen with what was planned on it. It holds no scripts and loads nothing."""

from __future__ import annotations

import base64
import os
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, StrictUndefined

from .actions import Action, Direction, Point
from .records import Planned
from .screen import Screen
from .trace import StepLine, Trace, TraceError

TEMPLATE = Path(__file__).with_name("report.html.jinja")
SCROLL_SHARE = 0.2  # of the screen's side: how long the arrow of a scroll is drawn
_SIDES: dict[Direction, tuple[int, int]] = {"up": (0, -1), "down": (0, 1), "left": (-1, 0), "right": (1, 0)}


@dataclass(frozen=True)
class Picture:
    """A screen: a data address, or why there is none."""

    address: str = ""
    missing: str = ""


@dataclass(frozen=True)
class Mark:
    """An action as it is drawn and read.

    Attributes:
        text: in words.
        start, end: css pixels; None where there is nothing to draw.
        fate: "carried out", "refused: why", "not carried out".
    """

    text: str
    start: Point | None
    end: Point | None
    fate: str


@dataclass(frozen=True)
class Turn:
    """A step as the template shows it."""

    line: StepLine
    picture: Picture
    marks: tuple[Mark, ...]


def report_html(trace: Trace) -> str:
    """The page. All that models, screens or files said is escaped: it stays text."""
    turns = [
        Turn(line, _picture(trace, line.screenshot), tuple(_mark(each, line.step.screen) for each in line.step.planned))
        for line in trace.steps
    ]
    template = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    page = template.from_string(TEMPLATE.read_text(encoding="utf-8"))
    return page.render(trace=trace, turns=turns, last=_picture(trace, trace.last_screenshot))


def write_report(trace: Trace, path: str | os.PathLike[str]) -> None:
    """Write the page to a file; one that is there is replaced."""
    Path(path).write_text(report_html(trace), encoding="utf-8")


def describe(action: Action) -> str:
    """An action in one line: "drag (1, 2) to (3, 4)"."""
    parts: list[str] = [action.type]
    if action.start is not None:
        parts.append(_place(action.start))
    if action.end is not None:
        parts.append(f"to {_place(action.end)}")
    if action.direction is not None:
        parts.append(action.direction)
    if action.keys:
        parts.append(" ".join(action.keys))
    if action.text:
        parts.append(f"“{action.text}”")
    if action.submit:
        parts.append("and Enter")
    if action.milliseconds is not None:
        parts.append(f"{action.milliseconds} ms")
    return " ".join(parts)


def _picture(trace: Trace, name: str) -> Picture:
    try:
        return Picture("data:image/png;base64," + base64.b64encode(trace.screenshot(name)).decode("ascii"))
    except TraceError as error:
        return Picture(missing=str(error))


def _mark(planned: Planned, screen: Screen) -> Mark:
    action, verdict = planned.action, planned.verdict
    fate = "carried out" if planned.executed else "not carried out"
    if not verdict.allowed:
        fate = f"refused ({verdict.code}): {verdict.reason}"
    end = action.end
    if action.direction is not None and action.start is not None:
        x, y = _SIDES[action.direction]
        end = (
            action.start[0] + x * SCROLL_SHARE * screen.width,
            action.start[1] + y * SCROLL_SHARE * screen.height,
        )
    return Mark(describe(action), action.start, end, fate)


def _place(point: Point) -> str:
    return f"({point[0]:.6g}, {point[1]:.6g})"
