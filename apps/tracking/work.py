"""What the page asks of the server: one clip tracked as a job that outlives the tab."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import numpy as np

from apps.tracking.drawing import colour_of
from apps.tracking.files import write_files
from apps.tracking.request import Request
from apps.tracking.scores import score
from apps.tracking.snippet import snippet
from apps.tracking.source import MOST_FRAMES, Source, open_source
from apps.tracking.switches import default_switches
from apps.tracking.watch import READY, TRACKED, Follower, Recording
from core.errors import QuartetError
from core.jobs import JobContext, JobStopped, default_store
from core.media import write_video
from core.registry import default_cache, find, load_object
from core.runs import build_run_record, peak_memory, reset_peak_memory
from core.zero_gpu import on_accelerator

SLUG = "tracking"
OVERLAY = "overlay.mp4"


def input_error() -> type[Exception]:
    """The plugin's own error, whose messages are written for users."""
    return load_object("plugins.tracking.errors:TrackingError")


def submit(request: Request) -> str:
    """Queue the run; the id of its job."""
    expected = (input_error(),)
    work = on_accelerator(run, request, seconds=accelerator_seconds(request), expected=expected)
    return default_store().submit(SLUG, work, params=request.params(), expected=expected)


def accelerator_seconds(request: Request) -> float:
    """An upper bound, with room for loading; what ZeroGPU is asked for. Videos count as long as they may be."""
    frames = MOST_FRAMES if request.videos else request.scene.frames
    return 15 + 0.1 * frames + (frames / request.pace if request.pace else 0)


def pipeline() -> Any:
    """The pipeline that this process keeps, on an accelerator where there is one."""
    return default_cache().on_best_device(SLUG)


def run(request: Request, context: JobContext) -> dict[str, Any]:
    """Track the clip, write the downloads, return the figures; a stop keeps the frames that are done."""
    started = time.time()
    reset_peak_memory()
    switches = default_switches()
    try:
        context.progress(0.0, "loading the model")
        pipe = pipeline()
        context.progress(READY / 2, "reading the clip")
        source = open_source(request)
        session = pipe.start_session(request.task, request.sensors)
        for prompt in source.prompts:
            session.add_prompt(**prompt)
        follower = Follower(context, request, source, session, switches, (input_error(), QuartetError))
        began = time.perf_counter()
        write_video(context.directory / OVERLAY, follower.overlays(), source.fps)
        wall = time.perf_counter() - began
    finally:
        switches.forget(context.id)
    with suppress(JobStopped):
        context.progress(TRACKED, "scores and files")
    return _finish(request, context, source, follower.recording, pipe, session, wall, started)


def _finish(
    request: Request,
    context: JobContext,
    source: Source,
    recording: Recording,
    pipe: Any,
    session: Any,
    wall: float,
    started: float,
) -> dict[str, Any]:
    """Scores, files and the figures of a recording."""
    tracks = load_object("plugins.tracking.results:Tracks")(tuple(recording.frames), *source.size, request.task)
    truth = None
    if source.scene is not None:
        truth = score(request.task, source.scene, source.prompts, tracks, recording.sensors)
    measured = _measured(request, source, recording, pipe, wall)
    result = {
        "params": request.params(),
        "prompts": [dict(prompt) for prompt in source.prompts],
        "task": request.task,
        "clip": {"frames": len(tracks), "of": len(source.video), "fps": source.fps, "size": list(source.size)},
        "ended": recording.ended,
        "sensors": list(request.sensors),
        "on": [list(on) for on in recording.sensors],
        "ms": [round(1000 * seconds, 2) for seconds in recording.seconds],
        "objects": objects(tracks),
        "experts": experts(session),
        "truth": truth,
        "run": measured,
        "snippet": snippet(request, source.prompts),
    }
    record = build_run_record(SLUG, measured, command=result["snippet"], started=started)
    write_files(context.directory, tracks, result, record)
    return result


def objects(tracks: Any) -> list[dict[str, Any]]:
    """The plugin's summary of each object, its colour, and its scores by frame: None if absent, negative if held."""
    rows = []
    for row in tracks.summary()["objects"]:
        scores: list[float | None] = []
        for frame in tracks.frames:
            place = np.flatnonzero(frame.ids == row["id"])
            if not len(place):
                scores.append(None)
                continue
            value = round(float(np.clip(frame.scores[place[0]], 0.001, 1)), 3)
            scores.append(-value if frame.stale[place[0]] else value)
        rows.append(row | {"colour": colour_of(row["id"]), "scores": scores})
    return rows


def experts(session: Any) -> list[dict[str, Any]]:
    """Per layer and group of experts, the share of the group's selections that each had."""
    loads: dict[tuple[int, str], np.ndarray] = {}
    for layer, groups in enumerate(session.experts):
        for group, selected in groups.items():
            loads[layer, group] = np.asarray(selected.cpu() if hasattr(selected, "cpu") else selected, np.int64)
    return load_object("plugins.tracking.evaluate_run:utilisation")(loads)


def _measured(request: Request, source: Source, recording: Recording, pipe: Any, wall: float) -> dict[str, Any]:
    """The run as `core.runs` takes it."""
    milliseconds = 1000 * np.array(recording.seconds)
    attention: Mapping[str, str] = pipe.attention.as_dict()
    device = str(pipe.device)
    return {
        "params": request.params() | {"prompts": [dict(prompt) for prompt in source.prompts]},
        "seed": None if request.videos else request.scene.seed,
        "device": device,
        "dtype": str(pipe.model.dtype).removeprefix("torch."),
        "attention": {"backend": attention["backend"], "reason": attention["reason"]},
        "checkpoint": find(SLUG).checkpoint,  # not where on this machine it is
        "revision": pipe.revision,
        "parameters": int(sum(value.numel() for value in pipe.model.parameters())),
        "timings": {"track": float(sum(recording.seconds)), "with_drawing_and_pace": wall},
        "ms_per_frame": {
            "mean": float(milliseconds.mean()),
            "median": float(np.median(milliseconds)),
            "p95": float(np.quantile(milliseconds, 0.95)),
            "first": float(milliseconds[0]),
        },
        "frames_per_second": 1000 / float(milliseconds.mean()),
        "peak_memory_bytes": peak_memory(device),
    }
