"""ZeroGPU: work that needs the accelerator runs in a process that the platform forks and gives a GPU for seconds.

Everywhere else it runs where it was called, and the package `spaces` is not needed. On ZeroGPU nothing is shared with
the fork but files, and what goes in or comes out is pickled. So a job's work runs there with a `JobContext` of its own
whose reports come back one by one, as the items of a generator; a request to stop goes the other way, as a file.
"""

from __future__ import annotations

import contextvars
import math
import os
import queue
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from core.errors import QuartetError, UnavailableError
from core.jobs import JobContext, JobStopped, Work

Function = TypeVar("Function", bound=Callable[..., Any])
Run = Callable[[Any, JobContext], dict[str, Any]]

BEAT_SECONDS = 0.25
LEAST_SECONDS = 10
_STOP_FILE = ".stop"


def active() -> bool:
    """Whether this process runs on ZeroGPU; the variable is read as the package `spaces` reads it."""
    return os.environ.get("SPACES_ZERO_GPU", "").lower() in ("1", "t", "true")


def gpu(duration: Callable[..., int]) -> Callable[[Function], Function]:
    """Decorate a module's function or generator that uses the accelerator; off ZeroGPU it stays what it is.

    Args:
        duration: from the function's own arguments to the seconds that it needs at most. The platform checks them
            against what the visitor has left before it starts, so they have to be small and true.
    """
    if not active():
        return lambda function: function
    import spaces  # the platform brings it

    return spaces.GPU(duration=duration)


@dataclass(frozen=True, slots=True)
class Reported:
    """What the work said of itself since the last item, as keywords of the job's report; empty for a sign of life."""

    changes: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Returned:
    """What the work returned."""

    result: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Failed:
    """Why the work ended without a result.

    Attributes:
        message: written for its user where `expected`, else the trace for the log.
        expected: whether it is one of the errors that are shown to users.
    """

    message: str
    expected: bool


@dataclass(frozen=True, slots=True)
class Stopped:
    """The work ended because it was asked to, without a result."""


Step = Reported | Returned | Failed | Stopped


def on_accelerator(run: Run, request: Any, *, seconds: float, expected: tuple[type[Exception], ...] = ()) -> Work:
    """A job's work that runs on the accelerator: `run(request, context)`, on ZeroGPU in the platform's process.

    Call it where the visitor's event is handled: the platform charges the visitor of that event.

    Args:
        run: a module's function; it writes its files into `context.directory` and returns a JSON-able dict.
        request: can be pickled.
        seconds: of the accelerator that it needs at most.
        expected: errors of its own that are shown to users by their message, as in `JobStore.submit`.
    """
    if not active():
        return partial(run, request)
    visitor = contextvars.copy_context()
    return lambda context: visitor.run(_follow, run, request, seconds, expected, context)


def _requested(run: Run, request: Any, seconds: float, *_: Any) -> int:
    """What is asked of the platform, in seconds; the arguments are those of `work_in_steps`."""
    return max(LEAST_SECONDS, math.ceil(seconds))


def work_in_steps(
    run: Run, request: Any, seconds: float, expected: tuple[type[Exception], ...], job_id: str, directory: str
) -> Iterator[Step]:
    """The work in this process, as a generator of what it reports; its last item is how it ended.

    It comes by at least every `BEAT_SECONDS`, so that whoever follows can ask it to stop: by the file `.stop` beside
    the job's folder of results.
    """
    said: queue.SimpleQueue[Step] = queue.SimpleQueue()
    stop, folder = threading.Event(), Path(directory)
    context = JobContext(job_id, folder, lambda **changes: said.put(Reported(changes)), stop)
    worker = threading.Thread(target=lambda: said.put(_ended(run, request, expected, context)), daemon=True)
    worker.start()
    step: Step = Reported({})
    try:
        while isinstance(step, Reported):
            try:
                step = said.get(timeout=BEAT_SECONDS)
            except queue.Empty:
                step = Reported({})
            if (folder.parent / _STOP_FILE).exists():
                stop.set()
            yield step
    finally:
        stop.set()
        worker.join()


_work_in_steps = gpu(_requested)(work_in_steps)


def _ended(run: Run, request: Any, expected: tuple[type[Exception], ...], context: JobContext) -> Step:
    try:
        return Returned(run(request, context))
    except JobStopped:
        return Stopped()
    except (QuartetError, *expected) as error:
        return Failed(str(error), expected=True)
    except BaseException:  # a plugin that calls sys.exit must not leave its follower waiting
        return Failed(traceback.format_exc(), expected=False)


def _follow(
    run: Run, request: Any, seconds: float, expected: tuple[type[Exception], ...], context: JobContext
) -> dict[str, Any]:
    """The work in the platform's process, as if it ran here: its reports, its files, its result or its error."""
    stop_file = context.directory.parent / _STOP_FILE
    last: Step = Stopped()
    try:
        for last in _work_in_steps(run, request, seconds, expected, context.id, str(context.directory)):
            if context.stopped:
                stop_file.touch()
            elif isinstance(last, Reported):
                _pass_on(last.changes, context)
    except Exception as error:
        raise _explain(error) from error
    finally:
        stop_file.unlink(missing_ok=True)
    return _result(last)


def _pass_on(changes: dict[str, Any], context: JobContext) -> None:
    # A stop that comes in between goes to the work, which ends by itself, perhaps with a part of its result.
    with suppress(JobStopped):
        if "preview" in changes:
            context.preview(changes["preview"])
        elif changes:
            context.progress(changes["progress"], changes.get("message", ""))


def _result(last: Step) -> dict[str, Any]:
    if isinstance(last, Returned):
        return last.result
    if isinstance(last, Failed):
        raise QuartetError(last.message) if last.expected else RuntimeError(last.message)
    raise JobStopped


def _explain(error: Exception) -> Exception:
    """The platform's own errors (no quota left, no GPU free) are written for visitors; any other stays as it is."""
    gradio = sys.modules.get("gradio")  # where it is not loaded, the error is not one of its kind
    if gradio is None or not isinstance(error, gradio.Error):
        return error
    said = str(getattr(error, "message", "")).strip() or "The GPU was not available"
    return UnavailableError(f"{said.rstrip('.')}.", "Sign in to Hugging Face for more GPU time, or try again later.")
