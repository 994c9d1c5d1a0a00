"""On which device and in which number format a checkpoint is loaded."""

from __future__ import annotations

from typing import Any

import torch

from .errors import SparseVideoInputError

_DTYPES = {"bf16": torch.bfloat16, "bfloat16": torch.bfloat16, "fp16": torch.float16, "float16": torch.float16}
_DTYPES |= {"fp32": torch.float32, "float32": torch.float32}


def resolve_device(device: str | torch.device | None) -> torch.device:
    """The device of that name; "auto" takes CUDA, then MPS, then the CPU, and None the CPU.

    Raises:
        SparseVideoInputError: it is not here.
    """
    if device == "auto":
        names = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
        device = next((name for name, here in names.items() if here), "cpu")
    try:
        return torch.empty(0, device=device or "cpu").device
    except (RuntimeError, AssertionError) as error:
        raise SparseVideoInputError(
            f"device {str(device)!r} cannot be used here: choose 'auto', 'cpu' or 'cuda'"
        ) from error


def component_dtypes(dtype: Any, device: torch.device, family: str | None) -> Any:
    """What diffusers' loader takes as torch_dtype: a dtype, or one per component."""
    if isinstance(dtype, dict):
        return dtype
    if dtype is None or dtype == "auto":
        dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    named = _DTYPES.get(str(dtype).removeprefix("torch."))
    if named is None:
        raise SparseVideoInputError(f"dtype is {dtype!r}; it is one of {', '.join(_DTYPES)} or 'auto'")
    return named if family == "hunyuan" else {"default": named, "vae": torch.float32}
