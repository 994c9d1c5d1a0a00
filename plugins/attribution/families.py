"""Which families of vision-language models are known, by the model_type of their configuration."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

from torch import nn

from .errors import AttributionInputError
from .families_causal import LlavaFamily, QwenFamily
from .families_encoders import BlipFamily, CLIPFamily, TwoStreamFamily, ViltFamily
from .family import Batch, DescribedFamily, Family, ProcessedFamily, Row
from .files import some

__all__ = [
    "FAMILIES",
    "Batch",
    "BlipFamily",
    "CLIPFamily",
    "DescribedFamily",
    "Family",
    "LlavaFamily",
    "ProcessedFamily",
    "QwenFamily",
    "Row",
    "TwoStreamFamily",
    "ViltFamily",
    "check_options",
    "family_of",
]

FAMILIES: dict[str, type[ProcessedFamily]] = {
    "clip": CLIPFamily,
    "vilt": ViltFamily,
    "blip": BlipFamily,
    "llava": LlavaFamily,
    "qwen2_5_vl": QwenFamily,
    "two_stream": TwoStreamFamily,
}

_IMAGE_ARGUMENTS = ("pixel_values",)
_TEXT_ARGUMENTS = ("input_ids",)


def family_of(model: nn.Module, processor: Any, options: Sequence[str] | None = None) -> Family:
    """A model with what is known of its family.

    Args:
        processor: with an `image_processor` and a `tokenizer`.
        options: what may be decided; every family but ViLT and our own needs them.

    Raises:
        AttributionInputError: the model takes no image or no text, is of no family that is known, or lacks a part.
    """
    _check_two_streams(model)
    kind = getattr(getattr(model, "config", None), "model_type", None)
    found = FAMILIES.get(str(kind))
    if found is None:
        raise AttributionInputError(
            f"{type(model).__name__} is of type {str(kind)[:40]!r}, known are {some(list(FAMILIES))}: describe other "
            "models with a DescribedFamily, by dotted paths"
        )
    for part in ("image_processor", "tokenizer"):
        if getattr(processor, part, None) is None:
            raise AttributionInputError(
                f"the processor is a {type(processor).__name__} without {part}: give the one of the same checkpoint, "
                "or what load_for_capture returns"
            )
    family = found(model, processor, check_options(options))
    family.check()
    if not family.classes:
        raise AttributionInputError("the model has no labels: give what it may decide as options=[...]")
    return family


def check_options(options: Sequence[str] | None) -> tuple[str, ...] | None:
    """Options as a tuple.

    Raises:
        AttributionInputError: not two different texts or more.
    """
    if options is None:
        return None
    if isinstance(options, str) or not all(isinstance(each, str) and each.strip() for each in options):
        raise AttributionInputError("options are a list of texts, none of them empty, such as ['yes', 'no']")
    if len(set(options)) != len(options) or len(options) < 2:
        raise AttributionInputError(f"options are {some(list(options))}: give two or more, each once")
    return tuple(options)


def _check_two_streams(model: nn.Module) -> None:
    """Refuse, by the arguments of its forward, a model with one stream."""
    taken = inspect.signature(model.forward).parameters
    image = any(name in taken for name in _IMAGE_ARGUMENTS)
    text = any(name in taken for name in _TEXT_ARGUMENTS)
    if image and text:
        return
    missing = {(True, False): "no text (input_ids)", (False, True): "no image (pixel_values)"}
    raise AttributionInputError(
        f"{type(model).__name__} takes {missing.get((image, text), 'neither pixel_values nor input_ids')}: two streams "
        "are needed, give a model that takes an image and a text and decides something"
    )
