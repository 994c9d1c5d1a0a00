"""The games' random numbers: xorshift32, the same in web/prng.js."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from ..errors import UIActionInputError

Item = TypeVar("Item")
WORD = 0xFFFFFFFF


def _mixed(word: int) -> int:
    for _ in range(2):
        word = ((word ^ (word >> 16)) * 0x45D9F3B) & WORD
    return word ^ (word >> 16)


class Xorshift32:
    """Marsaglia's 32-bit generator (shifts 13, 17, 5).

    Args:
        seed: 0 to 2**32 - 1; neighbouring seeds give unrelated numbers.
        stream: tells apart what is drawn from one seed: the rules use 1, the scenery others.
    """

    def __init__(self, seed: int, stream: int) -> None:
        if not 0 <= seed <= WORD:
            raise UIActionInputError(f"seed {seed}: give a whole number from 0 to {WORD}")
        self._word = _mixed(seed ^ ((stream * 0x9E3779B9) & WORD)) or 1

    def next(self) -> int:
        """The next number, 1 to 2**32 - 1."""
        word = self._word
        word ^= (word << 13) & WORD
        word ^= word >> 17
        word ^= (word << 5) & WORD
        self._word = word
        return word

    def below(self, limit: int) -> int:
        """A number from 0 to limit - 1."""
        return (self.next() >> 8) % limit

    def shuffled(self, items: Sequence[Item]) -> list[Item]:
        """The items in a random order (Fisher-Yates, from the end)."""
        order = list(items)
        for last in range(len(order) - 1, 0, -1):
            other = self.below(last + 1)
            order[last], order[other] = order[other], order[last]
        return order
