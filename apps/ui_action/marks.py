"""Screens with what was planned on them: pixels as they are, and drawn over them where the agent acts."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from PIL import Image

LETTER = 0.036  # of the longer side: height of a label
RADIUS = 0.03


def png_uri(image: Image.Image) -> str:
    """The image, as it is, as text that an <img> takes."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def screen_figure(
    source: str, size: Sequence[int], actions: Sequence[Mapping[str, Any]], *, says: str, scale: int = 3
) -> str:
    """A screen, enlarged, with its actions drawn on it.

    Args:
        source: address of the picture.
        size: (width, height) in css pixels of the screen.
        actions: with "text", "start", "end" and "allowed".
        says: what is to be seen, in words.
    """
    width, height = size
    return (
        f'<figure class="screen" style="--width:{width};--height:{height};--scale:{scale}">'
        f'<img src="{escape(source)}" width="{width}" height="{height}" alt="{escape(says)}">{marks(size, actions)}'
        "</figure>"
    )


def marks(size: Sequence[int], actions: Sequence[Mapping[str, Any]]) -> str:
    """The drawing over a screen; "" where no action has a place on it."""
    drawn = "".join(_mark(size, each) for each in actions if each["start"] is not None)
    if not drawn:
        return ""
    return f'<svg class="marks" viewBox="0 0 {size[0]} {size[1]}" aria-hidden="true">{drawn}</svg>'


def _mark(size: Sequence[int], action: Mapping[str, Any]) -> str:
    """Twice, a dark edge under a bright line, so that it shows on any screen."""
    shape = _shape(size, action)
    label = _label(size, action)
    style = "mark" if action["allowed"] else "mark refused"
    return f'<g class="{style}"><g class="edge">{shape}</g><g class="line">{shape}</g>{label}</g>'


def _shape(size: Sequence[int], action: Mapping[str, Any]) -> str:
    (x, y), radius = action["start"], RADIUS * max(size)
    centre = f'cx="{x:g}" cy="{y:g}"'
    shape = f'<circle {centre} r="{radius:g}"/><circle class="dot" {centre} r="{radius / 6:g}"/>'
    if action["end"] is not None:
        to_x, to_y = action["end"]
        half = radius / 2
        shape += (
            f'<line x1="{x:g}" y1="{y:g}" x2="{to_x:g}" y2="{to_y:g}"/>'
            f'<rect x="{to_x - half:g}" y="{to_y - half:g}" width="{2 * half:g}" height="{2 * half:g}"/>'
        )
    if not action["allowed"]:
        reach = 0.7 * radius
        shape += f'<line x1="{x - reach:g}" y1="{y - reach:g}" x2="{x + reach:g}" y2="{y + reach:g}"/>'
    return shape


def _label(size: Sequence[int], action: Mapping[str, Any]) -> str:
    """The kind of the action beside its mark, on the side where there is room."""
    (x, y), letter, gap = action["start"], LETTER * max(size), RADIUS * max(size) * 1.4
    left = x > size[0] * 0.6
    at_x, anchor = (x - gap, "end") if left else (x + gap, "start")
    at_y = min(max(y + letter / 3, letter), size[1] - letter / 4)
    return (
        f'<text x="{at_x:g}" y="{at_y:g}" font-size="{letter:g}" text-anchor="{anchor}">{escape(action["kind"])}</text>'
    )
