"""Recorded decisions as what a model is trained on: prompt, answer, and what the training-only heads are asked.

The paper's base sets are made here: the media of one decision inside a sample, or samples of several kinds side by side
(arXiv 2511.12937; `Strategy`).
"""

from __future__ import annotations

from dataclasses import dataclass

from .backends.base import Prompt, Role
from .backends.prompts import chat_messages
from .memory import Memory
from .parser import Response
from .pointing import Labels, Layout, labels_of
from .processing import Encoded, ScreenProcessor
from .recorder import Recorded
from .serialiser import serialise
from .strategy import Term
from .wording import spans

FAMILY = "tiny"


@dataclass(frozen=True)
class Sample:
    """One example.

    Attributes:
        encoded: prompt and answer as token ids, and the screens.
        labels: for the heads, of every screen, and of every pair of frames of a clip, in order.
    """

    encoded: Encoded
    labels: tuple[Labels, ...]


def prompt_of(recorded: Recorded, role: Role, term: Term) -> Prompt:
    """What the agent loop would ask at this decision.

    Args:
        role: "reason" and "both" are asked with the task and the media of `term`, "act" with the expert's sentence and
            the current screen.
    """
    if role == "act":
        return Prompt(role, recorded.decision.sentence, recorded.screens[-1:], recorded.platform)
    media = Memory(media=term).show(recorded.screens, recorded.frames)
    return Prompt(role, recorded.instruction, media, recorded.platform)


def answer_of(recorded: Recorded, role: Role) -> str:
    """What it is to say: the sentence, the action in UI-TARS's grammar, or the one as the other's thought."""
    if role == "reason":
        return recorded.decision.sentence
    thought = recorded.decision.sentence if role == "both" else None
    response = Response(thought, None, (recorded.decision.action,), ())
    return serialise(response, screen=recorded.screen, box_tokens=True)


def sample_of(recorded: Recorded, role: Role, term: Term, processor: ScreenProcessor) -> Sample:
    """The example of one decision, in one role, with the media of one term of a strategy."""
    messages = chat_messages(prompt_of(recorded, role, term), FAMILY)
    answer, sentence = answer_of(recorded, role), recorded.decision.sentence
    begin = answer.find(sentence)
    values = [(begin + first, begin + last) for first, last in spans(sentence)] if begin >= 0 else []
    encoded = processor.encode(messages, answer, values)
    seen = recorded.screen_layouts[-1:] if role == "act" else _layouts(recorded, term)
    size = recorded.screen.width, recorded.screen.height
    return Sample(encoded, tuple(labels_of(layout, size) for layout in seen))


def _layouts(recorded: Recorded, term: Term) -> list[Layout]:
    """In the order of the media; two frames of a clip are one row of tokens, which show the second of them."""
    layouts: list[Layout] = []
    if "V" in term:
        frames = list(recorded.frame_layouts)
        layouts += [*frames, *frames[len(frames) - len(frames) % 2 :]][1::2]
    if "M" in term:
        layouts += recorded.screen_layouts
    if "S" in term:
        layouts.append(recorded.screen_layouts[-1])
    return layouts
