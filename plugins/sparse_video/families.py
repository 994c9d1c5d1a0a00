"""The families of video models, each run by diffusers' own pipeline built from the same components."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any

import diffusers
import torch
from diffusers.pipelines.pipeline_utils import DiffusionPipeline
from diffusers.pipelines.wan.pipeline_wan import WanPipeline
from diffusers.utils.torch_utils import get_module_execution_device

from .errors import SparseVideoInputError

_TEXT = ("tokenizer", "text_encoder", "vae", "transformer", "scheduler")
_WAN_OPTIONS = ("boundary_ratio", "expand_timesteps")


@dataclass(frozen=True)
class Family:
    """One family.

    Attributes:
        name: as the checkpoint's configuration holds it.
        pipeline_name: diffusers' pipeline, which owns the denoising loop.
        components: what that pipeline is built from.
        options: what else it is built from.
        takes_image: whether a call needs the first frame.
        masked: whether its self-attention gets a boolean mask (for padded text).
        fps: frames per second that the model was trained at.
    """

    name: str
    pipeline_name: str
    components: tuple[str, ...]
    options: tuple[str, ...] = ()
    takes_image: bool = False
    masked: bool = False
    fps: float = 16.0

    @property
    def pipeline(self) -> type[DiffusionPipeline]:
        """Its class, imported on first use: importing another family's costs time and warnings."""
        return getattr(diffusers, self.pipeline_name)

    def default(self, name: str) -> Any:
        """The default of an argument of the pipeline's call."""
        return inspect.signature(self.pipeline.__call__).parameters[name].default

    def arguments(self) -> set[str]:
        """Names that the pipeline's call takes."""
        return set(inspect.signature(self.pipeline.__call__).parameters)


FAMILIES = {
    family.name: family
    for family in (
        Family("wan", "WanPipeline", (*_TEXT, "transformer_2"), _WAN_OPTIONS),
        Family(
            "wan-image",
            "WanImageToVideoPipeline",
            (*_TEXT, "transformer_2", "image_encoder", "image_processor"),
            _WAN_OPTIONS,
            takes_image=True,
        ),
        Family("hunyuan", "HunyuanVideoPipeline", (*_TEXT, "text_encoder_2", "tokenizer_2"), masked=True, fps=24.0),
    )
}
CLASSES = {family.pipeline_name: family.name for family in FAMILIES.values()}


def find_family(name: str | None, transformer: Any) -> Family:
    """The family of that name; None asks the transformer.

    Raises:
        SparseVideoInputError: there is no such family.
    """
    if name is None:
        name = _family_of(transformer)
    if name not in FAMILIES:
        raise SparseVideoInputError(f"family is {name!r}; it is one of {', '.join(map(repr, FAMILIES))}")
    return FAMILIES[name]


def _family_of(transformer: Any) -> str:
    kind = type(transformer).__name__
    if kind == "HunyuanVideoTransformer3DModel":
        return "hunyuan"
    if kind == "WanTransformer3DModel":
        # Image-to-video takes the image's latents as further input channels.
        return "wan" if transformer.config.in_channels == transformer.config.out_channels else "wan-image"
    raise SparseVideoInputError(
        f"a {kind} is not of a family that is known here: give a WanTransformer3DModel or a "
        "HunyuanVideoTransformer3DModel"
    )


def build_delegate(family: Family, owner: Any, scheduler: Any) -> Any:
    """diffusers' pipeline over the owner's components, with this scheduler; holds no weights of its own."""
    parts = {name: getattr(owner, name) for name in family.components}
    options = {name: owner.config[name] for name in family.options}
    return family.pipeline(**{**parts, "scheduler": scheduler}, **options)


def encode_text(
    family: Family,
    delegate: Any,
    prompts: list[str],
    negatives: list[str] | None,
    *,
    guided: bool,
    max_sequence_length: int,
    videos_per_prompt: int,
) -> dict[str, torch.Tensor]:
    """Prompts as the keyword arguments that the delegate's call takes in place of them."""
    settings: dict[str, Any] = {
        "num_videos_per_prompt": videos_per_prompt,
        "max_sequence_length": max_sequence_length,
        "device": delegate._execution_device,
    }
    if family.name == "hunyuan":
        names = ("prompt_embeds", "pooled_prompt_embeds", "prompt_attention_mask")
        found = dict(zip(names, delegate.encode_prompt(prompts, **settings), strict=True))
        if guided and negatives is not None:
            encoded = delegate.encode_prompt(negatives, **settings)
            found |= {f"negative_{name}": value for name, value in zip(names, encoded, strict=True)}
        return found
    if family.takes_image:
        # This pipeline's own text cleaning fails without the package ftfy (diffusers 0.42.1); that of text-to-video,
        # otherwise the same, does not.
        delegate = WanPipeline(**{name: getattr(delegate, name) for name in _TEXT})
    positive, negative = delegate.encode_prompt(prompts, negatives, do_classifier_free_guidance=guided, **settings)
    return {"prompt_embeds": positive} | ({} if negative is None else {"negative_prompt_embeds": negative})


def to_vae_space(vae: Any, latents: torch.Tensor) -> torch.Tensor:
    """Latents of the transformer, [B, C, T, H, W], as the decoder takes them."""
    if "latents_mean" not in vae.config or vae.config.get("latents_mean") is None:
        return latents / vae.config.scaling_factor
    mean, inverse_std = _wan_scale(vae, latents)
    return latents / inverse_std + mean


def from_vae_space(vae: Any, latents: torch.Tensor) -> torch.Tensor:
    """Latents of the encoder, [B, C, T, H, W], as the transformer takes them."""
    if "latents_mean" not in vae.config or vae.config.get("latents_mean") is None:
        return latents * vae.config.scaling_factor
    mean, inverse_std = _wan_scale(vae, latents)
    return (latents - mean) * inverse_std


def _wan_scale(vae: Any, latents: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and 1 / standard deviation per channel; in the order of operations of diffusers, to the last bit."""
    shape = (1, -1, 1, 1, 1)
    mean = torch.tensor(vae.config.latents_mean).view(shape).to(latents.device, latents.dtype)
    inverse_std = 1.0 / torch.tensor(vae.config.latents_std).view(shape).to(latents.device, latents.dtype)
    return mean, inverse_std


def decode_latents(delegate: Any, latents: torch.Tensor, output_type: str) -> Any:
    """Latents, [B, C, T, H, W], as frames: "np" [B, F, H, W, 3] in 0..1, "pt" [B, F, 3, H, W], "pil" lists."""
    vae = delegate.vae
    latents = latents.to(get_module_execution_device(vae), dtype=vae.dtype)
    video = vae.decode(to_vae_space(vae, latents), return_dict=False)[0]
    return delegate.video_processor.postprocess_video(video, output_type=output_type)
