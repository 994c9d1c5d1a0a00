"""Data with known truth: exact tables and samples, for the playground, the self-test and the examples."""

from __future__ import annotations

import numpy as np

from .errors import AttributionInputError
from .inputs import Streams

GATES = ("and", "xor", "redundant", "unique", "copy")


def gate(name: str) -> np.ndarray:
    """p(x1, x2, y) of a gate on two fair bits; [2, 2, ny]. "unique" is Y = X1, "copy" is Y = (X1, X2)."""
    table = np.zeros((2, 2, 4 if name == "copy" else 2))
    for x1 in (0, 1):
        for x2 in (0, 1):
            if name == "redundant":
                if x1 == x2:
                    table[x1, x2, x1] = 0.5
                continue
            outputs = {"and": x1 & x2, "xor": x1 ^ x2, "unique": x1, "copy": 2 * x1 + x2}
            if name not in outputs:
                raise AttributionInputError(f"gate {name!r} is unknown: choose from {', '.join(GATES)}")
            table[x1, x2, outputs[name]] = 0.25
    return table


def noisy(table: np.ndarray, noise: float) -> np.ndarray:
    """The same table with Y replaced by a uniform draw with probability `noise`."""
    if not 0.0 <= noise <= 1.0:
        raise AttributionInputError(f"noise is {noise}: it is a probability between 0 and 1")
    uniform = table.sum(axis=2, keepdims=True) / table.shape[2]
    return (1.0 - noise) * table + noise * uniform


def mixture(redundant: float, unique_1: float, unique_2: float, synergy: float, *, noise: float = 0.0) -> np.ndarray:
    """Sources with one component for each atom, of which Y shows one at a time; exact p(x1, x2, y).

    X1 = (r, u, a) and X2 = (r, v, b) with fair bits. Y = (which, bit): `which` says which of r, u, v, a xor b is shown
    and is drawn with the given weights, independently of the sources; `bit` is flipped with probability noise / 2.
    Each weight, times the bit's information 1 - h(noise / 2), is that atom in bits, because `which` is a part of Y that
    no source informs about and the four components are independent.

    Returns:
        [8, 8, 8], codes r + 2 u + 4 a and r + 2 v + 4 b for the sources and 2 which + bit for the target.
    """
    weights = np.array([redundant, unique_1, unique_2, synergy], dtype=np.float64)
    if not np.isfinite(weights).all() or (weights < 0).any() or weights.sum() == 0:
        raise AttributionInputError("the four weights are zero or more and not all zero")
    weights /= weights.sum()
    table = np.zeros((8, 8, 8))
    for bits in np.ndindex(2, 2, 2, 2, 2):
        r, u, v, a, b = bits
        shown = (r, u, v, a ^ b)
        for which, bit in enumerate(shown):
            table[r + 2 * u + 4 * a, r + 2 * v + 4 * b, 2 * which + bit] += weights[which] / 32
    flipped = table.reshape(8, 8, 4, 2)[..., ::-1].reshape(8, 8, 8)
    return (1.0 - noise / 2) * table + noise / 2 * flipped


def mixture_atoms(weights: tuple[float, float, float, float], noise: float) -> dict[str, float]:
    """Closed form of `mixture`, bits."""
    share = np.array(weights) / sum(weights) * (1.0 - _binary_entropy(noise / 2))
    return dict(zip(("redundancy", "unique_1", "unique_2", "synergy"), share.tolist(), strict=True))


def known(
    kind: str, noise: float = 0.0, weights: tuple[float, ...] = (0.4, 0.3, 0.1, 0.2)
) -> tuple[np.ndarray, dict[str, float] | None]:
    """A joint table by name (a gate or "mixture") and its atoms in bits, or None where there is no closed form."""
    if kind == "mixture":
        redundant, unique_1, unique_2, synergy = weights
        table = mixture(redundant, unique_1, unique_2, synergy, noise=noise)
        return table, mixture_atoms((redundant, unique_1, unique_2, synergy), noise)
    table = noisy(gate(kind), noise)
    only = {"xor": "synergy", "redundant": "redundancy", "unique": "unique_1"}
    atoms = dict.fromkeys(("redundancy", "unique_1", "unique_2", "synergy"), 0.0)
    if kind in only:
        return table, {**atoms, only[kind]: 1.0 - _binary_entropy(noise / 2)}
    if noise > 0:
        return table, None
    if kind == "copy":
        return table, {**atoms, "unique_1": 1.0, "unique_2": 1.0}
    return table, {**atoms, "redundancy": _binary_entropy(0.25) - 0.5, "synergy": 0.5}


def _binary_entropy(p: float) -> float:
    return 0.0 if p in (0.0, 1.0) else float(-p * np.log2(p) - (1 - p) * np.log2(1 - p))


def sample(table: np.ndarray, n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """n examples of a joint table: codes x1, x2, y, each [n]."""
    cells = rng.choice(table.size, size=n, p=table.reshape(-1) / table.sum())
    x1, x2, y = np.unravel_index(cells, table.shape)
    return x1, x2, y


def planted_signal(n: int, *, dimension: int = 256, nuisance: int = 20, seed: int = 0) -> Streams:
    """X1 = 2 Y + N and X2 = Y + N, each along one direction of a space whose variance lies elsewhere.

    Y is a fair bit. The signal direction has unit noise; `nuisance` other directions have five times as much variance
    and say nothing. Truth for the signals: I(X1; Y) = 0.486, I(X2; Y) = 0.161 bits.
    """
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 2, n)
    streams = []
    for strength in (2.0, 1.0):
        basis = np.linalg.qr(rng.standard_normal((dimension, nuisance + 1)))[0].T
        latent = rng.standard_normal((n, nuisance + 1)) * np.sqrt(5.0)
        latent[:, 0] = strength * (y - 0.5) + rng.standard_normal(n)
        streams.append(latent @ basis + 0.05 * rng.standard_normal((n, dimension)))
    return Streams(streams[0], streams[1], y, ("strong", "weak"))


def sensors(n: int = 4000, *, seed: int = 0) -> Streams:
    """An example worth looking at: two cameras, thermal and colour, and whether a person is in the scene.

    By day both see the person (redundant); at night only thermal does (unique); on a hot road thermal cannot tell a
    person from warm ground unless colour shows what the ground is (synergy).
    """
    rng = np.random.default_rng(seed)
    person = rng.integers(0, 2, n)
    condition = rng.choice(3, size=n, p=[0.4, 0.35, 0.25])
    day, night, hot = (condition == k for k in range(3))
    ground = rng.integers(0, 2, n)
    heat = np.where(hot, np.where(person == ground, 1.0, -1.0), 2.0 * person - 1.0)
    shape = np.where(day, 2.0 * person - 1.0, 0.0)
    surface = np.where(hot, 2.0 * ground - 1.0, 0.0)
    light = np.where(night, -1.0, 1.0)
    thermal = np.stack([heat, np.where(hot, 1.0, -1.0)], axis=1)
    colour = np.stack([shape, surface, light], axis=1)
    return Streams(
        thermal + 0.45 * rng.standard_normal(thermal.shape),
        colour + 0.45 * rng.standard_normal(colour.shape),
        np.where(person == 1, "person", "empty"),
        ("thermal", "colour"),
    )


def twin_sensors(n: int = 4000, *, seed: int = 0) -> Streams:
    """Two good microphones in one room: each nearly suffices, so dropping either costs almost no accuracy."""
    rng = np.random.default_rng(seed)
    speech = rng.integers(0, 2, n)
    sound = 2.0 * speech - 1.0 + 0.55 * rng.standard_normal(n)
    left, right = (sound[:, None] + 0.05 * rng.standard_normal((n, 3)) for _ in range(2))
    return Streams(left, right, np.where(speech == 1, "speech", "silence"), ("left mic", "right mic"))


def lock_and_key(n: int = 4000, *, seed: int = 0) -> Streams:
    """A badge and a door: whether access is right depends on the pair; either one alone says nothing."""
    rng = np.random.default_rng(seed)
    badge, door = rng.choice([-1.0, 1.0], n), rng.choice([-1.0, 1.0], n)
    streams = [
        np.stack([value + 0.35 * rng.standard_normal(n), rng.standard_normal(n)], axis=1) for value in (badge, door)
    ]
    return Streams(streams[0], streams[1], np.where(badge == door, "granted", "refused"), ("badge", "door"))


EXAMPLES = {"two cameras": sensors, "twin microphones": twin_sensors, "badge and door": lock_and_key}


def example(name: str, *, seed: int = 0) -> Streams:
    """One of the generated examples by name."""
    if name not in EXAMPLES:
        raise AttributionInputError(f"example {name!r} is unknown: choose from {', '.join(EXAMPLES)}")
    return EXAMPLES[name](seed=seed)
