"""Evaluation on games that training never played: decision by decision, and whole games in the closed loop.

Character BLEU is reported because the paper reports it; a sentence that names the wrong front scores 80 and more, so
what counts is whether the sentence means the same, whether the action hits, and whether the game is won.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from statistics import fmean
from typing import Annotated, Any

import typer

from core.jsonfile import write_json
from core.runs import collect_versions
from core.seeds import seed_range

from .actions import PLATFORMS, Action, Platform
from .agent import Agent
from .backends.base import Backend, Prompt
from .environments.base import Environment
from .environments.simulator import SimulatorEnvironment
from .errors import ParseError, UIActionInputError
from .games import TASKS, make_game
from .games.assets import Box
from .games.ceilings import ceilings
from .memory import Memory
from .parser import parse_response
from .policy import Policy
from .recorder import Recorded, record
from .samples import prompt_of
from .strategy import Strategy, Term, spelled
from .text_metrics import character_bleu
from .train import TRAINING_SEEDS
from .wording import meaning

CHECKPOINT = "hub_cards/ui-action-tiny"
MOST_SEEDS = 10_000
Opens = Callable[[str, Platform], Environment]
SAME = ("seed", "status", "success", "steps", "state")  # of a game in the simulator and in a browser
CEILING_SEEDS = range(300)  # enough of them that few decisions are the only ones of their kind


@dataclass(frozen=True)
class Judged:
    """One decision, judged; where a figure has no meaning it is None.

    Attributes:
        bleu: character BLEU-4 of the sentence against the expert's.
        means: the sentence means the same as the expert's.
        parsed: the executor's answer to the model's own sentence is an action.
        exact: that action is the expert's, its point inside the target.
        hit: given the expert's sentence, the point is inside the target; None where the expert points at nothing.
        prefill_ms, decode_ms, prompt_tokens, output_tokens: of the reasoner.
    """

    bleu: float
    means: bool
    parsed: bool
    exact: bool
    hit: bool | None
    prefill_ms: float
    decode_ms: float
    prompt_tokens: int
    output_tokens: int


def judge(backend: Backend, recorded: Recorded, term: Term) -> Judged:
    """Ask both roles at one of an expert's decisions."""
    decision, platform = recorded.decision, recorded.platform
    reasoned = backend.complete(prompt_of(recorded, "reason", term))
    sentence = " ".join(reasoned.text.split())
    own = _action(backend, sentence or "Wait.", recorded)
    told = _action(backend, decision.sentence, recorded) if decision.target is not None else None
    return Judged(
        bleu=character_bleu(sentence, decision.sentence),
        means=meaning(sentence) == dict(decision.slots),
        parsed=own is not None,
        exact=own is not None and same_action(own, decision.action, decision.target, platform),
        hit=None
        if decision.target is None
        else told is not None and same_action(told, decision.action, decision.target, platform),
        prefill_ms=reasoned.prefill_ms or 0.0,
        decode_ms=reasoned.decode_ms or 0.0,
        prompt_tokens=reasoned.prompt_tokens or 0,
        output_tokens=reasoned.output_tokens or 0,
    )


def _action(backend: Backend, sentence: str, recorded: Recorded) -> Action | None:
    """What the executor does about a sentence; None if it is no action."""
    answered = backend.complete(Prompt("act", sentence, recorded.screens[-1:], recorded.platform))
    try:
        return parse_response(answered.text, screen=answered.screen, platform=recorded.platform).actions[0]
    except ParseError:
        return None


def same_action(own: Action, expert: Action, target: Box | None, platform: Platform) -> bool:
    """Whether it does the same: of the same type, and where the expert points somewhere, inside the same target.

    A drag has to begin within 14 pixels of where the expert's begins.
    """
    if own.type != expert.type:
        return False
    if target is None:
        return True
    aimed = own.end if expert.type == "drag" else own.start
    begins = expert.type != "drag" or (
        own.start is not None and expert.start is not None and math.dist(own.start, expert.start) <= 14
    )
    return aimed is not None and target.holds(round(aimed[0]), round(aimed[1])) and begins


def summarise(judged: Sequence[Judged]) -> dict[str, float]:
    """Means over decisions; `hit` over those that point somewhere."""
    hits = [each.hit for each in judged if each.hit is not None]
    names = ("means", "parsed", "exact", "bleu", "prefill_ms", "decode_ms", "prompt_tokens", "output_tokens")
    return {"decisions": len(judged), "hit": fmean(hits) if hits else math.nan} | {
        name: fmean(float(getattr(each, name)) for each in judged) for name in names
    }


def play(backend: Backend, environment: Environment, task: str, seed: int, term: Term) -> dict[str, Any]:
    """One whole game in the agent loop, reasoner and executor the same model."""
    game = make_game(task, environment.platform)
    game.reset(seed)
    policy = Policy(confirm="never", max_steps=30, max_repeats=30, max_parse_failures=30, max_refusals=30)
    agent = Agent(
        environment,
        backend,
        backend,
        instruction=game.instruction,
        policy=policy,
        strategy=Memory(media=term),
        seed=seed,
    )
    steps = list(agent.run())
    if agent.outcome is None:
        raise UIActionInputError("the run has no outcome")
    return {
        "seed": seed,
        "status": agent.outcome.status,
        "success": bool(agent.outcome.success),
        "steps": len(steps),
        "seconds": agent.outcome.seconds,
        "state": environment.state_hash(),
    }


@contextmanager
def real_browser() -> Generator[Opens]:
    """The games' pages, in one Chromium that runs until the block ends."""
    from .environments.browser import BrowserEnvironment
    from .environments.chromium import Chromium
    from .games.site import serve_games

    with serve_games() as site, closing(Chromium()) as chromium:

        def opened(task: str, platform: Platform) -> Environment:
            layout = make_game(task, platform).layout
            return BrowserEnvironment(
                site.page(task, platform),
                platform=platform,
                width=layout.width,
                height=layout.height,
                chromium=chromium,
                offline_after_load=True,
                settle_milliseconds=0,
                pace=0,
            )

        yield opened


def evaluate_cell(
    backend: Backend,
    task: str,
    platform: Platform,
    seeds: Iterable[int],
    term: Term,
    *,
    decisions_of: int,
    browser: Opens | None = None,
    in_browser: int = 1,
    tell: Callable[[str], None] = lambda text: None,
) -> dict[str, Any]:
    """One task on one platform.

    Args:
        decisions_of: games whose every decision is judged; all seeds are played.
        browser: where the first `in_browser` games are played once more; None for nowhere.
    """
    seeds = list(seeds)
    judged = []
    for seed in seeds[:decisions_of]:
        judged += [judge(backend, each, term) for each in record(task, platform, seed)]
    with closing(SimulatorEnvironment(task, platform)) as place:
        games = []
        for seed in seeds:
            games.append(play(backend, place, task, seed, term))
            tell(f"{task}, {platform}, seed {seed}: {games[-1]['status']} after {games[-1]['steps']} steps")
    again = []
    if browser is not None:
        with closing(browser(task, platform)) as place:
            again = [play(backend, place, task, seed, term) for seed in seeds[:in_browser]]
    ceiling = ceilings(task, platform, CEILING_SEEDS)
    return {
        "task": task,
        "platform": platform,
        "decisions": summarise(judged),
        "success": fmean(game["success"] for game in games),
        "games": games,
        "in_browser": again,
        "same_in_browser": sum(
            all(one[name] == two[name] for name in SAME) for one, two in zip(games[: len(again)], again, strict=True)
        ),
        "ceiling": ceiling[max(term, key=lambda medium: ceiling[medium])],
    }


def evaluate_command(
    task: Annotated[str, typer.Option(help=f"One of {', '.join(TASKS)}; all if left out.")] = "",
    platform: Annotated[str, typer.Option(help=f"One of {', '.join(PLATFORMS)}; all if left out.")] = "",
    seeds: Annotated[str, typer.Option(help="Games of the seeds A to B - 1, as A:B.")] = "0:20",
    checkpoint: Annotated[str, typer.Option(help="Folder or Hub id.")] = CHECKPOINT,
    strategy: Annotated[str, typer.Option(help="Its largest term is what the reasoner is shown.")] = "M*V+S",
    decisions_of: Annotated[int, typer.Option(min=1, help="Games whose every decision is judged.")] = 10,
    in_browser: Annotated[
        int, typer.Option(min=0, help="Games of each cell that are played once more in a real browser.")
    ] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    json: Annotated[Path | None, typer.Option(help="Write the figures here too.")] = None,
) -> None:
    """Judge every decision of an expert's games, and play whole ones, on seeds that training never saw."""
    from .pipeline_ui_action import UIActionPipeline

    numbers = held_out_seeds(seeds)
    for name, known in ((task, TASKS), (platform, PLATFORMS)):
        if name and name not in known:
            raise UIActionInputError(f"{name!r} is none of {', '.join(known)}")
    term = Strategy.parse(strategy).terms[0]
    backend = UIActionPipeline.from_pretrained(checkpoint, device=device).backend()
    report: dict[str, Any] = {
        "checkpoint": checkpoint,
        "seeds": seeds,
        "media": spelled(term),
        "date": date.today().isoformat(),
        "versions": collect_versions(),
        "cells": [],
    }
    platforms = [each for each in PLATFORMS if platform in ("", each)]
    with real_browser() if in_browser else nullcontext() as browser:
        for chosen in (task,) if task else TASKS:
            for skin in platforms:
                cell = evaluate_cell(
                    backend,
                    chosen,
                    skin,
                    numbers,
                    term,
                    decisions_of=decisions_of,
                    browser=browser,
                    in_browser=in_browser,
                    tell=lambda text: typer.echo(text, err=True),
                )
                report["cells"].append(cell)
                if json is not None:
                    write_json(json, report)
    typer.echo(as_markdown(report))


def held_out_seeds(text: str) -> range:
    """A:B as a range; UIActionInputError for what `seed_range` refuses, seeds that training may play among it."""
    return seed_range(text, UIActionInputError, trained=range(TRAINING_SEEDS, sys.maxsize), most=MOST_SEEDS)


def as_markdown(report: dict[str, Any]) -> str:
    """The table of the card: a row per cell, and the mean of each task."""
    lines = [
        f"{report['checkpoint']}, {report['date']}: held-out seeds {report['seeds']}, media {report['media']}",
        "",
        "| task | interface | parsed | hit in box | sentence right | ceiling | action exact | BLEU-4 | games won |",
        "|---|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for task in dict.fromkeys(cell["task"] for cell in report["cells"]):
        cells = [cell for cell in report["cells"] if cell["task"] == task]
        lines += [_row(cell["platform"], [cell]) for cell in cells]
        if len(cells) > 1:
            lines.append(_row("all", cells))
    prompt, output, prefill, decode = (
        fmean(cell["decisions"][name] for cell in report["cells"])
        for name in ("prompt_tokens", "output_tokens", "prefill_ms", "decode_ms")
    )
    lines += [
        "",
        f"A reasoner's answer: {prompt:.0f} tokens in, {output:.0f} out, {prefill:.0f} ms to read and {decode:.0f} ms "
        "to write, in the mean.",
    ]
    played = sum(len(cell["in_browser"]) for cell in report["cells"])
    if played:
        same = sum(cell["same_in_browser"] for cell in report["cells"])
        lines += ["", f"Played once more in a real browser, {same} of {played} games went the same, to the last state."]
    return "\n".join(lines)


def _row(name: str, cells: Sequence[dict[str, Any]]) -> str:
    def mean(part: str) -> str:
        return f"{100 * fmean(cell['decisions'][part] for cell in cells):.0f} %"

    bleu = fmean(cell["decisions"]["bleu"] for cell in cells)
    ceiling, success = (100 * fmean(cell[part] for cell in cells) for part in ("ceiling", "success"))
    return (
        f"| {cells[0]['task']} | {name} | {mean('parsed')} | {mean('hit')} | {mean('means')} | {ceiling:.0f} % | "
        f"{mean('exact')} | {bleu:.1f} | {success:.0f} % |"
    )
