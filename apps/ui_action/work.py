"""What the page asks of the server: a game, or all nine, played as a job that outlives the tab."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Generator
from contextlib import closing, contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from apps.ui_action.controls import default_controls
from apps.ui_action.files import write_across, write_files
from apps.ui_action.parts import SLUG, input_error, part
from apps.ui_action.players import Player, SmallModel, make_player
from apps.ui_action.request import PLATFORMS, TASKS, Request
from apps.ui_action.snippet import across_command, across_snippet, command_line, snippet
from apps.ui_action.watch import PLAYED, READY, Asked, Follower
from core import zero_gpu
from core.errors import InputError
from core.jobs import JobContext, JobStopped, Work, default_store
from core.registry import find
from core.runs import build_run_record, peak_memory, reset_peak_memory

TRACE = "trace.jsonl"


def submit(request: Request) -> str:
    """Queue the game; the id of its job."""
    expected = (input_error(),)
    return default_store().submit(SLUG, _work(request, expected), params=request.params(), expected=expected)


def _work(request: Request, expected: tuple[type[Exception], ...]) -> Work:
    """The game as a job's work: on the accelerator where a model of this process plays.

    Raises:
        InputError: the game would wait for its visitor, whom ZeroGPU's process does not hear.
    """
    if request.player != "model":
        return partial(run, request)
    if zero_gpu.active() and (request.stepwise or request.confirm != "never"):
        raise InputError(
            "On this server the model plays in a process of its own, which nobody can answer: play without steps and "
            "without questions, or choose another player."
        )
    return zero_gpu.on_accelerator(run, request, seconds=accelerator_seconds(request), expected=expected)


def accelerator_seconds(request: Request) -> float:
    """An upper bound, with room for loading; what ZeroGPU is asked for."""
    games = len(TASKS) * len(PLATFORMS) if request.across else 1
    pace = 0.0 if request.across else request.pace
    return 15 + games * request.max_steps * (1.0 + pace)


def run(request: Request, context: JobContext) -> dict[str, Any]:
    """Play, write the downloads, return the figures; a stop keeps what is done."""
    started = time.time()
    reset_peak_memory()
    controls = default_controls()
    controls.begin(context.id, stepwise=request.stepwise and not request.across)
    try:
        return (run_across if request.across else run_one)(request, context, started)
    finally:
        controls.forget(context.id)


def run_one(request: Request, context: JobContext, started: float) -> dict[str, Any]:
    """One game, with its trace."""
    context.progress(0.0, "getting the player ready")
    with tempfile.TemporaryDirectory() as folder, closing(make_player(request)) as player:
        context.progress(READY / 2, "opening the game")
        played = play_one(request, context, player, trace=Path(folder) / TRACE)
        with suppress(JobStopped):
            context.progress(PLAYED, "writing the files")
        measured = measure(request, player, played.rows) | {"outcome": played.outcome}
        result = {
            "params": request.params(),
            "instruction": played.instruction,
            "size": played.size,
            "player": player.name,
            "outcome": played.outcome,
            "ended": played.ended,
            "steps": played.rows,
            "blocked": played.blocked,
            "run": measured,
            "snippet": snippet(request),
            "command": command_line(request),
        }
        record = build_run_record(SLUG, measured, command=result["snippet"], started=started)
        write_files(context.directory, Path(folder) / TRACE, result, played.screens, record)
    return result


def run_across(request: Request, context: JobContext, started: float) -> dict[str, Any]:
    """Every game on every interface, with one player; a stop keeps those that are over."""
    cells: list[dict[str, Any]] = []
    rows: list[dict[str, Any]] = []
    every = [(task, platform) for task in TASKS for platform in PLATFORMS]
    last: Any = None
    for number, (task, platform) in enumerate(every):
        if context.stopped:
            break
        cell = replace(request, task=task, platform=platform, pace=0.0, stepwise=False)
        with closing(make_player(cell)) as player, tempfile.TemporaryDirectory() as folder:
            last = player
            title = f"{number + 1} of {len(every)}, {TASKS[task]} on {PLATFORMS[platform]}: "
            bar = (number / len(every), (number + 1) / len(every))
            played = play_one(cell, context, player, trace=Path(folder) / TRACE, bar=bar, title=title)
        if played.outcome["status"] == "stopped":
            break
        rows += played.rows
        turns = [row["turn_ms"] for row in played.rows]
        cells.append(
            {"task": task, "platform": platform, "turn_ms": sum(turns) / len(turns) if turns else None}
            | {name: value for name, value in played.outcome.items() if name != "answer"}
        )
    measured = measure(request, last, rows)
    result = {
        "params": request.params(),
        "player": last.name if last else "",
        "cells": cells,
        "run": measured,
        "snippet": across_snippet(request),
        "command": across_command(request),
    }
    record = build_run_record(SLUG, measured, command=result["snippet"], started=started)
    write_across(context.directory, result, record)
    return result


@dataclass(frozen=True)
class Played:
    """One game that is over.

    Attributes:
        rows, screens, ended: see `watch.Recording`.
        outcome: the plugin's, as a dict.
        blocked: what the browser's guard refused; None in the simulator.
    """

    instruction: str
    size: list[int]
    rows: list[dict[str, Any]]
    screens: list[Any]
    ended: str
    outcome: dict[str, Any]
    blocked: dict[str, Any] | None


def play_one(request: Request, context: JobContext, player: Player, *, trace: Path, **shown: Any) -> Played:
    """One game through the plugin's loop; `shown` goes to `Follower`."""
    game = part("games:make_game")(request.task, request.platform, request.adversarial)
    game.reset(request.seed)
    follower = Follower(context, request, game.instruction, **shown)
    with _environment(request, game, context) as environment, part("trace:TraceWriter")(trace) as writer:
        agent = _agent(request, game, follower, environment, player, context, writer)
        follower.play(agent, player)
        blocked = _blocked(environment)
    recording = follower.recording
    size = [game.layout.width, game.layout.height]
    return Played(
        game.instruction, size, recording.rows, recording.screens, recording.ended, asdict(agent.outcome), blocked
    )


def _agent(
    request: Request, game: Any, follower: Follower, environment: Any, player: Player, context: JobContext, trace: Any
) -> Any:
    """The plugin's loop around this game."""
    asked = Asked(player, follower)
    return part("agent:Agent")(
        follower.watch(environment),
        None if request.single else asked,
        asked,
        instruction=game.instruction,
        policy=part("policy:Policy")(
            confirm=request.confirm,
            max_steps=request.max_steps,
            max_repeats=request.max_steps,  # to wait again and again is right in a game with a clock
            max_seconds=3600.0,
            deny=tuple((box.x, box.y, box.x + box.width, box.y + box.height) for box in game.deny_regions()),
        ),
        strategy=request.strategy,
        seed=request.seed,
        confirm=follower.confirm,
        kill_switch=part("kill_switch:KillSwitch")(event=context.stop_event),
        trace=trace,
    )


@contextmanager
def _environment(request: Request, game: Any, context: JobContext) -> Generator[Any]:
    """The simulator, or the game's page in a real browser; closed with the block."""
    if request.place == "simulator":
        environment = part("environments.simulator:SimulatorEnvironment")(
            request.task, request.platform, request.adversarial
        )
        yield environment
        environment.close()
        return
    switch = part("kill_switch:KillSwitch")(event=context.stop_event)
    with part("games.site:serve_games")() as site:
        address = site.page(request.task, request.platform, seed=request.seed, adversarial=request.adversarial)
        with part("environments.browser:BrowserEnvironment")(
            address,
            platform=request.platform,
            width=game.layout.width,
            height=game.layout.height,
            offline_after_load=True,
            pace=0.5,
            between=switch.check,
        ) as environment:
            yield environment


def _blocked(environment: Any) -> dict[str, Any] | None:
    """What the browser's guard refused; None in the simulator."""
    events = getattr(environment, "events", None)
    return None if events is None else {"counts": events().counts, "log": list(events().log)}


def measure(request: Request, player: Any, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The run as `core.runs` takes it."""
    model = player if isinstance(player, SmallModel) else None
    device = model.device if model else "cpu" if request.player == "expert" else "elsewhere"
    names = ("reason_ms", "act_ms", "parse_ms", "wait_ms", "execute_ms", "turn_ms")
    return {
        "params": request.params(),
        "seed": request.seed,
        "device": device,
        "dtype": model.dtype if model else None,
        "attention": {"backend": model.attention, "reason": "as the model was loaded"} if model else None,
        "parameters": model.parameters if model else None,
        "checkpoint": find(SLUG).checkpoint if model else None,  # not where on this machine it is
        "player": player.name if player else None,
        "timings": {name.removesuffix("_ms"): sum(row[name] or 0.0 for row in rows) / 1000 for name in names},
        "prompt_tokens": sum(row["prompt_tokens"] or 0 for row in rows),
        "output_tokens": sum(row["output_tokens"] or 0 for row in rows),
        "peak_memory_bytes": peak_memory(model.device if model else "cpu"),
    }
