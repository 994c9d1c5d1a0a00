"""What the page's button and other people's programs call: stable names, plain arguments, a job's id back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import gradio as gr

from apps.job_pages import find_job, job_file, job_state, shown_errors, stop_job
from apps.tracking.request import FRAMES, SEED, SENSORS, SIDE, Request, SceneChoice
from apps.tracking.switches import default_switches
from apps.tracking.work import SLUG, submit
from core import zero_gpu

Sensor = Literal["rgb", "thermal", "depth", "event"]


def tracking_run(
    task: str = "vos",
    sensors: list[str] | None = None,
    prompts: list[dict[str, Any]] | None = None,
    seed: int = SEED,
    conditions: list[str] | None = None,
    frames: int = FRAMES,
    size: int = SIDE,
    pace: float = 0.0,
    rgb: str | None = None,
    thermal: str | None = None,
    depth: str | None = None,
    event: str | None = None,
    resample: bool = False,
) -> str:
    """Track objects through a generated scene, or through aligned videos of several sensors.

    Args:
        task: "vos" or "sot" to follow what is prompted for, by mask or by box; "mots" or "mot" for everything.
        sensors: of "rgb", "thermal", "depth" and "event"; RGB and thermal, or those of the videos, if left out.
        prompts: a list such as [{"id": 7, "frame": 0, "box": [x0, y0, x1, y1]}], or "points" [[x, y]] with "labels"
            (1 on the object, 0 beside it); pixels. If left out, the true objects of a generated scene.
        seed: of the generated scene.
        conditions: of "night", "occlusion", "twins" and "crossover".
        frames: of the generated scene.
        size: its side in pixels.
        pace: frames per second at most, 0 for as fast as it can.
        rgb: a video file, which takes the place of the generated scene; so do the next three.
        thermal: a video file, aligned with the others.
        depth: a video file, aligned with the others.
        event: a video file, aligned with the others.
        resample: bring videos of other sizes and lengths to those of the first.

    Returns:
        The id of the job; ask tracking_result for it, then tracking_file for its files.
    """
    given = {"rgb": rgb, "thermal": thermal, "depth": depth, "event": event}
    videos = {name: Path(path) for name, path in given.items() if path}
    sensors = sensors or list(videos) or list(Request.sensors)  # a form that was left out is an empty list
    scene = {"seed": int(seed or 0), "frames": int(frames or FRAMES), "side": int(size or SIDE)}
    with shown_errors():
        request = Request(
            task=task,
            sensors=tuple(name for name in SENSORS if name in sensors) + tuple(set(sensors) - set(SENSORS)),
            prompts=checked_prompts(prompts),
            scene=SceneChoice(conditions=tuple(conditions or ()), **scene),
            videos=videos,
            resample=bool(resample),
            pace=float(pace or 0),
        )
        return submit(request)


def tracking_result(job_id: str) -> dict[str, Any]:
    """Where a job stands, and its figures once it is done.

    Args:
        job_id: as tracking_run returned it.

    Returns:
        status, progress (0 to 1), message, error, result with the figures or None, files (names for tracking_file). A
        job that was stopped keeps the frames that were done.
    """
    job = find_job(SLUG, job_id)
    return job_state(job) | {"files": [path.name for path in job.artefacts]}


def tracking_file(job_id: str, name: str) -> str:
    """A file of a job that is over.

    Args:
        job_id: as tracking_run returned it.
        name: one of the files that tracking_result lists, such as "overlay.mp4" or "mot.txt".

    Returns:
        The file.
    """
    return job_file(SLUG, job_id, name)


def tracking_stop(job_id: str) -> str:
    """Stop a job; it ends within a frame, and keeps those that are done.

    Args:
        job_id: as tracking_run returned it.

    Returns:
        The job's status.
    """
    return stop_job(SLUG, job_id)


def tracking_sensors(job_id: str, sensors: list[Sensor]) -> list[str]:
    """Cut and restore sensors of a job while it runs; with none at all the last result is held.

    Args:
        job_id: as tracking_run returned it.
        sensors: those that are on from the next frame on, of those that the job began with.

    Returns:
        Those that are on now.
    """
    job = find_job(SLUG, job_id)
    known = job.params["sensors"]
    unknown = [name for name in sensors if name not in known]
    if unknown:
        raise gr.Error(
            f"This job has no sensor {str(unknown[0])[:40]!r}: choose among {', '.join(known)}.", print_exception=False
        )
    if zero_gpu.active():
        raise gr.Error(
            "This server runs jobs in a process of their own, which a switch does not reach: choose the sensors first.",
            print_exception=False,
        )
    if not job.over:
        default_switches().set(job_id, sensors)
    return list(sensors)


def checked_prompts(prompts: Any) -> tuple[Mapping[str, Any], ...] | None:
    """Prompts as a tuple; what is in them is checked by the plugin, against the clip."""
    if prompts is None:
        return None
    if not isinstance(prompts, Sequence) or not all(isinstance(prompt, Mapping) for prompt in prompts):
        raise gr.Error(
            'Prompts are a list such as [{"id": 1, "frame": 0, "box": [10, 20, 50, 60]}]: give one.',
            print_exception=False,
        )
    return tuple(prompts)
