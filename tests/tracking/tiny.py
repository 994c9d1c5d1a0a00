"""A small SATA of random weights, for tests."""

from __future__ import annotations

from typing import Any

import torch
from transformers.models.sam2.configuration_sam2 import Sam2HieraDetConfig

from plugins.tracking.configuration_sata import SataConfig
from plugins.tracking.modeling_sata import SataModel


def tiny_config(**changes: Any) -> SataConfig:
    trunk = Sam2HieraDetConfig(
        hidden_size=16,
        embed_dim_per_stage=[16, 32, 40, 48],
        blocks_per_stage=[1, 1, 2, 1],
        num_attention_heads_per_stage=[1, 2, 2, 2],
        window_size_per_stage=[8, 4, 4, 2],
        global_attention_blocks=[3],
        image_size=[64, 64],
        mlp_ratio=2.0,
    )
    values: dict[str, Any] = {
        "hidden_size": 32,
        "num_attention_heads": 2,
        "num_dynamic_head_blocks": 1,
        "num_query_tokens": 4,
    }
    return SataConfig(backbone_config=trunk, **(values | changes))


def tiny_model(seed: int = 0, **changes: Any) -> SataModel:
    torch.manual_seed(seed)
    return SataModel(tiny_config(**changes)).eval()


def wake_experts(model: SataModel, seed: int = 0) -> SataModel:
    """Give the experts, which start by adding nothing, something to say."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, value in model.named_parameters():
            if ".specific." in name or ".project." in name or ".common." in name:
                value.copy_(torch.randn(value.shape, generator=generator) * 0.1)
    return model


def frames(count: int = 2, side: int = 64, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(seed))
