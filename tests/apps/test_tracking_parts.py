"""The parts of the tracking page that need no model: requests, switches, scores, drawing, first frames."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
import pytest

from apps.tracking import page, plots, results, scores, views
from apps.tracking.drawing import draw_tiles, grid
from apps.tracking.endpoints import checked_prompts, tracking_run
from apps.tracking.player import runs
from apps.tracking.request import CONDITIONS, MOST_PROMPTS, PROMPTED, SENSORS, TASKS, Request, SceneChoice
from apps.tracking.snippet import snippet
from apps.tracking.source import look_at_scene, look_at_videos, make_scene
from apps.tracking.switches import Switches
from core.errors import InputError
from core.jobs import Job
from core.media import write_video
from plugins.tracking.conditions import FLAGS, TRAINING_SEEDS
from plugins.tracking.modalities import MODALITIES
from plugins.tracking.results import TASKS as PLUGIN_TASKS
from plugins.tracking.results import FrameInstances, Tracks
from plugins.tracking.session_prompts import PROMPTED as PLUGIN_PROMPTED

ROOT = Path(__file__).resolve().parents[2]
SCENE = SceneChoice(seed=3, frames=6, side=64)
SMALL = Request(scene=SCENE, pace=0)


@pytest.fixture
def clip(tmp_path: Path) -> Any:
    """A function that writes a clip of noise and gives back its path."""

    def write(name: str, frames: int = 5, size: tuple[int, int] = (64, 80)) -> Path:
        pictures = np.random.default_rng(0).integers(0, 255, (frames, *size, 3), np.uint8)
        return write_video(tmp_path / f"{name}.mp4", pictures, 10)

    return write


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"task": "fly"}, "'fly' is no task"),
        ({"sensors": ("rgb", "radar")}, "'radar' is no sensor"),
        ({"sensors": ()}, "No sensor"),
        ({"prompts": ()}, "nothing to follow"),
        ({"videos": {"rgb": Path("x.mp4")}, "sensors": ("rgb",)}, "draw a box"),
        ({"videos": {"rgb": Path("x.mp4")}, "task": "mot"}, "Thermal is chosen, but there is no video"),
        ({"pace": -1.0}, "pace is -1"),
        ({"prompts": ({"id": 1},) * (MOST_PROMPTS + 1)}, "limit"),
        ({"prompts": ({"id": 1, "mask": [[True]]},)}, "'mask', which is not taken here"),
        ({"prompts": ({"id": 1, "points": [[1, 1]] * 100},)}, "more than 64 points"),
    ],
)
def test_a_request_that_makes_no_sense_is_refused_before_it_waits(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        replace(SMALL, **changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seed": -1}, "seed is -1"),
        ({"frames": 10**6}, "number of frames"),
        ({"side": 4096}, "side is 4096"),
        ({"conditions": ("rain",)}, "'rain' is no condition"),
    ],
)
def test_a_scene_out_of_bounds_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        replace(SCENE, **changes)


@pytest.mark.parametrize("prompts", ["box", 7, {"id": 1}, [1, 2], [["box"]]])
def test_prompts_that_are_no_list_of_objects_are_refused(prompts: Any) -> None:
    with pytest.raises(gr.Error, match="Prompts are a list"):
        checked_prompts(prompts)


def test_the_endpoint_takes_the_sensors_of_the_videos_and_keeps_their_order(
    clip: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Request] = []
    monkeypatch.setattr("apps.tracking.endpoints.submit", lambda request: asked.append(request) or "x")
    tracking_run("mot", event=str(clip("e")), rgb=str(clip("r")))
    tracking_run("mots", sensors=["depth", "rgb"])
    assert [request.sensors for request in asked] == [("rgb", "event"), ("rgb", "depth")]


def test_switches_keep_the_order_of_the_sensors_and_forget() -> None:
    switches = Switches()
    switches.set("a", ["thermal", "rgb"])
    assert switches.get("a", ("rgb", "thermal", "depth")) == ("rgb", "thermal")
    switches.forget("a")
    assert switches.get("a", ("rgb", "thermal")) == ("rgb", "thermal")


def test_switches_of_jobs_that_never_ran_do_not_pile_up() -> None:
    switches = Switches()
    for number in range(1000):
        switches.set(str(number), [])
    assert switches.get("0", ("rgb",)) == ("rgb",)
    assert switches.get("999", ("rgb",)) == ()


def test_a_drawn_box_is_scored_against_the_object_that_it_lies_on() -> None:
    scene = make_scene(SCENE)
    number, box = next(iter(scene.boxes[0].items()))
    x0, y0, x1, y1 = box
    nearly = [x0 - 1, y0 - 1, x1 + 2, y1]
    prompts = [{"id": 40, "frame": 0, "box": nearly}, {"id": 41, "frame": 0, "box": list(box)}]
    assert scores.true_objects(scene, prompts) == {40: number}  # the second lies on the same object
    truth, known, notes = scores.true_tracks("vos", scene, prompts, 6)
    assert truth.ids() == (40,)
    assert known == [40]
    assert "41" in notes[0]


def test_a_point_is_scored_against_the_object_under_it() -> None:
    scene = make_scene(SCENE)
    number = next(iter(scene.boxes[0]))
    y, x = (int(each[0]) for each in np.nonzero(scene.ids[0] == number))
    prompts = [{"id": 9, "frame": 0, "points": [[x, y], [0, 0]], "labels": [1, 0]}]
    assert scores.true_objects(scene, prompts) == {9: number}


def test_prompts_on_nothing_leave_nothing_to_score() -> None:
    scene = make_scene(SCENE)
    empty = Tracks((FrameInstances.empty((64, 64)),) * 6, 64, 64, "vos")
    prompts = [{"id": 1, "frame": 0, "points": [[0, 0]], "labels": [0]}]
    assert scores.score("vos", scene, prompts, empty, [("rgb",)] * 6) is None


@pytest.mark.parametrize("task", TASKS)
def test_the_truth_itself_scores_one(task: str) -> None:
    scene = make_scene(SCENE)
    prompts = [{"id": number, "frame": 0, "box": list(box)} for number, box in scene.boxes[0].items()]
    truth, _, _ = scores.true_tracks(task, scene, prompts, 6)
    found = scores.score(task, scene, prompts, replace(truth, task=task), [("rgb",)] * 6)
    assert found is not None
    shares = [name for name, (_, _, share) in views.METRICS.items() if share and name in found["figures"]]
    # The area under the success curve of a perfect track: an IoU of 1 is not above the last threshold.
    expected = {"success_auc": 20 / 21}
    assert {name: found["figures"][name] for name in shares} == pytest.approx(
        {name: expected.get(name, 1.0) for name in shares}
    )
    assert found["figures"]["id_switches"] == 0
    assert all(value == pytest.approx(1) for value in found["overlap"] if value is not None)


def test_overlap_without_ids_is_with_whatever_covers_an_object_best() -> None:
    def boxes(**rows: list[float]) -> Tracks:
        ids = np.array([int(name[1:]) for name in rows], np.int64)
        frame = FrameInstances(ids, np.array(list(rows.values()), np.float32).reshape(-1, 4), None, np.ones(len(ids)))
        return Tracks((frame,), 100, 100, "mot")

    truth, found = boxes(i1=[0, 0, 10, 10]), boxes(i2=[0, 0, 10, 5], i3=[50, 50, 60, 60])
    assert scores.overlaps(truth, found, by_id=False) == ([0.5], {1: 0.5})
    assert scores.overlaps(truth, found, by_id=True) == ([0.0], {1: 0.0})


def test_without_experts_the_page_says_so() -> None:
    assert plots.expert_figure([]) is None
    assert "no experts" in views.experts_table([])


def test_equal_neighbours_are_joined() -> None:
    assert runs([True, True, False]) == [(0, 2, True), (2, 3, False)]
    assert runs([]) == []


@pytest.mark.parametrize("name", ["a'); print('out.mp4", 'a"\n; rm -rf .mp4', "--help.mp4"])
def test_the_snippet_cannot_be_broken_out_of(name: str) -> None:
    request = Request("mot", ("rgb",), videos={"rgb": Path("/tmp") / name})
    code = snippet(request, ())
    compile(code, "snippet", "exec")
    assert repr(name) in code
    assert "/tmp" not in code


def test_an_overlay_shows_a_sensor_that_is_off_in_its_place() -> None:
    frame = np.full((40, 60, 3), 200, np.uint8)
    tiles = draw_tiles({"rgb": frame}, ("rgb", "thermal"), (40, 60), FrameInstances.empty())
    rgb, thermal = (np.asarray(tile).mean() for tile in tiles)
    assert (rgb > 180, thermal < 80) == (True, True)
    assert grid(tiles).shape == (256, 768, 3)
    assert grid(tiles * 2).shape == (512, 768, 3)


def test_an_overlay_lies_where_the_mask_is() -> None:
    mask = np.zeros((1, 40, 60), bool)
    mask[0, 10:20, 30:40] = True
    found = FrameInstances(np.array([1]), np.array([[30, 10, 40, 20]]), mask, np.ones(1))
    (plain,) = draw_tiles({"rgb": np.zeros((40, 60, 3), np.uint8)}, ("rgb",), (40, 60), FrameInstances.empty())
    (drawn,) = draw_tiles({"rgb": np.zeros((40, 60, 3), np.uint8)}, ("rgb",), (40, 60), found)
    changed = (np.asarray(drawn) != np.asarray(plain)).any(2)
    inside = np.zeros_like(changed)
    inside[int(9.5 * 6.4) : int(20.5 * 6.4), int(29.5 * 6.4) : int(40.5 * 6.4)] = True
    assert changed[70:125, 200:250].all()
    assert (changed & ~inside).mean() < 0.02  # the id beside it


def test_a_box_is_drawn_where_it_is() -> None:
    found = FrameInstances(np.array([1]), np.array([[30, 10, 40, 20]]), None, np.ones(1))
    (drawn,) = draw_tiles({"rgb": np.zeros((40, 60, 3), np.uint8)}, ("rgb",), (40, 60), found)
    lit = np.asarray(drawn).max(2) > 0
    assert lit[int(6.4 * 10) : int(6.4 * 20) + 1, int(6.4 * 30)].mean() > 0.9  # its left side
    assert not lit[100:110, 10:180].any()


def test_first_frames_of_a_scene_come_with_the_boxes_of_what_is_in_view() -> None:
    looked = look_at_scene(SCENE)
    assert [picture["name"] for picture in looked.pictures] == list(SENSORS)
    assert (looked.width, looked.height) == (64, 64)
    assert all(picture["src"].startswith("data:image/webp;base64,") for picture in looked.pictures)
    scene = make_scene(SCENE)
    for prompt in looked.prompts:
        assert list(scene.boxes[0][prompt["id"]]) == prompt["box"]


def test_first_frames_of_videos_keep_the_size_of_the_first(clip: Any) -> None:
    looked = look_at_videos({"thermal": clip("heat", 3, (32, 48)), "rgb": clip("day")})
    assert [picture["label"] for picture in looked.pictures] == ["RGB", "Thermal"]
    assert (looked.width, looked.height, looked.prompts) == (80, 64, ())


def test_a_choice_that_cannot_be_shown_says_why_in_the_place_of_the_picture() -> None:
    drawing, message = page._first_look(page.GENERATED, -1, [], 30, 128, None, None, None, None)
    assert drawing["pictures"] == [] if isinstance(drawing, dict) else drawing.props["pictures"] == []
    assert "seed is -1" in str(message["value"] if isinstance(message, dict) else message.value)


def test_a_running_job_shows_its_switches_as_they_stand_and_keeps_them_to_the_visitor() -> None:
    preview = {"version": 3, "frames": 6, "sensors": ["rgb", "thermal"], "on": ["rgb"], "objects": 0, "stale": 0}
    running = Job(
        id="abcdefghijklmnop",
        slug="tracking",
        status="running",
        params={"sensors": ["rgb", "thermal"]},
        preview=preview | {"tiles": []},
    )
    assert results._switches(running).value == ["rgb"]


def test_the_page_names_what_the_plugin_knows() -> None:
    assert tuple(SENSORS) == MODALITIES
    assert set(TASKS) == set(PLUGIN_TASKS)
    assert tuple(reversed(PLUGIN_PROMPTED)) == PROMPTED
    assert tuple(CONDITIONS) == FLAGS
    assert SceneChoice().seed not in TRAINING_SEEDS


def test_importing_the_page_imports_nothing_heavy() -> None:
    code = "import apps.tracking, sys; sys.exit('torch' in sys.modules or 'plugins.tracking' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, timeout=120).returncode == 0
