"""Boxes, masks and regions in plain PyTorch: what torchvision has, without torchvision.

Boxes are float [n, 4], (x0, y0, x1, y1), with the right and bottom edge outside, in units of the image's sides (0..1)
unless said otherwise.
"""

from __future__ import annotations

import torch
from torch.nn import functional


def area(boxes: torch.Tensor) -> torch.Tensor:
    """[..., 4] to [...]; zero for a box turned inside out."""
    return (boxes[..., 2:] - boxes[..., :2]).clamp_min(0).prod(-1)


def box_iou(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """Intersection over union of all pairs: [n, 4] and [m, 4] to [n, m]; zero where both are empty."""
    low = torch.maximum(first[:, None, :2], second[None, :, :2])
    high = torch.minimum(first[:, None, 2:], second[None, :, 2:])
    shared = (high - low).clamp_min(0).prod(-1)
    return shared / (area(first)[:, None] + area(second)[None] - shared).clamp_min(1e-9)


def giou_loss(guess: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """1 - generalised IoU of each pair (arXiv 1902.09630): [n, 4] and [n, 4] to [n], 0..2."""
    low, high = torch.maximum(guess[:, :2], truth[:, :2]), torch.minimum(guess[:, 2:], truth[:, 2:])
    shared = (high - low).clamp_min(0).prod(-1)
    union = area(guess) + area(truth) - shared
    hull = torch.cat([torch.minimum(guess[:, :2], truth[:, :2]), torch.maximum(guess[:, 2:], truth[:, 2:])], -1)
    return 1 - shared / union.clamp_min(1e-9) + (area(hull) - union) / area(hull).clamp_min(1e-9)


def suppress_repeats(boxes: torch.Tensor, scores: torch.Tensor, threshold: float) -> torch.Tensor:
    """Non-maximum suppression: indices int64 [kept] of the best boxes that no better one overlaps by the threshold."""
    overlap = box_iou(boxes, boxes) > threshold
    left = torch.ones(len(boxes), dtype=torch.bool, device=boxes.device)
    kept = []
    for index in scores.argsort(descending=True, stable=True).tolist():
        if left[index]:
            kept.append(index)
            left &= ~overlap[index]
    return torch.tensor(kept, dtype=torch.int64, device=boxes.device)


def boxes_of_masks(masks: torch.Tensor) -> torch.Tensor:
    """Tight boxes of bool [n, h, w], in units of the sides; zeros for an empty mask."""
    height, width = masks.shape[-2:]
    sides = []
    for seen, length in ((masks.any(-2), width), (masks.any(-1), height)):
        place = torch.arange(length, device=masks.device)
        low = torch.where(seen, place, length).amin(-1)
        high = torch.where(seen, place + 1, 0).amax(-1)
        sides.append((torch.minimum(low, high) / length, high / length))
    (x0, x1), (y0, y1) = sides
    return torch.stack([x0, y0, x1, y1], -1)


def region_features(maps: torch.Tensor, boxes: torch.Tensor, source: torch.Tensor, size: int) -> torch.Tensor:
    """RoIAlign with one sample per bin (arXiv 1703.06870), as one bilinear look-up.

    Args:
        maps: [images, c, h, w]. boxes: [n, 4]. source: int64 [n], the image that each box is of.
        size: bins a side.

    Returns:
        [n, c, size, size].
    """
    place = (torch.arange(size, device=maps.device, dtype=maps.dtype) + 0.5) / size
    x = boxes[:, None, 0] + (boxes[:, None, 2] - boxes[:, None, 0]) * place
    y = boxes[:, None, 1] + (boxes[:, None, 3] - boxes[:, None, 1]) * place
    grid = torch.stack([x[:, None, :].expand(-1, size, -1), y[:, :, None].expand(-1, -1, size)], -1)
    return functional.grid_sample(maps[source], 2 * grid.to(maps.dtype) - 1, align_corners=False, padding_mode="border")


def widened(boxes: torch.Tensor, factor: float) -> torch.Tensor:
    """Boxes [n, 4] with sides `factor` times as long about the same middle, cut at the image's border."""
    middle, half = (boxes[:, :2] + boxes[:, 2:]) / 2, (boxes[:, 2:] - boxes[:, :2]) * factor / 2
    return torch.cat([middle - half, middle + half], 1).clamp(0, 1)


def inside_boxes(boxes: torch.Tensor, factor: float, height: int, width: int) -> torch.Tensor:
    """One in the cells whose middle is inside of each box widened by the factor, zero elsewhere: [n, height, width]."""
    wide = widened(boxes, factor)[:, :, None]
    x = (torch.arange(width, device=boxes.device) + 0.5) / width
    y = (torch.arange(height, device=boxes.device) + 0.5) / height
    across, down = (x > wide[:, 0]) & (x < wide[:, 2]), (y > wide[:, 1]) & (y < wide[:, 3])
    return (down[:, :, None] & across[:, None]).to(boxes.dtype)


def relative_coordinates(boxes: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Each pixel's place in each box: [n, 4, h, w], (x - cx) / w and (y - cy) / h, within -4..4, and their squares."""
    x = (torch.arange(width, device=boxes.device, dtype=boxes.dtype) + 0.5) / width
    y = (torch.arange(height, device=boxes.device, dtype=boxes.dtype) + 0.5) / height
    centre, extent = (boxes[:, :2] + boxes[:, 2:]) / 2, (boxes[:, 2:] - boxes[:, :2]).clamp_min(1e-3)
    across = ((x - centre[:, :1]) / extent[:, :1]).clamp(-4, 4)[:, None, :].expand(-1, height, -1)
    down = ((y - centre[:, 1:]) / extent[:, 1:]).clamp(-4, 4)[:, :, None].expand(-1, -1, width)
    return torch.stack([across, down, across.square(), down.square()], 1)
