"""A cheap look at latents: the linear map from a latent position to its mean colour, fitted from the VAE itself."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from diffusers.utils.torch_utils import get_module_execution_device

from .families import from_vae_space

LONGEST_SIDE = 256
_CLIPS, _FRAMES, _CELLS = 8, 5, 8
_RIDGE = 1e-3


class LatentPreview:
    """Latents to small RGB frames with one matrix product.

    Args:
        weights: [channels + 1, 3]; the last row is the offset.
        spatial: pixels per latent position.
    """

    def __init__(self, weights: torch.Tensor, spatial: int) -> None:
        self._weights = weights
        self._spatial = spatial

    @classmethod
    def fit(cls, vae: Any, spatial: int) -> LatentPreview:
        """Encode still clips of coloured squares and fit their colours to their latents by least squares.

        Args:
            spatial: pixels per latent position of this VAE.
        """
        generator = torch.Generator().manual_seed(0)
        # Squares of two by two positions, so that most positions see a colour and not an edge.
        colours = torch.rand(_CLIPS, 3, _CELLS, _CELLS, generator=generator)
        pixels = colours.repeat_interleave(2 * spatial, -1).repeat_interleave(2 * spatial, -2)
        clips = (2 * pixels - 1)[:, :, None].expand(-1, -1, _FRAMES, -1, -1)
        clips = clips.to(get_module_execution_device(vae), vae.dtype)
        with torch.no_grad():
            latents = from_vae_space(vae, vae.encode(clips).latent_dist.mode()).float().cpu()
        targets = (
            colours.repeat_interleave(2, -1)
            .repeat_interleave(2, -2)[:, :, None]
            .expand(-1, -1, latents.shape[2], -1, -1)
        )
        inputs = _with_offset(latents.movedim(1, -1).reshape(-1, latents.shape[1]))
        outputs = targets.movedim(1, -1).reshape(-1, 3)
        gram = inputs.T @ inputs
        gram += _RIDGE * gram.diagonal().mean() * torch.eye(len(gram))
        return cls(torch.linalg.solve(gram, inputs.T @ outputs), spatial)

    def __call__(self, latents: torch.Tensor) -> np.ndarray:
        """The first clip of latents [B, C, T, H, W] as uint8 RGB [T, h, w, 3], one frame per latent frame.

        The longest side is at most 256 pixels and at most that of the decoded clip.
        """
        clip = latents[0].detach().float().movedim(0, -1)
        image = (_with_offset(clip) @ self._weights.to(clip.device)).clamp(0, 1).movedim(-1, 1)
        longest = max(image.shape[-2:])
        scale = max(1, min(self._spatial, LONGEST_SIDE // longest))
        large = torch.nn.functional.interpolate(image, scale_factor=scale, mode="bilinear", align_corners=False)
        return (255 * large.movedim(1, -1)).round().to(torch.uint8).cpu().numpy()


def _with_offset(values: torch.Tensor) -> torch.Tensor:
    return torch.cat([values, torch.ones_like(values[..., :1])], dim=-1)
