"""What an agent may do, decided outside the model: by the action and the screen alone, never by what a screen says.

A closed set of actions, bounds and regions, keys, text, addresses and budgets. A policy refuses; it does not repair.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Literal, get_args

from .actions import ALLOWED, PLATFORMS, Action, Platform, Point
from .addresses import LOOPBACK, address_refusal
from .errors import UIActionInputError
from .keys import DENIED_KEYS, KEYS, RISKY_KEYS, key_names, keys_refusal
from .screen import Screen

Confirm = Literal["never", "risky", "always"]
Code = Literal[
    "ok",
    "action",
    "point",
    "region",
    "keys",
    "text",
    "address",
    "app",
    "duration",
    "unconfirmed",  # these three by the agent: nobody said yes, the same again and again, the environment would not
    "repeated",
    "environment",
]
Region = tuple[float, float, float, float]

REDACTED = "[redacted]"
MOST_TEXT = 4000
MOST_ACTIONS = 10
WITHOUT_EFFECT = frozenset({"finished", "call_user"})
RISKY_ACTIONS = frozenset({"navigate", "navigate_back", "open_app", "press_home", "press_back"})
_POINTED = frozenset({"click", "left_double", "right_single", "hover", "drag", "long_press"})
_KEYED = frozenset({"hotkey", "press", "release"})
_BUDGETS = (
    "max_keys",
    "max_text",
    "max_steps",
    "max_seconds",
    "max_parse_failures",
    "max_refusals",
    "max_repeats",
    "max_wait_milliseconds",
    "actions_per_turn",
)


@dataclass(frozen=True)
class Verdict:
    """What a policy says about one action.

    Attributes:
        allowed: whether it may be carried out.
        code: "ok", or what it was refused for.
        reason: one line that says what was wrong and what is allowed; "" if nothing was.
        needs_confirmation: whether a person has to say yes first.
    """

    allowed: bool
    code: Code = "ok"
    reason: str = ""
    needs_confirmation: bool = False


@dataclass(frozen=True)
class Policy:
    """What is allowed, and how much of it. The defaults are for games of one's own on this machine.

    Attributes:
        platform: whose actions there are; None: the agent's environment says, and alone, what every platform has.
        actions: those of them that are allowed; None: all.
        allow: regions (x0, y0, x1, y1) in css pixels, edges included, one of which every point has to be in; none: the
            whole screen.
        deny: regions that no point may be in, such as a Quit button.
        keys: names that may be pressed. `denied_keys`: combinations, "ctrl+w", refused together with whatever else is
            held. `max_keys`: at once.
        max_text: characters of typed text, printable ones only.
        hosts: names, or "name:port", that `navigate` may go to, by http or https.
        apps: names that `open_app` may open.
        confirm: what a person has to say yes to. "risky": what leaves the page or sends something, that is going to
            an address or back, opening an app or leaving one, Enter after typed text, and keys with Enter, Delete,
            Backspace, ctrl, alt or meta. "always": everything but `finished` and `call_user`, which do nothing. Where
            there is nobody to ask, it is refused.
        dry_run: parse and check, carry out nothing.
        max_steps, max_seconds: of a run; the seconds are those in which the agent works, not those between steps.
        max_parse_failures, max_refusals: in a row; the last of them ends the run.
        max_repeats: identical actions in a row; one more ends the run as "stuck".
        max_wait_milliseconds: of one `wait` or `long_press`.
        actions_per_turn: of one answer; the rest of it is left out.
        redact: regular expressions; what they match is kept out of traces, and so out of reports. Pictures are not
            searched.

    Raises:
        UIActionInputError: unknown names, regions without area, budgets below 1, patterns that do not compile.
    """

    platform: Platform | None = None
    actions: tuple[str, ...] | None = None
    allow: tuple[Region, ...] = ()
    deny: tuple[Region, ...] = ()
    keys: tuple[str, ...] = KEYS
    denied_keys: tuple[str, ...] = DENIED_KEYS
    max_keys: int = 3
    max_text: int = 500
    hosts: tuple[str, ...] = LOOPBACK
    apps: tuple[str, ...] = ()
    confirm: Confirm = "risky"
    dry_run: bool = False
    max_steps: int = 25
    max_seconds: float = 600.0
    max_parse_failures: int = 3
    max_refusals: int = 3
    max_repeats: int = 3
    max_wait_milliseconds: int = 5000
    actions_per_turn: int = 1
    redact: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.platform is not None and self.platform not in PLATFORMS:
            raise UIActionInputError(f"platform {self.platform!r}: choose {', '.join(PLATFORMS)}")
        if self.confirm not in get_args(Confirm):
            raise UIActionInputError(f"confirm {self.confirm!r}: choose {', '.join(get_args(Confirm))}")
        unknown = sorted(set(self.actions or ()) - frozenset().union(*ALLOWED.values()))
        if unknown:
            raise UIActionInputError(f"unknown actions {', '.join(unknown)}: allow some of those in ALLOWED")
        for region in (*self.allow, *self.deny):
            _check_region(region)
        for name in _BUDGETS:
            if not 1 <= getattr(self, name) < math.inf:
                raise UIActionInputError(f"{name} is {getattr(self, name)}: give a number from 1 on")
        if self.max_text > MOST_TEXT or self.actions_per_turn > MOST_ACTIONS:
            raise UIActionInputError(f"at most {MOST_TEXT} characters of text and {MOST_ACTIONS} actions per turn")
        for pattern in self.redact:
            try:
                re.compile(pattern)
            except re.error as error:
                raise UIActionInputError(f"redact: {pattern!r} is no regular expression: {error}") from error

    def check(self, action: Action, screen: Screen, held: tuple[str, ...] = ()) -> Verdict:
        """What is to become of one action; nothing is changed or remembered.

        Args:
            held: keys that earlier actions hold down; they count as part of a combination.
        """
        for refusal in (
            self._refused_type(action),
            self._refused_place(action, screen),
            self._refused_content(action, held),
        ):
            if refusal is not None:
                return refusal
        return Verdict(True, needs_confirmation=self._needs_confirmation(action, held))

    def redacted(self, text: str) -> str:
        """The text with "[redacted]" for all that `redact` matches."""
        for pattern in self.redact:
            text = re.sub(pattern, REDACTED, text)
        return text

    def _refused_type(self, action: Action) -> Verdict | None:
        known = ALLOWED[self.platform] if self.platform else frozenset.intersection(*ALLOWED.values())
        allowed = known if self.actions is None else known & set(self.actions)
        if action.type in allowed:
            return None
        return _refusal("action", f"{action.type} is not allowed here: use {', '.join(sorted(allowed))}")

    def _refused_place(self, action: Action, screen: Screen) -> Verdict | None:
        start = action.start
        if start is None and action.type == "scroll":  # scrolls where the screen's centre is
            start = (screen.width / 2, screen.height / 2)
        if (action.type in _POINTED and start is None) or (action.type == "drag" and action.end is None):
            return _refusal("point", f"{action.type} without all of its points: say where")
        for point in (start, action.end):
            refusal = None if point is None else self._refused_point(point, screen)
            if refusal is not None:
                return refusal
        return None

    def _refused_point(self, point: Point, screen: Screen) -> Verdict | None:
        x, y = point
        if not (math.isfinite(x) and math.isfinite(y) and 0 <= x < screen.width and 0 <= y < screen.height):
            return _refusal("point", f"({x:g}, {y:g}) is not on the screen of {screen.width} x {screen.height}")
        # What is clicked is the rounded pixel: a point beside a region must not be rounded into it.
        clicked = float(min(round(x), screen.width - 1)), float(min(round(y), screen.height - 1))
        if any(_inside(place, region) for place in (point, clicked) for region in self.deny):
            return _refusal("region", f"({x:g}, {y:g}) is in a region that must not be touched")
        if self.allow and not all(any(_inside(place, region) for region in self.allow) for place in (point, clicked)):
            return _refusal("region", f"({x:g}, {y:g}) is outside the regions that may be touched")
        return None

    def _refused_content(self, action: Action, held: tuple[str, ...]) -> Verdict | None:
        if action.type in _KEYED:
            reason = keys_refusal(action.keys, held, self.keys, self.denied_keys, self.max_keys)
            return _refusal("keys", reason) if reason else None
        if action.type == "type":
            return self._refused_text(action.text)
        if action.type == "navigate":
            reason = address_refusal(action.text, self.hosts)
            return _refusal("address", reason) if reason else None
        if action.type == "open_app" and action.text not in self.apps:
            return _refusal("app", f"opening {action.text[:60]!r} is not allowed: {_names(self.apps)}")
        length = action.milliseconds
        if length is not None and not 0 <= length <= self.max_wait_milliseconds:
            return _refusal("duration", f"{action.type} of {length} ms: 0 to {self.max_wait_milliseconds} are allowed")
        return None

    def _refused_text(self, text: str) -> Verdict | None:
        if len(text) > self.max_text:
            return _refusal("text", f"text of {len(text)} characters: at most {self.max_text} are allowed")
        bad = next((character for character in text if not character.isprintable()), None)
        if bad is not None:
            return _refusal("text", f"text with the character U+{ord(bad):04X}: only printable ones are allowed")
        return None

    def _needs_confirmation(self, action: Action, held: tuple[str, ...]) -> bool:
        if self.confirm == "never" or action.type in WITHOUT_EFFECT:
            return False
        return self.confirm == "always" or is_risky(action, held)


def is_risky(action: Action, held: tuple[str, ...] = ()) -> bool:
    """Whether an action leaves the page or sends something, as said at `Policy.confirm`."""
    if action.type in ("hotkey", "press"):
        return bool(RISKY_KEYS & set(key_names((*held, *action.keys))))
    return action.type in RISKY_ACTIONS or (action.type == "type" and action.submit)


def _check_region(region: Region) -> None:
    if len(region) != 4 or not all(map(math.isfinite, region)):
        raise UIActionInputError(f"region {region}: give (x0, y0, x1, y1) in css pixels")
    x0, y0, x1, y1 = region
    if x0 >= x1 or y0 >= y1:
        raise UIActionInputError(f"region {region} has no area: give x0 < x1 and y0 < y1")


def _inside(point: Point, region: Region) -> bool:
    return region[0] <= point[0] <= region[2] and region[1] <= point[1] <= region[3]


def _refusal(code: Code, reason: str) -> Verdict:
    return Verdict(False, code, reason)


def _names(names: tuple[str, ...]) -> str:
    return f"allowed are {', '.join(names)}" if names else "none is"
