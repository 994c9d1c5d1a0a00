"""UIActionPipeline: screens and a task in, an action out."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from typing import Any, Self, get_args

import torch
from PIL import Image

from .actions import PLATFORMS, Platform
from .backends.base import Completion, Prompt, Role, Video
from .backends.local import MAX_NEW_TOKENS, LocalBackend
from .backends.prompts import FAMILIES
from .errors import UIActionInputError
from .loading import Checkpoint, find_checkpoint, load_model, resolve_device, resolve_dtype
from .parser import Response, parse_response
from .processing import ScreenProcessor

LARGEST_SIDE, SMALLEST_SIDE = 8192, 14
MOST_SCREENS = 64
Screens = Image.Image | Sequence[Image.Image] | Video


class UIActionPipeline:
    """A vision-language model that reasons about a screen and acts on it (Yanyun-3, arXiv 2511.12937).

    Args:
        model: a Qwen2_5_VLForConditionalGeneration.
        processor: its tokenizer and limits.
        family: how it is spoken to: "tiny" (trained here), "qwen2.5-vl" or "ui-tars-1.5".

    Attributes:
        run: JSON-able record of the last call: parameters, device, tokens, milliseconds.

    Example:
        >>> pipe = UIActionPipeline.from_pretrained("hub_cards/ui-action-tiny")  # doctest: +SKIP
        >>> pipe(screenshot, "Select the red tank").actions  # doctest: +SKIP
    """

    def __init__(self, model: Any, processor: ScreenProcessor, *, family: str) -> None:
        self.model, self.processor, self.family = model, processor, family
        self.run: dict[str, Any] = {}
        self._checkpoint: Checkpoint | None = None

    @classmethod
    def from_pretrained(
        cls,
        repo_or_folder: str | os.PathLike[str],
        *,
        family: str | None = None,
        revision: str | None = None,
        dtype: str | torch.dtype | None = None,
        device: str | torch.device | None = None,
        four_bit: bool = False,
        local_files_only: bool = False,
        cache_dir: str | os.PathLike[str] | None = None,
        token: str | bool | None = None,
    ) -> Self:
        """Load a checkpoint with the code that is installed here. Safetensors only; no code of it is run.

        Args:
            repo_or_folder: a folder, or "owner/name" on the Hub.
            family: how the model is spoken to; None reads it off the checkpoint's settings or name.
            revision: branch, tag or commit on the Hub.
            dtype: "fp32", "bf16" or "fp16"; None and "auto" take bf16 on an accelerator, else fp32.
            device: such as "cpu" or "cuda"; None and "auto" take the accelerator where there is one.
            four_bit: NF4 weights, on CUDA with bitsandbytes.
            local_files_only: take what the Hub's cache holds and contact nothing; HF_HUB_OFFLINE=1 does the same.
            cache_dir, token: as everywhere in transformers.

        Raises:
            UIActionInputError: there is no such checkpoint, it is damaged, a pickle or of another kind.
        """
        place = resolve_device(device)
        found = find_checkpoint(
            repo_or_folder, revision=revision, local_files_only=local_files_only, cache_dir=cache_dir, token=token
        )
        model = load_model(found, resolve_dtype(dtype, place), place, four_bit=four_bit)
        pipeline = cls(
            model, ScreenProcessor.from_pretrained(found.folder), family=family or family_of_checkpoint(found, model)
        )
        pipeline._checkpoint = found
        return pipeline

    def save_pretrained(self, save_directory: str | os.PathLike[str], **options: Any) -> None:
        """Write weights, tokenizer and settings as transformers reads them; options are those of its models."""
        if os.path.isfile(save_directory):
            raise UIActionInputError(f"{os.fspath(save_directory)} is a file: name a folder")
        self.model.save_pretrained(save_directory, **options)
        self.processor.save_pretrained(save_directory)

    def to(self, device: str | torch.device) -> Self:
        """Move the model."""
        self.model.to(resolve_device(device))
        return self

    def backend(self, *, max_new_tokens: int = MAX_NEW_TOKENS) -> LocalBackend:
        """The model as the agent loop asks it."""
        name = self.family if self._checkpoint is None else os.path.basename(self._checkpoint.source.rstrip("/"))
        return LocalBackend(self.model, self.processor, family=self.family, name=name, max_new_tokens=max_new_tokens)

    def __call__(
        self,
        screens: Screens,
        instruction: str,
        *,
        platform: Platform = "desktop",
        role: Role = "both",
        max_new_tokens: int = MAX_NEW_TOKENS,
        lenient: bool = True,
    ) -> Response:
        """What to do on the last of the screens.

        Args:
            screens: one image; several, oldest first; or a `Video`. RGB, the current screen last.
            instruction: the task, in words.
            platform: whose actions may be used.
            role: "both" a thought and an action; "act" only the action, for a sentence that says what to do; "reason"
                such a sentence, as the response's thought.
            max_new_tokens: an answer that is longer is cut off.
            lenient: as of `parse_response`.

        Returns:
            Actions with points in pixels of the last screen.

        Raises:
            UIActionInputError: a screen or instruction that cannot be used.
            ParseError: the model's answer is no action; its text is in `run["answer"]`.
        """
        media = _checked(screens)
        if not instruction.strip():
            raise UIActionInputError("the instruction is empty: say what is to be done")
        if platform not in PLATFORMS or role not in get_args(Role):
            known = f"{', '.join(PLATFORMS)}; {', '.join(get_args(Role))}"
            raise UIActionInputError(f"platform {platform!r}, role {role!r}: choose one of {known}")
        began = time.perf_counter()
        found = self.backend(max_new_tokens=max_new_tokens).complete(Prompt(role, instruction, media, platform))
        self.run = self._record(found, instruction, platform, role, time.perf_counter() - began)
        if role == "reason":
            return Response(found.text.strip(), None, (), ())
        return parse_response(found.text, screen=found.screen, platform=platform, lenient=lenient)

    def _record(self, found: Completion, instruction: str, platform: str, role: str, seconds: float) -> dict[str, Any]:
        return {
            "params": {"instruction": instruction, "platform": platform, "role": role, "family": self.family},
            "answer": found.text,
            "device": str(self.model.device),
            "dtype": str(self.model.dtype).removeprefix("torch."),
            "attention": {"backend": self.model.config._attn_implementation, "reason": "as the model was loaded"},
            "checkpoint": None if self._checkpoint is None else self._checkpoint.source,
            "revision": None if self._checkpoint is None else self._checkpoint.revision,
            "model_size": found.screen.model_size,
            "prompt_tokens": found.prompt_tokens,
            "output_tokens": found.output_tokens,
            "timings": {
                "prefill": (found.prefill_ms or 0.0) / 1000,
                "decode": (found.decode_ms or 0.0) / 1000,
                "total": seconds,
            },
        }


def family_of_checkpoint(found: Checkpoint, model: Any) -> str:
    """How a checkpoint is spoken to: `prompt_family` of its config where it was trained here, else by its name.

    Raises:
        UIActionInputError: neither tells.
    """
    if (own := getattr(model.config, "prompt_family", None)) in FAMILIES:
        return own
    name = f"{found.source} {found.folder}".lower()
    for part, family in (("ui-tars-1.5", "ui-tars-1.5"), ("qwen2.5-vl", "qwen2.5-vl")):
        if part in name:
            return family
    raise UIActionInputError(
        f"{found.source[:200]!r} does not tell how the model is spoken to: give family, one of {', '.join(FAMILIES)}"
    )


def _checked(screens: Screens) -> tuple[Image.Image | Video, ...]:
    media: tuple[Image.Image | Video, ...]
    media = (screens,) if isinstance(screens, Image.Image | Video) else tuple(screens)
    if not 0 < len(media) <= MOST_SCREENS:
        raise UIActionInputError(f"{len(media)} screens are given: give 1 to {MOST_SCREENS}")
    frames = [frame for each in media for frame in (each.frames if isinstance(each, Video) else (each,))]
    for frame in frames:
        if not isinstance(frame, Image.Image):
            raise UIActionInputError(f"a screen is a {type(frame).__name__}: give PIL images, or a Video of them")
        if not SMALLEST_SIDE <= min(frame.size) <= max(frame.size) <= LARGEST_SIDE:
            raise UIActionInputError(
                f"a screen of {frame.width} x {frame.height} pixels: sides of {SMALLEST_SIDE} to {LARGEST_SIDE} are "
                "allowed; crop or shrink it"
            )
    return media
