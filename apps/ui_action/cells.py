"""Nine games to choose from: three rules on three interfaces, each with a picture of its first screen."""

from __future__ import annotations

from functools import cache
from html import escape
from pathlib import Path

from PIL import Image

from apps.components import note
from apps.ui_action.live import definitions
from apps.ui_action.marks import png_uri, screen_figure
from apps.ui_action.parts import input_error, part
from apps.ui_action.request import ASKED, PLATFORM, PLATFORMS, SEED, TASK, TASKS, read_cell
from core.errors import InputError

CELLS_SCRIPT = (Path(__file__).parent / "cells.js").read_text("utf-8")
BEGIN_WITH = f"{TASK}/{PLATFORM}"
PROMISE = """<ul class="promise">
<li><b>Run</b> plays it to its end, live. <b>Step</b> takes one turn and waits. <b>Play all nine</b> shows one player on
every interface, in one table.</li>
<li>Every turn shows the screen, the planned click on it, the sentence behind it, and what the policy says.</li>
<li>Then: all steps to go through, what was refused, where the time went, and a trace that anyone can check and replay
below.</li></ul>"""


@cache
def cells() -> list[dict[str, object]]:
    """The games as the picker draws them: name, task in words, and its cells with interface, size and picture."""
    return [
        {"task": task, "label": label, "asked": ASKED[task], "cells": [_cell(task, name) for name in PLATFORMS]}
        for task, label in TASKS.items()
    ]


def _cell(task: str, platform: str) -> dict[str, object]:
    _, picture = _first_screen(task, platform, SEED, False)
    return {
        "value": f"{task}/{platform}",
        "label": PLATFORMS[platform],
        "width": picture.width,
        "height": picture.height,
        "src": png_uri(picture),
    }


def first_look(cell: object, seed: float | None, adversarial: bool) -> str:
    """The chosen game as it begins: its first screen, enlarged, and what it asks for; or what is wrong with it."""
    try:
        task, platform = read_cell(cell)
        instruction, picture = _first_screen(task, platform, int(seed or 0), bool(adversarial))
    except (InputError, input_error()) as error:
        return note(str(error))
    words = f"{TASKS[task]}, {PLATFORMS[platform]}, as it begins"
    said = definitions([("Game", escape(words.removesuffix(", as it begins"))), ("Task", escape(instruction))])
    return (
        f'<section class="stage" aria-label="The game as it begins">'
        f"{screen_figure(png_uri(picture), picture.size, (), says=words)}"
        f'<div class="said">{said}{PROMISE}</div></section>'
    )


def _first_screen(task: str, platform: str, seed: int, adversarial: bool) -> tuple[str, Image.Image]:
    game = part("games:make_game")(task, platform, adversarial)
    game.reset(seed)
    return game.instruction, part("games.raster:raster")(game.display())
