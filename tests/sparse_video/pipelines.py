"""What the pipeline tests share: a tiny pipeline, its sizes, and its latents."""

from __future__ import annotations

from typing import Any

import torch
from transformers import CLIPTextConfig, CLIPTextModel, LlamaConfig, LlamaModel

from plugins.sparse_video.pipeline import SparseVideoPipeline

from .tiny_models import (
    tiny_tokenizer,
    tiny_wan_components,
)

PROMPT = "a red square moves right"
SMALL: dict[str, Any] = {"num_frames": 9, "height": 96, "width": 96, "num_inference_steps": 2}  # 3 x 6 x 6 = 108 tokens
ATTENTION: dict[str, Any] = {"density": 0.3, "block_size": 16, "neighbors": False, "min_tokens": 16}
DEFAULTS: dict[str, Any] = {f"default_{name}": value for name, value in SMALL.items()} | {
    "default_attention": ATTENTION
}


# Typed as Any below: half of these calls are wrong on purpose.
def make_pipeline(**options: Any) -> Any:
    components = options.pop("components", None) or tiny_wan_components()
    settings: dict[str, Any] = {**components, "default_guidance_scale": 1.0, **DEFAULTS, **options}
    pipeline = SparseVideoPipeline(**settings)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def latents(pipeline: Any, prompt: Any = PROMPT, **arguments: Any) -> torch.Tensor:
    """The result before decoding, with plain PyTorch as executor."""
    settings: dict[str, Any] = {"seed": 0, "executor": "reference", "output_type": "latent", **arguments}
    return pipeline(prompt, **settings).frames


def hunyuan_text_encoders() -> dict[str, Any]:
    """Tiny Llama and CLIP, as wide as the tiny transformer expects."""
    tokenizer = tiny_tokenizer()
    tokenizer.padding_side = "right"
    llama = LlamaConfig(
        vocab_size=64,
        hidden_size=32,
        intermediate_size=37,
        num_hidden_layers=3,
        num_attention_heads=4,
        pad_token_id=0,
    )
    clip = CLIPTextConfig(
        vocab_size=64,
        hidden_size=8,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        projection_dim=8,
        eos_token_id=1,
    )
    return {
        "tokenizer": tokenizer,
        "tokenizer_2": tiny_tokenizer(),
        "text_encoder": LlamaModel(llama).eval(),
        "text_encoder_2": CLIPTextModel(clip).eval(),
    }


def load(path: Any, **options: Any) -> Any:
    pipeline = SparseVideoPipeline.from_pretrained(path, **options)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline
