"""In what order the tokens of a latent video are put in line, and which blocks of that line touch on the grid."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from .errors import SparseVideoInputError

Grid = tuple[int, int, int]  # frames, rows, columns of the latent video

# Half of the 26 neighbours of a cell; adjacency is symmetric, so the other half says nothing new.
_HALF_NEIGHBOURS = [offset for offset in itertools.product((-1, 0, 1), repeat=3) if offset > (0, 0, 0)]


@dataclass(frozen=True)
class TokenOrder:
    """An order of tokens, cut into blocks of consecutive tokens.

    Attributes:
        permutation: int64 [tokens]; the token at place p of the line is `permutation[p]`, counted frame by frame and
            row by row on the grid.
        inverse: int64 [tokens], the places of the tokens: `permutation[inverse]` counts up from 0.
        adjacency: bool [blocks, blocks], True where any token of one block is a token of the other block or one of
            its 26 neighbours on the grid; symmetric, True on the diagonal.
        is_identity: the tokens stay as they are, so that nothing need be gathered.
    """

    permutation: Tensor
    inverse: Tensor
    adjacency: Tensor
    is_identity: bool

    def to(self, device: torch.device) -> TokenOrder:
        """The same order on another device."""
        return TokenOrder(
            self.permutation.to(device), self.inverse.to(device), self.adjacency.to(device), self.is_identity
        )


@lru_cache(maxsize=32)
def token_order(grid: Grid, order: str, block_size: int, device: torch.device | None = None) -> TokenOrder:
    """The order of the tokens of a grid of (frames, rows, columns); kept, since every layer and step asks for it.

    Raises:
        SparseVideoInputError: the grid holds no token, or the order is unknown.
    """
    if device is not None and device.type != "cpu":
        return token_order(grid, order, block_size).to(device)
    if len(grid) != 3 or min(grid) < 1:
        raise SparseVideoInputError(
            f"grid is {grid}; it is (frames, rows, columns) of the latent video, each 1 or more"
        )
    if order == "gilbert":
        permutation = _gilbert_permutation(grid)
    elif order == "tile":
        permutation = _tile_permutation(grid, block_size)
    elif order == "linear":
        permutation = np.arange(int(np.prod(grid)))
    else:
        raise SparseVideoInputError(f"order is {order!r}; it is one of 'gilbert', 'tile', 'linear'")
    inverse = np.empty_like(permutation)
    inverse[permutation] = np.arange(len(permutation))
    adjacency = block_adjacency((inverse // block_size).reshape(grid))
    return TokenOrder(
        torch.from_numpy(permutation), torch.from_numpy(inverse), torch.from_numpy(adjacency), order == "linear"
    )


@lru_cache(maxsize=32)
def sequence_order(tokens: int, block_size: int, device: torch.device | None = None) -> TokenOrder:
    """Tokens of which no grid is known: as they come, a block touching the one before and the one after."""
    places = torch.arange(tokens, device=device)
    blocks = torch.arange(-(-tokens // block_size), device=device)
    return TokenOrder(places, places, (blocks[:, None] - blocks[None, :]).abs() <= 1, True)


def block_adjacency(block_of_cell: np.ndarray) -> np.ndarray:
    """Which blocks touch, bool [blocks, blocks], from the block that each cell is in, int [frames, rows, columns]."""
    blocks = int(block_of_cell.max()) + 1
    adjacency = np.eye(blocks, dtype=bool)
    for offset in _HALF_NEIGHBOURS:
        here = tuple(
            slice(max(0, -step), size - max(0, step)) for step, size in zip(offset, block_of_cell.shape, strict=True)
        )
        there = tuple(
            slice(max(0, step), size - max(0, -step)) for step, size in zip(offset, block_of_cell.shape, strict=True)
        )
        adjacency[block_of_cell[here].ravel(), block_of_cell[there].ravel()] = True
    return adjacency | adjacency.T


def _gilbert_permutation(grid: Grid) -> np.ndarray:
    """Place along a generalised Hilbert curve (J. Cerveny's "gilbert", a Hilbert curve for boxes of any size).

    The curve runs along the longest side; of equally long ones, columns come before rows and rows before frames.
    """
    axes = sorted((2, 1, 0), key=lambda axis: -grid[axis])
    cells = _curve((grid[axes[0]], grid[axes[1]], grid[axes[2]]), {})
    position = [cells[:, axes.index(axis)] for axis in range(3)]
    return np.ravel_multi_index(position, grid).astype(np.int64)


def _curve(size: Grid, known: dict[Grid, np.ndarray]) -> np.ndarray:
    """The cells of a box in the order of the curve, int32 [cells, 3]; it starts at 0 and ends at (size[0] - 1, 0, 0).

    A box is cut into smaller ones, each with a curve of its own, turned so that one ends where the next begins. The
    same few sizes come back again and again, so a curve is built once per size and then only placed.
    """
    if size not in known:
        if sorted(size)[1] <= 1:  # at most one side is longer than a cell: a straight line, or nothing
            known[size] = np.stack(np.unravel_index(np.arange(np.prod(size)), size), axis=-1).astype(np.int32)
        else:
            known[size] = np.concatenate([_place(_curve(piece, known), *how) for piece, *how in _pieces(size)])
    return known[size]


def _place(cells: np.ndarray, axes: tuple[int, int, int], signs: Grid, origin: Grid) -> np.ndarray:
    """Lay the sides of a small curve along these axes, forwards or backwards, from this origin."""
    placed = np.empty_like(cells)
    for side, axis in enumerate(axes):
        placed[:, axis] = origin[axis] + signs[side] * cells[:, side]
    return placed


def _pieces(size: Grid) -> list[tuple[Grid, Grid, Grid, Grid]]:
    """How the curve cuts a box of sides (a, b, c): sizes of the pieces, axes they lie along, directions, origins."""
    a, b, c = size
    a1, b1, c1 = (_half(side) for side in size)
    a2, b2, c2 = a - a1, b - b1, c - c1
    if 2 * a > 3 * b and 2 * a > 3 * c:  # long: in two, one behind the other
        return [((a1, b, c), (0, 1, 2), (1, 1, 1), (0, 0, 0)), ((a2, b, c), (0, 1, 2), (1, 1, 1), (a1, 0, 0))]
    if 3 * b > 4 * c:  # flat: up b, along a, down b again, all over the whole of c
        return [
            ((b1, c, a1), (1, 2, 0), (1, 1, 1), (0, 0, 0)),
            ((a, b2, c), (0, 1, 2), (1, 1, 1), (0, b1, 0)),
            ((b1, c, a2), (1, 2, 0), (-1, 1, -1), (a - 1, b1 - 1, 0)),
        ]
    if 3 * c > 4 * b:  # tall: the same with c in the place of b
        return [
            ((c1, a1, b), (2, 0, 1), (1, 1, 1), (0, 0, 0)),
            ((a, b, c2), (0, 1, 2), (1, 1, 1), (0, 0, c1)),
            ((c1, a2, b), (2, 0, 1), (-1, -1, 1), (a - 1, 0, c1 - 1)),
        ]
    return [  # near a cube: in five
        ((b1, c1, a1), (1, 2, 0), (1, 1, 1), (0, 0, 0)),
        ((c, a1, b2), (2, 0, 1), (1, 1, 1), (0, b1, 0)),
        ((a, b1, c2), (0, 1, 2), (1, -1, -1), (0, b1 - 1, c - 1)),
        ((c, a2, b2), (2, 0, 1), (-1, -1, 1), (a - 1, b1, c - 1)),
        ((b1, c1, a2), (1, 2, 0), (-1, 1, -1), (a - 1, b1 - 1, 0)),
    ]


def _half(side: int) -> int:
    """About half of a side; an even number where there is a choice, since a curve through even sides makes no jumps."""
    half = side // 2
    return half + 1 if half % 2 and side > 2 else half


def _tile_permutation(grid: Grid, block_size: int) -> np.ndarray:
    """Compact boxes of block_size tokens, whatever the grid: halve the tokens across a long side until a block is left.

    Every cut leaves whole blocks on its left, so only the last block of the line can be short.
    """
    cells = np.stack(np.unravel_index(np.arange(np.prod(grid)), grid), axis=-1)
    # One key per axis that sorts by this axis first and by the longer of the other two next.
    keys = []
    for axis in range(3):
        longer, shorter = sorted({0, 1, 2} - {axis}, key=lambda other: -grid[other])
        keys.append((cells[:, axis] * grid[longer] + cells[:, longer]) * grid[shorter] + cells[:, shorter])
    parts: list[np.ndarray] = []
    todo = [np.arange(len(cells))]
    while todo:
        tokens = todo.pop()
        if len(tokens) <= block_size:
            parts.append(np.sort(tokens))
            continue
        left, right = _cut(tokens, cells, keys, block_size)
        todo += [right, left]
    return np.concatenate(parts)


def _cut(
    tokens: np.ndarray, cells: np.ndarray, keys: list[np.ndarray], block_size: int
) -> tuple[np.ndarray, np.ndarray]:
    """Cut tokens near the middle across a long side, between two planes of the grid if that can be had."""
    blocks = -(-len(tokens) // block_size)
    extents = np.ptp(cells[tokens], axis=0)
    best: tuple[tuple[bool, int], np.ndarray, np.ndarray] | None = None
    for axis in range(3):
        if 2 * (extents[axis] + 1) <= extents.max() + 1:  # a cut across a short side makes splinters
            continue
        line = tokens[np.argsort(keys[axis][tokens], kind="stable")]
        for left_blocks in {blocks // 2, (blocks + 1) // 2}:
            at = left_blocks * block_size
            clean = bool(cells[line[at - 1], axis] != cells[line[at], axis])
            rank = (clean, int(extents[axis]))
            if best is None or rank > best[0]:
                best = (rank, line[:at], line[at:])
    assert best is not None  # the longest side is never a short one
    return best[1], best[2]
