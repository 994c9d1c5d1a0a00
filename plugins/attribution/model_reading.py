"""Reading a model: capture its layers over a data set, and how it answers when a modality is exchanged."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from torch import nn

from .dropping import dropping_test
from .examples import Example, Skipped, read_examples
from .families import Family, family_of
from .fitting import Callback, scaled
from .model_attribution import Layers, ReadModel, fingerprint
from .model_capture import ModelCapture

STREAM_NAMES = ("image", "text")


def read_model(
    model: nn.Module,
    processor: Any,
    dataset: Any,
    *,
    name: str,
    family: Family | None,
    options: Sequence[str] | None,
    layers: Layers,
    readouts: bool,
    dropping: bool,
    batch_size: int,
    seed: int,
    tell: Callback,
) -> ReadModel:
    """Capture a model over a data set; arguments as of `PIDAttributionPipeline.read`."""
    known = family_of(model, processor, options) if family is None else family
    wanted = None if layers == "none" else layers
    at = _readable(known, wanted) if readouts else None
    capture = ModelCapture(model, processor, family=known, layers=wanted, readouts=at, batch_size=batch_size)
    share = 0.6 if dropping else 1.0
    captured = capture(_sized(dataset), callback=scaled(tell, 0.0, share))
    test = None
    if dropping:
        plain = ModelCapture(model, processor, family=known, layers=None, batch_size=batch_size)
        parts = iter(((0.6, 0.73), (0.73, 0.86), (0.86, 1.0)))

        def decide(examples: Sequence[Example]) -> np.ndarray:
            return plain(examples, callback=scaled(tell, *next(parts))).decision

        test = dropping_test(decide, read_examples(dataset), seed=seed)
    image, text = known.sources()
    return ReadModel(
        name=name,
        family=model_type(model),
        sources_fingerprint=fingerprint(model, (image.module, text.module)),
        model_fingerprint=fingerprint(model),
        captured=captured,
        dropping=test,
    )


def model_type(model: nn.Module) -> str:
    """Of transformers, or "described"."""
    return str(getattr(getattr(model, "config", None), "model_type", "described"))


def attention_of(model: nn.Module | None) -> dict[str, str]:
    """Which attention a model of transformers computes, for the run record."""
    backend = getattr(getattr(model, "config", None), "_attn_implementation", None) or "the model's own"
    return {"backend": str(backend), "reason": "what the model was loaded with"}


def _readable(family: Family, layers: Any) -> Any:
    """The chosen layers that have a readout."""
    keys = [tap.key for tap in family.readout_taps()]
    return keys if layers in ("all", None) else [key for key in keys if key in layers]


def _sized(dataset: Any) -> Iterable[Example | Skipped]:
    """Examples with a length where the data set has one, so that progress can be told."""
    examples = read_examples(dataset)
    return _Sized(examples, len(dataset)) if hasattr(dataset, "__len__") and not isinstance(dataset, str) else examples


class _Sized:
    """An iterable with a length."""

    def __init__(self, examples: Iterable[Example | Skipped], length: int) -> None:
        self.examples, self.length = examples, length

    def __iter__(self) -> Any:
        return iter(self.examples)

    def __len__(self) -> int:
        return self.length
