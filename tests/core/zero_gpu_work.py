"""Work of jobs for the tests of ZeroGPU; a module of its own, so that another process can import it."""

from __future__ import annotations

import os
from typing import Any

from core.jobs import JobContext, JobStopped


def count(request: int, context: JobContext) -> dict[str, Any]:
    """Report and preview each number, write a file, say which process it was."""
    for number in range(request):
        context.progress((number + 1) / request, f"number {number}")
        context.preview({"number": number})
    (context.directory / "numbers.txt").write_text(str(request))
    return {"counted": request, "process": os.getpid()}


def refuse(request: int, context: JobContext) -> dict[str, Any]:
    """Fail as a plugin does on bad input."""
    raise ValueError(f"{request} is too many: give 2")


def crash(request: int, context: JobContext) -> dict[str, Any]:
    """Fail as nobody expects."""
    raise ZeroDivisionError("secret")


def until_stopped(request: int, context: JobContext) -> dict[str, Any]:
    """Go on until a stop is asked for, and keep what is done."""
    context.preview({"began": True})
    try:
        while True:
            context.check()
            context.stop_event.wait(0.02)
    except JobStopped:
        return {"kept": True, "process": os.getpid()}
