"""Switching rectified attention on for a diffusers pipeline or transformer, and off again."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from diffusers.hooks.hooks import BaseState, HookRegistry, ModelHook, StateManager
from diffusers.utils.torch_utils import unwrap_module
from torch import Tensor, nn

from .adapters import Adapter, RectifiedProcessor, adapter_for, supported
from .attention import rectified_attention
from .config import RectifiedAttentionConfig
from .errors import SparseVideoInputError
from .executors import Executor, get_executor
from .executors.choose import ExecutorChoice, choose_executor
from .handle import Recorder, RectifiedAttentionHandle
from .presets import Checkpoint, Preset, find_preset
from .schedule import Clock, Step, is_dense_step, leading
from .stats import dense_stats

MODEL_NAMES = ("transformer", "transformer_2")
LISTENER = "rectified_attention_context"

DENSE_LAYER = "dense layer, as configured"
DENSE_STEP = "dense step, as configured"
OUTSIDE = "the layer was called outside of its model, so its token grid is unknown"
GRADIENTS = "gradients are asked for: rectified attention is for inference, use torch.no_grad()"
UNKNOWN_MASK = "the attention mask is not one per key (bool [batch, 1, 1, tokens])"
OTHER_TOKENS = "the layer's visual tokens are not those of the model's grid"


def enable_rectified_attention(
    pipeline_or_transformer: Any,
    config: RectifiedAttentionConfig | None = None,
    *,
    executor: str | Executor = "auto",
) -> RectifiedAttentionHandle:
    """Switch rectified attention (Rectified SpaAttn, arXiv 2511.19835) on in a model's self-attention.

    Of a pipeline both `transformer` and, where there is one, `transformer_2` take part, with one schedule: dense
    layers count in each, dense steps over the whole run. Everything else (cross-attention, text encoders, dense work)
    stays diffusers' own, with the attention backend that is set on the model. With gradients, few tokens or a mask that
    it does not understand a layer stays dense; `stats()` counts the reasons.

    Args:
        pipeline_or_transformer: a pipeline of Wan or HunyuanVideo, or its transformer.
        config: None takes the preset of the checkpoint, see `preset_for`.
        executor: "auto", a name of `executors.EXECUTORS`, or an executor.

    Returns:
        A handle with `.stats()` and `.disable()`; as a context manager it switches off at the end.

    Raises:
        SparseVideoInputError: unknown family or executor, already enabled, custom processors, or context parallelism;
            then nothing has been changed.
    """
    models = find_models(pipeline_or_transformer)
    adapters = {name: adapter_for(model) for name, model in models.items()}
    for name, model in models.items():
        _check_processors(name, adapters[name], model)
    if isinstance(executor, str) and executor != "auto":
        get_executor(executor)  # an unknown name is an error now, not in the first layer
    config = preset_for(pipeline_or_transformer).config if config is None else config
    if not isinstance(config, RectifiedAttentionConfig):
        raise SparseVideoInputError(
            f"config is a {type(config).__name__}; it is a RectifiedAttentionConfig, or None for the preset"
        )
    pipeline = None if isinstance(pipeline_or_transformer, nn.Module) else pipeline_or_transformer
    # The scheduler is looked up at each call: users replace it on the pipeline.
    clock, recorder = Clock(lambda: getattr(pipeline, "scheduler", None)), Recorder()
    attachments = [
        Attachment(name, model, adapters[name], config, executor, clock, recorder) for name, model in models.items()
    ]
    for attachment in attachments:
        attachment.attach()
    name = executor if isinstance(executor, str) else executor.name
    return RectifiedAttentionHandle(config, name, attachments, recorder)


def preset_for(pipeline_or_transformer: Any) -> Preset:
    """The settings that `config=None` stands for, with their source.

    Raises:
        SparseVideoInputError: the family is not supported.
    """
    models = find_models(pipeline_or_transformer)
    model = next(iter(models.values()))
    config: Mapping[str, Any] = model.config  # ty: ignore[invalid-assignment]
    return find_preset(Checkpoint(adapter_for(model).family, config, experts=len(models)))


def find_models(pipeline_or_transformer: Any) -> dict[str, nn.Module]:
    """The transformers of a pipeline by name, or the one given; a compiled one as what was compiled."""
    if isinstance(pipeline_or_transformer, nn.Module):
        return {"transformer": unwrap_module(pipeline_or_transformer)}
    found = {name: getattr(pipeline_or_transformer, name, None) for name in MODEL_NAMES}
    models = {name: unwrap_module(model) for name, model in found.items() if isinstance(model, nn.Module)}
    if not models:
        raise SparseVideoInputError(
            f"{type(pipeline_or_transformer).__name__} has no transformer; give a pipeline or transformer of "
            f"{supported()}"
        )
    return models


def _check_processors(name: str, adapter: Adapter, model: nn.Module) -> None:
    expected = adapter.processor.expected
    for layer, module in enumerate(adapter.attention_layers(model)):
        processor = module.processor
        if isinstance(processor, RectifiedProcessor):
            raise SparseVideoInputError(
                f"rectified attention is already on in {name}: call disable() on its handle before enabling it again"
            )
        if type(processor) is not expected:
            raise SparseVideoInputError(
                f"{name}, layer {layer} has the attention processor {type(processor).__name__}, which would be lost; "
                f"allowed is {expected.__name__}: set it back with model.set_attn_processor(...) first"
            )
        _refuse_context_parallelism(name, processor)


def _refuse_context_parallelism(name: str, processor: Any) -> None:
    if getattr(processor, "_parallel_config", None) is not None:
        raise SparseVideoInputError(
            f"{name} is under context parallelism, which rectified attention does not support: block choice needs all "
            "tokens on one device. Load it without, or call disable() on the handle and keep attention dense"
        )


@dataclass(frozen=True)
class _Call:
    """The forward call that is going on."""

    grid: tuple[int, int, int]
    step: Step


class _ContextListener(ModelHook):
    """Receives what a pipeline says through `model.cache_context(...)`; diffusers sends it to hooks with state."""

    _is_stateful = True

    def __init__(self) -> None:
        super().__init__()
        self.manager = StateManager(BaseState)  # ty: ignore[invalid-argument-type]

    @property
    def context(self) -> Any:
        return self.manager._context  # its public property raises where there is none

    def reset_state(self, module: nn.Module) -> nn.Module:
        self.manager.reset()
        return module


class Attachment:
    """Rectified attention on one model: its processors, its hooks, and the forward call that is going on.

    The hooks on the model are torch's own: diffusers' and accelerate's replace `forward`, and whoever of them is
    removed last puts back a forward without the other.
    """

    def __init__(
        self,
        name: str,
        model: nn.Module,
        adapter: Adapter,
        config: RectifiedAttentionConfig,
        executor: str | Executor,
        clock: Clock,
        recorder: Recorder,
    ) -> None:
        self.name = name
        self._model = model
        self._adapter = adapter
        self._config = config
        self._executor = executor
        self._clock = clock
        self._recorder = recorder
        self._dense_layers = leading(config.dense_layers, len(adapter.attention_layers(model)))
        self._call: _Call | None = None
        self._listener = _ContextListener()
        self._hooks: list[Any] = []
        self._chosen_for: tuple[torch.device, torch.dtype] | None = None

    def attach(self) -> None:
        for layer, module in enumerate(self._adapter.attention_layers(self._model)):
            module.set_processor(self._adapter.processor(module.processor, layer, self.attend))
        self._hooks = [
            self._model.register_forward_pre_hook(self._begin, with_kwargs=True),
            self._model.register_forward_hook(self._end, always_call=True),  # after an exception too
        ]
        # A child without parameters, for diffusers' registry: a hook on the model itself would replace its forward.
        child = nn.Identity()
        HookRegistry.check_if_exists_or_initialize(child).register_hook(self._listener, LISTENER)
        self._model.add_module(LISTENER, child)
        self._forget_registries()

    def detach(self) -> None:
        for hook in self._hooks:
            hook.remove()
        self._hooks = []
        for module in self._adapter.attention_layers(self._model):
            processor = module.processor
            if isinstance(processor, RectifiedProcessor) and processor.attend == self.attend:
                module.set_processor(processor.previous)
        if self._model._modules.pop(LISTENER, None) is not None:
            self._forget_registries()

    def _forget_registries(self) -> None:
        """Diffusers caches which children have hooks."""
        registry = getattr(self._model, "_diffusers_hook", None)
        if registry is not None:
            registry.invalidate_child_registries_cache()

    @torch.compiler.disable  # a compiled model calls its hooks inside the compiled code
    def _begin(self, model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        _refuse_context_parallelism(self.name, self._adapter.attention_layers(model)[0].processor)
        call = self._adapter.read_call(model, args, kwargs)
        step = self._clock.tick(self.name, call.timestep, self._listener.context)
        self._recorder.start(step)
        self._call = _Call(call.grid, step)

    @torch.compiler.disable
    def _end(self, *_: Any) -> None:
        self._call = None

    @torch.compiler.disable
    def attend(
        self,
        processor: RectifiedProcessor,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        *,
        attention_mask: Tensor | None = None,
        text_tokens: int = 0,
    ) -> Tensor:
        """Self-attention of one layer, [batch, tokens, heads, head_dim], text last, dense wherever it has to be."""
        call, layer = self._call, processor.layer
        step = call.step if call else None
        by_head = [tensor.transpose(1, 2) for tensor in (query, key, value)]
        for callback in self._recorder.wants_tensors(layer, step):
            callback(layer, step.index if step else -1, by_head[0], by_head[1], by_head[2], self._config)
        reason = self._why_dense(layer, (query, key, value), attention_mask, text_tokens)
        if call is None or reason is not None:
            out = processor.dispatch(query, key, value, attention_mask)
            stats = dense_stats(query.shape[2], reason or OUTSIDE)
        else:
            out, stats = rectified_attention(
                *by_head,
                config=self._config,
                grid=call.grid,
                text_tokens=text_tokens,
                key_mask=None if attention_mask is None else attention_mask[:, 0, 0],
                executor=self._executor,
                return_stats="map" if self._recorder.wants_map(layer, step) else True,
                dense=_by_head(processor),
            )
            out = out.transpose(1, 2)
            if stats.fallback is None:
                self._note_choice(query)
        self._recorder.add(self.name, layer, step, stats)
        return out

    def _why_dense(
        self, layer: int, tensors: tuple[Tensor, Tensor, Tensor], mask: Tensor | None, text_tokens: int
    ) -> str | None:
        """Why this call is dense, or None; too few tokens are noticed by `rectified_attention` itself."""
        call, (batch, tokens) = self._call, tensors[0].shape[:2]
        if call is None:
            return OUTSIDE
        if layer < self._dense_layers:
            return DENSE_LAYER
        if is_dense_step(call.step, self._config.dense_steps):
            return DENSE_STEP
        if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors):
            return GRADIENTS
        if math.prod(call.grid) != tokens - text_tokens:
            return OTHER_TOKENS
        if mask is not None and (mask.dtype != torch.bool or mask.shape != (batch, 1, 1, tokens)):
            return UNKNOWN_MASK
        return None

    def _note_choice(self, query: Tensor) -> None:
        """What `rectified_attention` chose here, for the stats; asked again only where device or dtype is new."""
        where = query.device, query.dtype
        if self._chosen_for == where:
            return
        executor, self._chosen_for = self._executor, where
        self._recorder.choice = (
            choose_executor(executor, *where)
            if isinstance(executor, str)
            else ExecutorChoice(executor, executor.name, "given by the caller")
        )


def _by_head(processor: RectifiedProcessor) -> Any:
    """The processor's dense attention with tensors [batch, heads, tokens, head_dim]."""

    def dense(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
        by_token = (tensor.transpose(1, 2) for tensor in (query, key, value))
        return processor.dispatch(*by_token, mask).transpose(1, 2)

    return dense
