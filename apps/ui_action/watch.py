"""Follows a game turn by turn: shows it as it is played, waits for people where they are asked, takes the times."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from apps.ui_action.controls import default_controls
from apps.ui_action.marks import png_uri
from apps.ui_action.parts import part
from apps.ui_action.players import Player
from apps.ui_action.request import Request
from apps.ui_action.turns import marks_of, turn_row
from core.jobs import JobContext, JobStopped, default_store

READY, PLAYED = 0.05, 0.97  # of the progress bar
PATIENCE, PATIENCE_IN_QUEUE = 120.0, 20.0  # seconds that a game waits for its visitor; less when others wait for theirs
GLANCE = 0.1
# Of the whole process, so that nothing of an earlier game is taken for this one's.
_VERSIONS, _QUESTIONS = count(1), count(1)


@dataclass
class Times:
    """Milliseconds of one turn: an answer is read and checked, a person is waited for, the action is carried out."""

    answered: float = 0.0  # when, in seconds
    parse: float = 0.0
    wait: float = 0.0
    execute: float = 0.0

    def read(self) -> None:
        """The last answer has been read and checked by now, if it was not before."""
        if self.answered and not self.parse:
            self.parse = 1000 * (time.perf_counter() - self.answered)


@dataclass
class Recording:
    """What was done so far.

    Attributes:
        rows: a turn each, as `turn_row` gives it.
        screens: the screen that each began with, and the last one.
        ended: why the page ended the game, or "".
    """

    rows: list[dict[str, Any]] = field(default_factory=list)
    screens: list[Any] = field(default_factory=list)
    ended: str = ""


class Watched:
    """An environment whose newest screen is known and whose actions are timed; otherwise the one that it is given."""

    def __init__(self, environment: Any, times: Times) -> None:
        self._environment, self._times = environment, times
        self.screen, self.platform = environment.screen, environment.platform
        self.now: Any = None

    def reset(self, seed: int) -> Any:
        """Begin again."""
        self.now = self._environment.reset(seed)
        return self.now

    def execute(self, action: Any) -> Any:
        """Carry out one action, and take its time."""
        self._times.read()
        began = time.perf_counter()
        try:
            self.now = self._environment.execute(action)
        finally:
            self._times.execute += 1000 * (time.perf_counter() - began)
        return self.now

    def state(self) -> dict[str, Any]:
        """All of its state."""
        return self._environment.state()

    def state_hash(self) -> str:
        """SHA-256 over it."""
        self._times.read()  # a turn that carries nothing out is read by now
        return self._environment.state_hash()

    def close(self) -> None:
        """Let go of what is held."""
        self._environment.close()


class Asked:
    """A player that is shown to be thinking, and whose answers are timed."""

    def __init__(self, player: Player, follower: Follower) -> None:
        self._player, self._follower = player, follower
        self.name = player.name

    def complete(self, prompt: Any) -> Any:
        """The player's answer."""
        self._follower.asks(prompt.role)
        answered = self._player.complete(prompt)
        self._follower.times.answered = time.perf_counter()
        self._follower.hears(prompt.role, answered.text)
        return answered


class Follower:
    """One game through one agent.

    Args:
        bar: where on the progress bar the game begins and ends.
        title: before what is said of its progress.

    Attributes:
        recording: what was done so far.
        times: of the turn that goes on.
    """

    def __init__(
        self,
        context: JobContext,
        request: Request,
        instruction: str,
        *,
        bar: tuple[float, float] = (READY, PLAYED),
        title: str = "",
    ) -> None:
        self.recording, self.times = Recording(), Times()
        self._bar, self._title = bar, title
        self._context, self._request, self._instruction = context, request, instruction
        self._controls = default_controls()
        self._answers: list[str] = []  # of this turn
        self._environment: Any = None
        self._sentence = ""

    def watch(self, environment: Any) -> Watched:
        """The environment, watched."""
        self._environment = Watched(environment, self.times)
        return self._environment

    def play(self, agent: Any, player: Player) -> None:
        """Turn by turn until there is an outcome, the visitor stops it, or nobody says how to go on."""
        turns = agent.run()
        while self._may_go_on():
            event = next(turns, None)
            if event is None:
                break
            player.follow(event.step)
            self._record(event)
            if agent.outcome is None:
                self._context.stop_event.wait(self._request.pace)
        agent.close()
        self.recording.screens.append(self._environment.now.image)

    def confirm(self, action: Any, verdict: Any) -> bool:
        """Ask the visitor; no answer is a no."""
        self.times.read()
        began = time.perf_counter()
        number, screen = next(_QUESTIONS), self._environment.now.image
        words = part("report:describe")(action)
        planned = {"text": words, "fate": "waits for your yes", "allowed": True, "executed": False}
        self._publish(
            screen,
            phase="asks",
            actions=[planned | marks_of(action, self._environment.screen)],
            sentence=self._sentence,
            question=number,
        )
        answer = self._wait(lambda: self._controls.answered(self._context.id, number), f"may it {words}?")
        self._answers.append("nobody answered" if answer is None else "allowed by you" if answer else "refused by you")
        self.times.wait += 1000 * (time.perf_counter() - began)
        self._publish(screen, phase="acts", sentence=self._sentence)
        return answer is True

    def asks(self, role: str) -> None:
        """A model is asked now."""
        if role != "act":
            self._sentence = ""
        phase = "reasons" if role == "reason" else "acts"
        self._publish(self._environment.now.image, phase=phase, sentence=self._sentence)

    def hears(self, role: str, text: str) -> None:
        """A model has answered."""
        if role != "act":
            self._sentence = text

    def _record(self, event: Any) -> None:
        row = turn_row(event.step, self._answers, self.times.parse, self.times.wait, self.times.execute)
        self.recording.rows.append(row)
        self.recording.screens.append(event.before)
        self.times.answered = self.times.parse = self.times.wait = self.times.execute = 0.0
        self._answers.clear()
        self._say(f"step {row['number']}: {row['action']}, {row['turn_ms']:.0f} ms")
        self._publish(event.before, phase="did", actions=row["actions"], sentence=row["sentence"], row=row)

    def _may_go_on(self) -> bool:
        """At once, or once the visitor says so. After a stop too: the agent writes down that it was stopped."""
        if self._context.stopped or self._controls.may_go_on(self._context.id):
            return True
        if self._wait(lambda: self._controls.may_go_on(self._context.id) or None, "press Step or Run") is None:
            if self._context.stopped:
                return True
            self.recording.ended = "Nobody said how to go on, so the game was given up"
            return False
        return True

    def _wait(self, look: Callable[[], bool | None], words: str) -> bool | None:
        """What `look` gives once it is not None; None after a stop or too long a time."""
        began = time.monotonic()
        while not self._context.stopped:
            if (found := look()) is not None:
                return found
            left = _patience() - (time.monotonic() - began)
            if left <= 0:
                return None
            self._say(f"{words} ({left:.0f} s left)")
            self._context.stop_event.wait(GLANCE)
        return None

    def _say(self, words: str) -> None:
        begins, ends = self._bar
        share = begins + (ends - begins) * len(self.recording.rows) / self._request.max_steps
        with suppress(JobStopped):  # the next turn sees the stop
            self._context.progress(share, self._title + words)

    def _publish(self, image: Any, *, phase: str, **said: Any) -> None:
        preview = {
            "version": next(_VERSIONS),
            "instruction": self._instruction,
            "step": len(self.recording.rows) + (phase != "did"),
            "most": self._request.max_steps,
            "size": list(image.size),
            "screen": png_uri(image),
            "phase": phase,
            "actions": [],
            "sentence": "",
            "question": 0,
            "row": None,
        }
        with suppress(JobStopped):
            self._context.preview(preview | said)


def _patience() -> float:
    waits = any(job.status == "waiting" for job in default_store().list())
    return PATIENCE_IN_QUEUE if waits else PATIENCE
