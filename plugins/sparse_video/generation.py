"""One run of a pipeline: encode, denoise under the attention asked for, decode, record."""

from __future__ import annotations

import gc
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

import torch
from diffusers.callbacks import MultiPipelineCallbacks, PipelineCallback

from .adapters.base import RectifiedProcessor
from .dense import backend_in_use
from .enable import enable_rectified_attention
from .errors import SparseVideoInputError
from .families import decode_latents, encode_text
from .meter import Meter, WatchedScheduler
from .noise import noise_mean
from .output import SparseVideoOutput
from .request import Request

_FULL = ("out of memory", "can't allocate memory", "not enough memory", "failed to allocate")


class StepCallback:
    """The caller's callback as diffusers' pipeline is to call it: it sees our pipeline, and its stop is passed on.

    Args:
        owner: our pipeline.
        delegate: diffusers' pipeline, which runs the loop.
        scheduler: of this run.
        callback: the caller's; None only listens for a stop.
        tensors: names of the tensors that it gets.

    Raises:
        SparseVideoInputError: a tensor that this family does not hand out.
    """

    def __init__(
        self,
        owner: Any,
        delegate: Any,
        scheduler: WatchedScheduler,
        callback: Any,
        tensors: list[str] | None,
    ) -> None:
        if isinstance(callback, PipelineCallback | MultiPipelineCallbacks):
            tensors = callback.tensor_inputs
        self.tensors = ["latents"] if tensors is None else list(tensors)
        allowed = delegate._callback_tensor_inputs
        unknown = [name for name in self.tensors if name not in allowed]
        if unknown:
            raise SparseVideoInputError(
                f"callback_on_step_end_tensor_inputs names {unknown[0]!r}; it may name {', '.join(allowed)}"
            )
        self._owner, self._delegate, self._scheduler, self._callback = owner, delegate, scheduler, callback

    def __call__(self, delegate: Any, step: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        """After one step."""
        found = None if self._callback is None else self._callback(self._owner, step, timestep, tensors)
        if self._owner._interrupt:
            self._delegate._interrupt = True
        self._scheduler.resume()
        return {} if found is None else dict(found)


def generate(
    owner: Any,
    delegate: Any,
    request: Request,
    meter: Meter,
    callback: StepCallback,
    on_handle: Callable[[Any], None] | None,
) -> SparseVideoOutput:
    """Run one request.

    Args:
        owner: our pipeline.
        delegate: diffusers' pipeline over the same components; its scheduler is a WatchedScheduler.
        on_handle: called with the handle of the sparse attention before the first step.
    """
    dense = backend_in_use(delegate.transformer, owner.attention, masked=owner.family.masked)
    with meter.stage("text"):
        conditions = _conditions(owner, delegate, request)
    with _attention(delegate, request, on_handle) as handle:
        latents = _denoise(delegate, request, conditions | _noise(owner, delegate, request), callback)
        stats = None if handle is None else handle.stats()
    del conditions
    meter.timings["denoise"] = sum(delegate.scheduler.step_seconds)
    with meter.stage("decode"):
        frames = latents if request.output_type == "latent" else decode_latents(delegate, latents, request.output_type)
    meter.timings["total"] = meter.total()
    run = _record(owner, delegate, request, meter, stats) | {"attention": dense.as_dict()}
    return SparseVideoOutput(frames=frames, stats=stats, run=run)


def _conditions(owner: Any, delegate: Any, request: Request) -> dict[str, Any]:
    if request.prompts is None:  # embeddings are among the options
        return {}
    hunyuan = owner.family.name == "hunyuan"
    scale = request.options.get("true_cfg_scale", 1.0) if hunyuan else request.guidance_scale
    return encode_text(
        owner.family,
        delegate,
        request.prompts,
        request.negatives,
        guided=scale > 1,
        max_sequence_length=request.max_sequence_length,
        videos_per_prompt=request.videos_per_prompt,
    )


@contextmanager
def _attention(delegate: Any, request: Request, on_handle: Callable[[Any], None] | None) -> Generator[Any]:
    """The handle of the sparse attention, or None; the model is as before when the block ends, however it ends."""
    if request.config is None:
        _refuse_handle(delegate.transformer)
        yield None
        return
    handle = enable_rectified_attention(delegate, request.config, executor=request.executor)
    try:
        if on_handle is not None:
            on_handle(handle)
        yield handle
    finally:
        handle.disable()


def _refuse_handle(transformer: Any) -> None:
    if any(isinstance(getattr(module, "processor", None), RectifiedProcessor) for module in transformer.modules()):
        raise SparseVideoInputError(
            "attention is 'dense', but rectified attention was switched on for this transformer: call disable() on its "
            "handle first"
        )


def _noise(owner: Any, delegate: Any, request: Request) -> dict[str, torch.Tensor]:
    """What to start from, where the model's noise has a mean; else diffusers draws it."""
    strength = owner.config["noise_strength"]
    if not strength or "latents" in request.options:
        return {}
    latents = delegate.prepare_latents(
        request.clips,
        delegate.transformer.config.in_channels,
        request.height,
        request.width,
        request.num_frames,
        torch.float32,
        delegate._execution_device,
        request.generator,
    )
    return {"latents": latents + noise_mean(latents.shape[2:], latents.shape[1], strength).to(latents.device)}


def _denoise(delegate: Any, request: Request, given: dict[str, Any], callback: StepCallback) -> torch.Tensor:
    return delegate(
        **given,
        **request.options,
        num_frames=request.num_frames,
        height=request.height,
        width=request.width,
        num_inference_steps=request.num_inference_steps,
        guidance_scale=request.guidance_scale,
        num_videos_per_prompt=1 if "prompt_embeds" in given else request.videos_per_prompt,
        generator=request.generator,
        max_sequence_length=request.max_sequence_length,
        callback_on_step_end=callback,
        callback_on_step_end_tensor_inputs=callback.tensors,
        output_type="latent",
    ).frames


def _record(owner: Any, delegate: Any, request: Request, meter: Meter, stats: Any) -> dict[str, Any]:
    summary = None if stats is None else stats.summary()
    steps = delegate.scheduler.step_seconds
    return {
        "params": request.params(),
        "seed": request.seed,
        "seeds": [generator.initial_seed() for generator in request.generators],
        "device": str(owner._execution_device),
        "dtype": str(delegate.transformer.dtype).removeprefix("torch."),
        "family": owner.family.name,
        "checkpoint": owner.checkpoint,
        "revision": owner.revision,
        "executor": None if summary is None else {"name": summary["executor"], "reason": summary["reason"]},
        "timings": dict(meter.timings),
        "step_seconds": list(steps),
        "peak_memory_bytes": meter.peak_memory(),
        "clips": request.clips,
        "tokens": request.tokens,
        "grid": list(request.grid),
        "density": 1.0 if summary is None else summary["density"],
        "attention_stats": summary,
        "fps": owner.fps,
        "steps_done": len(steps),
        "interrupted": len(steps) < len(delegate.scheduler.timesteps),
        "warnings": list(request.warnings),
    }


@contextmanager
def clear_memory_errors(request: Request) -> Generator[None]:
    """Running out of memory as an error that says what to lower, raised once the run's tensors can be freed."""
    full = False
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        full = isinstance(error, MemoryError) or any(words in str(error).lower() for words in _FULL)
        if not full:
            raise
    if full:
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        raise SparseVideoInputError(
            f"memory ran out at {request.clips} x {request.num_frames} frames of {request.height} x {request.width} "
            f"({request.tokens:,} tokens per clip): lower num_frames, height, width or the number of prompts, load "
            "with dtype='bf16', or call enable_model_cpu_offload() or vae.enable_tiling() first"
        )
