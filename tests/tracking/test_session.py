"""Sessions: what goes in and comes out, memory that does not grow, sensors that come and go."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from plugins.tracking.candidates import Candidates, alone, distinct, overlap_with_expected
from plugins.tracking.errors import TrackingError
from plugins.tracking.scenes import Scene, generate_scene
from plugins.tracking.session import SataSession
from plugins.tracking.tracklets import Tracklet, banks
from plugins.tracking.views import make_view, model_size
from tests.tracking.tiny import tiny_model, wake_experts

SIDE = 64


@pytest.fixture(scope="module")
def scene() -> Scene:
    return generate_scene(5, frames=8, size=(SIDE, SIDE), objects=2)


def start(task: str, seed: int = 0, **changes: Any) -> SataSession:
    """A session of a random model whose thresholds let something through."""
    loose: dict[str, Any] = {
        "mask_affinity_threshold": 0.1,
        "match_threshold": -1.0,
        "new_track_threshold": 0.0,
        "keep_threshold": 0.0,
    }
    return SataSession(wake_experts(tiny_model(seed, **(loose | changes))), task, longest=SIDE)


def frame(scene: Scene, index: int, *sensors: str) -> dict[str, np.ndarray]:
    return {name: scene.frames[name][index] for name in sensors or ("rgb", "thermal")}


class TestPrompts:
    def test_prompted_ids_come_back_verbatim(self, scene):
        session = start("vos")
        assert session.add_prompt(42, box=(5, 5, 30, 30)) == 0
        assert session.add_prompt(7, points=np.array([[20.0, 20.0]])) == 0
        found = session.step(frame(scene, 0))
        assert found.ids.tolist() == [7, 42]
        assert found.masks is not None
        assert found.masks.shape == (2, SIDE, SIDE)

    def test_a_drawn_mask_is_kept_as_drawn(self, scene):
        session = start("vos")
        mask = np.zeros((SIDE, SIDE), bool)
        mask[10:30, 12:40] = True
        session.add_prompt(3, mask=mask)
        found = session.step(frame(scene, 0))
        assert found.masks is not None
        assert (found.masks[0] == mask).mean() > 0.98

    def test_what_is_asked_for_is_embedded_among_what_else_is_there(self, scene):
        def asked(*ids: int, found: bool) -> torch.Tensor:
            session = start("vos", keep_threshold=0.0 if found else 1.0)
            for id in ids:
                session.add_prompt(id, mask=scene.ids[0] == id)
            session.step(frame(scene, 0))
            return session.tracklets[1].queries[0]

        alone, together = asked(1, found=False), asked(1, 2, found=False)
        assert not torch.allclose(alone, together)
        torch.testing.assert_close(together, asked(2, 1, found=False))
        assert not torch.allclose(alone, asked(1, found=True))

    def test_a_drawn_line_one_pixel_wide_is_not_lost(self, scene):
        session = start("vos")
        mask = np.zeros((SIDE, SIDE), bool)
        mask[20, 12:40] = True
        session.add_prompt(3, mask=mask)
        found = session.step(frame(scene, 0))
        assert found.masks is not None
        assert found.masks[0, 20, 14:38].all()

    def test_a_drawn_box_stands_where_the_decoder_sees_nothing(self, scene):
        session = start("sot")
        decode = session.model.decode

        def nothing(*arguments: Any, **options: Any) -> Any:
            found = decode(*arguments, **options)
            return type(found)(found.masks - 1e4, found.affinity, found.presence)

        session.model.decode = nothing
        session.add_prompt(3, box=(8, 10, 30, 40))
        found = session.step(frame(scene, 0))
        assert found.xyxy[0] == pytest.approx([8, 10, 30, 40], abs=1e-3)

    def test_an_object_can_come_later_and_go(self, scene):
        session = start("vos")
        session.add_prompt(1, box=(5, 5, 30, 30))
        session.step(frame(scene, 0))
        assert session.add_prompt(2, box=(30, 30, 60, 60)) == 1
        assert 2 in session.step(frame(scene, 1)).ids
        session.remove(2)
        assert 2 not in session.step(frame(scene, 2)).ids
        with pytest.raises(TrackingError, match="in use or was"):
            session.add_prompt(2, box=(5, 5, 30, 30))
        with pytest.raises(TrackingError, match="no object 9"):
            session.remove(9)

    @pytest.mark.parametrize(
        ("prompt", "message"),
        [
            ({}, "none was given"),
            ({"box": (0, 0, 9, 9), "points": np.ones((1, 2))}, "box and points was given"),
            ({"box": (30, 5, 10, 20)}, "no area"),
            ({"box": (100, 5, 120, 20)}, "no area"),
            ({"box": (0, 0, float("nan"), 9)}, "not four numbers"),
            ({"points": np.array([[500.0, 3.0]])}, "outside the frame"),
            ({"points": np.ones((2, 2)), "labels": np.array([0, 0])}, "at least one 1"),
            ({"mask": np.zeros((SIDE, SIDE), bool)}, "mask is empty"),
            ({"mask": np.ones((3, 3), bool)}, "give bool"),
        ],
    )
    def test_a_bad_prompt_says_what_is_allowed(self, scene, prompt, message):
        session = start("vos")

        def ask() -> None:
            session.add_prompt(1, **prompt)
            session.step(frame(scene, 0))

        with pytest.raises(TrackingError, match=message):
            ask()

    @pytest.mark.parametrize("id", [-1, True, "a", 1.5])
    def test_an_id_is_a_whole_number(self, id):
        with pytest.raises(TrackingError, match="whole number"):
            start("vos").add_prompt(id, box=(0, 0, 9, 9))

    def test_an_unknown_task_is_refused(self):
        with pytest.raises(TrackingError, match="sot, vos, mot, mots"):
            start("vot")


class TestLifecycle:
    @pytest.mark.parametrize(("task", "carries"), [("vos", True), ("sot", True), ("mots", False), ("mot", False)])
    def test_only_what_was_prompted_for_is_carried_on_beside_detections(self, scene, task, carries, monkeypatch):
        carried = []
        propagated = SataSession.propagated
        monkeypatch.setattr(SataSession, "propagated", lambda *given: carried.append(1) or propagated(*given))
        session = start(task)
        if carries:
            session.add_prompt(1, box=(5, 5, 30, 30))
        for index in range(3):
            session.step(frame(scene, index))
        assert session.tracklets
        assert bool(carried) == carries

    def test_twins_keep_their_ids_by_where_they_go_if_motion_counts(self, scene):
        def names(weight: float) -> list[list[int]]:
            session = start("mot", motion_weight=weight)
            session.model.affinity = lambda candidates, tracklets: torch.eye(
                len(candidates.fine), len(tracklets.fine)
            ).flip(0)
            left, right = [0.1, 0.1, 0.3, 0.3], [0.6, 0.6, 0.8, 0.8]
            masks = torch.zeros(2, 32, 32)
            masks[0, 4:9, 4:9] = masks[1, 20:25, 20:25] = 1
            found = Candidates(torch.tensor([left, right]), masks, torch.ones(2), torch.ones(2, dtype=torch.bool))
            session.detected = lambda *_: found  # ty: ignore[invalid-assignment]
            return [session.step(frame(scene, index)).xyxy[:, 0].argsort().tolist() for index in range(2)]

        assert names(0.0) == [[0, 1], [1, 0]]  # looks alone exchange them, as this affinity has it
        assert names(2.0) == [[0, 1], [0, 1]]

    def test_what_is_tracked_is_looked_for_until_it_is_gone_for_too_long(self, scene):
        session = start("mots")
        told: list[Any] = []
        detect = session.model.detect
        session.model.detect = lambda features, expected=None: told.append(expected) or detect(features, expected)
        session.step(frame(scene, 0))
        assert told == [None]
        for tracklet, missed in zip(session.tracklets.values(), (0, 5), strict=False):
            tracklet.missed = missed
        expected = [each.expected_box() for each in session.tracklets.values() if each.missed < 5]
        assert len(expected) == len(session.tracklets) - 1 > 0
        session.step(frame(scene, 1))
        (boxes,) = told[1]
        torch.testing.assert_close(boxes, torch.stack(expected))

    def test_automatic_ids_start_above_the_prompted_ones(self, scene):
        session = start("mots", seed=3)  # weights that see more than one thing
        session.add_prompt(42, box=(5, 5, 30, 30))
        session.step(frame(scene, 0))
        found = session.step(frame(scene, 1))
        assert all(id >= 42 for id in found.ids.tolist())
        assert len(found) > 1

    def test_a_track_ends_after_the_frames_it_may_be_gone(self, scene):
        session = start("vos", match_threshold=2.0, max_missed_frames=2)  # nothing is ever matched
        session.add_prompt(1, box=(5, 5, 30, 30))
        for index in range(3):
            session.step(frame(scene, index))
            assert 1 in session.tracklets
            assert session.tracklets[1].missed == index
        session.step(frame(scene, 3))
        assert session.tracklets == {}

    def test_what_is_not_matched_writes_no_memory(self, scene):
        session = start("vos", match_threshold=2.0)
        session.add_prompt(1, box=(5, 5, 30, 30))
        for index in range(3):
            session.step(frame(scene, index))
        assert session.tracklets[1].frames == [0]

    def test_a_lost_single_object_is_held_and_marked(self, scene):
        session = start("sot", match_threshold=2.0)
        session.add_prompt(1, box=(5, 5, 30, 30))
        first = session.step(frame(scene, 0))
        later = session.step(frame(scene, 1))
        assert later.stale.tolist() == [True]
        np.testing.assert_array_equal(later.xyxy, first.xyxy)
        assert later.masks is None

    def test_memory_is_bounded(self, scene):
        session = start("mots", memory_frames=3)
        sizes = []
        for index in range(8):
            session.step(frame(scene, index))
            sizes.append(max((len(each.frames) for each in session.tracklets.values()), default=0))
        assert max(sizes) == 3


class TestSensors:
    def test_a_stream_is_what_its_frames_were_whatever_comes_after(self, scene):
        sessions = [start("mots") for _ in range(2)]
        for index in range(3):
            one, two = (session.step(frame(scene, index)) for session in sessions)
            assert one == two
        sessions[0].step(frame(scene, 3))
        sessions[1].step(frame(scene, 3, "rgb"))

    def test_sensors_may_be_missing_in_any_frame(self, scene):
        session = start("vos")
        session.add_prompt(1, box=(5, 5, 30, 30))
        for index, sensors in enumerate([("rgb", "thermal"), ("rgb",), ("thermal",), ("depth",), ("rgb", "event")]):
            found = session.step(frame(scene, index, *sensors))
            assert np.isfinite(found.xyxy).all()
            assert not found.stale.any()

    def test_without_any_sensor_the_last_result_is_held_and_marked(self, scene):
        session = start("vos")
        session.add_prompt(1, box=(5, 5, 30, 30))
        last = session.step(frame(scene, 0))
        held = session.step({"rgb": None})
        assert held.stale.all()
        np.testing.assert_array_equal(held.masks, last.masks)
        assert session.frame == 2

    def test_a_video_does_not_start_in_the_dark(self):
        with pytest.raises(TrackingError, match="no sensor at all"):
            start("vos").step({})

    def test_a_missing_sensor_is_replaced_under_the_name_of_the_other(self, scene):
        view, size = make_view(frame(scene, 0, "thermal"), ("rgb", "thermal", "depth", "event"), SIDE, 32)
        assert view is not None
        assert size == (SIDE, SIDE)
        assert not view.paired
        assert view.modality.tolist() == view.first_modality.tolist() == [1]
        pair, _ = make_view(frame(scene, 0, "rgb", "event"), ("rgb", "thermal", "depth", "event"), SIDE, 32)
        assert pair is not None
        assert (pair.paired, pair.first_modality.tolist(), pair.modality.tolist()) == (True, [0], [3])

    @pytest.mark.parametrize(
        ("frames", "message"),
        [
            ({"radar": np.zeros((8, 8), np.uint8)}, "unknown modality 'radar'"),
            ({"rgb": np.zeros((8, 8, 4), np.uint8)}, "give uint8"),
            ({"rgb": np.zeros((8, 8, 3))}, "give uint8"),
            ({"rgb": np.zeros((8, 8, 3), np.uint8), "depth": np.zeros((9, 8), np.uint8)}, "differ in size"),
        ],
    )
    def test_a_bad_frame_says_what_is_allowed(self, frames, message):
        with pytest.raises(TrackingError, match=message):
            start("vos").step(frames)

    def test_the_size_may_not_change(self, scene):
        session = start("mots")
        session.step(frame(scene, 0))
        with pytest.raises(TrackingError, match="resize it"):
            session.step({"rgb": np.zeros((32, 32, 3), np.uint8)})

    def test_frames_are_looked_at_near_the_asked_size(self):
        assert model_size(128, 128, 128, 32) == (128, 128)
        assert model_size(480, 854, 128, 32) == (64, 128)
        assert model_size(10, 2000, 128, 32) == (32, 128)


class TestParts:
    def test_the_banks_are_padded_and_marked(self):
        def tracklet(count: int) -> Tracklet:
            made = Tracklet(1, torch.zeros(4), torch.zeros(2, 2), 1.0)
            for when in range(count):
                made.remember(torch.full((3,), float(when)), torch.full((2, 3), float(when)), when, 4)
            return made

        fine, queries, age, seen = banks([tracklet(2), tracklet(6)], 6)
        assert fine.shape == (2, 4, 3)
        assert queries.shape == (2, 4, 2, 3)
        assert seen.tolist() == [[True, True, False, False], [True] * 4]
        assert age.tolist() == [[6, 5, 0, 0], [4, 3, 2, 1]]
        assert fine[1, :, 0].tolist() == [2, 3, 4, 5]

    def test_where_a_tracklet_should_be_is_known_until_it_is_gone_for_too_long(self):
        def tracklet(speed: float, missed: int) -> Tracklet:
            made = Tracklet(1, torch.tensor([0.1, 0.1, 0.3, 0.3]), torch.zeros(2, 2), 1.0, missed=missed)
            made.speed = torch.tensor([speed, 0.0])
            return made

        boxes = torch.tensor([[0.1, 0.1, 0.3, 0.3], [0.2, 0.1, 0.4, 0.3]])
        candidates = Candidates(boxes, torch.zeros(2, 2, 2), torch.ones(2), torch.ones(2, dtype=torch.bool))
        overlap = overlap_with_expected(candidates, [tracklet(0, 0), tracklet(0.1, 0), tracklet(0.1, 5)])
        torch.testing.assert_close(overlap, torch.tensor([[1, 1 / 3, 0], [1 / 3, 1, 0]]))

    def test_a_straight_way_is_foretold_and_one_wrong_box_hardly_turns_it(self):
        def box(place: float) -> torch.Tensor:
            return torch.tensor([place, 0.4, place + 0.2, 0.6])

        made = Tracklet(1, box(0.0), torch.zeros(2, 2), 1.0)
        for when in range(1, 12):
            made.seen(box(0.02 * when), made.mask, 1.0)
            torch.testing.assert_close(made.expected_box(), box(0.02 * (when + 1)))
        made.seen(box(0.02 * 12 + 0.06), made.mask, 1.0)
        assert 0 < float(made.expected_box()[0]) - 0.02 * 13 < 0.6 * 0.06
        made.missed = 2
        assert float(made.expected_box()[0]) == pytest.approx(0.02 * 15, abs=0.06)

    def test_what_covers_the_same_is_one_candidate_and_keeps_the_better_score(self):
        masks = torch.zeros(3, 4, 4)
        masks[0, :2] = masks[1, :2] = masks[2, 2:] = 1
        scores = torch.tensor([0.3, 0.8, 0.5])
        found = distinct(Candidates(torch.zeros(3, 4), masks, scores, torch.tensor([False, True, False])))
        assert len(found) == 2
        assert found.scores.tolist() == pytest.approx([0.8, 0.5])
        assert found.detected.tolist() == [True, False]

    def test_a_pixel_belongs_to_the_mask_that_is_surest_of_it(self):
        masks = torch.tensor([[[0.9, 0.6, 0.2]], [[0.3, 0.8, 0.4]]])
        assert alone(masks).tolist() == [[[True, False, False]], [[False, True, False]]]
        assert alone(torch.ones(2, 1, 1)).tolist() == [[[True]], [[False]]]


class TestThreads:
    @pytest.mark.parametrize(("longest", "inside"), [(SIDE, 1), (512, 3)])
    def test_small_frames_take_one_and_leave_their_number_as_it_was(self, monkeypatch, longest, inside):
        session, seen = SataSession(wake_experts(tiny_model()), "mots", longest=longest), []
        monkeypatch.setattr(session.model, "features", lambda **_: seen.append(torch.get_num_threads()) or fail())
        before = torch.get_num_threads()
        torch.set_num_threads(3)
        try:
            with pytest.raises(RuntimeError, match="as told"):
                session.step({"rgb": np.zeros((longest, longest, 3), np.uint8)})
            assert torch.get_num_threads() == 3
        finally:
            torch.set_num_threads(before)
        assert seen == [inside]


def fail() -> None:
    raise RuntimeError("as told")
