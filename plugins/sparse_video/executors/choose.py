"""Which executor does the sparse part: chosen once per device and number format, by a short timing, with its reason.

A new kernel (Triton, say) is one more module beside these and one more line in the registry of `__init__`; if it is
quick to build it belongs in PROBED, and then "auto" takes it wherever it wins.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import cache

import torch

from ..errors import SparseVideoInputError
from .base import Executor

FALLBACK = "reference"
# Timed against each other, by kind of device; elsewhere reference and gather. Compiling FlexAttention takes about ten
# seconds on a CPU, where gathering is several times faster anyway: there it is used only when asked for by name.
PROBED = {"cpu": ("reference", "gather"), "cuda": ("reference", "gather", "flex", "xformers")}
NOT_PROBED = {"cpu": "flex not timed, because it would first compile for ten seconds: ask for it by name to use it"}
# Of the timing: tokens, heads, rounds. On a CPU all of it takes well under a second.
PROBE_SIZE = {"cpu": (4096, 1, 3), "cuda": (16384, 8, 5)}
HEAD_DIM, BLOCK_SIZE, DENSITY = 64, 128, 0.25


@dataclass(frozen=True)
class ExecutorChoice:
    """An executor and why it was chosen.

    Attributes:
        executor: the callable.
        name: its name in the registry.
        reason: one sentence for run records and pages.
    """

    executor: Executor
    name: str
    reason: str


def choose_executor(requested: str, device: torch.device, dtype: torch.dtype) -> ExecutorChoice:
    """The executor of that name, or with "auto" the fastest that works on this device in this number format.

    Raises:
        SparseVideoInputError: the name is unknown, or that executor does not work here; the message says why.
    """
    from . import get_executor

    device = torch.device(device)
    if requested == "auto":
        return _fastest(device, dtype)
    executor = get_executor(requested)
    if reason := executor.unavailable(device, dtype):
        raise SparseVideoInputError(
            f"executor {requested!r} does not work on {device} in {dtype}: {reason}; or use executor='auto'"
        )
    return ExecutorChoice(executor, requested, "asked for by name")


@cache
def _fastest(device: torch.device, dtype: torch.dtype) -> ExecutorChoice:
    from . import get_executor

    works: dict[str, Executor] = {}
    notes: list[str] = []
    for name in PROBED.get(device.type, ("reference", "gather")):
        executor = get_executor(name)
        if reason := executor.unavailable(device, dtype):
            notes.append(f"{name} unavailable: {reason}")
        else:
            works[name] = executor
    seconds = _probe(works, device, dtype, notes)
    if note := NOT_PROBED.get(device.type):
        flex = get_executor("flex").unavailable(device, dtype)
        notes.append(f"flex unavailable: {flex}" if flex else note)
    if not seconds:  # too little memory for the timing, say; the attention itself may be smaller
        return ExecutorChoice(get_executor(FALLBACK), FALLBACK, "; ".join(("none could be timed", *notes)))
    name = min(seconds, key=seconds.__getitem__)
    return ExecutorChoice(get_executor(name), name, "; ".join((_compare(name, seconds, device), *notes)))


def _compare(name: str, seconds: dict[str, float], device: torch.device) -> str:
    others = {other: taken / seconds[name] for other, taken in seconds.items() if other != name}
    if not others:
        return f"{name} is the only one that works on this {device.type}"
    times = ", ".join(f"{ratio:.1f}x {other}" for other, ratio in others.items())
    return f"{name} is the fastest on this {device.type} in a short timing: {times}"


def _probe(
    executors: dict[str, Executor], device: torch.device, dtype: torch.dtype, notes: list[str]
) -> dict[str, float]:
    """Seconds of one call of each, the best of a few interleaved ones after one to warm up; failures go to notes."""
    tokens, heads, rounds = PROBE_SIZE.get(device.type, PROBE_SIZE["cuda"])
    generator = torch.Generator().manual_seed(0)  # leaves the caller's random numbers alone
    shape = (1, heads, tokens, HEAD_DIM)
    query, key, value = (torch.randn(shape, generator=generator).to(device, dtype) for _ in range(3))
    blocks = tokens // BLOCK_SIZE
    ranks = torch.rand(1, heads, blocks, blocks, generator=generator).argsort(-1)
    chosen = (ranks < round(DENSITY * blocks)).to(device)
    taken: dict[str, list[float]] = {name: [] for name in executors}
    for name in list(executors) * (rounds + 1):
        if name not in taken:
            continue
        try:
            with torch.no_grad():
                _wait(device)
                started = time.perf_counter()
                executors[name](query, key, value, chosen, block_size=BLOCK_SIZE, scale=HEAD_DIM**-0.5)
                _wait(device)
            taken[name].append(time.perf_counter() - started)
        except (RuntimeError, SparseVideoInputError) as error:
            del taken[name]
            notes.append(f"{name} unavailable: {str(error).strip().partition(chr(10))[0]}")
    return {name: min(seconds[1:]) for name, seconds in taken.items()}


def _wait(device: torch.device) -> None:
    if device.type in ("cuda", "mps"):
        getattr(torch, device.type).synchronize()
