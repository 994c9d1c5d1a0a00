"""What a session remembers of each object: a bounded bank of embeddings, its last box, how long it has been gone."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

EXTRAPOLATED = 5  # frames for which a lost object is expected to go on as it did


@dataclass
class Tracklet:
    """One object that is being tracked.

    Attributes:
        id: what it is called, as the caller or the session named it.
        box: [4] in units of the sides, where it was last seen; `speed` [4] its change per frame.
        mask: [h, w] in 0..1 at the masks' scale, as last seen.
        score: the last candidate's, 0..1.
        fine, queries: the newest `memory_frames` embeddings, [d] and [q, d] each; `frames` when each was seen.
        missed: frames since it was last matched.
    """

    id: int
    box: torch.Tensor
    mask: torch.Tensor
    score: float
    speed: torch.Tensor
    fine: list[torch.Tensor] = field(default_factory=list)
    queries: list[torch.Tensor] = field(default_factory=list)
    frames: list[int] = field(default_factory=list)
    missed: int = 0

    def expected_box(self) -> torch.Tensor:
        """Where it should be now, at constant velocity and size; a lost one goes on for a while, then waits."""
        middle = (self.speed[:2] + self.speed[2:]) / 2 * min(self.missed + 1, EXTRAPOLATED)
        moved = self.box + torch.cat([middle, middle])
        return moved.clamp(0, 1) if bool((moved[2:] - 0.02 > 0).all() and (moved[:2] + 0.02 < 1).all()) else self.box

    def remember(self, fine: torch.Tensor, queries: torch.Tensor, frame: int, most: int) -> None:
        """Add what it looks like now; the oldest beyond `most` goes."""
        for bank, value in ((self.fine, fine), (self.queries, queries), (self.frames, frame)):
            bank.append(value)  # ty: ignore[invalid-argument-type]
            del bank[:-most]

    def seen(self, box: torch.Tensor, mask: torch.Tensor, score: float) -> None:
        """Move to where it was found."""
        self.speed = (0.6 * (box - self.box) / (self.missed + 1) + 0.4 * self.speed) if self.frames else self.speed
        self.box, self.mask, self.score, self.missed = box, mask, score, 0


def banks(tracklets: list[Tracklet], frame: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """The memories of n tracklets, padded to the longest: fine [n, t, d], queries [n, t, q, d], age and seen [n, t]."""
    longest = max(len(tracklet.frames) for tracklet in tracklets)
    first = tracklets[0]
    fine = first.fine[0].new_zeros(len(tracklets), longest, *first.fine[0].shape)
    queries = fine.new_zeros(len(tracklets), longest, *first.queries[0].shape)
    age = torch.zeros(len(tracklets), longest, dtype=torch.int64, device=fine.device)
    seen = torch.zeros(len(tracklets), longest, dtype=torch.bool, device=fine.device)
    for row, tracklet in enumerate(tracklets):
        count = len(tracklet.frames)
        fine[row, :count] = torch.stack(tracklet.fine)
        queries[row, :count] = torch.stack(tracklet.queries)
        age[row, :count] = torch.tensor([frame - when for when in tracklet.frames], device=fine.device)
        seen[row, :count] = True
    return fine, queries, age, seen
