"""Files that are broken or hostile: refused, with the name of the file and the line or entry."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from plugins.tracking import format_parts
from plugins.tracking.errors import TrackingError
from plugins.tracking.formats import (
    read_davis,
    read_mot,
    read_mots,
    read_youtube_vis_results,
    read_youtube_vis_truth,
    write_davis,
    write_mots,
    write_youtube_vis_results,
    write_youtube_vis_truth,
)
from tests.tracking.clips import HEIGHT, WIDTH, mask_clip, rectangle

ONE, TWO = rectangle(0, 0, 3, 3), rectangle(5, 2, 4, 4)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("1,7,1,2,10", "5 columns: give frame,id,left,top,width,height"),
        ("1,7,1,2,10,20,1,-1,-1,-1,9", "11 columns"),
        ("1 7 1 2 10 20 1", "1 columns"),
        ("0,7,1,2,10,20,1", "frame is '0': give a whole number from 1 to 100000"),
        ("1e9,7,1,2,10,20,1", "frame is '1e9'"),
        ("100001,7,1,2,10,20,1", "frame is '100001'"),
        ("1,-1,1,2,10,20,1", "id is '-1'"),
        ("1,7.5,1,2,10,20,1", "id is '7.5'"),
        ("1,9223372036854775808,1,2,10,20,1", "id is '9223372036854775808'"),
        ("1,7,nan,2,10,20,1", "left is 'nan'"),
        ("1,7,1,inf,10,20,1", "top is 'inf'"),
        ("1,7,1,2,ten,20,1", "width is 'ten'"),
        ("1,7,1,2,10,1e39,1", "height is '1e39'"),
        ("1,7,1,2,10,-20,1", "the box is 10 x -20 pixels"),
        ("1,7,1,2,10,20,", "score is ''"),
        ("1,3,1,2,10,20,1", "id 3 comes a second time in frame 1"),
    ],
)
def test_a_broken_mot_line_is_named(tmp_path: Path, line: str, message: str) -> None:
    file = tmp_path / "clip.txt"
    file.write_text(f"1,3,1,2,10,20,1,-1,-1,-1\n\n{line}\n")
    with pytest.raises(TrackingError, match=f"^clip.txt, line 3: .*{message}"):
        read_mot(file, height=100, width=100)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("1 7 2 9 14", "5 columns: give frame id class height width rle"),
        ("1 7 2 9 14 T4 x", "7 columns"),
        ("1 7 2 9 15 T4", r"the mask is \[9, 15\] high and wide, the clip \[9, 14\]"),
        ("1 7 2 9 99999 T4", "size is '99999': give a whole number from 1 to 16384"),
        ("0 7 2 9 14 T4", "frame is '0'"),
        ("1 seven 2 9 14 T4", "id is 'seven'"),
        ("1 7 person 9 14 T4", "class is 'person'"),
        ("1 7 2 9 14 T4", "run-length code is not of 9 x 14 pixels"),
        ("1 7 2 9 14 xyz", "'xyz' is no COCO run-length code"),
    ],
)
def test_a_broken_mots_line_is_named(tmp_path: Path, line: str, message: str) -> None:
    file = tmp_path / "clip.txt"
    write_mots(mask_clip({3: ONE}), file)
    file.write_text(file.read_text() + line)
    with pytest.raises(TrackingError, match=f"^clip.txt, line 2: .*{message}"):
        read_mots(file)


def test_a_second_mask_of_an_id_is_named(tmp_path: Path) -> None:
    file = tmp_path / "clip.txt"
    write_mots(mask_clip({3: ONE}), file)
    file.write_text(2 * file.read_text())
    with pytest.raises(TrackingError, match="line 2: id 3 comes a second time"):
        read_mots(file)


def test_text_files_that_are_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "clip.txt"
    with pytest.raises(TrackingError, match="there is no file"):
        read_mot(file, height=9, width=9)
    file.write_bytes(b"1,\xff")
    with pytest.raises(TrackingError, match=r"clip.txt is not text"):
        read_mot(file, height=9, width=9)
    file.write_text("")
    with pytest.raises(TrackingError, match=r"clip.txt has no frames: give num_frames"):
        read_mot(file, height=9, width=9)
    with pytest.raises(TrackingError, match="has no masks and so no size: give height and width"):
        read_mots(file)
    assert len(read_mots(file, height=9, width=9, num_frames=4)) == len(read_mot(file, height=9, width=9, num_frames=4))
    monkeypatch.setattr(format_parts, "MAX_FILE_BYTES", 3)
    file.write_text("1,2,3")
    with pytest.raises(TrackingError, match=r"clip.txt is 0 MiB, limit 0"):
        read_mot(file, height=9, width=9)


def test_masks_that_unpack_to_too_much_are_refused_before_they_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_mots(mask_clip({1: ONE, 2: TWO}, {1: ONE}), tmp_path / "clip.txt")
    write_davis(mask_clip({1: ONE, 2: TWO}, {1: ONE}), tmp_path / "clip")
    write_youtube_vis_truth({"clip": mask_clip({1: ONE, 2: TWO}, {1: ONE})}, tmp_path / "clip.json")
    monkeypatch.setattr(format_parts.Budget, "__init__", lambda self: setattr(self, "left", 2 * HEIGHT * WIDTH))
    with pytest.raises(TrackingError, match=r"clip.txt, line 3: the masks up to here take more than 2 GiB"):
        read_mots(tmp_path / "clip.txt")
    with pytest.raises(TrackingError, match=r"00001.png: the masks up to here"):
        read_davis(tmp_path / "clip")
    with pytest.raises(TrackingError, match=r"clip.json, annotations\[1\], frame 1: the masks up to here"):
        read_youtube_vis_truth(tmp_path / "clip.json")


def save(values: np.ndarray, path: Path, **more: Any) -> None:
    Image.fromarray(values).save(path, **more)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda place: (place / "00001.png").write_bytes(b"no picture"), "00001.png is not a sound PNG"),
        (lambda place: save(np.zeros((3, 3), np.uint8), place / "00001.png"), "00001.png has another size than 00000"),
        (lambda place: save(np.zeros((9, 14, 3), np.uint8), place / "00001.png"), "00001.png is RGB of 14 x 9 pixels"),
        (lambda place: save(np.zeros((9, 14), np.uint16), place / "00001.png"), "00001.png is I;16 of 14 x 9"),
        (lambda place: save(np.zeros((9, 14), np.uint8), place / "00001.png", format="JPEG"), "is not a sound PNG"),
        (lambda place: [file.unlink() for file in place.glob("*.png")], "holds 0 PNG files"),
        (lambda place: (place / "ids.json").write_text("[1]"), "ids.json is no table"),
        (lambda place: (place / "ids.json").write_text("{"), "ids.json is not JSON"),
        (lambda place: (place / "ids.json").write_text('{"1": 5}'), "00000.png: index 2 is not in ids.json"),
        (lambda place: (place / "ids.json").write_text('{"1": 5, "2": 5}'), "gives two indices one id"),
        (lambda place: (place / "ids.json").write_text('{"0": 5}'), "index is '0'"),
        (lambda place: (place / "ids.json").write_text('{"1": "5"}'), "'1' is a str"),
    ],
)
def test_a_broken_davis_folder_is_refused(tmp_path: Path, spoil: Callable[[Path], Any], message: str) -> None:
    write_davis(mask_clip({1: ONE, 2: TWO}, {1: ONE}), tmp_path / "clip")
    spoil(tmp_path / "clip")
    with pytest.raises(TrackingError, match=message):
        read_davis(tmp_path / "clip")


@settings(max_examples=50)
@given(st.integers(0, 10**6), st.binary(min_size=1, max_size=3), st.booleans())
def test_a_png_with_other_bytes_is_read_or_refused(place: int, spoilt: bytes, cut: bool) -> None:
    with TemporaryDirectory() as root:
        folder = Path(root) / "clip"
        write_davis(mask_clip({1: ONE, 2: TWO}), folder)
        file = folder / "00000.png"
        content = file.read_bytes()
        place %= len(content)
        file.write_bytes(content[:place] + spoilt + (b"" if cut else content[place + len(spoilt) :]))
        try:
            read_davis(folder)
        except TrackingError as error:
            assert "00000.png" in str(error)  # noqa: PT017


def entry(**changes: Any) -> Callable[[Any], Any]:
    """Changes one annotation of the ground truth."""
    return lambda truth: truth["annotations"][0].update(changes)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda truth: truth.pop("videos"), ": 'videos' is missing"),
        (lambda truth: truth.pop("annotations"), ": 'annotations' is missing"),
        (lambda truth: truth["videos"][0].pop("height"), r"videos\[0\]: 'height' is missing"),
        (lambda truth: truth["videos"][0].update(width=0), r"videos\[0\]: width is '0'"),
        (lambda truth: truth["videos"][0].update(file_names=[]), r"videos\[0\]: 0 file names"),
        (lambda truth: truth["videos"].append(truth["videos"][0]), r"videos\[1\]: id 1 or name 'clip' comes a second"),
        (lambda truth: truth["annotations"].append(5), r"annotations\[1\]: 'id' is missing"),
        (lambda truth: truth["annotations"].append(truth["annotations"][0]), r"annotations\[1\]: id 3 comes a second"),
        (entry(track_id=True), r"annotations\[0\]: 'track_id' is a bool"),
        (entry(track_id=-4), "track_id is '-4'"),
        (entry(video_id=9), r"annotations\[0\]: there is no video 9"),
        (entry(segmentations=[]), r"annotations\[0\]: 0 masks, 1 boxes, 1 frames"),
        (entry(segmentations=["x"]), r"annotations\[0\], frame 1: 'counts' is missing"),
        (entry(segmentations=[[[0, 0, 1, 1]]]), r"annotations\[0\], frame 1: 'counts' is missing"),
        (entry(segmentations=[{"size": [9, 14], "counts": 5}]), "'counts' is a int"),
        (entry(segmentations=[{"size": [14, 9], "counts": [126]}]), r"the mask is \[14, 9\] high and wide"),
        (entry(segmentations=[{"size": [9, 14], "counts": [125]}]), "run-length code is not of 9 x 14"),
        (entry(segmentations=[{"size": [9, 14], "counts": [10**30]}]), "something else than pixel counts"),
        (entry(bboxes=[[1, 2, 3]]), r"a box is \[1, 2, 3\]"),
        (entry(bboxes=[[1, 2, 3, -3]]), "the box is 3 x -3 pixels"),
        (entry(bboxes=[[1, 2, 3, 10**400]]), "height is '1000"),
        (entry(score="high"), "'score' is a str"),
    ],
)
def test_a_broken_youtube_vis_entry_is_named(tmp_path: Path, spoil: Callable[[Any], Any], message: str) -> None:
    file = tmp_path / "truth.json"
    write_youtube_vis_truth({"clip": mask_clip({3: ONE})}, file)
    truth = json.loads(file.read_text())
    spoil(truth)
    file.write_text(json.dumps(truth))
    with pytest.raises(TrackingError, match=f"^truth.json.*{message}"):
        read_youtube_vis_truth(file)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "truth.json is not JSON"),
        ("[" * 100_000, "truth.json is not JSON"),
        ('{"videos": NaN}', "NaN is no JSON number"),
        ("1" * 5000, "holds a number that is too long"),
        ("[]", "'annotations' is missing"),
    ],
)
def test_json_that_is_none(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "truth.json").write_text(text)
    with pytest.raises(TrackingError, match=message):
        read_youtube_vis_truth(tmp_path / "truth.json")


def test_results_need_their_ground_truth(tmp_path: Path) -> None:
    write_youtube_vis_truth({"clip": mask_clip({3: ONE})}, tmp_path / "truth.json")
    with pytest.raises(TrackingError, match=r"truth.json is no list: give results"):
        read_youtube_vis_results(tmp_path / "truth.json", tmp_path / "truth.json")
    write_youtube_vis_results({"a": mask_clip({}), "b": mask_clip({3: ONE})}, tmp_path / "results.json")
    with pytest.raises(TrackingError, match=r"results.json, result 0: there is no video 2"):
        read_youtube_vis_results(tmp_path / "results.json", tmp_path / "truth.json")
