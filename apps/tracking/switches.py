"""Which sensors of a running job are on: set from the page, read by the job before each frame."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from functools import cache

_MOST_JOBS = 256  # a job that is stopped before it runs leaves its entry behind


class Switches:
    """Sensors that are on, by job; safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._on: OrderedDict[str, tuple[str, ...]] = OrderedDict()

    def set(self, job_id: str, sensors: Sequence[str]) -> None:
        """From the next frame on these sensors are on, and no other."""
        with self._lock:
            self._on[job_id] = tuple(sensors)
            self._on.move_to_end(job_id)
            while len(self._on) > _MOST_JOBS:
                self._on.popitem(last=False)

    def get(self, job_id: str, sensors: Sequence[str]) -> tuple[str, ...]:
        """Those of `sensors` that are on, in their order; all where nobody touched a switch."""
        with self._lock:
            on = self._on.get(job_id)
        return tuple(name for name in sensors if on is None or name in on)

    def forget(self, job_id: str) -> None:
        """The job is over."""
        with self._lock:
            self._on.pop(job_id, None)


@cache
def default_switches() -> Switches:
    """The process's own, as its jobs are."""
    return Switches()
