"""Carrying out a recorded run again, and seeing whether the environment does the same."""

from __future__ import annotations

from dataclasses import dataclass, replace

from .actions import Action
from .environments.base import Environment
from .kill_switch import KillSwitch
from .policy import REDACTED, Policy
from .records import Step
from .trace import Trace, TraceError


@dataclass(frozen=True)
class Compared:
    """The environment's state around a turn, in the trace and now, as hashes."""

    number: int
    recorded: tuple[str, str]
    replayed: tuple[str, str]

    @property
    def is_same(self) -> bool:
        return self.recorded == self.replayed


@dataclass(frozen=True)
class Replay:
    """How a replay went: the turns compared, up to the first that differs."""

    turns: tuple[Compared, ...]

    @property
    def is_same(self) -> bool:
        return all(turn.is_same for turn in self.turns)

    @property
    def first_difference(self) -> int | None:
        """The number of the turn from which on the environment does something else."""
        return next((turn.number for turn in self.turns if not turn.is_same), None)


def replay(
    trace: Trace, environment: Environment, *, policy: Policy | None = None, kill_switch: KillSwitch | None = None
) -> Replay:
    """Reset to the trace's seed and carry out what was carried out then; stops after the first difference.

    A trace is a file like any other: its actions pass a policy here too, the caller's and not the one it names.

    Args:
        policy: left out: the defaults, without confirmations.

    Raises:
        TraceError: another platform or screen, an action that the policy does not allow or whose text was redacted.
        StoppedError: by the kill switch.
        UIActionInputError: from the environment.
    """
    header = trace.header
    if (header.platform, header.screen) != (environment.platform, environment.screen):
        raise TraceError(
            f"a run on {header.platform} at {header.screen.width} x {header.screen.height} pixels, and an environment "
            f"of {environment.platform} at {environment.screen.width} x {environment.screen.height}: give the same"
        )
    policy = replace(policy or Policy(confirm="never"), platform=environment.platform)
    environment.reset(header.seed)
    turns: list[Compared] = []
    for line in trace.steps:
        before = environment.state_hash()
        try:
            _repeat(line.step, environment, policy, kill_switch or KillSwitch())
        except BaseException:
            environment.close()  # keys may be held
            raise
        recorded = (line.step.state_before, line.step.state_after)
        turns.append(Compared(line.step.number, recorded, (before, environment.state_hash())))
        if not turns[-1].is_same:
            break
    return Replay(tuple(turns))


def _repeat(step: Step, environment: Environment, policy: Policy, kill_switch: KillSwitch) -> None:
    held: tuple[str, ...] = ()
    for planned in step.planned:
        if not planned.executed:
            continue
        action = planned.action
        if REDACTED in action.text:
            raise TraceError(f"step {step.number}: the text of {action.type} was redacted: it cannot be replayed")
        verdict = policy.check(action, environment.screen, held)
        if not verdict.allowed:
            raise TraceError(f"step {step.number} is not allowed: {verdict.reason}")
        kill_switch.check()
        environment.execute(action)
        if action.type == "press":
            held += action.keys
    for key in step.released:
        environment.execute(Action("release", keys=(key,)))
