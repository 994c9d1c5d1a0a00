"""The losses of masks, presence and association; encoder.py has those of the experts, detection.py of detection."""

from __future__ import annotations

import torch
from torch.nn import functional

from .decoder import Decoded
from .matching import assignment

FOREGROUND = 5.0  # weight of an object's pixels: most of a frame is background
OTHER_MASKS = 0.3  # weight of the best of the further masks beside the first


def mask_error(logits: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """5 BCE + 2 dice of each mask: logits [..., h, w] and truth 0..1 of the same shape to [...]."""
    cross = functional.binary_cross_entropy_with_logits(logits, truth, reduction="none")
    weight = 1 + (FOREGROUND - 1) * truth
    chance = logits.sigmoid()
    shared, total = (chance * truth).sum((-2, -1)), (chance + truth).sum((-2, -1))
    return 5 * (weight * cross).mean((-2, -1)) + 2 * (1 - (2 * shared + 1) / (total + 1))


def soft_iou(logits: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """IoU of the masks where they are above one half: [..., h, w] twice to [...]; one where both are empty."""
    guess, true = logits > 0, truth > 0.5
    union = (guess | true).sum((-2, -1))
    return torch.where(union > 0, (guess & true).sum((-2, -1)) / union.clamp_min(1), torch.ones_like(union).float())


def decoder_losses(found: Decoded, truth: torch.Tensor, visible: torch.Tensor) -> dict[str, torch.Tensor]:
    """Of n prompts: masks, affinity (mean absolute error), presence (cross entropy).

    Args:
        truth: [n, h, w] in 0..1. visible: bool [n]; what is not visible has presence to learn, and nothing else.
    """
    presence = functional.binary_cross_entropy_with_logits(found.presence, visible.to(found.presence.dtype))
    if not visible.any():
        nothing = found.masks.sum() * 0
        return {"mask": nothing, "affinity": nothing, "presence": presence}
    masks, truth = found.masks[visible], truth[visible][:, None].expand(-1, found.masks.shape[1], -1, -1)
    errors = mask_error(masks, truth)
    mask = errors[:, 0].mean()
    if errors.shape[1] > 1:
        mask = mask + OTHER_MASKS * errors[:, 1:].amin(1).mean()
    affinity = (found.affinity[visible].sigmoid() - soft_iou(masks.detach(), truth)).abs().mean()
    return {"mask": mask, "affinity": affinity, "presence": presence}


def association_loss(
    candidates: torch.Tensor,
    tracklets: torch.Tensor,
    same_clip: torch.Tensor,
    match: torch.Tensor,
    scale: torch.Tensor,
    dustbin: torch.Tensor,
) -> torch.Tensor:
    """Cross entropy of the assignment in both directions, newcomers and departed going to the dustbin (section 3.5).

    Args:
        candidates, tracklets: [m, d] and [n, d], normalised here.
        same_clip: bool [m, n]. match: bool [m, n], at most one a row and a column.
        scale, dustbin: as of `matching.affinity`.
    """
    cosine = functional.normalize(candidates, dim=-1) @ functional.normalize(tracklets, dim=-1).T
    across, down = assignment(scale * cosine, scale * dustbin, same_clip)
    return (surprise(across, match) + surprise(down.T, match.T)) / 2


def surprise(chance: torch.Tensor, match: torch.Tensor) -> torch.Tensor:
    """The mean over rows of -log of the chance [m, n] of the row's match, or of none where it has no match."""
    right = torch.where(match.any(1), (chance * match).sum(1), 1 - chance.sum(1))
    return -right.clamp_min(1e-6).log().mean()
