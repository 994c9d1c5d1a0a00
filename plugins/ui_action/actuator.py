"""The hand of an agent: carries out what a policy and, where it wants one, a person have passed, and lets go again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from .actions import Action
from .environments.base import Environment, Observation
from .errors import UIActionInputError
from .kill_switch import KillSwitch
from .policy import Policy, Verdict

Confirming = Callable[[Action, Verdict], bool]


class Actuator:
    """The only part of the loop that touches the environment.

    Args:
        confirm: asked where the policy wants a person's yes; only True is one. Without it such actions are refused.

    Attributes:
        now: what there is to see; None before the first reset.
        held: keys that are down.
    """

    def __init__(
        self, environment: Environment, policy: Policy, confirm: Confirming | None, kill_switch: KillSwitch
    ) -> None:
        self.environment, self.policy, self.confirm, self.kill_switch = environment, policy, confirm, kill_switch
        self.now: Observation | None = None
        self.held: tuple[str, ...] = ()

    def verdict(self, action: Action) -> Verdict:
        """The policy's, and a person's where the policy wants one."""
        verdict = self.policy.check(action, self.environment.screen, self.held)
        if not verdict.needs_confirmation or not verdict.allowed or self.policy.dry_run:
            return verdict
        if self.confirm is None:
            reason = f"{action.type} needs a person's yes, and there is nobody to ask"
        elif self.confirm(action, verdict) is True:
            return verdict
        else:
            reason = f"a person said no to this {action.type}"
        return replace(verdict, allowed=False, code="unconfirmed", reason=reason)

    def execute(self, action: Action) -> Observation:
        """Carry out an action that has been passed, unless the kill switch is on.

        Raises:
            StoppedError: by the kill switch, before the action or in the midst of it.
            UIActionInputError: the environment does not have it.
        """
        self.kill_switch.check()
        before = self.held
        # Noted first: an environment that fails half-way may hold the key already.
        self.held = _held_after(before, action)
        try:
            self.now = self.environment.execute(action)
        except UIActionInputError:  # not carried out
            self.held = before
            raise
        return self.now

    def release(self) -> tuple[str, ...]:
        """Let go of held keys; the environment is closed if it will not."""
        held, self.held = self.held, ()
        try:
            for key in held:
                self.now = self.environment.execute(Action("release", keys=(key,)))
        except Exception:  # whatever it was, nothing may stay held
            self.environment.close()
        return held


def _held_after(held: tuple[str, ...], action: Action) -> tuple[str, ...]:
    """The keys that are down once an action is carried out."""
    if action.type == "press":
        return tuple(dict.fromkeys((*held, *action.keys)))
    if action.type == "release":
        return tuple(key for key in held if key not in action.keys)
    return held
