"""Command line: track in files or in a generated scene, train, evaluate, measure."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Generator, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from core.cli import forward_command

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False)

CHECKPOINT = "hub_cards/sata-tiny"
HOW_TO_PROMPT = "write ID:box:x0,y0,x1,y1 or ID:points:x,y,1;x,y,0 or ID:mask:FILE.png, with ID@FRAME after frame 0"

Sensor = Annotated[Path | None, typer.Option(help="Video file, or folder of images, of this sensor.")]


@app.command()
def run(
    out: Annotated[Path, typer.Option(help="New or empty folder for what is found.")],
    task: Annotated[str, typer.Option(help="sot, vos (follow what is prompted for), mot or mots (everything).")],
    video: Annotated[
        Path | None, typer.Argument(help="A video (RGB), or a folder that holds rgb, thermal, ...")
    ] = None,
    rgb: Sensor = None,
    thermal: Sensor = None,
    depth: Sensor = None,
    event: Sensor = None,
    scene: Annotated[int | None, typer.Option(help="Seed of a generated scene in the place of files.")] = None,
    frames: Annotated[int, typer.Option(min=1, max=1000, help="Of the generated scene.")] = 30,
    night: Annotated[bool, typer.Option("--night", help="Of the generated scene.")] = False,
    occlusion: Annotated[bool, typer.Option("--occlusion", help="Of the generated scene.")] = False,
    twins: Annotated[bool, typer.Option("--twins", help="Of the generated scene.")] = False,
    crossover: Annotated[bool, typer.Option("--crossover", help="Of the generated scene.")] = False,
    prompt: Annotated[
        list[str] | None, typer.Option(help=f"What to follow: {HOW_TO_PROMPT}. A scene brings its own.")
    ] = None,
    modalities: Annotated[
        str | None, typer.Option(help="Sensors to look at, comma-separated; all if left out.")
    ] = None,
    resample: Annotated[bool, typer.Option("--resample", help="Bring sensors to one size and length.")] = False,
    fps: Annotated[float | None, typer.Option(help="Of the overlay; the video's own if left out.")] = None,
    checkpoint: Annotated[str, typer.Option(help="Folder or repository of a SATA model.")] = CHECKPOINT,
    attention: Annotated[str, typer.Option(help="auto, sdpa, eager, xformers or flash_attention_2.")] = "auto",
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    dtype: Annotated[str, typer.Option(help="auto, fp32, bf16 or fp16.")] = "auto",
    json: Annotated[Path | None, typer.Option("--json", help="Write the run's figures as JSON.")] = None,
) -> None:
    """Track, and write overlay.mp4, MOT, MOTS, DAVIS and YouTube-VIS files, tracks.json and run.json."""
    conditions = {"night": night, "occlusion": occlusion, "twins": twins, "crossover": crossover}
    files = {"rgb": rgb, "thermal": thermal, "depth": depth, "event": event}
    with _clear_errors():
        _check_out(out, json)
        from .pipeline_sata import PartialTracksError
        from .videos import open_video

        started = time.time()
        source, described = _source(video, files, scene, frames, conditions)
        prompts = [read_prompt(text) for text in prompt or ()] or _scene_prompts(source, task, scene)
        chosen = None if modalities is None else [name.strip() for name in modalities.split(",") if name.strip()]
        load = {"attention": attention, "device": device, "dtype": dtype}
        pipeline = _load(checkpoint, load)
        known = tuple(pipeline.model.config.modalities)
        opened = open_video(source, known, resample=resample)
        call = {"task": task, "prompts": prompts, "modalities": chosen}
        failure = None
        try:
            tracks = pipeline(opened, **call, callback=_tell_frame)
        except PartialTracksError as error:
            tracks, failure = error.tracks, error
        _clear_progress()
        described |= {"resample": resample, "prompts": prompt or []}
        record = _record(tracks.run, checkpoint, load, described, call, started)
        _write_all(out, opened, tracks, record, fps)
        if json is not None:
            from core.jsonfile import write_json

            write_json(json, {"run": tracks.run, "summary": tracks.summary()})
        typer.echo(_one_line(out, tracks))
        if failure is not None:
            raise failure


def _source(
    video: Path | None, files: dict[str, Path | None], scene: int | None, frames: int, conditions: dict[str, bool]
) -> tuple[Any, dict[str, Any]]:
    """What to track in, and how a run record calls it."""
    from .errors import TrackingError

    given = {name: str(path) for name, path in files.items() if path is not None}
    if sum((video is not None, bool(given), scene is not None)) != 1:
        raise TrackingError("give one of: a video or folder, files by sensor (--rgb, --thermal, ...), --scene SEED")
    if scene is None:
        if any(conditions.values()):
            raise TrackingError("--night, --occlusion, --twins and --crossover are of a generated scene: give --scene")
        source = str(video) if video is not None else given
        return source, {"source": source}
    from .scenes import generate_scene

    settings: dict[str, Any] = {"frames": frames, **conditions}
    return generate_scene(scene, **settings), {"scene": scene, "settings": settings}


def _scene_prompts(source: Any, task: str, scene: int | None) -> list[dict[str, Any]]:
    """A scene's own objects, each where it is first seen well; for one object the first of them."""
    if scene is None or task not in ("sot", "vos"):
        return []
    found = sorted(source.first_prompt.items(), key=lambda item: (item[1], item[0]))
    return [
        {"id": id, "frame": frame, "box": list(source.boxes[frame][id])}
        for id, frame in (found[:1] if task == "sot" else found)
    ]


def read_prompt(text: str) -> dict[str, Any]:
    """A prompt as the command line takes it, `ID[@FRAME]:box|points|mask:VALUES`, as a call takes it."""
    from .errors import TrackingError

    who, _, rest = text.partition(":")
    way, _, values = rest.partition(":")
    id, _, frame = who.partition("@")
    try:
        found = {"id": int(id), "frame": int(frame or 0)}
        if way == "box":
            return found | {"box": [float(value) for value in values.split(",")]}
        if way == "points":
            points = [[float(value) for value in point.split(",")] for point in values.split(";")]
            if any(len(point) != 3 for point in points):
                raise ValueError("a point is x, y and 1 or 0")
            labels = [int(point[2]) for point in points]
            return found | {"points": [point[:2] for point in points], "labels": labels}
    except ValueError as error:
        raise TrackingError(f"prompt {text[:80]!r} cannot be read: {HOW_TO_PROMPT}") from error
    if way != "mask":
        raise TrackingError(f"prompt {text[:80]!r} cannot be read: {HOW_TO_PROMPT}")
    from core.media import read_image

    return found | {"mask": read_image(values).max(2) > 127}


def _load(checkpoint: str, settings: Mapping[str, Any]) -> Any:
    from transformers.utils import logging

    from .pipeline_sata import SataPipeline

    logging.disable_progress_bar()
    _progress(f"loading {checkpoint}")
    return SataPipeline.from_pretrained(checkpoint, **settings)


def _record(
    run: dict[str, Any],
    checkpoint: str,
    load: dict[str, str],
    described: dict[str, Any],
    call: dict[str, Any],
    started: float,
) -> Any:
    """run.json, with the Python that does it again."""
    from core.runs import build_run_record

    if "scene" in described:
        options = "".join(f", {name}={value!r}" for name, value in described["settings"].items())
        made = "from plugins.tracking.scenes import generate_scene\n"
        made += f"video = generate_scene({described['scene']}{options})\n"
    else:
        made = f"video = {described['source']!r}\n"
    loading = ", ".join([repr(checkpoint), *(f"{name}={value!r}" for name, value in load.items())])
    texts = described["prompts"]
    if texts:
        made = f"from plugins.tracking.cli import read_prompt\n{made}"
    prompts = f"[read_prompt(text) for text in {texts!r}]" if texts else repr(call["prompts"])
    command = (
        f"from plugins.tracking import SataPipeline\n{made}pipe = SataPipeline.from_pretrained({loading})\n"
        f"tracks = pipe(video, task={call['task']!r}, prompts={prompts}, modalities={call['modalities']!r}, "
        f"resample={described['resample']!r})\n"
    )
    return build_run_record("tracking", run, checkpoint=checkpoint, command=command, started=started)


def _write_all(out: Path, video: Any, tracks: Any, record: Any, fps: float | None) -> None:
    """Every file, or none."""
    from core.jsonfile import write_json

    from .format_parts import new_folder
    from .formats import write_davis, write_mot, write_mots, write_youtube_vis_results
    from .overlay import write_overlay

    _progress("writing")
    with new_folder(out) as folder:
        write_overlay(folder / "overlay.mp4", video, tracks, fps=fps)
        write_mot(tracks, folder / "mot.txt")
        if tracks.task in ("vos", "mots"):
            apart = tracks.disjoint()  # MOTS and DAVIS leave each pixel to one object
            write_mots(apart, folder / "mots.txt")
            write_davis(apart, folder / "davis")
            write_youtube_vis_results({"video": tracks}, folder / "youtube_vis.json")
        write_json(folder / "tracks.json", tracks.summary() | {"instances": [_plain(one) for one in tracks.frames]})
        write_json(folder / "run.json", record)
    _clear_progress()


def _plain(frame: Any) -> dict[str, Any]:
    """The boxes of a frame for tracks.json."""
    return {"ids": frame.ids, "xyxy": frame.xyxy, "scores": frame.scores, "stale": frame.stale}


def _one_line(out: Path, tracks: Any) -> str:
    pace = tracks.run["ms_per_frame"]["median"]
    return (
        f"{out}: {len(tracks)} frames, {len(tracks.ids())} objects ({tracks.task}), {pace:.1f} ms per frame on "
        f"{tracks.run['device']}"
    )


@contextlib.contextmanager
def _clear_errors() -> Generator[None]:
    """What the user can put right is one line on stderr and exit code 2."""
    from core.errors import QuartetError

    from .errors import TrackingError

    try:
        yield
    except (TrackingError, QuartetError, OSError) as error:
        _clear_progress()
        typer.echo(f"error: {' '.join(str(error).split())}", err=True)
        raise typer.Exit(2) from None


def _check_out(out: Path, json: Path | None) -> None:
    """Before any work: everything that is asked for can be written."""
    from .errors import TrackingError

    if not out.resolve().parent.is_dir():
        raise TrackingError(f"{out.resolve().parent} is no folder: create it first")
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise TrackingError(f"{out} holds something already: empty it or give another folder")
    if json is not None and (json.is_dir() or not json.resolve().parent.is_dir()):
        raise TrackingError(f"{json} cannot be written: name a file in a folder that exists")


def _progress(text: str) -> None:
    if sys.stderr.isatty():
        typer.echo(f"\r\033[K{text}", nl=False, err=True)


def _clear_progress() -> None:
    _progress("")


def _tell_frame(number: int, total: int, instances: Any) -> None:
    _progress(f"frame {number + 1} of {total}: {len(instances)} objects")


for _name, _target, _summary in (
    ("train", "train:train_command", "Train the small model on scenes that this generates."),
    ("evaluate", "evaluate:evaluate_command", "Metrics per task, sensors and condition, beside a baseline."),
    ("bench", "benchmark:bench_command", "Frames per second and memory, beside other video trackers."),
):
    forward_command(app, _name, f"plugins.tracking.{_target}", _summary, _clear_errors)
