"""Who plays: the small model, a model behind an endpoint, or a player by rules; all asked in the same way."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from apps.ui_action.parts import SLUG, part
from apps.ui_action.request import Request
from core.errors import QuartetError
from core.registry import default_cache

HIDDEN = "[redacted]"


class Expert:
    """A back end without a model: the plugin's expert, which sees the game's state and not only its screen.

    It keeps a game of its own beside the one that is played, and does there what is done here.

    Args:
        request: the game.
    """

    name = "expert (rules, sees the game's state)"

    def __init__(self, request: Request) -> None:
        self._mirror = part("environments.simulator:SimulatorEnvironment")(
            request.task, request.platform, request.adversarial
        )
        self._mirror.reset(request.seed)
        self._seed = request.seed
        self._turn = 0

    def complete(self, prompt: Any) -> Any:
        """The expert's sentence, its action in UI-TARS's grammar, or both."""
        decision = part("games.experts:decide")(self._mirror.game, self._seed * 1000 + self._turn)
        text = decision.sentence
        if prompt.role != "reason":
            thought = decision.sentence if prompt.role == "both" else None
            response = part("parser:Response")(thought, None, (decision.action,), ())
            text = part("serialiser:serialise")(response, screen=self._mirror.screen)
        return part("backends.base:Completion")(text, self._mirror.screen)

    def follow(self, step: Any) -> None:
        """Do what a turn did.

        Raises:
            QuartetError: the game that is played did something else.
        """
        self._turn += 1
        for planned in step.planned:
            if planned.executed:
                self._mirror.execute(planned.action)
        if step.state_after != self._mirror.state_hash():
            raise QuartetError("The game on the screen and the expert's own no longer agree: run it again.")

    def close(self) -> None:
        """Nothing is held."""


class Endpoint:
    """A back end that does not let its key out, whatever the server answers."""

    def __init__(self, request: Request) -> None:
        assert request.endpoint is not None
        self._backend = request.endpoint.backend()
        self._key = request.endpoint.api_key
        self.name = self._backend.name

    def complete(self, prompt: Any) -> Any:
        """The server's answer."""
        answered = self._backend.complete(prompt)
        return replace(answered, text=answered.text.replace(self._key, HIDDEN)) if self._key else answered

    def follow(self, step: Any) -> None:
        """A model sees the screen; it is told nothing else."""

    def close(self) -> None:
        """Give up its connections."""
        self._backend.close()


class SmallModel:
    """The technique's own checkpoint."""

    def __init__(self) -> None:
        pipe = pipeline()
        self._backend = pipe.backend()
        self.name = self._backend.name
        self.device, self.dtype = str(pipe.model.device), str(pipe.model.dtype).removeprefix("torch.")
        self.attention = str(pipe.model.config._attn_implementation)
        self.parameters = int(sum(value.numel() for value in pipe.model.parameters()))

    def complete(self, prompt: Any) -> Any:
        """The model's answer."""
        return self._backend.complete(prompt)

    def follow(self, step: Any) -> None:
        """A model sees the screen; it is told nothing else."""

    def close(self) -> None:
        """The process keeps the model."""


Player = Expert | Endpoint | SmallModel


def pipeline() -> Any:
    """The pipeline that this process keeps, on an accelerator where there is one."""
    return default_cache().on_best_device(SLUG)


def make_player(request: Request) -> Player:
    """The one that is asked for, ready to be asked."""
    if request.player == "expert":
        return Expert(request)
    return Endpoint(request) if request.player == "endpoint" else SmallModel()
