"""Actions as text in UI-TARS's grammar: what a model is trained to write, and the history it is shown."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from .actions import LONG_PRESS_MILLISECONDS, WAIT_MILLISECONDS, Action, Point
from .coordinates import encode, is_inside
from .errors import ParseError, UIActionInputError
from .hotkeys import spell_keys
from .parser import Response, parse_response
from .screen import Screen

_PLAIN = Screen(1, 1)


def serialise(response: Response | Action | Iterable[Action], *, screen: Screen, box_tokens: bool = False) -> str:
    r"""The text that `parse_response` reads as the same actions.

    Points are written in whole numbers in the space of the screen's model, and so come back rounded to these. Typed
    text that ends in a newline comes back without it and submitted: that is how the grammar says Enter.

    Args:
        box_tokens: write `<|box_start|>(x,y)<|box_end|>`, as UI-TARS's own history has it.

    Raises:
        UIActionInputError: no action; one that lacks a point or text, or has a point off the screen; a thought that
            would be read as something else, such as one with a line that begins with "Action:".
    """
    if isinstance(response, Action):
        response = (response,)
    if not isinstance(response, Response):
        response = Response(None, None, tuple(response))
    if not response.actions:
        raise UIActionInputError("no action to write: give at least one")

    def literal(point: Point | None) -> str:
        return _literal(point, screen, box_tokens)

    calls = "\n\n".join(_call(action, literal) for action in response.actions)
    return f"{_prose(response)}Action: {calls}"


def _prose(response: Response) -> str:
    thought, reflection = (response.thought or "").strip(), (response.reflection or "").strip()
    if reflection:
        prose = f"Reflection: {reflection}\nAction_Summary: {thought}\n"
    elif thought:
        prose = f"Thought: {thought}\n"
    else:
        return ""
    try:
        read = parse_response(f"{prose}Action: wait()", screen=_PLAIN, lenient=False)
    except ParseError:
        read = None
    if read is None or (read.thought or "", read.reflection or "") != (thought, reflection):
        raise UIActionInputError(
            "a thought or reflection that would be read as something else: leave out lines that begin with 'Action:'"
            " or '<answer>', labels and tags of the grammar, and code fences that are not closed"
        )
    return prose


def _call(action: Action, literal: Callable[[Point | None], str]) -> str:
    arguments: dict[str, str] = {}
    if action.start is not None or action.type in ("click", "left_double", "right_single", "hover", "drag"):
        arguments["start_box"] = literal(action.start)
    if action.end is not None or action.type == "drag":
        arguments["end_box"] = literal(action.end)
    match action.type:
        case "scroll" if action.direction is not None:
            arguments["direction"] = action.direction
        case "hotkey" | "press" | "release":
            arguments["key"] = _text(spell_keys(action.keys))
        case "type":
            arguments["content"] = _text(action.text + "\n" * action.submit)
        case "open_app":
            arguments["app_name"] = _text(action.text)
        case "navigate":
            arguments["content"] = _text(action.text)
        case "finished" if action.text:
            arguments["content"] = _text(action.text)
        case "wait" if action.milliseconds not in (None, WAIT_MILLISECONDS):
            arguments["time"] = _seconds(action.milliseconds)
        case "long_press" if action.milliseconds not in (None, LONG_PRESS_MILLISECONDS):
            arguments["time"] = _seconds(action.milliseconds)
    written = ", ".join(f"{name}='{value}'" for name, value in arguments.items())
    return f"{action.type}({written})"


def _literal(point: Point | None, screen: Screen, box_tokens: bool) -> str:
    if point is None:
        raise UIActionInputError("an action without one of its points: give start, and for a drag end")
    if not is_inside(point, screen):
        raise UIActionInputError(f"{point} is not on the screen of {screen.width} x {screen.height} pixels")
    x, y = encode(point, screen)
    return f"<|box_start|>({x},{y})<|box_end|>" if box_tokens else f"({x},{y})"


def _text(text: str) -> str:
    r"""Escaped: \ and ' and newlines."""
    return text.replace("\\", "\\\\").replace("'", "\\'").replace("\n", "\\n")


def _seconds(milliseconds: int | None) -> str:
    return f"{(milliseconds or 0) / 1000:g}"
