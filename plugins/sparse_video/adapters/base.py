"""What a family of models has to say to take part: which attention, on which grid, and how it projects."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import torch
from diffusers.models.attention_dispatch import dispatch_attention_fn
from torch import Tensor, nn


@dataclass(frozen=True)
class ModelCall:
    """What attention needs to know of a model's forward call.

    Attributes:
        grid: tokens along (time, height, width) after patching; visual tokens are in this row-major order.
        timestep: of the noisiest token, in the model's units.
    """

    grid: tuple[int, int, int]
    timestep: float


class Attend(Protocol):
    """Self-attention as the handle wants it; tensors [batch, tokens, heads, head_dim], text tokens last."""

    def __call__(
        self,
        processor: RectifiedProcessor,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        *,
        attention_mask: Tensor | None = None,
        text_tokens: int = 0,
    ) -> Tensor: ...


class RectifiedProcessor:
    """Stands in for diffusers' processor of one self-attention layer.

    What users set on processors (`set_attention_backend`, `enable_parallelism`) is kept on the processor that it
    replaces: set before or meanwhile, it holds here and is there after `disable()`.

    Args:
        previous: the processor that it stands in for.
        layer: number of this layer among the model's self-attention layers, from 0.
        attend: does the attention.
    """

    expected: ClassVar[type]  # the processor of diffusers that the subclass reproduces

    def __init__(self, previous: Any, layer: int, attend: Attend) -> None:
        self.previous = previous
        self.layer = layer
        self.attend = attend

    @property
    def _attention_backend(self) -> Any:
        return self.previous._attention_backend

    @_attention_backend.setter
    def _attention_backend(self, backend: Any) -> None:
        self.previous._attention_backend = backend

    @property
    def _parallel_config(self) -> Any:
        return self.previous._parallel_config

    @_parallel_config.setter
    def _parallel_config(self, config: Any) -> None:
        self.previous._parallel_config = config

    def dispatch(self, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        """Dense attention by the backend that the user chose; tensors [batch, tokens, heads, head_dim]."""
        return dispatch_attention_fn(
            query,
            key,
            value,
            attn_mask=attention_mask,
            backend=self._attention_backend,
            parallel_config=self._parallel_config,
        )


class Adapter(Protocol):
    """One family of models. Stateless; a new family is one module with such a class and a line in `ADAPTERS`."""

    family: str
    supports: str  # the names under which users know it

    @property
    def processor(self) -> type[RectifiedProcessor]:
        """What stands in for the processor of its attention modules."""
        ...

    def matches(self, model: nn.Module) -> bool:
        """Is this a model of the family?"""
        ...

    def attention_layers(self, model: nn.Module) -> Sequence[Any]:
        """Its self-attention modules over visual tokens, in the order of the forward pass."""
        ...

    def read_call(self, model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> ModelCall:
        """Grid and timestep of a forward call with these arguments."""
        ...


def latents_and_timestep(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[torch.Size, float]:
    """Shape of the latents [batch, channels, frames, height, width] and the largest timestep of the call.

    The largest, as Wan 2.2 TI2V gives one per token and 0 to those of the image. Reading it waits for the device once
    per forward call.
    """
    latents = kwargs["hidden_states"] if "hidden_states" in kwargs else args[0]
    timestep = kwargs["timestep"] if "timestep" in kwargs else args[1]
    return latents.shape, float(torch.as_tensor(timestep).max())
