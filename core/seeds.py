"""Ranges of seeds, as commands are given them."""

from __future__ import annotations

import sys

MOST_SEEDS = 100_000
MOST_DIGITS = 18


def seed_range(text: str, error: type[ValueError], *, trained: range = range(0), most: int = MOST_SEEDS) -> range:
    """A:B as the seeds A to B - 1.

    Args:
        error: what is raised.
        trained: the seeds that training draws from, on which nothing can be judged; up to sys.maxsize has no end.
        most: how many there may be.

    Raises:
        error: for another form, for too many, and for some of `trained`.
    """
    first, separator, last = text.strip().partition(":")
    if not (separator and _is_number(first) and _is_number(last) and int(first) < int(last)):
        raise error(f"seeds are {text[:40]!r}: write A:B with A < B, such as 0:20 for the seeds 0 to 19")
    seeds = range(int(first), int(last))
    if len(seeds) > most:
        raise error(f"seeds {text} are {len(seeds):,}: give at most {most:,}")
    if seeds.start < trained.stop and trained.start < seeds.stop:
        last_trained = "on" if trained.stop == sys.maxsize else f"to {trained.stop - 1:,}"
        raise error(
            f"seeds {text} overlap those of training, from {trained.start:,} {last_trained}, on which nothing can be "
            "judged: use others, such as 0:20"
        )
    return seeds


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) <= MOST_DIGITS
