"""Quantisers: from a source's columns to a few symbols.

BROJA's redundancy and unique information depend on a source only through p(Y | X), so the default quantises the
cross-fitted posterior: symbols with equal posteriors could be merged without changing anything. k-means on PCA, what
the paper does, keeps the directions with the most variance, which need not be those that say anything about Y.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, fields
from typing import Any, Literal, Protocol, get_args

import numpy as np
from scipy.special import expit
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA

from .errors import AttributionInputError
from .joint_probe import Embedding, JointFit
from .probes import CrossFit, Features, Probe

QuantiserKind = Literal["auto", "symbols", "quantile", "posterior", "kmeans"]

MAX_SYMBOLS = 50
AUTO_SYMBOLS = 12  # a column of whole numbers with no more distinct values counts as symbols
PCA_COMPONENTS = 10


class Quantiser(Protocol):
    """A frozen map from rows to codes."""

    @property
    def symbols(self) -> int: ...

    @property
    def columns(self) -> int:
        """d, of the rows that it takes."""
        ...

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Codes 0..symbols-1 of rows [n, d]; int64, [n]."""
        ...


@dataclass(frozen=True)
class SymbolQuantiser:
    """Each distinct row is a symbol. `values`: [symbols, d]."""

    values: np.ndarray

    @classmethod
    def fit(cls, x: np.ndarray) -> SymbolQuantiser:
        values = np.unique(x, axis=0)
        if len(values) > MAX_SYMBOLS:
            raise AttributionInputError(
                f"this stream has {len(values):,} distinct rows, as symbols at most {MAX_SYMBOLS} are allowed: "
                "choose another quantiser"
            )
        return cls(values)

    @property
    def symbols(self) -> int:
        return len(self.values)

    @property
    def columns(self) -> int:
        return self.values.shape[1]

    def __call__(self, x: np.ndarray) -> np.ndarray:
        codes = np.full(len(x), -1)
        for code, value in enumerate(self.values):  # exact: a distance loses the last digits of large numbers
            codes[(x == value).all(axis=1)] = code
        if (codes < 0).any():
            raise AttributionInputError("this stream holds a value that the fitted discretiser has not seen")
        return codes


@dataclass(frozen=True)
class QuantileQuantiser:
    """Bins of equal mass of one number. `edges`: [symbols - 1], ascending."""

    edges: np.ndarray

    @classmethod
    def fit(cls, x: np.ndarray, bins: int) -> QuantileQuantiser:
        if x.shape[1] != 1:
            raise AttributionInputError(
                f"the quantile quantiser takes one column, this stream has {x.shape[1]}: choose posterior"
            )
        return cls(np.unique(np.quantile(x[:, 0], np.linspace(0, 1, bins + 1)[1:-1])))

    @property
    def symbols(self) -> int:
        return len(self.edges) + 1

    @property
    def columns(self) -> int:
        return 1

    def __call__(self, x: np.ndarray) -> np.ndarray:
        return np.searchsorted(self.edges, x[:, 0], side="right")


@dataclass(frozen=True)
class PosteriorQuantiser:
    """k-means of what a source says about Y: its posterior, and its score in the interaction with the other source.

    Both are mapped to coordinates in which Euclidean distance is about the square root of the information lost by
    merging (Hellinger): 2 sqrt(p) for the posterior, 2 arcsin sqrt(sigmoid(s)) for a score s in log-odds.

    Attributes:
        probe: of this source, fitted on all examples.
        embedding, direction: for the interaction score.
        centres: [symbols, classes + 1].
    """

    probe: Probe
    embedding: Embedding
    direction: np.ndarray
    centres: np.ndarray

    @classmethod
    def fit(
        cls, fit: CrossFit, joint: JointFit, source: int, *, bins: int, seed: int
    ) -> tuple[PosteriorQuantiser, np.ndarray]:
        """Quantiser and codes [n]; posteriors and scores are cross-fitted: no example's own label shapes its code."""
        points = _information_coordinates(fit.log_posterior, joint.scores[source])
        centres = _kmeans(points, bins, seed)
        quantiser = cls(fit.probe, joint.embeddings[source], joint.directions[source], centres)
        return quantiser, _nearest(points, centres)

    @property
    def symbols(self) -> int:
        return len(self.centres)

    @property
    def columns(self) -> int:
        return len(self.probe.features.mean)

    def __call__(self, x: np.ndarray) -> np.ndarray:
        log_posterior = self.probe.log_posterior(x)
        scores = self.embedding(x, log_posterior) @ self.direction
        return _nearest(_information_coordinates(log_posterior, scores), self.centres)


@dataclass(frozen=True)
class KMeansQuantiser:
    """The paper's: L2-normalised rows, PCA to 10 components, k-means.

    Attributes:
        mean: [d]. components: [p, d]. centres: [symbols, p].
    """

    mean: np.ndarray
    components: np.ndarray
    centres: np.ndarray

    @classmethod
    def fit(cls, x: np.ndarray, bins: int, seed: int) -> KMeansQuantiser:
        unit = _unit_rows(x)
        pca = PCA(min(PCA_COMPONENTS, *unit.shape), random_state=seed).fit(unit)
        return cls(pca.mean_, pca.components_, _kmeans(pca.transform(unit), bins, seed))

    @property
    def symbols(self) -> int:
        return len(self.centres)

    @property
    def columns(self) -> int:
        return len(self.mean)

    def __call__(self, x: np.ndarray) -> np.ndarray:
        return _nearest((_unit_rows(x) - self.mean) @ self.components.T, self.centres)


def choose_kind(x: np.ndarray, *, categorical: bool = False) -> QuantiserKind:
    """What "auto" means: symbols for categories and a few whole numbers, quantiles for one number, else posteriors."""
    if categorical:
        return "symbols"
    if x.shape[1] <= 2 and len(x):
        whole = np.array_equal(x, np.rint(x))
        if whole and len(np.unique(x, axis=0)) <= AUTO_SYMBOLS:
            return "symbols"
    return "quantile" if x.shape[1] == 1 else "posterior"


def choose_bins(n: int, classes: int, *, most: int = 10, per_cell: float = 5.0) -> int:
    """Bins per source that leave `per_cell` examples in a cell on average, from 2 to `most`."""
    return int(np.clip(np.floor(np.sqrt(n / (per_cell * classes))), 2, most))


def fit_quantiser(
    kind: QuantiserKind, x: np.ndarray, fit: CrossFit, joint: JointFit, source: int, *, bins: int, seed: int
) -> tuple[Quantiser, np.ndarray]:
    """Fit the quantiser of one source and code the examples it was fitted on.

    Args:
        x: the source's rows, [n, d]. fit: its probe. joint: the joint probe. source: 0 or 1. bins: symbols to aim for.

    Returns:
        The frozen quantiser and the codes [n].
    """
    if kind == "posterior":
        return PosteriorQuantiser.fit(fit, joint, source, bins=bins, seed=seed)
    if kind == "symbols":
        quantiser: Quantiser = SymbolQuantiser.fit(x)
    elif kind == "quantile":
        quantiser = QuantileQuantiser.fit(x, bins)
    elif kind == "kmeans":
        quantiser = KMeansQuantiser.fit(x, bins, seed)
    else:
        raise AttributionInputError(f"quantiser {kind!r} is unknown: choose from {', '.join(get_args(QuantiserKind))}")
    return quantiser, quantiser(x)


def to_arrays(quantiser: Quantiser, prefix: str) -> dict[str, np.ndarray]:
    """The quantiser as named arrays, for safetensors; the class name is a key of its own."""
    arrays = {f"{prefix}.{type(quantiser).__name__}": np.ones(1)}
    for field in fields(quantiser):  # ty: ignore[invalid-argument-type]
        value = getattr(quantiser, field.name)
        name = f"{prefix}.{field.name}"
        if isinstance(value, np.ndarray | bool):
            arrays[name] = np.ascontiguousarray(np.asarray(value, dtype=np.float64))
        else:
            arrays.update(to_arrays(value, name))
    return arrays


def from_arrays(arrays: dict[str, np.ndarray], prefix: str) -> Quantiser:
    """The quantiser that `to_arrays` wrote."""
    try:
        return _build(arrays, prefix)
    except KeyError as error:
        raise AttributionInputError(f"the discretiser file lacks {error}: it is damaged or not one") from error


def _build(arrays: dict[str, np.ndarray], prefix: str) -> Any:
    classes: dict[str, Any] = {c.__name__: c for c in _CLASSES}
    found = [name for name in classes if f"{prefix}.{name}" in arrays]
    if len(found) != 1:
        raise KeyError(prefix)
    built = classes[found[0]]
    values: dict[str, Any] = {}
    for field in fields(built):
        name = f"{prefix}.{field.name}"
        if field.name == "quadratic":
            values[field.name] = bool(arrays[name])
        else:
            values[field.name] = arrays[name] if name in arrays else _build(arrays, name)
    return built(**values)


_CLASSES = (
    SymbolQuantiser,
    QuantileQuantiser,
    PosteriorQuantiser,
    KMeansQuantiser,
    Embedding,
    Probe,
    Features,
)


def fingerprint(arrays: dict[str, np.ndarray]) -> str:
    """SHA-256 over names and bytes: the version of a discretiser."""
    digest = hashlib.sha256()
    for name in sorted(arrays):
        digest.update(name.encode())
        digest.update(str(arrays[name].shape).encode())
        digest.update(np.ascontiguousarray(arrays[name]).tobytes())
    return digest.hexdigest()


def _kmeans(x: np.ndarray, bins: int, seed: int) -> np.ndarray:
    distinct = len(np.unique(x.round(12), axis=0))
    return KMeans(min(bins, distinct), n_init=3, random_state=seed).fit(x).cluster_centers_


def _nearest(x: np.ndarray, centres: np.ndarray) -> np.ndarray:
    squared = np.square(centres).sum(axis=1) - 2 * (x @ centres.T)
    return squared.argmin(axis=1)


def _information_coordinates(log_posterior: np.ndarray, scores: np.ndarray) -> np.ndarray:
    angle = 2 * np.arcsin(np.sqrt(expit(scores)))
    return np.concatenate([2 * np.exp(log_posterior / 2), angle[:, None]], axis=1)


def _unit_rows(x: np.ndarray) -> np.ndarray:
    norm = np.linalg.norm(x, axis=1, keepdims=True)
    return x / np.where(norm > 0, norm, 1.0)
