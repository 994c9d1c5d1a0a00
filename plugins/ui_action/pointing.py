"""Training-only heads that teach a small model where things are; the checkpoint is saved without them.

Rotary positions say how far apart two tokens are, never where one is, and from the answer's digits alone a small model
does not learn to point. So each visual token is also asked for its row, its column, what it shows, and whether that is
what the task means.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from .patches import FACTOR

Box = tuple[float, float, float, float]
MOST_ROWS = 16
POSITION_WEIGHT, KIND_WEIGHT, TARGET_WEIGHT = 0.5, 1.0, 1.0
TARGET_ODDS = 8.0  # a target covers few tokens: so much more each of them counts
IGNORED = -100


@dataclass(frozen=True)
class Layout:
    """What a screen shows, for the heads.

    Attributes:
        kinds: what each object is, as a number from 1 on; 0 is left to where there is none.
        boxes: their places, (x1, y1, x2, y2) in pixels.
        target: the place that the task means; None where it means none.
        past: an earlier screen, on which the target is not asked for.
    """

    kinds: tuple[int, ...] = ()
    boxes: tuple[Box, ...] = ()
    target: Box | None = None
    past: bool = False


@dataclass(frozen=True)
class Labels:
    """For each visual token of one image, or of one pair of frames of a clip, row by row.

    Attributes:
        rows, columns, kinds: int64 [tokens].
        target: float32 [tokens], 1 where the target is. `IGNORED` here and in kinds is not asked for.
    """

    rows: np.ndarray
    columns: np.ndarray
    kinds: np.ndarray
    target: np.ndarray


def labels_of(layout: Layout | None, size: tuple[int, int]) -> Labels:
    """What the heads should answer on a screen of (width, height) pixels, multiples of 28; nothing but places for None.

    A token shows the object that covers most of it; it is the target's if the target covers a quarter of it.
    """
    columns, rows = size[0] // FACTOR, size[1] // FACTOR
    row, column = np.divmod(np.arange(rows * columns), columns)
    if layout is None:
        nothing = np.full(rows * columns, IGNORED)
        return Labels(row, column, nothing, nothing.astype(np.float32))
    covered = np.stack([np.zeros(rows * columns), *(_cover(box, rows, columns) for box in layout.boxes)])
    covered[0] = 0.1  # an object that only touches a token is not what it shows
    kinds = np.array([0, *layout.kinds])[covered.argmax(0)]
    target = np.full(rows * columns, IGNORED if layout.past else 0, np.float32)
    if layout.target is not None:
        share = _cover(layout.target, rows, columns)
        target = ((share > 0.25) | (share == share.max())).astype(np.float32)
    return Labels(row, column, kinds, target)


def _cover(box: Box, rows: int, columns: int) -> np.ndarray:
    """Which share of each token's square a box covers, [rows * columns]."""
    x1, y1, x2, y2 = (value / FACTOR for value in box)
    across = np.clip(np.minimum(np.arange(columns) + 1, x2) - np.maximum(np.arange(columns), x1), 0, None)
    down = np.clip(np.minimum(np.arange(rows) + 1, y2) - np.maximum(np.arange(rows), y1), 0, None)
    return np.outer(down, across).ravel()


class PointingHeads(nn.Module):
    """Linear heads on the visual tokens' hidden states: places and target before the last layer, kinds after it.

    Args:
        width: of the hidden states.
        kinds: how many kinds of object there are, "none" among them.
    """

    def __init__(self, width: int, kinds: int) -> None:
        super().__init__()
        self.row, self.column = nn.Linear(width, MOST_ROWS), nn.Linear(width, MOST_ROWS)
        self.kind, self.target = nn.Linear(width, kinds), nn.Linear(width, 1)

    def loss(self, before: torch.Tensor, last: torch.Tensor, labels: Sequence[Labels]) -> dict[str, torch.Tensor]:
        """Weighted losses by name.

        Args:
            before, last: [visual tokens, width], of all screens of a batch in their order.
            labels: of the same screens.
        """
        rows, columns, kinds, target = (
            torch.from_numpy(np.concatenate([getattr(each, name) for each in labels])).to(before.device)
            for name in ("rows", "columns", "kinds", "target")
        )
        place = nn.functional.cross_entropy(self.row(before).float(), rows)
        place = place + nn.functional.cross_entropy(self.column(before).float(), columns)
        losses = {"place": POSITION_WEIGHT * place}
        if bool((known := kinds != IGNORED).any()):
            losses["kind"] = KIND_WEIGHT * nn.functional.cross_entropy(self.kind(last[known]).float(), kinds[known])
        if bool((known := target != IGNORED).any()):
            losses["target"] = TARGET_WEIGHT * nn.functional.binary_cross_entropy_with_logits(
                self.target(before[known]).float()[:, 0],
                target[known].float(),
                pos_weight=torch.tensor(TARGET_ODDS, device=before.device),
            )
        return losses
