"""SataPipeline: videos to tracks, streaming, bad input, and what is not lost when something fails."""

from __future__ import annotations

import json
import pickle
import threading
from typing import Any

import numpy as np
import pytest
import torch

from core.runs import build_run_record
from plugins.tracking import PartialTracksError, SataPipeline, TrackingError
from plugins.tracking.results import Tracks
from plugins.tracking.session import SataSession
from plugins.tracking.videos import VideoLimits

from .pipelines import BOX, SIDE, small_scene, tiny_pipeline

BLACK = np.zeros((3, SIDE, SIDE, 3), np.uint8)


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def pipe() -> SataPipeline:
    return tiny_pipeline()


@pytest.fixture(scope="module")
def scene() -> Any:
    return small_scene()


class TestTracking:
    def test_prompted_ids_come_back_verbatim_from_their_frame_on(self, pipe, scene):
        prompts = [{"id": 42, "frame": 0, "box": [5, 5, 30, 30]}, {"id": 7, "frame": 2, "points": [[40.0, 40.0]]}]
        tracks = pipe(scene, task="vos", prompts=prompts)
        assert [frame.ids.tolist() for frame in tracks.frames[:3]] == [[42], [42], [7, 42]]
        assert tracks.frames[0].masks.shape == (1, SIDE, SIDE)
        assert (tracks.task, len(tracks), tracks.height, tracks.width) == ("vos", 4, SIDE, SIDE)

    def test_automatic_ids_start_above_the_prompted_ones(self, pipe, scene):
        tracks = pipe(scene, task="mots", prompts=[{"id": 42, "frame": 3, "box": [5, 5, 30, 30]}])
        assert len(tracks.ids()) > 1
        assert min(tracks.ids()) == 42

    @pytest.mark.parametrize("task", ["sot", "mots"])
    def test_streaming_equals_batch(self, pipe, scene, task):
        prompts = [BOX, {"id": 9, "frame": 2, "mask": scene.ids[2] == 1}]
        whole = pipe(scene, task=task, prompts=prompts, modalities=["rgb", "thermal"])
        streamed = list(pipe.stream(scene, task=task, prompts=prompts, modalities=["rgb", "thermal"]))
        session = pipe.start_session(task=task)
        session.add_prompt(7, box=(5, 5, 30, 30))
        assert session.add_prompt(9, mask=scene.ids[2] == 1, frame=2) == 2
        stepped = [session.step({name: scene.frames[name][t] for name in ("rgb", "thermal")}) for t in range(4)]
        assert list(whole.frames) == streamed == stepped

    def test_what_is_found_in_a_frame_does_not_depend_on_later_ones(self, pipe, scene):
        short = {name: frames[:2] for name, frames in scene.frames.items()}
        assert list(pipe(short, task="mots").frames) == list(pipe(scene, task="mots").frames[:2])

    def test_a_stream_without_an_end_is_tracked_as_it_comes(self, pipe, scene):
        def camera() -> Any:
            while True:
                yield {"rgb": scene.frames["rgb"][0]}

        stream = pipe.stream(camera(), task="vos", prompts=[BOX])
        assert [next(stream).ids.tolist() for _ in range(3)] == [[7]] * 3

    def test_a_live_stream_is_not_asked_for_a_frame_before_the_last_one_is_told(self, pipe, scene):
        asked = []

        def camera() -> Any:
            for frame in scene.frames["rgb"]:
                asked.append(1)
                yield {"rgb": frame}

        for told, _ in enumerate(pipe.stream(camera(), task="vos", prompts=[BOX]), 1):
            assert len(asked) == told

    def test_a_whole_video_is_looked_at_ahead_on_another_thread(self, pipe, scene, monkeypatch):
        looked = []
        look = SataSession.look

        def noted(session: SataSession, frames: Any) -> Any:
            looked.append(threading.current_thread())
            return look(session, frames)

        monkeypatch.setattr(SataSession, "look", noted)
        next(stream := pipe.stream(scene, task="vos", prompts=[BOX]))
        stream.close()
        assert len(looked) == 2  # the first, and the second beside it; no more where nobody asks
        assert threading.current_thread() not in looked

    def test_a_stream_is_checked_before_its_first_frame_is_asked_for(self, pipe, scene):
        with pytest.raises(TrackingError, match="there is no prompt"):
            pipe.stream(scene, task="vos")

    def test_only_the_sensors_asked_for_are_looked_at(self, pipe, scene):
        alone = pipe({"rgb": scene.frames["rgb"]}, task="mots")
        assert pipe(scene, task="mots", modalities=["rgb"]) == alone
        session = pipe.start_session(task="mots", modalities=("rgb",))
        frames = [session.step({name: scene.frames[name][t] for name in scene.frames}) for t in range(4)]
        assert frames == list(alone.frames)

    def test_a_list_is_several_videos(self, pipe, scene):
        videos = [{"rgb": scene.frames["rgb"]}, {"thermal": scene.frames["thermal"]}]
        both = pipe(videos, task="vos", prompts=[BOX])
        assert both == [pipe(video, task="vos", prompts=[BOX]) for video in videos]
        assert both[0] != both[1]

    def test_sensors_of_other_sizes_and_lengths_are_brought_together_when_asked(self, pipe, scene):
        video = {"rgb": scene.frames["rgb"], "thermal": scene.frames["thermal"][:3, ::2, ::2]}
        assert len(pipe(video, task="vos", prompts=[BOX], resample=True)) == 4

    def test_two_threads_share_a_pipeline_without_mixing_their_videos(self, pipe, scene):
        alone = {task: pipe(scene, task=task, prompts=[BOX]) for task in ("vos", "mots")}
        found: dict[str, Tracks] = {}

        def work(task: str) -> None:
            found[task] = pipe(scene, task=task, prompts=[BOX])

        threads = [threading.Thread(target=work, args=(task,)) for task in alone]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert found == alone


class TestMissingSensors:
    def test_a_sensor_that_is_cut_mid_clip_is_done_without(self, pipe):
        tracks = pipe(small_scene(missing={"thermal": [(1, 3)]}), task="vos", prompts=[BOX])
        assert [frame.ids.tolist() for frame in tracks.frames] == [[7]] * 4
        assert not any(frame.stale.any() for frame in tracks.frames)
        assert tracks.run["video"]["missing"]["thermal"] == 2

    def test_without_any_sensor_the_last_result_is_held_and_marked(self, pipe):
        gap = {name: [(1, 3)] for name in ("rgb", "thermal", "depth", "event")}
        tracks = pipe(small_scene(missing=gap), task="vos", prompts=[BOX])
        assert [frame.stale.tolist() for frame in tracks.frames] == [[False], [True], [True], [False]]
        np.testing.assert_array_equal(tracks.frames[1].masks, tracks.frames[0].masks)

    def test_a_prompt_in_the_dark_is_taken_up_in_the_next_frame_with_light(self, pipe):
        gap = {name: [(1, 2)] for name in ("rgb", "thermal", "depth", "event")}
        tracks = pipe(small_scene(missing=gap), task="vos", prompts=[BOX, BOX | {"id": 8, "frame": 1}])
        assert [frame.ids.tolist() for frame in tracks.frames[:3]] == [[7], [7], [7, 8]]

    def test_a_removed_object_is_not_held(self, pipe, scene):
        session = pipe.start_session(task="vos")
        for id in (1, 2):
            session.add_prompt(id, box=(5, 5, 30, 30))
        session.step({"rgb": scene.frames["rgb"][0]})
        session.remove(1)
        assert session.step({}).ids.tolist() == [2]


class TestBadInput:
    @pytest.mark.parametrize(
        ("call", "message"),
        [
            ({"task": None}, "no task was given"),
            ({"task": "track"}, "unknown task 'track'"),
            ({"task": "sot", "prompts": []}, "there is no prompt"),
            ({"task": "vos", "prompts": None}, "there is no prompt"),
            ({"prompts": BOX}, "give a list of prompts"),
            ({"prompts": "box"}, "give a list of prompts"),
            ({"prompts": [[5, 5, 30, 30]]}, "prompt 0 has no id"),
            ({"prompts": [{"box": [5, 5, 30, 30]}]}, "prompt 0 has no id"),
            ({"prompts": [BOX | {"label": 1}]}, "'label', which is not known"),
            ({"prompts": [BOX, BOX]}, "id 7 is prompted for more than once"),
            ({"prompts": [BOX | {"id": "7"}]}, "not a whole number"),
            ({"prompts": [BOX | {"id": 2**40}]}, "give a smaller one"),
            ({"prompts": [BOX | {"frame": 4}]}, "give a frame from 0 to 3"),
            ({"prompts": [BOX | {"frame": -1}]}, "not a whole number"),
            ({"prompts": [{"id": 1}]}, "a box, a mask or points"),
            ({"prompts": [BOX | {"points": [[1.0, 2.0]]}]}, "box and points was given"),
            ({"prompts": [BOX | {"box": [70, 5, 90, 30]}]}, "no area inside the frame"),
            ({"prompts": [BOX | {"box": [5, 5, 5, 30]}]}, "no area inside the frame"),
            ({"prompts": [BOX | {"box": "abcd"}]}, "not four numbers"),
            ({"prompts": [BOX | {"box": [5, 5, None, 30]}]}, "not four numbers"),
            ({"prompts": [{"id": 1, "points": [["a", "b"]]}]}, "not numbers"),
            ({"prompts": [{"id": 1, "mask": np.ones((3, 3), bool)}]}, "mask is bool"),
            ({"modalities": ["sonar"]}, "unknown modality 'sonar'"),
            ({"modalities": []}, "modalities is empty"),
            ({"modalities": ["rgb", "rgb"]}, "name each once"),
            ({"limits": VideoLimits(max_frames=3)}, "limit 3"),
        ],
    )
    def test_a_bad_call_is_refused_before_any_work(self, pipe, scene, call, message):
        steps: list[int] = []
        arguments = {"task": "vos", "prompts": [BOX]} | call
        with pytest.raises(TrackingError, match=message) as caught:
            pipe(scene, **arguments, callback=lambda number, total, found: steps.append(number))
        assert not isinstance(caught.value, PartialTracksError)
        assert steps == []

    @pytest.mark.parametrize(
        ("video", "message"),
        [
            ({"rgb": BLACK, "thermal": BLACK[:2]}, "resample=True"),
            ({"rgb": BLACK, "thermal": BLACK[:, :32]}, "resample=True"),
            ({"radar": BLACK}, "unknown modality 'radar'"),
            ({"rgb": "nowhere.mp4"}, "there is no file"),
            ({"rgb": [None, BLACK[0]]}, "the first one, has no sensor at all"),
        ],
    )
    def test_a_bad_video_is_refused(self, pipe, video, message):
        with pytest.raises(TrackingError, match=message):
            pipe(video, task="mot")

    def test_a_prompt_for_a_frame_that_is_over_is_refused(self, pipe, scene):
        session = pipe.start_session(task="mots")
        session.step({"rgb": scene.frames["rgb"][0]})
        with pytest.raises(TrackingError, match="frame 0 is over, the next one is 1"):
            session.add_prompt(99, box=(5, 5, 30, 30), frame=0)

    def test_once_the_size_is_known_a_bad_prompt_is_refused_at_once(self, pipe, scene):
        session = pipe.start_session(task="mots")
        session.step({"rgb": scene.frames["rgb"][0]})
        with pytest.raises(TrackingError, match="no area"):
            session.add_prompt(99, box=(70, 70, 90, 90))
        assert session.add_prompt(99, box=(5, 5, 30, 30)) == 1


class TestWhatIsDoneIsNotLost:
    @pytest.mark.parametrize("part", ["look", "take"])  # the one of frame 2 runs while frame 1 is followed
    def test_an_error_mid_video_carries_the_frames_before(self, pipe, scene, part, monkeypatch):
        whole = pipe(scene, task="mots")
        work = getattr(SataSession, part)
        calls = []

        def failing(session: SataSession, given: Any) -> Any:
            calls.append(part)
            if len(calls) == 3:
                raise RuntimeError("out of memory")
            return work(session, given)

        monkeypatch.setattr(SataSession, part, failing)
        with pytest.raises(PartialTracksError, match="frame 2 of 4 could not be tracked") as caught:
            pipe(scene, task="mots")
        assert list(caught.value.tracks.frames) == list(whole.frames[:2])
        assert caught.value.frame == 2
        assert pipe.run["frames"] == 2
        assert isinstance(caught.value.__cause__, RuntimeError)
        again = pickle.loads(pickle.dumps(caught.value))  # noqa: S301  # as a worker process hands it over
        assert again.tracks == caught.value.tracks

    def test_a_callback_sees_every_frame_and_may_stop_the_work_in_its_own_way(self, pipe, scene):
        class Stop(Exception):  # noqa: N818
            pass

        seen = []

        def tell(number: int, total: int, found: Any) -> None:
            seen.append((number, total, len(found)))
            if number == 1:
                raise Stop

        with pytest.raises(Stop):
            pipe(scene, task="vos", prompts=[BOX], callback=tell)
        assert seen == [(0, 4, 1), (1, 4, 1)]
        assert len(pipe(scene, task="vos", prompts=[BOX])) == 4


class TestRunRecord:
    def test_it_says_what_was_asked_where_it_ran_and_what_it_cost(self, pipe, scene):
        mask = np.zeros((SIDE, SIDE), bool)
        mask[4:9, 10:30] = True
        tracks = pipe(scene, task="vos", prompts=[BOX, {"id": 1, "mask": mask}], modalities=["rgb", "depth"])
        run = json.loads(json.dumps(tracks.run))
        assert run == pipe.run
        assert run["params"]["modalities"] == ["rgb", "depth"]
        assert run["params"]["prompts"][0]["box"] == [5.0, 5.0, 30.0, 30.0]
        assert run["params"]["prompts"][1]["mask"] == {"pixels": 100, "box": [10, 4, 30, 9]}
        assert (run["device"], run["frames"], run["dtype"]) == ("cpu", 4, "float32")
        assert 0 < run["ms_per_frame"]["median"] <= run["ms_per_frame"]["p95"]
        assert run["timings"]["total"] >= 4 * run["ms_per_frame"]["mean"] / 1000
        assert run["attention"]["backend"] == "sdpa"
        assert build_run_record("tracking", run).params == run["params"]

    def test_it_counts_what_the_experts_were_selected_for(self, pipe, scene):
        blocks = pipe(scene, task="mot", modalities=["rgb", "event"]).run["experts"]
        assert len(blocks) == 5
        for block in blocks:
            assert sorted(block) == ["common", "event", "rgb"]
            assert sum(block["common"]) == sum(block["rgb"]) + sum(block["event"])
