"""SATA: one model that tracks and segments anything in any modality (arXiv 2511.19475)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import nn
from torch.nn import functional
from transformers import AutoConfig, AutoModel, PreTrainedModel
from transformers import initialization as init
from transformers.utils import ModelOutput

from .boxes import region_features
from .configuration_sata import SataConfig
from .decoder import MASK_WIDTH, Decoded, MaskDecoder
from .detection import DetectionHead, Detections, expected_heat
from .encoder import SataEncoder
from .experts import Routing
from .matching import affinity
from .memory import REGION, CandidateEmbedder, Signature, TrackletEmbedder
from .modalities import RGB
from .neck import DeformableConv, DynamicHeadBlock, Neck
from .prompts import PromptEncoder, Prompts, resized_masks

DECODER_SCALE = 1  # of the fused maps; stride 8
STEM_WIDTH = 16
FIRST_TEMPERATURE = 2.3  # the logarithm of 10
FIRST_DUSTBIN = 0.4  # its tanh is a cosine


@dataclass(frozen=True)
class Features:
    """What the model has seen of a batch of frames.

    Attributes:
        fused: F^A, [B, d, H/4, W/4] ... [B, d, H/32, W/32].
        fine: [B, 32, H/2, W/2], what masks are drawn on.
        stems: [B, 32, H/2, W/2], the two streams' own detail, the first's and then the other's.
        routing: what the experts did.
    """

    fused: list[torch.Tensor]
    fine: torch.Tensor
    stems: torch.Tensor
    routing: Routing


@dataclass(frozen=True)
class Embedded:
    """n candidates: fine-grained vectors [n, d], query tokens [n, q, d] and signatures [n, 2d]."""

    fine: torch.Tensor
    queries: torch.Tensor
    signature: torch.Tensor

    def memory(self) -> torch.Tensor:
        """As the mask decoder is prompted with it: [n, 1 + q, d]."""
        return torch.cat([self.fine[:, None], self.queries], 1)


@dataclass
class SataOutput(ModelOutput):
    """What `SataModel.forward` makes of B frames; h and w are half of theirs.

    Attributes:
        logits: [B, 1, h, w], how likely the middle of an instance is in each cell.
        sides: [B, 4, h, w], from there to its left, upper, right and lower edge, in units of the frame's sides.
        feature_maps: F^A, [B, d, H/4, W/4] ... [B, d, H/32, W/32].
        mask_features: [B, 32, H/2, W/2], what masks are drawn on.
    """

    logits: torch.Tensor | None = None
    sides: torch.Tensor | None = None
    feature_maps: tuple[torch.Tensor, ...] | None = None
    mask_features: torch.Tensor | None = None


class SataPreTrainedModel(PreTrainedModel):
    config_class = SataConfig
    base_model_prefix = "sata"
    main_input_name = "pixel_values"
    input_modalities = ["video"]  # noqa: RUF012
    _supports_sdpa = True
    # Half precision is the encoder's, where nearly all of the work is; boxes and matching need more digits.
    _keep_in_fp32_modules_strict = [  # noqa: RUF012
        "neck", "stem", "sharpen", "blur", "detection", "decoder", "candidates", "tracklets", "signature",
        "temperature", "dustbin",
    ]  # fmt: skip

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, nn.Linear | nn.Conv2d):
            if getattr(module, "starts_from_zero", False):
                init.zeros_(module.weight)
            else:
                init.lecun_normal_(module.weight)
            if module.bias is not None:
                init.zeros_(module.bias)
            return
        super()._init_weights(module)
        if isinstance(module, DeformableConv):
            fill(module.guide, 0.0)
        elif isinstance(module, DynamicHeadBlock):
            fill(module.task[2], 0.0)
        elif isinstance(module, DetectionHead):
            fill(module.middle, -4.0, "bias")
            fill(module.edges, -2.0, "bias")
        elif isinstance(module, PromptEncoder):
            init.normal_(module.frequencies)
            init.normal_(module.kinds.weight, std=0.5)
            init.normal_(module.memory_place, std=0.1)
        elif isinstance(module, MaskDecoder):
            init.normal_(module.outputs, std=0.5)
        elif isinstance(module, CandidateEmbedder):
            init.normal_(module.queries, std=0.5)
        elif isinstance(module, TrackletEmbedder):
            init.zeros_(module.read)
        elif isinstance(module, SataEncoder):
            init.zeros_(module.mask_token)
            init.normal_(module.trunk.pos_embed, std=0.02)
            init.normal_(module.trunk.pos_embed_window, std=0.02)
            for block in module.trunk.blocks:  # here, because the trunk initialises what is in it by its own rule
                block.mlp.start_from_zero()
        elif isinstance(module, SataModel):
            init.constant_(module.temperature, FIRST_TEMPERATURE)
            init.constant_(module.dustbin, FIRST_DUSTBIN)


def fill(layer: nn.Module, value: float, only: str = "") -> None:
    """Set a layer's parameters, or the one named, to a value, unless they were loaded."""
    for name, parameter in layer.named_parameters():
        if only in ("", name):
            init.constant_(parameter, value)


class SataModel(SataPreTrainedModel):
    """The network: frames to features, features to detections, prompts to masks, candidates to signatures.

    It holds no state of a video; that is a session's, which puts these steps together.
    """

    def __init__(self, config: SataConfig) -> None:
        super().__init__(config)
        self.encoder = SataEncoder(config)
        self.neck = Neck(config, self.encoder.widths)
        self.stem = nn.Conv2d(3, STEM_WIDTH, 5, stride=2, padding=2)
        self.sharpen = nn.Conv2d(STEM_WIDTH, MASK_WIDTH, 3, padding=1)
        self.blur = nn.Conv2d(config.hidden_size, MASK_WIDTH, 1)
        self.detection = DetectionHead(config, 2 * STEM_WIDTH)
        self.decoder = MaskDecoder(config, 2 * STEM_WIDTH)
        self.candidates = CandidateEmbedder(config, 2 * STEM_WIDTH)
        self.tracklets = TrackletEmbedder(config)
        self.signature = Signature(config)
        self.temperature = nn.Parameter(torch.tensor(FIRST_TEMPERATURE))
        self.dustbin = nn.Parameter(torch.tensor(FIRST_DUSTBIN))
        self.post_init()

    def train(self, mode: bool = True) -> Self:
        """As of every module; shared experts stay frozen, which loading a checkpoint makes them forget."""
        super().train(mode)
        if self.config.use_experts:
            for block in self.encoder.trunk.blocks:
                block.mlp.shared.requires_grad_(False)
        return self

    def forward(
        self,
        pixel_values: torch.Tensor,
        auxiliary_values: torch.Tensor | None = None,
        modality_ids: torch.Tensor | None = None,
        first_modality_ids: torch.Tensor | None = None,
        **kwargs: Any,
    ) -> SataOutput:
        """Detection maps and features of what `SataImageProcessor` makes of frames; videos go through a session."""
        features = self.features(pixel_values, auxiliary_values, modality_ids, first_modality_ids)
        logits, sides = self.detection(features.fused[0], features.stems)
        return SataOutput(logits, sides, tuple(features.fused), features.fine)

    def features(
        self,
        pixel_values: torch.Tensor,
        auxiliary_values: torch.Tensor | None = None,
        modality_ids: torch.Tensor | None = None,
        first_modality_ids: torch.Tensor | None = None,
    ) -> Features:
        """`encode` of what `SataImageProcessor` makes; without auxiliary values one sensor stands alone."""
        paired = auxiliary_values is not None
        other = pixel_values if auxiliary_values is None else auxiliary_values
        return self.encode(pixel_values, other, modality_ids, paired=paired, first=first_modality_ids)

    def encode(
        self,
        rgb: torch.Tensor,
        other: torch.Tensor,
        modality: torch.Tensor | None,
        *,
        paired: bool = True,
        first: torch.Tensor | None = None,
    ) -> Features:
        """Features of frames float [B, 3, H, W], whose sides are multiples of `encoder.stride`.

        Args:
            other: the aligned auxiliary map, three channels.
            modality: int64 [B], its place in `config.modalities`; None lets the routers find out.
            paired: False where both streams are the same; `rgb` is encoded once and counts for both, of the modality
                given (RGB for None).
            first: int64 [B], what `rgb` is where it is not RGB (a camera is missing and the other map stands in).
        """
        if not paired and modality is None:
            modality = torch.full((len(rgb),), RGB, device=rgb.device)
        routing = Routing(modality, paired, first)
        precision = self.encoder.mask_token.dtype
        maps = self.encoder(rgb.to(precision), other.to(precision), routing)
        fused = self.neck([unified.to(self.stem.weight.dtype) for unified in maps])
        stem = functional.gelu(self.stem(rgb))
        second = functional.gelu(self.stem(other)) if paired else stem
        up = functional.interpolate(self.blur(fused[0]), stem.shape[2:], mode="bilinear", align_corners=False)
        return Features(fused, self.sharpen(stem + second) + up, torch.cat([stem, second], 1), routing)

    def detect(self, features: Features, expected: list[torch.Tensor] | None = None) -> list[Detections]:
        """What is in each frame (the prior of MOT and MOTS), `expected` being boxes [n, 4] that should be in it."""
        size = features.stems.shape[2:]
        heat = None if expected is None else expected_heat(expected, *size)
        return self.detection.read(*self.detection(features.fused[0], features.stems, heat))

    def decode(self, features: Features, prompts: Prompts) -> Decoded:
        """Candidate masks of what is prompted for (the prior of SOT and VOS)."""
        return self.decoder(prompts, features.fused[DECODER_SCALE], features.fine, features.stems)

    def embed(self, features: Features, boxes: torch.Tensor, masks: torch.Tensor, source: torch.Tensor) -> Embedded:
        """Embed candidates: boxes [n, 4] in units of the sides, masks [n, h, w] in 0..1, source int64 [n]."""
        regions = region_features(features.fused[0], boxes, source, REGION)
        rows = torch.arange(len(masks), device=masks.device)
        inside = region_features(masks[:, None].to(regions.dtype), boxes, rows, REGION)
        detail = region_features(features.stems, boxes, source, REGION)
        fine, queries = self.candidates(regions, detail, inside, boxes, source)
        return Embedded(fine, queries, self.signature(fine, queries))

    def recall(self, fine: torch.Tensor, queries: torch.Tensor, age: torch.Tensor, seen: torch.Tensor) -> Embedded:
        """What tracklets remember, as candidates are embedded; arguments as of `TrackletEmbedder`."""
        fine, queries = self.tracklets(fine, queries, age, seen)
        return Embedded(fine, queries, self.signature(fine, queries))

    def affinity(self, candidates: Embedded, tracklets: Embedded) -> torch.Tensor:
        """A of every pair, [m, n] (section 3.4)."""
        dustbin = None if self.config.paper_matching else self.dustbin.tanh()
        return affinity(candidates.signature, tracklets.signature, self.temperature.exp(), dustbin)

    def mask_prompt(self, masks: torch.Tensor, features: Features) -> torch.Tensor:
        """Masks [n, H, W] as the decoder is prompted with them."""
        return resized_masks(masks, *features.fused[DECODER_SCALE].shape[2:])


# `exist_ok` because copies of this module that trust_remote_code makes register anew.
SataConfig.register_for_auto_class()
SataModel.register_for_auto_class("AutoModel")
AutoConfig.register(SataConfig.model_type, SataConfig, exist_ok=True)
AutoModel.register(SataConfig, SataModel, exist_ok=True)
