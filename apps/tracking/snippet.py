"""The run as code that anyone can repeat."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from apps.tracking.request import PROMPTED, Request
from core.registry import find


def snippet(request: Request, prompts: Sequence[Mapping[str, Any]]) -> str:
    """The same in Python; sensors that were cut by hand are not cut in it."""
    checkpoint = find("tracking").checkpoint
    lines = ["from plugins.tracking import SataPipeline"]
    if request.videos:
        video = {name: path.name for name, path in request.videos.items()}
        lines += ["", f"video = {video!r}"]
    else:
        scene = request.scene
        options = "".join(f", {name}={value!r}" for name, value in scene.arguments().items())
        lines += [
            "from plugins.tracking.scenes import generate_scene",
            "",
            f"video = generate_scene({scene.seed}{options})",
        ]
    lines += [f"pipe = SataPipeline.from_pretrained({checkpoint!r})"]
    arguments = [f"task={request.task!r}"]
    if request.task in PROMPTED:
        lines += [f"prompts = {[dict(prompt) for prompt in prompts]!r}"]
        arguments.append("prompts=prompts")
    arguments.append(f"modalities={list(request.sensors)!r}")
    if request.resample and request.videos:
        arguments.append("resample=True")
    lines += [
        f"tracks = pipe(video, {', '.join(arguments)})",
        "print(tracks.summary())",
        "print(tracks.frames[0].ids, tracks.frames[0].xyxy)",
    ]
    return "\n".join(lines) + "\n" + _evaluate(request)


def _evaluate(request: Request) -> str:
    """The command that prints the metrics of such a scene, and of others."""
    if request.videos:
        return ""
    words = ["python", "-m", "plugins.tracking", "evaluate", "--task", request.task]
    words += ["--modalities", ",".join(request.sensors)]
    words += ["--condition", "+".join(request.scene.conditions) or "day"]
    words += ["--seeds", f"{request.scene.seed}:{request.scene.seed + 1}"]
    return f"\n# {shlex.join(words)}\n"
