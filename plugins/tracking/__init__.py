"""SATA: one model that tracks and segments anything in any modality."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .configuration_sata import SataConfig
    from .errors import TrackingError
    from .modeling_sata import SataModel
    from .pipeline_sata import PartialTracksError, SataPipeline
    from .processing_sata import SataProcessor
    from .results import FrameInstances, Tracks

_EXPORTS = {
    "FrameInstances": "results",
    "PartialTracksError": "pipeline_sata",
    "SataConfig": "configuration_sata",
    "SataModel": "modeling_sata",
    "SataPipeline": "pipeline_sata",
    "SataProcessor": "processing_sata",
    "TrackingError": "errors",
    "Tracks": "results",
}

__all__ = [
    "FrameInstances",
    "PartialTracksError",
    "SataConfig",
    "SataModel",
    "SataPipeline",
    "SataProcessor",
    "TrackingError",
    "Tracks",
]


def __getattr__(name: str) -> object:
    """Import on first use, so that listing plugins costs no torch."""
    if name not in _EXPORTS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_EXPORTS[name]}", __name__), name)
