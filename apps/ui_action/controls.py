"""What visitors tell a running game: go on, one turn more, yes or no; read by the job between its actions."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass
from functools import cache

_MOST_JOBS = 256  # a job that is stopped before it runs leaves its entry behind


@dataclass
class _Wishes:
    """Of one job.

    Attributes:
        stepwise: wait before each turn.
        turns: that may be taken all the same.
        answers: by the number of the question.
    """

    stepwise: bool = False
    turns: int = 0
    answers: dict[int, bool] | None = None


class Controls:
    """Wishes by job; safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._jobs: OrderedDict[str, _Wishes] = OrderedDict()

    def begin(self, job_id: str, *, stepwise: bool) -> None:
        """A job begins; stepwise with one turn to take. What was told before is kept."""
        with self._lock:
            if job_id not in self._jobs:
                wishes = self._of(job_id)
                wishes.stepwise, wishes.turns = stepwise, int(stepwise)

    def run(self, job_id: str) -> None:
        """Go on without waiting."""
        with self._lock:
            self._of(job_id).stepwise = False

    def step(self, job_id: str) -> None:
        """One turn more, then wait."""
        with self._lock:
            wishes = self._of(job_id)
            wishes.stepwise, wishes.turns = True, wishes.turns + 1 if wishes.stepwise else 1

    def answer(self, job_id: str, question: int, allowed: bool) -> None:
        """Yes or no to one question; the first answer counts."""
        with self._lock:
            wishes = self._of(job_id)
            wishes.answers = wishes.answers or {}
            wishes.answers.setdefault(question, allowed)

    def may_go_on(self, job_id: str) -> bool:
        """Whether the next turn may be taken; a turn that was granted is used up."""
        with self._lock:
            wishes = self._of(job_id)
            if not wishes.stepwise:
                return True
            if not wishes.turns:
                return False
            wishes.turns -= 1
            return True

    def answered(self, job_id: str, question: int) -> bool | None:
        """The answer, or None before there is one."""
        with self._lock:
            return (self._of(job_id).answers or {}).get(question)

    def forget(self, job_id: str) -> None:
        """The job is over."""
        with self._lock:
            self._jobs.pop(job_id, None)

    def _of(self, job_id: str) -> _Wishes:
        wishes = self._jobs.setdefault(job_id, _Wishes())
        self._jobs.move_to_end(job_id)
        while len(self._jobs) > _MOST_JOBS:
            self._jobs.popitem(last=False)
        return wishes


@cache
def default_controls() -> Controls:
    """The process's own, as its jobs are."""
    return Controls()
