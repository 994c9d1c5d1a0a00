"""What capture has to know of a model: where its two streams are, in what order, and how it decides."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Self

import torch
from torch import Tensor, nn

from .errors import AttributionInputError
from .files import some
from .hooks import Observer, Positions, Tap, find_module, nearest

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass(frozen=True)
class Row:
    """One example as a model takes it, before padding.

    Attributes:
        ids: token ids, image placeholders expanded where the model has such.
        pixels: what the image processor made of the image, by name, without a batch axis.
    """

    ids: tuple[int, ...]
    pixels: Mapping[str, Tensor]


@dataclass(frozen=True)
class Batch:
    """Arguments of a model's forward, and which positions are whose.

    Attributes:
        inputs: by argument name.
        positions: by the names that taps use. Masks of sequences are [B, T].
        rows: what it was made of.
    """

    inputs: Mapping[str, Any]
    positions: Mapping[str, Positions]
    rows: tuple[Any, ...] = ()

    def to(self, device: torch.device, dtype: torch.dtype) -> Self:
        """On a device, floating point inputs in a dtype; counts of positions stay where they are."""
        moved = {name: _moved(value, device, dtype) for name, value in self.inputs.items()}
        positions = {
            name: each if each.mask is None else Positions(mask=each.mask.to(device))
            for name, each in self.positions.items()
        }
        return type(self)(moved, positions, self.rows)


def _moved(value: Any, device: torch.device, dtype: torch.dtype) -> Any:
    if not isinstance(value, Tensor):
        return value
    return value.to(device, dtype) if value.is_floating_point() else value.to(device)


@dataclass(frozen=True, eq=False)
class Family(ABC):
    """A model with what is known of its family.

    Attributes:
        model: any module. title: of its class, for messages.
        needs: modules that every model of the family has.
    """

    model: nn.Module

    title: ClassVar[str] = "a model"
    needs: ClassVar[tuple[str, ...]] = ()

    @property
    def device(self) -> torch.device:
        """Where inputs belong; a model without parameters computes on the CPU."""
        return next((each.device for each in self.model.parameters()), torch.device("cpu"))

    @property
    def dtype(self) -> torch.dtype:
        """Of floating point inputs."""
        return next((each.dtype for each in self.model.parameters()), torch.float32)

    @property
    def image_input(self) -> str:
        """The argument of forward that holds the image."""
        return "pixel_values"

    @property
    @abstractmethod
    def classes(self) -> tuple[str, ...]:
        """What the model may decide."""

    @abstractmethod
    def sources(self) -> tuple[Tap, Tap]:
        """Image and text, each where the other has not touched it yet."""

    @abstractmethod
    def layers(self) -> tuple[Tap, ...]:
        """Every layer of each stream, in order of depth."""

    def observers(self) -> tuple[Observer, ...]:
        """Modules that say which positions count; most models need none."""
        return ()

    @abstractmethod
    def encode(self, image: Image, text: str) -> Any:
        """One example without padding.

        Raises:
            AttributionInputError: the model cannot take it, such as a text that is too long.
        """

    @abstractmethod
    def collate(self, rows: Sequence[Any]) -> Batch:
        """Encoded examples as one padded batch, on the CPU."""

    def forward(self, batch: Batch) -> Any:
        """One forward pass."""
        return self.model(**batch.inputs)

    @abstractmethod
    def scores(self, output: Any, batch: Batch) -> Tensor:
        """[B, K]: how much the model favours each class. It may run parts of the model again."""

    def readout_taps(self) -> tuple[Tap, ...]:
        """Where `readout` can be asked, keyed as the layers are; none where the family has no such thing."""
        return ()

    def readout(self, key: str, state: Tensor, output: Any, batch: Batch) -> Tensor:
        """[B, K] scores that the model's own head gives the state of a `readout_taps` layer, [B, d] (logit lens)."""
        raise AttributionInputError(f"{self.title} has no readout at {key}: its head cannot read one layer's state")

    def check(self) -> None:
        """Refuse a model that lacks a part of its family.

        Raises:
            AttributionInputError: it is another class than the one that decides.
        """
        for path in self.needs:
            try:
                self.model.get_submodule(path)
            except AttributeError as error:
                raise AttributionInputError(
                    f"{type(self.model).__name__} has no {path}: load {self.title}, which has one, or describe your "
                    "model with a DescribedFamily"
                ) from error


@dataclass(frozen=True, eq=False)
class DescribedFamily(Family):
    """Any model, described by whoever knows it.

    Attributes:
        labels: what it decides, in the order of its scores.
        image_source, text_source: where each stream is taken before fusion. layer_taps: in order of depth.
        collate_with: from (image, text) pairs to a batch.
        read: from the output of forward to scores [B, K].
        image_argument: of forward.
    """

    labels: tuple[str, ...]
    image_source: Tap
    text_source: Tap
    layer_taps: tuple[Tap, ...]
    collate_with: Callable[[Sequence[tuple[Image, str]]], Batch]
    read: Callable[[Any], Tensor]
    image_argument: str = "pixel_values"

    title: ClassVar[str] = "the described model"

    @property
    def image_input(self) -> str:
        """As described."""
        return self.image_argument

    @property
    def classes(self) -> tuple[str, ...]:
        """The labels."""
        return self.labels

    def sources(self) -> tuple[Tap, Tap]:
        """As described."""
        return self.image_source, self.text_source

    def layers(self) -> tuple[Tap, ...]:
        """As described."""
        return self.layer_taps

    def encode(self, image: Image, text: str) -> tuple[Image, str]:
        """Nothing is done before the batch."""
        return image, text

    def collate(self, rows: Sequence[tuple[Image, str]]) -> Batch:
        """As described."""
        return self.collate_with(rows)

    def scores(self, output: Any, batch: Batch) -> Tensor:
        """As described."""
        return self.read(output)


@dataclass(frozen=True, eq=False)
class ProcessedFamily(Family):
    """A family of transformers, with a processor.

    Attributes:
        processor: anything with an `image_processor` and a `tokenizer`, as transformers' processors are.
        options: what may be decided; None: whatever the model's own labels are.
    """

    processor: Any
    options: tuple[str, ...] | None = None

    @property
    def config(self) -> Any:
        """The model's configuration."""
        return self.model.config

    @property
    def most_tokens(self) -> int:
        """How long a text may be."""
        return self.processor.tokenizer.model_max_length

    def encode(self, image: Image, text: str) -> Row:
        """Tokens and pixels of one example."""
        ids = tuple(self.processor.tokenizer(plain(text, self.processor.tokenizer))["input_ids"])
        return Row(self._checked(ids), self.pixels(image))

    def _checked(self, ids: tuple[int, ...]) -> tuple[int, ...]:
        if len(ids) > self.most_tokens:
            raise AttributionInputError(
                f"the text is {len(ids)} tokens, {self.title} reads {self.most_tokens}: shorten it"
            )
        return ids

    def pixels(self, image: Image) -> dict[str, Tensor]:
        """What the image processor makes of one image."""
        try:
            found = self.processor.image_processor(images=[image.convert("RGB")], return_tensors="pt")
        except AttributionInputError:
            raise
        except (ValueError, ZeroDivisionError) as error:
            raise AttributionInputError(
                f"the image cannot be prepared ({' '.join(str(error).split())[:120]}): give it in usual proportions"
            ) from error
        return {name: value if name == "image_grid_thw" else value[0] for name, value in found.items()}

    def collate(self, rows: Sequence[Row]) -> Batch:
        """Texts padded right, images stacked."""
        ids, mask = pad_ids(rows, self.processor.tokenizer)
        pixels = torch.stack([row.pixels["pixel_values"] for row in rows])
        inputs = {"input_ids": ids, "attention_mask": mask, "pixel_values": pixels}
        return Batch(inputs, {"words": Positions(mask=mask.bool())}, tuple(rows))

    def stack(self, stem: str, depth: int) -> list[str]:
        """Dotted paths of the `depth` layers that some ModuleList under `stem` holds."""
        for path, module in find_module(self.model, stem).named_modules(prefix=stem):
            if isinstance(module, nn.ModuleList) and len(module) == depth:
                return [f"{path}.{i}" for i in range(depth)]
        raise AttributionInputError(
            f"{type(self.model).__name__} has no list of {depth} layers under {stem}: describe it with a "
            "DescribedFamily"
        )

    def options_needed(self, how: str) -> tuple[str, ...]:
        """The options, where the family cannot do without."""
        if not self.options or len(self.options) < 2:
            raise AttributionInputError(f"{self.title} {how}: give two or more as options=[...]")
        return self.options


def pad_ids(rows: Sequence[Row], tokenizer: Any, *, side: str = "right") -> tuple[Tensor, Tensor]:
    """Token ids and their mask, both [B, T], padded on a side."""
    longest = max(len(row.ids) for row in rows)
    filler = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else 0
    ids = torch.full((len(rows), longest), filler, dtype=torch.long)
    mask = torch.zeros((len(rows), longest), dtype=torch.long)
    for i, row in enumerate(rows):
        place = slice(longest - len(row.ids), longest) if side == "left" else slice(0, len(row.ids))
        ids[i, place], mask[i, place] = torch.tensor(row.ids), 1
    return ids, mask


def plain(text: str, tokenizer: Any) -> str:
    """The text with the tokenizer's own markers broken up: they are not the text's to set."""
    markers: list[str] = [str(each) for each in tokenizer.added_tokens_decoder.values() if each.special]
    for marker in sorted(markers, key=len, reverse=True):
        if len(marker) > 1 and marker in text:
            text = text.replace(marker, f"{marker[0]} {marker[1:]}")
    return text


def class_indices(options: Sequence[str] | None, labels: Mapping[int, str]) -> list[int]:
    """Which of a model's labels are allowed.

    Raises:
        AttributionInputError: an option is not one of them, or fewer than two are left.
    """
    numbers = {str(label): int(index) for index, label in labels.items()}
    if options is None:
        options = list(numbers)
    for option in options:
        if option not in numbers:
            raise AttributionInputError(f"the model has no answer {option[:40]!r}{nearest(option, list(numbers))}")
    if len(set(options)) < 2:
        raise AttributionInputError(f"two answers or more are needed, there is {some(list(options))}")
    return [numbers[option] for option in options]
