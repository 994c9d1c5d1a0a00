"""Time and memory of one call, and a look at every step of the denoising loop from outside."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch


def _now(device: torch.device) -> float:
    """Seconds, once the device has finished what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


class Meter:
    """Wall time by stage and the peak memory of one call.

    Attributes:
        timings: seconds by stage.
    """

    def __init__(self, device: torch.device) -> None:
        self.timings: dict[str, float] = {}
        self._device = device
        self._begun = _now(device)
        _reset_peak(device)

    @contextmanager
    def stage(self, name: str) -> Generator[None]:
        """Time the block."""
        begun = _now(self._device)
        yield
        self.timings[name] = _now(self._device) - begun

    def total(self) -> float:
        """Seconds since the call began."""
        return _now(self._device) - self._begun

    def peak_memory(self) -> int | None:
        """High-water mark, bytes: allocated on CUDA; resident, of the whole process, elsewhere. None if unknown."""
        if self._device.type == "cuda":
            return torch.cuda.max_memory_allocated(self._device)
        try:
            mark = re.search(r"^VmHWM:\s*(\d+) kB$", Path("/proc/self/status").read_text(), re.MULTILINE)
        except OSError:
            mark = None
        return int(mark[1]) * 1024 if mark else _peak_since_start()


def _reset_peak(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return
    try:
        Path("/proc/self/clear_refs").write_text("5")  # Linux: proc(5), reset the peak resident set size
    except OSError:
        return  # then the mark is the process's own since its start


def _peak_since_start() -> int | None:
    try:
        import resource
    except ImportError:  # Windows
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


class WatchedScheduler:
    """Stands in for a scheduler during one call: passes everything on, times the steps, keeps the clean estimate.

    Attributes:
        step_seconds: of each step so far, callbacks left out.
        clean: the last step's estimate of the clean latents [B, C, T, H, W]; None before the first step, and with
            schedulers that do not predict a flow.
    """

    def __init__(self, scheduler: Any, device: torch.device) -> None:
        self._scheduler = scheduler
        self._device = device
        self.step_seconds: list[float] = []
        self.clean: torch.Tensor | None = None
        self.resume()

    def __getattr__(self, name: str) -> Any:
        if name == "_scheduler":  # not there yet: a copy is being made
            raise AttributeError(name)
        return getattr(self._scheduler, name)

    def resume(self) -> None:
        """The next step's time starts now."""
        self._begun = _now(self._device)

    def set_begin_index(self, begin_index: int = 0) -> None:
        """Called right before the loop."""
        self._scheduler.set_begin_index(begin_index)
        self.resume()

    def step(self, model_output: torch.Tensor, timestep: Any, sample: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        """One step of the scheduler."""
        if self._predicts_flow():
            # Rectified flow: sample = (1 - sigma) clean + sigma noise, and the model predicts noise - clean.
            sigma = float(self._scheduler.sigmas[len(self.step_seconds)])
            self.clean = sample.float() - sigma * model_output.float()
        result = self._scheduler.step(model_output, timestep, sample, *args, **kwargs)
        self.step_seconds.append(_now(self._device) - self._begun)
        self.resume()
        return result

    def _predicts_flow(self) -> bool:
        if getattr(self._scheduler, "order", 1) != 1:
            return False
        kind = self._scheduler.config.get("prediction_type", None)
        return kind == "flow_prediction" or type(self._scheduler).__name__.startswith("FlowMatchEuler")
