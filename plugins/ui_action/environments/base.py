"""What every environment offers the agent loop."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from PIL import Image

from ..actions import Action, Platform
from ..screen import Screen


@dataclass(frozen=True)
class Observation:
    """What is there to see after a reset or an action.

    Attributes:
        image: the screen now, RGB, in css pixels of the environment's screen.
        frames: the screens since the last action, oldest first, as the clock went on; the last one is `image`.
        tick: the game's clock; it stands still while the agent thinks. 0 where there is no such clock.
        done: nothing more can be done.
        success: the task is solved; None where the environment cannot tell.
        note: one line about what the last action did, "" if there is nothing to say.
    """

    image: Image.Image
    frames: tuple[Image.Image, ...]
    tick: int = 0
    done: bool = False
    success: bool | None = None
    note: str = ""


class Environment(Protocol):
    """A screen on which actions are carried out.

    Attributes:
        screen: its size.
        platform: which actions it has, see `ALLOWED`.
    """

    screen: Screen
    platform: Platform

    def reset(self, seed: int) -> Observation:
        """Begin again; the same seed shows the same."""
        ...

    def execute(self, action: Action) -> Observation:
        """Carry out one action that a policy has passed. Raises UIActionInputError for one it does not have."""
        ...

    def state(self) -> dict[str, Any]:
        """All of the environment's state as plain JSON; {} where it cannot be told."""
        ...

    def state_hash(self) -> str:
        """SHA-256 over `state`, hex; of the screen's pixels where there is no state."""
        ...

    def close(self) -> None:
        """Let go of held keys and buttons, and of whatever else is held."""
        ...
