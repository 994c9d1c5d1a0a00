"""The detection head: which instances there are in a frame, without being asked for any (SATA, section 3.3)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional

from .boxes import giou_loss, suppress_repeats
from .configuration_sata import SataConfig
from .memory import from_zero
from .neck import GROUPS

HEAD_WIDTH = 64
EXPECTED_REACH = 5  # cells
CELLS = 5  # that answer for a box


@dataclass(frozen=True)
class Detections:
    """Of one frame: boxes [n, 4] in units of the sides and scores [n] in 0..1, the best first."""

    boxes: torch.Tensor
    scores: torch.Tensor


class DetectionHead(nn.Module):
    """Centres and boxes (arXiv 1904.07850) at half the frame's size: heat map logits [B, 1, h, w], sides [B, 4, h, w].

    `forward(finest [B, d, h / 2, w / 2], detail [B, c, h, w], expected [B, h, w])`: the fused map says what is there,
    the stems' detail where one object ends and the next begins; at the fused map's own scale two objects that touch
    have one middle. `expected` is the heat map of where tracked objects should be by now (arXiv 2004.01177), None where
    nothing is known. The sides are the distances from the cell's middle to the left, upper, right and lower edge, in
    units of the image's sides.
    """

    def __init__(self, config: SataConfig, detail_width: int) -> None:
        super().__init__()
        self.config = config
        self.context = nn.Conv2d(config.hidden_size, HEAD_WIDTH, 3, padding=1)
        self.detail = nn.Conv2d(detail_width, HEAD_WIDTH, 3, padding=1, bias=False)
        self.expected = from_zero(nn.Conv2d(1, HEAD_WIDTH, EXPECTED_REACH, padding=EXPECTED_REACH // 2, bias=False))
        self.joined = nn.Sequential(nn.GroupNorm(GROUPS, HEAD_WIDTH), nn.GELU())
        self.around = nn.Sequential(
            nn.Conv2d(HEAD_WIDTH, HEAD_WIDTH, 3, padding=2, dilation=2), nn.GroupNorm(GROUPS, HEAD_WIDTH), nn.GELU()
        )
        self.middle = nn.Conv2d(HEAD_WIDTH, 1, 1)
        self.edges = nn.Conv2d(HEAD_WIDTH, 4, 1)

    def forward(
        self, finest: torch.Tensor, detail: torch.Tensor, expected: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        context = functional.interpolate(self.context(finest), detail.shape[2:], mode="bilinear", align_corners=False)
        joined = self.joined(context + self.detail(detail))
        if expected is not None:
            joined = joined + self.expected(expected[:, None])
        cells = joined + self.around(joined)
        return self.middle(cells), self.edges(cells).exp()

    def read(self, heat: torch.Tensor, sides: torch.Tensor, most: int = 50) -> list[Detections]:
        """Detections above `config.keep_threshold`, at most `most` a frame, repeats suppressed."""
        chance = heat.sigmoid()
        peaks = chance * (functional.max_pool2d(chance, 3, 1, 1) == chance)
        boxes = cell_boxes(sides)
        found = []
        for scores, own in zip(peaks.flatten(1), boxes.flatten(2).transpose(1, 2), strict=True):
            best = scores.topk(min(most, len(scores)))
            index = best.indices[best.values > self.config.keep_threshold]
            kept = index[suppress_repeats(own[index], scores[index], self.config.nms_threshold)]
            found.append(Detections(own[kept].clamp(0, 1), scores[kept]))
        return found


def cell_boxes(sides: torch.Tensor) -> torch.Tensor:
    """Boxes [B, 4, h, w] from the distances to their edges."""
    height, width = sides.shape[2:]
    x = ((torch.arange(width, device=sides.device) + 0.5) / width)[None, None].expand(len(sides), height, -1)
    y = ((torch.arange(height, device=sides.device) + 0.5) / height)[None, :, None].expand(len(sides), -1, width)
    return torch.stack([x - sides[:, 0], y - sides[:, 1], x + sides[:, 2], y + sides[:, 3]], 1)


def heat_target(boxes: torch.Tensor, height: int, width: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The heat map [h, w] of a frame's boxes [n, 4], a bump of a sixth of the box around each middle; and int64 [n, 5],
    the cells that answer for each box: the one of its middle and the four beside it."""
    centre = (boxes[:, :2] + boxes[:, 2:]) / 2
    column = (centre[:, 0] * width).long().clamp(0, width - 1)
    row = (centre[:, 1] * height).long().clamp(0, height - 1)
    spread = ((boxes[:, 2:] - boxes[:, :2]) / 6).clamp_min(0.5 / max(height, width))
    x = (torch.arange(width, device=boxes.device) - column[:, None]) / width
    y = (torch.arange(height, device=boxes.device) - row[:, None]) / height
    bump = (
        torch.exp(-0.5 * (x / spread[:, :1]).square())[:, None, :]
        * torch.exp(-0.5 * (y / spread[:, 1:]).square())[:, :, None]
    )
    heat = bump.amax(0) if len(boxes) else boxes.new_zeros(height, width)
    beside = torch.tensor([[0, 0], [0, -1], [0, 1], [-1, 0], [1, 0]], device=boxes.device)
    rows = (row[:, None] + beside[:, 0]).clamp(0, height - 1)
    columns = (column[:, None] + beside[:, 1]).clamp(0, width - 1)
    return heat, rows * width + columns


def expected_heat(boxes: list[torch.Tensor], height: int, width: int) -> torch.Tensor:
    """Where the boxes [n, 4] of each of B frames are, as the head is told of what is expected: [B, height, width]."""
    return torch.stack([heat_target(own, height, width)[0] for own in boxes])


def focal_loss(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Penalty-reduced focal loss of a heat map (arXiv 1904.07850, eq. 1), per peak: [B, h, w] twice to a number."""
    chance = logits.sigmoid().clamp(1e-4, 1 - 1e-4)
    peak = target >= 1
    gain = torch.where(
        peak, (1 - chance).square() * chance.log(), (1 - target) ** 4 * chance.square() * (1 - chance).log()
    )
    return -gain.sum() / peak.sum().clamp_min(1)


def detection_loss(
    heat: torch.Tensor, sides: torch.Tensor, truth: list[torch.Tensor]
) -> tuple[torch.Tensor, torch.Tensor]:
    """The heat map's loss and the boxes' (5 L1 + 2 GIoU); `truth` holds each frame's boxes [n, 4]."""
    height, width = heat.shape[2:]
    targets = [heat_target(boxes, height, width) for boxes in truth]
    heat_loss = focal_loss(heat[:, 0], torch.stack([target for target, _ in targets]))
    boxes = cell_boxes(sides).flatten(2).transpose(1, 2)
    guess = torch.cat([own[cells.flatten()] for own, (_, cells) in zip(boxes, targets, strict=True)])
    true = torch.cat(truth).repeat_interleave(CELLS, 0)
    if not len(true):
        return heat_loss, sides.sum() * 0
    return heat_loss, 5 * (guess - true).abs().mean() + 2 * giou_loss(guess, true).mean()
