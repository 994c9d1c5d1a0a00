"""What a user may choose about rectified sparse attention."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from .errors import SparseVideoInputError

Order = Literal["gilbert", "tile", "linear"]
Rectify = Literal["paper", "centroid", "none"]
Gate = Literal["centered", "paper"]


@dataclass(frozen=True)
class RectifiedAttentionConfig:
    """Settings of Rectified SpaAttn (arXiv 2511.19835).

    Attributes:
        density: share of the visual key blocks that each head keeps for each query block, above 0 and at most 1;
            1 is exactly dense attention. Forced neighbours and `top_p` come on top.
        top_p: keep blocks until they hold more than this share of the visual attention, above 0 and at most 1,
            where that asks for more than `density` does; None leaves `density` alone in charge.
        block_size: tokens in a block, of queries and of keys alike.
        order: how the tokens of the latent grid are put in line, so that a block is a compact clump: "gilbert"
            (generalised Hilbert curve, as in the paper), "tile" (boxes) or "linear" (left as they are).
        neighbors: always keep the blocks that touch the query's block on the grid.
        rectify: "paper" (IPAR and GAPR), "none" (plain sparse attention), or "centroid" (beyond the paper: a block
            that is not kept takes part as a few mean keys that stand for its tokens).
        centroid_size: tokens that one mean key stands for, a divisor of block_size; None: an eighth of it. Fewer are
            more exact and slower.
        gate: "centered" takes the mean key away before it weighs gain against error, so that an offset common to
            all keys changes nothing, as it changes nothing in a softmax; "paper" does not.
        dense_layers: share of the model's layers, from the first, that stay dense, 0 to 1.
        dense_steps: share of the sampling steps, from the first, that stay dense, 0 to 1.
        min_tokens: with fewer visual tokens than this, attention stays dense.
    """

    density: float = 0.25
    top_p: float | None = None
    block_size: int = 128
    order: Order = "gilbert"
    neighbors: bool = True
    rectify: Rectify = "paper"
    centroid_size: int | None = None
    gate: Gate = "centered"
    dense_layers: float = 0.0
    dense_steps: float = 0.0
    min_tokens: int = 1024

    def __post_init__(self) -> None:
        _check_share("density", self.density, above_zero=True)
        if self.top_p is not None:
            _check_share("top_p", self.top_p, above_zero=True)
        _check_share("dense_layers", self.dense_layers, above_zero=False)
        _check_share("dense_steps", self.dense_steps, above_zero=False)
        _check_whole("block_size", self.block_size, at_least=1)
        _check_whole("min_tokens", self.min_tokens, at_least=0)
        if self.centroid_size is not None:
            _check_whole("centroid_size", self.centroid_size, at_least=1)
            if self.block_size % self.centroid_size:
                raise SparseVideoInputError(
                    f"centroid_size is {self.centroid_size}; it divides block_size, which is {self.block_size}"
                )
        _check_choice("order", self.order, get_args(Order))
        _check_choice("rectify", self.rectify, get_args(Rectify))
        _check_choice("gate", self.gate, get_args(Gate))
        if not isinstance(self.neighbors, bool):
            raise SparseVideoInputError(f"neighbors is {self.neighbors!r}; it is True or False")

    @property
    def tokens_per_centroid(self) -> int:
        """`centroid_size`, or its default: an eighth of a block, all of it where that is no whole number."""
        return self.centroid_size or (self.block_size // 8 if self.block_size % 8 == 0 else self.block_size)

    def replace(self, **changes: Any) -> RectifiedAttentionConfig:
        """A copy with these settings changed.

        Raises:
            SparseVideoInputError: a setting is unknown or out of range.
        """
        return self.from_dict({**self.to_dict(), **changes})

    def to_dict(self) -> dict[str, Any]:
        """The settings as JSON holds them."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, settings: Mapping[str, Any]) -> RectifiedAttentionConfig:
        """The reverse of `to_dict`; what is left out takes its default.

        Raises:
            SparseVideoInputError: a setting is unknown or out of range.
        """
        known = [field.name for field in dataclasses.fields(cls)]
        unknown = sorted(set(settings) - set(known))
        if unknown:
            raise SparseVideoInputError(f"unknown setting {', '.join(unknown)}; the settings are {', '.join(known)}")
        return cls(**settings)


def _check_share(name: str, value: object, *, above_zero: bool) -> None:
    allowed = "above 0 and at most 1" if above_zero else "from 0 to 1"
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise SparseVideoInputError(f"{name} is {value!r}; it is a number {allowed}")
    if value > 1 or value < 0 or (above_zero and value == 0):
        hint = f": for {value:g} % write {value / 100:g}" if 1 < value <= 100 else ""
        raise SparseVideoInputError(f"{name} is {value:g}; it is a share {allowed}{hint}")


def _check_whole(name: str, value: object, *, at_least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < at_least:
        raise SparseVideoInputError(f"{name} is {value!r}; it is a whole number, {at_least} or more")


def _check_choice(name: str, value: object, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise SparseVideoInputError(f"{name} is {value!r}; it is one of {', '.join(map(repr, allowed))}")
