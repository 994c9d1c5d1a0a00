"""One turn of the loop as the page keeps it: plain values, ready for JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from apps.ui_action.parts import part

NOT_UNDERSTOOD = "not understood"
SCROLL_SHARE = 0.2  # of the screen's side: how long the arrow of a scroll is drawn
_SIDES = {"up": (0, -1), "down": (0, 1), "left": (-1, 0), "right": (1, 0)}


def marks_of(action: Any, screen: Any) -> dict[str, Any]:
    """Where an action is drawn, css pixels: start and end, None where there is nothing to draw."""
    start, end = action.start, action.end
    if action.direction is not None and start is not None:
        x, y = _SIDES[action.direction]
        end = (start[0] + x * SCROLL_SHARE * screen.width, start[1] + y * SCROLL_SHARE * screen.height)
    return {
        "kind": action.type,
        "start": None if start is None else [round(value, 2) for value in start],
        "end": None if end is None else [round(value, 2) for value in end],
    }


def turn_row(step: Any, answers: Sequence[str], parse_ms: float, wait_ms: float, execute_ms: float) -> dict[str, Any]:
    """A step of the plugin's trace, flat.

    Args:
        answers: what the visitor said to each question of this turn.
        parse_ms: from the last answer on: parser and policy.
        wait_ms: for the visitor.
        execute_ms: in the environment.
    """
    actions = [_planned(planned, step.screen) for planned in step.planned]
    reasoned = next((call for call in step.calls if call.role == "reason"), None)
    acted = next((call for call in step.calls if call.role != "reason"), None)
    tokens = [(call.prompt_tokens, call.output_tokens) for call in step.calls]
    return {
        "number": step.number,
        "tick": step.tick,
        "sentence": reasoned.text if reasoned else step.thought or "",
        "thought": step.thought or "",
        "reflection": step.reflection or "",
        "answer": acted.text if acted else "",
        "actions": actions,
        "action": "; ".join(each["text"] for each in actions) or NOT_UNDERSTOOD,
        "asked": list(answers),
        "error": step.error,
        "flags": list(step.flags),
        "observation": step.observation,
        "note": step.note,
        "reason_ms": reasoned.milliseconds if reasoned else None,
        "act_ms": acted.milliseconds if acted else None,
        "parse_ms": parse_ms,
        "wait_ms": wait_ms,
        "execute_ms": execute_ms,
        "turn_ms": step.milliseconds - wait_ms,
        "prompt_tokens": _sum(each for each, _ in tokens),
        "output_tokens": _sum(each for _, each in tokens),
        "state_before": step.state_before,
        "state_after": step.state_after,
    }


def _planned(planned: Any, screen: Any) -> dict[str, Any]:
    verdict = planned.verdict
    fate = "carried out" if planned.executed else "not carried out"
    return {
        "text": part("report:describe")(planned.action),
        "fate": fate if verdict.allowed else "refused",
        "allowed": verdict.allowed,
        "executed": planned.executed,
        "code": verdict.code,
        "reason": verdict.reason,
        **marks_of(planned.action, screen),
    }


def _sum(counts: Any) -> int | None:
    """Of those that are known; None where none is."""
    known = [count for count in counts if count is not None]
    return sum(known) if known else None
