"""What a report holds about a model: its layers, one decomposition each, and what the capture cost."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .estimation import Estimate


@dataclass(frozen=True)
class LayerReading:
    """One layer's decomposition.

    Attributes:
        layer: its name, such as "text.3".
        stream: the stream that it belongs to.
        depth: its place in that stream, from 0.
        kind: "stream" (this stream read at the layer, the target unchanged) or "target" (the sources unchanged, the
            target being the model's readout at the layer).
        quantities: `Estimate` by name, as of the report; bits.
        usable_information: what probes read of the target in stream 1 and 2 there, bits; None when made from counts.
        shape: symbols that occur, (n1, n2, ny).
        samples_per_cell: sample size over n1 n2 ny.
        target_entropy: H(Y), bits.
        gap: certified bound on the solver's error, bits.
        discretiser: SHA-256 of the fitted discretiser.
    """

    layer: str
    stream: str
    depth: int
    kind: str
    quantities: dict[str, Estimate]
    usable_information: tuple[float, float] | None
    shape: tuple[int, int, int]
    samples_per_cell: float
    target_entropy: float
    gap: float
    discretiser: str

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> LayerReading:
        fields = dict(values)
        fields["quantities"] = {name: Estimate(**each) for name, each in values["quantities"].items()}
        fields["shape"] = tuple(values["shape"])
        if values["usable_information"] is not None:
            first, second = values["usable_information"]
            fields["usable_information"] = (first, second)
        return cls(**fields)


@dataclass(frozen=True)
class DroppingTest:
    """The usual test on the model itself: accuracy when one modality comes from another example.

    Attributes:
        both: accuracy as it is.
        without_1, without_2: with the first (second) modality of each example taken from another one.
        reference: what counts as right: "label" or the model's own "decision".
    """

    both: float
    without_1: float
    without_2: float
    reference: str

    def drop(self, stream: int) -> float:
        """Accuracy lost without stream 1 or 2."""
        return self.both - (self.without_1 if stream == 1 else self.without_2)


@dataclass(frozen=True)
class ModelRecord:
    """Which model was read, and what reading it cost.

    Attributes:
        model: its name, without folders of this machine.
        family: "clip", "vilt", "blip", "llava", "qwen2_5_vl", "two_stream" or "generic".
        target: "decision" or "label".
        examples: read. skipped: (name, reason) of those that could not be.
        seconds_preparing, seconds_in_model, seconds_pooling: before the model, in it, and in the hooks.
        seconds_analysing: for quantising, counting and solving, all layers.
        dropping: the dropping test, where it was asked for.
    """

    model: str
    family: str
    target: str
    examples: int
    skipped: tuple[tuple[str, str], ...]
    seconds_preparing: float
    seconds_in_model: float
    seconds_pooling: float
    seconds_analysing: float
    dropping: DroppingTest | None = None

    @property
    def capture_overhead(self) -> float:
        """Seconds in the hooks over seconds of the forward passes without them."""
        return self.seconds_pooling / max(self.seconds_in_model, 1e-9)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> ModelRecord:
        fields = dict(values)
        fields["skipped"] = tuple((str(name), str(reason)) for name, reason in values["skipped"])
        if values["dropping"] is not None:
            fields["dropping"] = DroppingTest(**values["dropping"])
        return cls(**fields)
