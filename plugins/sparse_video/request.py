"""One call, checked and with its defaults filled in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from diffusers.pipelines.wan.pipeline_wan import prompt_clean

from .checks import (
    Geometry,
    OutputType,
    as_prompts,
    check_choice,
    check_guidance,
    check_memory,
    check_text_lengths,
    check_tokens,
    check_whole,
    choose_config,
    choose_seeds,
)
from .config import RectifiedAttentionConfig
from .errors import SparseVideoInputError
from .families import Family

# Arguments of diffusers' pipelines that a call of ours sets itself, or that go with texts it encodes.
_OURS = {"self", "prompt", "negative_prompt", "image", "height", "width", "num_frames", "num_inference_steps"}
_OURS |= {"guidance_scale", "num_videos_per_prompt", "generator", "output_type", "return_dict"}
_OURS |= {"callback_on_step_end", "callback_on_step_end_tensor_inputs"}
_OURS |= {"prompt_2", "negative_prompt_2", "prompt_template"}
_SANE_LENGTH = 100_000  # tokenizers without a limit say 10**30
_CLIP_TOKENS = 77


@dataclass(frozen=True)
class Request:
    """One call.

    Attributes:
        prompts, negatives: texts; `prompts` is None where embeddings were given.
        clips: how many clips come out.
        num_frames, height, width, grid, tokens: the clip, and its visual tokens (time, height, width).
        num_inference_steps, guidance_scale, videos_per_prompt, max_sequence_length: as for diffusers.
        seed: None with generators of the caller's.
        generators: one per clip, or one for all.
        mode: "rectified", "sparse" or "dense".
        config: settings of the sparse attention; None for dense.
        executor: of the sparse part.
        output_type: of the frames.
        options: what goes to diffusers' pipeline as it is, the image included.
        warnings: what the caller should know.
    """

    prompts: list[str] | None
    negatives: list[str] | None
    clips: int
    num_frames: int
    height: int
    width: int
    grid: tuple[int, int, int]
    tokens: int
    num_inference_steps: int
    guidance_scale: float
    videos_per_prompt: int
    max_sequence_length: int
    seed: int | None
    generators: list[torch.Generator]
    mode: str
    config: RectifiedAttentionConfig | None
    executor: Any
    output_type: str
    options: dict[str, Any]
    warnings: tuple[str, ...] = ()

    @property
    def generator(self) -> torch.Generator | list[torch.Generator]:
        """As diffusers takes it: one, or one per clip."""
        return self.generators if len(self.generators) > 1 else self.generators[0]

    def params(self) -> dict[str, Any]:
        """What the call was given, JSON-able."""
        single = self.prompts is not None and len(self.prompts) == 1
        return {
            "prompt": self.prompts[0] if single and self.prompts else self.prompts,
            "negative_prompt": self.negatives[0] if single and self.negatives else self.negatives,
            "num_frames": self.num_frames,
            "height": self.height,
            "width": self.width,
            "num_inference_steps": self.num_inference_steps,
            "guidance_scale": self.guidance_scale,
            "num_videos_per_prompt": self.videos_per_prompt,
            "max_sequence_length": self.max_sequence_length,
            "attention": self.mode,
            "config": None if self.config is None else self.config.to_dict(),
            "executor": self.executor if isinstance(self.executor, str) else type(self.executor).__name__,
            "output_type": self.output_type,
            **{name: _plain(value) for name, value in self.options.items()},
        }


def make_request(
    pipeline: Any,
    delegate: Any,
    *,
    texts: tuple[Any, Any],
    size: Mapping[str, Any],
    sampling: Mapping[str, Any],
    sparsity: tuple[str, float | None, RectifiedAttentionConfig | None, Any],
    noise: tuple[Any, Any],
    output_type: str,
    options: dict[str, Any],
) -> Request:
    """Check everything and fill in the pipeline's defaults.

    Args:
        texts: prompt and negative prompt.
        size: num_frames, height, width; None for the default.
        sampling: num_inference_steps, guidance_scale (None for the default), num_videos_per_prompt.
        sparsity: attention, density, config, executor.
        noise: seed and generator.
        options: the image and further arguments of diffusers' pipeline.

    Raises:
        SparseVideoInputError: whatever is wrong, with what is allowed.
    """
    family: Family = pipeline.family
    size = {name: pipeline.default(name) if value is None else value for name, value in size.items()}
    grid = Geometry.of(delegate).grid(**size)
    steps, guidance = (
        pipeline.default(name) if sampling[name] is None else sampling[name]
        for name in ("num_inference_steps", "guidance_scale")
    )
    check_whole("num_inference_steps", steps, at_most=delegate.scheduler.config.num_train_timesteps)
    check_guidance("guidance_scale", guidance)
    check_whole("num_videos_per_prompt", sampling["num_videos_per_prompt"])
    check_choice("output_type", output_type, OutputType)
    options = _check_options(family, options)
    limit = _text_limit(pipeline, family, options.pop("max_sequence_length", None))
    mode, density, config, executor = sparsity
    chosen = choose_config(mode, density, config, None if mode == "dense" else pipeline.attention_config())
    tokens = check_tokens(grid, chosen, pipeline.config["max_tokens"])
    prompts, negatives, warnings = _check_texts(family, delegate, texts, limit, guidance, options)
    batch = len(options["prompt_embeds"]) if prompts is None else len(prompts)
    clips = batch * sampling["num_videos_per_prompt"]
    check_memory(
        delegate, clips, tokens, size["num_frames"] * size["height"] * size["width"], pipeline._execution_device
    )
    seed, generators = choose_seeds(*noise, clips)
    return Request(
        prompts=prompts,
        negatives=negatives,
        clips=clips,
        **size,
        grid=grid,
        tokens=tokens,
        num_inference_steps=steps,
        guidance_scale=guidance,
        videos_per_prompt=sampling["num_videos_per_prompt"],
        max_sequence_length=limit,
        seed=seed,
        generators=generators,
        mode=mode,
        config=chosen,
        executor=executor,
        output_type=output_type,
        options=options,
        warnings=tuple(warnings),
    )


def _check_options(family: Family, options: dict[str, Any]) -> dict[str, Any]:
    found = {name: value for name, value in options.items() if value is not None}
    image = found.get("image")
    if family.takes_image and image is None and "image_embeds" not in found:
        raise SparseVideoInputError("this model makes a clip from its first frame: give image, a PIL image or a tensor")
    if not family.takes_image and image is not None:
        raise SparseVideoInputError("this model makes clips from text alone: leave image out, or load an I2V model")
    known = (family.arguments() - _OURS) | ({"image"} if family.takes_image else set())
    unknown = sorted(found.keys() - known)
    if unknown:
        raise SparseVideoInputError(f"unknown argument {', '.join(unknown)}; also allowed: {', '.join(sorted(known))}")
    return found


def _text_limit(pipeline: Any, family: Family, asked: int | None) -> int:
    limit = pipeline.config["max_sequence_length"] or family.default("max_sequence_length")
    own = getattr(pipeline.tokenizer, "model_max_length", _SANE_LENGTH)
    if family.name != "hunyuan" and own < _SANE_LENGTH:  # Hunyuan's limit leaves out its template
        limit = min(limit, own)
    if asked is not None:
        check_whole("max_sequence_length", asked, at_most=limit)
    return asked or limit


def _check_texts(
    family: Family, delegate: Any, texts: tuple[Any, Any], limit: int, guidance: float, options: dict[str, Any]
) -> tuple[list[str] | None, list[str] | None, list[str]]:
    """Prompts, negative prompts and what the caller should know about them."""
    if "prompt_embeds" in options:
        if any(text is not None for text in texts):
            raise SparseVideoInputError("texts and prompt_embeds were both given; give one of them")
        return None, None, []
    prompts, negatives = as_prompts(*texts)
    warnings = []
    for name, group in (("prompt", prompts), ("negative_prompt", negatives)):
        if group is None:
            continue
        check_text_lengths(name, _count_tokens(family, delegate, group), limit)
        unknown = _unknown_words(delegate.tokenizer, group)
        if unknown:
            warnings.append(f"{name} has words that this model does not know: {', '.join(unknown[:10])}")
        if family.name == "hunyuan" and max(_lengths(delegate.tokenizer_2, group)) > _CLIP_TOKENS:
            warnings.append(f"{name}: HunyuanVideo's second text encoder reads its first {_CLIP_TOKENS} tokens only")
    scale = options.get("true_cfg_scale", 1.0) if family.name == "hunyuan" else guidance
    if negatives is not None and any(negatives) and scale <= 1:
        name = "true_cfg_scale" if family.name == "hunyuan" else "guidance_scale"
        warnings.append(f"negative_prompt has no effect while {name} is {scale:g}: raise it above 1")
    return prompts, negatives, warnings


def _count_tokens(family: Family, delegate: Any, texts: list[str]) -> list[int]:
    """Tokens of each text as the pipeline will encode it."""
    if family.name == "hunyuan":
        template = family.default("prompt_template")
        framed = [template["template"].format(text) for text in texts]
        return [count - template["crop_start"] for count in _lengths(delegate.tokenizer, framed)]
    return _lengths(delegate.tokenizer, [prompt_clean(text) for text in texts])


def _lengths(tokenizer: Any, texts: list[str]) -> list[int]:
    return [len(ids) for ids in tokenizer(texts, verbose=False).input_ids]


def _unknown_words(tokenizer: Any, texts: list[str]) -> list[str]:
    unknown = getattr(tokenizer, "unk_token_id", None)
    if unknown is None:
        return []
    words = dict.fromkeys(word for text in texts for word in prompt_clean(text).split())
    return [word for word in words if unknown in tokenizer(word, add_special_tokens=False).input_ids]


def _plain(value: Any) -> Any:
    if isinstance(value, str | int | float | bool):
        return value
    shape = getattr(value, "shape", None)
    return type(value).__name__ if shape is None else f"{type(value).__name__} {list(shape)}"
