"""SparseVideoPipeline: a prompt in, a clip out, with dense, plain sparse or rectified attention."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Any, Self

import numpy as np
import torch
from diffusers.callbacks import MultiPipelineCallbacks, PipelineCallback
from diffusers.models.autoencoders.autoencoder_kl_hunyuan_video import AutoencoderKLHunyuanVideo
from diffusers.models.autoencoders.autoencoder_kl_wan import AutoencoderKLWan
from diffusers.models.transformers.transformer_hunyuan_video import HunyuanVideoTransformer3DModel
from diffusers.models.transformers.transformer_wan import WanTransformer3DModel
from diffusers.pipelines.pipeline_utils import DiffusionPipeline

from .checks import Geometry
from .config import RectifiedAttentionConfig
from .dense import DenseBackend, apply_dense_backend, choose_dense_backend
from .enable import preset_for
from .errors import SparseVideoInputError
from .families import Family, build_delegate, find_family
from .generation import StepCallback, clear_memory_errors, generate
from .handle import RectifiedAttentionHandle
from .meter import Meter, WatchedScheduler
from .output import SparseVideoOutput
from .placement import component_dtypes, resolve_device
from .preview import LatentPreview
from .repositories import Checkpoint, class_name, explain, find_checkpoint
from .request import make_request

Callback = Callable[[Any, int, Any, dict[str, Any]], dict[str, Any] | None]


class SparseVideoPipeline(DiffusionPipeline):
    """Text (or an image and text) to video with Wan 2.1, Wan 2.2, HunyuanVideo or our small model.

    diffusers' own pipeline of the family runs the denoising loop over the same components; this one chooses the
    attention, checks what is asked, and records what was done.

    Args:
        tokenizer, text_encoder, vae, transformer, scheduler: as in WanPipeline or HunyuanVideoPipeline.
        transformer_2: Wan 2.2's expert for low noise.
        image_encoder, image_processor: of Wan 2.1's image-to-video.
        text_encoder_2, tokenizer_2: of HunyuanVideo.
        family: "wan", "wan-image" or "hunyuan"; None asks the transformer.
        boundary_ratio, expand_timesteps: as in WanPipeline.
        default_num_frames, default_height, default_width, default_num_inference_steps, default_guidance_scale: what a
            call takes where it says nothing; None takes diffusers' default for the family.
        max_sequence_length: text tokens that the model reads; None takes diffusers' default or the tokenizer's limit.
        max_tokens: visual tokens that the model takes at most; None sets no limit.
        fps: frames per second of its clips; None takes the family's.
        default_attention: settings of RectifiedAttentionConfig as a dict; None takes the family's preset.
        noise_strength: of the mean of the noise that a clip starts from (`noise_mean`), for a model that was trained
            so; 0 starts from the usual noise.

    Example:
        >>> pipe = SparseVideoPipeline.from_pretrained("hub_cards/sparse-video-tiny")  # doctest: +SKIP
        >>> clip = pipe("a red square moves right", seed=0, attention="rectified", density=0.25)  # doctest: +SKIP
        >>> clip.frames.shape, clip.run["timings"]  # doctest: +SKIP
    """

    model_cpu_offload_seq = "text_encoder->text_encoder_2->image_encoder->transformer->transformer_2->vae"
    _callback_tensor_inputs = ["latents", "prompt_embeds", "negative_prompt_embeds"]  # noqa: RUF012  # diffusers' way
    _optional_components = [  # noqa: RUF012
        "transformer_2",
        "image_encoder",
        "image_processor",
        "text_encoder_2",
        "tokenizer_2",
    ]

    def __init__(
        self,
        tokenizer: Any,
        text_encoder: Any,
        vae: AutoencoderKLWan | AutoencoderKLHunyuanVideo,
        transformer: WanTransformer3DModel | HunyuanVideoTransformer3DModel,
        scheduler: Any,
        transformer_2: WanTransformer3DModel | None = None,
        image_encoder: Any = None,
        image_processor: Any = None,
        text_encoder_2: Any = None,
        tokenizer_2: Any = None,
        family: str | None = None,
        boundary_ratio: float | None = None,
        expand_timesteps: bool = False,
        default_num_frames: int | None = None,
        default_height: int | None = None,
        default_width: int | None = None,
        default_num_inference_steps: int | None = None,
        default_guidance_scale: float | None = None,
        max_sequence_length: int | None = None,
        max_tokens: int | None = None,
        fps: float | None = None,
        default_attention: dict[str, Any] | None = None,
        noise_strength: float = 0.0,
    ) -> None:
        super().__init__()
        self.register_modules(
            tokenizer=tokenizer,
            text_encoder=text_encoder,
            vae=vae,
            transformer=transformer,
            scheduler=scheduler,
            transformer_2=transformer_2,
            image_encoder=image_encoder,
            image_processor=image_processor,
            text_encoder_2=text_encoder_2,
            tokenizer_2=tokenizer_2,
        )
        self.register_to_config(
            family=find_family(family, transformer).name,
            boundary_ratio=boundary_ratio,
            expand_timesteps=expand_timesteps,
            default_num_frames=default_num_frames,
            default_height=default_height,
            default_width=default_width,
            default_num_inference_steps=default_num_inference_steps,
            default_guidance_scale=default_guidance_scale,
            max_sequence_length=max_sequence_length,
            max_tokens=max_tokens,
            fps=fps,
            default_attention=default_attention,
            noise_strength=noise_strength,
        )
        if noise_strength and self.family.name != "wan":
            raise SparseVideoInputError(
                f"noise_strength is {noise_strength:g}, but only models of the family 'wan' start from noise with a "
                "mean: leave it out"
            )
        self.attention = DenseBackend("sdpa", "diffusers' default")
        self._checkpoint: Checkpoint | None = None
        self._interrupt = False
        self._running: tuple[Any, WatchedScheduler] | None = None
        self._in_call = threading.Lock()
        self._preview: tuple[Any, LatentPreview] | None = None

    @classmethod
    def from_pretrained(  # ty: ignore[incompatible-method-override]
        cls,
        repo_or_folder: str | os.PathLike[str],
        *,
        revision: str | None = None,
        dtype: torch.dtype | str | dict[str, torch.dtype] | None = None,
        torch_dtype: torch.dtype | str | dict[str, torch.dtype] | None = None,
        device: str | torch.device | None = None,
        attention: str = "auto",
        local_files_only: bool = False,
        **kwargs: Any,
    ) -> Self:
        """Load our small checkpoint, or a Wan 2.1, Wan 2.2 or HunyuanVideo repository. Safetensors only.

        Args:
            repo_or_folder: a folder, or "owner/name" on the Hub.
            revision: branch, tag or commit on the Hub.
            dtype: a dtype or its name, or a dtype per component as in diffusers; None or "auto" takes bfloat16 on CUDA
                and float32 elsewhere. Wan's VAE stays float32 unless a dict says otherwise, as diffusers advises.
            torch_dtype: the same, by diffusers' older name.
            device: such as "cpu", "cuda" or "auto"; None leaves the weights on the CPU, for enable_model_cpu_offload.
            attention: dense attention goes through "sdpa", "xformers" or "flash"; "auto" takes the fastest that works.
            local_files_only: take what the Hub's cache holds and contact nothing; HF_HUB_OFFLINE=1 does the same.
            kwargs: cache_dir, token, components and settings of `__init__`, as in diffusers.

        Raises:
            SparseVideoInputError: there is no such checkpoint, it is of no known family, it holds pickles only, or it
                cannot be loaded here as asked.
        """
        hub = {name: kwargs[name] for name in ("cache_dir", "token") if name in kwargs}
        found = find_checkpoint(repo_or_folder, revision=revision, local_files_only=local_files_only, **hub)
        place = resolve_device(device)
        if found.family is not None:
            kwargs.setdefault("family", found.family)
        kwargs["dtype"] = component_dtypes(dtype if torch_dtype is None else torch_dtype, place, kwargs.get("family"))
        try:
            pipeline = super().from_pretrained(
                found.source,
                revision=found.revision,
                local_files_only=local_files_only,
                use_safetensors=True,
                **kwargs,
            )
        except OSError as error:
            raise explain(error, found.source, revision, offline=local_files_only) from error
        pipeline._checkpoint = found
        if device is not None:
            pipeline.to(place)
        pipeline.choose_attention(attention, device=place)
        return pipeline

    @classmethod
    def _dict_from_json_file(cls, json_file: str | os.PathLike[str]) -> dict[str, Any]:
        # An index for trust_remote_code names a module beside the class. The class is here already, so diffusers is
        # told the class alone and runs no code of the repository.
        found = super()._dict_from_json_file(json_file)
        return {**found, "_class_name": class_name(found)} if isinstance(found.get("_class_name"), list) else found

    def choose_attention(self, requested: str = "auto", *, device: torch.device | None = None) -> DenseBackend:
        """Choose what computes dense attention, for `device` or where the weights are; kept in `.attention`.

        Raises:
            SparseVideoInputError: an unknown name, or one that cannot work here.
        """
        self.attention = choose_dense_backend(
            requested,
            device=device or self.device,
            dtype=self.transformer.dtype,
            head_dim=self.transformer.config.attention_head_dim,
            masked=self.family.masked,
        )
        apply_dense_backend(self._transformers(), self.attention)
        return self.attention

    @property
    def family(self) -> Family:
        """The family of its components."""
        return find_family(self.config["family"], self.transformer)

    @property
    def fps(self) -> float:
        """Frames per second of its clips."""
        # Wan 2.2 TI2V-5B, the one with a timestep per token, was trained at 24.
        return self.config["fps"] or (24.0 if self.config["expand_timesteps"] else self.family.fps)

    @property
    def geometry(self) -> Geometry:
        """How it divides a clip into tokens; says which sizes are allowed."""
        return Geometry.of(self._delegate(self.scheduler))

    def default(self, name: str) -> Any:
        """What a call takes for num_frames, height, width, num_inference_steps or guidance_scale left out."""
        own = self.config[f"default_{name}"]
        return self.family.default(name) if own is None else own

    def attention_config(self) -> RectifiedAttentionConfig:
        """Settings of the sparse attention where a call gives none."""
        own = self.config["default_attention"]
        return preset_for(self).config if own is None else RectifiedAttentionConfig.from_dict(own)

    @torch.no_grad()
    def __call__(
        self,
        prompt: str | list[str] | None = None,
        negative_prompt: str | list[str] | None = None,
        *,
        image: Any = None,
        num_frames: int | None = None,
        height: int | None = None,
        width: int | None = None,
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
        num_videos_per_prompt: int = 1,
        seed: int | None = None,
        generator: torch.Generator | list[torch.Generator] | None = None,
        attention: str = "rectified",
        density: float | None = None,
        config: RectifiedAttentionConfig | None = None,
        executor: Any = "auto",
        callback_on_step_end: Callback | PipelineCallback | MultiPipelineCallbacks | None = None,
        callback_on_step_end_tensor_inputs: list[str] | None = None,
        on_handle: Callable[[RectifiedAttentionHandle], None] | None = None,
        output_type: str = "np",
        return_dict: bool = True,
        **options: Any,
    ) -> SparseVideoOutput:
        """Generate one clip per prompt.

        Args:
            prompt: one text or several.
            negative_prompt: what to steer away from, where guidance is on.
            image: the first frame, for image-to-video models only; a PIL image or a tensor.
            num_frames, height, width, num_inference_steps, guidance_scale: None takes the checkpoint's own.
            num_videos_per_prompt: clips per prompt.
            seed: from 0 to 2**32 - 1; clip i of the batch gets seed + i. None draws one; it is in the run record.
            generator: in place of a seed.
            attention: "rectified", "sparse" (the same blocks, no correction) or "dense".
            density: share of key blocks to keep, above 0 and at most 1; None takes the config's.
            config: settings of the sparse attention; None takes `attention_config()`.
            executor: of the sparse part: "auto", or a name.
            callback_on_step_end: called as in diffusers after every step with (pipeline, step, timestep, tensors); may
                return tensors to go on with, set `pipeline._interrupt` or call `pipeline.interrupt()`, call
                `pipeline.preview()`, or raise to end the call.
            callback_on_step_end_tensor_inputs: which tensors it gets; the latents when left out.
            on_handle: called with the handle before the first step of a sparse run, to ask for a block map or for the
                tensors of a layer; its results can be read after the call.
            output_type: "np", "pt", "pil" or "latent".
            return_dict: False gives the tuple (frames, stats, run), as in diffusers.
            options: further arguments of diffusers' pipeline of this family: latents, prompt_embeds, last_image, ...

        Returns:
            Frames, attention stats and the run record; see SparseVideoOutput. An interrupted run gives what there is.

        Raises:
            SparseVideoInputError: something is asked that this model or machine cannot do; nothing was computed, or
                memory ran out. The pipeline stays usable, as it does when a callback raises.
        """
        if not self._in_call.acquire(blocking=False):
            raise SparseVideoInputError("this pipeline is generating already: wait for it, or load a second one")
        try:
            self._interrupt = False
            device = self._execution_device
            meter, scheduler = Meter(device), WatchedScheduler(self.scheduler, device)
            delegate = self._delegate(scheduler)
            callback = StepCallback(self, delegate, scheduler, callback_on_step_end, callback_on_step_end_tensor_inputs)
            request = make_request(
                self,
                delegate,
                texts=(prompt, negative_prompt),
                size={"num_frames": num_frames, "height": height, "width": width},
                sampling={
                    "num_inference_steps": num_inference_steps,
                    "guidance_scale": guidance_scale,
                    "num_videos_per_prompt": num_videos_per_prompt,
                },
                sparsity=(attention, density, config, executor),
                noise=(seed, generator),
                output_type=output_type,
                options={"image": image, **options},
            )
            self._running = delegate, scheduler
            with clear_memory_errors(request):
                result = generate(self, delegate, request, meter, callback, on_handle)
        finally:
            self._running = None
            self.maybe_free_model_hooks()
            self._in_call.release()
        if not return_dict:
            return result.frames, result.stats, result.run  # ty: ignore[invalid-explicit-return]
        return result

    def interrupt(self) -> None:
        """Stop the running call after its current step; it returns what there is. From any thread."""
        self._interrupt = True

    def preview(self, latents: torch.Tensor | None = None) -> np.ndarray:
        """A cheap look at latents: uint8 RGB [latent frames, h, w, 3] of the first clip, sides up to 256 pixels.

        Args:
            latents: [B, C, T, H, W] as a callback gets them; None takes the running call's estimate of the clean clip,
                which shows what is coming long before the noise is gone.

        Raises:
            SparseVideoInputError: no latents were given and nothing runs.
        """
        if latents is None:
            latents = None if self._running is None else self._running[1].clean
        if latents is None:
            raise SparseVideoInputError("there is no step to preview: call it in callback_on_step_end, or give latents")
        if self._preview is None or self._preview[0] is not self.vae:
            self._preview = self.vae, LatentPreview.fit(self.vae, self.geometry.spatial)
        return self._preview[1](latents)

    @property
    def checkpoint(self) -> str | None:
        """The repository or folder that it was loaded from."""
        return None if self._checkpoint is None else self._checkpoint.source

    @property
    def revision(self) -> str | None:
        """The commit that it was loaded from."""
        return None if self._checkpoint is None else self._checkpoint.revision

    @property
    def num_timesteps(self) -> int:
        """Steps of the running call."""
        return self._loop().num_timesteps

    @property
    def guidance_scale(self) -> float:
        """Of the running call."""
        return self._loop().guidance_scale

    @property
    def _guidance_scale(self) -> float:  # what diffusers' own callbacks read and set
        return self._loop()._guidance_scale

    @_guidance_scale.setter
    def _guidance_scale(self, value: float) -> None:
        self._loop()._guidance_scale = value

    def _loop(self) -> Any:
        if self._running is None:
            raise SparseVideoInputError("nothing runs: ask from callback_on_step_end")
        return self._running[0]

    def _delegate(self, scheduler: Any) -> Any:
        """diffusers' pipeline over the components of this moment; they may have been exchanged since the last call."""
        delegate = build_delegate(self.family, self, scheduler)
        delegate.set_progress_bar_config(**getattr(self, "_progress_bar_config", {}))
        return delegate

    def _transformers(self) -> list[Any]:
        return [model for model in (self.transformer, self.transformer_2) if model is not None]
