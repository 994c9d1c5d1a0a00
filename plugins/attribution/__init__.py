"""Partial information decomposition: what each modality says alone, what both say, what only both together say."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .counts import JointCounts
    from .decomposition import PIDResult, conditional_independence_reference, decompose
    from .errors import AttributionInputError
    from .pipeline import PIDAttributionPipeline
    from .report import AttributionReport

_EXPORTS = {
    "AttributionInputError": "errors",
    "AttributionReport": "report",
    "JointCounts": "counts",
    "PIDAttributionPipeline": "pipeline",
    "PIDResult": "decomposition",
    "conditional_independence_reference": "decomposition",
    "decompose": "decomposition",
}

__all__ = [
    "AttributionInputError",
    "AttributionReport",
    "JointCounts",
    "PIDAttributionPipeline",
    "PIDResult",
    "conditional_independence_reference",
    "decompose",
]


def __getattr__(name: str) -> object:
    """Import on first use, so that listing plugins costs no torch."""
    if name not in _EXPORTS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_EXPORTS[name]}", __name__), name)
