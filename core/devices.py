"""Devices and number formats, resolved once with errors that say what is there.

torch is imported inside the functions, so that importing this module stays cheap.
"""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from core.errors import InputError, UnavailableError

if TYPE_CHECKING:
    import torch

_DTYPE_NAMES = {"bf16": "bfloat16", "fp16": "float16", "fp32": "float32"}
_ALLOWED_DEVICES = "'auto', 'cpu', 'cuda', 'cuda:<index>' or 'mps'"


@dataclass(frozen=True)
class DeviceInfo:
    """What a run record and the page header say about a device.

    Attributes:
        name: Model name, such as "NVIDIA H200" or "AMD EPYC".
        kind: "cpu", "cuda" or "mps".
        total_memory_bytes: Memory that this process can use at most, in bytes (a container's limit counts).
        cores: CPU cores this process may run on; None for an accelerator.
        capability: CUDA compute capability (major, minor); None elsewhere.
    """

    name: str
    kind: str
    total_memory_bytes: int
    cores: int | None = None
    capability: tuple[int, int] | None = None

    @property
    def label(self) -> str:
        """One line for people: name, cores or compute capability, memory in GiB."""
        parts = [self.name]
        if self.cores is not None:
            parts.append(f"{self.cores} core" + ("s" if self.cores != 1 else ""))
        if self.capability is not None:
            parts.append("sm_{}{}".format(*self.capability))
        parts.append(f"{self.total_memory_bytes / 2**30:.0f} GiB")
        return " · ".join(parts)


def resolve_device(device: str | torch.device | None = "auto") -> torch.device:
    """Turn a device name into a device that exists here; "auto" (or None) takes CUDA, then MPS, then the CPU.

    Raises:
        InputError: the name is not one that is allowed, or the index is out of range.
        UnavailableError: the kind is known, but this machine or this torch build does not have it.
    """
    import torch

    if device is None or device == "auto":
        return torch.device(_first_available())
    try:
        resolved = torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise InputError(f"{device!r} is not a device; use {_ALLOWED_DEVICES}.") from error
    if resolved.type == "cuda":
        return _check_cuda(resolved)
    if resolved.type == "mps" and not torch.backends.mps.is_available():
        raise UnavailableError(
            "Device 'mps' was asked for, but this machine or torch build has no Apple GPU support.",
            "Use device='auto' or 'cpu'.",
        )
    if resolved.type == "cpu":
        return torch.device("cpu")
    if resolved.type != "mps":
        raise InputError(f"device {str(device)!r} is not supported; use {_ALLOWED_DEVICES}.")
    return resolved


def _first_available() -> str:
    import torch

    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def _check_cuda(device: torch.device) -> torch.device:
    import torch

    if not torch.cuda.is_available():
        built_for = torch.version.cuda or torch.version.hip
        why = (
            f"torch {torch.__version__} finds no usable GPU or driver"
            if built_for
            else f"torch {torch.__version__} is a CPU-only build"
        )
        raise UnavailableError(
            f"Device {str(device)!r} was asked for, but {why}.",
            "Use device='auto' or 'cpu', or install a CUDA build of torch on a machine with an NVIDIA GPU.",
        )
    count = torch.cuda.device_count()
    if device.index is not None and device.index >= count:
        raise InputError(f"device {str(device)!r} does not exist: CUDA indices here are 0 to {count - 1}.")
    return device


def resolve_dtype(dtype: str | torch.dtype | None, device: torch.device) -> torch.dtype:
    """Turn a name into a floating-point dtype; None or "auto" takes bfloat16 on CUDA where it is native.

    "auto" gives float16 on CUDA devices older than bfloat16, and float32 on the CPU and MPS, where half
    precision saves little time and costs accuracy.

    Raises:
        InputError: the name is unknown, or the dtype is not a floating-point format models run in.
    """
    import torch

    if dtype is None or dtype == "auto":
        if device.type != "cuda":
            return torch.float32
        return torch.bfloat16 if torch.cuda.get_device_capability(device)[0] >= 8 else torch.float16
    for short, name in _DTYPE_NAMES.items():
        known: torch.dtype = getattr(torch, name)
        if dtype in (short, name, known):
            return known
    raise InputError(f"dtype {dtype!r} is not supported; use 'auto', 'bf16', 'fp16' or 'fp32'.")


def describe_device(device: str | torch.device | None = "auto") -> DeviceInfo:
    """Name, memory and cores of a device, for run records and the page header."""
    import torch

    resolved = resolve_device(device)
    if resolved.type == "cuda":
        properties = torch.cuda.get_device_properties(resolved)
        return DeviceInfo(
            name=properties.name,
            kind="cuda",
            total_memory_bytes=properties.total_memory,
            capability=(properties.major, properties.minor),
        )
    if resolved.type == "mps":
        return DeviceInfo("Apple GPU", "mps", torch.mps.recommended_max_memory())
    return DeviceInfo(_cpu_name(), "cpu", _usable_memory(), cores=_usable_cores())


def _cpu_name() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine() or "CPU"


def _usable_cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _usable_memory() -> int:
    """Physical memory, or the container's limit where that is smaller, in bytes."""
    import psutil

    total = psutil.virtual_memory().total
    limit = Path("/sys/fs/cgroup/memory.max")
    text = limit.read_text().strip() if limit.is_file() else "max"
    return min(total, int(text)) if text.isdigit() else total
