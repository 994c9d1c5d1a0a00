"""The game as code that anyone can repeat."""

from __future__ import annotations

import shlex
from textwrap import indent

from apps.ui_action.request import Request
from core.registry import find

_LOOP = """for event in agent.run():
    for planned in event.step.planned:
        print(event.step.number, planned.action, planned.verdict.reason)
print(agent.outcome)
"""
_EXPERT = """

def expert(prompt):
    decision = decide(game)
    if prompt.role == "reason":
        return decision.sentence
    thought = decision.sentence if prompt.role == "both" else None
    return serialise(Response(thought, None, (decision.action,)), screen=screen)


"""


def snippet(request: Request) -> str:
    """The same in Python; without the visitor's own yes and no, and without the pace."""
    lines = [*_imports(request), ""]
    adversarial = ", adversarial=True" if request.adversarial else ""
    lines += [f"game = make_game({request.task!r}, {request.platform!r}{adversarial})", f"game.reset({request.seed})"]
    lines += ["screen = Screen(game.layout.width, game.layout.height)"]
    text = "\n".join(lines) + "\n" + _player(request)
    denied = "tuple((box.x, box.y, box.x + box.width, box.y + box.height) for box in game.deny_regions())"
    text += (
        f'policy = Policy(\n    confirm="never", max_steps={request.max_steps}, max_repeats={request.max_steps},\n'
        f"    deny={denied},\n)\n"
    )
    agent = (
        f"agent = Agent(\n    environment, {'None' if request.single else 'backend'}, backend, "
        f"instruction=game.instruction, policy=policy,\n    strategy={request.strategy!r}, seed={request.seed}"
        f"{', on_step=follow' if request.player == 'expert' and request.place == 'browser' else ''},\n)\n"
    )
    if request.place == "simulator":
        made = f"environment = SimulatorEnvironment({request.task!r}, {request.platform!r}{adversarial})\n"
        shared = f"environment.reset({request.seed})\ngame = environment.game\n" if request.player == "expert" else ""
        return text + made + shared + agent + _LOOP
    follow = (
        "\n\ndef follow(event):  # the expert's own game does what the page's did\n"
        "    for planned in event.step.planned:\n        if planned.executed:\n"
        "            for happened in events(planned.action, game.platform, screen):\n"
        "                game.handle(happened)\n\n\n"
        if request.player == "expert"
        else ""
    )
    page = f"site.page({request.task!r}, {request.platform!r}, seed={request.seed}{adversarial})"
    opened = (
        f"with serve_games() as site, BrowserEnvironment(\n    {page},\n"
        f"    platform={request.platform!r}, width=screen.width, height=screen.height, offline_after_load=True,\n"
        ") as environment:\n"
    )
    return text + follow + opened + indent(agent + _LOOP, "    ")


def command_line(request: Request) -> str:
    """The command that plays the same game, in the simulator; why there is none for the player by rules."""
    if request.player == "expert":
        return "# The command line plays models; the expert plays in Python, as above."
    words = ["python", "-m", "plugins.ui_action", "play", "--task", request.task, "--platform", request.platform]
    words += ["--seed", str(request.seed), "--strategy", request.strategy, "--max-steps", str(request.max_steps)]
    words += ["--single"] if request.single else []
    words += ["--adversarial"] if request.adversarial else []
    if request.player == "endpoint" and request.endpoint is not None:
        asked = request.endpoint
        words += ["--endpoint", asked.base_url, "--model", asked.model, "--family", asked.family]
    return shlex.join([*words, "--out", "run"])


def across_snippet(request: Request) -> str:
    """All nine games in Python, by the plugin's own evaluation: two roles, no banner, 30 steps at most."""
    if request.player == "expert":
        return (
            "# The plugin's evaluation plays models; each game of the expert has its own code when it is run alone.\n"
        )
    named = "backends.openai_compatible import OpenAICompatibleBackend" if request.player == "endpoint" else ""
    lines = ["import os", ""] if request.endpoint and request.endpoint.api_key and named else []
    lines += [] if named else ["from plugins.ui_action import UIActionPipeline"]
    lines += ["from plugins.ui_action.actions import PLATFORMS"]
    lines += [f"from plugins.ui_action.{named}"] if named else []
    lines += [
        "from plugins.ui_action.environments.simulator import SimulatorEnvironment",
        "from plugins.ui_action.evaluate import play",
        "from plugins.ui_action.games import TASKS",
        "from plugins.ui_action.memory import Memory",
        "",
        _player(request) + "for task in TASKS:",
        "    for platform in PLATFORMS:",
        "        environment = SimulatorEnvironment(task, platform)",
        f"        media = Memory.of({request.strategy!r}).media",
        f"        print(task, platform, play(backend, environment, task, {request.seed}, media))",
    ]
    return "\n".join(lines) + "\n"


def across_command(request: Request) -> str:
    """The command that judges a model on all nine games."""
    if request.player != "model":
        return "# The command line evaluates checkpoints."
    words = ["python", "-m", "plugins.ui_action", "evaluate", "--seeds", f"{request.seed}:{request.seed + 1}"]
    return shlex.join([*words, "--strategy", request.strategy])


def _imports(request: Request) -> list[str]:
    lines = ["import os", ""] if request.player == "endpoint" and request.endpoint and request.endpoint.api_key else []
    names = ["Agent", "Policy", "Screen"] + (["UIActionPipeline"] if request.player == "model" else [])
    lines += [f"from plugins.ui_action import {', '.join(names)}"]
    if request.player == "endpoint":
        lines += ["from plugins.ui_action.backends.openai_compatible import OpenAICompatibleBackend"]
    if request.player == "expert":
        lines += ["from plugins.ui_action.backends.scripted import ScriptedBackend"]
    if request.place == "browser":
        lines += ["from plugins.ui_action.environments.browser import BrowserEnvironment"]
        if request.player == "expert":
            lines += ["from plugins.ui_action.environments.simulator import events"]
    else:
        lines += ["from plugins.ui_action.environments.simulator import SimulatorEnvironment"]
    lines += ["from plugins.ui_action.games import make_game"]
    if request.player == "expert":
        lines += ["from plugins.ui_action.games.experts import decide"]
    if request.place == "browser":
        lines += ["from plugins.ui_action.games.site import serve_games"]
    if request.player == "expert":
        lines += ["from plugins.ui_action.parser import Response", "from plugins.ui_action.serialiser import serialise"]
    return lines


def _player(request: Request) -> str:
    if request.player == "expert":
        return f'{_EXPERT}backend = ScriptedBackend(expert, screen=screen, name="expert")\n'
    if request.player == "endpoint" and request.endpoint is not None:
        asked = request.endpoint
        key = ', api_key=os.environ["API_KEY"]' if asked.api_key else ""
        return (
            f"backend = OpenAICompatibleBackend(\n    {asked.base_url!r}, {asked.model!r}, "
            f"family={asked.family!r}{key}\n)\n"
        )
    return f"backend = UIActionPipeline.from_pretrained({find('ui-action').checkpoint!r}).backend()\n"
