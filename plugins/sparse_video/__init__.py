"""Rectified SpaAttn: sparse attention for video diffusion transformers, corrected against full attention."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .attention import rectified_attention
    from .config import RectifiedAttentionConfig
    from .enable import enable_rectified_attention
    from .errors import SparseVideoInputError
    from .output import SparseVideoOutput
    from .pipeline import SparseVideoPipeline

_EXPORTS = {
    "RectifiedAttentionConfig": "config",
    "SparseVideoInputError": "errors",
    "SparseVideoOutput": "output",
    "SparseVideoPipeline": "pipeline",
    "enable_rectified_attention": "enable",
    "rectified_attention": "attention",
}

__all__ = [
    "RectifiedAttentionConfig",
    "SparseVideoInputError",
    "SparseVideoOutput",
    "SparseVideoPipeline",
    "enable_rectified_attention",
    "rectified_attention",
]


def __getattr__(name: str) -> object:
    """Import on first use, so that listing plugins costs no torch."""
    if name not in _EXPORTS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_EXPORTS[name]}", __name__), name)
