"""Families of models that rectified attention can be switched on for."""

from __future__ import annotations

from torch import nn

from ..errors import SparseVideoInputError
from .base import Adapter, ModelCall, RectifiedProcessor
from .hunyuan import HunyuanAdapter
from .wan import WanAdapter

ADAPTERS: tuple[Adapter, ...] = (WanAdapter(), HunyuanAdapter())


def supported() -> str:
    """The supported families, for messages."""
    return ", ".join(adapter.supports for adapter in ADAPTERS)


def adapter_for(model: nn.Module) -> Adapter:
    """The adapter of this model's family.

    Raises:
        SparseVideoInputError: the family is not supported.
    """
    for adapter in ADAPTERS:
        if adapter.matches(model):
            return adapter
    raise SparseVideoInputError(
        f"{type(model).__name__} is of no supported family; supported are {supported()}: "
        "use one of these, or add an adapter for it in plugins/sparse_video/adapters"
    )


__all__ = ["ADAPTERS", "Adapter", "ModelCall", "RectifiedProcessor", "adapter_for", "supported"]
