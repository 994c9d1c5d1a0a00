"""Tiny models with random weights, built without a network: the real classes at toy sizes.

Weights come from a seed, not from the global generator. Query and key norms are sharpened: with a fresh model's logits
near zero every attention map is flat, and a test could not tell sparse from dense.
"""

from __future__ import annotations

from typing import Any

import torch
from diffusers.models.autoencoders.autoencoder_kl_hunyuan_video import AutoencoderKLHunyuanVideo
from diffusers.models.autoencoders.autoencoder_kl_wan import AutoencoderKLWan
from diffusers.models.transformers.transformer_hunyuan_video import HunyuanVideoTransformer3DModel
from diffusers.models.transformers.transformer_wan import WanTransformer3DModel
from diffusers.pipelines.hunyuan_video.pipeline_hunyuan_video import HunyuanVideoPipeline
from diffusers.pipelines.wan.pipeline_wan import WanPipeline
from diffusers.pipelines.wan.pipeline_wan_i2v import WanImageToVideoPipeline
from diffusers.schedulers.scheduling_flow_match_euler_discrete import FlowMatchEulerDiscreteScheduler
from diffusers.schedulers.scheduling_unipc_multistep import UniPCMultistepScheduler
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast, UMT5Config, UMT5EncoderModel

TEXT_DIM = 32
TEXT_TOKENS = 12
COLOURS, SHAPES = ("red", "green", "blue"), ("square", "circle", "triangle")
WORDS = ("a", "the", *COLOURS, *SHAPES, "moves", "left", "right", "up", "down", "behind", "in", "front", "of", "and")
IMAGE_TOKENS, IMAGE_DIM = 5, 24


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def randomise(model: torch.nn.Module, seed: int, sharpness: float = 3.0) -> None:
    """Fill every parameter from `seed`: matrices keep their scale, query and key norms are times `sharpness`."""
    generator = seeded(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float32)
            if "norm" in name and name.endswith("weight") and parameter.ndim == 1:
                gain = sharpness if any(part in name for part in ("norm_q", "norm_k", "norm_added")) else 1.0
                parameter.copy_(gain * (1 + 0.1 * noise))
            else:
                fan_in = parameter[0].numel() if parameter.ndim > 1 else 100
                parameter.copy_(noise / fan_in**0.5)


def tiny_wan(seed: int = 0, *, layers: int = 3, **overrides: Any) -> WanTransformer3DModel:
    """Wan T2V: 2 heads of 12, patches (1, 2, 2), 4 latent channels; takes latents [B, 4, T, 2h, 2w]."""
    options: dict[str, Any] = {
        "patch_size": (1, 2, 2),
        "num_attention_heads": 2,
        "attention_head_dim": 12,
        "in_channels": 4,
        "out_channels": 4,
        "text_dim": TEXT_DIM,
        "freq_dim": 32,
        "ffn_dim": 32,
        "num_layers": layers,
        "cross_attn_norm": True,
        "rope_max_seq_len": 32,
    }
    model = WanTransformer3DModel(**(options | overrides))
    randomise(model, seed)
    return model.eval()


def tiny_wan_i2v(seed: int = 0, **overrides: Any) -> WanTransformer3DModel:
    """Wan 2.1 I2V: image tokens in the cross-attention (added_kv_proj_dim), condition latents as extra channels."""
    return tiny_wan(seed, **({"image_dim": IMAGE_DIM, "added_kv_proj_dim": 24, "in_channels": 12} | overrides))


def tiny_hunyuan(
    seed: int = 0, *, layers: int = 2, single_layers: int = 2, **overrides: Any
) -> HunyuanVideoTransformer3DModel:
    """HunyuanVideo: 2 heads of 12, `layers` double and `single_layers` single blocks, patches (1, 2, 2)."""
    options: dict[str, Any] = {
        "in_channels": 4,
        "out_channels": 4,
        "num_attention_heads": 2,
        "attention_head_dim": 12,
        "num_layers": layers,
        "num_single_layers": single_layers,
        "num_refiner_layers": 1,
        "patch_size": 2,
        "patch_size_t": 1,
        "guidance_embeds": True,
        "text_embed_dim": TEXT_DIM,
        "pooled_projection_dim": 8,
        "rope_axes_dim": (4, 4, 4),
    }
    model = HunyuanVideoTransformer3DModel(**(options | overrides))
    randomise(model, seed)
    return model.eval()


def wan_inputs(
    seed: int = 0, *, batch: int = 1, grid: tuple[int, int, int] = (3, 8, 8), channels: int = 4, timestep: float = 500.0
) -> dict[str, Any]:
    """Forward arguments for a token grid (T, H, W); latents are [batch, channels, T, 2H, 2W]."""
    generator = seeded(seed)
    frames, height, width = grid
    return {
        "hidden_states": torch.randn(batch, channels, frames, 2 * height, 2 * width, generator=generator),
        "timestep": torch.full((batch,), timestep),
        "encoder_hidden_states": torch.randn(batch, TEXT_TOKENS, TEXT_DIM, generator=generator),
        "return_dict": False,
    }


def wan_i2v_inputs(seed: int = 0, **options: Any) -> dict[str, Any]:
    """As `wan_inputs`, with an image embedding; diffusers cuts the text at its last 512 rows, so it has 512 here."""
    inputs = wan_inputs(seed, channels=12, **options)
    generator = seeded(seed + 1)
    batch = inputs["hidden_states"].shape[0]
    inputs["encoder_hidden_states"] = torch.randn(batch, 512, TEXT_DIM, generator=generator)
    inputs["encoder_hidden_states_image"] = torch.randn(batch, IMAGE_TOKENS, IMAGE_DIM, generator=generator)
    return inputs


def per_token_timestep(inputs: dict[str, Any], timestep: float = 500.0) -> dict[str, Any]:
    """Wan 2.2 TI2V: one timestep per token, 0 on the first frame (the given image)."""
    batch, _, frames, height, width = inputs["hidden_states"].shape
    tokens = torch.full((frames, height // 2, width // 2), timestep)
    tokens[0] = 0
    return inputs | {"timestep": tokens.flatten().expand(batch, -1)}


def hunyuan_inputs(
    seed: int = 0,
    *,
    text_lengths: tuple[int, ...] = (7,),
    grid: tuple[int, int, int] = (3, 8, 8),
    timestep: float = 500.0,
) -> dict[str, Any]:
    """Forward arguments for HunyuanVideo; sample i has text_lengths[i] valid text tokens of TEXT_TOKENS."""
    generator = seeded(seed)
    batch = len(text_lengths)
    frames, height, width = grid
    mask = torch.arange(TEXT_TOKENS)[None] < torch.tensor(text_lengths)[:, None]
    return {
        "hidden_states": torch.randn(batch, 4, frames, 2 * height, 2 * width, generator=generator),
        "timestep": torch.full((batch,), timestep),
        "encoder_hidden_states": torch.randn(batch, TEXT_TOKENS, TEXT_DIM, generator=generator),
        "encoder_attention_mask": mask.float(),
        "pooled_projections": torch.randn(batch, 8, generator=generator),
        "guidance": torch.full((batch,), 6000.0),
        "return_dict": False,
    }


def tiny_tokenizer() -> PreTrainedTokenizerFast:
    """Word level, with T5's special tokens; unknown words become <unk>."""
    vocabulary = {word: index for index, word in enumerate(["<pad>", "</s>", "<unk>", *WORDS])}
    tokenizer = Tokenizer(WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.post_processor = TemplateProcessing(single="$A </s>", special_tokens=[("</s>", vocabulary["</s>"])])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>", model_max_length=512
    )


def tiny_text_encoder(seed: int = 0, vocabulary: int = 64) -> UMT5EncoderModel:
    config = UMT5Config(
        vocab_size=vocabulary, d_model=TEXT_DIM, d_kv=8, d_ff=37, num_layers=2, num_heads=4, dropout_rate=0.0
    )
    model = UMT5EncoderModel(config)
    randomise(model, seed)
    return model.eval()


def tiny_vae(seed: int = 0, z_dim: int = 4) -> AutoencoderKLWan:
    """8x in space, 4x in time: frames 4n + 1, sides multiples of 8 (16 with the transformer's patches)."""
    model = AutoencoderKLWan(
        base_dim=3,
        z_dim=z_dim,
        dim_mult=[1, 1, 1, 1],
        num_res_blocks=1,
        temperal_downsample=[False, True, True],
        latents_mean=[0.0] * z_dim,
        latents_std=[1.0] * z_dim,
    )
    randomise(model, seed)
    return model.eval()


def tiny_wan_components(seed: int = 0, *, two_experts: bool = False, unipc: bool = False) -> dict[str, Any]:
    """Everything that WanPipeline is made of."""
    scheduler = (
        UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0)
        if unipc
        else FlowMatchEulerDiscreteScheduler(shift=3.0)
    )
    return {
        "tokenizer": tiny_tokenizer(),
        "text_encoder": tiny_text_encoder(seed),
        "vae": tiny_vae(seed),
        "transformer": tiny_wan(seed),
        "transformer_2": tiny_wan(seed + 1, layers=2) if two_experts else None,
        "scheduler": scheduler,
    }


def tiny_wan_pipeline(
    seed: int = 0,
    *,
    two_experts: bool = False,
    boundary_ratio: float | None = None,
    expand_timesteps: bool = False,
    unipc: bool = False,
) -> WanPipeline:
    """`two_experts` is Wan 2.2 A14B's layout (boundary_ratio 0.875 there), `expand_timesteps` that of TI2V-5B."""
    pipeline = WanPipeline(
        **tiny_wan_components(seed, two_experts=two_experts, unipc=unipc),
        boundary_ratio=(boundary_ratio or 0.875) if two_experts else None,
        expand_timesteps=expand_timesteps,
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def tiny_wan_i2v_pipeline(seed: int = 0) -> WanImageToVideoPipeline:
    """Wan 2.2's I2V layout: no image encoder, the image is in the latents (4 noise, 4 mask, 4 image channels).

    Call it with `wan_prompt()`: with a string it needs the package ftfy (diffusers 0.42.1).
    """
    components = tiny_wan_components(seed)
    components["transformer"] = tiny_wan(seed, in_channels=12)
    pipeline = WanImageToVideoPipeline(**components)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def wan_prompt(seed: int = 0) -> dict[str, torch.Tensor]:
    """Embeddings in place of a prompt and its negative, for the Wan pipelines."""
    generator = seeded(seed)
    names = ("prompt_embeds", "negative_prompt_embeds")
    return {name: torch.randn(1, TEXT_TOKENS, TEXT_DIM, generator=generator) for name in names}


def tiny_hunyuan_pipeline(seed: int = 0) -> HunyuanVideoPipeline:
    """Without text encoders: call it with `hunyuan_prompt()`; its VAE is AutoencoderKLHunyuanVideo, 8x and 4x."""
    vae = AutoencoderKLHunyuanVideo(
        latent_channels=4,
        block_out_channels=(8, 8, 8, 8),
        layers_per_block=1,
        norm_num_groups=4,
        scaling_factor=0.476986,
    )
    randomise(vae, seed)
    pipeline = HunyuanVideoPipeline(
        text_encoder=None,  # ty: ignore[invalid-argument-type]
        tokenizer=None,  # ty: ignore[invalid-argument-type]
        transformer=tiny_hunyuan(seed),
        vae=vae.eval(),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=7.0),
        text_encoder_2=None,  # ty: ignore[invalid-argument-type]
        tokenizer_2=None,  # ty: ignore[invalid-argument-type]
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def hunyuan_prompt(seed: int = 0, text_length: int = 7) -> dict[str, torch.Tensor]:
    """Embeddings in place of a prompt, for `tiny_hunyuan_pipeline`."""
    inputs = hunyuan_inputs(seed, text_lengths=(text_length,))
    return {
        "prompt_embeds": inputs["encoder_hidden_states"],
        "pooled_prompt_embeds": inputs["pooled_projections"],
        "prompt_attention_mask": inputs["encoder_attention_mask"],
    }
