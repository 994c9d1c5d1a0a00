"""Stopping an agent from outside: a file, an event, a signal."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterable
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

from .errors import UIActionInputError


class StoppedError(UIActionInputError):
    """Someone stopped the agent; nothing further was carried out."""


class KillSwitch:
    """Asked before every action, and by environments between the steps of a drag.

    An environment that is stopped in the middle of an action lets go of what it holds and lets `StoppedError` pass.

    Args:
        file: the switch is on while something of that name is there, or while that cannot be told.
        event: on while it is set; one of its own if left out.
        signals: set the event while the switch is entered as a context, which only the main thread may do.
    """

    def __init__(
        self,
        file: str | os.PathLike[str] | None = None,
        event: threading.Event | None = None,
        signals: Iterable[signal.Signals] = (),
    ) -> None:
        self.file = None if file is None else Path(file)
        self.event = threading.Event() if event is None else event
        self.signals = tuple(signals)
        self._before: dict[signal.Signals, Any] = {}

    def set(self) -> None:
        """Switch on."""
        self.event.set()

    def is_set(self) -> bool:
        """Whether nothing more may be done."""
        return self.event.is_set() or self._is_filed()

    def check(self) -> None:
        """Raise StoppedError if nothing more may be done."""
        if self.event.is_set():
            raise StoppedError("stopped by request: nothing more was done")
        if self._is_filed():
            raise StoppedError("stopped by its kill file: remove the file to go on")

    def __enter__(self) -> KillSwitch:
        for number in self.signals:
            self._before[number] = signal.signal(number, self._on_signal)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        while self._before:
            number, handler = self._before.popitem()
            signal.signal(number, handler)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self.set()

    def _is_filed(self) -> bool:
        if self.file is None:
            return False
        try:
            self.file.lstat()
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError:  # a switch that cannot be read is on
            return True
        return True
