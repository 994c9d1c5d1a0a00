"""A checkpoint of transformers on this machine: ours, Qwen2.5-VL, UI-TARS-1.5."""

from __future__ import annotations

import time
from typing import Any

import torch
from transformers import LogitsProcessor, LogitsProcessorList

from ..patches import PATCH
from ..processing import ScreenProcessor
from ..screen import Screen
from .base import BackendError, Completion, Prompt, Video
from .prompts import chat_messages, family_of

MAX_NEW_TOKENS = 128


class FirstToken(LogitsProcessor):
    """Notes when the first token's scores are there: until then the prompt was read.

    Attributes:
        at: seconds of `time.perf_counter`; None before.
    """

    def __init__(self) -> None:
        self.at: float | None = None

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
        self.at = self.at or time.perf_counter()
        return scores


class LocalBackend:
    """Answers greedily.

    Args:
        model: a Qwen2_5_VLForConditionalGeneration. processor: its tokenizer and limits.
        family: how it is spoken to, one of `prompts.FAMILIES`.
        name: for traces.
        max_new_tokens: an answer that is longer is cut off.
    """

    def __init__(
        self, model: Any, processor: ScreenProcessor, *, family: str, name: str, max_new_tokens: int = MAX_NEW_TOKENS
    ) -> None:
        self.model, self.processor, self.family, self.name = model, processor, family, name
        self.max_new_tokens = max_new_tokens
        family_of(family)

    def complete(self, prompt: Prompt) -> Completion:
        """Answer. Raises BackendError where memory does not suffice."""
        encoded = self.processor.encode(chat_messages(prompt, self.family))
        batch = self.processor.batch([encoded], left=True)
        del batch["labels"]
        batch = {name: value.to(self.model.device) for name, value in batch.items()}
        first, began = FirstToken(), time.perf_counter()
        try:
            with torch.inference_mode():
                found = self.model.generate(
                    **batch,
                    max_new_tokens=self.max_new_tokens,
                    do_sample=False,
                    logits_processor=LogitsProcessorList([first]),
                )
        except torch.OutOfMemoryError as error:
            raise BackendError(
                f"memory does not suffice for {len(encoded.ids)} tokens: show fewer or smaller screens, or load the "
                "model in four bits"
            ) from error
        ended = time.perf_counter()
        said = found[0, len(encoded.ids) :]
        read = (first.at or ended) - began
        return Completion(
            str(self.processor.tokenizer.decode(said, skip_special_tokens=True)),
            self._screen(prompt, encoded.media[-1].grid),
            prompt_tokens=len(encoded.ids),
            output_tokens=len(said),
            prefill_ms=1000 * read,
            decode_ms=1000 * (ended - began - read),
        )

    def _screen(self, prompt: Prompt, grid: tuple[int, int, int]) -> Screen:
        """The current screen, with the size at which the model saw it, read back from its patches."""
        last = prompt.media[-1]
        width, height = (last.frames[-1] if isinstance(last, Video) else last).size
        return Screen(width, height, grid[2] * PATCH, grid[1] * PATCH, family_of(self.family).coordinates)
