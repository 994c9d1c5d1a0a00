"""Clips on the page: tiles that fill while the job runs, then players that all show the same frame."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from html import escape
from pathlib import Path
from typing import Any

from apps.sparse_video.files import AMPLIFY, difference_name
from apps.sparse_video.watch import Tile

_HERE = Path(__file__).parent
STYLE = (_HERE / "page.css").read_text("utf-8")
PLAYER_SCRIPT = (_HERE / "player.js").read_text("utf-8")
LIVE_SCRIPT = (_HERE / "live.js").read_text("utf-8")
NAMES = {"dense": "Dense", "sparse": "Plain sparse", "rectified": "Rectified", "centroid": "Centroid"}
_SPEEDS = (("1", "1 ×"), ("0.5", "½ ×"), ("0.25", "¼ ×"))


def live_tiles(preview: Mapping[str, Any] | None) -> str:
    """All clips of a running job side by side, each as far as it is; "" before there is anything to see."""
    if not preview:
        return ""
    tiles = "".join(_tile(tile) for tile in preview["tiles"])
    button = '<button type="button" class="still" aria-pressed="false">Pause the preview</button>'
    return (
        f'<section class="clips" aria-label="Live preview">{tiles}</section>'
        '<p class="quiet">A cheap look at each step\'s estimate of the finished clip; the decoder comes last. '
        f"{button}</p>"
    )


def _tile(tile: Mapping[str, Any]) -> str:
    name = escape(NAMES[tile["method"]])
    if tile["film"]:
        style = (
            f"background-image:url({tile['film']});--frames:{int(tile['frames'])};aspect-ratio:{float(tile['ratio']):g}"
        )
        alt = f"{name}, {tile['state']}"
        picture = f'<div class="film" role="img" aria-label="{escape(alt)}" style="{style}"></div>'
    else:
        picture = '<div class="film film-empty" aria-hidden="true"></div>'
    return (
        f'<figure class="clip">{picture}<figcaption><strong>{name}</strong> <span>{escape(tile["state"])}</span>'
        "</figcaption></figure>"
    )


def empty_tiles(methods: Sequence[str]) -> str:
    """Where the clips will be, before the first run."""
    tiles = "".join(_tile(asdict(Tile(method, method, state="not made yet"))) for method in methods)
    return f'<div class="clips">{tiles}</div>'


def players(result: Mapping[str, Any], files: Mapping[str, Path], publish: Callable[[Path], str]) -> str:
    """The finished clips under one set of controls.

    Args:
        files: the job's artefacts by name.
        publish: from a file to the address that a browser finds it at.
    """
    clips = [clip for clip in result["clips"] if f"{clip['method']}.mp4" in files]
    if not clips:
        return '<p class="warning" role="note">The clips are no longer kept: run it again.</p>'
    run = clips[0]["run"]
    tiles = "".join(_player(clip, row, files, publish) for clip, row in zip(clips, result["rows"], strict=True))
    differences = any(difference_name(clip["method"]) in files for clip in clips)
    frames = run["params"]["num_frames"]
    return (
        f'<section class="player" aria-label="Clips side by side" data-fps="{run["fps"]:g}" data-frames="{frames}">'
        f'<div class="clips">{tiles}</div>{_controls(frames, differences=differences)}</section>'
    )


def _player(
    clip: Mapping[str, Any], row: Mapping[str, Any], files: Mapping[str, Path], publish: Callable[[Path], str]
) -> str:
    method, prompt = clip["method"], clip["run"]["params"]["prompt"]
    name = escape(NAMES[method])
    attributes = 'muted playsinline preload="auto" tabindex="-1"'
    source = escape(publish(files[f"{method}.mp4"]))
    picture = f'<video class="own" {attributes} aria-label="{name}: {escape(prompt)}" src="{source}"></video>'
    difference = files.get(difference_name(method))
    if difference is not None:
        source = escape(publish(difference))
        picture += (
            f'<video class="difference" {attributes} aria-label="{name}: difference from dense" src="{source}"></video>'
        )
    return (
        f'<figure class="clip">{picture}<figcaption><strong>{name}</strong> '
        f"<span>{escape(_caption(row))}</span></figcaption></figure>"
    )


def _caption(row: Mapping[str, Any]) -> str:
    parts = [f"{row['seconds']:.1f} s"]
    if row["method"] != "dense":
        parts.append(f"{100 * row['density']:.0f} % of blocks")
    if row["psnr"] is not None:
        parts.append(f"{row['psnr']:.1f} dB")
    return " · ".join(parts)


def _controls(frames: int, *, differences: bool) -> str:
    speeds = "".join(f'<option value="{value}">{text}</option>' for value, text in _SPEEDS)
    toggle = (
        f'<label class="toggle"><input type="checkbox" class="show-difference"> Difference from dense, {AMPLIFY} × '
        "amplified</label>"
        if differences
        else ""
    )
    return (
        '<div class="controls" role="group" aria-label="All clips">'
        '<button type="button" class="play">Play</button>'
        '<button type="button" class="back" aria-label="One frame back">‹</button>'
        f'<input type="range" class="frame" min="0" max="{frames - 1}" value="0" step="1" aria-label="Frame">'
        '<button type="button" class="ahead" aria-label="One frame ahead">›</button>'
        f'<output class="where">1 / {frames}</output>'
        f'<label class="speed">Speed <select>{speeds}</select></label>{toggle}</div>'
    )
