"""The game while it is played: the screen, what is planned on it, and what the player and the policy say."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

from apps.ui_action.marks import screen_figure

PHASES = {
    "reasons": "The reasoner looks at it",
    "acts": "The executor looks at it",
    "asks": "Waits for your yes or no",
    "did": "This was done",
}
_CUT = 600


def live_view(preview: Mapping[str, Any] | None) -> str:
    """The newest turn of a running job; "" before there is one."""
    if not preview:
        return ""
    says = f"Screen of step {preview['step']}" + "".join(f", {each['text']}" for each in preview["actions"])
    picture = screen_figure(preview["screen"], preview["size"], preview["actions"], says=says)
    return (
        f'<section class="stage" aria-label="The game now">{picture}'
        f'<div class="said"><p class="phase phase-{escape(preview["phase"])}">{PHASES[preview["phase"]]}</p>'
        f"{said(preview)}</div></section>"
    )


def said(preview: Mapping[str, Any]) -> str:
    """What the player says about a turn, and what came of it."""
    row = preview["row"]
    pairs = [("Task", escape(preview["instruction"])), ("Step", f"{preview['step']} of at most {preview['most']}")]
    if preview["sentence"]:
        pairs.append(("Sentence", quoted(preview["sentence"])))
    pairs += actions_said(preview["actions"], row["error"] if row else "")
    if row:
        pairs.append(("Time", escape(times_said(row))))
    return definitions(pairs)


def actions_said(actions: Any, error: str) -> list[tuple[str, str]]:
    """Actions with what the policy made of them, or why there are none; as HTML."""
    pairs = []
    for each in actions:
        reason = each.get("reason") or ""
        style = "good" if each["allowed"] else "bad"
        fate = f'<span class="fate {style}">{escape(each["fate"])}</span>{escape(f": {reason}" if reason else "")}'
        pairs += [("Action", f"<code>{escape(each['text'])}</code>"), ("Policy", fate)]
    if error:
        pairs.append(("Answer", f'<span class="fate bad">not understood</span>: {escape(error)}'))
    return pairs


def times_said(row: Mapping[str, Any]) -> str:
    """Milliseconds of a turn, part by part."""
    parts = [("reason", row["reason_ms"]), ("act", row["act_ms"])]
    parts += [("parse and check", row["parse_ms"]), ("carry out", row["execute_ms"])]
    parts += [("and waiting for you", row["wait_ms"])] if row["wait_ms"] else []
    listed = ", ".join(f"{name} {milliseconds(value)}" for name, value in parts if value is not None)
    return f"{milliseconds(row['turn_ms'])}: {listed}"


def milliseconds(value: float | None) -> str:
    """With one decimal below ten; a dash for what was not measured."""
    if value is None:
        return "–"
    return f"{value:.1f} ms" if value < 10 else f"{value:,.0f} ms"


def quoted(text: str) -> str:
    """What a model said, cut where it is long."""
    return escape(text if len(text) <= _CUT else text[: _CUT - 1] + "…")


def definitions(pairs: list[tuple[str, str]]) -> str:
    """Names and HTML that belong to them."""
    rows = "".join(f"<dt>{escape(name)}</dt><dd>{value}</dd>" for name, value in pairs)
    return f'<dl class="says">{rows}</dl>'
