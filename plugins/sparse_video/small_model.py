"""The small checkpoint's parts: Wan's own classes at a configuration that two CPU cores can train."""

from __future__ import annotations

from typing import Any

from diffusers.models.autoencoders.autoencoder_kl_wan import AutoencoderKLWan
from diffusers.models.transformers.transformer_wan import WanTransformer3DModel
from diffusers.schedulers.scheduling_flow_match_euler_discrete import FlowMatchEulerDiscreteScheduler
from transformers import PreTrainedTokenizerFast, UMT5Config, UMT5EncoderModel

from .vocabulary import build_tokenizer

LATENT_CHANNELS = 16
TEXT_TOKENS = 40
FRAMES, HEIGHT, WIDTH = 57, 96, 96  # 29 x 12 x 12 = 4,176 tokens
STEPS = 8
DEFAULTS: dict[str, Any] = {
    "default_num_frames": FRAMES,
    "default_height": HEIGHT,
    "default_width": WIDTH,
    "default_num_inference_steps": STEPS,
    "default_guidance_scale": 1.0,
    "max_sequence_length": TEXT_TOKENS,
    "max_tokens": 4 * 4176,
    "fps": 15.0,
    "noise_strength": 2.0,
    # Blocks of 64, not the paper's 128: a shape is a few tokens wide. Forced neighbours would be a large part of the 66
    # blocks.
    # The first step dense, as the paper has it for Wan (5 of 50).
    "default_attention": {"density": 0.25, "block_size": 64, "neighbors": False, "dense_steps": 0.1},
}


def new_vae() -> AutoencoderKLWan:
    """A causal video VAE: 8 x 8 pixels and 2 frames (the first: 1) to 16 numbers."""
    return AutoencoderKLWan(
        base_dim=24,
        decoder_base_dim=32,
        z_dim=LATENT_CHANNELS,
        dim_mult=[1, 1],
        num_res_blocks=1,
        temperal_downsample=[True],
        is_residual=True,
        in_channels=48,
        out_channels=48,
        patch_size=4,
        scale_factor_temporal=2,
        scale_factor_spatial=8,
        latents_mean=[0.0] * LATENT_CHANNELS,
        latents_std=[1.0] * LATENT_CHANNELS,
    )


def new_tokenizer() -> PreTrainedTokenizerFast:
    """One token per word of the prompts' grammar."""
    return build_tokenizer(TEXT_TOKENS)


def new_text_encoder(tokenizer: PreTrainedTokenizerFast) -> UMT5EncoderModel:
    """UMT5's encoder, three layers 128 wide; 0.6 M parameters."""
    return UMT5EncoderModel(
        UMT5Config(
            vocab_size=len(tokenizer),
            d_model=128,
            d_kv=32,
            d_ff=256,
            num_layers=3,
            num_heads=4,
            dropout_rate=0.0,
            feed_forward_proj="gated-gelu",
            pad_token_id=tokenizer.pad_token_id,
            eos_token_id=tokenizer.eos_token_id,
            decoder_start_token_id=tokenizer.pad_token_id,
        )
    )


def new_transformer() -> WanTransformer3DModel:
    """A Wan transformer: 6 layers, 3 heads of 64; one token per latent position; 4 M parameters."""
    return WanTransformer3DModel(
        patch_size=(1, 1, 1),
        num_attention_heads=3,
        attention_head_dim=64,
        in_channels=LATENT_CHANNELS,
        out_channels=LATENT_CHANNELS,
        text_dim=128,
        freq_dim=256,
        ffn_dim=768,
        num_layers=6,
        cross_attn_norm=True,
        qk_norm="rms_norm_across_heads",
        rope_max_seq_len=64,
    )


def new_scheduler() -> FlowMatchEulerDiscreteScheduler:
    """Flow matching with more steps spent on the noisy end."""
    return FlowMatchEulerDiscreteScheduler(num_train_timesteps=1000, shift=3.0)
