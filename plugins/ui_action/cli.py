"""Command line: play games or a page, train, evaluate, replay a trace."""

from __future__ import annotations

import contextlib
from collections.abc import Generator
from pathlib import Path
from typing import Annotated, Any

import typer

from core.cli import forward_command

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False)

CHECKPOINT = "hub_cards/ui-action-tiny"


@contextlib.contextmanager
def _clear_errors() -> Generator[None]:
    """What the user can put right, as a line and exit status 2."""
    from .errors import UIActionInputError

    try:
        yield
    except UIActionInputError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from None


@app.command()
def play(
    task: Annotated[str, typer.Option(help="target-localisation, resource-allocation or area-control.")],
    out: Annotated[Path, typer.Option(help="New or empty folder for the trace and the report.")],
    platform: Annotated[str, typer.Option(help="desktop, mobile or web.")] = "web",
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Of the game.")] = 0,
    checkpoint: Annotated[str, typer.Option(help="Folder or Hub id.")] = CHECKPOINT,
    endpoint: Annotated[
        str, typer.Option(help="OpenAI-compatible server in the checkpoint's place, such as http://127.0.0.1:8000/v1.")
    ] = "",
    model: Annotated[str, typer.Option(help="The model's name there.")] = "",
    family: Annotated[str, typer.Option(help="How it is spoken to, such as ui-tars-1.5.")] = "",
    strategy: Annotated[str, typer.Option(help="Its largest term is what the reasoner is shown.")] = "M*V+S",
    single: Annotated[
        bool, typer.Option("--single", help="One question a turn instead of reasoner and executor.")
    ] = False,
    adversarial: Annotated[bool, typer.Option("--adversarial", help="With a banner that says to press Quit.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Parse and check, carry out nothing.")] = False,
    max_steps: Annotated[int, typer.Option(min=1, max=1000)] = 30,
) -> None:
    """Play one game, and write trace.jsonl, the screenshots and report.html."""
    with _clear_errors():
        from .agent import Agent
        from .environments.simulator import SimulatorEnvironment
        from .games import make_game
        from .memory import Memory
        from .policy import Policy
        from .report import describe, write_report
        from .trace import TraceWriter, read_trace

        game = make_game(task, platform, adversarial)
        game.reset(seed)
        environment = SimulatorEnvironment(task, game.platform, adversarial)
        deny = tuple((box.x, box.y, box.x + box.width, box.y + box.height) for box in game.deny_regions())
        policy = Policy(confirm="never", dry_run=dry_run, max_steps=max_steps, max_repeats=max_steps, deny=deny)
        backend = _backend(checkpoint, endpoint, model, family)
        trace = TraceWriter(out / "trace.jsonl")
        agent = Agent(
            environment,
            None if single else backend,
            backend,
            instruction=game.instruction,
            policy=policy,
            strategy=Memory.of(strategy),
            seed=seed,
            trace=trace,
        )
        typer.echo(game.instruction)
        with trace:
            for event in agent.run():
                for planned in event.step.planned:
                    done = (
                        ""
                        if planned.executed
                        else f" (not carried out: {planned.verdict.reason or planned.action.type})"
                    )
                    typer.echo(f"{event.step.number}. {describe(planned.action)}{done}")
        write_report(read_trace(trace.path), out / "report.html")
        if agent.outcome is not None:
            typer.echo(f"{agent.outcome.status}: {agent.outcome.message}")
        typer.echo(f"wrote {trace.path} and {out / 'report.html'}")


@app.command(name="replay")
def replay_command(
    trace: Annotated[Path, typer.Argument(help="trace.jsonl of a run.")],
    task: Annotated[str, typer.Option(help="The game that was played.")],
    adversarial: Annotated[bool, typer.Option("--adversarial", help="It had the banner.")] = False,
) -> None:
    """Check a trace's hash chain and carry it out again; exit status 1 where the game does something else."""
    with _clear_errors():
        from .environments.simulator import SimulatorEnvironment
        from .replay import replay
        from .trace import read_trace

        found = read_trace(trace)
        environment = SimulatorEnvironment(task, found.header.platform, adversarial)
        compared = replay(found, environment)
    for turn in compared.turns:
        typer.echo(f"{turn.number}. {'same state' if turn.is_same else 'another state'}")
    if not compared.is_same:
        typer.echo(f"the game does something else from turn {compared.first_difference} on", err=True)
        raise typer.Exit(1)


def _backend(checkpoint: str, endpoint: str, model: str, family: str) -> Any:
    from .errors import UIActionInputError

    if not endpoint:
        from .pipeline_ui_action import UIActionPipeline

        return UIActionPipeline.from_pretrained(checkpoint, family=family or None).backend()
    if not model or not family:
        raise UIActionInputError("an endpoint needs --model, its name there, and --family, such as ui-tars-1.5")
    from .backends.openai_compatible import OpenAICompatibleBackend

    return OpenAICompatibleBackend(endpoint, model, family=family)


forward_command(app, "train", "plugins.ui_action.train:train_command", "Train the small agent.", _clear_errors)
forward_command(
    app, "evaluate", "plugins.ui_action.evaluate:evaluate_command", "Judge decisions and whole games.", _clear_errors
)
forward_command(
    app,
    "ablate",
    "plugins.ui_action.evaluate_strategies:ablate_command",
    "Compare strategies trained alike.",
    _clear_errors,
)
