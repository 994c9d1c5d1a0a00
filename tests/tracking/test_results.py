"""What a tracker returns: checked, unchanging, and the same whichever way it is looked at."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import FrozenInstanceError, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plugins.tracking.errors import TrackingError
from plugins.tracking.results import FrameInstances, Tracks, masks_to_boxes, overlaps
from tests.tracking.clips import HEIGHT, WIDTH, box_clip, mask_clip, mask_clips, masks, rectangle


def fields(**changes: Any) -> dict[str, Any]:
    given: dict[str, Any] = {
        "ids": np.array([3, 1]),
        "xyxy": np.array([[0, 0, 4, 5], [1.5, 2, 3, 4]], np.float32),
        "masks": np.zeros((2, 6, 8), bool),
        "scores": np.array([0.5, 0.25], np.float32),
    }
    return given | changes


def test_arrays_have_the_documented_types() -> None:
    frame = FrameInstances(np.array([3, 1], np.uint8), np.zeros((2, 4)), None, np.array([1, 0]))
    assert [array.dtype for array in (frame.ids, frame.xyxy, frame.scores, frame.stale)] == [
        np.int64,
        np.float32,
        np.float32,
        np.bool_,
    ]
    assert len(frame) == 2
    assert not frame.stale.any()


def test_a_frame_never_changes() -> None:
    given = fields(stale=np.array([True, False]))
    frame = FrameInstances(**given)
    for name, array in given.items():
        array[...] = 1  # its owner goes on using it
        with pytest.raises(ValueError, match="read-only"):
            getattr(frame, name)[...] = 0
    assert frame == FrameInstances(**fields(stale=np.array([True, False])))
    with pytest.raises(FrozenInstanceError):
        frame.ids = np.array([1, 2])  # ty: ignore[invalid-assignment]


def test_what_nobody_can_write_to_is_not_copied() -> None:
    frame = FrameInstances(**fields())
    assert replace(frame, scores=np.zeros(2)).masks is frame.masks


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ids": np.array([1.0, 2.0])}, r"ids is float64 \[2\]: give int64 \[2\]"),
        ({"ids": np.array([True, False])}, "ids is bool"),
        ({"ids": np.array([2, 2])}, "id 2 comes more than once"),
        ({"ids": np.array([2, -2])}, "id -2 is below zero"),
        ({"ids": np.array([2, 2**63], np.uint64)}, "below zero"),
        ({"ids": np.array([[1], [2]])}, r"ids is int64 \[2, 1\]"),
        ({"ids": np.array([1, 2, 3])}, r"xyxy is float32 \[2, 4\]: give float32 \[3, 4\]"),
        ({"xyxy": np.zeros((2, 5))}, r"give float32 \[2, 4\]"),
        ({"xyxy": np.array([[0, 0, 1, np.nan], [0, 0, 1, 1]])}, "xyxy holds a number that is not finite"),
        ({"xyxy": np.array([[0, 0, 1, 1e40], [0, 0, 1, 1]])}, "or too large"),
        ({"xyxy": np.array([[0, 0, 1, 1], [10, 10, 5, 5]])}, r"box \[10.0, 10.0, 5.0, 5.0\] of id 1 ends before"),
        ({"xyxy": [[0, 0, 1, 1], [0]]}, "xyxy is not an array"),
        ({"masks": np.zeros((2, 6, 8), np.uint8)}, r"masks is uint8 \[2, 6, 8\]: give bool \[2, height, width\]"),
        ({"masks": np.zeros((1, 6, 8), bool)}, r"masks is bool \[1, 6, 8\]"),
        ({"scores": np.array([0.5, np.inf])}, "scores holds a number"),
        ({"scores": np.array(["a", "b"])}, "scores is <U1"),
        ({"scores": np.array([0.5])}, r"give float32 \[2\]"),
        ({"stale": np.array([0, 1])}, "stale is int64"),
        ({"stale": np.zeros(0, bool)}, r"stale is bool \[0\]"),
    ],
)
def test_a_frame_that_is_not_one(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(TrackingError, match=message):
        FrameInstances(**fields(**changes))


def test_order_does_not_count_and_everything_else_does() -> None:
    frame, turned = FrameInstances(**fields()), FrameInstances(**{k: v[::-1] for k, v in fields().items()})
    assert frame == turned
    assert frame != FrameInstances(**fields(ids=np.array([1, 3])))
    assert frame != FrameInstances(**fields(scores=np.array([0.5, 0.5])))
    assert frame != FrameInstances(**fields(masks=np.ones((2, 6, 8), bool)))
    assert frame != FrameInstances(**fields(stale=np.array([True, False])))
    assert frame != frame.without_masks()
    assert frame != frame.select([1])
    assert frame != "a frame"
    assert FrameInstances.empty() == FrameInstances.empty((6, 8))


def test_select_keeps_the_order_of_the_frame() -> None:
    frame = FrameInstances(**fields())
    assert frame.select([1, 3, 9]) is frame
    chosen = frame.select([1, 9])
    assert chosen.ids.tolist() == [1]
    assert chosen.xyxy.tolist() == [[1.5, 2, 3, 4]]
    assert chosen.scores.tolist() == [0.25]
    assert len(frame.select([])) == 0


def test_supervision_takes_the_instances() -> None:
    frame = FrameInstances(**fields(stale=np.array([True, False])))
    detections = frame.to_supervision()
    assert detections.tracker_id is not None
    assert detections.tracker_id.tolist() == [3, 1]
    assert np.array_equal(detections.xyxy, frame.xyxy)
    assert np.array_equal(np.asarray(detections.mask), np.asarray(frame.masks))
    assert np.array_equal(np.asarray(detections.confidence), frame.scores)
    assert list(detections.data["stale"]) == [True, False]
    assert detections.xyxy.flags.writeable
    assert len(FrameInstances.empty().to_supervision()) == 0


def test_without_supervision_the_message_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "supervision", None)
    with pytest.raises(TrackingError, match="pip install supervision"):
        FrameInstances.empty().to_supervision()


def test_supervision_is_imported_only_when_asked_for() -> None:
    code = "import sys, plugins.tracking.results\nprint('supervision' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "False"


def two_tracks() -> Tracks:
    """Id 7 in frames 0 and 2, id 42 in frames 1 and 2."""
    one, two = rectangle(0, 0, 3, 3), rectangle(5, 2, 4, 4)
    return mask_clip({7: one}, {42: two}, {42: two, 7: one})


def test_ids_and_tracks() -> None:
    tracks = two_tracks()
    assert tracks.ids() == (7, 42)
    assert len(tracks) == 3
    alone = tracks.track(42)
    assert alone.ids() == (42,)
    assert [len(frame) for frame in alone.frames] == [0, 1, 1]
    assert alone.track(42) == alone
    with pytest.raises(TrackingError, match=r"no frame has id 8: choose one of \[7, 42\]"):
        tracks.track(8)


def test_a_clip_as_boxes_only() -> None:
    tracks = two_tracks()
    boxes = tracks.without_masks()
    assert tracks.has_masks
    assert not boxes.has_masks
    assert boxes.task == "mot"
    assert replace(tracks, task="vos").without_masks().task == "sot"
    assert [frame.xyxy.tolist() for frame in boxes.frames] == [frame.xyxy.tolist() for frame in tracks.frames]


def test_a_summary_is_json() -> None:
    tracks = two_tracks()
    held = replace(tracks.frames[1], stale=np.array([True]), scores=np.array([0.5]))
    tracks = replace(tracks, frames=(tracks.frames[0], held, tracks.frames[2]))
    assert json.loads(json.dumps(tracks.summary())) == {
        "task": "mots",
        "frames": 3,
        "height": HEIGHT,
        "width": WIDTH,
        "masks": True,
        "objects": [
            {"id": 7, "frames": 2, "first_frame": 0, "last_frame": 2, "mean_score": 1.0, "stale_frames": 0},
            {"id": 42, "frames": 2, "first_frame": 1, "last_frame": 2, "mean_score": 0.75, "stale_frames": 1},
        ],
    }


def test_the_record_of_the_run_does_not_make_clips_differ() -> None:
    assert replace(two_tracks(), run={"seed": 1}) == two_tracks()
    assert two_tracks() != replace(two_tracks(), task="vos")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"frames": ()}, "give one per frame"),
        ({"frames": ({"ids": [1]},)}, "something else than FrameInstances"),
        ({"height": 0}, "height is 0: give a whole number"),
        ({"width": 14.0}, "width is 14.0"),
        ({"width": True}, "width is True"),
        ({"width": WIDTH + 1}, "masks of frame 0 are 9 x 14 pixels high and wide, the clip is 9 x 15"),
        ({"task": "vis"}, "task is 'vis': choose one of sot, vos, mot, mots"),
    ],
)
def test_a_clip_that_is_not_one(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(TrackingError, match=message):
        replace(two_tracks(), **changes)


def test_masks_are_for_all_frames_or_for_none() -> None:
    frames = two_tracks().frames
    with pytest.raises(TrackingError, match="some frames have masks and others have none"):
        Tracks((frames[0], frames[1].without_masks()), HEIGHT, WIDTH, "mots")
    assert Tracks((frames[0], FrameInstances.empty()), HEIGHT, WIDTH, "mots").has_masks


def test_an_id_map_becomes_masks_boxes_and_ids() -> None:
    ids = np.zeros((2, HEIGHT, WIDTH), np.uint16)
    ids[0][rectangle(0, 0, 3, 3)] = 7
    ids[1][rectangle(5, 2, 4, 4)] = 42
    assert Tracks.from_id_map(ids) == replace(two_tracks(), frames=two_tracks().frames[:2], task="vos")
    assert Tracks.from_id_map(ids, "mots").task == "mots"


@pytest.mark.parametrize("ids", [np.zeros((4, 5), int), np.zeros((1, 4, 5)), np.zeros((0, 4, 5), int)])
def test_an_id_map_that_is_not_one(ids: np.ndarray) -> None:
    with pytest.raises(TrackingError, match="give integers"):
        Tracks.from_id_map(ids)


@given(masks())
def test_a_tight_box_touches_the_mask_on_every_side(mask: np.ndarray) -> None:
    box = masks_to_boxes(mask[None])[0]
    rows, columns = np.nonzero(mask)
    expected = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1] if len(rows) else [0] * 4
    assert box.tolist() == expected


def test_boxes_of_no_masks() -> None:
    assert masks_to_boxes(np.zeros((0, 4, 5), bool)).shape == (0, 4)
    with pytest.raises(TrackingError, match="masks is float64"):
        masks_to_boxes(np.zeros((1, 4, 5)))


@settings(max_examples=40)
@given(mask_clips())
def test_disjoint_masks_share_no_pixel_and_lose_none(tracks: Tracks) -> None:
    apart = tracks.disjoint()
    assert apart.disjoint() == apart
    for before, after in zip(tracks.frames, apart.frames, strict=True):
        assert before.masks is not None
        assert after.masks is not None
        assert not overlaps(after.masks)
        assert np.array_equal(before.masks.any(0), after.masks.any(0))
        assert np.array_equal(after.xyxy, masks_to_boxes(after.masks))


@given(st.permutations([0, 1, 2]))
def test_the_best_score_keeps_the_shared_pixels(order: list[int]) -> None:
    ids, scores, masks = np.array([5, 6, 7]), np.array([0.2, 0.9, 0.2]), np.ones((3, 2, 2), bool)
    masks[1, :, 0] = False
    frame = FrameInstances(ids[order], masks_to_boxes(masks[order]), masks[order], scores[order])
    apart = frame.disjoint()
    assert apart.masks is not None
    assert {id: int(mask.sum()) for id, mask in zip(apart.ids.tolist(), apart.masks, strict=True)} == {5: 2, 6: 2, 7: 0}
    assert dict(zip(apart.ids.tolist(), apart.xyxy.tolist(), strict=True)) == {
        5: [0, 0, 1, 2],
        6: [1, 0, 2, 2],
        7: [0, 0, 0, 0],
    }


def test_boxes_only_are_disjoint_as_they_are() -> None:
    tracks = box_clip({1: (0, 0, 5, 5), 2: (0, 0, 5, 5)})
    assert tracks.disjoint() == tracks
