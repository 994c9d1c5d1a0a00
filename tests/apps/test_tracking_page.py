"""The tracking page's work and views, without a browser, on a small model with random weights."""

from __future__ import annotations

import csv
import json
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
import pytest
import torch

from apps.tracking import plots, results, views, work
from apps.tracking.endpoints import tracking_sensors
from apps.tracking.files import DOWNLOADS
from apps.tracking.player import live_tiles, player, timeline
from apps.tracking.request import MOST_LANES, TASKS, Request, SceneChoice
from apps.tracking.source import make_scene, true_prompts
from apps.tracking.switches import default_switches
from core.jobs import Job, default_store
from core.media import probe_video, write_video
from plugins.tracking.formats import read_mot, read_mots
from plugins.tracking.pipeline_sata import SataPipeline
from plugins.tracking.results import FrameInstances, Tracks
from plugins.tracking.session import SataSession
from tests.tracking.tiny import tiny_model, wake_experts

HOSTILE = '"><img src=x onerror=alert(1)>'
SCENE = SceneChoice(seed=3, frames=6, side=64)
SMALL = Request(scene=SCENE, pace=0)


@pytest.fixture(scope="module")
def pipeline() -> SataPipeline:
    """Random weights that hold on to whatever they are given."""
    always: dict[str, Any] = {"match_threshold": -1.0, "mask_affinity_threshold": 0.0, "new_track_threshold": 0.0}
    return SataPipeline(wake_experts(tiny_model(use_experts=True, **always)))


@pytest.fixture(scope="module")
def run_job(pipeline: SataPipeline) -> Any:
    """A function from a request to its finished job."""

    def run(request: Request) -> Job:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(work, "pipeline", lambda: pipeline)
            return default_store().wait(work.submit(request), 120)

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield run
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def job(run_job: Any) -> Job:
    """A scene whose objects are followed by mask, done."""
    done = run_job(SMALL)
    assert done.status == "done", done.error
    return done


@pytest.fixture
def result(job: Job) -> dict[str, Any]:
    assert job.result is not None
    return job.result


@pytest.fixture
def clip(tmp_path: Path) -> Any:
    """A function that writes a clip of noise and gives back its path."""

    def write(name: str, frames: int = 5, size: tuple[int, int] = (64, 80)) -> Path:
        pictures = np.random.default_rng(0).integers(0, 255, (frames, *size, 3), np.uint8)
        return write_video(tmp_path / f"{name}.mp4", pictures, 10)

    return write


def test_a_job_writes_every_download_in_formats_that_are_read_back(job: Job, result: dict[str, Any]) -> None:
    files = {path.name: path for path in job.artefacts}
    assert set(files) == set(DOWNLOADS)
    assert probe_video(files["overlay.mp4"]).frames == 6
    read_back = read_mot(files["mot.txt"], height=64, width=64, num_frames=6)
    assert read_back.ids() == tuple(row["id"] for row in result["objects"])
    assert set(read_mots(files["mots.txt"], height=64, width=64, num_frames=6).ids()) <= set(read_back.ids())
    assert [name for name in zipfile.ZipFile(files["davis.zip"]).namelist() if name.endswith(".png")] == [
        f"davis/{number:05d}.png" for number in range(6)
    ]
    rows = list(csv.DictReader(files["timeline.csv"].open(encoding="utf-8")))
    assert [row["sensors"] for row in rows] == ["rgb thermal"] * 6


def test_the_record_says_what_ran_and_how_to_do_it_again(job: Job, result: dict[str, Any]) -> None:
    record = json.loads(next(path for path in job.artefacts if path.name == "run.json").read_text("utf-8"))
    assert (record["plugin"], record["seed"], record["params"]["task"]) == ("tracking", 3, "vos")
    assert record["params"]["prompts"] == result["prompts"]
    assert record["attention"]["backend"]
    assert record["command"] == result["snippet"]
    compile(record["command"], "snippet", "exec")


def test_the_true_objects_are_followed_under_their_own_ids(result: dict[str, Any]) -> None:
    wanted = [prompt["id"] for prompt in true_prompts(make_scene(SCENE))]
    assert [row["id"] for row in result["objects"]] == wanted
    assert all(len(row["scores"]) == 6 for row in result["objects"])


def test_the_scores_are_those_of_the_plugins_own_metrics(job: Job, result: dict[str, Any]) -> None:
    from plugins.tracking.metrics import hota, j_and_f

    scene = make_scene(SCENE)
    mots = next(path for path in job.artefacts if path.name == "mots.txt")
    found = read_mots(mots, height=64, width=64, num_frames=6)
    asked = [prompt["id"] for prompt in result["prompts"]]
    truth = Tracks.from_id_map(np.where(np.isin(scene.ids, asked), scene.ids, 0))
    after = [replace(clip, frames=clip.frames[1:]) for clip in (truth, found)]  # the prompted frame does not count
    figures = result["truth"]["figures"]
    assert figures["j_and_f"] == pytest.approx(j_and_f(*after, pairing="ids").mean)
    assert figures["hota"] == pytest.approx(hota(*after, similarity="mask").hota)
    assert result["truth"]["overlap"][0] is None


@pytest.mark.parametrize("task", [task for task in TASKS if task != "vos"])
def test_every_task_ends_in_scores_and_the_files_of_its_kind(run_job: Any, task: str) -> None:
    done = run_job(replace(SMALL, task=task))
    assert done.status == "done", done.error
    masks = {"mots.txt", "davis.zip", "youtube_vis.json"}
    expected = set(DOWNLOADS) if task == "mots" else set(DOWNLOADS) - masks
    assert {path.name for path in done.artefacts} == expected
    assert set(views.CARDS[task]) <= set(done.result["truth"]["figures"])
    assert views.score_cards(done.result).count('class="score"') == 4


def test_a_sensor_that_is_cut_is_not_looked_at_and_gets_a_row_of_its_own(
    run_job: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[str, ...]] = []
    step = SataSession.step

    def cutting(self: SataSession, frames: Any) -> FrameInstances:
        seen.append(tuple(frames))
        running = next(job for job in default_store().list("tracking") if job.status == "running")
        sensors = {2: ["rgb"], 4: ["rgb", "thermal"]}.get(len(seen))
        if sensors:
            tracking_sensors(running.id, sensors)  # ty: ignore[invalid-argument-type]
        return step(self, frames)

    monkeypatch.setattr(SataSession, "step", cutting)
    done = run_job(SMALL)
    both, cut = ("rgb", "thermal"), ("rgb",)
    assert seen == [both, both, cut, cut, both, both]
    assert done.result["on"] == [list(each) for each in seen]
    assert [(row["sensors"], row["frames"]) for row in done.result["truth"]["by_sensors"]] == [
        (["rgb", "thermal"], 3),
        (["rgb"], 2),
    ]
    assert plots.cut_ranges(done.result) == [(2, 3)]


def test_with_every_sensor_cut_the_last_result_is_held_and_marked(
    run_job: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = SataSession.step

    def cutting(self: SataSession, frames: Any) -> FrameInstances:
        running = next(job for job in default_store().list("tracking") if job.status == "running")
        tracking_sensors(running.id, [])
        return step(self, frames)

    monkeypatch.setattr(SataSession, "step", cutting)
    done = run_job(SMALL)
    assert done.status == "done", done.error
    assert [row["stale_frames"] for row in done.result["objects"]] == [5] * len(done.result["objects"])
    assert all(score < 0 for row in done.result["objects"] for score in row["scores"][1:])
    assert 'opacity="0.35"' in timeline(done.result)


def test_switches_cut_before_the_first_frame_do_not_fail_the_job(run_job: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    start = SataPipeline.start_session

    def cutting(self: SataPipeline, *args: Any) -> SataSession:
        running = next(job for job in default_store().list("tracking") if job.status == "running")
        tracking_sensors(running.id, [])
        return start(self, *args)

    monkeypatch.setattr(SataPipeline, "start_session", cutting)
    done = run_job(SMALL)
    assert done.status == "done", done.error
    assert done.result["on"][0] == ["rgb", "thermal"]


def test_a_stop_ends_within_a_frame_and_keeps_what_is_done(
    pipeline: SataPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(work, "pipeline", lambda: pipeline)
    step, steps = SataSession.step, []

    def stopping(self: SataSession, frames: Any) -> FrameInstances:
        steps.append(1)
        if len(steps) == 3:
            default_store().stop(job_id)
        return step(self, frames)

    monkeypatch.setattr(SataSession, "step", stopping)
    job_id = work.submit(replace(SMALL, scene=replace(SCENE, frames=30)))
    stopped = default_store().wait(job_id, 60)
    assert (stopped.status, len(steps)) == ("stopped", 3)
    assert stopped.result is not None
    assert stopped.result["clip"]["frames"] == 3
    assert "overlay.mp4" in {path.name for path in stopped.artefacts}
    assert "3 of 30 frames are done" in views.notes(stopped.result)


def test_the_wait_for_a_slow_pace_ends_with_a_stop(pipeline: SataPipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(work, "pipeline", lambda: pipeline)
    step = SataSession.step

    def stopping(self: SataSession, frames: Any) -> FrameInstances:
        default_store().stop(job_id)
        return step(self, frames)

    monkeypatch.setattr(SataSession, "step", stopping)
    job_id = work.submit(replace(SMALL, pace=0.01))  # a frame every 100 seconds
    assert default_store().wait(job_id, 30).status == "stopped"


def test_a_broken_frame_in_the_middle_keeps_the_frames_before_it(run_job: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    step = SataSession.step

    def breaking(self: SataSession, frames: Any) -> FrameInstances:
        if self.frame == 4:
            raise work.input_error()(f"frame 4 is {HOSTILE}")
        return step(self, frames)

    monkeypatch.setattr(SataSession, "step", breaking)
    done = run_job(SMALL)
    assert done.status == "done", done.error
    assert done.result["clip"] == {"frames": 4, "of": 6, "fps": 10.0, "size": [64, 64]}
    assert "Frame 5 could not be tracked" in views.notes(done.result)
    assert "<img" not in views.notes(done.result)


def test_videos_of_ones_own_are_tracked_and_not_scored(run_job: Any, clip: Any) -> None:
    videos = {"rgb": clip("day"), "thermal": clip("heat")}
    prompts = ({"id": 7, "frame": 0, "box": [10, 10, 40, 50]},)
    done = run_job(Request(videos=videos, prompts=prompts, pace=0))
    assert done.status == "done", done.error
    assert [row["id"] for row in done.result["objects"]] == [7]
    assert done.result["truth"] is None
    assert "truth of your videos" in views.metrics_table(done.result)
    assert (views.score_cards(done.result), views.sensors_table(done.result)) == ("", "")
    assert plots.overlap_figure(done.result) is None
    assert "day.mp4" in done.result["snippet"]
    assert str(videos["rgb"].parent) not in json.dumps(done.result)  # where it lies on the server is nobody's business


@pytest.mark.parametrize(
    ("frames", "size", "message"),
    [(9, (64, 80), "different numbers of frames"), (5, (64, 96), "differ in size")],
)
def test_videos_that_do_not_match_are_refused_unless_they_may_be_resampled(
    run_job: Any, clip: Any, frames: int, size: tuple[int, int], message: str
) -> None:
    videos = {"rgb": clip("day"), "thermal": clip("heat", frames, size)}
    request = Request("mot", videos=videos, pace=0)
    refused = run_job(request)
    assert refused.status == "failed"
    assert message in refused.error
    assert run_job(replace(request, resample=True)).status == "done"


def test_a_file_that_is_no_video_is_named_without_its_place(run_job: Any, tmp_path: Path) -> None:
    file = tmp_path / "notes.mp4"
    file.write_text("#EXTM3U\nhttp://example.com/secret")
    failed = run_job(Request("mot", ("rgb",), videos={"rgb": file}, pace=0))
    assert failed.status == "failed"
    assert "notes.mp4" in failed.error
    assert str(tmp_path) not in failed.error


@pytest.mark.parametrize(
    ("box", "message"),
    [([10, 10, 10, 40], "no area"), ([200, 200, 300, 300], "no area"), (["a", 1, 2, 3], "not four numbers")],
)
def test_a_box_that_cannot_be_followed_is_said_to_be_so_before_any_work(
    run_job: Any, box: list[Any], message: str
) -> None:
    failed = run_job(replace(SMALL, prompts=({"id": 1, "frame": 0, "box": box},)))
    assert (failed.status, failed.artefacts) == ("failed", ())
    assert message in failed.error


def test_find_everything_also_follows_what_is_pointed_at(run_job: Any) -> None:
    done = run_job(replace(SMALL, task="mots", prompts=({"id": 70, "frame": 0, "box": [5, 5, 40, 40]},)))
    assert done.status == "done", done.error
    assert 70 in [row["id"] for row in done.result["objects"]]


def test_a_job_that_failed_gives_the_first_frame_back(run_job: Any) -> None:
    failed = run_job(replace(SMALL, prompts=({"id": 1, "frame": 0, "box": [1, 1, 1, 1]},)))
    with gr.Blocks():
        stage, status, *_ = results.progress(failed.id, "", results.Results())
    assert stage["visible"] is True
    assert "no area" in status


def test_a_sensor_that_a_job_does_not_have_cannot_be_switched(job: Job) -> None:
    with pytest.raises(gr.Error, match="no sensor 'depth'"):
        tracking_sensors(job.id, ["depth"])


def test_a_switch_after_the_end_leaves_nothing_behind(job: Job) -> None:
    tracking_sensors(job.id, ["rgb"])
    assert default_switches().get(job.id, ("rgb", "thermal")) == ("rgb", "thermal")


def test_the_experts_shares_add_up_and_the_least_used_one_is_named(result: dict[str, Any]) -> None:
    assert {row["group"] for row in result["experts"]} == {"common", "rgb", "thermal"}
    assert [sum(row["shares"]) for row in result["experts"]] == pytest.approx([1.0] * len(result["experts"]))
    assert "Least used" in views.experts_table(result["experts"])
    figure = plots.expert_figure(result["experts"])
    assert figure is not None
    assert np.array(figure.data[0].z, float).shape == (5, 12)


def test_what_a_visitor_wrote_is_escaped_wherever_it_is_shown(job: Job, result: dict[str, Any]) -> None:
    bad = result | {"ended": HOSTILE, "truth": result["truth"] | {"notes": [HOSTILE]}}
    bad |= {"run": result["run"] | {"checkpoint": HOSTILE, "device": HOSTILE}}
    files = {path.name: path for path in job.artefacts}
    preview = {"version": 1, "frames": 2, "on": [], "objects": 0, "stale": 0}
    tile = {"sensor": "rgb", "label": HOSTILE, "src": HOSTILE}
    pieces = (
        views.notes(bad),
        views.caption(bad),
        player(bad, files, lambda path: HOSTILE),
        live_tiles(preview | {"tiles": [tile]}),
    )
    assert [piece for piece in pieces if "<img src=x" in piece] == []


def test_a_video_that_is_no_longer_kept_is_said_to_be_gone(result: dict[str, Any]) -> None:
    assert "no longer kept" in player(result, {}, str)


def test_many_objects_are_shown_up_to_a_limit_and_the_rest_is_counted(result: dict[str, Any]) -> None:
    many = [result["objects"][0] | {"id": number} for number in range(100, 100 + MOST_LANES + 5)]
    crowded = result | {"objects": many}
    assert "5 more objects are in tracks.json" in views.objects_table(crowded)
    assert timeline(crowded).count('class="lane"') == MOST_LANES
