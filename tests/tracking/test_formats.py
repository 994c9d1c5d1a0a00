"""Tracks to files and back; TrackEval reads the files; writing is all or nothing."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from PIL import Image
from pycocotools import mask as coco
from trackeval.datasets import DAVIS, MotChallenge2DBox, MOTSChallenge, YouTubeVIS
from trackeval.metrics import CLEAR, HOTA, JAndF

from plugins.tracking.errors import TrackingError
from plugins.tracking.format_parts import decode, encode_runs, encode_text
from plugins.tracking.formats import (
    read_davis,
    read_mot,
    read_mots,
    read_youtube_vis_results,
    read_youtube_vis_truth,
    write_davis,
    write_mot,
    write_mot_truth,
    write_mots,
    write_youtube_vis_results,
    write_youtube_vis_truth,
)
from plugins.tracking.metrics import hota, j_and_f, mota, smotsa
from plugins.tracking.results import FrameInstances, Tracks
from tests.tracking.clips import HEIGHT, WIDTH, box_clip, box_clips, mask_clip, mask_clips, masks, pairs, rectangle

ONE, TWO = rectangle(0, 0, 3, 3), rectangle(5, 2, 4, 4)


@contextmanager
def folder() -> Generator[Path]:
    """A folder for one example; pytest's lasts for all examples of a test."""
    with TemporaryDirectory() as name:
        yield Path(name)


def seen(tracks: Tracks) -> Tracks:
    """Without the instances whose mask is empty, which an id map cannot show."""
    return replace(tracks, frames=tuple(frame.select(frame.ids[visible(frame)]) for frame in tracks.frames))


def visible(frame: FrameInstances) -> np.ndarray:
    assert frame.masks is not None
    return np.logical_or.reduce(frame.masks, axis=(1, 2))


def with_scores(tracks: Tracks, score: Callable[[int], float]) -> Tracks:
    """Scores by id."""
    frames = (replace(frame, scores=np.array([score(id) for id in frame.ids.tolist()])) for frame in tracks.frames)
    return replace(tracks, frames=tuple(frames))


@settings(max_examples=30)
@given(box_clips(fraction=1 / 3, ids=(0, 1, 2**40, 2**63 - 1)), st.floats(-1e3, 1e3, width=32))
def test_mot_gives_back_every_box(tracks: Tracks, score: float) -> None:
    tracks = with_scores(tracks, lambda id: score + id / 7)
    with folder() as place:
        write_mot(tracks, place / "clip.txt")
        again = read_mot(place / "clip.txt", height=tracks.height, width=tracks.width, num_frames=len(tracks))
    assert again == tracks


def test_mot_is_the_text_that_the_field_knows(tmp_path: Path) -> None:
    tracks = box_clip({7: (1, 2, 11, 22)}, {}, {7: (1.5, 2, 11, 22), 3: (-1, 0, 4, 4)})
    write_mot(with_scores(tracks, lambda id: 0.1), tmp_path / "clip.txt")
    assert (tmp_path / "clip.txt").read_bytes().decode() == (
        "1,7,1,2,10,20,0.1,-1,-1,-1\n3,7,1.5,2,9.5,20,0.1,-1,-1,-1\n3,3,-1,0,5,4,0.1,-1,-1,-1\n"
    )
    write_mot_truth(tracks, tmp_path / "gt.txt")
    assert (tmp_path / "gt.txt").read_text().startswith("1,7,1,2,10,20,1,1,1\n")
    assert read_mot(tmp_path / "gt.txt", height=100, width=100) == tracks


def test_mot_lines_of_other_tools(tmp_path: Path) -> None:
    file = tmp_path / "det.txt"
    file.write_text("1.0, 7.0, 1, 2, 1e1, 20\r\n\n2,7,1,2,10,20,-1,-1,-1,-1\n")
    tracks = read_mot(file, height=50, width=60)
    assert tracks.ids() == (7,)
    assert [frame.scores.tolist() for frame in tracks.frames] == [[1], [-1]]


@settings(max_examples=30)
@given(mask_clips())
def test_mots_gives_back_every_mask(tracks: Tracks) -> None:
    tracks = tracks.disjoint()
    with folder() as place:
        write_mots(tracks, place / "clip.txt")
        again = read_mots(place / "clip.txt", height=HEIGHT, width=WIDTH, num_frames=len(tracks))
        if len(tracks.frames[-1]):
            assert read_mots(place / "clip.txt") == tracks
    assert again == tracks


def test_mots_leaves_out_regions_to_ignore(tmp_path: Path) -> None:
    write_mots(mask_clip({1: ONE}), tmp_path / "clip.txt")
    line = (tmp_path / "clip.txt").read_text()
    assert line.startswith("1 1 2 9 14 ")
    (tmp_path / "clip.txt").write_text(line + line.replace("1 1 2", "1 10000 10"))
    assert read_mots(tmp_path / "clip.txt").ids() == (1,)


@settings(max_examples=25)
@given(mask_clips(ids=(1, 7, 254)) | mask_clips(ids=(0, 255, 2**62)))
def test_davis_gives_back_every_mask_that_shows(tracks: Tracks) -> None:
    tracks = seen(tracks.disjoint())
    with folder() as place:
        write_davis(tracks, place / "clip")
        again = read_davis(place / "clip")
        assert [file.name for file in sorted((place / "clip").glob("*.png"))] == [
            f"{number:05d}.png" for number in range(len(tracks))
        ]
        assert [file.name for file in place.iterdir()] == ["clip"]
    assert again == replace(tracks, task="vos")


def test_davis_has_the_palette_of_davis(tmp_path: Path) -> None:
    write_davis(mask_clip({1: ONE, 2: TWO}), tmp_path / "clip")
    with Image.open(tmp_path / "clip/00000.png") as image:
        assert image.mode == "P"
        assert image.getpixel((0, 0)) == 1
        colours = np.array(image.convert("RGB"))
    assert [colours[place].tolist() for place in ((0, 0), (2, 5), (8, 0))] == [[128, 0, 0], [0, 128, 0], [0, 0, 0]]


def test_davis_keeps_ids_that_do_not_fit_a_byte_in_a_table(tmp_path: Path) -> None:
    write_davis(mask_clip({1: ONE, 2000: TWO}), tmp_path / "clip")
    assert json.loads((tmp_path / "clip/ids.json").read_text()) == {"1": 1, "2": 2000}
    write_davis(mask_clip({1: ONE, 254: TWO}), tmp_path / "small")
    assert not (tmp_path / "small/ids.json").exists()


def test_void_is_background(tmp_path: Path) -> None:
    Image.fromarray(np.array([[0, 255], [3, 3]], np.uint8)).save(tmp_path / "00000.png")
    assert read_davis(tmp_path) == Tracks.from_id_map(np.array([[[0, 0], [3, 3]]]))


@settings(max_examples=30)
@given(mask_clips(), mask_clips())
def test_youtube_vis_gives_back_every_clip(one: Tracks, two: Tracks) -> None:
    clips = {"one": one, "two": two}
    results = {name: with_scores(tracks, lambda id: 1 / (3 + id)) for name, tracks in clips.items()}
    with folder() as place:
        write_youtube_vis_truth(clips, place / "truth.json")
        write_youtube_vis_results(results, place / "results.json")
        assert read_youtube_vis_truth(place / "truth.json") == clips
        assert read_youtube_vis_results(place / "results.json", place / "truth.json") == results


def test_youtube_vis_keeps_boxes_of_the_truth_and_numbers_results_without_ids(tmp_path: Path) -> None:
    loose = replace(mask_clip({5: ONE}).frames[0], xyxy=np.array([[0.1, 0.2, 3.3, 3.5]]))
    clips = {"clip": Tracks((loose,), HEIGHT, WIDTH, "mots")}
    write_youtube_vis_truth(clips, tmp_path / "truth.json")
    assert read_youtube_vis_truth(tmp_path / "truth.json") == clips
    write_youtube_vis_results(clips, tmp_path / "results.json")
    results = json.loads((tmp_path / "results.json").read_text())
    del results[0]["track_id"]
    (tmp_path / "results.json").write_text(json.dumps(results))
    assert read_youtube_vis_results(tmp_path / "results.json", tmp_path / "truth.json") == {"clip": mask_clip({1: ONE})}


@given(masks() | st.just(np.ones((HEIGHT, WIDTH), bool)))
def test_run_length_codes_are_cocos(mask: np.ndarray) -> None:
    text, runs = encode_text(mask), encode_runs(mask)
    assert np.array_equal(coco.decode({"size": [*mask.shape], "counts": text}), mask)
    assert coco.frPyObjects({"size": [*mask.shape], "counts": runs}, *mask.shape)["counts"].decode() == text
    assert np.array_equal(decode(text, *mask.shape, "here"), mask)
    assert np.array_equal(decode(runs, *mask.shape, "here"), mask)


def test_run_length_codes_of_a_large_mask() -> None:
    mask = np.zeros((1500, 1500), bool)
    mask[3:1400, 700:] = np.random.default_rng(0).random((1397, 800)) < 0.001
    assert np.array_equal(decode(encode_text(mask), 1500, 1500, "here"), mask)


@given(st.text(st.characters(min_codepoint=40, max_codepoint=120), max_size=12))
def test_any_text_is_a_mask_or_refused(text: str) -> None:
    try:
        mask = decode(text, 3, 4, "here")
    except TrackingError:
        return
    assert mask.shape == (3, 4)
    assert np.array_equal(coco.decode({"size": [3, 4], "counts": text}), mask)


@pytest.mark.parametrize("counts", ["", "5", "o", "\ud800", "PPPPPPPPo1", [], [11], [13, -1], [6.0, 6.0], [True] * 12])
def test_run_length_codes_that_are_none(counts: str | list) -> None:
    with pytest.raises(TrackingError, match=r"here: .*run-length code"):
        decode(counts, 3, 4, "here")


def scores_of(dataset: Any, tracker: str, sequence: str, category: str, metric: Any) -> dict[str, Any]:
    """TrackEval's figures from files."""
    raw = dataset.get_raw_seq_data(tracker, sequence)
    return metric.eval_sequence(dataset.get_preprocessed_seq_data(raw, category))


def places(root: Path, **more: Any) -> dict[str, Any]:
    return {
        "GT_FOLDER": str(root / "gt"),
        "TRACKERS_FOLDER": str(root / "trackers"),
        "TRACKERS_TO_EVAL": ["ours"],
        "PRINT_CONFIG": False,
        **more,
    }


def made(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def clear() -> CLEAR:
    return CLEAR({"PRINT_CONFIG": False})


@settings(max_examples=10)
@given(pairs(box_clips))
def test_trackeval_reads_mot(clips: tuple[Tracks, Tracks]) -> None:
    truth, prediction = clips
    # With an empty file TrackEval cannot tell its separator.
    assume(truth.ids() and prediction.ids())
    with folder() as root:
        write_mot_truth(truth, made(root / "gt/clip/gt/gt.txt"))
        write_mot(prediction, made(root / "trackers/ours/data/clip.txt"))
        dataset = MotChallenge2DBox(places(root, SKIP_SPLIT_FOL=True, SEQ_INFO={"clip": len(truth)}))
        expected = scores_of(dataset, "ours", "clip", "pedestrian", clear())
    assert mota(truth, prediction).mota == pytest.approx(expected["MOTA"], abs=1e-9)
    assert mota(truth, prediction).motp == pytest.approx(expected["MOTP"], abs=1e-9)


@settings(max_examples=10)
@given(pairs(mask_clips))
def test_trackeval_reads_mots(clips: tuple[Tracks, Tracks]) -> None:
    truth, prediction = (seen(tracks.disjoint()) for tracks in clips)
    assume(truth.ids() and prediction.ids())
    with folder() as root:
        write_mots(truth, made(root / "gt/clip/gt/gt.txt"))
        write_mots(prediction, made(root / "trackers/ours/data/clip.txt"))
        dataset = MOTSChallenge(places(root, SKIP_SPLIT_FOL=True, SEQ_INFO={"clip": len(truth)}))
        expected = scores_of(dataset, "ours", "clip", "pedestrian", clear())
    assert smotsa(truth, prediction).smotsa == pytest.approx(expected["sMOTA"], abs=1e-9)


@settings(max_examples=10)
@given(pairs(lambda length: mask_clips(length, ids=(1, 2, 7))))
def test_trackeval_reads_davis(clips: tuple[Tracks, Tracks]) -> None:
    truth, prediction = (seen(tracks.disjoint()) for tracks in clips)
    assume(truth.ids())
    with folder() as root:
        write_davis(truth, made(root / "gt/clip"))
        write_davis(prediction, made(root / "trackers/ours/data/clip"))
        dataset = DAVIS(places(root, SEQ_INFO={"clip": len(truth)}))
        expected = scores_of(dataset, "ours", "clip", "general", JAndF())
    assert j_and_f(truth, prediction).mean == pytest.approx(expected["J&F"], abs=1e-9)


@settings(max_examples=10)
@given(pairs(mask_clips))
def test_trackeval_reads_youtube_vis(clips: tuple[Tracks, Tracks]) -> None:
    truth, prediction = clips
    with folder() as root:
        write_youtube_vis_truth({"clip": truth}, made(root / "gt/youtube_vis_val/truth.json"))
        write_youtube_vis_results({"clip": prediction}, made(root / "trackers/youtube_vis_val/ours/data/results.json"))
        ends = {"GT_FOLDER": f"{root}/gt/", "TRACKERS_FOLDER": f"{root}/trackers/"}
        dataset = YouTubeVIS(places(root, SPLIT_TO_EVAL="val") | ends)
        expected = scores_of(dataset, "ours", "clip", "object", HOTA())
    score = hota(truth, prediction, similarity="mask")
    assert score.hota_per_alpha == pytest.approx(expected["HOTA"], abs=1e-9)


def test_what_a_format_cannot_hold(tmp_path: Path) -> None:
    overlapping = mask_clip({}, {1: ONE, 2: ONE})
    boxes = box_clip({1: (0, 0, 5, 5)})
    for write in (write_mots, write_davis):
        with pytest.raises(TrackingError, match=r"masks of frame 1 overlap.*call disjoint\(\) first"):
            write(overlapping, tmp_path / "clip")
        with pytest.raises(TrackingError, match="boxes only"):
            write(boxes, tmp_path / "clip")
    for write in (write_youtube_vis_truth, write_youtube_vis_results):
        with pytest.raises(TrackingError, match="boxes only"):
            write({"clip": boxes}, tmp_path / "clip")
    with pytest.raises(TrackingError, match="clip name 'a/b'"):
        write_youtube_vis_truth({"a/b": overlapping}, tmp_path / "clip")
    crowd = mask_clip(*({id: ONE} for id in range(1, 256)))
    with pytest.raises(TrackingError, match="255 objects, limit 254 for DAVIS"):
        write_davis(crowd, tmp_path / "clip")
    assert not list(tmp_path.iterdir())


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tracks = mask_clip({1: ONE}, {1: ONE})
    write_mots(tracks, tmp_path / "clip.txt")
    old = (tmp_path / "clip.txt").read_bytes()

    def fail(*arguments: Any, **more: Any) -> None:
        raise OSError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", fail)
        with pytest.raises(OSError, match="disk full"):
            write_mots(mask_clip({2: TWO}), tmp_path / "clip.txt")
    with monkeypatch.context() as patch:
        patch.setattr(Image.Image, "save", fail)
        with pytest.raises(OSError, match="disk full"):
            write_davis(tracks, tmp_path / "clip")
    assert os.listdir(tmp_path) == ["clip.txt"]
    assert (tmp_path / "clip.txt").read_bytes() == old
    write_mots(mask_clip({2: TWO}), tmp_path / "clip.txt")
    assert read_mots(tmp_path / "clip.txt").ids() == (2,)


def test_places_that_cannot_be_written(tmp_path: Path) -> None:
    tracks = mask_clip({1: ONE})
    for path in (tmp_path, tmp_path / "none/clip.txt"):
        with pytest.raises(TrackingError, match="cannot be a file"):
            write_mots(tracks, path)
    with pytest.raises(TrackingError, match="none is no folder: create it first"):
        write_davis(tracks, tmp_path / "none/clip")
    (tmp_path / "full").mkdir()
    write_davis(tracks, tmp_path / "full")  # an empty folder is as good as none
    with pytest.raises(TrackingError, match="holds something already"):
        write_davis(tracks, tmp_path / "full")
