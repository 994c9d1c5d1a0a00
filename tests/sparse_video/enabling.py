"""What the tests of `enable_rectified_attention` share: settings, a short video, and exactness."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from plugins.sparse_video.config import RectifiedAttentionConfig
from plugins.sparse_video.enable import enable_rectified_attention
from plugins.sparse_video.handle import RectifiedAttentionHandle

from .tiny_models import seeded, wan_prompt

SPARSE = RectifiedAttentionConfig(density=0.25, block_size=16, min_tokens=16, neighbors=False)
ALL_BLOCKS = SPARSE.replace(top_p=1.0)  # the sparse path, with nothing left out
DENSE = SPARSE.replace(density=1.0)

VIDEO: dict[str, Any] = {"height": 64, "width": 64, "num_frames": 9, "output_type": "latent"}
SMALL = SPARSE.replace(block_size=4, min_tokens=4)  # such a video is a grid of (3, 4, 4): 48 tokens


def video(pipeline: Any, steps: int = 4, *, guidance_scale: float = 1.0, prompt: Any = None) -> Tensor:
    """Latents of a short video; `prompt` holds embeddings and whatever else the pipeline needs."""
    options = VIDEO | wan_prompt() | {"guidance_scale": guidance_scale} | (prompt or {})
    return pipeline(num_inference_steps=steps, generator=seeded(0), **options).frames


def run(model: Any, inputs: dict[str, Any]) -> Tensor:
    return model(**inputs)[0]


def enable(
    target: Any, config: RectifiedAttentionConfig = SPARSE, executor: Any = "reference"
) -> RectifiedAttentionHandle:
    return enable_rectified_attention(target, config, executor=executor)


def assert_near(actual: Tensor, expected: Tensor, tolerance: float = 1e-5) -> None:
    error = (actual - expected).abs().max() / expected.abs().max()
    assert error <= tolerance, f"relative error {error:.1e}"
