"""Metrics of tracking against values known by hand and against TrackEval."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco
from trackeval.datasets._base_dataset import _BaseDataset
from trackeval.metrics import CLEAR, HOTA, Identity, JAndF

from plugins.tracking.errors import TrackingError
from plugins.tracking.metrics import (
    average_overlap,
    combine,
    hota,
    id_f1,
    j_and_f,
    mota,
    normalised_precision,
    normalised_precision_auc,
    precision,
    smotsa,
    success_auc,
    success_rate,
)
from plugins.tracking.results import FrameInstances, Tracks
from tests.tracking.clips import box_clip, box_clips, drifting_pair, mask_clip, mask_clips, pairs, rectangle

HERE, THERE = (0, 0, 10, 10), (40, 40, 60, 60)


def near(expected: Any) -> Any:
    return pytest.approx(expected, rel=1e-9, abs=1e-9)


def swapped_ids(half: int) -> tuple[Tracks, Tracks]:
    """Two tracks of 2 * half frames, and a prediction in which they swap ids half-way."""
    truth = [{1: HERE, 2: THERE}] * (2 * half)
    prediction = [{8: HERE, 9: THERE}] * half + [{9: HERE, 8: THERE}] * half
    return box_clip(*truth), box_clip(*prediction)


@pytest.mark.parametrize("half", [1, 10])
def test_ids_that_swap_half_way(half: int) -> None:
    clips = swapped_ids(half)
    score = hota(*clips)
    assert score.hota == pytest.approx(math.sqrt(1 / 3), abs=1e-12)
    assert score.det_a == score.loc_a == 1
    assert score.ass_a == pytest.approx(1 / 3, abs=1e-12)
    assert id_f1(*clips).id_f1 == 0.5
    clear = mota(*clips)
    assert clear.id_switches == 2
    assert clear.mota == pytest.approx(1 - 2 / (4 * half), abs=1e-12)


def test_ten_frames_before_the_swap_make_a_mota_of_95_percent() -> None:
    assert mota(*swapped_ids(10)).mota == pytest.approx(0.95, abs=1e-12)


def test_a_perfect_prediction() -> None:
    masks = {3: rectangle(0, 0, 4, 4), 5: rectangle(6, 2, 5, 5)}
    truth = mask_clip(masks, masks, {3: masks[3]})
    assert set(hota(truth, truth).summary().values()) == {1.0}
    assert set(hota(truth, truth, similarity="mask").summary().values()) == {1.0}
    assert set(mota(truth, truth).summary().values()) == {1.0}
    assert set(id_f1(truth, truth).summary().values()) == {1.0}
    assert set(smotsa(truth, truth).summary().values()) == {1.0}
    assert set(j_and_f(truth, truth).summary().values()) == {1.0}
    one = truth.track(3)
    assert precision(one, one) == normalised_precision(one, one) == normalised_precision_auc(one, one) == 1
    assert average_overlap(one, one) == success_rate(one, one) == 1
    assert success_auc(one, one) == pytest.approx(20 / 21)  # no IoU is above 1


def test_masks_that_overlap_by_80_percent() -> None:
    truth = mask_clip(*[{1: rectangle(0, 0, 5, 2)}] * 3)
    prediction = mask_clip(*[{4: rectangle(0, 0, 4, 2)}] * 3)
    assert smotsa(truth, prediction).summary() == pytest.approx({"smotsa": 0.8, "motsa": 1.0, "motsp": 0.8})
    wrong = mask_clip(*[{4: rectangle(0, 0, 4, 2), 6: rectangle(8, 5, 3, 3)}] * 3)
    assert smotsa(truth, wrong).summary() == pytest.approx({"smotsa": -0.2, "motsa": 0.0, "motsp": 0.8})


@pytest.mark.parametrize(
    ("shift", "j", "f"), [(0, 1, 1), (1, 0.9512, 1), (2, 0.9048, 1), (4, 0.8182, 0.5125), (20, 0.3333, 0.3125)]
)
def test_j_and_f_of_a_square_that_is_shifted(shift: int, j: float, f: float) -> None:
    shape = (128, 128)
    truth = mask_clip({1: rectangle(40, 40, 40, 40, shape)}, shape=shape)
    prediction = mask_clip({1: rectangle(40 + shift, 40, 40, 40, shape)}, shape=shape)
    score = j_and_f(truth, prediction)
    assert score.j == pytest.approx((40 - shift) / (40 + shift), abs=1e-12)
    assert (score.j, score.f) == pytest.approx((j, f), abs=5e-5)
    assert score.mean == pytest.approx((score.j + score.f) / 2)


def one_box(width: float, height: int = 10) -> Tracks:
    return box_clip(*[{1: (0, 0, width, height)}] * 3, height=200, width=200)


@pytest.mark.parametrize("overlap", [0.05, 0.25, 0.5, 0.625, 1.0])
@pytest.mark.parametrize("thresholds", [21, 101])
def test_success_of_a_constant_overlap_counts_the_thresholds_strictly_below_it(overlap: float, thresholds: int) -> None:
    truth, prediction = one_box(160), one_box(160 * overlap)
    below = sum(step / (thresholds - 1) < overlap for step in range(thresholds))
    assert success_auc(truth, prediction, thresholds=thresholds) == pytest.approx(below / thresholds)
    assert average_overlap(truth, prediction) == pytest.approx(overlap)
    assert success_rate(truth, prediction) == (overlap > 0.5)


def test_normalised_precision_does_not_depend_on_scale_and_precision_does() -> None:
    truth = [{1: (10, 10, 50, 40)}, {1: (20, 10, 60, 40)}, {1: (30, 10, 70, 40)}]
    prediction = [{1: (10, 13, 50, 43)}, {1: (32, 10, 72, 40)}, {1: (30, 40, 70, 70)}]

    def scaled(frames: list, scale: float) -> Tracks:
        boxes = [{id: [scale * value for value in box] for id, box in frame.items()} for frame in frames]
        return box_clip(*boxes)

    small, large = ((scaled(truth, scale), scaled(prediction, scale)) for scale in (1, 4))
    assert normalised_precision(*small) == normalised_precision(*large) == pytest.approx(1 / 3)  # 0.1, 0.3 and 1
    assert normalised_precision(*small, threshold=0.3) == pytest.approx(2 / 3)
    assert normalised_precision_auc(*small) == pytest.approx((41 + 21) / (3 * 51))
    assert normalised_precision_auc(*large) == normalised_precision_auc(*small)
    assert precision(*small) == pytest.approx(2 / 3)  # 3, 12 and 30 pixels
    assert precision(*large) == pytest.approx(1 / 3)
    assert precision(*small, pixels=3) == pytest.approx(1 / 3)


def test_frames_without_the_target_do_not_count_and_frames_without_a_prediction_do() -> None:
    truth = box_clip({1: HERE}, {}, {1: HERE}, {1: (5, 5, 5, 9)})
    prediction = box_clip({1: HERE}, {1: HERE}, {}, {1: HERE})
    assert average_overlap(truth, prediction) == success_rate(truth, prediction) == 0.5
    assert precision(truth, prediction) == normalised_precision(truth, prediction) == 0.5


def test_a_similarity_at_a_threshold_of_hota_is_above_it() -> None:
    for step in range(1, 20):
        score = hota(box_clip({1: (0, 0, 20, 1)}), box_clip({1: (0, 0, step, 1)}))
        assert score.true_positives.sum() == step


def test_a_similarity_at_the_threshold_is_a_match() -> None:
    truth, prediction = box_clip({1: (0, 0, 10, 10)}), box_clip({1: (0, 0, 10, 5)})
    assert mota(truth, prediction).true_positives == id_f1(truth, prediction).true_positives == 1
    assert mota(truth, prediction, threshold=0.51).true_positives == 0
    assert id_f1(truth, prediction, threshold=0.51).true_positives == 0


def test_clear_goes_on_with_a_match_although_another_is_better() -> None:
    truth = box_clip({1: (0, 0, 10, 10)}, {1: (0, 0, 10, 10)}, {1: (0, 0, 10, 10)})
    prediction = box_clip({8: (0, 0, 10, 6)}, {8: (0, 0, 10, 6), 9: (0, 0, 10, 9)}, {8: (0, 0, 10, 4), 9: HERE})
    score = mota(truth, prediction)
    assert score.id_switches == 1  # in the last frame, where the old match is too small
    assert score.located == pytest.approx(0.6 + 0.6 + 1)


def oracle_data(truth: Tracks, prediction: Tracks, similarity: str) -> dict[str, Any]:
    """What TrackEval's metrics take."""
    if similarity == "box":
        dets = [[frame.xyxy.astype(float) for frame in tracks.frames] for tracks in (truth, prediction)]
        compare: Callable = partial(_BaseDataset._calculate_box_ious, box_format="x0y0x1y1")
    else:
        dets = [[oracle_masks(frame) for frame in tracks.frames] for tracks in (truth, prediction)]
        compare = partial(_BaseDataset._calculate_mask_ious, is_encoded=True)
    data: dict[str, Any] = {"num_timesteps": len(truth), "seq": "clip"}
    for name, tracks, found in (("gt", truth, dets[0]), ("tracker", prediction, dets[1])):
        places = {id: place for place, id in enumerate(tracks.ids())}
        ids = [np.array([places[id] for id in frame.ids.tolist()], int) for frame in tracks.frames]
        data |= {f"{name}_ids": ids, f"{name}_dets": found}
        data |= {f"num_{name}_ids": len(places), f"num_{name}_dets": sum(map(len, ids))}
    data["similarity_scores"] = [compare(*pair) for pair in zip(*dets, strict=True)]
    return data


def oracle_masks(frame: FrameInstances) -> list[dict]:
    assert frame.masks is not None
    return [coco.encode(np.asfortranarray(mask, np.uint8)) for mask in frame.masks]


def oracle(metric: Any, clips: Sequence[tuple[Tracks, Tracks]], similarity: str) -> dict[str, Any]:
    """TrackEval's figures for several clips.

    Also for one: its CLEAR scores of a single clip without true instances are 0 whatever was predicted.
    """
    scores = {str(place): metric.eval_sequence(oracle_data(*pair, similarity)) for place, pair in enumerate(clips)}
    return metric.combine_sequences(scores)


MASK_PAIRS = pairs(mask_clips) | st.integers(0, 2**32).map(drifting_pair)
ANY_CLIPS = st.one_of(
    st.tuples(st.just("box"), st.lists(pairs(box_clips) | MASK_PAIRS, min_size=1, max_size=3)),
    st.tuples(st.just("mask"), st.lists(MASK_PAIRS, min_size=1, max_size=3)),
)


@settings(max_examples=40)
@given(ANY_CLIPS)
def test_hota_is_trackevals(case: tuple[Any, list]) -> None:
    similarity, clips = case
    expected = oracle(HOTA(), clips, similarity)
    score = combine([hota(*pair, similarity=similarity) for pair in clips])
    assert score.hota_per_alpha == near(expected["HOTA"])
    assert score.det_a_per_alpha == near(expected["DetA"])
    assert score.ass_a_per_alpha == near(expected["AssA"])
    assert score.loc_a_per_alpha == near(expected["LocA"])
    assert score.hota == near(expected["HOTA"].mean())
    counts = score.true_positives, score.misses, score.false_positives
    assert np.array_equal(counts, [expected[f"HOTA_{name}"] for name in ("TP", "FN", "FP")])


@settings(max_examples=40)
@given(ANY_CLIPS, st.sampled_from([0.5, 0.3]))
def test_clear_is_trackevals(case: tuple[Any, list], threshold: float) -> None:
    similarity, clips = case
    expected = oracle(CLEAR({"THRESHOLD": threshold, "PRINT_CONFIG": False}), clips, similarity)
    score = combine([mota(*pair, similarity=similarity, threshold=threshold) for pair in clips])
    ours = {
        "MOTA": score.mota,
        "sMOTA": score.soft_mota,
        "MOTP": score.motp,
        "CLR_Re": score.recall,
        "CLR_Pr": score.precision,
        "CLR_TP": score.true_positives,
        "CLR_FN": score.misses,
        "CLR_FP": score.false_positives,
        "IDSW": score.id_switches,
        "MT": score.mostly_tracked,
        "PT": score.partially_tracked,
        "ML": score.mostly_lost,
        "Frag": score.fragmentations,
    }
    assert ours == near({name: expected[name] for name in ours})


@settings(max_examples=40)
@given(ANY_CLIPS, st.sampled_from([0.5, 0.3]))
def test_identity_is_trackevals(case: tuple[Any, list], threshold: float) -> None:
    similarity, clips = case
    expected = oracle(Identity({"THRESHOLD": threshold, "PRINT_CONFIG": False}), clips, similarity)
    score = combine([id_f1(*pair, similarity=similarity, threshold=threshold) for pair in clips])
    ours = {
        "IDF1": score.id_f1,
        "IDP": score.id_precision,
        "IDR": score.id_recall,
        "IDTP": score.true_positives,
        "IDFN": score.misses,
        "IDFP": score.false_positives,
    }
    assert ours == near({name: expected[name] for name in ours})


@settings(max_examples=40)
@given(st.lists(MASK_PAIRS, min_size=1, max_size=3))
def test_smotsa_is_trackevals(clips: list) -> None:
    expected = oracle(CLEAR({"PRINT_CONFIG": False}), clips, "mask")
    score = combine([smotsa(*pair) for pair in clips])
    assert score.summary() == near({"smotsa": expected["sMOTA"], "motsa": expected["MOTA"], "motsp": expected["MOTP"]})


@settings(max_examples=40)
@given(st.lists(MASK_PAIRS, min_size=1, max_size=2))
@pytest.mark.filterwarnings("ignore:Mean of empty slice:RuntimeWarning")
def test_j_and_f_is_trackevals(clips: list) -> None:
    assume(all(truth.ids() for truth, _ in clips))
    expected = oracle(JAndF(), clips, "mask")
    score = combine([j_and_f(*pair) for pair in clips])
    assert (score.j, score.f) == near((expected["J-Mean"], expected["F-Mean"]))
    assert score.mean == near(expected["J&F"])
    assert len(score.object_ids) == expected["num_gt_tracks"]


@settings(max_examples=20)
@given(pairs(mask_clips))
def test_f_of_a_large_frame_is_trackevals(clips: tuple[Tracks, Tracks]) -> None:
    """The same masks in the corner of a frame so large that the tolerance is a wide disk."""
    assume(clips[0].ids())

    def enlarged(tracks: Tracks) -> Tracks:
        frames = []
        for frame in tracks.frames:
            assert frame.masks is not None
            frames.append(replace(frame, masks=np.pad(frame.masks, ((0, 0), (300, 1), (400, 0)))))
        return Tracks(tuple(frames), tracks.height + 301, tracks.width + 400, "vos")

    large = enlarged(clips[0].track(clips[0].ids()[0])), enlarged(clips[1])
    expected = oracle(JAndF(), [large], "mask")
    assert j_and_f(*large).f == near(expected["F-Mean"])


@settings(max_examples=30)
@given(mask_clips(), st.permutations([0, 1, 2, 7]))
def test_metrics_do_not_depend_on_which_ids_are_given(truth: Tracks, order: list[int]) -> None:
    names = dict(zip([0, 1, 2, 7], order, strict=True))
    frames = (replace(frame, ids=np.array([names[id] for id in frame.ids.tolist()], int)) for frame in truth.frames)
    renamed = replace(truth, frames=tuple(frames))
    assert hota(truth, renamed).summary() == pytest.approx(hota(truth, truth).summary())
    assert mota(truth, renamed, similarity="mask") == mota(truth, truth, similarity="mask")
    assert id_f1(truth, renamed) == id_f1(truth, truth)
    assume(truth.ids())
    assert j_and_f(truth, renamed).mean == 1


def test_j_and_f_by_ids_and_by_the_best_pairing() -> None:
    one, two = rectangle(0, 0, 4, 4), rectangle(8, 4, 5, 5)
    truth = mask_clip({1: one, 2: two}, {1: one, 2: two})
    prediction = mask_clip({2: one, 1: two}, {2: one, 1: two, 3: two})
    assert j_and_f(truth, prediction).mean == 1
    assert j_and_f(truth, prediction, pairing="ids").mean == 0
    half = mask_clip({1: one, 3: two}, {3: two})
    score = j_and_f(truth, half, pairing="ids")
    assert score.object_ids == (1, 2)
    assert score.object_j == score.object_f == (0.5, 0.0)
    assert j_and_f(truth, half).object_j == (0.5, 1.0)


def test_a_prediction_of_nothing_and_a_truth_of_nothing() -> None:
    truth, nothing = mask_clip({1: rectangle(0, 0, 3, 3)}), mask_clip({})
    assert hota(truth, nothing).summary() == {"hota": 0, "det_a": 0, "ass_a": 0, "loc_a": 1}
    assert mota(truth, nothing).misses == mota(nothing, truth).false_positives == 1
    assert id_f1(truth, nothing).id_f1 == id_f1(nothing, truth).id_f1 == 0
    assert smotsa(nothing, truth).smotsa == -1
    assert j_and_f(truth, nothing).mean == 0
    assert math.isnan(j_and_f(nothing, truth).mean)
    assert combine([j_and_f(nothing, truth), j_and_f(truth, truth)]).mean == 1


def test_plain_numbers_are_averaged() -> None:
    assert combine([0.25, 0.75]) == 0.5
    assert combine([0.25]) == 0.25


def test_summaries_are_json() -> None:
    truth = mask_clip({1: rectangle(0, 0, 3, 3)})
    scores = [hota(truth, truth), mota(truth, truth), id_f1(truth, truth), smotsa(truth, truth), j_and_f(truth, truth)]
    assert [len(json.loads(json.dumps(score.summary()))) for score in scores] == [4, 4, 3, 3, 3]


def test_scores_that_cannot_be_combined() -> None:
    clips = swapped_ids(1)
    with pytest.raises(TrackingError, match="there are no scores to combine"):
        combine([])
    with pytest.raises(TrackingError, match="of different metrics"):
        combine([hota(*clips), mota(*clips)])


def test_clips_that_cannot_be_compared() -> None:
    truth, prediction = swapped_ids(2)
    shorter = replace(prediction, frames=prediction.frames[1:])
    wider = replace(prediction, width=101)
    for metric in (hota, id_f1, mota, smotsa, j_and_f, success_auc, precision, normalised_precision):
        with pytest.raises(TrackingError, match="the truth has 4 frames of 100 x 100 pixels, the prediction 3 frames"):
            metric(truth, shorter)
        with pytest.raises(TrackingError, match="the prediction 4 frames of 100 x 101 pixels"):
            metric(truth, wider)
    for metric in (smotsa, j_and_f):
        with pytest.raises(TrackingError, match="the truth has no masks"):
            metric(truth, prediction)
    with pytest.raises(TrackingError, match="the prediction has no masks"):
        hota(mask_clip({}, {}), mask_clip({1: rectangle(0, 0, 2, 2)}, {}).without_masks(), similarity="mask")
    with pytest.raises(TrackingError, match=r"the truth has 2 objects: choose one with truth\.track"):
        success_auc(truth, prediction)
    with pytest.raises(TrackingError, match="the prediction has 2 objects"):
        precision(truth.track(1), prediction)
    with pytest.raises(TrackingError, match="the truth has a box with area in no frame"):
        average_overlap(box_clip({}), box_clip({1: HERE}))


def test_options_that_do_not_exist() -> None:
    clips = swapped_ids(1)
    with pytest.raises(TrackingError, match="similarity is 'iou': choose one of box, mask"):
        hota(*clips, similarity="iou")  # ty: ignore[invalid-argument-type]
    with pytest.raises(TrackingError, match="pairing is 'order': choose one of best, ids"):
        j_and_f(*clips, pairing="order")  # ty: ignore[invalid-argument-type]
    with pytest.raises(TrackingError, match="thresholds is 1: give 2 or more"):
        success_auc(*clips, thresholds=1)


def test_thirty_frames_of_five_objects_take_milliseconds() -> None:
    shape = (128, 128)
    frames = [
        {id: rectangle(20 * id + t % 3, 3 * t, 30, 30, shape) for id in range(5)}  # clipped at the edges
        for t in range(30)
    ]
    truth, prediction = mask_clip(*frames, shape=shape), mask_clip(*frames[1:], frames[0], shape=shape)
    for metric in (hota, id_f1, mota, smotsa, j_and_f):
        times = []
        for _ in range(3):
            start = time.process_time()
            metric(truth, prediction)
            times.append(time.process_time() - start)
        assert min(times) < 0.1, metric  # of processor time; 1 to 25 ms on a quiet machine
