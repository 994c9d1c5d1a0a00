"""HunyuanVideo (T2V and I2V): joint attention of the double and single blocks, visual tokens first, padded text last.

The token refiner's own attention, over text alone, is left as it is. Token-replace blocks (I2V) treat the first frame's
rows apart outside attention only, where the tokens are in the model's own order, so nothing has to be done for them.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from diffusers.models.attention_processor import Attention
from diffusers.models.embeddings import apply_rotary_emb
from diffusers.models.transformers.transformer_hunyuan_video import (
    HunyuanVideoAttnProcessor2_0,
    HunyuanVideoTransformer3DModel,
)
from torch import Tensor, nn

from .base import ModelCall, RectifiedProcessor, latents_and_timestep


class HunyuanRectifiedProcessor(RectifiedProcessor):
    """Joint attention: what diffusers 0.42's `HunyuanVideoAttnProcessor2_0` does, but for the attention itself."""

    expected = HunyuanVideoAttnProcessor2_0

    def __call__(
        self,
        attn: Attention,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor,
        attention_mask: Tensor | None = None,
        image_rotary_emb: tuple[Tensor, Tensor] | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Visual [batch, tokens, channels] and text [batch, text, channels] to the same; mask [batch, 1, 1, all]."""
        text_tokens = encoder_hidden_states.shape[1]
        if attn.add_q_proj is None:  # a single block: one projection for both
            joint = torch.cat([hidden_states, encoder_hidden_states], dim=1)
            query, key, value = project(attn, joint)
            query, key = rotate(query, image_rotary_emb, text_tokens), rotate(key, image_rotary_emb, text_tokens)
        else:
            query, key, value = project(attn, hidden_states)
            query, key = rotate(query, image_rotary_emb, 0), rotate(key, image_rotary_emb, 0)
            text = project_text(attn, encoder_hidden_states)
            query, key, value = (torch.cat(pair, dim=1) for pair in zip((query, key, value), text, strict=True))
        out = self.attend(self, query, key, value, attention_mask=attention_mask, text_tokens=text_tokens)
        out = out.flatten(2, 3).to(query.dtype)
        visual, text_out = out[:, :-text_tokens], out[:, -text_tokens:]
        if getattr(attn, "to_out", None) is not None:  # single blocks project later, together with their MLP
            to_out = cast(Any, attn.to_out)
            visual = to_out[1](to_out[0](visual))
        if getattr(attn, "to_add_out", None) is not None:
            text_out = cast(Any, attn.to_add_out)(text_out)
        return visual, text_out


def split_heads(attn: Attention, *tensors: Tensor) -> tuple[Tensor, ...]:
    return tuple(tensor.unflatten(2, (attn.heads, -1)) for tensor in tensors)


def project(attn: Any, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Query, key and value [batch, tokens, heads, head_dim], query and key normed per head."""
    query, key, value = split_heads(attn, attn.to_q(x), attn.to_k(x), attn.to_v(x))
    return normed(attn.norm_q, query), normed(attn.norm_k, key), value


def project_text(attn: Any, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The same for the text of a double block, which has its own weights."""
    query, key, value = split_heads(attn, attn.add_q_proj(x), attn.add_k_proj(x), attn.add_v_proj(x))
    return normed(attn.norm_added_q, query), normed(attn.norm_added_k, key), value


def normed(norm: nn.Module | None, x: Tensor) -> Tensor:
    return x if norm is None else norm(x)


def rotate(x: Tensor, rotary: tuple[Tensor, Tensor] | None, text_tokens: int) -> Tensor:
    """Rotary embedding of the visual tokens; the last `text_tokens` have no place on the grid."""
    if rotary is None:
        return x
    visual = x.shape[1] - text_tokens
    rotated = cast(Tensor, apply_rotary_emb(x[:, :visual], cast(Any, rotary), sequence_dim=1))
    return torch.cat([rotated, x[:, visual:]], dim=1) if text_tokens else rotated


class HunyuanAdapter:
    """Layers are counted over the double blocks, then the single blocks, as in the forward pass."""

    family = "hunyuan-video"
    supports = "HunyuanVideo (HunyuanVideoTransformer3DModel)"
    processor = HunyuanRectifiedProcessor

    def matches(self, model: nn.Module) -> bool:
        return isinstance(model, HunyuanVideoTransformer3DModel)

    def attention_layers(self, model: nn.Module) -> list[Any]:
        model = cast(Any, model)
        return [block.attn for block in (*model.transformer_blocks, *model.single_transformer_blocks)]

    def read_call(self, model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> ModelCall:
        shape, timestep = latents_and_timestep(args, kwargs)
        config = cast(Any, model).config
        patch, patch_t = config.patch_size, config.patch_size_t
        return ModelCall((shape[2] // patch_t, shape[3] // patch, shape[4] // patch), timestep)
