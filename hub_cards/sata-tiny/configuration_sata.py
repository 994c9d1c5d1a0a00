"""Configuration of a SATA model (arXiv 2511.19475)."""

from __future__ import annotations

from huggingface_hub.dataclasses import strict
from transformers import AutoConfig
from transformers.configuration_utils import PreTrainedConfig, SubConfigSpec

from .modalities import MODALITIES


@strict
class SataConfig(PreTrainedConfig):
    """What a SATA model is made of; the defaults are the paper's where it names a value.

    Attributes:
        backbone_config: a hierarchical encoder of transformers; SAM 2's Hiera trunk unless given.
        hidden_size: width of everything after the encoder.
        num_common_experts, num_specific_experts, experts_per_token: of the mixtures in every block (section 3.2);
            specific experts are counted per modality.
        expert_reduction, min_expert_size: an expert's inner width is its block's width over the first, at least the
            second.
        use_experts: False is the paper's first stage: plain feed-forward layers that train.
        residual_prompt: the common prompt is (1 + a)(1 + b) - 1 of the two streams' projections rather than a * b,
            whose gradient vanishes where both start at zero.
        half_sum: the unified map is the mean of the streams, not their sum, so that heads trained on one fit it.
        num_query_tokens: of the Q-Former, per instance. memory_frames: how many frames of them a tracklet keeps (T).
        max_missed_frames: after so many unmatched frames a tracklet ends (T_E).
        num_mask_candidates: masks per prompt, the target and its look-alikes.
        mask_affinity_threshold, match_threshold: tau_mask and tau_th. new_track_threshold, keep_threshold: detection
            scores that open and that go on with a track. nms_threshold: box IoU above which a detection is a repeat.
        box_margin: the share by which a detected box reaches further on every side than the head says: where a prompt
            cuts its object off, the mask does too.
        use_relative_coords: give the mask decoder each pixel's place in the prompted box; what a small model needs.
        paper_matching: no column for "none of these" in the matching.
        motion_weight: how much a candidate's overlap with where a tracklet should be by now counts beside their
            affinity; 0 is the paper, which matches by looks alone and cannot tell twins apart.
    """

    model_type = "sata"
    sub_configs_defaults = {  # noqa: RUF012
        "backbone_config": SubConfigSpec(config_class=AutoConfig, model_type="sam2_hiera_det_model")
    }

    backbone_config: dict | PreTrainedConfig | None = None
    hidden_size: int = 256
    num_attention_heads: int = 8
    modalities: list[str] | tuple[str, ...] = MODALITIES
    num_common_experts: int = 4
    num_specific_experts: int = 4
    experts_per_token: int = 2
    expert_reduction: int = 8
    min_expert_size: int = 8
    use_experts: bool = True
    residual_prompt: bool = True
    half_sum: bool = False
    num_query_tokens: int = 8
    memory_frames: int = 15
    max_missed_frames: int = 50
    num_mask_candidates: int = 3
    num_decoder_layers: int = 2
    num_dynamic_head_blocks: int = 4
    mask_affinity_threshold: float = 0.7
    match_threshold: float = 0.75
    new_track_threshold: float = 0.5
    keep_threshold: float = 0.3
    nms_threshold: float = 0.7
    box_margin: float = 0.0
    use_relative_coords: bool = False
    paper_matching: bool = False
    motion_weight: float = 0.0
    complementary_weight: float = 1.0
    orthogonal_weight: float = 0.1
    task_weight: float = 0.1
    balance_weight: float = 0.01
    masked_share: float = 0.5
    initializer_range: float = 0.02

    def validate_architecture(self) -> None:
        """What fits together; called by `@strict`."""
        fewest = min(self.num_common_experts, self.num_specific_experts)
        if not 1 <= self.experts_per_token <= fewest:
            raise ValueError(
                f"experts_per_token is {self.experts_per_token}, but a router has {fewest} experts: give 1 to {fewest}."
            )
        if self.modalities[:1] not in (["rgb"], ("rgb",)) or len(set(self.modalities)) != len(self.modalities):
            raise ValueError(f"modalities is {self.modalities}: name each once and 'rgb' first.")
        if self.hidden_size % self.num_attention_heads:
            raise ValueError(
                f"hidden_size {self.hidden_size} is not a multiple of num_attention_heads {self.num_attention_heads}."
            )
