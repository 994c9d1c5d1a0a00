"""Configuration of a small classifier of pictures with sentences: two encoders and a fusion by cross-attention."""

from __future__ import annotations

from huggingface_hub.dataclasses import strict
from transformers import AutoConfig
from transformers.configuration_utils import PreTrainedConfig


@strict
class TwoStreamConfig(PreTrainedConfig):
    """What a two-stream classifier is made of; the defaults are those of the small checkpoint.

    Attributes:
        hidden_size, intermediate_size, num_attention_heads: of every layer.
        image_size: side of the square picture, pixels. stem_size: channels of the patchifier's first convolution.
        num_image_layers, num_text_layers: of the two encoders, which do not see each other.
        num_fusion_layers: of text positions; those in `cross_attention_layers`, counted from 0, also read the picture.
        vocab_size, max_position_embeddings: of the text. pad_token_id: what fills it up.
    """

    model_type = "two_stream"

    hidden_size: int = 96
    intermediate_size: int = 192
    num_attention_heads: int = 4
    image_size: int = 32
    stem_size: int = 24
    num_image_layers: int = 2
    num_text_layers: int = 2
    num_fusion_layers: int = 4
    cross_attention_layers: list[int] | tuple[int, ...] = (2, 3)
    vocab_size: int = 80
    max_position_embeddings: int = 48
    pad_token_id: int | None = 0
    layer_norm_eps: float = 1e-6
    initializer_range: float = 0.05

    @property
    def patch_size(self) -> int:
        """Side of a patch, pixels: what the patchifier's three strides of two make."""
        return 8

    def validate_architecture(self) -> None:
        """What fits together; called by `@strict`."""
        if self.hidden_size % self.num_attention_heads:
            raise ValueError(
                f"hidden_size {self.hidden_size} is not a multiple of num_attention_heads {self.num_attention_heads}."
            )
        if self.image_size < self.patch_size or self.image_size % self.patch_size:
            raise ValueError(f"image_size is {self.image_size}: give a multiple of {self.patch_size}.")
        if not set(self.cross_attention_layers) <= set(range(self.num_fusion_layers)):
            raise ValueError(
                f"cross_attention_layers is {self.cross_attention_layers}: name layers from 0 to "
                f"{self.num_fusion_layers - 1}."
            )


# `exist_ok` because copies of this module that trust_remote_code makes register anew.
TwoStreamConfig.register_for_auto_class()
AutoConfig.register(TwoStreamConfig.model_type, TwoStreamConfig, exist_ok=True)
