"""Pinned discretisers: how a model was read, kept so that later data is counted in the same way.

A folder holds `pinned.json` and one safetensors file for each question. Codes mean something only under the discretiser
that made them, and a discretiser only under the encoders whose features it was fitted on: their fingerprints are kept
too, and another model's features are refused.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import save_file

from .counts import JointCounts, read_safetensors
from .discretiser import Discretiser
from .errors import AttributionInputError
from .questions import DECISION, Question

if TYPE_CHECKING:
    from .inputs import Streams
    from .model_attribution import ReadModel

FORMAT_VERSION = "1"
PINNED_FILE = "pinned.json"
TABLES_FILE = "tables.safetensors"


@dataclass(frozen=True)
class PinnedDiscretisers:
    """One discretiser for each question about a model.

    Attributes:
        model: the model's name. family: its family.
        target: "decision" or "label".
        sources_fingerprint: of the parameters that make the two modality-pure sources.
        model_fingerprint: of all parameters; layers are refused under another one.
        questions: in the order in which they were asked, the decision first.
        discretisers: by question name.
    """

    model: str
    family: str
    target: str
    sources_fingerprint: str
    model_fingerprint: str
    questions: tuple[Question, ...]
    discretisers: Mapping[str, Discretiser]

    @classmethod
    def empty(cls, read: ReadModel, target: str) -> PinnedDiscretisers:
        """Of a model that has been read, before anything is fitted."""
        return cls(read.name, read.family, target, read.sources_fingerprint, read.model_fingerprint, (), {})

    def adding(self, question: Question, discretiser: Discretiser) -> PinnedDiscretisers:
        """With one more question."""
        known = {**self.discretisers, question.name: discretiser}
        return replace(self, questions=(*self.questions, question), discretisers=known)

    @property
    def names(self) -> tuple[str, str]:
        """Of the two streams."""
        return self.discretisers[DECISION].names

    @property
    def has_readouts(self) -> bool:
        """Whether a question is about what the model would decide at a layer."""
        return any(question.kind == "target" for question in self.questions)

    def check_model(self, sources_fingerprint: str, model_fingerprint: str, wanted: Iterable[str]) -> None:
        """Refuse to read another model's features; `wanted` are the questions that will be counted."""
        if sources_fingerprint != self.sources_fingerprint:
            raise AttributionInputError(
                f"these discretisers were fitted on {self.model}, whose encoders are not this model's: the same code "
                "would mean something else; fit new ones by leaving out the pinned folder"
            )
        layers = [name for name in wanted if name != DECISION]
        if layers and model_fingerprint != self.model_fingerprint:
            raise AttributionInputError(
                f"the layers' discretisers were fitted on other weights of {self.model}: count the decision only "
                '(layers "none"), or fit new ones by leaving out the pinned folder'
            )

    def count(self, streams: Mapping[str, Streams]) -> LayerTables:
        """Joint counts of new examples, by question."""
        return LayerTables({name: self.of(name).count(each) for name, each in streams.items()})

    def of(self, question: str) -> Discretiser:
        if question not in self.discretisers:
            raise AttributionInputError(
                f"nothing was fitted for {question!r}: choose from {', '.join(self.discretisers)}"
            )
        return self.discretisers[question]

    def save(self, folder: str | Path) -> None:
        """Write into a folder, which is made if it is not there."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        for place, question in enumerate(self.questions):
            self.discretisers[question.name].save(folder / _file_name(place))
        record = {
            "format": FORMAT_VERSION,
            "model": self.model,
            "family": self.family,
            "target": self.target,
            "sources_fingerprint": self.sources_fingerprint,
            "model_fingerprint": self.model_fingerprint,
            "questions": [
                {"name": q.name, "kind": q.kind, "layer": q.layer, "stream": q.stream, "depth": q.depth}
                for q in self.questions
            ],
        }
        partial = folder / f"{PINNED_FILE}.partial"
        partial.write_text(json.dumps(record, indent=2) + "\n", "utf-8")
        partial.replace(folder / PINNED_FILE)

    @classmethod
    def load(cls, folder: str | Path) -> PinnedDiscretisers:
        """Read what `save` wrote; damaged or foreign folders are refused."""
        folder = Path(folder)
        try:
            record: dict[str, Any] = json.loads((folder / PINNED_FILE).read_text("utf-8"))
            if record["format"] != FORMAT_VERSION:
                raise KeyError("format")
            questions = tuple(Question(**each) for each in record["questions"])
            if not questions or questions[0].name != DECISION:
                raise KeyError("decision")
            found = {q.name: Discretiser.load(folder / _file_name(i)) for i, q in enumerate(questions)}
            texts = ("model", "family", "target", "sources_fingerprint", "model_fingerprint")
            return cls(*(str(record[name]) for name in texts), questions=questions, discretisers=found)
        except (OSError, KeyError, TypeError, ValueError) as error:
            if isinstance(error, AttributionInputError):
                raise
            raise AttributionInputError(f"{folder.name} holds no pinned discretisers ({error})") from error


@dataclass(frozen=True)
class LayerTables:
    """Joint counts by question; a commutative monoid under `merge`. `counts`: by question name."""

    counts: Mapping[str, JointCounts]

    def merge(self, other: LayerTables) -> LayerTables:
        """The counts of both; exact, in any order and grouping."""
        if set(self.counts) != set(other.counts):
            missing = sorted(set(self.counts) ^ set(other.counts))
            raise AttributionInputError(
                f"one of the tables lacks {', '.join(missing[:3])}: count both with the same layers"
            )
        return LayerTables({name: each.merge(other.counts[name]) for name, each in self.counts.items()})

    def save(self, path: str | Path) -> None:
        """Write as one safetensors file, whole or not at all."""
        path = Path(path)
        arrays, identities = {}, {}
        for name, each in self.counts.items():
            arrays[f"{name}/table"] = each.table
            arrays[f"{name}/sum_of_squared_weights"] = np.array([each.sum_of_squared_weights])
            identities[name] = each.discretiser
        partial = path.with_name(f"{path.name}.partial")
        save_file(arrays, partial, metadata={"format": FORMAT_VERSION, "discretisers": json.dumps(identities)})
        partial.replace(path)

    @classmethod
    def load(cls, path: str | Path) -> LayerTables:
        """Read what `save` wrote."""
        path = Path(path)
        try:
            arrays, metadata = read_safetensors(path)
            if metadata.get("format") != FORMAT_VERSION:
                raise KeyError("format")
            identities: dict[str, str] = json.loads(metadata["discretisers"])
            return cls({name: _counts(arrays, name, identity) for name, identity in identities.items()})
        except (SafetensorError, OSError, KeyError, ValueError, IndexError, AttributeError) as error:
            if isinstance(error, AttributionInputError):
                raise
            raise AttributionInputError(f"{path.name} is not a file of tables ({error})") from error


def _counts(arrays: dict[str, np.ndarray], name: str, identity: str) -> JointCounts:
    table = arrays[f"{name}/table"]
    if table.ndim != 3 or not (np.isfinite(table) & (table >= 0)).all():
        raise ValueError(f"{name} holds no counts")
    counts = JointCounts(*table.shape, discretiser=str(identity))
    counts.table = table.astype(np.float64)
    counts.sum_of_squared_weights = float(arrays[f"{name}/sum_of_squared_weights"][0])
    return counts


def _file_name(place: int) -> str:
    return f"discretiser-{place:03d}.safetensors"
