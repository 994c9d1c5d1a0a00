"""Scores of tracking: counts over the frames of a clip, which add up over clips, and the figures that they give."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import reduce
from operator import add
from typing import Any, ClassVar, Self, TypeVar, overload

import numpy as np

from .errors import TrackingError

ALPHAS = np.arange(0.05, 0.99, 0.05)


@dataclass(frozen=True)
class Counts:
    """Base of the scores: sums over frames, which add up over clips."""

    reported: ClassVar[tuple[str, ...]] = ()

    def __add__(self, other: Self) -> Self:
        names = [field.name for field in fields(self)]
        return type(self)(*(getattr(self, name) + getattr(other, name) for name in names))

    def summary(self) -> dict[str, float]:
        """The main figures, JSON-able."""
        return {name: float(getattr(self, name)) for name in self.reported}


@dataclass(frozen=True, eq=False)
class HotaScore(Counts):
    """HOTA and its parts at the 19 localisation thresholds `ALPHAS`.

    Attributes:
        true_positives, misses, false_positives: int64 [19].
        associated: float64 [19], sum of the association accuracy over true positives.
        located: float64 [19], sum of the similarity over true positives.
    """

    true_positives: np.ndarray
    misses: np.ndarray
    false_positives: np.ndarray
    associated: np.ndarray
    located: np.ndarray

    reported: ClassVar[tuple[str, ...]] = ("hota", "det_a", "ass_a", "loc_a")

    @property
    def det_a_per_alpha(self) -> np.ndarray:
        """Detection accuracy, TP / (TP + FN + FP), float64 [19]."""
        return self.true_positives / np.maximum(1, self.true_positives + self.misses + self.false_positives)

    @property
    def ass_a_per_alpha(self) -> np.ndarray:
        """Association accuracy, mean over true positives of TPA / (TPA + FNA + FPA), float64 [19]."""
        return self.associated / np.maximum(1, self.true_positives)

    @property
    def loc_a_per_alpha(self) -> np.ndarray:
        """Localisation accuracy, mean similarity of true positives, float64 [19]; 1 where there are none."""
        return np.where(self.true_positives > 0, self.located / np.maximum(1, self.true_positives), 1.0)

    @property
    def hota_per_alpha(self) -> np.ndarray:
        """sqrt(DetA AssA), float64 [19]."""
        return np.sqrt(self.det_a_per_alpha * self.ass_a_per_alpha)

    @property
    def hota(self) -> float:
        """Higher order tracking accuracy, mean over the thresholds; so are the three that follow."""
        return float(self.hota_per_alpha.mean())

    @property
    def det_a(self) -> float:
        return float(self.det_a_per_alpha.mean())

    @property
    def ass_a(self) -> float:
        return float(self.ass_a_per_alpha.mean())

    @property
    def loc_a(self) -> float:
        return float(self.loc_a_per_alpha.mean())


@dataclass(frozen=True)
class ClearScores(Counts):
    """CLEAR MOT.

    Attributes:
        true_positives, misses, false_positives: instances.
        id_switches: how often a true object is matched with another predicted one than when it was last matched.
        located: sum of the similarity over true positives.
        mostly_tracked, partially_tracked, mostly_lost: true objects matched in over 80 %, in 20 % to 80 %, in under
            20 % of their frames.
        fragmentations: how often the match of a true object breaks off and starts again.
    """

    true_positives: int
    misses: int
    false_positives: int
    id_switches: int
    located: float
    mostly_tracked: int
    partially_tracked: int
    mostly_lost: int
    fragmentations: int

    reported: ClassVar[tuple[str, ...]] = ("mota", "motp", "recall", "precision")

    @property
    def mota(self) -> float:
        """1 - (FN + FP + IDSW) / (TP + FN); below zero when there are more mistakes than true instances.

        Minus the mistakes where there are no true instances.
        """
        right = self.true_positives - self.false_positives - self.id_switches
        return right / max(1, self.true_positives + self.misses)

    @property
    def soft_mota(self) -> float:
        """MOTA with every true positive counted by its similarity."""
        right = self.located - self.false_positives - self.id_switches
        return right / max(1, self.true_positives + self.misses)

    @property
    def motp(self) -> float:
        """Mean similarity of true positives; 0 where there are none."""
        return self.located / max(1, self.true_positives)

    @property
    def recall(self) -> float:
        return self.true_positives / max(1, self.true_positives + self.misses)

    @property
    def precision(self) -> float:
        return self.true_positives / max(1, self.true_positives + self.false_positives)


@dataclass(frozen=True)
class MotsScores(ClearScores):
    """CLEAR MOT of masks, under the names of MOTS (P. Voigtlaender et al., arXiv 1902.03604, section 5)."""

    reported: ClassVar[tuple[str, ...]] = ("smotsa", "motsa", "motsp")

    @property
    def smotsa(self) -> float:
        return self.soft_mota

    @property
    def motsa(self) -> float:
        return self.mota

    @property
    def motsp(self) -> float:
        return self.motp


@dataclass(frozen=True)
class IdentityScores(Counts):
    """Instances under the one-to-one pairing of whole tracks that leaves the fewest wrong (E. Ristani et al., 2016)."""

    true_positives: int
    misses: int
    false_positives: int

    reported: ClassVar[tuple[str, ...]] = ("id_f1", "id_precision", "id_recall")

    @property
    def id_f1(self) -> float:
        return self.true_positives / max(1.0, self.true_positives + (self.misses + self.false_positives) / 2)

    @property
    def id_precision(self) -> float:
        return self.true_positives / max(1, self.true_positives + self.false_positives)

    @property
    def id_recall(self) -> float:
        return self.true_positives / max(1, self.true_positives + self.misses)


@dataclass(frozen=True)
class JFScores(Counts):
    """J and F of every true object, each a mean over frames.

    Attributes:
        object_ids: ids of the true objects. object_j, object_f: their figures, 0..1.
    """

    object_ids: tuple[int, ...]
    object_j: tuple[float, ...]
    object_f: tuple[float, ...]

    reported: ClassVar[tuple[str, ...]] = ("j", "f", "mean")

    @property
    def j(self) -> float:
        """Region similarity, mean over objects; not a number where the truth has none. So are the two that follow."""
        return float(np.mean(self.object_j)) if self.object_j else float("nan")

    @property
    def f(self) -> float:
        """Boundary accuracy."""
        return float(np.mean(self.object_f)) if self.object_f else float("nan")

    @property
    def mean(self) -> float:
        """J&F."""
        return (self.j + self.f) / 2


Score = TypeVar("Score", bound=Counts)


@overload
def combine(scores: Sequence[float]) -> float: ...
@overload
def combine(scores: Sequence[Score]) -> Score: ...
def combine(scores: Sequence[Any]) -> Any:
    """One score of several clips: counts are added up, objects of `j_and_f` pooled, plain numbers averaged."""
    if not scores:
        raise TrackingError("there are no scores to combine: give one for each clip, one or more")
    if len({type(score) for score in scores}) > 1:
        raise TrackingError("the scores are of different metrics: combine those of one metric at a time")
    total = reduce(add, scores)
    return total if isinstance(total, Counts) else total / len(scores)
