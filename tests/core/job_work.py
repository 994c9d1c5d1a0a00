"""Work for the tests of the job store, and ways to wait for it."""

import threading
import time
from collections.abc import Callable

from core.jobs import JobContext, JobStore

PATIENCE = 10.0


class Gate:
    """Work that runs until it is let through or stopped, as cooperative work does."""

    def __init__(self) -> None:
        self.entered = threading.Event()
        self.opened = threading.Event()

    def __call__(self, context: JobContext) -> dict[str, bool]:
        self.entered.set()
        while not self.opened.wait(0.01):
            context.check()
        return {"passed": True}


def quick(context: JobContext) -> dict[str, str]:
    return {"id": context.id}


def eventually(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "it never came about"
        time.sleep(0.005)


def occupy(store: JobStore) -> tuple[Gate, str]:
    """Fill one worker: the gate that its work waits at, and its id."""
    gate = Gate()
    job_id = store.submit("toy", gate, params={})
    assert gate.entered.wait(PATIENCE)
    return gate, job_id
