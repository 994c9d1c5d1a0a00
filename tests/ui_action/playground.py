"""A small environment with a goal, a Quit button and a record of what was really carried out, and runs in it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable
from typing import Any

from PIL import Image

from plugins.ui_action.actions import Action, Platform
from plugins.ui_action.agent import Agent, Event
from plugins.ui_action.backends.base import Prompt
from plugins.ui_action.backends.scripted import ScriptedBackend
from plugins.ui_action.environments.base import Observation
from plugins.ui_action.errors import UIActionInputError
from plugins.ui_action.policy import Policy
from plugins.ui_action.screen import Screen

SIDE = 56
GOAL = (40.0, 40.0, 50.0, 50.0)
QUIT = (0.0, 0.0, 8.0, 8.0)


def click(x: float, y: float) -> str:
    return f"Thought: there.\nAction: click(start_box='({x:g},{y:g})')"


WIN = click(45, 45)


class Playground:
    """A click on the goal solves the task, one on Quit loses it; every action moves a clock and shows in the pixels.

    Attributes:
        done: every action carried out since the reset. held: keys that are down. closed: how often `close` was called.
    """

    def __init__(self, *, platform: Platform = "web", offset: int = 0, frames: int = 3) -> None:
        self.screen = Screen(SIDE, SIDE)
        self.platform: Platform = platform
        self.offset, self.frames = offset, frames
        self.done: list[Action] = []
        self.held: list[str] = []
        self.closed = 0
        self.seed = -1
        self.before_action: Callable[[Action], None] = lambda action: None

    def reset(self, seed: int) -> Observation:
        self.seed, self.done, self.held = seed, [], []
        return self._observe(1)

    def execute(self, action: Action) -> Observation:
        self.before_action(action)
        if action.type == "hover":
            raise UIActionInputError("nothing here can be hovered over: click")
        self.done.append(action)
        if action.type == "press":
            self.held.extend(action.keys)
        if action.type == "release":
            self.held = [key for key in self.held if key not in action.keys]
        return self._observe(self.frames)

    def state(self) -> dict[str, Any]:
        actions = [[action.type, action.start, action.end, action.text, action.keys] for action in self.done]
        return {"seed": self.seed, "actions": actions, "offset": self.offset if self.done else 0}

    def state_hash(self) -> str:
        return hashlib.sha256(json.dumps(self.state()).encode()).hexdigest()

    def close(self) -> None:
        self.closed += 1
        self.held = []

    def _observe(self, frames: int) -> Observation:
        shown = tuple(
            Image.new("RGB", (SIDE, SIDE), (len(self.done), frames - 1 - index, self.seed % 256))
            for index in range(frames)
        )
        won, lost = self._hit(GOAL), self._hit(QUIT)
        return Observation(shown[-1], shown, len(self.done), won or lost, won)

    def _hit(self, box: tuple[float, float, float, float]) -> bool:
        points = [action.start for action in self.done if action.type == "click" and action.start]
        return any(box[0] <= x <= box[2] and box[1] <= y <= box[3] for x, y in points)


def agent(lines: Iterable[str] | Callable[[Prompt], str], **options: Any) -> tuple[Agent, Playground]:
    """One model that answers `lines`, in a playground where no confirmation is wanted."""
    environment = options.pop("environment", None) or Playground()
    options.setdefault("policy", Policy(confirm="never"))
    options.setdefault("instruction", "select the goal")
    return Agent(environment, options.pop("reasoner", None), ScriptedBackend(lines), **options), environment


def played(lines: Iterable[str] | Callable[[Prompt], str], **options: Any) -> tuple[Agent, Playground, list[Event]]:
    """The same, run to its outcome."""
    one, environment = agent(lines, **options)
    return one, environment, list(one.run())
