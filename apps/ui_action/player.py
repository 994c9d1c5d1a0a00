"""A game that is over, step by step: one large screen, a strip of all of them, a slider through both."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from html import escape
from pathlib import Path
from typing import Any

from apps.ui_action.files import screen_name
from apps.ui_action.live import actions_said, definitions, quoted, times_said
from apps.ui_action.marks import marks, screen_figure

_HERE = Path(__file__).parent
STYLE = (_HERE / "page.css").read_text("utf-8")
PLAYER_SCRIPT = (_HERE / "player.js").read_text("utf-8")


def player(result: Mapping[str, Any], files: Mapping[str, Path], publish: Callable[[Path], str]) -> str:
    """All steps and the last screen.

    Args:
        files: the job's artefacts by name.
        publish: from a file to the address that a browser finds it at.
    """
    rows = result["steps"]
    names = [screen_name(number) for number in range(1, len(rows) + 2)]
    if any(name not in files for name in names):
        return '<p class="warning" role="note">The screens are no longer kept: run it again.</p>'
    sources = [publish(files[name]) for name in names]
    views = [_step(result, row, source) for row, source in zip(rows, sources, strict=False)]
    views.append(_end(result, sources[-1]))
    thumbs = "".join(
        _thumb(result, place, source, row)
        for place, (source, row) in enumerate(zip(sources, [*rows, None], strict=True))
    )
    most = len(views) - 1
    shown = "".join(
        f'<div class="turn"{"" if place == 0 else " hidden"}>{view}</div>' for place, view in enumerate(views)
    )
    return (
        f'<section class="replay" aria-label="Step by step">{shown}'
        '<div class="controls" role="group" aria-label="Steps">'
        '<button type="button" class="back" aria-label="One step back">‹</button>'
        f'<input type="range" class="at" min="0" max="{most}" value="0" step="1" aria-label="Step">'
        '<button type="button" class="ahead" aria-label="One step ahead">›</button>'
        f'<output class="where">1 / {most + 1}</output></div>'
        f'<ol class="strip">{thumbs}</ol></section>'
    )


def _step(result: Mapping[str, Any], row: Mapping[str, Any], source: str) -> str:
    says = f"Screen before step {row['number']}, {row['action']}"
    figure = screen_figure(source, result["size"], row["actions"], says=says)
    pairs = [("Step", f"{row['number']} of {len(result['steps'])}")]
    if row["sentence"]:
        pairs.append(("Sentence", quoted(row["sentence"])))
    pairs += actions_said(row["actions"], row["error"])
    if row["error"]:
        pairs.append(("Said", f"<code>{quoted(row['answer'])}</code>"))
    for name, value in (
        ("Asked", "; ".join(row["asked"])),
        ("Told to the model", row["observation"]),
        ("Read leniently", ", ".join(row["flags"])),
        ("Environment", row["note"]),
    ):
        if value:
            pairs.append((name, escape(value)))
    pairs.append(("Time", escape(times_said(row))))
    if row["prompt_tokens"] is not None:
        pairs.append(("Tokens", f"{row['prompt_tokens']:,} in, {row['output_tokens'] or 0:,} out"))
    return f'<div class="stage">{figure}<div class="said">{definitions(pairs)}</div></div>'


def _end(result: Mapping[str, Any], source: str) -> str:
    outcome = result["outcome"]
    figure = screen_figure(source, result["size"], (), says=f"Screen at the end, {outcome['status']}")
    pairs = [("End", escape(outcome["status"])), ("Why", escape(outcome["message"]))]
    if outcome["answer"]:
        pairs.append(("Answer", quoted(outcome["answer"])))
    return f'<div class="stage">{figure}<div class="said">{definitions(pairs)}</div></div>'


def _thumb(result: Mapping[str, Any], place: int, source: str, row: Mapping[str, Any] | None) -> str:
    label = f"Step {row['number']}: {row['action']}" if row else "The end"
    drawn = marks(result["size"], row["actions"]) if row else ""
    width, height = result["size"]
    current = ' aria-current="step"' if place == 0 else ""
    return (
        f'<li><button type="button" data-at="{place}" aria-label="{escape(label)}"{current}>'
        f'<span class="screen small" style="--width:{width};--height:{height}">'
        f'<img src="{escape(source)}" width="{width}" height="{height}" alt="" loading="lazy">{drawn}</span>'
        f"<span>{row['number'] if row else 'end'}</span></button></li>"
    )
