"""The clip on the page: live tiles while it is tracked, then one player over a timeline of objects and sensors."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from apps.tracking.request import MOST_LANES, SENSORS

_HERE = Path(__file__).parent
STYLE = (_HERE / "page.css").read_text("utf-8")
PLAYER_SCRIPT = (_HERE / "player.js").read_text("utf-8")
LIVE_SCRIPT = (_HERE / "live.js").read_text("utf-8")
DRAW_SCRIPT = (_HERE / "draw.js").read_text("utf-8")
OVERLAY = "overlay.mp4"
HELD = ' opacity="0.35"'
_SPEEDS = (("1", "1 ×"), ("0.5", "½ ×"), ("0.25", "¼ ×"))


def live_tiles(preview: Mapping[str, Any] | None) -> str:
    """The newest frame of a running job, all its sensors; "" before there is one."""
    if not preview:
        return ""
    on = set(preview["on"])
    tiles = "".join(
        f'<figure><img src="{escape(tile["src"])}" alt="{escape(_alt(tile, preview, on))}"></figure>'
        for tile in preview["tiles"]
    )
    held = f", {preview['stale']} of them held" if preview["stale"] else ""
    return (
        f'<section class="tiles" aria-label="Live overlay">{tiles}</section>'
        f'<p class="quiet">Frame {preview["version"]} of {preview["frames"]}, {preview["objects"]} objects{held}</p>'
    )


def _alt(tile: Mapping[str, Any], preview: Mapping[str, Any], on: set[str]) -> str:
    state = "with overlays" if tile["sensor"] in on else "off"
    return f"{tile['label']}, frame {preview['version']}, {state}"


def player(result: Mapping[str, Any], files: Mapping[str, Path], publish: Callable[[Path], str]) -> str:
    """The result video, its controls, and the timeline whose cursor follows it.

    Args:
        files: the job's artefacts by name.
        publish: from a file to the address that a browser finds it at.
    """
    if OVERLAY not in files:
        return '<p class="warning" role="note">The video is no longer kept: run it again.</p>'
    frames, fps = result["clip"]["frames"], result["clip"]["fps"]
    sensors = ", ".join(SENSORS[name] for name in result["sensors"])
    return (
        f'<section class="player" aria-label="Result" data-fps="{fps:g}" data-frames="{frames}">'
        f'<video muted playsinline preload="auto" tabindex="-1" aria-label="Overlays on {escape(sensors)}" '
        f'src="{escape(publish(files[OVERLAY]))}"></video>'
        f"{_controls(frames)}{timeline(result)}</section>"
    )


def _controls(frames: int) -> str:
    speeds = "".join(f'<option value="{value}">{text}</option>' for value, text in _SPEEDS)
    return (
        '<div class="controls" role="group" aria-label="Player">'
        '<button type="button" class="play">Play</button>'
        '<button type="button" class="back" aria-label="One frame back">‹</button>'
        f'<input type="range" class="frame" min="0" max="{frames - 1}" value="0" step="1" aria-label="Frame">'
        '<button type="button" class="ahead" aria-label="One frame ahead">›</button>'
        f'<output class="where">1 / {frames}</output>'
        f'<label class="speed">Speed <select>{speeds}</select></label></div>'
    )


def timeline(result: Mapping[str, Any]) -> str:
    """A lane for each object, as high as its score, and one for each sensor, filled while it was on."""
    frames = result["clip"]["frames"]
    objects = result["objects"][:MOST_LANES]
    lanes = "".join(_object_lane(row, frames) for row in objects)
    sensors = "".join(_sensor_lane(name, result["on"]) for name in result["sensors"])
    return (
        '<div class="timeline"><div class="lanes">'
        f'{lanes}{sensors}<div class="cursor" aria-hidden="true"></div></div>'
        f'<p class="quiet">Height: score. Pale: held while no sensor saw anything. Click to go there.</p></div>'
    )


def _object_lane(row: Mapping[str, Any], frames: int) -> str:
    bars = "".join(
        f'<rect x="{first}" y="{1 - abs(score):g}" width="{last - first}" height="{abs(score):g}"'
        f"{HELD if score < 0 else ''}/>"
        for first, last, score in runs(row["scores"])
        if score is not None
    )
    shown = sum(score is not None for score in row["scores"])
    label = f"Object {row['id']}: in {shown} of {frames} frames, mean score {row['mean_score']:.2f}"
    colour = escape(row["colour"])
    return (
        f'<div class="name"><i style="background:{colour}"></i>{row["id"]}</div>'
        f'<svg class="lane" viewBox="0 0 {frames} 1" preserveAspectRatio="none" role="img" '
        f'aria-label="{escape(label)}" fill="{colour}">{bars}</svg>'
    )


def _sensor_lane(name: str, on: Sequence[Sequence[str]]) -> str:
    states = [name in each for each in on]
    bars = "".join(
        f'<rect x="{first}" y="0" width="{last - first}" height="1"/>' for first, last, is_on in runs(states) if is_on
    )
    label = f"{SENSORS[name]}: on in {sum(states)} of {len(states)} frames"
    return (
        f'<div class="name sensor">{SENSORS[name]}</div>'
        f'<svg class="lane sensor" viewBox="0 0 {len(states)} 1" preserveAspectRatio="none" role="img" '
        f'aria-label="{escape(label)}">{bars}</svg>'
    )


def runs(values: Sequence[Any]) -> list[tuple[int, int, Any]]:
    """Equal neighbours joined: first place, place after the last, and the value."""
    found: list[tuple[int, int, Any]] = []
    for place, value in enumerate(values):
        if found and found[-1][2] == value:
            found[-1] = found[-1][0], place + 1, value
        else:
            found.append((place, place + 1, value))
    return found
