"""The oracle tables of pid_broja.json, and what the tests of the solver share."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from plugins.attribution import PIDResult

# Our name of a quantity and its column in the file, bits.
COLUMNS = {
    "redundancy": "R",
    "unique_1": "U1",
    "unique_2": "U2",
    "synergy": "S",
    "information_1": "I1",
    "information_2": "I2",
    "total": "I12",
    "union_information": "I_union",
}
ATOMS = ("redundancy", "unique_1", "unique_2", "synergy")
CASES: dict[str, dict] = json.loads(Path(__file__).with_name("pid_broja.json").read_text())["cases"]


def table(name: str) -> np.ndarray:
    """An oracle's p(x1, x2, y)."""
    case = CASES[name]
    values = np.array(case["P"] if "P" in case else case["counts"], dtype=np.float64)
    return values / values.sum()


def atoms(result: PIDResult) -> np.ndarray:
    """Redundancy, unique 1, unique 2, synergy, [..., 4], bits."""
    return np.stack([getattr(result, name).numpy() for name in ATOMS], axis=-1)


def product(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """The table of two independent systems side by side."""
    joined = np.einsum("abc,def->adbecf", first, second)
    return joined.reshape([a * b for a, b in zip(first.shape, second.shape, strict=True)])


def entropy(p: float) -> float:
    """Of a coin, bits."""
    return -p * np.log2(p) - (1 - p) * np.log2(1 - p)
