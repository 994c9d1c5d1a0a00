"""Joint tables whose decomposition has a closed form: what any solver can be held against."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

import numpy as np

from .synthetic import gate, mixture, mixture_atoms, noisy


@dataclass(frozen=True)
class ClosedForm:
    """A table and its exact atoms.

    Attributes:
        name: for the reports.
        table: p(x1, x2, y), [n1, n2, ny].
        atoms: redundancy, unique_1, unique_2 and synergy, bits.
    """

    name: str
    table: np.ndarray
    atoms: tuple[float, float, float, float]


def closed_forms(rng: np.random.Generator) -> Iterator[ClosedForm]:
    """Gates, channels and mixtures; parameters are drawn from `rng`."""
    yield from _gates(rng)
    yield from _three_valued_and_wider()
    yield from _channels(rng)
    yield from _mixtures(rng)
    first, second = _two_symmetric_channels(0.1, 0.2), _copy(0.8)
    (r1, u1, v1, s1), (r2, u2, v2, s2) = first.atoms, second.atoms
    table = independent_product(first.table, second.table)
    yield ClosedForm("independent product of BSC and COPY", table, (r1 + r2, u1 + u2, v1 + v2, s1 + s2))


def table_of(symbols: tuple[int, int, int], outcomes: dict[tuple[int, int, int], float]) -> np.ndarray:
    """[n1, n2, ny] from the probabilities of (x1, x2, y)."""
    table = np.zeros(symbols)
    for outcome, probability in outcomes.items():
        table[outcome] += probability
    return table


def independent_product(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Two independent systems read as one; BROJA's atoms add up."""
    joined = np.einsum("ijy,klz->ikjlyz", first, second)
    return joined.reshape([a * b for a, b in zip(first.shape, second.shape, strict=True)])


def binary_entropy(p: float) -> float:
    """Bits."""
    return 0.0 if p in (0.0, 1.0) else float(-p * np.log2(p) - (1 - p) * np.log2(1 - p))


def bsc_and_bec(flip: float, erasure: float) -> np.ndarray:
    """Y a fair bit seen through a symmetric and an erasure channel, independent given Y; [2, 3, 2]."""
    channel_1 = np.array([[1 - flip, flip], [flip, 1 - flip]])
    channel_2 = np.array([[1 - erasure, 0.0], [0.0, 1 - erasure], [erasure, erasure]])
    return 0.5 * channel_1[:, None, :] * channel_2[None, :, :]


def _gates(rng: np.random.Generator) -> Iterator[ClosedForm]:
    noise = float(rng.uniform(0.05, 0.6))
    kept = 1.0 - binary_entropy(noise / 2)
    quarter = binary_entropy(0.25) - 0.5
    yield ClosedForm("AND", gate("and"), (quarter, 0, 0, 0.5))
    yield ClosedForm("OR", gate("and")[::-1, ::-1, ::-1], (quarter, 0, 0, 0.5))
    yield ClosedForm("XOR", gate("xor"), (0, 0, 0, 1))
    yield ClosedForm(f"XOR, noise {noise:.2f}", noisy(gate("xor"), noise), (0, 0, 0, kept))
    yield ClosedForm("RDN", gate("redundant"), (1, 0, 0, 0))
    yield ClosedForm(f"RDN, noise {noise:.2f}", noisy(gate("redundant"), noise), (kept, 0, 0, 0))
    yield ClosedForm("UNQ", gate("unique"), (0, 1, 0, 0))
    yield ClosedForm(f"UNQ, noise {noise:.2f}", noisy(gate("unique"), noise), (0, kept, 0, 0))
    yield ClosedForm("COPY", gate("copy"), (0, 1, 1, 0))
    yield _copy(float(rng.uniform(0.5, 0.95)))
    yield ClosedForm("independent of everything", np.ones((3, 4, 2)), (0, 0, 0, 0))


def _copy(equal: float) -> ClosedForm:
    """Y = (X1, X2): what the sources share is redundant, the rest is unique, nothing is synergy."""
    outcomes = {(a, b, 2 * a + b): (equal if a == b else 1 - equal) / 2 for a, b in product((0, 1), repeat=2)}
    rest = binary_entropy(equal)
    return ClosedForm(f"COPY, equal with {equal:.2f}", table_of((2, 2, 4), outcomes), (1 - rest, rest, rest, 0))


def _three_valued_and_wider() -> Iterator[ClosedForm]:
    bits, thirds = (0, 1), (0, 1, 2)
    yield ClosedForm("SUM", table_of((2, 2, 3), {(a, b, a + b): 0.25 for a, b in product(bits, bits)}), (0.5, 0, 0, 1))
    modular = {(a, b, (a + b) % 3): 1 / 9 for a, b in product(thirds, thirds)}
    yield ClosedForm("MOD3SUM", table_of((3, 3, 3), modular), (0, 0, 0, float(np.log2(3))))
    triples, quads = list(product(bits, repeat=3)), list(product(bits, repeat=4))
    redundant_xor = {(2 * r + a, 2 * r + b, 2 * r + (a ^ b)): 1 / 8 for r, a, b in triples}
    yield ClosedForm("RDNXOR", table_of((4, 4, 4), redundant_xor), (1, 0, 0, 1))
    unique_xor = {(2 * u + a, b, 2 * u + (a ^ b)): 1 / 8 for u, a, b in triples}
    yield ClosedForm("UNQXOR", table_of((4, 2, 4), unique_xor), (0, 1, 0, 1))
    dyadic = {(2 * a + b, 2 * b + c, 2 * c + a): 1 / 8 for a, b, c in triples}
    yield ClosedForm("DYADIC", table_of((4, 4, 4), dyadic), (0, 1, 1, 0))
    triadic = {(2 * a + d, 2 * b + d, 2 * (a ^ b) + d): 1 / 8 for a, b, d in triples}
    yield ClosedForm("TRIADIC", table_of((4, 4, 4), triadic), (1, 0, 0, 1))
    all_four = {
        (4 * r + 2 * u + a, 4 * r + 2 * v + b, 8 * r + 4 * u + 2 * v + (a ^ b)): 1 / 32
        for (r, u, v, a), b in product(quads, bits)
    }
    yield ClosedForm("RDNUNQXOR", table_of((8, 8, 16), all_four), (1, 1, 1, 1))


def _channels(rng: np.random.Generator) -> Iterator[ClosedForm]:
    yield _two_symmetric_channels(0.1, 0.2)
    yield _two_symmetric_channels(0.1, 0.1)
    better, worse = sorted(rng.uniform(0.02, 0.45, 2).tolist())
    yield _two_symmetric_channels(better, worse)
    error = float(rng.uniform(0.05, 0.45))
    clean = {(x, x ^ e, x): (error if e else 1 - error) / 2 for x, e in product((0, 1), repeat=2)}
    lost = binary_entropy(error)
    yield ClosedForm(f"RDNERR, error {error:.2f}", table_of((2, 2, 2), clean), (1 - lost, lost, 0, 0))


def _two_symmetric_channels(flip_1: float, flip_2: float) -> ClosedForm:
    """Y a fair bit seen through two symmetric channels, the first no worse: it says all that the second says."""
    channels = [np.array([[1 - f, f], [f, 1 - f]]) for f in (flip_1, flip_2)]
    equal = flip_1 * flip_2 + (1 - flip_1) * (1 - flip_2)
    alone, lost = binary_entropy(flip_1), binary_entropy(flip_2)
    total = 1 + binary_entropy(equal) - alone - lost
    table = 0.5 * channels[0][:, None, :] * channels[1][None, :, :]
    atoms = (1 - lost, lost - alone, 0.0, total - (1 - alone))
    return ClosedForm(f"BSC {flip_1:.2f} and {flip_2:.2f}", table, atoms)


def _mixtures(rng: np.random.Generator) -> Iterator[ClosedForm]:
    first, second, third, fourth = rng.dirichlet(np.ones(4)).tolist()
    for weights, noise in (((1.0, 1.0, 1.0, 1.0), 0.0), ((first, second, third, fourth), 0.3)):
        atoms = mixture_atoms(weights, noise)
        name = "mixture " + " ".join(f"{w:.2f}" for w in weights) + f", noise {noise}"
        values = (atoms["redundancy"], atoms["unique_1"], atoms["unique_2"], atoms["synergy"])
        yield ClosedForm(name, mixture(*weights, noise=noise), values)
