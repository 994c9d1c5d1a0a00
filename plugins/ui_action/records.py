"""What is written down of a run: value objects of plain JSON types, for events, traces and reports."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, is_dataclass
from typing import Any, Literal, Protocol

from PIL import Image

from .actions import Action, Platform
from .backends.base import Prompt, Role, Video
from .memory import Memory
from .policy import Policy, Verdict
from .screen import Screen

Status = Literal[
    "finished",
    "success",
    "failure",
    "budget",
    "stuck",
    "parse_failures",
    "refused",
    "stopped",
    "call_user",
    "error",
]
RESUMABLE: tuple[Status, ...] = ("stopped", "call_user", "error")


@dataclass(frozen=True)
class Call:
    """One question to a model and its answer.

    Attributes:
        prompt: `prompt_hash` of the question.
        text: the answer as it came.
        prompt_tokens, output_tokens, prefill_ms, decode_ms: as the model tells them, None where it does not.
        milliseconds: between question and answer.
    """

    role: Role
    backend: str
    prompt: str
    text: str
    prompt_tokens: int | None
    output_tokens: int | None
    prefill_ms: float | None
    decode_ms: float | None
    milliseconds: float


@dataclass(frozen=True)
class Planned:
    """An action that a model asked for, what the policy said, and whether it was carried out."""

    action: Action
    verdict: Verdict
    executed: bool


@dataclass(frozen=True)
class Step:
    """One turn of the loop.

    Attributes:
        number: from 1.
        tick: the environment's clock before the turn.
        thought, reflection, flags: of the parsed answer.
        error: why the answer could not be parsed, "" if it could.
        observation: the line that the model is told next, "" if none.
        note: the environment's own line about the last action; the model is not told.
        released: keys that were held at the end of the turn, and let go then.
        state_before, state_after: hashes of the environment's state.
        milliseconds: of the whole turn.
    """

    number: int
    tick: int
    screen: Screen
    calls: tuple[Call, ...]
    thought: str | None
    reflection: str | None
    flags: tuple[str, ...]
    planned: tuple[Planned, ...]
    error: str
    observation: str
    note: str
    released: tuple[str, ...]
    state_before: str
    state_after: str
    milliseconds: float


@dataclass(frozen=True)
class Outcome:
    """How a run ended, or where it waits: one of `RESUMABLE` can be gone on with.

    Attributes:
        status: "finished": the model says so, or the environment is done and cannot tell; "success", "failure": the
            environment says so; "budget": steps or seconds; "stuck": the same action again and again;
            "parse_failures", "refused": too many in a row; "stopped": by the kill switch; "call_user": the model wants
            a person; "error": a model or the environment failed.
        success: as the environment sees it, None where it cannot tell.
        message: one line for people.
        steps, executed, refusals, parse_failures: counted over the whole run; `executed` are actions.
        seconds: that the agent worked.
        answer: the text of `finished`.
    """

    status: Status
    success: bool | None
    message: str
    steps: int
    executed: int
    refusals: int
    parse_failures: int
    seconds: float
    answer: str = ""


@dataclass(frozen=True)
class Header:
    """What a run was given; with the same models it can be repeated.

    Attributes:
        instruction: the task, from the caller.
        reasoner, executor: names of the back ends; no reasoner: one model does both.
    """

    instruction: str
    platform: Platform
    screen: Screen
    seed: int
    policy: Policy
    memory: Memory
    reasoner: str | None
    executor: str


class Recorder(Protocol):
    """What an agent writes its run into, such as a `TraceWriter`."""

    def begin(self, header: Header) -> None:
        """Once, before the first step."""
        ...

    def step(self, step: Step, image: Image.Image) -> None:
        """After every turn; `image` is the screen that the turn began with."""
        ...

    def end(self, outcome: Outcome, image: Image.Image) -> None:
        """Whenever the run ends or waits; `image` is the screen then."""
        ...


def canonical(value: Any) -> str:
    """JSON in the one form that is hashed: sorted keys, no blanks, ASCII. Raises ValueError for NaN and infinities."""
    plain = asdict(value) if is_dataclass(value) and not isinstance(value, type) else value
    return json.dumps(plain, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def sha256(text: str) -> str:
    """SHA-256 of ASCII text, hex."""
    return hashlib.sha256(text.encode("ascii")).hexdigest()


def prompt_hash(prompt: Prompt) -> str:
    """SHA-256 over all that a model was asked: texts, pixels, earlier turns."""
    turns = [[_media(turn.media), turn.text, turn.observation] for turn in prompt.history]
    return sha256(canonical([prompt.role, prompt.instruction, prompt.platform, _media(prompt.media), turns]))


def one_line(text: str, most: int = 300) -> str:
    """The text with single blanks for all white space and what cannot be printed, cut to `most` characters."""
    line = " ".join("".join(letter if letter.isprintable() else " " for letter in text[: 4 * most]).split())
    return line if len(line) <= most else line[: most - 1] + "…"


def _media(media: tuple[Image.Image | Video, ...]) -> list[Any]:
    return [
        {"fps": each.fps, "frames": [_pixels(frame) for frame in each.frames]}
        if isinstance(each, Video)
        else _pixels(each)
        for each in media
    ]


def _pixels(image: Image.Image) -> str:
    return hashlib.sha256(f"{image.mode} {image.size}".encode() + image.tobytes()).hexdigest()
