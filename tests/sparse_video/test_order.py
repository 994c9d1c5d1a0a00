"""Orders of tokens: every token once, blocks that are compact on the grid, and which of them touch."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from plugins.sparse_video.errors import SparseVideoInputError
from plugins.sparse_video.order import sequence_order, token_order

ORDERS = ("gilbert", "tile", "linear")
sides = st.integers(1, 9)
grids = st.tuples(sides, sides, sides)


def cells(grid, order, block_size=8):
    """Grid coordinates of the tokens in line, int64 [tokens, 3]."""
    permutation = token_order(grid, order, block_size).permutation
    return torch.stack(torch.unravel_index(permutation, grid), -1)


def extents(grid, order, block_size=128):
    """Sides of the bounding box of each block's tokens, int64 [blocks, 3]."""
    blocks = cells(grid, order, block_size).split(block_size)
    return torch.stack([block.amax(0) - block.amin(0) + 1 for block in blocks])


@given(grids, st.sampled_from(ORDERS), st.integers(1, 20))
def test_every_token_has_one_place_and_comes_back_from_it(grid, order, block_size):
    result = token_order(grid, order, block_size)
    tokens = torch.arange(int(np.prod(grid)))
    assert torch.equal(result.permutation.sort().values, tokens)
    assert torch.equal(result.permutation[result.inverse], tokens)
    assert torch.equal(result.inverse[result.permutation], tokens)
    assert result.permutation.dtype == result.inverse.dtype == torch.int64


@given(grids)
def test_the_curve_only_ever_steps_to_a_touching_cell(grid):
    steps = cells(grid, "gilbert").diff(dim=0).abs()
    assert (steps <= 1).all()
    if all(side % 2 == 0 for side in grid):
        assert (steps.sum(-1) == 1).all()


def test_the_curve_runs_along_the_longest_side_and_columns_come_first_among_equals():
    assert cells((4, 6, 12), "gilbert")[-1].tolist() == [0, 0, 11]
    assert cells((12, 6, 4), "gilbert")[-1].tolist() == [11, 0, 0]
    assert cells((8, 8, 8), "gilbert")[-1].tolist() == [0, 0, 7]


@pytest.mark.parametrize("grid", [(21, 45, 80), (33, 45, 80), (31, 22, 40), (11, 48, 80)])
@pytest.mark.parametrize("order", ["gilbert", "tile"])
def test_blocks_are_compact_clumps_on_grids_of_any_size(grid, order):
    sides = extents(grid, order)
    # 128 tokens fill 128 cells and sides of 5 + 5 + 5 at best; rows of a frame have sides of 47 to 85 in sum here.
    assert sides.prod(1).double().mean() < 1.75 * 128
    assert sides.sum(1).double().mean() < 19
    assert sides.max() <= 12


@pytest.mark.parametrize("grid", [(16, 16, 16), (8, 16, 16), (4, 32, 64), (8, 12, 16)])
def test_tiles_are_exact_boxes_where_the_grid_divides(grid):
    assert (extents(grid, "tile").prod(1) == 128).all()


@pytest.mark.parametrize(
    ("grid", "blocks"), [((21, 45, 80), 591), ((32, 45, 80), 900), ((31, 22, 40), 214), ((11, 48, 80), 330)]
)
def test_block_counts_and_density_of_neighbours_at_the_sizes_of_public_models(grid, blocks):
    adjacency = token_order(grid, "gilbert", 128).adjacency
    assert adjacency.shape == (blocks, blocks)
    assert adjacency.sum(1).double().mean() < 20


def test_the_neighbours_of_the_curve_are_as_many_as_in_the_papers_code():
    """17.3 neighbours per block at 81 frames of 720p, at most 29."""
    adjacency = token_order((21, 45, 80), "gilbert", 128).adjacency
    assert adjacency.sum(1).double().mean() == pytest.approx(17.3, abs=0.5)
    assert adjacency.sum(1).max() <= 32


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("grid", [(3, 5, 7), (1, 4, 9), (20, 1, 1), (1, 1, 20)])
def test_adjacency_equals_brute_force(grid, order):
    result = token_order(grid, order, 8)
    expected = torch.zeros_like(result.adjacency)
    places = (result.inverse // 8).reshape(grid)
    for cell in itertools.product(*map(range, grid)):
        for offset in itertools.product((-1, 0, 1), repeat=3):
            other = tuple(c + o for c, o in zip(cell, offset, strict=True))
            if all(0 <= c < side for c, side in zip(other, grid, strict=True)):
                expected[places[cell], places[other]] = True
    assert torch.equal(result.adjacency, expected)


@given(grids, st.sampled_from(ORDERS), st.integers(1, 20))
def test_adjacency_is_symmetric_and_every_block_touches_itself(grid, order, block_size):
    adjacency = token_order(grid, order, block_size).adjacency
    assert torch.equal(adjacency, adjacency.T)
    assert adjacency.diagonal().all()


def test_without_a_grid_a_block_touches_the_one_before_and_the_one_after():
    order = sequence_order(70, 16)
    assert order.is_identity
    assert order.adjacency.int().tolist() == [
        [1, 1, 0, 0, 0],
        [1, 1, 1, 0, 0],
        [0, 1, 1, 1, 0],
        [0, 0, 1, 1, 1],
        [0, 0, 0, 1, 1],
    ]


def test_linear_order_leaves_the_tokens_and_still_knows_the_grid():
    order = token_order((4, 4, 8), "linear", 32)
    assert order.is_identity
    assert torch.equal(order.permutation, torch.arange(128))
    assert order.adjacency.int().tolist() == [[1, 1, 0, 0], [1, 1, 1, 0], [0, 1, 1, 1], [0, 0, 1, 1]]


def test_an_order_is_built_once():
    assert token_order((6, 7, 8), "gilbert", 16) is token_order((6, 7, 8), "gilbert", 16)


@pytest.mark.parametrize(("grid", "order"), [((0, 4, 4), "gilbert"), ((4, 4), "gilbert"), ((4, 4, 4), "hilbert")])
def test_a_grid_without_tokens_and_an_unknown_order_are_refused(grid, order):
    with pytest.raises(SparseVideoInputError, match="it is"):
        token_order(grid, order, 8)
