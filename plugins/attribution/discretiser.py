"""A fitted discretiser: two quantisers and the classes, frozen, versioned and kept as safetensors."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import save_file

from .counts import JointCounts, read_safetensors
from .errors import AttributionInputError
from .inputs import Categories, Streams
from .quantisers import Quantiser, fingerprint, from_arrays, to_arrays

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

FORMAT_VERSION = "1"


@dataclass(frozen=True)
class Discretiser:
    """From examples to codes, the same way for ever.

    Attributes:
        quantisers: of the two streams.
        classes: labels of the target in code order, as strings.
        names: of the two streams.
        categories: of each stream that is one column of texts: its texts in code order, else None.
    """

    quantisers: tuple[Quantiser, Quantiser]
    classes: tuple[str, ...]
    names: tuple[str, str]
    categories: Categories = (None, None)

    @property
    def shape(self) -> tuple[int, int, int]:
        first, second = self.quantisers
        return first.symbols, second.symbols, len(self.classes)

    @property
    def identity(self) -> str:
        """SHA-256 of everything that decides a code."""
        labels = json.dumps([self.classes, self.categories]).encode()
        return fingerprint({**self._arrays(), "labels": np.frombuffer(labels, np.uint8)})

    def count(self, streams: Streams, *, weights: ArrayLike | None = None) -> JointCounts:
        """Joint counts of new examples of the fitted streams and classes."""
        return self.empty_counts().update(*self.codes(streams), weights=weights)

    def codes(self, streams: Streams) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Codes (x1, x2, y) of new examples of the fitted streams and classes, [n] each."""
        if streams.names != self.names:
            raise AttributionInputError(
                f"the streams are {' and '.join(streams.names)}, the discretiser was fitted on "
                f"{' and '.join(self.names)}: give these, in this order"
            )
        sources = streams.x1, streams.x2
        for name, x, quantiser in zip(self.names, sources, self.quantisers, strict=True):
            if x.shape[1] != quantiser.columns:
                raise AttributionInputError(
                    f"{name} has {x.shape[1]:,} columns, the discretiser was fitted on {quantiser.columns:,}: "
                    "give the same columns in the same order"
                )
        first, second = (quantiser(x) for quantiser, x in zip(self.quantisers, sources, strict=True))
        return first, second, self._class_codes(streams.y)

    def _class_codes(self, y: np.ndarray) -> np.ndarray:
        index = {name: code for code, name in enumerate(self.classes)}
        labels = [str(label) for label in y.tolist()]
        unknown = sorted(set(labels) - set(index))
        if unknown:
            raise AttributionInputError(
                f"the target holds {', '.join(unknown[:3])}, which the discretiser was not fitted on: "
                f"its classes are {', '.join(self.classes[:10])}"
            )
        return np.array([index[label] for label in labels], dtype=np.int64)

    def empty_counts(self) -> JointCounts:
        return JointCounts(*self.shape, discretiser=self.identity)

    def save(self, path: str | Path) -> None:
        metadata = {
            "format": FORMAT_VERSION,
            "classes": json.dumps(self.classes),
            "names": json.dumps(self.names),
            "categories": json.dumps(self.categories),
            "identity": self.identity,
        }
        save_file(self._arrays(), path, metadata=metadata)

    @classmethod
    def load(cls, path: str | Path) -> Discretiser:
        """Read what `save` wrote; damaged or foreign files are refused."""
        try:
            arrays, metadata = read_safetensors(path)
            if metadata.get("format") != FORMAT_VERSION:
                raise KeyError("format")
            first, second = json.loads(metadata["names"])
            loaded = cls(
                (from_arrays(arrays, "source_1"), from_arrays(arrays, "source_2")),
                tuple(str(name) for name in json.loads(metadata["classes"])),
                (str(first), str(second)),
                _categories(metadata["categories"]),
            )
        except (SafetensorError, OSError, KeyError, ValueError, TypeError) as error:
            if isinstance(error, AttributionInputError):
                raise
            raise AttributionInputError(f"{Path(path).name} is not a fitted discretiser ({error})") from error
        if loaded.identity != metadata.get("identity"):
            raise AttributionInputError(f"{Path(path).name} is damaged: its contents do not match its identity")
        return loaded

    def _arrays(self) -> dict[str, np.ndarray]:
        first, second = self.quantisers
        return {**to_arrays(first, "source_1"), **to_arrays(second, "source_2")}


def _categories(written: str) -> Categories:
    first, second = (known if known is None else tuple(map(str, known)) for known in json.loads(written))
    return first, second
