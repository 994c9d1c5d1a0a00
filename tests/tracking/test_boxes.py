"""Boxes, masks and regions without torchvision."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from plugins.tracking.boxes import (
    area,
    box_iou,
    boxes_of_masks,
    giou_loss,
    inside_boxes,
    region_features,
    relative_coordinates,
    suppress_repeats,
    widened,
)


def box(*values: float) -> torch.Tensor:
    return torch.tensor([values], dtype=torch.float32)


def test_iou_of_boxes_that_share_half():
    torch.testing.assert_close(box_iou(box(0, 0, 2, 1), box(1, 0, 3, 1)), torch.tensor([[1 / 3]]))
    assert box_iou(box(0, 0, 1, 1), box(1, 1, 2, 2)).item() == 0
    assert box_iou(box(0.5, 0.5, 0.5, 0.5), box(0.5, 0.5, 0.5, 0.5)).item() == 0
    assert area(box(1, 1, 0, 0)).item() == 0


def test_giou_is_zero_for_the_same_box_and_grows_with_the_gap():
    same, near, far = (giou_loss(box(0, 0, 1, 1), box(x, 0, x + 1, 1)).item() for x in (0, 2, 5))
    assert same == pytest.approx(0)
    assert near == pytest.approx(1 + 1 / 3)
    assert far > near


def test_repeats_go_and_the_best_stays():
    boxes = torch.cat([box(0, 0, 1, 1), box(0, 0, 1, 0.9), box(2, 2, 3, 3)])
    assert suppress_repeats(boxes, torch.tensor([0.5, 0.9, 0.7]), 0.7).tolist() == [1, 2]
    assert suppress_repeats(boxes, torch.tensor([0.5, 0.9, 0.7]), 0.95).tolist() == [1, 2, 0]
    assert suppress_repeats(boxes[:0], torch.zeros(0), 0.5).tolist() == []


@given(st.integers(0, 9), st.integers(0, 9), st.integers(1, 6), st.integers(1, 6))
def test_the_box_of_a_mask_is_tight_and_gives_the_mask_back(top, left, height, width):
    mask = torch.zeros(1, 16, 20, dtype=torch.bool)
    mask[0, top : top + height, left : left + width] = True
    found = boxes_of_masks(mask)[0] * torch.tensor([20, 16, 20, 16])
    torch.testing.assert_close(found, torch.tensor([left, top, left + width, top + height]).float())


def test_an_empty_mask_has_an_empty_box():
    assert boxes_of_masks(torch.zeros(1, 4, 4, dtype=torch.bool)).tolist() == [[0, 0, 0, 0]]


def test_a_region_of_a_ramp_is_read_exactly():
    height, width = 8, 10
    x = (torch.arange(width) + 0.5).expand(height, -1)
    y = (torch.arange(height) + 0.5)[:, None].expand(-1, width)
    maps = torch.stack([torch.stack([x, y]), torch.stack([-x, -y])])
    boxes = torch.tensor([[0.2, 0.25, 0.6, 0.75], [0.1, 0.1, 0.5, 0.9]])
    found = region_features(maps, boxes, torch.tensor([0, 1]), 4)
    for row, sign in enumerate((1, -1)):
        x0, y0, x1, y1 = (boxes[row] * torch.tensor([width, height, width, height])).tolist()
        place = (torch.arange(4) + 0.5) / 4
        torch.testing.assert_close(found[row, 0], sign * (x0 + (x1 - x0) * place).expand(4, -1), atol=1e-4, rtol=0)
        torch.testing.assert_close(found[row, 1].T, sign * (y0 + (y1 - y0) * place).expand(4, -1), atol=1e-4, rtol=0)


def test_coordinates_are_relative_to_the_box():
    found = relative_coordinates(box(0.25, 0.5, 0.75, 1.0), 4, 8)[0]
    torch.testing.assert_close(found[0, 0], torch.linspace(-0.875, 0.875, 8))
    torch.testing.assert_close(found[1, :, 0], torch.tensor([-1.25, -0.75, -0.25, 0.25]))
    torch.testing.assert_close(found[2], found[0].square())


def test_a_widened_box_keeps_its_middle_and_stays_in_the_image():
    boxes = torch.tensor([[0.4, 0.4, 0.6, 0.5], [0.0, 0.8, 0.2, 1.0]])
    expected = torch.tensor([[0.35, 0.375, 0.65, 0.525], [0.0, 0.75, 0.25, 1.0]])
    torch.testing.assert_close(widened(boxes, 1.5), expected)


def test_the_cells_inside_a_box_are_those_whose_middle_is():
    cells = inside_boxes(torch.tensor([[0.25, 0.5, 0.5, 1.0]]), 1.0, 4, 8)
    assert cells.shape == (1, 4, 8)
    assert cells[0].nonzero().tolist() == [[2, 2], [2, 3], [3, 2], [3, 3]]
    assert inside_boxes(torch.tensor([[0.25, 0.5, 0.5, 1.0]]), 2.0, 4, 8).sum() == 4 * 3
