"""Players: an expert for every task that looks at the game's state and never fails, and one that plays at random."""

from __future__ import annotations

from dataclasses import dataclass

from ..actions import ALLOWED, Action, ActionType
from ..errors import UIActionInputError
from .area import PERIOD, AreaState
from .assets import Box
from .game import Game
from .objects import SceneObject
from .prng import WORD, Xorshift32
from .resource import ResourceState
from .target import TargetState

PHRASES, PLAY = 101, 102  # streams of random numbers
SELECT = (
    "The {colour} {kind} stands in {cell}, so click it.",
    "I see the {colour} {kind} in {cell}: select it.",
    "Click cell {cell}, where the {colour} {kind} is.",
    "The unit asked for, the {colour} {kind}, is in {cell}. Click on it.",
)
PICK = (
    "Front {front} still needs {units}, so pick a unit from the reserve.",
    "Pick a unit from the reserve for front {front}, which needs {units} more.",
    "Next is front {front}, {units} short: click the reserve.",
)
PLACE = (
    "Front {front} still needs {units}, so place the unit there.",
    "Place the unit on front {front}, which needs {units} more.",
    "The unit in hand goes to front {front}, {units} short.",
)
SEND = (
    "Front {front} still needs {units}, so send a unit there.",
    "Send a unit to front {front}, which needs {units} more.",
    "Next is front {front}, {units} short: send it a unit.",
)
RECALL = (
    "Front {front} has too many units, so call one back.",
    "Call a unit back from front {front}, it has more than it needs.",
    "There are too many units on front {front}: take one back.",
)
COMMIT = (
    "Every front has what it needs, so commit.",
    "All demands are met: press commit.",
    "Nothing is missing on any front. Commit the plan.",
)
CAPTURE = (
    "The convoy is about to enter sector {sector}, so man it.",
    "Man sector {sector}, the convoy enters it next.",
    "Sector {sector} is where the convoy arrives now: click it.",
)
WAIT = (
    "The convoy does not reach a sector yet, so wait.",
    "No sector is entered during the next moments: wait.",
    "It is too early to man a sector. Wait.",
)


@dataclass(frozen=True, slots=True)
class Decision:
    """What an expert does, and why, in the words that a reasoner learns.

    Attributes:
        action: what to carry out.
        sentence: the reasoner's sentence, one of several ways to say it.
        slots: (name, value) of all that the sentence says, "intent" first; two sentences with equal slots mean the
            same.
        target: what the action is aimed at; where a drag ends; None for waiting.
        objects: everything on the screen that can be pressed, and the convoys.
    """

    action: Action
    sentence: str
    slots: tuple[tuple[str, str], ...]
    target: Box | None
    objects: tuple[SceneObject, ...]


def decide(game: Game, phrasing: int = 0) -> Decision:
    """The expert's next action in any state, its own or not; `phrasing` chooses among the ways to say it.

    Raises UIActionInputError when the game has ended.
    """
    if game.done:
        raise UIActionInputError("the game has ended, an expert has nothing left to do: reset it first")
    if isinstance(game.rules, TargetState):
        return _locate(game, game.rules, phrasing)
    if isinstance(game.rules, ResourceState):
        return _allocate(game, game.rules, phrasing)
    return _control(game, game.rules, phrasing)


def random_action(game: Game, random: Xorshift32) -> Action:
    """Any action that the platform has and the games understand, anywhere on the screen."""
    kinds: list[ActionType] = ["click"] * 6 + ["drag", "scroll", "wait"]
    kinds += [kind for kind in ("left_double", "right_single", "long_press") if kind in ALLOWED[game.platform]]
    kind = kinds[random.below(len(kinds))]
    width, height = game.layout.width, game.layout.height
    start = (float(random.below(width)), float(random.below(height)))
    if kind == "drag":
        return Action(kind, start, (float(random.below(width)), float(random.below(height))))
    if kind == "scroll":
        return Action(kind, start, direction=("up", "down", "left", "right")[random.below(4)])
    if kind == "wait":
        return Action(kind)
    return Action(kind, start)


def _said(phrases: tuple[str, ...], phrasing: int, slots: dict[str, str]) -> str:
    phrase = phrases[Xorshift32(phrasing & WORD, PHRASES).below(len(phrases))]
    return phrase.format(**slots)


def _decision(
    game: Game, action: Action, phrases: tuple[str, ...], phrasing: int, slots: dict[str, str], target: Box | None
) -> Decision:
    return Decision(action, _said(phrases, phrasing, slots), tuple(slots.items()), target, game.objects())


def _at(box: Box) -> tuple[float, float]:
    x, y = box.centre
    return float(x), float(y)


def _box(game: Game, name: str, number: int = 0) -> Box:
    return next(each.box for each in game.objects() if (each.name, each.number) == (name, number))


def _has(game: Game, name: str) -> bool:
    return any(each.name == name for each in game.objects())


def _locate(game: Game, state: TargetState, phrasing: int) -> Decision:
    unit = state.units[state.target]
    slots = {
        "intent": "select",
        "colour": unit.colour,
        "kind": unit.kind,
        "cell": f"{chr(ord('A') + unit.column)}{unit.row + 1}",
    }
    box = game.layout.board.box(unit.column, unit.row)
    return _decision(game, Action("click", _at(box)), SELECT, phrasing, slots, box)


def _allocate(game: Game, state: ResourceState, phrasing: int) -> Decision:
    for front, (sent, demand) in enumerate(zip(state.sent, state.demands, strict=True)):
        if sent != demand:
            return _balance(game, front, demand - sent, phrasing)
    box = _box(game, "commit")
    return _decision(game, Action("click", _at(box)), COMMIT, phrasing, {"intent": "commit"}, box)


def _balance(game: Game, front: int, missing: int, phrasing: int) -> Decision:
    """One unit more or less for a front, in the way that the platform has."""
    slots = {"front": str(front + 1)}
    if missing < 0:
        slots = {"intent": "recall", **slots}
        box = _box(game, "minus", front) if _has(game, "minus") else _box(game, "front", front)
        kind: ActionType = {"desktop": "right_single", "mobile": "long_press", "web": "click"}[game.platform]
        return _decision(game, Action(kind, _at(box)), RECALL, phrasing, slots, box)
    slots |= {"units": "1 unit" if missing == 1 else f"{missing} units"}
    goal = _box(game, "front", front)
    if _has(game, "plus"):
        box = _box(game, "plus", front)
        return _decision(game, Action("click", _at(box)), SEND, phrasing, {"intent": "send", **slots}, box)
    reserve = _box(game, "reserve")
    if game.platform == "mobile":
        drag = Action("drag", _at(reserve), _at(goal))
        return _decision(game, drag, SEND, phrasing, {"intent": "send", **slots}, goal)
    if isinstance(game.rules, ResourceState) and game.rules.carrying:
        return _decision(game, Action("click", _at(goal)), PLACE, phrasing, {"intent": "place", **slots}, goal)
    return _decision(game, Action("click", _at(reserve)), PICK, phrasing, {"intent": "pick", **slots}, reserve)


def _control(game: Game, state: AreaState, phrasing: int) -> Decision:
    for which, position in state.road:
        convoy = state.schedule[which]
        if convoy.left(position) <= PERIOD * convoy.speed:
            box = _box(game, "sector", convoy.goal)
            slots = {"intent": "capture", "sector": chr(ord("A") + convoy.goal)}
            return _decision(game, Action("click", _at(box)), CAPTURE, phrasing, slots, box)
    return _decision(game, Action("wait"), WAIT, phrasing, {"intent": "wait"}, None)
