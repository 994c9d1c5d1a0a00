"""The Hugging Face Hub: where a checkpoint lies, what is published of it, and how."""

from core.hub.resolve import (
    DEFAULT_PATTERNS,
    PICKLE_SUFFIXES,
    ResolvedCheckpoint,
    check_weights,
    resolve_checkpoint,
)

__all__ = ["DEFAULT_PATTERNS", "PICKLE_SUFFIXES", "ResolvedCheckpoint", "check_weights", "resolve_checkpoint"]
