"""What the agent loop asks of a model, however it is run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

from PIL import Image

from ..actions import Platform
from ..errors import UIActionInputError
from ..screen import Screen

Role = Literal["reason", "act", "both"]


class BackendError(UIActionInputError):
    """A model that cannot be asked now: unreachable, too slow, or answering what is no completion."""


@dataclass(frozen=True)
class Video:
    """A clip as a model gets it.

    Attributes:
        frames: RGB, oldest first, all of one size.
        fps: frames per second of what they show.
    """

    frames: tuple[Image.Image, ...]
    fps: float


@dataclass(frozen=True)
class Turn:
    """An earlier step: what was seen then, and what the model answered.

    Attributes:
        media: what is still remembered of the screens; () once they are dropped. The text is kept.
        text: the model's own answer.
        observation: one line that came back after it, such as a policy's refusal; "" if none did.
    """

    media: tuple[Image.Image | Video, ...]
    text: str
    observation: str = ""


@dataclass(frozen=True)
class Prompt:
    """One question to a model.

    Attributes:
        role: "reason": say in a sentence what to do next; "act": carry out such a sentence on the screen, as an
            action; "both" at once, as a thought and an action.
        instruction: the task, or for "act" the reasoner's sentence; never text from a screen.
        media: what is to be seen now, in order: video, image sequence, current screen last.
        platform: whose actions may be used.
        history: earlier turns, oldest first.
    """

    role: Role
    instruction: str
    media: tuple[Image.Image | Video, ...]
    platform: Platform
    history: tuple[Turn, ...] = ()


@dataclass(frozen=True)
class Completion:
    """A model's answer.

    Attributes:
        text: as it came, unchecked.
        screen: the screen it refers to, with the size of the image that the model really saw.
        prompt_tokens, output_tokens: counted by the model; None if it does not say.
        prefill_ms, decode_ms: milliseconds until the first token, and from there on; None if unknown.
    """

    text: str
    screen: Screen
    prompt_tokens: int | None = None
    output_tokens: int | None = None
    prefill_ms: float | None = None
    decode_ms: float | None = None


class Backend(Protocol):
    """A model that can be asked.

    Attributes:
        name: for traces and pages, such as "scripted" or "ui-tars at 127.0.0.1:8000".
    """

    name: str

    def complete(self, prompt: Prompt) -> Completion:
        """Answer. Raises BackendError."""
        ...
