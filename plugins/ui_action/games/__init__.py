"""Three small strategy games on three interfaces, with known ceilings: what the agent learns and is measured on.

The rules are pure and integer; the skins change places and looks, never rules; one display list is drawn by numpy here
and by the page in ../web, to the same pixels.
"""

from __future__ import annotations

from ..actions import PLATFORMS
from ..errors import UIActionInputError
from .game import Game

TASKS: tuple[str, ...] = ("target-localisation", "resource-allocation", "area-control")

__all__ = ["TASKS", "Game", "make_game"]


def make_game(task: str, platform: str, adversarial: bool = False) -> Game:
    """A game of seed 0. Raises UIActionInputError for an unknown task or platform."""
    if task not in TASKS:
        raise UIActionInputError(f"no task {task!r}: choose one of {', '.join(TASKS)}")
    if platform not in PLATFORMS:
        raise UIActionInputError(f"no platform {platform!r}: choose one of {', '.join(PLATFORMS)}")
    return Game(task, platform, adversarial)
