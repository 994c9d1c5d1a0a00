"""Which kernel computes dense attention in diffusers' dispatcher, and why.

torch's SDPA is the oracle: "auto" leaves it only for an xformers that runs here, agrees with it and is faster.
"""

from __future__ import annotations

import importlib
import importlib.util
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import torch
from diffusers.models.attention_dispatch import (
    AttentionBackendName,
    _AttentionBackendRegistry,
    attention_backend,
    dispatch_attention_fn,
)

from .errors import SparseVideoInputError

# Our words -> diffusers' AttentionBackendName.
_NAMES = {"sdpa": "native", "native": "native", "xformers": "xformers", "flash": "_native_flash"}
_WORDS = {"native": "sdpa", "xformers": "xformers", "_native_flash": "flash"}
_SHAPE = (1, 4096, 16)  # batch, tokens, heads: a short clip
_REAL_GAIN = 1.05  # below this a difference is noise
_MASKED = (
    "this model gives its self-attention a mask, which diffusers' xformers backend adds as 0 and 1 and its flash "
    "backend refuses"
)


@dataclass(frozen=True)
class DenseBackend:
    """What computes dense attention.

    Attributes:
        backend: "sdpa", "xformers", "flash", or diffusers' own name for another one.
        reason: one clause.
        requested: what was asked for.
    """

    backend: str
    reason: str
    requested: str = "auto"

    def as_dict(self) -> dict[str, str]:
        """As a run record holds it."""
        return asdict(self)


def choose_dense_backend(
    requested: str, *, device: torch.device, dtype: torch.dtype, head_dim: int, masked: bool
) -> DenseBackend:
    """Choose for a device, a number format and a head size; `masked` models keep SDPA.

    Raises:
        SparseVideoInputError: an unknown name, or one that cannot work here.
    """
    if requested != "auto" and requested not in _NAMES:
        allowed = ", ".join(repr(name) for name in ("auto", *_NAMES))
        raise SparseVideoInputError(f"attention backend {requested!r} is unknown; it is one of {allowed}")
    if requested in ("sdpa", "native"):
        return DenseBackend("sdpa", "asked for", requested)
    if requested == "auto":
        return _automatic(device, dtype, head_dim, masked)
    failure = _MASKED if masked else _failure(_NAMES[requested], device, dtype, head_dim)
    if failure is not None:
        raise SparseVideoInputError(
            f"attention {requested!r} cannot be used on {device.type}: {failure}; use attention='sdpa' or 'auto'"
        )
    return DenseBackend(requested, f"asked for, and it works on {device.type}", requested)


def _automatic(device: torch.device, dtype: torch.dtype, head_dim: int, masked: bool) -> DenseBackend:
    if masked:
        return DenseBackend("sdpa", _MASKED)
    if device.type != "cuda":
        # Not probed: importing xformers takes seconds and only warns where there is no GPU.
        return DenseBackend("sdpa", f"xformers has no {device.type.upper()} kernel")
    failure = _failure("xformers", device, dtype, head_dim)
    if failure is not None:
        return DenseBackend("sdpa", f"xformers cannot run here: {failure}")
    ratio = _seconds("native", device, dtype, head_dim) / _seconds("xformers", device, dtype, head_dim)
    measured = f"xformers ran {ratio:.2f} times as fast as SDPA on {[*_SHAPE, head_dim]}"
    if ratio >= _REAL_GAIN:
        return DenseBackend("xformers", measured)
    return DenseBackend("sdpa", f"{measured}; it takes {_REAL_GAIN} to leave SDPA")


def _inputs(tokens: int, heads: int, device: torch.device, dtype: torch.dtype, head_dim: int) -> list[torch.Tensor]:
    # A generator of its own: the caller's seeded stream must not move.
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(1, tokens, heads, head_dim, generator=generator).to(device, dtype) for _ in range(3)]


def _run(name: str, tensors: list[torch.Tensor]) -> torch.Tensor:
    query, key, value = tensors
    return dispatch_attention_fn(query, key, value, backend=AttentionBackendName(name))


def _failure(name: str, device: torch.device, dtype: torch.dtype, head_dim: int) -> str | None:
    """Why this backend cannot be used here, found by running it beside SDPA; None when they agree."""
    if name == "xformers" and importlib.util.find_spec("xformers") is None:
        return "xformers is not installed"
    tensors = _inputs(48, 2, device, dtype, head_dim)
    try:
        with attention_backend(name):  # checks what the backend needs
            found = _run(name, tensors)
    # A backend fails in many ways (missing library, no kernel, unsupported GPU): all mean "not here".
    except Exception as error:
        return f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else 'no reason'}"
    deviation = float((found.float() - _run("native", tensors).float()).abs().max())
    tolerance = 5e-3 if dtype == torch.float32 else 3e-2
    return None if deviation <= tolerance else f"it differs from SDPA by {deviation:.3g}"


def _seconds(name: str, device: torch.device, dtype: torch.dtype, head_dim: int) -> float:
    """Median time of one call on a realistic shape, after a warm-up."""
    tensors = _inputs(*_SHAPE[1:], device, dtype, head_dim)
    times = []
    for _ in range(9):
        torch.cuda.synchronize(device)
        begun = time.perf_counter()
        _run(name, tensors)
        torch.cuda.synchronize(device)
        times.append(time.perf_counter() - begun)
    return sorted(times[2:])[3]


def apply_dense_backend(models: Iterable[Any], choice: DenseBackend) -> None:
    """Set the choice on diffusers models; what was chosen for them is left alone where that is SDPA."""
    if choice.backend == "sdpa" and choice.requested == "auto":
        return  # so that DIFFUSERS_ATTN_BACKEND keeps its word
    for model in models:
        # set_attention_backend also sets a process-wide default; the context manager puts the old one back.
        with attention_backend("native"):
            model.set_attention_backend(_NAMES[choice.backend])


def backend_in_use(model: Any, choice: DenseBackend, *, masked: bool) -> DenseBackend:
    """What the model's attention really goes through now.

    Raises:
        SparseVideoInputError: a backend that computes something else for a masked model.
    """
    processors = (getattr(module, "processor", None) for module in model.modules())
    named = (getattr(processor, "_attention_backend", None) for processor in processors)
    found = next((name for name in named if name is not None), _AttentionBackendRegistry.get_active_backend()[0])
    value = AttentionBackendName(found).value
    word = _WORDS.get(value, value)
    if masked and word in ("xformers", "flash"):
        raise SparseVideoInputError(f"attention {word!r} cannot be used: {_MASKED}; set_attention_backend('native')")
    if word == choice.backend:
        return choice
    return DenseBackend(word, "set through diffusers (set_attention_backend or DIFFUSERS_ATTN_BACKEND)", word)
