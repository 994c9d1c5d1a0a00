"""What may be an object of a frame: candidates, and how they compare with each other and with what is tracked."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from .boxes import box_iou, boxes_of_masks
from .decoder import Decoded
from .tracklets import Tracklet

SAME_MASK = 0.7  # IoU from which two candidates are one


@dataclass
class Candidates:
    """What may be an object of this frame: boxes [m, 4], masks [m, h, w] in 0..1, scores [m], and whether new."""

    boxes: torch.Tensor
    masks: torch.Tensor
    scores: torch.Tensor
    detected: torch.Tensor

    def __len__(self) -> int:
        return len(self.boxes)

    def take(self, rows: torch.Tensor) -> Candidates:
        return Candidates(self.boxes[rows], self.masks[rows], self.scores[rows], self.detected[rows])

    @classmethod
    def joined(cls, parts: list[Candidates]) -> Candidates:
        return cls(*(torch.cat([getattr(part, name) for part in parts]) for name in cls.__dataclass_fields__))


def candidates_of(decoded: Decoded, threshold: float, *, every_mask: bool) -> Candidates:
    """The decoder's masks as candidates: those of what is there and whose affinity is above the threshold."""
    count = decoded.masks.shape[1] if every_mask else 1
    logits = decoded.masks[:, :count].flatten(0, 1)
    affinity = decoded.affinity[:, :count].sigmoid().flatten()
    presence = decoded.presence.repeat_interleave(count)
    kept = (presence > 0) & (affinity > threshold) if every_mask else torch.ones_like(presence, dtype=torch.bool)
    kept = kept & ((logits > 0).any(2).any(1) | (not every_mask))
    logits, scores = logits[kept], (affinity * presence.sigmoid())[kept]
    boxes = boxes_of_masks(logits > 0)
    return Candidates(boxes, logits.sigmoid(), scores, torch.zeros(len(boxes), dtype=torch.bool, device=boxes.device))


def mask_overlap(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """IoU of all pairs of masks [m, h, w] and [n, h, w] in 0..1, cut at one half: [m, n]."""
    one, two = ((masks > 0.5).flatten(1).float() for masks in (first, second))
    shared = one @ two.T
    return shared / (one.sum(1)[:, None] + two.sum(1)[None] - shared).clamp_min(1)


def overlap_with_expected(candidates: Candidates, tracklets: list[Tracklet]) -> torch.Tensor:
    """IoU of each candidate's box with where each tracklet should be, [m, n]; 0 for one lost for too long to say."""
    expected = torch.stack([tracklet.expected_box() for tracklet in tracklets])
    known = torch.tensor([tracklet.foreseen for tracklet in tracklets], device=expected.device)
    return box_iou(candidates.boxes, expected) * known


def unlike(candidates: Candidates, known: Candidates) -> torch.Tensor:
    """The rows int64 of the candidates that cover other pixels than all that is known."""
    return (mask_overlap(candidates.masks, known.masks) <= SAME_MASK).all(1).nonzero()[:, 0]


def distinct(candidates: Candidates) -> Candidates:
    """Without those that cover the same pixels as one before them."""
    overlap = mask_overlap(candidates.masks, candidates.masks).tolist()
    total = (candidates.masks > 0.5).flatten(1).sum(1).tolist()
    kept: list[int] = []
    detected = candidates.detected.clone()
    scores = candidates.scores.clone()
    for row in range(len(candidates)):
        if total[row] == 0:
            continue
        same = [other for other in kept if overlap[row][other] > SAME_MASK]
        if same:
            detected[same[0]] |= candidates.detected[row]
            scores[same[0]] = torch.maximum(scores[same[0]], candidates.scores[row])
        else:
            kept.append(row)
    rows = torch.tensor(kept, dtype=torch.int64, device=candidates.boxes.device)
    return Candidates(candidates.boxes, candidates.masks, scores, detected).take(rows)


def alone(masks: torch.Tensor) -> torch.Tensor:
    """Masks [n, h, w] in 0..1 cut at one half to bool, each pixel the one's whose mask is surest of it.

    `FrameInstances.disjoint`, which has the cut masks alone, can only leave it to the better instance.
    """
    numbers = torch.arange(len(masks), device=masks.device)[:, None, None]
    return (masks > 0.5) & (masks.argmax(0)[None] == numbers)
