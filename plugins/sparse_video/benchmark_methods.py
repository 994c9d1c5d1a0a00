"""What the benchmark times: dense backends, and sparse attention with and without its corrections."""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from .attention import rectified_attention
from .benchmark_data import Case
from .compare import RECTIFY
from .config import RectifiedAttentionConfig
from .executors import EXECUTORS, get_executor
from .executors.choose import ExecutorChoice

DENSE = "dense"
OTHERS_TOKENS = 16384  # executors that were not chosen are timed up to this length on a CPU

Tensors = tuple[Tensor, Tensor, Tensor]


@dataclass(frozen=True)
class Method:
    """One way to compute attention.

    Attributes:
        name: for tables. dense: the function, of dense backends. rectify, density: of the configuration, of others.
        executor: who does the sparse part. main: it is the executor that "auto" takes, and so is judged.
        neighbors: neighbouring blocks are kept on top of the density, as the paper does; without them the density that
            is asked for is the one that is kept.
    """

    name: str
    dense: Callable[[Tensor, Tensor, Tensor], Tensor] | None = None
    rectify: str = ""
    density: float = 1.0
    executor: ExecutorChoice | None = None
    main: bool = True
    neighbors: bool = False

    def run(self, tensors: Tensors, case: Case) -> tuple[Tensor, float, float]:
        """Output, density really kept, seconds inside the executor."""
        if self.dense is not None or self.executor is None:
            return (self.dense or scaled_dot_product_attention)(*tensors), 1.0, 0.0
        timed = _TimedExecutor(self.executor, tensors[0].device)
        config = RectifiedAttentionConfig(
            density=self.density,
            rectify=self.rectify,  # ty: ignore[invalid-argument-type]
            neighbors=self.neighbors,
        )
        out, stats = rectified_attention(*tensors, config=config, grid=case.grid, executor=timed, return_stats=True)
        return out, stats.density, timed.seconds


class _TimedExecutor:
    """An executor that adds up the seconds spent in it."""

    def __init__(self, choice: ExecutorChoice, device: torch.device) -> None:
        self.name, self.seconds = choice.name, 0.0
        self._executor, self._device = choice.executor, device

    def unavailable(self, device: torch.device, dtype: torch.dtype) -> str | None:
        return self._executor.unavailable(device, dtype)

    def __call__(self, *args: Any, **kwargs: Any) -> Tensor:
        started = now(self._device)
        try:
            return self._executor(*args, **kwargs)
        finally:
            self.seconds += now(self._device) - started


def methods_of(
    case: Case,
    densities: list[float],
    chosen: ExecutorChoice,
    device: torch.device,
    dtype: torch.dtype,
    all_executors: bool,
    notes: list[str],
) -> Iterator[Method]:
    yield from _dense_methods(device, notes)
    for density in densities:
        if density >= 1:  # falls back to dense attention: shows what the fall-back costs
            yield Method("rectified", rectify="paper", density=1.0, executor=chosen)
            continue
        for name, rectify in RECTIFY.items():
            yield Method(name, rectify=rectify, density=density, executor=chosen)
        name = "rectified, neighbours too"
        yield Method(name, rectify="paper", density=density, executor=chosen, main=False, neighbors=True)
    if not all_executors or (device.type == "cpu" and case.tokens > OTHERS_TOKENS):
        return
    for name in EXECUTORS:
        if name == chosen.name or (name == "reference" and device.type != "cpu"):
            continue
        if reason := get_executor(name).unavailable(device, dtype):
            notes.append(f"{name} is left out: {reason}")
            continue
        other = ExecutorChoice(get_executor(name), name, "for comparison")
        for density in (density for density in densities if density <= 0.25):
            yield Method(f"rectified by {name}", rectify="paper", density=density, executor=other, main=False)


def _dense_methods(device: torch.device, notes: list[str]) -> Iterator[Method]:
    """SDPA on a CPU; on CUDA each of its backends that works here, and xformers."""
    if device.type != "cuda":
        yield Method(DENSE, dense=scaled_dot_product_attention)
        return
    from torch.nn.attention import SDPBackend

    for backend in (SDPBackend.FLASH_ATTENTION, SDPBackend.CUDNN_ATTENTION, SDPBackend.EFFICIENT_ATTENTION):
        yield Method(f"{DENSE}, {backend.name.removesuffix('_ATTENTION').lower()}", dense=partial(_sdpa, backend))
    try:
        memory_efficient_attention = importlib.import_module("xformers.ops").memory_efficient_attention
    except (ImportError, OSError, RuntimeError) as error:
        notes.append(f"xformers is left out: {error}")
        return

    def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        folded = (tensor.transpose(1, 2) for tensor in (query, key, value))  # xformers: [batch, tokens, heads, dim]
        return memory_efficient_attention(*folded).transpose(1, 2)

    yield Method(f"{DENSE}, xformers", dense=attend)


def _sdpa(backend: Any, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    from torch.nn.attention import sdpa_kernel

    with sdpa_kernel(backend):
        return scaled_dot_product_attention(query, key, value)


def now(device: torch.device) -> float:
    """Seconds, once the device has finished what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
