"""What a session remembers of each object: a bounded bank of embeddings, its last box, how long it has been gone."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

EXTRAPOLATED = 5  # frames for which a lost object is expected to go on as it did
PLACE_GAIN, SPEED_GAIN = 0.4, 0.1  # what a sighting counts, in the long run, for where an object is and how it moves


@dataclass
class Tracklet:
    """One object that is being tracked.

    Attributes:
        id: what it is called, as the caller or the session named it.
        box: [4] in units of the sides, where it was last seen.
        middle, speed: [2] and [2], its middle as filtered over time, and the change of that per frame.
        mask: [h, w] in 0..1 at the masks' scale, as last seen.
        score: the last candidate's, 0..1.
        fine, queries: the newest `memory_frames` embeddings, [d] and [q, d] each; `frames` when each was seen.
        missed: frames since it was last matched.
        glimpse: the box [4] of the mask that was made out in this frame, where it was not matched.
    """

    id: int
    box: torch.Tensor
    mask: torch.Tensor
    score: float
    middle: torch.Tensor = field(init=False)
    speed: torch.Tensor = field(init=False)
    fine: list[torch.Tensor] = field(default_factory=list)
    queries: list[torch.Tensor] = field(default_factory=list)
    frames: list[int] = field(default_factory=list)
    missed: int = 0
    glimpse: torch.Tensor | None = None
    sightings: int = 1

    def __post_init__(self) -> None:
        self.middle = middle_of(self.box)
        self.speed = torch.zeros_like(self.middle)

    @property
    def foreseen(self) -> bool:
        """Whether it was seen lately enough to say where it should be now."""
        return self.missed < EXTRAPOLATED

    @property
    def visible(self) -> bool:
        """Whether it was found or made out in this frame."""
        return self.missed == 0 or self.glimpse is not None

    def glimpsed(self, box: torch.Tensor, mask: torch.Tensor, score: float) -> None:
        """Note that it was made out in this frame; where it is going and how it looks stay as they were."""
        self.glimpse, self.mask, self.score = box, mask, score

    def expected_box(self) -> torch.Tensor:
        """Where it should be now, at constant velocity and size; a lost one goes on for a while, then waits."""
        middle = self.middle + self.speed * min(self.missed + 1, EXTRAPOLATED)
        half = (self.box[2:] - self.box[:2]) / 2
        moved = torch.cat([middle - half, middle + half])
        return moved.clamp(0, 1) if bool((moved[2:] - 0.02 > 0).all() and (moved[:2] + 0.02 < 1).all()) else self.box

    def remember(self, fine: torch.Tensor, queries: torch.Tensor, frame: int, most: int) -> None:
        """Add what it looks like now; the oldest beyond `most` goes."""
        for bank, value in ((self.fine, fine), (self.queries, queries), (self.frames, frame)):
            bank.append(value)  # ty: ignore[invalid-argument-type]
            del bank[:-most]

    def seen(self, box: torch.Tensor, mask: torch.Tensor, score: float) -> None:
        """Move to where it was found.

        Where it is going is filtered, by gains that fall as an alpha-beta filter's over a growing memory: objects have
        inertia, and boxes jump where objects touch.
        """
        self.sightings += 1
        count, steps = self.sightings, self.missed + 1
        expected = self.middle + self.speed * steps
        error = middle_of(box) - expected
        self.middle = expected + max(2 * (2 * count - 1) / (count * (count + 1)), PLACE_GAIN) * error
        self.speed = self.speed + max(6 / (count * (count + 1)), SPEED_GAIN) * error / steps
        self.box, self.mask, self.score, self.missed = box, mask, score, 0


def middle_of(box: torch.Tensor) -> torch.Tensor:
    """The middle [2] of a box [4]."""
    return (box[:2] + box[2:]) / 2


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
