"""Chat messages with screens and clips, as the tensors that Qwen2.5-VL takes; needs no torchvision."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from .errors import UIActionInputError
from .patches import FACTOR, MEAN, MERGE, PATCH, STD, TEMPORAL, Patches, image_patches, video_patches

MIN_PIXELS, MAX_PIXELS = 4 * FACTOR**2, 16384 * FACTOR**2
IMAGE, VIDEO = "<|image_pad|>", "<|video_pad|>"
MARKER = re.compile(r"<\|(?!box_(?:start|end)\|>)")  # of the model's own; those of boxes are a part of actions
Message = Mapping[str, Any]


@dataclass(frozen=True)
class Encoded:
    """A conversation as token ids, and its screens as patches; tensors come from `batch`.

    Attributes:
        ids: token ids, screens expanded to as many pads as the model sees tokens of them.
        media: the screens and clips, in order; `videos` says which are clips, `fps` how fast each of those is.
        answer: how many of the ids, at the end, are the answer to be learned; 0 if there is none.
        focus: places in the answer of the tokens that matter most.
    """

    ids: tuple[int, ...]
    media: tuple[Patches, ...]
    videos: tuple[bool, ...]
    fps: tuple[float, ...]
    answer: int = 0
    focus: tuple[int, ...] = ()

    @property
    def model_size(self) -> tuple[int, int]:
        """(width, height) of the last screen or clip as the model sees it: what absolute coordinates refer to."""
        return self.media[-1].size


class ScreenProcessor:
    """Tokenizer and patches under the limits that a checkpoint was trained with.

    Args:
        tokenizer: with Qwen's special tokens and a chat template.
        min_pixels, max_pixels: of an image, or of one frame of a clip.
    """

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, *, min_pixels: int = MIN_PIXELS, max_pixels: int = MAX_PIXELS
    ) -> None:
        self.tokenizer = tokenizer
        self.limits = {"min_pixels": min_pixels, "max_pixels": max_pixels}
        self.image_id, self.video_id = (tokenizer.convert_tokens_to_ids(token) for token in (IMAGE, VIDEO))

    @classmethod
    def from_pretrained(cls, folder: str | Path, **options: Any) -> ScreenProcessor:
        """From a checkpoint's tokenizer and its preprocessor_config.json.

        Raises:
            UIActionInputError: for a processor that cuts or normalises screens in another way than Qwen2.5-VL's.
        """
        tokenizer: Any = AutoTokenizer.from_pretrained(folder, **options)
        return cls(tokenizer, **_limits(Path(folder) / "preprocessor_config.json"))

    def save_pretrained(self, folder: str | os.PathLike[str]) -> None:
        """Tokenizer and settings, as transformers' own processor reads them."""
        self.tokenizer.save_pretrained(folder)
        settings = {
            "image_processor_type": "Qwen2VLImageProcessor",
            "processor_class": "Qwen2_5_VLProcessor",
            "patch_size": PATCH,
            "merge_size": MERGE,
            "temporal_patch_size": TEMPORAL,
            "image_mean": list(MEAN),
            "image_std": list(STD),
            "size": {"shortest_edge": self.limits["min_pixels"], "longest_edge": self.limits["max_pixels"]},
        }
        file = Path(folder) / "preprocessor_config.json"
        file.write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")

    def encode(
        self, messages: Sequence[Message], answer: str | None = None, focus: Sequence[tuple[int, int]] = ()
    ) -> Encoded:
        """A conversation, with the answer that is to be learned if there is one.

        Args:
            focus: spans of characters in the answer, those that matter most.
            messages: with `role`, and `content`: text, or parts {"type": "text", "text": ...},
                {"type": "image", "image": PIL image}, {"type": "video", "video": frames, "fps": frames per second}.
        """
        parts = [part for message in messages if not isinstance(message["content"], str) for part in message["content"]]
        screens = [part for part in parts if part["type"] in ("image", "video")]
        media = tuple(
            image_patches(part["image"], **self.limits)
            if part["type"] == "image"
            else video_patches(part["video"], **self.limits)
            for part in screens
        )
        safe = [_without_markers(message) for message in messages]
        text: Any = self.tokenizer.apply_chat_template(safe, tokenize=False, add_generation_prompt=True)
        asked = self._expand(self._ids(text), media)
        said, matter = [], ()
        if answer is not None:
            safe_answer = MARKER.sub("< |", answer)
            said = [*self._ids(safe_answer), self.tokenizer.eos_token_id]
            matter = self._places(safe_answer, focus) if focus else ()
        videos = tuple(part["type"] == "video" for part in screens)
        fps = tuple(float(part.get("fps", 1.0)) for part in screens if part["type"] == "video")
        return Encoded((*asked, *said), media, videos, fps, len(said), matter)

    def batch(self, encoded: Sequence[Encoded], *, left: bool = False) -> dict[str, torch.Tensor]:
        """What the model's forward takes, padded right, or left for generation; labels where there are answers.

        Returns:
            input_ids, attention_mask, mm_token_type_ids (0 text, 1 image, 2 video), labels [batch, tokens]; focus
            [batch, tokens], true for the tokens of answers that matter most, where there are such; pixel_values,
            image_grid_thw, pixel_values_videos, video_grid_thw, second_per_grid_ts where there are such.
        """
        longest = max(len(each.ids) for each in encoded)
        shape = (len(encoded), longest)
        ids = np.full(shape, self.tokenizer.pad_token_id, np.int64)
        mask, labels = np.zeros(shape, np.int64), np.full(shape, -100, np.int64)
        for row, each in enumerate(encoded):
            start = longest - len(each.ids) if left else 0
            end = start + len(each.ids)
            ids[row, start:end], mask[row, start:end] = each.ids, 1
            labels[row, end - each.answer : end] = ids[row, end - each.answer : end]
        tensors = {"input_ids": ids, "attention_mask": mask, "labels": labels}
        if any(each.focus for each in encoded):
            tensors["focus"] = np.zeros(shape, bool)
            for row, each in enumerate(encoded):
                end = longest if left else len(each.ids)
                tensors["focus"][row, [end - each.answer + place for place in each.focus]] = True
        kinds = (ids == self.image_id).astype(np.int64) + 2 * (ids == self.video_id)
        return {name: torch.from_numpy(value) for name, value in (tensors | {"mm_token_type_ids": kinds}).items()} | (
            _media_tensors(encoded)
        )

    def _ids(self, text: str) -> list[int]:
        return self.tokenizer(text, add_special_tokens=False)["input_ids"]

    def _places(self, text: str, spans: Sequence[tuple[int, int]]) -> tuple[int, ...]:
        """The tokens of a text that a span of its characters touches."""
        offsets = self.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
        return tuple(
            place
            for place, (start, end) in enumerate(offsets)
            if any(start < last and end > first for first, last in spans)
        )

    def _expand(self, ids: Sequence[int], media: Sequence[Patches]) -> list[int]:
        """Each pad as often as the model sees tokens of its screen."""
        pads = (self.image_id, self.video_id)
        places = sum(token in pads for token in ids)
        if places != len(media):
            raise UIActionInputError(
                f"the chat template made {places} places for {len(media)} screens: use a checkpoint whose template "
                "writes images and videos as Qwen2.5-VL's does"
            )
        screens = iter(media)
        return [token for each in ids for token in ([each] * next(screens).tokens if each in pads else [each])]


def _without_markers(message: Message) -> dict[str, Any]:
    """The message with the model's own markers broken up wherever a text holds some: they are not the text's to set."""
    content = message["content"]
    if isinstance(content, str):
        return {"role": message["role"], "content": MARKER.sub("< |", content)}
    parts = [part | {"text": MARKER.sub("< |", part["text"])} if part["type"] == "text" else part for part in content]
    return {"role": message["role"], "content": parts}


def _media_tensors(encoded: Sequence[Encoded]) -> dict[str, torch.Tensor]:
    tensors: dict[str, torch.Tensor] = {}
    for wanted, values, grids in (
        (False, "pixel_values", "image_grid_thw"),
        (True, "pixel_values_videos", "video_grid_thw"),
    ):
        found = [
            patches
            for each in encoded
            for patches, video in zip(each.media, each.videos, strict=True)
            if video is wanted
        ]
        if found:
            tensors[values] = torch.from_numpy(np.concatenate([patches.values for patches in found]))
            tensors[grids] = torch.tensor([patches.grid for patches in found])
    seconds = [TEMPORAL / fps for each in encoded for fps in each.fps]
    if seconds:
        tensors["second_per_grid_ts"] = torch.tensor(seconds)
    return tensors


def _limits(file: Path) -> dict[str, int]:
    """Least and most pixels from a checkpoint's settings, in the older or newer spelling."""
    if not file.exists():
        return {}
    settings = json.loads(file.read_text(encoding="utf-8"))
    ours: dict[str, Any] = {"patch_size": PATCH, "merge_size": MERGE, "temporal_patch_size": TEMPORAL}
    ours |= {"image_mean": list(MEAN), "image_std": list(STD)}
    for name, value in ours.items():
        if settings.get(name, value) != value:
            raise UIActionInputError(
                f"{file.name} has {name} {settings[name]}, and screens are cut with {value}: use a checkpoint of "
                "Qwen2.5-VL's kind, such as Qwen2.5-VL or UI-TARS-1.5"
            )
    size = settings.get("size") or {}
    least = settings.get("min_pixels") or size.get("shortest_edge") or size.get("min_pixels") or MIN_PIXELS
    most = settings.get("max_pixels") or size.get("longest_edge") or size.get("max_pixels") or MAX_PIXELS
    return {"min_pixels": int(least), "max_pixels": int(most)}
