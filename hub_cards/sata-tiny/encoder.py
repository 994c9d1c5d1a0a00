"""The weight-shared encoder: one hierarchical transformer for RGB and the auxiliary map, with DeMoE in every block."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional
from transformers import AutoModel

from .configuration_sata import SataConfig
from .experts import DeMoE, Routing

TRUNKS = ("sam2_hiera_det_model",)


class SataEncoder(nn.Module):
    """Encodes pairs of aligned frames to one map per scale.

    `forward(rgb, other, routing)` takes images float [B, 3, H, W] with sides that are multiples of `stride`, and gives
    the unified maps F^U [B, c, H/4, W/4] ... [B, c', H/32, W/32], the finest first. With `routing.paired` False,
    `other` is not looked at: both streams would be `rgb`.
    """

    def __init__(self, config: SataConfig) -> None:
        super().__init__()
        kind = getattr(config.backbone_config, "model_type", None)
        if kind not in TRUNKS:
            raise ValueError(f"backbone {kind!r} has no adapter yet: one of {', '.join(TRUNKS)} has.")
        self.config = config
        self.trunk = AutoModel.from_config(config.backbone_config)
        self.mask_token = nn.Parameter(torch.zeros(self.trunk.config.embed_dim_per_stage[0]))
        for block in self.trunk.blocks:
            block.mlp = DeMoE(block.mlp, block.dim_out, config)

    @property
    def widths(self) -> list[int]:
        """Of the maps, the finest first."""
        return list(self.trunk.config.embed_dim_per_stage)

    @property
    def stride(self) -> int:
        """What the sides of an image have to be multiples of, for whole windows and whole tokens at every scale."""
        config = self.trunk.config
        first = config.patch_stride[0]
        return first * max(config.window_size_per_stage[0], 2 ** (len(self.widths) - 1))

    def forward(
        self,
        rgb: torch.Tensor,
        other: torch.Tensor,
        routing: Routing,
        hidden: torch.Tensor | None = None,
    ) -> list[torch.Tensor]:
        """See the class.

        Args:
            hidden: bool [streams, h, w] at the first scale; those tokens are replaced by the mask token (section 3.2,
                the complementary loss).
        """
        images = torch.cat([rgb, other]) if routing.paired else rgb
        tokens = self.trunk.patch_embed(images)
        if hidden is not None:
            tokens = torch.where(hidden[..., None], self.mask_token.to(tokens.dtype), tokens)
        tokens = tokens + self.trunk._get_pos_embed(tokens.shape[1:3])
        maps = []
        for index, block in enumerate(self.trunk.blocks):
            block.mlp.routing = routing
            tokens = block(tokens)
            if index in self.trunk.stage_ends:
                maps.append(self.unify(tokens, routing.paired).permute(0, 3, 1, 2))
        return maps

    def unify(self, tokens: torch.Tensor, paired: bool) -> torch.Tensor:
        """F^U = F^R + F^X, or their mean."""
        rgb, other = tokens.chunk(2) if paired else (tokens, tokens)
        return (rgb + other) / 2 if self.config.half_sum else rgb + other


def complementary_loss(
    encoder: SataEncoder, rgb: torch.Tensor, other: torch.Tensor, routing: Routing, generator: torch.Generator | None
) -> torch.Tensor:
    """L_CM: common features with a part of one stream hidden should be those of the whole (section 3.2).

    Both sides are layer-normalised first: on raw features the error is mostly one of scale.

    Args:
        routing: of the pass over the whole images, whose common features are the target; nothing is learned through
            them.
    """
    if not routing.paired or not encoder.config.use_experts:
        return rgb.new_zeros(())
    count, (height, width) = len(rgb), (side // encoder.trunk.config.patch_stride[0] for side in rgb.shape[2:])
    chosen = torch.rand(count, generator=generator) < 0.5
    patches = torch.rand(count, height, width, generator=generator) < encoder.config.masked_share
    hidden = torch.cat([patches & chosen[:, None, None], patches & ~chosen[:, None, None]]).to(rgb.device)
    seen = Routing(routing.modality, first=routing.first)
    encoder(rgb, other, seen, hidden)
    terms = []
    for guess, truth in zip(seen.common, routing.common, strict=True):
        size = guess.shape[-1:]
        terms.append(
            functional.mse_loss(functional.layer_norm(guess, size), functional.layer_norm(truth.detach(), size))
        )
    return torch.stack(terms).mean()


def orthogonal_loss(routing: Routing) -> torch.Tensor:
    """L_CE: the mean |cos| between what common and what specific experts make of a token (arXiv 2103.14021, eq. 3)."""
    terms = [
        functional.cosine_similarity(prompt, specific, dim=-1).abs().mean()
        for prompt, specific in zip(routing.prompts, routing.specific, strict=True)
    ]
    return torch.stack(terms).mean() if terms else torch.zeros(())


def task_loss(routing: Routing, modality: torch.Tensor) -> torch.Tensor:
    """L_TASK: cross entropy of the cross-modal routers (appendix)."""
    terms = [functional.cross_entropy(logits.float(), modality) for logits in routing.modality_logits]
    return torch.stack(terms).mean() if terms else torch.zeros(())
