"""Any model output, read: the panel that shows what the parser makes of a text, and where its points are."""

from __future__ import annotations

from dataclasses import asdict
from html import escape
from typing import Any

import gradio as gr

from apps.components import QUIET, html_table, note, sentence
from apps.ui_action.marks import marks
from apps.ui_action.parts import input_error, part
from apps.ui_action.turns import marks_of
from core.errors import InputError

MOST_TEXT, MOST_SIDE = 20_000, 16_384
COORDINATES = {"absolute": "Pixels of the model's image", "relative-1000": "0 to 1000 along each side"}
EXAMPLE = """Thought: The red tank stands in the middle, so I click it.
Action: click(start_box='<|box_start|>(966,546)<|box_end|>')"""
ABOUT = """Paste what a UI agent answered, in UI-TARS's grammar or near it. A point is given in the image that the model
saw: with another size than the screen's, it lands elsewhere."""


def parse_text(
    text: str, width: float, height: float, model_width: float, model_height: float, coordinates: str, lenient: bool
) -> dict[str, Any]:
    """What the parser says, as plain values.

    Raises:
        InputError: a text or a size beyond the limits.
        UIActionInputError: a screen that is none.
    """
    screen = _screen(width, height, model_width, model_height, coordinates)
    if len(text) > MOST_TEXT:
        raise InputError(f"The text has {len(text):,} characters, limit {MOST_TEXT:,}: give one answer.")
    try:
        response = part("parser:parse_response")(text, screen=screen, lenient=bool(lenient))
    except part("errors:ParseError") as error:
        empty = {"thought": None, "reflection": None, "actions": [], "flags": []}
        return empty | {"error": {"code": error.code, "message": str(error)}}
    return {
        "thought": response.thought,
        "reflection": response.reflection,
        "actions": [
            asdict(action) | {"words": part("report:describe")(action), "drawn": marks_of(action, screen)}
            for action in response.actions
        ],
        "flags": list(response.flags),
        "error": None,
    }


def build_parser() -> tuple[list[Any], gr.HTML]:
    """The panel: its controls, as `show_parsed` takes them, and its answer."""
    gr.Markdown(ABOUT, elem_classes="quiet")
    with gr.Row():
        with gr.Column(scale=2, min_width=300):
            text = gr.Textbox(EXAMPLE, label="What the model answered", lines=5, elem_id="ui-action-parse-text")
            with gr.Row():
                width = gr.Number(1920, label="Screen width", precision=0, minimum=1, min_width=110)
                height = gr.Number(1080, label="Screen height", precision=0, minimum=1, min_width=110)
            with gr.Row():
                model_width = gr.Number(
                    1932, label="Model's width", info="0: as the screen", precision=0, minimum=0, min_width=110
                )
                model_height = gr.Number(
                    1092, label="Model's height", info="0: as the screen", precision=0, minimum=0, min_width=110
                )
            coordinates = gr.Radio(
                [(words, name) for name, words in COORDINATES.items()],
                value="absolute",
                label="Coordinates",
                elem_id="ui-action-parse-coordinates",
            )
            lenient = gr.Checkbox(
                True, label="Lenient: accept what deviates, and flag it", elem_id="ui-action-parse-lenient"
            )
        with gr.Column(scale=3, min_width=300):
            answer = gr.HTML("", elem_id="ui-action-parsed")
    given = [text, width, height, model_width, model_height, coordinates, lenient]
    gr.on(
        [each.change for each in given],
        show_parsed,
        given,
        answer,
        trigger_mode="always_last",
        concurrency_limit=8,
        **QUIET,
    )
    return given, answer


def show_parsed(
    text: str,
    width: float | None,
    height: float | None,
    model_width: float | None,
    model_height: float | None,
    coordinates: str,
    lenient: bool,
) -> str:
    """The answer as HTML; what is wrong with the input as a note."""
    sides = (width or 0, height or 0, model_width or 0, model_height or 0)
    try:
        found = parse_text(text or "", *sides, coordinates, lenient)
    except (InputError, input_error()) as error:
        return note(str(error))
    return parsed_view(found, (int(sides[0]), int(sides[1])))


def parsed_view(found: dict[str, Any], size: tuple[int, int]) -> str:
    """Actions as a table, their points on an empty screen, and flags or the error."""
    if found["error"]:
        code, message = found["error"]["code"], found["error"]["message"]
        said = f"<code>{escape(code)}</code> {escape(sentence(message))}"
        return f'<p class="warning" role="note">{said}</p><p class="quiet">Nothing of it would be carried out.</p>'
    rows = [
        (
            escape(action["type"]),
            _point(action["start"]),
            _point(action["end"]),
            escape(_rest(action)),
        )
        for action in found["actions"]
    ]
    flags = ", ".join(found["flags"])
    said = f"Read leniently: {flags}" if flags else "To the letter: nothing had to be read leniently."
    return (
        _empty_screen(found, size)
        + html_table(("Action", "Start", "End", "Else"), rows, label="Parsed actions", style="figures")
        + (f'<p class="quiet">Thought: {escape(found["thought"])}</p>' if found["thought"] else "")
        + f'<p class="flags">{escape(said)}</p>'
    )


def _empty_screen(found: dict[str, Any], size: tuple[int, int]) -> str:
    width, height = size
    actions = [action["drawn"] | {"allowed": True} for action in found["actions"]]
    words = "; ".join(action["words"] for action in found["actions"])
    return (
        f'<figure class="screen empty" style="--width:{width};--height:{height};--ratio:{width / height:g}" role="img" '
        f'aria-label="{escape(f"Empty screen of {width} x {height} pixels: {words}")}">{marks(size, actions)}</figure>'
    )


def _screen(width: float, height: float, model_width: float, model_height: float, coordinates: str) -> Any:
    sides = [int(side or 0) for side in (width, height, model_width, model_height)]
    if any(abs(side) > MOST_SIDE for side in sides):
        raise InputError(f"A side of {max(sides, key=abs):,} pixels: up to {MOST_SIDE:,} are allowed.")
    own = sides[2:] == [0, 0]
    if not own and 0 in sides[2:]:
        raise InputError("One side of the model's image is missing: give both, or 0 for both.")
    return part("screen:Screen")(
        sides[0], sides[1], None if own else sides[2], None if own else sides[3], coordinates=coordinates
    )


def _point(point: Any) -> str:
    return "–" if point is None else f"({point[0]:.6g}, {point[1]:.6g})"


def _rest(action: dict[str, Any]) -> str:
    """What an action has beside its points."""
    parts = [f"“{action['text']}”" if action["text"] else "", " ".join(action["keys"]), action["direction"] or ""]
    parts += ["and Enter" if action["submit"] else ""]
    parts += ["" if action["milliseconds"] is None else f"{action['milliseconds']} ms"]
    return ", ".join(filter(None, parts)) or "–"
