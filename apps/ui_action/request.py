"""What a visitor asks for: a game, an interface, a player and how careful it is; checked before it waits."""

from __future__ import annotations

import ipaddress
import math
import re
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from apps.address import ON_A_SPACE
from apps.ui_action.parts import browser_missing, part
from core.errors import InputError

# The plugin's own names, for people to read; a test holds them against it.
TASKS = {
    "target-localisation": "Target localisation",
    "resource-allocation": "Resource allocation",
    "area-control": "Area control",
}
ASKED = {
    "target-localisation": "select the named unit",
    "resource-allocation": "send units, then commit",
    "area-control": "man what convoys enter",
}
PLATFORMS = {"desktop": "Desktop", "mobile": "Mobile", "web": "Web"}
PLAYERS = {
    "model": "Small model",
    "expert": "Expert: rules that see the game's state, no model",
    "endpoint": "OpenAI-compatible endpoint",
}
PLACES = {"simulator": "Simulator", "browser": "Real browser"}
CONFIRM = {"never": "Never", "risky": "Before risky actions", "always": "Before every action"}
MEDIA = {
    "S": "S: the screen now",
    "M": "M: a screen after each of the last actions",
    "V": "V: a clip since the last one",
}
ROLES = {"two": "Two roles: reasoner, then executor", "single": "One question a turn"}
FAMILIES = ("ui-tars-1.5", "ui-tars-1.0", "qwen2.5-vl", "qwen3-vl", "tiny")

TASK, PLATFORM, SEED = "resource-allocation", "web", 7
SHOWN = ("M", "V")
STEPS, MOST_STEPS, MOST_SEED = 30, 60, 2**32 - 1
PACE, MOST_PACE = 0.6, 5.0  # seconds that a turn is shown at least
MOST_LETTERS = 400


@dataclass(frozen=True)
class Endpoint:
    """A model behind an OpenAI-compatible server; the key is in no representation and no record."""

    base_url: str
    model: str
    family: str
    api_key: str = field(default="", repr=False)

    def check(self) -> None:
        """Raise what is wrong with it, without asking the server."""
        for name, value in (("address", self.base_url), ("model's name", self.model), ("API key", self.api_key)):
            if len(value) > MOST_LETTERS:
                raise InputError(f"The {name} has {len(value)} characters: {MOST_LETTERS} are allowed.")
        if not self.base_url:
            raise InputError("There is no address: give the endpoint's base URL, such as http://127.0.0.1:8000/v1.")
        if not self.model:
            raise InputError("There is no model's name: give the one by which the endpoint knows it.")
        if self.family not in FAMILIES:
            raise InputError(f"{self.family[:40]!r} is no family: choose one of {', '.join(FAMILIES)}.")
        self.backend().close()
        if ON_A_SPACE and _is_private(urlsplit(self.base_url).hostname or ""):
            raise InputError("On this public server an endpoint has to be public too: give an https address.")

    def backend(self) -> Any:
        """The plugin's back end for it. Raises its error for an address that is not allowed."""
        return part("backends.openai_compatible:OpenAICompatibleBackend")(
            self.base_url, self.model, family=self.family, api_key=self.api_key or None
        )


@dataclass(frozen=True)
class Request:
    """One game.

    Attributes:
        task, platform, seed: which game, on which interface, of TASKS and PLATFORMS.
        player: of PLAYERS. endpoint: where that is "endpoint".
        place: "simulator" or "browser".
        confirm: what the visitor is asked about, of CONFIRM.
        adversarial: with a banner that tells the agent to press Quit.
        shown: what the reasoner is shown, of MEDIA.
        single: one question a turn instead of reasoner and executor.
        max_steps: turns at most.
        pace: seconds that a turn is shown at least.
        stepwise: wait for the visitor before each turn.
        across: every game on every interface, one after the other; `task` and `platform` are not looked at.
    """

    task: str = TASK
    platform: str = PLATFORM
    seed: int = SEED
    player: str = "model"
    endpoint: Endpoint | None = None
    place: str = "simulator"
    confirm: str = "never"
    adversarial: bool = False
    shown: tuple[str, ...] = SHOWN
    single: bool = False
    max_steps: int = STEPS
    pace: float = PACE
    stepwise: bool = False
    across: bool = False

    def __post_init__(self) -> None:
        for what, value, known in (
            ("game", self.task, TASKS),
            ("interface", self.platform, PLATFORMS),
            ("player", self.player, PLAYERS),
            ("place to play", self.place, PLACES),
            ("way to confirm", self.confirm, CONFIRM),
        ):
            if value not in known:
                raise InputError(f"{str(value)[:40]!r} is no {what}: choose one of {', '.join(known)}.")
        self._check_numbers()
        unknown = [name for name in self.shown if name not in MEDIA]
        if unknown or not self.shown or len(set(self.shown)) < len(self.shown):
            raise InputError("Choose what the reasoner is shown: some of S, M and V, each once.")
        if self.player == "endpoint":
            if self.endpoint is None:
                raise InputError("There is no endpoint: give its base URL, the model's name and its family.")
            self.endpoint.check()
        if self.place == "browser" and (missing := browser_missing()):
            raise InputError(missing)

    def _check_numbers(self) -> None:
        for name, value, low, high in (
            ("seed", self.seed, 0, MOST_SEED),
            ("number of steps", self.max_steps, 1, MOST_STEPS),
            ("pace", self.pace, 0, MOST_PACE),
        ):
            if not (math.isfinite(value) and low <= value <= high):
                raise InputError(f"The {name} is {value}: choose {low} to {high:g}.")

    @property
    def strategy(self) -> str:
        """What is shown as one term of the combination algebra, "M*V"."""
        return "*".join(name for name in MEDIA if name in self.shown)

    def params(self) -> dict[str, Any]:
        """What a reader needs to repeat it; no key."""
        endpoint = self.endpoint
        served = (
            {"base_url": endpoint.base_url, "model": endpoint.model, "family": endpoint.family} if endpoint else None
        )
        return {
            "task": self.task,
            "platform": self.platform,
            "seed": self.seed,
            "player": self.player,
            "endpoint": served if self.player == "endpoint" else None,
            "place": self.place,
            "confirm": self.confirm,
            "adversarial": self.adversarial,
            "shown": self.strategy,
            "single": self.single,
            "max_steps": self.max_steps,
            "pace": self.pace,
            "stepwise": self.stepwise,
            "across": self.across,
        }


def read_cell(cell: object) -> tuple[str, str]:
    """Game and interface from "task/platform", as the picker gives them. Raises InputError."""
    found = re.fullmatch(r"([a-z-]{1,40})/([a-z]{1,20})", cell) if isinstance(cell, str) else None
    if found is None:
        raise InputError("No game is chosen: choose one of the nine.")
    return found[1], found[2]


def _is_private(host: str) -> bool:
    """Whether a host is this machine or another that only a private network reaches, as far as its name tells."""
    try:
        return not ipaddress.ip_address(host).is_global
    except ValueError:
        return "." not in host.rstrip(".") or host.lower().rstrip(".").endswith((".local", ".internal", "localhost"))
