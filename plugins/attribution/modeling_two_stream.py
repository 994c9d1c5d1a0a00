"""A small classifier of pictures with sentences whose streams can be read: two encoders, then cross-attention."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import AutoModelForSequenceClassification, PreTrainedModel
from transformers.modeling_outputs import SequenceClassifierOutput

from .configuration_two_stream import TwoStreamConfig


class Attention(nn.Module):
    """Multi-head attention of queries [B, N, d] to a context [B, M, d], by torch's scaled_dot_product_attention."""

    def __init__(self, config: TwoStreamConfig) -> None:
        super().__init__()
        width = config.hidden_size
        self.heads = config.num_attention_heads
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * width)
        self.output = nn.Linear(width, width)

    def forward(self, hidden: Tensor, context: Tensor, mask: Tensor | None = None) -> Tensor:
        """`mask`: bool, broadcast to [B, heads, N, M]; True is attended to."""
        key, value = self.key_value(context).chunk(2, dim=-1)
        query, key, value = (
            part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in (self.query(hidden), key, value)
        )
        mixed = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        return self.output(mixed.transpose(1, 2).flatten(2))


class FeedForward(nn.Sequential):
    """Two layers with GELU between."""

    def __init__(self, config: TwoStreamConfig) -> None:
        super().__init__(
            nn.Linear(config.hidden_size, config.intermediate_size),
            nn.GELU(),
            nn.Linear(config.intermediate_size, config.hidden_size),
        )


class EncoderLayer(nn.Module):
    """A pre-norm transformer layer, [B, N, d] to [B, N, d]."""

    def __init__(self, config: TwoStreamConfig) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.attention = Attention(config)
        self.feed_forward_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.feed_forward = FeedForward(config)

    def forward(self, hidden: Tensor, mask: Tensor | None = None) -> Tensor:
        normed = self.attention_norm(hidden)
        hidden = hidden + self.attention(normed, normed, mask)
        return hidden + self.feed_forward(self.feed_forward_norm(hidden))


class FusionLayer(EncoderLayer):
    """A layer of text positions; with cross-attention they read the picture after each other."""

    def __init__(self, config: TwoStreamConfig, *, cross_attention: bool) -> None:
        super().__init__(config)
        self.cross_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps) if cross_attention else None
        self.cross_attention = Attention(config) if cross_attention else None

    def forward(self, hidden: Tensor, mask: Tensor | None = None, image: Tensor | None = None) -> Tensor:
        """Text positions [B, N, d], their mask [B, 1, 1, N] and image tokens [B, M, d] to text positions [B, N, d]."""
        normed = self.attention_norm(hidden)
        hidden = hidden + self.attention(normed, normed, mask)
        if self.cross_norm is not None and self.cross_attention is not None and image is not None:
            hidden = hidden + self.cross_attention(self.cross_norm(hidden), image)
        return hidden + self.feed_forward(self.feed_forward_norm(hidden))


class ImageEncoder(nn.Module):
    """Pictures float [B, 3, H, W] to tokens [B, N, d], one for each 8 x 8 pixels; the patchifier is convolutional."""

    def __init__(self, config: TwoStreamConfig) -> None:
        super().__init__()
        stem, tokens = config.stem_size, (config.image_size // config.patch_size) ** 2
        self.patches = nn.Sequential(
            nn.Conv2d(3, stem, 3, stride=2, padding=1),
            nn.GELU(),
            nn.Conv2d(stem, 2 * stem, 3, stride=2, padding=1),
            nn.GELU(),
            nn.Conv2d(2 * stem, config.hidden_size, 2, stride=2),
        )
        self.positions = nn.Embedding(tokens, config.hidden_size)
        self.layers = nn.ModuleList(EncoderLayer(config) for _ in range(config.num_image_layers))
        self.norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    def forward(self, pixel_values: Tensor) -> Tensor:
        hidden = self.patches(pixel_values).flatten(2).transpose(1, 2) + self.positions.weight
        for layer in self.layers:
            hidden = layer(hidden)
        return self.norm(hidden)


class TextEncoder(nn.Module):
    """Words int64 [B, N] to tokens [B, N, d]; `mask` bool [B, 1, 1, N] is False where a text has been filled up."""

    def __init__(self, config: TwoStreamConfig) -> None:
        super().__init__()
        self.words = nn.Embedding(config.vocab_size, config.hidden_size)
        self.positions = nn.Embedding(config.max_position_embeddings, config.hidden_size)
        self.layers = nn.ModuleList(EncoderLayer(config) for _ in range(config.num_text_layers))
        self.norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    def forward(self, input_ids: Tensor, mask: Tensor | None = None) -> Tensor:
        hidden = self.words(input_ids) + self.positions.weight[: input_ids.shape[1]]
        for layer in self.layers:
            hidden = layer(hidden, mask)
        return self.norm(hidden)


class Fusion(nn.Module):
    """Text positions [B, N, d] go through layers of which some read the image tokens [B, M, d]; returns all states."""

    def __init__(self, config: TwoStreamConfig) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            FusionLayer(config, cross_attention=index in config.cross_attention_layers)
            for index in range(config.num_fusion_layers)
        )

    def forward(self, text: Tensor, image: Tensor, mask: Tensor | None = None) -> tuple[Tensor, ...]:
        states = [text]
        for layer in self.layers:
            states.append(layer(states[-1], mask, image))
        return tuple(states)


class TwoStreamForClassification(PreTrainedModel):
    """Answers a question about a picture by one of `config.id2label`.

    `image_encoder` and `text_encoder` do not see each other; in `fusion.layers[i]` text positions attend to each other
    and, for i in `config.cross_attention_layers`, to the picture; `classifier` reads their mean.
    """

    config_class = TwoStreamConfig
    base_model_prefix = "two_stream"
    main_input_name = "pixel_values"
    input_modalities = ["image", "text"]  # noqa: RUF012
    _supports_sdpa = True

    def __init__(self, config: TwoStreamConfig) -> None:
        super().__init__(config)
        self.image_encoder = ImageEncoder(config)
        self.text_encoder = TextEncoder(config)
        self.fusion = Fusion(config)
        self.norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.classifier = nn.Linear(config.hidden_size, len(config.id2label or ()))
        self.post_init()

    def forward(
        self,
        pixel_values: Tensor,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        labels: Tensor | None = None,
        output_hidden_states: bool | None = None,
        **kwargs: Any,
    ) -> SequenceClassifierOutput:
        """What `TwoStreamProcessor` makes to an answer.

        Args:
            pixel_values: float [B, 3, H, W]. input_ids: int64 [B, N]. labels: int64 [B].
            attention_mask: [B, N], 0 where a text has been filled up; None: nowhere.
            output_hidden_states: also give the text positions before the fusion and after each of its layers.

        Returns:
            logits [B, num_labels]; loss, cross-entropy in nats, where there are labels; hidden_states, tuple of
            [B, N, d], where asked for.
        """
        kept = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        mask = kept[:, None, None, :] != 0
        image = self.image_encoder(pixel_values)
        states = self.fusion(self.text_encoder(input_ids, mask), image, mask)
        weights = kept.to(image.dtype)[:, :, None]
        pooled = (self.norm(states[-1]) * weights).sum(dim=1) / weights.sum(dim=1).clamp_min(1.0)
        logits = self.classifier(pooled)
        loss = None if labels is None else functional.cross_entropy(logits, labels)
        shown = states if output_hidden_states else None
        return SequenceClassifierOutput(loss=loss, logits=logits, hidden_states=shown)


# `exist_ok` because copies of this module that trust_remote_code makes register anew.
TwoStreamForClassification.register_for_auto_class("AutoModelForSequenceClassification")
AutoModelForSequenceClassification.register(TwoStreamConfig, TwoStreamForClassification, exist_ok=True)
