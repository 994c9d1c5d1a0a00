"""A back end without a model: it answers what it was told to, for tests and demonstrations."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable

from ..screen import Screen
from .base import BackendError, Completion, Prompt, Video


class ScriptedBackend:
    """Answers in turn from a list, or as a function of the prompt says.

    Args:
        lines: the answers, or a function that gives one for each prompt.
        screen: to which the answers' coordinates refer; left out: the last image of each prompt, in its own pixels.
        name: for traces and pages.
    """

    def __init__(
        self, lines: Iterable[str] | Callable[[Prompt], str], *, screen: Screen | None = None, name: str = "scripted"
    ) -> None:
        self.name = name
        self.screen = screen
        self._answer: Callable[[Prompt], str] = _Lines(lines) if isinstance(lines, Iterable) else lines

    def complete(self, prompt: Prompt) -> Completion:
        """The next answer. Raises BackendError when the script is at its end."""
        return Completion(self._answer(prompt), self.screen or _last_screen(prompt))


class _Lines:
    def __init__(self, lines: Iterable[str]) -> None:
        self._lines = tuple(lines)
        self._next = 0
        self._lock = threading.Lock()

    def __call__(self, prompt: Prompt) -> str:
        with self._lock:
            if self._next >= len(self._lines):
                raise BackendError(f"the script ends after {len(self._lines)} answers: give it more, or fewer steps")
            self._next += 1
            return self._lines[self._next - 1]


def _last_screen(prompt: Prompt) -> Screen:
    if not prompt.media:
        raise BackendError("a prompt without a screen: give the script the screen that its coordinates refer to")
    last = prompt.media[-1]
    image = last.frames[-1] if isinstance(last, Video) else last
    return Screen(image.width, image.height)
