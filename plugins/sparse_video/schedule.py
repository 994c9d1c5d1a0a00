"""Which sampling step a call of a model belongs to, and which steps and layers stay dense.

The original counts calls in each layer and starts over at a literal 50, 80 or 100. Here a step is a place in the run:
what the pipeline says (`cache_context`), else what its scheduler plans, else what the timesteps themselves tell: a
changed value is the next step, an increase is a new run.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

TOLERANCE = 1 / 128  # a pipeline may hand its timesteps over in bfloat16, 8 bits of mantissa


@dataclass(frozen=True)
class Step:
    """A call's place in the sampling run.

    Attributes:
        run: 0 for the first run that was seen, then 1, ...
        index: step of this run, from 0, over all experts of the pipeline.
        total: steps of this run; None when nobody says.
        progress: share of the run that lay behind this step, 0 to below 1; where `total` is None, of its timestep
            range, from the run's first timestep to 0.
        call: how often this model was called before in this step: 0 with the prompt, 1 without it, under
            classifier-free guidance in two calls; always 0 in one batch.
    """

    run: int
    index: int
    total: int | None
    progress: float
    call: int


@dataclass(frozen=True)
class Plan:
    """A run's position: step `index` of `total`."""

    index: int
    total: int


def leading(share: float, total: int) -> int:
    """How many of `total` layers or steps the first `share` covers, rounded up: a share above 0 covers at least one."""
    return min(total, math.ceil(share * total - 1e-9))


def is_dense_step(step: Step, dense_steps: float) -> bool:
    """Is this step among the first `dense_steps` (share) of its run?

    Where the number of steps is unknown, the share is one of the timestep range. Flow schedules with a shift above 1
    spend more than that share of their steps there, so attention stays dense for longer than with the number known.
    """
    if step.total is None:
        return step.progress < dense_steps
    return step.index < leading(dense_steps, step.total)


def context_plan(context: Any) -> Plan | None:
    """What a pipeline said through diffusers' `cache_context`; most name the call only, then None."""
    index, total = getattr(context, "step_index", None), getattr(context, "num_inference_steps", None)
    return None if index is None or not total else Plan(int(index), int(total))


class Clock:
    """Tells the step of each call. One clock serves all experts of a pipeline.

    Args:
        scheduler: returns the pipeline's scheduler of now, or None where there is no pipeline.
    """

    def __init__(self, scheduler: Callable[[], Any] = lambda: None) -> None:
        self._scheduler = scheduler
        self._planned: Any = None  # the scheduler's tensor, kept so that a new one is known by its identity
        self._values: list[float] = []  # its numbers
        self._run = self._index = -1
        self._first = self._last = -math.inf
        self._calls: dict[str, int] = {}

    def tick(self, model: str, timestep: float, context: Any = None) -> Step:
        """The step of this call of `model`; `timestep` in the model's units, largest first."""
        replanned = self._read_schedule()
        plan = context_plan(context) or self._scheduled(timestep)
        if plan is None:
            new_run = replanned or timestep > self._last
            index = 0 if new_run else self._index + (timestep < self._last)
        else:
            new_run = replanned or self._run < 0 or plan.index < self._index
            index = plan.index
        self._advance(new_run, index, timestep)
        call = self._calls[model] = self._calls.get(model, -1) + 1
        if plan is not None:
            return Step(self._run, index, plan.total, index / plan.total, call)
        progress = 1 - timestep / self._first if self._first > 0 else 0.0
        return Step(self._run, index, None, progress, call)

    def _advance(self, new_run: bool, index: int, timestep: float) -> None:
        if new_run:
            self._run += 1
            self._first = timestep
        if new_run or index != self._index:
            self._calls = {}
        self._index, self._last = index, timestep

    def _read_schedule(self) -> bool:
        """Has the scheduler been set up anew since the last call? `set_timesteps` makes a new tensor each time."""
        scheduler = self._scheduler()
        timesteps = getattr(scheduler, "timesteps", None)
        if timesteps is None or getattr(scheduler, "num_inference_steps", None) is None:
            timesteps = None  # never set up: these are the training steps
        if timesteps is self._planned:
            return False
        self._planned = timesteps
        self._values = [] if timesteps is None else [float(value) for value in timesteps.tolist()]
        return timesteps is not None

    def _scheduled(self, timestep: float) -> Plan | None:
        """Where the scheduler stands, if this call's timestep is one of its own."""
        if not self._values:
            return None
        scheduler = self._scheduler()
        begin = getattr(scheduler, "begin_index", None) or 0
        position = getattr(scheduler, "step_index", None)
        position = begin if position is None else position
        if not (0 <= position < len(self._values) and self._agrees(position, timestep)):
            # Two planned values may be one in bfloat16, so the scheduler's own position comes first, the value second.
            position = min(range(len(self._values)), key=lambda i: abs(self._values[i] - timestep))
            if not self._agrees(position, timestep):
                return None
        return Plan(max(position - begin, 0), len(self._values) - begin)

    def _agrees(self, position: int, timestep: float) -> bool:
        return math.isclose(self._values[position], timestep, rel_tol=TOLERANCE, abs_tol=1e-6)
