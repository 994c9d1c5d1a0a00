"""How the media of a decision are put into training samples: the combination algebra of arXiv 2511.12937.

S is the screen now, M the screens after each of the last actions, V a clip of what went on. `*` puts the media of one
decision into one sample; `+` puts samples of both kinds into the set. `*` binds tighter.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Mapping
from dataclasses import dataclass
from typing import Literal, TypeVar, get_args

from .errors import UIActionInputError

Medium = Literal["V", "M", "S"]
Term = tuple[Medium, ...]
Decision = TypeVar("Decision", bound=Hashable)

# Inside a sample, motion comes first and the current screen last.
MEDIA: tuple[Medium, ...] = get_args(Medium)
# As the literature spells them.
_SPELLED: tuple[Medium, ...] = ("S", "M", "V")
_SPELLINGS = (
    *("S", "M", "V", "S+M", "S+V", "M+V", "S+M+V"),
    *("S*M", "S*V", "M*V", "S*M+V", "S*V+M", "M*V+S", "S*M*V"),
)


@dataclass(frozen=True, slots=True)
class Strategy:
    """One way to organise the data.

    Attributes:
        terms: the kinds of samples, largest first; each with its media in the order in which they stand in a sample.
            No medium is in two of them.

    Raises:
        UIActionInputError: terms that are none of the 14 strategies in that order; `Strategy.parse` puts them right.
    """

    terms: tuple[Term, ...]

    def __post_init__(self) -> None:
        spelled = str(self)
        if spelled not in _SPELLINGS or self.terms != tuple(map(_in_order, spelled.split("+"))):
            raise UIActionInputError(f"terms {self.terms}: build them with Strategy.parse")

    @classmethod
    def parse(cls, text: str) -> Strategy:
        """From "M*V+S", in any order, also "MV+S". Raises UIActionInputError."""
        terms = [term.split("*") for term in text.replace(" ", "").split("+")]
        factors = [factor for term in terms for factor in term]
        letters = "".join(factors)
        if not all(factors) or len(set(letters)) < len(letters) or not set(letters) <= set(MEDIA):
            raise _refusal(text)
        ordered = (_in_order("".join(term)) for term in terms)
        return cls(tuple(sorted(ordered, key=lambda term: (-len(term), _SPELLED.index(term[0])))))

    @classmethod
    def all(cls) -> tuple[Strategy, ...]:
        """The 14: single media, mixed, fused, fused and mixed, all fused."""
        return tuple(cls.parse(text) for text in _SPELLINGS)

    def samples(self, decisions: Mapping[Decision, Collection[Medium]]) -> list[tuple[Decision, Term]]:
        """The training set as pairs (decision, media of the sample), kind after kind, not shuffled.

        |D_{A+B}| = |D_A| + |D_B|; |D_{A*B}| = the number of decisions that have both.

        Args:
            decisions: by whatever names them, the media that each has.
        """
        return [(name, term) for term in self.terms for name, media in decisions.items() if set(term) <= set(media)]

    def __str__(self) -> str:
        return "+".join(map(spelled, self.terms))


def spelled(term: Term) -> str:
    """One kind of samples, as the literature spells it: "M*V"."""
    return "*".join(medium for medium in _SPELLED if medium in term)


def _in_order(letters: str) -> Term:
    return tuple(medium for medium in MEDIA if medium in letters)


def _refusal(text: str) -> UIActionInputError:
    shown = text if len(text) <= 40 else text[:40] + "…"
    return UIActionInputError(f"strategy {shown!r}: use each of S, M and V at most once: {', '.join(_SPELLINGS)}")
