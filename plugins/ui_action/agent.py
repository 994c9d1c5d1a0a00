"""The loop: look, ask, parse, check, confirm, carry out, write down (the loop of arXiv 2511.12937).

As in the paper a reasoner turns media and task into a sentence, and an executor turns the current screen and that
sentence into an action; or one model does both. What a screen says never becomes an instruction.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from PIL import Image

from .actions import Action
from .actuator import Actuator, Confirming
from .backends.base import Backend, Completion, Prompt, Role, Turn
from .environments.base import Environment, Observation
from .errors import ConfigError, ParseError, UIActionInputError
from .kill_switch import KillSwitch, StoppedError
from .memory import Media, Memory
from .parser import Response, parse_response
from .policy import WITHOUT_EFFECT, Policy, Verdict
from .records import RESUMABLE, Call, Header, Outcome, Planned, Recorder, Status, Step, one_line, prompt_hash

FEEDBACKS = 2  # lines in a row that a model gets about what it may not do or say
MOST_SENTENCE = 1000


@dataclass(frozen=True)
class Event:
    """What a page shows of a turn.

    Attributes:
        step: as in the trace.
        before: the screen that the turn began with, on which its actions are meant.
        after: the screen after it.
    """

    step: Step
    before: Image.Image
    after: Image.Image


@dataclass(frozen=True)
class _Ending:
    status: Status
    message: str
    answer: str = ""


@dataclass(frozen=True)
class _Result:
    """What became of an answer: `observation` is the line for the model."""

    planned: tuple[Planned, ...] = ()
    ending: _Ending | None = None
    observation: str = ""


@dataclass
class _Counts:
    """Over the whole run, and in a row."""

    steps: int = 0
    executed: int = 0
    refusals: int = 0
    parse_failures: int = 0
    seconds: float = 0.0
    refusals_in_row: int = 0
    parse_failures_in_row: int = 0
    feedbacks_in_row: int = 0
    repeats: int = 0


class Agent:
    """Plays one run in an environment.

    Args:
        reasoner: says in a sentence what to do next; None: the executor is asked for both at once.
        executor: answers with an action.
        instruction: the task; only the caller gives it.
        policy: what is allowed. Its platform, if it has one, must be the environment's.
        strategy: which media the reasoner, or the one model, is shown: as in "M*V+S", or set one by one. An executor
            beside a reasoner is shown the current screen.
        seed: of the environment.
        confirm: asked where the policy wants a person's yes; only True is one. Without it such actions are refused.
        on_step: called with every event, before it is yielded.
        kill_switch: looked at before every question and every action.
        trace: what the run is written into.

    Raises:
        UIActionInputError: an empty instruction, or a policy for another platform.
    """

    def __init__(
        self,
        environment: Environment,
        reasoner: Backend | None,
        executor: Backend,
        *,
        instruction: str,
        policy: Policy | None = None,
        strategy: str | Memory = "S",
        seed: int = 0,
        confirm: Confirming | None = None,
        on_step: Callable[[Event], None] | None = None,
        kill_switch: KillSwitch | None = None,
        trace: Recorder | None = None,
    ) -> None:
        if not instruction.strip():
            raise UIActionInputError("no instruction: say in a sentence what is to be done")
        policy = policy or Policy()
        if policy.platform not in (None, environment.platform):
            raise UIActionInputError(
                f"a policy for {policy.platform} and an environment of {environment.platform}: give both the same"
            )
        self.environment = environment
        self.reasoner, self.executor = reasoner, executor
        self.instruction = instruction
        self.policy = replace(policy, platform=environment.platform)
        self.memory = strategy if isinstance(strategy, Memory) else Memory.of(strategy)
        self.seed = seed
        self.on_step = on_step
        self.kill_switch = kill_switch or KillSwitch()
        self.trace = trace
        self.outcome: Outcome | None = None
        self._actuator = Actuator(environment, self.policy, confirm, self.kill_switch)
        self._screens: list[Image.Image] = []
        self._turns: list[Turn] = []  # of the reasoner, or of the one model
        self._retries: list[Turn] = []  # of an executor beside a reasoner: since its last action
        self._last_action: Action | None = None
        self._counts = _Counts()

    @property
    def status(self) -> str:
        """ "ready", "running", or how the run ended or where it waits: `Outcome.status`."""
        if self.outcome is not None:
            return self.outcome.status
        return "ready" if self._actuator.now is None else "running"

    def run(self) -> Iterator[Event]:
        """Turn by turn until there is an outcome; the turn is over, and written down, when its event comes.

        One may stop asking at any time, and call `run` again to go on: also after an outcome that is one of
        `RESUMABLE`, such as "error" once a model answers again. Held keys are let go after every turn.

        Raises:
            UIActionInputError: the run has ended.
            Exception: what an environment or a back end should not raise; the trace then says "error".
        """
        if self.outcome is not None and self.outcome.status not in RESUMABLE:
            raise UIActionInputError(f"the run has ended ({self.outcome.status}): make a new agent for another one")
        self.outcome = None
        self._begin()
        while self.outcome is None:
            event = self._guarded_turn()
            if event is not None:
                if self.on_step is not None:
                    self.on_step(event)
                yield event

    def close(self) -> None:
        """End a run that nobody goes on with: its keys are let go, and its outcome is "stopped" if it has none."""
        self._actuator.release()
        if self._actuator.now is not None and self.outcome is None:
            self._end(_Ending("stopped", "given up by its caller"))

    def _begin(self) -> None:
        if self._actuator.now is not None:
            return
        now = self._actuator.now = self.environment.reset(self.seed)
        self._screens.append(now.image)
        if self.trace is not None:
            reasoner = None if self.reasoner is None else self.reasoner.name
            self.trace.begin(
                Header(
                    self.instruction,
                    self.environment.platform,
                    self.environment.screen,
                    self.seed,
                    self.policy,
                    self.memory,
                    reasoner,
                    self.executor.name,
                )
            )

    def _guarded_turn(self) -> Event | None:
        """A turn, or none where a limit or a failing model is in its way."""
        started = time.perf_counter()
        event, ending = None, self._limit()
        try:
            if ending is None:
                event, ending = self._turn(started)
        except UIActionInputError as error:  # a model that does not answer, a page that is gone
            ending = _Ending("error", one_line(str(error)))
        except BaseException as error:
            self._actuator.release()
            self._end(_Ending("error", one_line(f"{type(error).__name__}: {error}")))
            raise
        finally:
            self._counts.seconds += time.perf_counter() - started
        if ending is not None:
            self._end(ending)
        return event

    def _limit(self) -> _Ending | None:
        if self.kill_switch.is_set():
            return _Ending("stopped", "stopped before the next turn")
        if self._counts.steps >= self.policy.max_steps:
            return _Ending("budget", f"{self.policy.max_steps} steps are used up")
        if self._counts.seconds >= self.policy.max_seconds:
            return _Ending("budget", f"{self.policy.max_seconds:g} seconds are used up")
        return _arrival(self._current())

    def _turn(self, started: float) -> tuple[Event, _Ending | None]:
        now, before = self._current(), self.environment.state_hash()
        calls: list[Call] = []
        response, error = None, ""
        try:
            response = self._answer(calls)
        except ParseError as failure:
            error = one_line(str(failure))
            result = self._unparsed(error)
        except StoppedError as stop:
            result = _Result(ending=_Ending("stopped", str(stop)))
        else:
            result = self._carry_out(response.actions)
        released = self._actuator.release()
        after, ending = self._state_after(result)
        self._counts.steps += 1
        step = Step(
            number=self._counts.steps,
            tick=now.tick,
            screen=self.environment.screen,
            calls=tuple(calls),
            thought=response.thought if response else None,
            reflection=response.reflection if response else None,
            flags=response.flags if response else (),
            planned=result.planned,
            error=error,
            observation=result.observation,
            note=one_line(self._current().note) if self._current() is not now else "",
            released=released,
            state_before=before,
            state_after=after,
            milliseconds=(time.perf_counter() - started) * 1000,
        )
        self._remember(now.image, calls, result.observation)
        if self.trace is not None:
            self.trace.step(step, now.image)
        return Event(step, now.image, self._current().image), ending

    def _answer(self, calls: list[Call]) -> Response:
        """What the models say, parsed; every call is added to `calls`, also of an answer that cannot be parsed."""
        now = self._current()
        role, instruction = "both", self.instruction
        history, media = self.memory.within_budget(
            self.memory.recall(self._turns), self.memory.show(self._screens, now.frames or (now.image,))
        )
        if self.reasoner is not None:
            reasoned = self._ask(self.reasoner, "reason", instruction, media, history, calls)
            role, instruction = "act", one_line(reasoned.text, MOST_SENTENCE)
            history, media = tuple(self._retries), (now.image,)
            if not instruction:
                raise ParseError("no_action", "the reasoner said nothing: it has to say what to do next")
            self.kill_switch.check()
        answered = self._ask(self.executor, role, instruction, media, history, calls)
        screen, own = answered.screen, self.environment.screen
        if (screen.width, screen.height) != (own.width, own.height):
            raise ConfigError(
                f"{self.executor.name} answers for a screen of {screen.width} x {screen.height} pixels and the "
                f"environment's has {own.width} x {own.height}: give the back end the environment's screen"
            )
        return parse_response(answered.text, screen=screen, platform=self.environment.platform)

    def _ask(
        self, backend: Backend, role: Role, instruction: str, media: Media, history: tuple[Turn, ...], calls: list[Call]
    ) -> Completion:
        prompt = Prompt(role, instruction, media, self.environment.platform, history)
        started = time.perf_counter()
        answered = backend.complete(prompt)
        calls.append(
            Call(
                role=role,
                backend=backend.name,
                prompt=prompt_hash(prompt),
                text=answered.text,
                prompt_tokens=answered.prompt_tokens,
                output_tokens=answered.output_tokens,
                prefill_ms=answered.prefill_ms,
                decode_ms=answered.decode_ms,
                milliseconds=(time.perf_counter() - started) * 1000,
            )
        )
        return answered

    def _unparsed(self, error: str) -> _Result:
        self._counts.parse_failures += 1
        self._counts.parse_failures_in_row += 1
        if self._counts.parse_failures_in_row >= self.policy.max_parse_failures:
            return _Result(ending=_Ending("parse_failures", f"the last of too many in a row: {error}"))
        return _Result(observation=self._feedback(f"Not understood: {error}"))

    def _carry_out(self, actions: tuple[Action, ...]) -> _Result:
        """As many actions as a turn may have, up to the first that is refused or ends the run."""
        self._counts.parse_failures_in_row = 0
        planned: list[Planned] = []
        most = self.policy.actions_per_turn
        for action in actions[:most]:
            one, ending = self._one(action)
            planned.append(one)
            if not one.verdict.allowed and ending is None:
                return self._refused(tuple(planned), one)
            if ending is not None:
                return _Result(tuple(planned), ending)
            self._counts.refusals_in_row = self._counts.feedbacks_in_row = 0
        left_out = f"Only {most} of {len(actions)} actions carried out: that is all a turn may have."
        return _Result(tuple(planned), observation=left_out if len(actions) > most else "")

    def _one(self, action: Action) -> tuple[Planned, _Ending | None]:
        """Check, confirm and carry out one action."""
        if self._is_stuck(action):
            reason = f"the same {action.type}, {self._counts.repeats} times in a row"
            return Planned(action, Verdict(False, "repeated", reason), False), _Ending("stuck", reason)
        verdict = self._actuator.verdict(action)
        if not verdict.allowed:
            return Planned(action, verdict, False), None
        if action.type in WITHOUT_EFFECT:
            status: Status = "finished" if action.type == "finished" else "call_user"
            return Planned(action, verdict, False), _Ending(status, f"the model answers {status}", action.text)
        if self.policy.dry_run:
            return Planned(action, verdict, False), None
        try:
            now = self._actuator.execute(action)
        except StoppedError as stop:
            return Planned(action, verdict, False), _Ending("stopped", str(stop))
        except UIActionInputError as error:
            return Planned(action, Verdict(False, "environment", one_line(str(error))), False), None
        self._counts.executed += 1
        self._screens = [*self._screens, now.image][-self.memory.images :]
        return Planned(action, verdict, True), _arrival(now)

    def _refused(self, planned: tuple[Planned, ...], last: Planned) -> _Result:
        self._counts.refusals += 1
        self._counts.refusals_in_row += 1
        if self._counts.refusals_in_row >= self.policy.max_refusals:
            return _Result(planned, _Ending("refused", f"the last of too many in a row: {last.verdict.reason}"))
        return _Result(planned, observation=self._feedback(f"Refused: {last.verdict.reason}"))

    def _feedback(self, line: str) -> str:
        """The line for the model, or none if it has had as many in a row as it gets."""
        self._counts.feedbacks_in_row += 1
        return one_line(line) if self._counts.feedbacks_in_row <= FEEDBACKS else ""

    def _is_stuck(self, action: Action) -> bool:
        self._counts.repeats = self._counts.repeats + 1 if action == self._last_action else 1
        self._last_action = action
        return self._counts.repeats > self.policy.max_repeats

    def _state_after(self, result: _Result) -> tuple[str, _Ending | None]:
        try:
            return self.environment.state_hash(), result.ending
        except UIActionInputError as error:  # the action is written down all the same
            return "", result.ending or _Ending("error", one_line(str(error)))

    def _remember(self, image: Image.Image, calls: list[Call], observation: str) -> None:
        if len(calls) < (1 if self.reasoner is None else 2):
            return  # nothing was asked to the end, so the question is put again
        self._turns.append(Turn((image,), calls[0].text, observation))
        self._turns = list(self.memory.recall(self._turns))
        if self.reasoner is not None:
            self._retries = [*self._retries, Turn((), calls[-1].text, observation)] if observation else []

    def _current(self) -> Observation:
        if self._actuator.now is None:
            raise UIActionInputError("the run has not begun: call run")
        return self._actuator.now

    def _end(self, ending: _Ending) -> None:
        now, counts = self._current(), self._counts
        self.outcome = Outcome(
            ending.status,
            now.success,
            ending.message,
            counts.steps,
            counts.executed,
            counts.refusals,
            counts.parse_failures,
            counts.seconds,
            ending.answer,
        )
        if self.trace is not None:
            self.trace.end(self.outcome, now.image)


def _arrival(now: Observation) -> _Ending | None:
    """How the environment says that it is over; None if it does not."""
    if now.success:
        return _Ending("success", "the task is solved")
    if now.done:
        return _Ending("finished" if now.success is None else "failure", "the environment is at its end")
    return None
