"""What a game looks like in figures: outcome, steps, refusals and times. Every value in HTML is escaped."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

from apps.components import html_table, note, readout, table
from apps.ui_action.live import milliseconds
from apps.ui_action.request import PLACES, PLATFORMS, TASKS

ENDS = {
    "success": ("Won", "the game says that the task is solved"),
    "failure": ("Lost", "the game is over and the task is not solved"),
    "finished": ("Finished", "the model says that it is done"),
    "budget": ("Out of steps", "the game was not over by then"),
    "stuck": ("Stuck", "the same action again and again"),
    "parse_failures": ("Not understood", "too many answers in a row were no actions"),
    "refused": ("Refused", "too many actions in a row that the policy does not allow"),
    "stopped": ("Stopped", "by hand, before its next action"),
    "call_user": ("Asks for a person", "the model wants somebody to take over"),
    "error": ("Broke off", "a model or the environment failed"),
}
COUNTERS = {
    "requests": "Requests",
    "connections": "Connections",
    "websockets": "Web sockets",
    "popups": "Pop-ups",
    "dialogs": "Dialogs",
    "downloads": "Downloads",
    "permissions": "Permissions asked for",
    "file_choosers": "File choosers",
}
PARTS = {
    "reason_ms": ("Reason", "the model writes a sentence about the screens"),
    "act_ms": ("Act", "the model turns it into an action"),
    "parse_ms": ("Parse and check", "from its answer on: parser and policy"),
    "execute_ms": ("Carry out", "the environment does it and shows the next screen"),
    "turn_ms": ("Turn", "all of it, with state hashes and the trace, without waiting for you"),
}


def notes(result: Mapping[str, Any]) -> str:
    """What has to be known before any figure is read."""
    outcome, texts = result.get("outcome"), []
    if outcome is None:
        left = len(TASKS) * len(PLATFORMS) - len(result["cells"])
        texts += [f"stopped by hand: {left} games are not in the table"] if left else []
    elif result["ended"]:
        texts.append(result["ended"])
    elif outcome["status"] in ("error", "parse_failures", "refused"):
        texts.append(f"{ENDS[outcome['status']][0]} after {_steps(outcome['steps'])}: {outcome['message']}")
    if result["params"]["player"] == "expert":
        texts.append(
            "this was played by rules that see the game's state, for comparison: it says what can be reached, nothing "
            "about a model"
        )
    return "".join(map(note, texts))


def across_table(result: Mapping[str, Any]) -> str:
    """The question's own answer: one player, every game, every interface."""
    cells = {(cell["task"], cell["platform"]): cell for cell in result["cells"]}
    won = sum(bool(cell["success"]) for cell in cells.values())
    rows = [(TASKS[task], *(_cell(cells.get((task, name))) for name in PLATFORMS)) for task in TASKS]
    by_platform = [
        f"{sum(bool(cells[task, name]['success']) for task in TASKS if (task, name) in cells)} of "
        f"{sum((task, name) in cells for task in TASKS)}"
        for name in PLATFORMS
    ]
    rows.append(("Won", *(f"<strong>{text}</strong>" for text in by_platform)))
    seed, verdict = result["params"]["seed"], f"{result['player']}: {won} of {len(cells)} games won."
    return (
        f'<p class="verdict-line"><span class="fate">{escape(verdict)}</span> '
        f"One game in each cell, seed {seed}: try others before you believe it.</p>"
        + html_table(("Game", *PLATFORMS.values()), rows, label="Across interfaces", style="figures across")
    )


def _cell(cell: Mapping[str, Any] | None) -> str:
    if cell is None:
        return "–"
    style = "good" if cell["success"] else "bad"
    refused = f", {cell['refusals']} refused" if cell["refusals"] else ""
    return (
        f'<span class="fate {style}">{ENDS[cell["status"]][0]}</span><br>{_steps(cell["steps"])}{refused}, '
        f"{milliseconds(cell['turn_ms'])} a turn"
    )


def _steps(count: int) -> str:
    return f"{count} step" if count == 1 else f"{count} steps"


def score_cards(result: Mapping[str, Any]) -> str:
    """The outcome and what it took, large."""
    outcome, rows = result["outcome"], result["steps"]
    title, why = ENDS[outcome["status"]]
    style = "good" if outcome["success"] else "bad"
    turn = sum(row["turn_ms"] for row in rows) / len(rows) if rows else None
    cards = [
        ("Outcome", f'<span class="fate {style}">{title}</span>', why),
        ("Steps", str(outcome["steps"]), f"of at most {result['params']['max_steps']}"),
        ("Refused", str(outcome["refusals"]), "actions that the policy did not let through"),
        ("Not understood", str(outcome["parse_failures"]), "answers that were no action"),
        ("Turn", milliseconds(turn), "on average, without waiting for you"),
    ]
    drawn = "".join(
        f'<div class="score"><dt>{name}</dt><dd>{value}</dd><dd class="why">{escape(why)}</dd></div>'
        for name, value, why in cards
    )
    return f'<dl class="scores" aria-label="Outcome">{drawn}</dl>'


def steps_table(result: Mapping[str, Any]) -> str:
    """Every step in a row."""
    if not result["steps"]:
        return '<p class="quiet">No step was taken.</p>'
    rows = [
        (
            str(row["number"]),
            escape(row["sentence"][:160]),
            f"<code>{escape(row['action'])}</code>",
            _fate(row),
            milliseconds(row["turn_ms"]),
            f"<code>{escape(row['state_after'][:10])}</code>",
        )
        for row in result["steps"]
    ]
    headings = ("Step", "Sentence", "Action", "Policy", "Time", "State after")
    return html_table(headings, rows, label="Steps", style="figures steps")


def _fate(row: Mapping[str, Any]) -> str:
    if row["error"]:
        return '<span class="fate bad">not understood</span>'
    return "<br>".join(
        f'<span class="fate {"good" if each["allowed"] else "bad"}">{escape(each["fate"])}</span>'
        for each in row["actions"]
    )


def refused_table(result: Mapping[str, Any]) -> str:
    """What the policy refused, and what the browser's guard blocked."""
    rows = [
        (f"Step {row['number']}", each["text"], each["code"], each["reason"])
        for row in result["steps"]
        for each in row["actions"]
        if not each["allowed"]
    ]
    said = (
        table(("Refused", "Action", "Rule", "Why"), rows, label="Refused by the policy")
        if rows
        else '<p class="quiet">The policy refused nothing.</p>'
    )
    return said + _blocked(result["blocked"])


def _blocked(blocked: Mapping[str, Any] | None) -> str:
    if blocked is None:
        return '<p class="quiet">The simulator opens no pages, so there was nothing to block.</p>'
    rows = [(COUNTERS[name], str(count)) for name, count in blocked["counts"].items() if count]
    if not rows:
        return '<p class="quiet">The page tried nothing that the browser’s guard had to block.</p>'
    log = "".join(f"<li><code>{escape(line)}</code></li>" for line in blocked["log"])
    return table(("Blocked by the guard", "Times"), rows, label="Blocked by the guard") + f'<ul class="log">{log}</ul>'


def times_table(result: Mapping[str, Any]) -> str:
    """Where the time went."""
    rows = []
    for name, (title, why) in PARTS.items():
        values = [row[name] for row in result["steps"] if row[name] is not None]
        if values:
            rows.append((title, milliseconds(sum(values) / len(values)), milliseconds(max(values)), why))
    return table(("Part", "Mean", "Longest", "What it is"), rows, label="Times") if rows else ""


def caption(result: Mapping[str, Any]) -> str:
    """The figures without which no other should be read."""
    params, run = result["params"], result["run"]
    one = f"{TASKS[params['task']]}, {PLATFORMS[params['platform']]}"
    values = {
        "Game": f"{'all nine' if params['across'] else one}, seed {params['seed']}",
        "Where": PLACES[params["place"]],
        "Player": result["player"],
        "Shown to it": params["shown"] + (", one question a turn" if params["single"] else ", two roles"),
        "Device": run["device"] + (f", {run['dtype']}" if run["dtype"] else ""),
    }
    if run["attention"]:
        values["Attention"] = f"{run['attention']['backend']}: {run['attention']['reason']}"
    if run["parameters"]:
        values["Model"] = f"{run['checkpoint']}, {run['parameters'] / 1e6:.1f} M parameters, all games and interfaces"
    if run["prompt_tokens"]:
        values["Tokens"] = f"{run['prompt_tokens']:,} in, {run['output_tokens']:,} out"
    if run["peak_memory_bytes"] is not None:
        whole = "" if run["device"].startswith("cuda") else " of the whole process, this app included"
        values["Peak memory"] = f"{run['peak_memory_bytes'] / 2**20:,.0f} MB{whole}"
    return readout(values, label="How this was played")
