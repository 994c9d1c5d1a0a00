"""One game: rules, controls and screen together; what an environment plays and a page shows."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from typing import Any

from ..actions import Platform
from . import area, controls, resource, scene_area, scene_resource, scene_target, target
from .assets import Box, layout
from .display import Display, Painter
from .events import Event
from .objects import SceneObject, objects

State = target.TargetState | resource.ResourceState | area.AreaState


class Game:
    """Begins with `reset`; `handle` takes events one by one.

    Attributes:
        task, platform, adversarial: which game, on which skin, with the banner and the Quit button or without.
        layout: where things are.
        rules: the state of the rules, frozen; an expert may look at it, a player sees only the screen.
    """

    def __init__(self, task: str, platform: Platform, adversarial: bool = False) -> None:
        self.task, self.platform, self.adversarial = task, platform, adversarial
        self.layout = layout(platform, task)
        self.reset(0)

    def reset(self, seed: int) -> tuple[State, ...]:
        """Begin again; give the states of the ticks before the first decision, the last one is now.

        Raises UIActionInputError for a seed outside 0 to 2**32 - 1.
        """
        self.typed = ""
        states: tuple[State, ...]
        if self.task == "target-localisation":
            states = (target.begin(seed, self.layout.board),)
        elif self.task == "resource-allocation":
            states = (resource.begin(seed),)
        else:
            states = area.begin(seed)
        self.rules = states[-1]
        self._ground = self._paint_ground()
        return states

    def handle(self, event: Event) -> tuple[State, ...]:
        """Take one event; give the states of the ticks that it takes, none if it takes none. `display` shows them."""
        command = None if self.done else self._command(event)
        if command is None:
            return ()
        states = self._apply(command)
        self.rules = states[-1]
        return states

    @property
    def instruction(self) -> str:
        """What the player is asked to do."""
        if isinstance(self.rules, target.TargetState):
            return target.instruction(self.rules)
        if isinstance(self.rules, resource.ResourceState):
            return resource.instruction(self.rules)
        return area.instruction(self.rules)

    @property
    def tick(self) -> int:
        """The clock; 0 in the games that have none."""
        return self.rules.tick if isinstance(self.rules, area.AreaState) else 0

    @property
    def done(self) -> bool:
        """Whether the game has ended."""
        return self.rules.outcome != "playing"

    @property
    def success(self) -> bool:
        """Whether it has been won."""
        return self.rules.outcome == "won"

    def state(self, rules: State | None = None) -> dict[str, Any]:
        """All of the game's state as plain JSON, what the player cannot see included; now, or with other rules."""
        return json.loads(self._canonical(rules or self.rules))

    def state_hash(self, rules: State | None = None) -> str:
        """SHA-256 over `state` with its keys in order and no blanks, hex; the same in the browser."""
        return hashlib.sha256(self._canonical(rules or self.rules).encode()).hexdigest()

    def deny_regions(self) -> tuple[Box, ...]:
        """What a policy should never let an agent press: the Quit button, where there is one."""
        return (self.layout.quit,) if self.adversarial else ()

    def objects(self) -> tuple[SceneObject, ...]:
        """What is to be seen and pressed, for training labels."""
        return objects(self.layout, self.rules, self.adversarial)

    def display(self, rules: State | None = None) -> Display:
        """The screen now, or as it would be in another state of the same game's rules."""
        painter, rules = Painter(), rules or self.rules
        if isinstance(rules, target.TargetState):
            scene_target.figures(painter, self.layout, rules, self.adversarial, self.typed)
        elif isinstance(rules, resource.ResourceState):
            scene_resource.figures(painter, self.layout, rules, self.adversarial, self.typed)
        else:
            scene_area.figures(painter, self.layout, rules, self.adversarial, self.typed)
        return Display(self.layout.width, self.layout.height, self._ground, tuple(painter.commands))

    def _canonical(self, rules: State) -> str:
        state = {
            "task": self.task,
            "platform": self.platform,
            "adversarial": self.adversarial,
            "typed": self.typed,
            **asdict(rules),
        }
        return json.dumps(state, sort_keys=True, separators=(",", ":"))

    def _paint_ground(self) -> tuple[tuple[int, ...], ...]:
        painter = Painter()
        if isinstance(self.rules, target.TargetState):
            scene_target.ground(painter, self.layout, self.rules)
        elif isinstance(self.rules, resource.ResourceState):
            scene_resource.ground(painter, self.layout)
        else:
            scene_area.ground(painter, self.layout)
        return tuple(painter.commands)

    def _command(self, event: Event) -> controls.Command | None:
        if event.kind == "key":
            return self._keyed(event.key)
        if self.adversarial and event.kind in ("tap", "long_press") and self.layout.quit.holds(event.x, event.y):
            return ("quit",)
        return controls.pointed(self.layout, self.rules, event)

    def _keyed(self, key: str) -> controls.Command | None:
        if len(key) == 1:
            if key.isascii() and key.isalnum():
                self.typed = (self.typed + key.upper())[-controls.CODE_LENGTH :]
            return None
        if key == "Backspace":
            self.typed = self.typed[:-1]
            return None
        code, self.typed = self.typed, ""
        return controls.typed(self.layout, code) if key == "Enter" else controls.IDLE

    def _apply(self, command: controls.Command) -> tuple[State, ...]:
        if isinstance(self.rules, target.TargetState):
            return target.apply(self.rules, command)
        if isinstance(self.rules, resource.ResourceState):
            return resource.apply(self.rules, command)
        return area.apply(self.rules, command)
