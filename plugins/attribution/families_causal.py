"""LLaVA and Qwen2.5-VL: image and text in one sequence of a causal language model, which chooses among options."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor
from torch.nn.functional import linear

from .errors import AttributionInputError
from .family import Batch, ProcessedFamily, Row, pad_ids, plain
from .hooks import Positions, Tap

MOST_TOKENS = 8192  # of a prompt with its image, where neither model nor tokenizer sets a lower limit


@dataclass(frozen=True, eq=False)
class CausalFamily(ProcessedFamily):
    """A merged sequence. Streams are positions: image positions come first and cannot see the question, text positions
    behind the image have seen it from the first layer on.

    The decision is the option whose token has the largest logit behind the prompt. If an option has several tokens,
    all options are compared by the sum of their tokens' log-probabilities, in one more pass for each such option.

    Attributes:
        padding: side of the padding; left as for generation.
    """

    padding: Literal["left", "right"] = "left"

    language: ClassVar[str] = "model.language_model"

    @property
    def classes(self) -> tuple[str, ...]:
        """The options."""
        return self.options_needed("says which of some options comes behind the prompt")

    @property
    def most_tokens(self) -> int:
        """The least of what model, tokenizer and this module allow."""
        limit = getattr(self.config.text_config, "max_position_embeddings", MOST_TOKENS)
        return min(limit, self.processor.tokenizer.model_max_length, MOST_TOKENS)

    @property
    @abstractmethod
    def image_id(self) -> int:
        """The token that holds the place of image features."""

    @property
    @abstractmethod
    def image_marker(self) -> str:
        """The same as text."""

    @abstractmethod
    def image_tokens(self, row: dict[str, Tensor]) -> int:
        """How many features the model makes of an image."""

    @abstractmethod
    def prompt(self, text: str) -> str:
        """The text in the model's words, without a chat template."""

    @cached_property
    def option_ids(self) -> tuple[tuple[int, ...], ...]:
        """Tokens of each option."""
        tokenizer = self.processor.tokenizer
        ids = tuple(tuple(tokenizer(each, add_special_tokens=False)["input_ids"]) for each in self.classes)
        check_distinct(self.classes, ids)
        return ids

    @property
    def single(self) -> bool:
        """Whether every option is one token."""
        return all(len(ids) == 1 for ids in self.option_ids)

    def layers(self) -> tuple[Tap, ...]:
        """The vision encoder as "vision", then each decoder layer at image and at text positions, before its norm."""
        paths = self.stack(self.language, self.config.text_config.num_hidden_layers)
        images = tuple(Tap(f"image.{i}", path, "image", "image") for i, path in enumerate(paths))
        texts = tuple(Tap(f"text.{i}", path, "text", "text") for i, path in enumerate(paths))
        return self.vision_layers() + images + texts

    @abstractmethod
    def vision_layers(self) -> tuple[Tap, ...]:
        """Layers of the vision encoder."""

    def encode(self, image: Any, text: str) -> Row:
        """The prompt with one image placeholder, expanded to as many as the model makes features."""
        pixels = self.pixels(image)
        ids = self.processor.tokenizer(self._templated(text), add_special_tokens=self._adds_start)["input_ids"]
        if ids.count(self.image_id) != 1:
            raise AttributionInputError(
                f"the chat template writes {ids.count(self.image_id)} places for one image: use a processor whose "
                f"template writes {self.image_marker} once for each image"
            )
        places = self.image_tokens(pixels)
        expanded = [token for each in ids for token in [each] * (places if each == self.image_id else 1)]
        return Row(self._checked(tuple(expanded)), pixels)

    @property
    def _template(self) -> str | None:
        return getattr(self.processor, "chat_template", None) or self.processor.tokenizer.chat_template

    @property
    def _adds_start(self) -> bool:
        return not self._template  # a template writes the start of the sequence itself

    def _templated(self, text: str) -> str:
        safe = plain(text, self.processor.tokenizer)
        if not self._template:
            return self.prompt(safe)
        said = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": safe}]}]
        return self.processor.tokenizer.apply_chat_template(
            said, chat_template=self._template, tokenize=False, add_generation_prompt=True
        )

    def collate(self, rows: Sequence[Row]) -> Batch:
        """Padded on the family's side; whose position is whose follows from the tokens."""
        return self._padded(rows, self.padding)

    def _padded(self, rows: Sequence[Row], side: str) -> Batch:
        ids, mask = pad_ids(rows, self.processor.tokenizer, side=side)
        valid = mask.bool()
        image = (ids == self.image_id) & valid
        positions = {
            "prompt": Positions(mask=valid),
            "image": Positions(mask=image),
            "text": Positions(mask=valid & ~image),
        }
        return Batch({"input_ids": ids, "attention_mask": mask}, positions, tuple(rows))

    def forward(self, batch: Batch) -> Any:
        """Logits at the last position of each prompt only: all of them would not fit."""
        return self.model(**batch.inputs, logits_to_keep=_last(batch).unique(), use_cache=False)

    def scores(self, output: Any, batch: Batch) -> Tensor:
        """Logits of the options, or sums of log-probabilities where one has several tokens."""
        last = _last(batch)
        kept = torch.searchsorted(last.unique(), last)
        logits = output.logits[torch.arange(len(last), device=last.device), kept].float()
        if self.single:
            return logits[:, [ids[0] for ids in self.option_ids]]
        first = logits.log_softmax(-1)
        found = [first[:, ids[0]] + self._rest(batch, ids) for ids in self.option_ids]
        return torch.stack(found, dim=1)

    def _rest(self, batch: Batch, option: tuple[int, ...]) -> Tensor | float:
        """Log-probability of an option's tokens behind its first, [B]."""
        if len(option) == 1:
            return 0.0
        rows = [Row((*row.ids, *option[:-1]), row.pixels) for row in batch.rows]
        model: Any = self.model
        longer = self._padded(rows, "left").to(self.device, self.dtype)
        logits = model(**longer.inputs, logits_to_keep=len(option) - 1, use_cache=False).logits
        wanted = torch.tensor(option[1:], device=logits.device).expand(len(rows), -1)
        return logits.float().log_softmax(-1).gather(-1, wanted[..., None])[..., 0].sum(-1)

    def readout_taps(self) -> tuple[Tap, ...]:
        """The last position of the prompt at each decoder layer."""
        if not self.single:
            longest = max(self.classes, key=lambda each: len(self.option_ids[self.classes.index(each)]))
            raise AttributionInputError(
                f"option {longest[:40]!r} is several tokens, and one layer's state says the next token only: give "
                "options of one token, such as letters, or ask for no readouts"
            )
        paths = self.stack(self.language, self.config.text_config.num_hidden_layers)
        return tuple(Tap(f"text.{i}", path, "text", "prompt", "last") for i, path in enumerate(paths))

    def readout(self, key: str, state: Tensor, output: Any, batch: Batch) -> Tensor:
        """The final norm and the options' rows of the head on an earlier state."""
        model: Any = self.model
        normed = self.model.get_submodule(f"{self.language}.norm")(state)
        return linear(normed, model.lm_head.weight[[ids[0] for ids in self.option_ids]])


def _last(batch: Batch) -> Tensor:
    """Index of each prompt's last position, [B]."""
    mask = batch.inputs["attention_mask"]
    return (mask.cumsum(1) * mask).argmax(1)


@dataclass(frozen=True, eq=False)
class LlavaFamily(CausalFamily):
    """LLaVA: CLIP's patches, projected, in the places of the image token."""

    title: ClassVar[str] = "LlavaForConditionalGeneration"
    needs: ClassVar[tuple[str, ...]] = ("model.multi_modal_projector", "model.vision_tower", "lm_head")

    @property
    def image_id(self) -> int:
        """From the configuration."""
        return self.config.image_token_id

    @property
    def image_marker(self) -> str:
        """Usually <image>."""
        return self.processor.tokenizer.convert_ids_to_tokens(self.image_id)

    def prompt(self, text: str) -> str:
        """As LLaVA 1.5 was trained."""
        return f"USER: {self.image_marker}\n{text} ASSISTANT:"

    def image_tokens(self, row: dict[str, Tensor]) -> int:
        """Patches, and the class token where the vision tower has one and the configuration keeps it."""
        height, width = row["pixel_values"].shape[-2:]
        patch = self.config.vision_config.patch_size
        tower = self.model.get_submodule("model.vision_tower")
        classes = any(name.endswith("class_embedding") for name, _ in tower.named_parameters())
        dropped = self.config.vision_feature_select_strategy == "default"
        return (height // patch) * (width // patch) + int(classes) - int(dropped)

    def sources(self) -> tuple[Tap, Tap]:
        """Projected image features; rows of the embedding table at text positions."""
        return (
            Tap("image", "model.multi_modal_projector", "image", "projected"),
            Tap("text", f"{self.language}.embed_tokens", "text", "text"),
        )

    def vision_layers(self) -> tuple[Tap, ...]:
        """All positions of the vision tower."""
        paths = self.stack("model.vision_tower", self.config.vision_config.num_hidden_layers)
        return tuple(Tap(f"vision.{i}", path, "image") for i, path in enumerate(paths))

    def _padded(self, rows: Sequence[Row], side: str) -> Batch:
        batch = super()._padded(rows, side)
        mask = batch.inputs["attention_mask"]
        inputs = {
            "pixel_values": torch.stack([row.pixels["pixel_values"] for row in rows]),
            "position_ids": (mask.cumsum(1) - 1).clamp(min=0),  # so that padding on the left moves nothing
        }
        # Projected features may come as [images, positions, d] or flattened: counted, both are told apart.
        counts = torch.tensor([row.ids.count(self.image_id) for row in rows])
        positions = {**batch.positions, "projected": Positions(counts=counts)}
        return Batch({**batch.inputs, **inputs}, positions, batch.rows)


@dataclass(frozen=True, eq=False)
class QwenFamily(CausalFamily):
    """Qwen2.5-VL: patches of all images packed in one sequence, merged in fours, in the places of the image token."""

    title: ClassVar[str] = "Qwen2_5_VLForConditionalGeneration"
    needs: ClassVar[tuple[str, ...]] = ("model.visual.merger", "lm_head")

    @property
    def image_id(self) -> int:
        """From the configuration."""
        return self.config.image_token_id

    @property
    def image_marker(self) -> str:
        """With the marks around it."""
        return "<|vision_start|><|image_pad|><|vision_end|>"

    def prompt(self, text: str) -> str:
        """One turn of a user."""
        return f"<|im_start|>user\n{self.image_marker}{text}<|im_end|>\n<|im_start|>assistant\n"

    def image_tokens(self, row: dict[str, Tensor]) -> int:
        """Time x height x width / merge^2."""
        return int(row["image_grid_thw"].prod()) // self.config.vision_config.spatial_merge_size**2

    def pixels(self, image: Any) -> dict[str, Tensor]:
        """All patches of one image, [patches, values], and its grid [1, 3]."""
        try:
            found = self.processor.image_processor(images=[image.convert("RGB")], return_tensors="pt")
        except ValueError as error:
            raise AttributionInputError(
                f"the image cannot be cut into patches ({' '.join(str(error).split())[:120]}): crop it"
            ) from error
        return {"pixel_values": found["pixel_values"], "image_grid_thw": found["image_grid_thw"]}

    def sources(self) -> tuple[Tap, Tap]:
        """Merged patches; rows of the embedding table at text positions."""
        return (
            Tap("image", "model.visual.merger", "image", "merged"),
            Tap("text", f"{self.language}.embed_tokens", "text", "text"),
        )

    def vision_layers(self) -> tuple[Tap, ...]:
        """Packed patches; windows reorder them inside an image only."""
        paths = self.stack("model.visual", self.config.vision_config.depth)
        return tuple(Tap(f"vision.{i}", path, "image", "patches") for i, path in enumerate(paths))

    def _padded(self, rows: Sequence[Row], side: str) -> Batch:
        batch = super()._padded(rows, side)
        grids = torch.cat([row.pixels["image_grid_thw"] for row in rows])
        inputs = {
            "pixel_values": torch.cat([row.pixels["pixel_values"] for row in rows]),
            "image_grid_thw": grids,
            "mm_token_type_ids": (batch.inputs["input_ids"] == self.image_id).int(),
        }
        patches = grids.prod(1)
        merged = patches // self.config.vision_config.spatial_merge_size**2
        positions = {"patches": Positions(counts=patches), "merged": Positions(counts=merged)}
        return Batch({**batch.inputs, **inputs}, {**batch.positions, **positions}, batch.rows)


def check_distinct(options: Sequence[str], ids: Sequence[tuple[int, ...]]) -> None:
    """Refuse options that are one and the same to a model."""
    seen: dict[tuple[int, ...], str] = {}
    for option, found in zip(options, ids, strict=True):
        if not found:
            raise AttributionInputError(f"option {option[:40]!r} has no tokens: give a text")
        if found in seen:
            raise AttributionInputError(
                f"options {seen[found][:40]!r} and {option[:40]!r} are the same tokens: give options that differ"
            )
        seen[found] = option
