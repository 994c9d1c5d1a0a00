"""Joint counts: the sufficient statistic of the whole analysis, additive over shards, batches and time."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from .decomposition import Method, PIDResult, decompose
from .errors import AttributionInputError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

FORMAT_VERSION = "1"
MAX_SYMBOLS = 100_000
MAX_CELLS = 100_000_000


class JointCounts:
    """How often each triple of codes (x1, x2, y) was seen; a commutative monoid under `merge`.

    Attributes:
        table: [n1, n2, ny], float64; sums of weights, exact for whole numbers up to 2**53.
        sum_of_squared_weights: for the effective sample size.
        discretiser: identifies what made the codes ("" when they are the data's own symbols); only tables of the same
            discretiser can be merged, because the same code of another one means something else.

    Example:
        >>> JointCounts(2, 2, 2).update([0, 0, 1, 1], [0, 1, 0, 1], [0, 1, 1, 0]).decompose().synergy
        tensor(1.0000, dtype=torch.float64)
    """

    def __init__(self, n1: int, n2: int, ny: int, *, discretiser: str = "") -> None:
        for name, size in (("n1", n1), ("n2", n2), ("ny", ny)):
            if not 1 <= int(size) <= MAX_SYMBOLS:
                raise AttributionInputError(f"{name} is {size}: a source has 1 to {MAX_SYMBOLS:,} symbols")
        if n1 * n2 * ny > MAX_CELLS:
            raise AttributionInputError(
                f"a table of {n1} x {n2} x {ny} has {n1 * n2 * ny:,} cells, limit {MAX_CELLS:,}: use fewer symbols"
            )
        self.table = np.zeros((int(n1), int(n2), int(ny)))
        self.sum_of_squared_weights = 0.0
        self.discretiser = discretiser

    @property
    def total(self) -> float:
        """Sum of weights; the number of examples when none were weighted."""
        return float(self.table.sum())

    @property
    def effective_sample_size(self) -> float:
        """(sum of w)^2 / sum of w^2 (Kish)."""
        return self.total**2 / self.sum_of_squared_weights if self.sum_of_squared_weights else 0.0

    def update(self, x1: ArrayLike, x2: ArrayLike, y: ArrayLike, *, weights: ArrayLike | None = None) -> Self:
        """Count more examples, in place; nothing is counted when anything is wrong.

        Args:
            x1, x2: integer codes, [n].
            y: integer codes, [n], or soft targets p(y | example), [n, ny], rows summing to one.
            weights: non-negative, [n].
        """
        n1, n2, ny = self.table.shape
        codes_1, codes_2 = _codes(x1, n1, "x1"), _codes(x2, n2, "x2")
        targets = np.asarray(y)
        soft = targets.ndim == 2
        targets = _soft_targets(targets, ny) if soft else _codes(targets, ny, "y")
        weight = _weights(weights, len(codes_1))
        lengths = {"x1": len(codes_1), "x2": len(codes_2), "y": len(targets), "weights": len(weight)}
        if len(set(lengths.values())) > 1:
            raise AttributionInputError(
                "lengths differ: " + ", ".join(f"{name} has {size}" for name, size in lengths.items())
            )
        cell = codes_1 * n2 + codes_2
        if soft:
            added = np.stack([np.bincount(cell, weight * targets[:, k], minlength=n1 * n2) for k in range(ny)], axis=1)
        else:
            added = np.bincount(cell * ny + targets, weight, minlength=n1 * n2 * ny)
        self.table += added.reshape(self.table.shape)
        self.sum_of_squared_weights += float(np.square(weight).sum())
        return self

    def merge(self, other: JointCounts) -> JointCounts:
        """The counts of both, as a new object; exact, in any order and grouping."""
        if self.table.shape != other.table.shape:
            raise AttributionInputError(
                f"tables of shape {self.table.shape} and {other.table.shape} cannot be merged: "
                "count both with the same alphabets"
            )
        if self.discretiser != other.discretiser:
            raise AttributionInputError(
                f"these counts come from different discretisers ({self.discretiser[:12] or 'none'} and "
                f"{other.discretiser[:12] or 'none'}): the same code means different things; "
                "count again with one fitted discretiser"
            )
        merged = JointCounts(*self.table.shape, discretiser=self.discretiser)
        merged.table = self.table + other.table
        merged.sum_of_squared_weights = self.sum_of_squared_weights + other.sum_of_squared_weights
        return merged

    def decompose(self, *, method: Method = "broja", tol: float = 1e-9) -> PIDResult:
        """Plug-in decomposition of the counted distribution; see `estimation.estimate` for errors and corrections."""
        if self.total == 0:
            raise AttributionInputError("nothing has been counted yet: call update first")
        return decompose(self.table, method=method, tol=tol)

    def save(self, path: str | Path) -> None:
        """Write the counts as safetensors, with the discretiser's identity in the metadata."""
        metadata = {"format": FORMAT_VERSION, "discretiser": self.discretiser}
        squares = np.array([self.sum_of_squared_weights])
        save_file({"table": self.table, "sum_of_squared_weights": squares}, path, metadata=metadata)

    @classmethod
    def load(cls, path: str | Path) -> JointCounts:
        """Read counts that `save` wrote."""
        try:
            arrays, metadata = read_safetensors(path)
            table, squares = arrays["table"], float(arrays["sum_of_squared_weights"][0])
        except (SafetensorError, KeyError, IndexError, OSError) as error:
            raise AttributionInputError(f"{Path(path).name} is not a file of joint counts ({error})") from error
        if metadata.get("format") != FORMAT_VERSION or table.ndim != 3 or not (np.isfinite(table) & (table >= 0)).all():
            raise AttributionInputError(f"{Path(path).name} holds no joint counts of format {FORMAT_VERSION}")
        counts = cls(*table.shape, discretiser=metadata.get("discretiser", ""))
        counts.table, counts.sum_of_squared_weights = table.astype(np.float64), squares
        return counts


def read_safetensors(path: str | Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Arrays and metadata of a file; SafetensorError or OSError where it is not one."""
    with safe_open(path, framework="numpy") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118


def _codes(values: ArrayLike, size: int, name: str) -> np.ndarray:
    codes = np.asarray(values)
    if codes.ndim != 1 or codes.dtype.kind not in "iu":
        raise AttributionInputError(
            f"{name} has shape {codes.shape} and type {codes.dtype}: give one integer code per example, [n]"
        )
    if len(codes) and (codes.min() < 0 or codes.max() >= size):
        raise AttributionInputError(
            f"{name} holds codes from {codes.min()} to {codes.max()}: this table takes 0 to {size - 1}"
        )
    return codes.astype(np.int64)


def _soft_targets(targets: np.ndarray, ny: int) -> np.ndarray:
    if targets.shape[1] != ny:
        raise AttributionInputError(f"soft targets have {targets.shape[1]} columns, the table has {ny} classes")
    targets = targets.astype(np.float64)
    if not np.isfinite(targets).all() or (targets < 0).any():
        raise AttributionInputError("soft targets are probabilities: finite and not negative")
    if len(targets) and np.abs(targets.sum(axis=1) - 1.0).max() > 1e-4:
        raise AttributionInputError("each row of soft targets must sum to one")
    return targets


def _weights(weights: ArrayLike | None, n: int) -> np.ndarray:
    if weights is None:
        return np.ones(n)
    try:
        array = np.asarray(weights, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise AttributionInputError(f"weights cannot be read as numbers ({error}): give one per example") from error
    if array.ndim != 1 or not np.isfinite(array).all() or (array < 0).any():
        raise AttributionInputError("weights are finite and not negative, one per example, [n]")
    return array
