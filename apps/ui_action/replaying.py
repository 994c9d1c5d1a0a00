"""A recorded run, checked and played again: the panel that says for each step whether the game does the same."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr

from apps.components import QUIET, html_table, note, readout
from apps.ui_action.parts import input_error, part
from apps.ui_action.request import PLATFORMS, TASKS
from apps.ui_action.uploads import unpack
from core.errors import InputError, QuartetError

ABOUT = """Add the trace.zip of a run, or its trace.jsonl with the screens. Its chain of hashes shows whether a line was
edited, cut or moved; then its actions are carried out again in the simulator, and the state after each is compared."""
MOST_STEPS, MOST_SECONDS = 300, 20.0


@dataclass(frozen=True)
class Replayed:
    """What came of it.

    Attributes:
        trace: the plugin's Trace.
        task, adversarial: which game it was, told by the state that it began with.
        turns: the plugin's comparisons, up to the first difference.
        screens: for each step whether its screen is there: "as recorded", or why not.
    """

    trace: Any
    task: str
    adversarial: bool
    turns: tuple[Any, ...]
    screens: tuple[str, ...]


def replay_uploads(uploads: Sequence[Path]) -> Replayed:
    """Check and replay a trace.

    Raises:
        InputError: an upload that holds no trace, or a game that is none of ours.
        UIActionInputError: a trace that was changed, or whose actions are not allowed.
    """
    with tempfile.TemporaryDirectory() as folder:
        trace = part("trace:read_trace")(unpack(uploads, Path(folder)))
        if len(trace.steps) > MOST_STEPS:
            raise InputError(f"The run has {len(trace.steps)} steps, limit {MOST_STEPS}: give a shorter one.")
        screens = tuple(_screen(trace, line.screenshot) for line in trace.steps)
    task, adversarial = _game_of(trace)
    environment = part("environments.simulator:SimulatorEnvironment")(task, trace.header.platform, adversarial)
    switch = part("kill_switch:KillSwitch")()
    clock = threading.Timer(MOST_SECONDS, switch.set)
    clock.start()
    try:
        replayed = part("replay:replay")(trace, environment, kill_switch=switch)
    except part("kill_switch:StoppedError") as error:
        raise InputError(f"The replay took more than {MOST_SECONDS:g} s and was ended: give a shorter run.") from error
    finally:
        clock.cancel()
    return Replayed(trace, task, adversarial, replayed.turns, screens)


def build_replay() -> None:
    """The panel's controls and its answer."""
    gr.Markdown(ABOUT, elem_classes="quiet")
    # A button, not a drop zone: that one's own parts are not all accessible once a file is in it.
    button = gr.UploadButton(
        "Add a trace, check and replay it",
        file_count="multiple",
        file_types=[".zip", ".jsonl", ".png"],
        type="filepath",
        elem_id="ui-action-trace",
    )
    answer = gr.HTML("", elem_id="ui-action-replayed")
    button.upload(show_replayed, button, answer, **QUIET, concurrency_limit=2)


def show_replayed(files: Sequence[str] | None) -> str:
    """The answer as HTML; what is wrong with the upload as a note."""
    try:
        return replayed_view(replay_uploads([Path(name) for name in files or ()]))
    except (QuartetError, input_error()) as error:
        return note(str(error))


def replayed_view(replayed: Replayed) -> str:
    """In one sentence, then step by step."""
    trace, turns = replayed.trace, replayed.turns
    header, steps = trace.header, trace.steps
    same = sum(turn.is_same for turn in turns)
    words = (
        f"The chain of hashes is whole, and {same} of {len(steps)} steps lead to the same state."
        if same == len(steps)
        else f"The chain of hashes is whole, but step {turns[-1].number} leads to another state than was recorded."
    )
    style = "good" if same == len(steps) else "bad"
    values = {
        "Game": f"{TASKS[replayed.task]}, {PLATFORMS[header.platform]}, seed {header.seed}"
        + (", with the banner" if replayed.adversarial else ""),
        "Played by": header.executor,
        "Ended": trace.outcome.status,
        "Last hash": trace.digest[:16],
    }
    rows = [_row(place, replayed) for place in range(len(steps))]
    headings = ("Step", "Action", "State after, recorded", "Replayed", "Same", "Screen")
    return (
        f'<p class="verdict-line"><span class="fate {style}">{escape(words)}</span></p>'
        + readout(values, label="The run")
        + (html_table(headings, rows, label="Replay", style="figures") if rows else "")
    )


def _row(place: int, replayed: Replayed) -> tuple[str, ...]:
    step = replayed.trace.steps[place].step
    turn = replayed.turns[place] if place < len(replayed.turns) else None
    done = "; ".join(part("report:describe")(planned.action) for planned in step.planned if planned.executed)
    if turn is None:
        same, hashed = '<span class="fate">not replayed</span>', "–"
    else:
        same = f'<span class="fate {"good" if turn.is_same else "bad"}">{"yes" if turn.is_same else "no"}</span>'
        hashed = f"<code>{escape(turn.replayed[1][:10])}</code>"
    return (
        str(step.number),
        f"<code>{escape(done or 'nothing carried out')}</code>",
        f"<code>{escape(step.state_after[:10])}</code>",
        hashed,
        same,
        escape(replayed.screens[place]),
    )


def _screen(trace: Any, name: str) -> str:
    try:
        trace.image(name)
    except input_error() as error:
        return "missing" if "cannot be read" in str(error) else "changed"
    return "as recorded"


def _game_of(trace: Any) -> tuple[str, bool]:
    """Which of the games begins in the trace's first state; by the instruction where there was no step."""
    header = trace.header
    for task in TASKS:
        for adversarial in (False, True):
            game = part("games:make_game")(task, header.platform, adversarial)
            game.reset(header.seed)
            first = trace.steps[0].step.state_before if trace.steps else None
            if game.state_hash() == first or (first is None and game.instruction == header.instruction):
                return task, adversarial
    raise InputError(
        "This run does not begin as any of the built-in games does: it is of another page, or of other rules than "
        "these; the chain of hashes is whole."
    )
