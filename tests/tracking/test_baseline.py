"""The ByteTrack baseline: it sees the very detections that our matching sees, and gets every chance."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest

from plugins.tracking import baseline
from plugins.tracking.baseline import ByteTrackSettings, byte_track, byte_trackers, detections_of, tracker_class
from plugins.tracking.candidates import Candidates
from plugins.tracking.errors import TrackingError
from plugins.tracking.evaluate_run import Case, Clips, run_cases, shown
from plugins.tracking.metrics import hota
from plugins.tracking.results import FrameInstances, Tracks
from plugins.tracking.session import SataSession
from tests.tracking.clips import mask_frame, rectangle
from tests.tracking.tiny import tiny_config, tiny_model, wake_experts

SIDE = 64
SHAPE = (SIDE, SIDE)
LOOSE: dict[str, Any] = {"mask_affinity_threshold": 0.1, "match_threshold": -1.0, "keep_threshold": 0.0}


class FakeByteTrack:
    """In the place of the library: notes what it is given, answers in another order, names what `named` says."""

    made: ClassVar[list[FakeByteTrack]] = []
    named: ClassVar[list[list[int]] | None] = None

    def __init__(self, **settings: Any) -> None:
        self.settings, self.given = settings, []
        self.made.append(self)

    def update(self, detections: Any) -> Any:
        self.given.append((detections.xyxy.copy(), detections.mask.copy(), detections.confidence.copy()))
        assert detections.tracker_id is None
        order = np.arange(len(detections))[::-1]
        names = np.arange(len(detections)) if self.named is None else np.array(self.named[len(self.given) - 1], int)
        found = detections[order]
        found.tracker_id = names[order]
        return found


@pytest.fixture
def fake(monkeypatch):
    monkeypatch.setitem(sys.modules, "trackers", SimpleNamespace(ByteTrackTracker=FakeByteTrack))
    monkeypatch.setattr(FakeByteTrack, "made", [])
    monkeypatch.setattr(FakeByteTrack, "named", None)
    return FakeByteTrack


def squares(*places: tuple[int, int], scores: tuple[float, ...] | None = None) -> FrameInstances:
    """Ten pixels a side, numbered as detections are."""
    frame = mask_frame({row: rectangle(x, y, 10, 10, SHAPE) for row, (x, y) in enumerate(places)}, SHAPE)
    return FrameInstances(frame.ids, frame.xyxy, frame.masks, np.array(scores or [0.9] * len(places)))


class TestDetections:
    def test_the_baseline_is_given_the_very_detections_of_the_session(self, fake):
        model = wake_experts(tiny_model(**LOOSE, new_track_threshold=0.0))
        clips, case = Clips((3,), 4, SHAPE), Case("mots", "twins")
        rivals = byte_trackers(model.config)
        run_cases(lambda task: SataSession(model, task, longest=SIDE), [case], clips, rivals=rivals)

        seen: list[Candidates] = []
        session = SataSession(model, "mots", longest=SIDE)
        follow = session.follow  # whose candidates have their masks as the session ends with them
        session.follow = lambda features: seen.append(follow(features)) or seen[-1]
        scene = clips.scene(3, "twins")
        for frame in range(4):
            session.step(shown(case, scene, frame))
        assert len(fake.made) == len(rivals) == 2
        for tracker in fake.made:
            assert len(tracker.given) == 4
            assert sum(len(boxes) for boxes, _, _ in tracker.given) > 4
            for found, (boxes, masks, scores) in zip(seen, tracker.given, strict=True):
                expected = detections_of(found, SIDE, SIDE)
                np.testing.assert_array_equal(boxes, expected.xyxy)
                np.testing.assert_array_equal(masks, expected.masks)
                np.testing.assert_array_equal(scores, expected.scores)

    def test_repeats_and_empty_masks_are_no_detections(self):
        import torch

        masks = torch.zeros(4, 8, 8)
        masks[0, :4], masks[1, :4], masks[2, 4:, 4:] = 1, 1, 1
        boxes = torch.tensor([[0, 0, 1, 0.5], [0, 0, 1, 0.5], [0.5, 0.5, 1, 1], [0.25, 0.25, 0.5, 0.5]])
        found = Candidates(boxes, masks, torch.tensor([0.9, 0.8, 0.7, 0.6]), torch.ones(4, dtype=torch.bool))
        frame = detections_of(found, 16, 16)
        assert frame.xyxy.tolist() == [[0, 0, 16, 8], [8, 8, 16, 16]]
        assert frame.scores.tolist() == pytest.approx([0.9, 0.7])
        assert len(detections_of(found.take(torch.zeros(0, dtype=torch.int64)), 16, 16)) == 0


class TestNames:
    def test_each_detection_keeps_its_mask_whatever_order_the_library_answers_in(self, fake):
        fake.named = [[5, 7], [5, 7]]
        frames = [squares((0, 0), (30, 30)), squares((2, 0), (32, 30))]
        tracks = byte_track(frames, SIDE, SIDE)
        assert [frame.ids.tolist() for frame in tracks.frames] == [[5, 7], [5, 7]]
        for given, found in zip(frames, tracks.frames, strict=True):
            np.testing.assert_array_equal(given.masks, found.masks)

    def test_what_gets_no_id_is_left_out(self, fake):
        fake.named = [[5, -1], [5, -1]]
        tracks = byte_track([squares((0, 0), (30, 30))] * 2, SIDE, SIDE)
        assert [frame.ids.tolist() for frame in tracks.frames] == [[5], [5]]

    def test_the_detection_that_opened_a_track_gets_its_id_too(self, fake):
        fake.named = [[-1, -1], [-1, 4], [3, 4]]
        frames = [squares((0, 0), (30, 30)), squares((1, 0), (31, 30)), squares((2, 0), (32, 30))]
        tracks = byte_track(frames, SIDE, SIDE, settings=ByteTrackSettings(minimum_consecutive_frames=1))
        assert [frame.ids.tolist() for frame in tracks.frames] == [[4], [3, 4], [3, 4]]

    def test_a_nameless_detection_elsewhere_stays_nameless(self, fake):
        fake.named = [[-1], [4]]
        tracks = byte_track([squares((40, 40)), squares((0, 0))], SIDE, SIDE)
        assert [frame.ids.tolist() for frame in tracks.frames] == [[], [4]]

    def test_frames_without_detections_are_empty(self, fake):
        fake.named = [[], [1], []]
        nothing = FrameInstances.empty(SHAPE)
        tracks = byte_track([nothing, squares((0, 0)), nothing], SIDE, SIDE)
        assert [len(frame) for frame in tracks.frames] == [0, 1, 0]

    def test_for_mot_there_are_boxes_only(self, fake):
        tracks = byte_track([squares((0, 0))], SIDE, SIDE, "mot")
        assert tracks.task == "mot"
        assert tracks.frames[0].masks is None


class TestSettings:
    def test_one_baseline_is_as_lenient_as_we_are_and_one_is_the_librarys(self, fake):
        config = tiny_config(new_track_threshold=0.4, max_missed_frames=17)
        for associate in byte_trackers(config).values():
            associate([squares((0, 0))], SIDE, SIDE, "mots")
        ours, own = (tracker.settings for tracker in fake.made)
        assert ours["track_activation_threshold"] == ours["high_conf_det_threshold"] == 0.4
        assert ours["lost_track_buffer"] == 17
        assert ours["minimum_consecutive_frames"] == 1
        assert own["track_activation_threshold"] == 0.7

    @pytest.mark.parametrize("found", [None, SimpleNamespace()])
    def test_without_the_library_the_error_says_what_to_install(self, monkeypatch, found):
        monkeypatch.setitem(sys.modules, "trackers", found)
        with pytest.raises(TrackingError, match="pip install 'trackers"):
            byte_trackers(tiny_config())


class TestTheLibrary:
    def test_its_defaults_are_what_we_say_they_are(self):
        import inspect

        defaults = inspect.signature(tracker_class().__init__).parameters
        for name, value in vars(ByteTrackSettings()).items():
            assert defaults[name].default == value
        assert defaults["frame_rate"].default == baseline.FRAME_RATE

    def test_it_follows_objects_that_move_slowly(self):
        frames = [squares((2 * step, 0), (50 - 2 * step, 40)) for step in range(8)]
        truth = Tracks(tuple(frames), SIDE, SIDE, "mots")
        for settings in (ByteTrackSettings(), ByteTrackSettings.like(tiny_config())):
            tracks = byte_track(frames, SIDE, SIDE, settings=settings)
            assert len(tracks.ids()) == 2
            assert hota(truth, tracks, similarity="mask").hota == 1

    def test_it_takes_up_a_track_after_a_gap_shorter_than_its_patience(self):
        nothing = FrameInstances.empty(SHAPE)
        frames = [squares((10, 10))] * 3 + [nothing] * 5 + [squares((10, 10))] * 3
        tracks = byte_track(frames, SIDE, SIDE, settings=ByteTrackSettings(lost_track_buffer=10))
        assert len(tracks.ids()) == 1
        tracks = byte_track(frames, SIDE, SIDE, settings=ByteTrackSettings(lost_track_buffer=2))
        assert len(tracks.ids()) == 2
