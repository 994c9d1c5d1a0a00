"""Wan 2.1 and 2.2 (T2V, I2V, TI2V): self-attention `attn1` over visual tokens only; text and image stay in `attn2`."""

from __future__ import annotations

from typing import Any, cast

import torch
from diffusers.models.transformers.transformer_wan import WanAttention, WanAttnProcessor, WanTransformer3DModel
from torch import Tensor, nn

from .base import ModelCall, RectifiedProcessor, latents_and_timestep


class WanRectifiedProcessor(RectifiedProcessor):
    """Self-attention of a Wan block: what diffusers 0.42's `WanAttnProcessor` does, but for the attention itself."""

    expected = WanAttnProcessor

    def __call__(
        self,
        attn: WanAttention,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        rotary_emb: tuple[Tensor, Tensor] | None = None,
    ) -> Tensor:
        """[batch, tokens, channels] to the same; rotary_emb is (cos, sin), each [1, tokens, 1, head_dim]."""
        if attn.fused_projections:
            query, key, value = cast(nn.Module, attn.to_qkv)(hidden_states).chunk(3, dim=-1)
        else:
            query, key, value = attn.to_q(hidden_states), attn.to_k(hidden_states), attn.to_v(hidden_states)
        query, key = attn.norm_q(query), attn.norm_k(key)  # over all heads at once, so before they part
        query, key, value = (tensor.unflatten(2, (attn.heads, -1)) for tensor in (query, key, value))
        if rotary_emb is not None:
            query, key = rotate_pairs(query, *rotary_emb), rotate_pairs(key, *rotary_emb)
        out = self.attend(self, query, key, value, attention_mask=attention_mask)
        out = out.flatten(2, 3).type_as(query)
        return attn.to_out[1](attn.to_out[0](out))


def rotate_pairs(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary embedding of neighbouring channel pairs; cos and sin hold each angle twice, and Wan's are float64."""
    real, imaginary = x[..., 0::2], x[..., 1::2]
    cos, sin = cos[..., 0::2], sin[..., 0::2]
    rotated = torch.empty_like(x)  # written in halves: a float64 copy of a whole query would be 3 GB at 720p
    rotated[..., 0::2] = real * cos - imaginary * sin
    rotated[..., 1::2] = real * sin + imaginary * cos
    return rotated


class WanAdapter:
    """Visual tokens only, row-major over the patched grid. Per-token timesteps change nothing here."""

    family = "wan"
    supports = "Wan 2.1 and 2.2 (WanTransformer3DModel)"
    processor = WanRectifiedProcessor

    def matches(self, model: nn.Module) -> bool:
        return isinstance(model, WanTransformer3DModel)

    def attention_layers(self, model: nn.Module) -> list[Any]:
        return [block.attn1 for block in cast(Any, model).blocks]

    def read_call(self, model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> ModelCall:
        shape, timestep = latents_and_timestep(args, kwargs)
        patch_t, patch_h, patch_w = cast(Any, model).config.patch_size
        return ModelCall((shape[2] // patch_t, shape[3] // patch_h, shape[4] // patch_w), timestep)
