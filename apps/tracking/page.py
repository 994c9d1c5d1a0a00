"""The tracking page: a clip of several sensors in, every object with its id out, and what losing a sensor costs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gradio as gr

from apps.components import QUIET, note
from apps.job_pages import linked_job, remember_job
from apps.tracking.drawing import colour_of
from apps.tracking.endpoints import (
    tracking_file,
    tracking_result,
    tracking_run,
    tracking_sensors,
    tracking_stop,
)
from apps.tracking.player import DRAW_SCRIPT, STYLE
from apps.tracking.request import (
    CONDITIONS,
    FRAMES,
    MOST_FRAMES,
    MOST_SEED,
    MOST_SIDE,
    PACE,
    PROMPTED,
    SEED,
    SENSORS,
    SIDE,
    TASKS,
    SceneChoice,
)
from apps.tracking.results import Results, progress
from apps.tracking.source import FirstFrames, look_at_scene, look_at_videos
from apps.tracking.work import SLUG, input_error
from core.errors import QuartetError

INTRO = """What do you lose when **one** model replaces a zoo of specialists, one for each sensor and each task? Here
one small model takes RGB, thermal, depth and event video, follows what you point at or finds everything, as boxes or as
masks, and goes on when a sensor fails. Cut one while it runs."""
MODEL = """A small model, trained for this page on generated scenes of 128 × 128 pixels; it knows their shapes and
little else. It looks at two sensors at a time: RGB, and the first of thermal, depth and event that is on."""
PROMISE = """<div class="promise"><ul>
<li>One click on <b>Track</b> follows the objects that are boxed above, live, frame by frame.</li>
<li>While it runs, switch a sensor off and on again: the score of the frames without it stands beside the others.</li>
<li>Then: the video with overlays, a timeline of every object, scores against the truth, and which experts of the
model each sensor used.</li></ul></div>"""
GENERATED, OWN = "A generated scene", "My videos"
LIVE_SECONDS = 0.3  # the overlay is drawn anew so often
MOST_COLOURS = 64
VIDEO_TYPES = [".mp4", ".mov", ".webm", ".mkv", ".avi", ".gif"]


def build_page() -> gr.Blocks:
    """The page as blocks; nothing of the plugin is imported before a handler runs."""
    with gr.Blocks() as page:
        gr.HTML(f"<style>{STYLE}</style>", elem_id="tracking-style")
        gr.Markdown(INTRO, elem_id="tracking-intro")
        job_id = gr.Textbox(visible=False, label="Job")
        shown = gr.State("")
        timer = gr.Timer(LIVE_SECONDS, active=False)
        with gr.Row():
            with gr.Column(scale=2, min_width=320):
                inputs = _Inputs()
            with gr.Column(scale=5, min_width=320):
                stage = _Stage()
                results = Results()
        _connect(inputs, stage, results, job_id, shown, timer)
        page.load(_first_look, inputs.source, stage.looked, **QUIET)
        page.load(linked_job(SLUG), None, job_id, **QUIET)
        _offer_endpoints()
    return page


class _Inputs:
    """The left column's components."""

    def __init__(self) -> None:
        self.kind = gr.Radio([GENERATED, OWN], value=GENERATED, label="Clip", elem_id="tracking-kind")
        with gr.Column() as self.generated:
            self.conditions = gr.CheckboxGroup(
                [(text, name) for name, text in CONDITIONS.items()],
                label="Conditions",
                info="Night: RGB is black. Occlusion: bars hide objects. Twins: alike in RGB. Crossover: as warm as "
                "what is behind",
                elem_id="tracking-conditions",
            )
            with gr.Row():
                self.seed = gr.Number(SEED, label="Seed", precision=0, minimum=0, maximum=MOST_SEED, min_width=90)
                self.frames = gr.Number(
                    FRAMES, label="Frames", precision=0, minimum=2, maximum=MOST_FRAMES, min_width=90
                )
                self.side = gr.Number(
                    SIDE, label="Side, px", precision=0, minimum=64, maximum=MOST_SIDE, step=32, min_width=90
                )
        with gr.Column(visible=False) as self.own:
            gr.Markdown("Frame t of each shows the same moment and the same pixels.", elem_classes="quiet")
            self.videos = {
                name: gr.File(
                    label=f"{text} video",
                    file_types=VIDEO_TYPES,
                    type="filepath",
                    height=96,
                    elem_id=f"tracking-{name}",
                )
                for name, text in SENSORS.items()
            }
            self.resample = gr.Checkbox(
                False,
                label="Bring videos of other sizes and lengths to those of the first",
                elem_id="tracking-resample",
            )
        self.task = gr.Radio(
            [(text, name) for name, text in TASKS.items()], value="vos", label="Task", elem_id="tracking-task"
        )
        self.sensors = gr.CheckboxGroup(
            [(text, name) for name, text in SENSORS.items()],
            value=["rgb", "thermal"],
            label="Sensors to look at",
            elem_id="tracking-sensors",
        )
        self.pace = gr.Slider(
            0, 15, PACE, step=1, label="Pace, frames per second", info="0: as fast as it can", elem_id="tracking-pace"
        )
        self.run = gr.Button("Track", variant="primary", elem_id="tracking-run")
        self.stop = gr.Button("Stop", variant="stop", elem_id="tracking-stop")
        gr.Markdown(MODEL, elem_classes="quiet")

    @property
    def typed(self) -> list[Any]:
        """What a visitor changes to get another clip."""
        return [self.kind, self.seed, self.conditions, self.frames, self.side]

    @property
    def source(self) -> list[Any]:
        """What the first frames are looked up from."""
        return [*self.typed, *self.videos.values()]


class _Stage:
    """Where the first frame is drawn on; hidden while a job is shown in its place."""

    def __init__(self) -> None:
        with gr.Column(elem_id="tracking-stage") as self.box:
            self.hint = gr.HTML(_hint("vos"), elem_id="tracking-hint")
            self.message = gr.HTML("", visible=False, elem_id="tracking-message")
            self.drawing = gr.HTML(
                [],
                html_template='<div class="draw"></div>',
                js_on_load=DRAW_SCRIPT,
                elem_id="tracking-draw",
                pictures=[],
                colours=[],
                width=SIDE,
                height=SIDE,
            )
            self.true_boxes = gr.Button("Boxes of the true objects", size="sm", elem_id="tracking-true-boxes")
            gr.HTML(PROMISE, elem_id="tracking-promise")

    @property
    def looked(self) -> list[Any]:
        """What a look at the first frames changes."""
        return [self.drawing, self.message]


def _connect(
    inputs: _Inputs, stage: _Stage, results: Results, job_id: gr.Textbox, shown: gr.State, timer: gr.Timer
) -> None:
    inputs.run.click(
        _run,
        [
            inputs.kind,
            inputs.task,
            inputs.sensors,
            stage.drawing,
            inputs.seed,
            inputs.conditions,
            inputs.frames,
            inputs.side,
            inputs.pace,
            *inputs.videos.values(),
            inputs.resample,
        ],
        job_id,
        concurrency_id="accelerator",
        **QUIET,
    )
    inputs.stop.click(_stop, job_id, None, queue=False, **QUIET)
    inputs.kind.change(
        lambda kind: [gr.update(visible=(kind == GENERATED) is generated) for generated in (True, False, True)],
        inputs.kind,
        [inputs.generated, inputs.own, stage.true_boxes],
        **QUIET,
    )
    changes = [each.change for each in inputs.source]
    gr.on(changes, _first_look, inputs.source, stage.looked, trigger_mode="always_last", **QUIET)
    # Another clip, or "draw again": back from the result to the first frame.
    back = [stage.box, results.live, results.status, results.box]
    gr.on([*(each.input for each in inputs.typed), results.again.click], _back, None, back, **QUIET)
    stage.true_boxes.click(_first_look, inputs.source, stage.looked, **QUIET)
    inputs.task.change(_hint, inputs.task, stage.hint, **QUIET)
    results.switches.input(_switch, [job_id, results.switches], None, queue=False, **QUIET)
    job_id.change(None, job_id, None, js=remember_job(SLUG), api_visibility="private")

    def poll(job: str, already: str) -> list[Any]:
        return progress(job, already, results)

    gr.on(
        [timer.tick, job_id.change],
        poll,
        [job_id, shown],
        [stage.box, results.status, timer, shown, results.live, results.switches, *results.components],
        concurrency_limit=8,  # it only looks; one visitor's poll need not wait for another's
        **QUIET,
    )


def _offer_endpoints() -> None:
    """What programs call."""
    gr.api(tracking_result, api_name="tracking_result", queue=False)
    gr.api(tracking_stop, api_name="tracking_stop", queue=False)
    gr.api(tracking_sensors, api_name="tracking_sensors", queue=False)
    # With components of its own, for only those take files and hand them over.
    hidden: dict[str, Any] = {"visible": False}
    job_id, name = gr.Textbox(label="job_id", **hidden), gr.Textbox(label="name", **hidden)
    file = gr.File(label="File", **hidden)
    gr.Button(**hidden).click(tracking_file, [job_id, name], file, api_name="tracking_file", queue=False)
    arguments: list[Any] = [
        gr.Radio(list(TASKS), value="vos", label="task", **hidden),
        gr.CheckboxGroup(list(SENSORS), value=None, label="sensors", **hidden),
        gr.JSON(value=None, label="prompts", **hidden),
        gr.Number(SEED, precision=0, label="seed", **hidden),
        gr.CheckboxGroup(list(CONDITIONS), value=[], label="conditions", **hidden),
        gr.Number(FRAMES, precision=0, label="frames", **hidden),
        gr.Number(SIDE, precision=0, label="size", **hidden),
        gr.Number(0, label="pace", **hidden),
        *(gr.File(label=name, type="filepath", **hidden) for name in SENSORS),
        gr.Checkbox(False, label="resample", **hidden),
    ]
    gr.Button(**hidden).click(
        tracking_run,
        arguments,
        gr.Textbox(label="job", **hidden),
        api_name="tracking_run",
        concurrency_id="accelerator",
    )


def _run(
    kind: str,
    task: str,
    sensors: list[str],
    drawn: Any,
    seed: float | None,
    conditions: list[str],
    frames: float | None,
    side: float | None,
    pace: float,
    *rest: Any,
) -> str:
    """The button: as the endpoint, with what is on the page."""
    *videos, resample = rest
    given = dict(zip(SENSORS, videos, strict=True)) if kind == OWN else {}
    if kind == OWN and not any(given.values()):
        raise gr.Error(
            "There is no video yet: add one for each sensor, or take a generated scene.", print_exception=False
        )
    if not sensors:
        raise gr.Error("No sensor is chosen: choose at least one.", print_exception=False)
    if kind == OWN:
        sensors = [name for name in sensors if given[name]] or [name for name in given if given[name]]
    return tracking_run(
        task=task,
        sensors=sensors,
        prompts=(drawn or []) if task in PROMPTED else [],
        seed=int(seed or 0),
        conditions=conditions,
        frames=int(frames or 0),
        size=int(side or 0),
        pace=pace,
        resample=resample,
        **given,
    )


def _first_look(
    kind: str, seed: float | None, conditions: list[str], frames: float | None, side: float | None, *videos: str | None
) -> list[Any]:
    """The first frame of each sensor to draw on; for a generated scene with the boxes of its objects."""
    given = {name: Path(path) for name, path in zip(SENSORS, videos, strict=True) if path}
    looked, message = FirstFrames((), SIDE, SIDE), ""
    try:
        if kind == GENERATED:
            looked = look_at_scene(_scene(seed, conditions, frames, side))
        elif given:
            looked = look_at_videos(given)
        else:
            message = '<p class="quiet">Add a video to see its first frame here.</p>'
    except (QuartetError, input_error()) as error:
        message = note(str(error))
    return [_drawing(looked), gr.HTML(value=message, visible=bool(message))]


def _scene(seed: float | None, conditions: Sequence[str], frames: float | None, side: float | None) -> SceneChoice:
    return SceneChoice(int(seed or 0), tuple(conditions), int(frames or FRAMES), int(side or SIDE))


def _drawing(looked: FirstFrames) -> Any:
    return gr.HTML(
        value=list(looked.prompts),
        pictures=list(looked.pictures),
        colours=[colour_of(identity) for identity in range(MOST_COLOURS)] if looked.pictures else [],
        width=looked.width,
        height=looked.height,
    )


def _hint(task: str) -> str:
    """What to do with the first frame."""
    if task in PROMPTED:
        return (
            "<p>Drag a box around each object to follow, on any sensor: they see the same. Or mark points, or type "
            "numbers.</p>"
        )
    return "<p>This task finds objects by itself: what is drawn here is not used.</p>"


def _back() -> list[Any]:
    return [gr.update(visible=True), "", "", gr.update(visible=False)]


def _stop(job_id: str) -> None:
    if job_id:
        tracking_stop(job_id)


def _switch(job_id: str, sensors: Sequence[str]) -> None:
    if job_id:
        tracking_sensors(job_id, list(sensors))  # ty: ignore[invalid-argument-type]
