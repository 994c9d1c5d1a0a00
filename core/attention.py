"""Attention chosen once, at load: xformers, torch's flash kernel, or torch's SDPA.

SDPA is the oracle: a probe accepts another backend only where it runs and agrees with SDPA. A backend that
was asked for by name and cannot work is an error, never a silent fallback. torch, diffusers, transformers and
xformers are imported inside the functions.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from statistics import median
from typing import TYPE_CHECKING, Any, Literal, get_args

from core.devices import resolve_device, resolve_dtype
from core.errors import InputError, UnavailableError

if TYPE_CHECKING:
    import torch

Backend = Literal["xformers", "flash", "sdpa"]
Requested = Literal["auto", "xformers", "flash", "sdpa"]
Kernel = Callable[..., "torch.Tensor"]

# Our words -> the names that diffusers (AttentionBackendName) and transformers (AttentionInterface) use.
# transformers takes every name with "flash" in it for the flash-attn package, so ours must not contain it.
_DIFFUSERS_NAMES = {"xformers": "xformers", "flash": "_native_flash", "sdpa": "native"}
_TRANSFORMERS_NAMES = {"xformers": "xformers", "flash": "sdpa_fa", "sdpa": "sdpa"}

_BENCHMARK_SHAPE = (1, 16, 4096)  # batch, heads, tokens: a short video clip in latent space
_USE_INSTEAD = "Use attention='sdpa', or 'auto' to take the fastest that works."
_REAL_GAIN = 1.05  # below this the difference is noise, and a choice that flips between loads is worse


@dataclass(frozen=True)
class AttentionChoice:
    """Which attention runs, and why.

    Attributes:
        backend: What runs.
        reason: One clause for people, with the measured ratio where one was measured.
        requested: What was asked for.
    """

    backend: Backend
    reason: str
    requested: Requested = "auto"

    def as_dict(self) -> dict[str, str]:
        """The JSON-able form for a run record: backend, reason, requested."""
        return asdict(self)


def resolve_attention(
    requested: str = "auto",
    *,
    device: str | torch.device | None,
    dtype: str | torch.dtype | None,
    head_dim: int = 64,
) -> AttentionChoice:
    """Choose the attention backend for a device, dtype and head size; call it once, at load.

    "auto" takes SDPA on the CPU and MPS. On CUDA it takes xformers where that is installed, agrees with SDPA
    and is at least 5 % faster in a short benchmark. Probes and timings are cached per device, dtype and head
    size.

    Raises:
        InputError: an unknown backend name or a head size that is not positive.
        UnavailableError: the backend asked for cannot work here; says why and what to use instead.
    """
    if requested not in get_args(Requested):
        allowed = ", ".join(repr(name) for name in get_args(Requested))
        raise InputError(f"attention {requested!r} is unknown; use one of {allowed}.")
    if head_dim < 1:
        raise InputError(f"head_dim is {head_dim}; it must be 1 or more.")
    place = resolve_device(device)
    number_format = resolve_dtype(dtype, place)
    if requested == "auto":
        return _choose(place, number_format, head_dim)
    if requested == "sdpa":
        return AttentionChoice("sdpa", "asked for", "sdpa")
    backend: Backend = "xformers" if requested == "xformers" else "flash"
    failure = _probe(backend, place, number_format, head_dim)
    if failure is not None:
        raise UnavailableError(
            f"Attention {backend!r} cannot run on {place} with {number_format} and head size {head_dim}: {failure}.",
            _USE_INSTEAD,
        )
    return AttentionChoice(backend, f"asked for, and it works on {place}", backend)


def _choose(device: torch.device, dtype: torch.dtype, head_dim: int) -> AttentionChoice:
    if importlib.util.find_spec("xformers") is None:
        return AttentionChoice("sdpa", "xformers is not installed")
    if device.type != "cuda":
        # Not probed: importing xformers takes seconds and only warns where there is no GPU.
        return AttentionChoice("sdpa", f"xformers has no {device.type.upper()} kernel")
    failure = _probe("xformers", device, dtype, head_dim)
    if failure is not None:
        return AttentionChoice("sdpa", f"xformers cannot run here: {failure}")
    ratio = _xformers_speed(device, dtype, head_dim)
    batch, heads, tokens = _BENCHMARK_SHAPE
    measured = f"xformers ran {ratio:.2f} times as fast as SDPA on [{batch}, {heads}, {tokens}, {head_dim}]"
    if ratio >= _REAL_GAIN:
        return AttentionChoice("xformers", measured)
    return AttentionChoice("sdpa", f"{measured}; it takes {_REAL_GAIN} to leave SDPA")


@functools.lru_cache(maxsize=64)
def _probe(backend: Backend, device: torch.device, dtype: torch.dtype, head_dim: int) -> str | None:
    """Run the backend on a tiny input beside SDPA: None when they agree, else what is wrong."""
    import torch

    if backend == "xformers" and importlib.util.find_spec("xformers") is None:
        return "xformers is not installed (pip install -r requirements-gpu.txt)"
    generator = torch.Generator().manual_seed(0)
    inputs = [torch.randn(1, 2, 48, head_dim, generator=generator).to(device, dtype) for _ in range(3)]
    try:
        output = _BACKENDS[backend](*inputs, None, None)
    # A backend fails in many ways (missing library, no kernel, unsupported GPU): all mean "not here".
    except Exception as error:
        if device.type != "cuda" and backend == "xformers" and isinstance(error, NotImplementedError):
            return f"xformers has no {device.type.upper()} kernel"
        return _first_line(error)
    deviation = float((output.float() - _sdpa(*inputs, None, None).float()).abs().max())
    tolerance = 5e-3 if dtype == torch.float32 else 3e-2
    return None if deviation <= tolerance else f"it differs from SDPA by {deviation:.3g}"


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0].rstrip('.')}" if lines else type(error).__name__


@functools.lru_cache(maxsize=64)
def _xformers_speed(device: torch.device, dtype: torch.dtype, head_dim: int) -> float:
    """SDPA's time over xformers' time on one realistic shape; above 1 xformers is faster."""
    import torch

    shape = (*_BENCHMARK_SHAPE, head_dim)
    # A generator of its own: the caller's seeded stream must not move.
    generator = torch.Generator(device).manual_seed(0)
    inputs = [torch.randn(shape, generator=generator, device=device, dtype=dtype) for _ in range(3)]
    return _cuda_seconds(_sdpa, inputs) / _cuda_seconds(_xformers, inputs)


def _cuda_seconds(kernel: Kernel, inputs: list[torch.Tensor], repeats: int = 10) -> float:
    """Median time of one call on the GPU, in seconds, after a warm-up."""
    import torch

    with torch.cuda.device(inputs[0].device):
        for _ in range(3):
            kernel(*inputs, None, None)
        times = []
        for _ in range(repeats):
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            start.record()
            kernel(*inputs, None, None)
            end.record()
            end.synchronize()
            times.append(start.elapsed_time(end) / 1e3)
    return median(times)


def attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    *,
    choice: AttentionChoice,
    mask: torch.Tensor | None = None,
    scale: float | None = None,
) -> torch.Tensor:
    """Softmax attention with the chosen backend; every choice gives what SDPA gives.

    Args:
        query: [B, H, Sq, D].
        key: [B, H, Sk, D].
        value: [B, H, Sk, D].
        choice: From `resolve_attention`.
        mask: [Sq, Sk], or anything broadcastable to [B, H, Sq, Sk]; boolean (True takes part) or additive.
            Rows that are masked out whole give zeros.
        scale: Factor on the logits; D^-1/2 when None.

    Returns:
        [B, H, Sq, D].

    Raises:
        UnavailableError: the chosen backend cannot take this call (a mask on CUDA's flash kernel, say).
    """
    return _BACKENDS[choice.backend](query, key, value, mask, scale)


def _sdpa(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor | None,
    scale: float | None,
) -> torch.Tensor:
    from torch.nn.functional import scaled_dot_product_attention

    return scaled_dot_product_attention(query, key, value, attn_mask=mask, scale=scale)


def _flash(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor | None,
    scale: float | None,
) -> torch.Tensor:
    with _only_flash():
        return _sdpa(query, key, value, mask, scale)


@contextmanager
def _only_flash() -> Generator[None]:
    """Hold SDPA to its flash kernel, and say what to do where that kernel cannot take the call."""
    from torch.nn.attention import SDPBackend, sdpa_kernel

    try:
        with sdpa_kernel(SDPBackend.FLASH_ATTENTION):
            yield
    except RuntimeError as error:
        if "No available kernel" not in str(error):
            raise
        raise UnavailableError(
            "torch's flash kernel cannot take this call (on CUDA it needs float16 or bfloat16, head sizes "
            "up to 256 and no mask).",
            _USE_INSTEAD,
        ) from error


def _xformers_ops() -> Any:
    """The optional package, by name: a type checker need not find it."""
    return importlib.import_module("xformers.ops")


def _xformers(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor | None,
    scale: float | None,
) -> torch.Tensor:
    memory_efficient_attention = _xformers_ops().memory_efficient_attention
    # xformers wants [B, S, H, D].
    parts = [part.transpose(1, 2) for part in (query, key, value)]
    if mask is None:
        return memory_efficient_attention(*parts, scale=scale).transpose(1, 2)
    bias = _as_bias(mask, query, key)
    output = memory_efficient_attention(*parts, attn_bias=bias, scale=scale).transpose(1, 2)
    # A row with nothing to attend to is 0/0 in a kernel; SDPA defines it as zero.
    empty = bias.amax(dim=-1, keepdim=True) == float("-inf")
    return output.masked_fill(empty, 0.0)


def _as_bias(mask: torch.Tensor, query: torch.Tensor, key: torch.Tensor) -> torch.Tensor:
    """The mask as an additive bias [B, H, Sq, Sk] in memory whose rows start on multiples of 8 elements."""
    import torch

    batch, heads, queries, _ = query.shape
    keys = key.shape[2]
    if mask.dtype == torch.bool:
        mask = torch.zeros_like(mask, dtype=query.dtype).masked_fill(~mask, float("-inf"))
    padded = query.new_empty(batch, heads, queries, -(-keys // 8) * 8)
    bias = padded[..., :keys]
    bias.copy_(mask.to(query.dtype).expand(batch, heads, queries, keys))
    return bias


_BACKENDS: dict[str, Kernel] = {"xformers": _xformers, "flash": _flash, "sdpa": _sdpa}


def apply_to_diffusers(module_or_pipeline: Any, choice: AttentionChoice) -> tuple[str, ...]:
    """Set the choice on a diffusers model, or on every diffusers model of a pipeline.

    diffusers' xformers entry adds a boolean [B, H, Sq, Sk] mask as 0 and 1 (read in 0.42.1), and its flash
    entry refuses masks: for models that pass masks to their self-attention take "sdpa".

    Returns:
        The class names of the models that took it.

    Raises:
        UnavailableError: diffusers refuses the backend, or no attention processor takes one.
    """
    from diffusers.models.attention_dispatch import attention_backend
    from diffusers.models.modeling_utils import ModelMixin

    parts = getattr(module_or_pipeline, "components", {"": module_or_pipeline}).values()
    taken = []
    for model in (part for part in parts if isinstance(part, ModelMixin)):
        name = _DIFFUSERS_NAMES[choice.backend]
        # set_attention_backend also sets a process-wide default; the context manager puts the old one back.
        with attention_backend("native"):
            try:
                model.set_attention_backend(name)
            except RuntimeError as error:
                raise UnavailableError(f"{_first_line(error)}.", _USE_INSTEAD) from error
        processors = [getattr(part, "processor", None) for part in model.modules()]
        if any(getattr(processor, "_attention_backend", None) == name for processor in processors):
            taken.append(type(model).__name__)
    if not taken and choice.backend != "sdpa":
        raise UnavailableError(
            f"No attention layer of {type(module_or_pipeline).__name__} takes a backend, so "
            f"{choice.backend!r} would have no effect.",
            "Use attention='sdpa'.",
        )
    return tuple(taken)


def register_with_transformers() -> None:
    """Add the entries "xformers" and "sdpa_fa" (SDPA held to its flash kernel) to transformers; idempotent.

    Both take the masks that transformers makes for "sdpa": boolean [B, 1, Sq, Sk], or None where the causal
    flag or nothing at all is enough.
    """
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import sdpa_mask

    AttentionInterface.register(_TRANSFORMERS_NAMES["xformers"], _transformers_xformers)
    AttentionInterface.register(_TRANSFORMERS_NAMES["flash"], _transformers_flash)
    for backend in ("xformers", "flash"):
        AttentionMaskInterface.register(_TRANSFORMERS_NAMES[backend], sdpa_mask)


def apply_to_transformers(model: Any, choice: AttentionChoice) -> None:
    """Set the choice on a transformers model and its sub-models.

    Raises:
        UnavailableError: the model does not let its attention be set.
    """
    register_with_transformers()
    name = _TRANSFORMERS_NAMES[choice.backend]
    try:
        model.set_attn_implementation(name)
    except ValueError as error:
        raise UnavailableError(
            f"{type(model).__name__} does not take attention {choice.backend!r}: {_first_line(error)}.",
            "Use attention='sdpa'.",
        ) from error
    if model.config._attn_implementation != name:
        raise UnavailableError(
            f"{type(model).__name__} does not let its attention be set to {choice.backend!r} "
            f"(it stays {model.config._attn_implementation!r}).",
            "Load it without a choice.",
        )


def _transformers_flash(module: torch.nn.Module, *args: Any, **kwargs: Any) -> tuple[torch.Tensor, None]:
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    with _only_flash():
        return sdpa_attention_forward(module, *args, **kwargs)


def _transformers_xformers(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    is_causal: bool | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """The AttentionInterface signature over `_xformers`: [B, H, S, D] in, [B, Sq, H, D] out, no weights."""
    extras = ("softcap", "position_bias", "cache", "s_aux")
    unknown = [name for name in extras if kwargs.get(name) is not None] + ["dropout"] * bool(dropout)
    if unknown:
        raise UnavailableError(f"The xformers attention does not take {', '.join(unknown)}.", "Use attention='sdpa'.")
    groups = query.shape[1] // key.shape[1]
    key, value = (part.repeat_interleave(groups, dim=1) if groups > 1 else part for part in (key, value))
    causal = getattr(module, "is_causal", True) if is_causal is None else is_causal
    if attention_mask is None and causal and query.shape[2] > 1:
        ops = _xformers_ops()
        parts = [part.transpose(1, 2) for part in (query, key, value)]
        # Aligned at the upper left, like SDPA's causal flag.
        return ops.memory_efficient_attention(*parts, attn_bias=ops.LowerTriangularMask(), scale=scaling), None
    output = _xformers(query, key, value, attention_mask, scaling)
    return output.transpose(1, 2).contiguous(), None
