"""Money: dollars per hour of a machine in, dollars per unit of work out."""

from __future__ import annotations

import math
from dataclasses import dataclass

from core.errors import InputError

SECONDS_PER_HOUR = 3600.0


def cost_of(seconds: float, dollars_per_hour: float) -> float:
    """Dollars that `seconds` of a machine cost at `dollars_per_hour`."""
    _require_amount("seconds", seconds)
    _require_amount("dollars per hour", dollars_per_hour)
    return seconds * dollars_per_hour / SECONDS_PER_HOUR


def cost_per_unit(seconds: float, dollars_per_hour: float, units: float) -> float:
    """Dollars per unit (a minute of video, a thousand frames, a table) when `seconds` produced `units`."""
    _require_amount("units", units)
    if units == 0:
        raise InputError("units is 0, and a price per unit needs at least some output: give a number above 0.")
    return cost_of(seconds, dollars_per_hour) / units


@dataclass(frozen=True, slots=True)
class SavedCost:
    """The same work done two ways, both in dollars per unit, measured in the same run.

    Attributes:
        before: the plain way, dollars per unit, not negative.
        after: the new way, dollars per unit, not negative.
    """

    before: float
    after: float

    def __post_init__(self) -> None:
        _require_amount("cost before", self.before)
        _require_amount("cost after", self.after)

    @property
    def saved(self) -> float:
        """Dollars saved per unit; negative when the new way costs more."""
        return self.before - self.after

    @property
    def fraction(self) -> float | None:
        """Share of the old cost that is saved, at most 1; None when the plain way costs nothing."""
        return self.saved / self.before if self.before else None

    @property
    def speedup(self) -> float | None:
        """How many times cheaper the new way is; None when it costs nothing."""
        return self.before / self.after if self.after else None

    def over(self, units: float) -> float:
        """Dollars saved over `units` of work."""
        _require_amount("units", units)
        return self.saved * units


def _require_amount(name: str, value: float) -> None:
    if not (math.isfinite(value) and value >= 0):
        raise InputError(f"{name} is {value}: give a finite number, 0 or above.")
