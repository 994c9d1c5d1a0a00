"""AttributionReport: the result of one attribution, as a value that can be read, kept and sent."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .errors import AttributionInputError
from .estimation import ATOMS, Estimate
from .layers import LayerReading, ModelRecord
from .verdicts import AccuracyTest, Verdict

if TYPE_CHECKING:
    import pandas as pd

SCHEMA_VERSION = 2


@dataclass(frozen=True)
class StreamReading:
    """What a stream's probe reads, against what is left after quantising, bits.

    Attributes:
        quantiser: what made the codes.
        symbols: how many codes.
        usable_information: read by a cross-fitted probe, without binning (V-information).
        standard_error: of it.
        binned_information: I(X_i; Y) of the codes, bias-corrected.
        retained: binned over usable; None where the probe reads under 0.02 bits. Above 1 where the codes keep what
            the probe cannot read.
        accuracy: of the probe, cross-fitted.
    """

    quantiser: str
    symbols: int
    usable_information: float
    standard_error: float
    binned_information: float
    retained: float | None
    accuracy: float


@dataclass(frozen=True)
class AttributionReport:
    """Partial information decomposition of two streams about a target, with errors and what follows.

    Attributes:
        names: of the two streams.
        classes: of the target.
        quantities: `Estimate` by name: redundancy, unique_1, unique_2, synergy, total, information_1, information_2,
            lost_without_1, lost_without_2; bits.
        verdicts: of the two streams.
        accuracy: the usual drop-the-modality test, for comparison.
        readings: what probes read and quantising kept, by stream; empty when the report starts from counts.
        joint_information: read by the joint probe without binning, bits; None when the report starts from counts.
        examples: how many were given.
        sample_size: effective, (sum w)^2 / sum w^2.
        samples_per_cell: sample_size over n1 n2 ny.
        shape: symbols that occur, (n1, n2, ny).
        target_entropy: H(Y), bits.
        gap: certified bound on the solver's error, bits.
        confidence: of the intervals. threshold: of the verdicts, bits.
        discretiser: SHA-256 of the fitted discretiser.
        warnings: sentences for the reader.
        layers: one decomposition for each layer of a model, in order of depth; empty for arrays.
        model: which model was read and at what cost; None for arrays.
        pointwise: contribution of each example to each atom, bits, [examples] each; None when not computed. Kept out
            of the JSON.
        run: parameters, seed, device, attention and timings of the call.
    """

    names: tuple[str, str]
    classes: tuple[str, ...]
    quantities: dict[str, Estimate]
    verdicts: tuple[Verdict, Verdict]
    accuracy: AccuracyTest
    readings: tuple[StreamReading, ...]
    joint_information: float | None
    examples: int
    sample_size: float
    samples_per_cell: float
    shape: tuple[int, int, int]
    target_entropy: float
    gap: float
    confidence: float
    threshold: float
    discretiser: str
    warnings: tuple[str, ...]
    layers: tuple[LayerReading, ...] = ()
    model: ModelRecord | None = None
    pointwise: dict[str, np.ndarray] | None = field(default=None, compare=False)
    run: dict[str, Any] = field(default_factory=dict, compare=False)

    @property
    def atoms(self) -> dict[str, Estimate]:
        """The four atoms."""
        return {name: self.quantities[name] for name in ATOMS}

    def label(self, quantity: str) -> str:
        """A quantity's name with the streams' own names: "unique_1" is "Only thermal"."""
        first, second = self.names
        return {
            "redundancy": "Either one (redundant)",
            "unique_1": f"Only {first} (unique)",
            "unique_2": f"Only {second} (unique)",
            "synergy": "Only together (synergy)",
            "total": "Both streams",
            "information_1": f"{first} alone",
            "information_2": f"{second} alone",
            "lost_without_1": f"Lost without {first}",
            "lost_without_2": f"Lost without {second}",
        }[quantity]

    def to_dict(self) -> dict[str, Any]:
        """Plain values; NaN (withheld) becomes None."""
        values = {k: v for k, v in asdict(self).items() if k != "pointwise"}
        return _without_nan({"schema_version": SCHEMA_VERSION, **values})

    def to_json(self) -> str:
        return json.dumps(self.to_dict(), indent=2, allow_nan=False)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> AttributionReport:
        """The report that `to_dict` gave, without its pointwise scores."""
        version = values.get("schema_version") if isinstance(values, dict) else None
        if version != SCHEMA_VERSION:
            raise AttributionInputError(
                f"this report has schema version {version}, this program reads {SCHEMA_VERSION}: run it again"
            )
        try:
            fields = {k: v for k, v in values.items() if k != "schema_version"}
            fields["quantities"] = {k: _estimate(v) for k, v in values["quantities"].items()}
            fields["verdicts"] = tuple(_verdict(v) for v in values["verdicts"])
            fields["accuracy"] = AccuracyTest(**values["accuracy"])
            fields["readings"] = tuple(StreamReading(**v) for v in values["readings"])
            for name in ("names", "classes", "shape", "warnings"):
                fields[name] = tuple(values[name])
            fields["layers"] = tuple(_layer(v) for v in values["layers"])
            fields["model"] = None if values["model"] is None else ModelRecord.from_dict(values["model"])
            return cls(**fields)
        except (KeyError, TypeError, AttributeError) as error:
            raise AttributionInputError(f"this is not an attribution report ({error})") from error

    @classmethod
    def load(cls, path: str | Path) -> AttributionReport:
        """Read a report that was written as JSON."""
        try:
            return cls.from_dict(json.loads(Path(path).read_text("utf-8")))
        except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
            raise AttributionInputError(f"{Path(path).name} is not an attribution report ({error})") from error

    def to_frame(self) -> pd.DataFrame:
        """One row per quantity, of the decision and then of each layer: bits, error, interval, null, share of H(Y)."""
        import pandas as pd

        rows = self._rows(self.quantities, self.target_entropy)
        for each in self.layers:
            place = {"kind": each.kind, "layer": each.layer, "stream": each.stream, "depth": each.depth}
            rows += [row | place for row in self._rows(each.quantities, each.target_entropy)]
        return pd.DataFrame(rows)

    def _rows(self, quantities: dict[str, Estimate], entropy: float) -> list[dict[str, Any]]:
        return [
            {
                "quantity": self.label(name),
                "bits": e.value,
                "standard_error": e.standard_error,
                "low": e.low,
                "high": e.high,
                "share_of_target": e.value / entropy,
                "shuffled_mean": e.null_mean,
                "shuffled_95": e.null_high,
                "p_value": e.p_value,
                "reliable": e.reliable,
                "kind": "decision",
                "layer": "",
                "stream": "",
                "depth": -1,
            }
            for name, e in quantities.items()
        ]

    def to_markdown(self) -> str:
        """A summary for a pull request or a terminal."""
        lines = [
            f"**{' and '.join(self.names)}** about {len(self.classes)} classes, {self.examples:,} examples",
            "",
        ]
        lines += [f"- **{v.name}: {v.decision}**: {v.reason}" + _need(v) + _per_dollar(v) for v in self.verdicts]
        percent = round(100 * self.confidence)
        lines += ["", f"| quantity | bits | {percent} % interval | p (shuffled) |", "|---|---|---|---|"]
        for name, e in self.quantities.items():
            flag = "" if e.reliable else " (unreliable)"
            shown = "withheld" if math.isnan(e.value) else f"{e.value:.3f}"
            interval = "" if math.isnan(e.value) else f"{e.low:.3f} to {e.high:.3f}"
            lines.append(f"| {self.label(name)}{flag} | {shown} | {interval} | {e.p_value:.2f} |")
        lines += ["", self.caption(), *(f"- {warning}" for warning in self.warnings)]
        return "\n".join(lines + self._markdown_of_the_model())

    def _markdown_of_the_model(self) -> list[str]:
        """The layers' atoms and the cost of reading them, as lines; none for arrays."""
        if self.model is None:
            return []
        titles = {
            "stream": "Stream by depth: one stream read at the layer, the target unchanged",
            "target": "Target by depth: what the model would decide at the layer, the sources unchanged",
        }
        lines = []
        for kind, title in titles.items():
            found = [each for each in self.layers if each.kind == kind]
            if found:
                heads = " | ".join(self.label(atom) for atom in ATOMS)
                lines += ["", f"**{title}**, bits", "", f"| layer | {heads} | both |", "|---|" + "---:|" * 5]
                lines += [f"| {each.layer} | {_atoms_and_total(each)} |" for each in found]
        m = self.model
        lines += [
            "",
            f"{m.model} ({m.family}): {m.examples:,} examples, {len(m.skipped):,} skipped; forward passes "
            f"{m.seconds_in_model:.2f} s, reading the layers {100 * m.capture_overhead:.1f} % on top, statistics "
            f"{m.seconds_analysing:.2f} s",
        ]
        return lines

    def caption(self) -> str:
        """What every figure of this report needs beside it."""
        n1, n2, ny = self.shape
        return (
            f"n = {self.sample_size:,.0f}, {n1} x {n2} x {ny} cells, {self.samples_per_cell:.1f} samples per cell, "
            f"H(Y) = {self.target_entropy:.3f} bits, solver gap {self.gap:.0e} bits"
        )


def _atoms_and_total(layer: LayerReading) -> str:
    """Four atoms and their sum with half the interval, as cells."""
    cells = []
    for name in (*ATOMS, "total"):
        e = layer.quantities[name]
        cells.append("withheld" if math.isnan(e.value) else f"{e.value:.3f} ± {(e.high - e.low) / 2:.3f}")
    return " | ".join(cells)


def _need(verdict: Verdict) -> str:
    return "" if verdict.samples_needed is None else f" (needs n >= {verdict.samples_needed:,})"


def _per_dollar(verdict: Verdict) -> str:
    if verdict.bits_per_dollar is None or math.isnan(verdict.bits_per_dollar[0]):
        return ""
    value, low, high = verdict.bits_per_dollar
    return f"; {value:.4f} bits per dollar a month [{low:.4f}, {high:.4f}]"


def _estimate(values: dict[str, Any]) -> Estimate:
    return Estimate(**_with_nan(values))


def _layer(values: dict[str, Any]) -> LayerReading:
    return LayerReading.from_dict({**values, "quantities": _with_nan(values["quantities"])})


def _verdict(values: dict[str, Any]) -> Verdict:
    fields = dict(values)
    for name in ("lost_if_removed", "worth_alone"):
        fields[name] = _estimate(values[name])
    fields["shapley_share"] = _with_nan(values["shapley_share"])
    if values["bits_per_dollar"] is not None:
        fields["bits_per_dollar"] = tuple(_with_nan(list(values["bits_per_dollar"])))
    return Verdict(**fields)


def _with_nan(value: Any) -> Any:
    """None back to the NaN that JSON cannot hold."""
    if isinstance(value, dict):
        return {key: _with_nan(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_with_nan(item) for item in value]
    return math.nan if value is None else value


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
