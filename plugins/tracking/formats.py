"""Tracks to and from the files of the field: MOT, MOTS, DAVIS and YouTube-VIS.

No format holds everything. Boxes of mask files are tight, scores are 1 where a format has none, and which instances
are stale is never written. What is written appears whole or not at all; what is read is checked, and a
`TrackingError` names the file and the line or entry.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from .errors import TrackingError
from .format_parts import (
    MAX_FRAMES,
    MAX_ID,
    MAX_SIDE,
    Budget,
    Draft,
    check_file,
    corners,
    decimal,
    decode,
    encode_runs,
    encode_text,
    extents,
    new_folder,
    read_json,
    read_lines,
    take,
    whole,
    write_text,
)
from .results import FrameInstances, Tracks, overlaps

PathLike = str | Path

MOTS_PEDESTRIAN, MOTS_IGNORED = 2, 10
LARGEST_INDEX, VOID = 254, 255
ID_TABLE = "ids.json"


def write_mot(tracks: Tracks, path: PathLike) -> None:
    """Write boxes as MOTChallenge results, `frame,id,left,top,width,height,score,-1,-1,-1`, frames from 1."""
    _write_boxes(tracks, path, lambda score: f"{_digits(score)},-1,-1,-1")


def write_mot_truth(tracks: Tracks, path: PathLike) -> None:
    """Write boxes as MOTChallenge ground truth, `frame,id,left,top,width,height,1,1,1`: pedestrians in full view."""
    _write_boxes(tracks, path, lambda score: "1,1,1")


def _write_boxes(tracks: Tracks, path: PathLike, ending: Callable[[np.float32], str]) -> None:
    lines = []
    for number, frame in enumerate(tracks.frames, start=1):
        for id, xyxy, score in zip(frame.ids, frame.xyxy, frame.scores, strict=True):
            box = ",".join(_digits(np.float64(value)) for value in extents(xyxy))
            lines.append(f"{number},{id},{box},{ending(score)}\n")
    write_text(Path(path), "".join(lines))


def _digits(value: np.floating) -> str:
    """The number in full, without an exponent and without zeros that say nothing."""
    return np.format_float_positional(value, trim="-")


def read_mot(path: PathLike, *, height: int, width: int, num_frames: int | None = None) -> Tracks:
    """Read a MOTChallenge file, results or ground truth; its seventh column becomes the score, 1 where it has none.

    Args:
        height, width: of the clip, which the file does not say.
        num_frames: of the clip; up to the last frame that has a box unless given.
    """
    draft = Draft(height, width)
    for where, line in read_lines(Path(path)):
        columns = line.split(",")
        if not 6 <= len(columns) <= 10:
            raise TrackingError(f"{where}: {len(columns)} columns: give frame,id,left,top,width,height,score,-1,-1,-1")
        frame = whole(columns[0], "frame", where, 1, num_frames or MAX_FRAMES)
        id = whole(columns[1], "id", where, 0, MAX_ID)
        score = decimal(columns[6], "score", where) if len(columns) > 6 else 1.0
        draft.add(where, frame - 1, id, corners(columns[2:6], where), None, score)
    return draft.tracks(_length(draft, num_frames, path), "mot")


def write_mots(tracks: Tracks, path: PathLike, *, category: int = MOTS_PEDESTRIAN) -> None:
    """Write masks as MOTS text, `frame id class height width rle`, frames from 1; no two masks may share a pixel."""
    _check_disjoint(tracks)
    size = f"{tracks.height} {tracks.width}"
    lines = [
        f"{number} {id} {category} {size} {encode_text(mask)}\n"
        for number, frame in enumerate(tracks.frames, start=1)
        for id, mask in zip(frame.ids, _masks(frame), strict=True)
    ]
    write_text(Path(path), "".join(lines))


def read_mots(
    path: PathLike, *, height: int | None = None, width: int | None = None, num_frames: int | None = None
) -> Tracks:
    """Read MOTS text, results or ground truth, of every class but 10, regions to ignore.

    Args:
        height, width: of the clip; as the first line says unless given.
        num_frames: of the clip; up to the last frame that has a mask unless given.
    """
    draft, budget = None if height is None or width is None else Draft(height, width), Budget()
    for where, line in read_lines(Path(path)):
        columns = line.split()
        if len(columns) != 6:
            raise TrackingError(f"{where}: {len(columns)} columns: give frame id class height width rle")
        frame = whole(columns[0], "frame", where, 1, num_frames or MAX_FRAMES)
        id, category = (whole(columns[place], ("id", "class")[place - 1], where, 0, MAX_ID) for place in (1, 2))
        size = [whole(text, "size", where, 1, MAX_SIDE) for text in columns[3:5]]
        draft = draft or Draft(size[0], size[1])
        mask = _decode(columns[5], size, draft, budget, where)
        if category != MOTS_IGNORED:
            draft.add(where, frame - 1, id, None, mask, 1.0)
    if draft is None:
        raise TrackingError(f"{Path(path).name} has no masks and so no size: give height and width")
    return draft.tracks(_length(draft, num_frames, path), "mots")


def _decode(counts: str | list, size: list, draft: Draft, budget: Budget, where: str) -> np.ndarray:
    if size != [draft.height, draft.width]:
        raise TrackingError(
            f"{where}: the mask is {str(size)[:40]} high and wide, the clip {[draft.height, draft.width]}: "
            "give masks of the clip's height and width"
        )
    budget.spend(draft.height * draft.width, where)
    return decode(counts, draft.height, draft.width, where)


def _length(draft: Draft, num_frames: int | None, path: PathLike) -> int:
    length = num_frames or 1 + max(draft.rows, default=-1)
    if length < 1:
        raise TrackingError(f"{Path(path).name} has no frames: give num_frames")
    return length


def write_davis(tracks: Tracks, folder: PathLike) -> None:
    """Write masks as a DAVIS folder: a palette PNG for each frame, named 00000.png onwards, 0 for background.

    An id is its own index from 1 to 254. If any id is not, all are numbered from 1 and `ids.json` in the folder says
    which number is which id; TrackEval, which takes every file for a frame, does not read such a folder.
    """
    _check_disjoint(tracks)
    ids = tracks.ids()
    if len(ids) > LARGEST_INDEX:
        raise TrackingError(f"{len(ids)} objects, limit {LARGEST_INDEX} for DAVIS: choose fewer or write_mots")
    fits = all(1 <= id <= LARGEST_INDEX for id in ids)
    indices = {id: id if fits else place for place, id in enumerate(ids, start=1)}
    with new_folder(Path(folder)) as partial:
        for number, frame in enumerate(tracks.frames):
            values = np.zeros((tracks.height, tracks.width), np.uint8)
            for id, mask in zip(frame.ids.tolist(), _masks(frame), strict=True):
                values[mask] = indices[id]
            image = Image.fromarray(values)
            image.putpalette(_palette())
            image.save(partial / f"{number:05d}.png")
        if not fits:
            table = {str(index): id for id, index in indices.items()}
            (partial / ID_TABLE).write_text(json.dumps(table), encoding="utf-8")


def _palette() -> bytes:
    """The 256 colours of DAVIS and PASCAL VOC: bits of the index dealt out to red, green and blue, high ones first."""
    index, colours = np.arange(256), np.zeros((256, 3), np.uint8)
    for channel in range(3):
        for bit in range(3):
            colours[:, channel] |= ((index >> (3 * bit + channel) & 1) << (7 - bit)).astype(np.uint8)
    return colours.tobytes()


def read_davis(folder: PathLike) -> Tracks:
    """Read a DAVIS folder, its PNG files in the order of their names; index 255, void, is taken for background."""
    folder = Path(folder)
    files = sorted(folder.glob("*.png"))
    if not 1 <= len(files) <= MAX_FRAMES:
        raise TrackingError(f"{folder} holds {len(files)} PNG files: give a folder of 1 to {MAX_FRAMES}")
    table, budget = _id_table(folder / ID_TABLE), Budget()
    draft = Draft(*_read_indices(files[0]).shape)
    for place, file in enumerate(files):
        values = _read_indices(file)
        if values.shape != (draft.height, draft.width):
            raise TrackingError(f"{file.name} has another size than {files[0].name}: give frames of one size")
        for index in np.unique(values[(values != 0) & (values != VOID)]).tolist():
            if table is not None and index not in table:
                raise TrackingError(f"{file.name}: index {index} is not in {ID_TABLE}: add it or remove the table")
            budget.spend(values.size, file.name)
            draft.add(file.name, place, index if table is None else table[index], None, values == index, 1.0)
    return draft.tracks(len(files), "vos")


def _read_indices(file: Path) -> np.ndarray:
    """Palette indices, or grey values, of a PNG, uint8 [H, W]."""
    check_file(file)
    try:
        with Image.open(file, formats=["PNG"]) as image:
            found = f"{image.mode} of {image.width} x {image.height} pixels"
            values = np.array(image) if image.mode in ("P", "L") and max(image.size) <= MAX_SIDE else None
    except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as error:
        raise TrackingError(f"{file.name} is not a sound PNG ({error}): export it again") from error
    if values is None:
        raise TrackingError(f"{file.name} is {found}: give 8 bit palette or grey PNGs of at most {MAX_SIDE} a side")
    return values


def _id_table(file: Path) -> dict[int, int] | None:
    if not file.exists():
        return None
    table = read_json(file)
    if not isinstance(table, dict):
        raise TrackingError(f'{file.name} is no table: give one such as {{"1": 1000}}, from index to id')
    ids = {
        whole(index, "index", file.name, 1, LARGEST_INDEX): whole(
            take(table, index, int, file.name), f"id of index {index}", file.name, 0, MAX_ID
        )
        for index in table
    }
    if len(set(ids.values())) < len(table):
        raise TrackingError(f"{file.name} gives two indices one id: give each its own")
    return ids


def write_youtube_vis_truth(clips: Mapping[str, Tracks], path: PathLike, *, category: str = "object") -> None:
    """Write masks as YouTube-VIS annotations of one category; clips are numbered from 1 in their order.

    Args:
        clips: by name; file names are made up of it, `name/00000.jpg`.
    """
    annotations = []
    for video, tracks in enumerate(clips.values(), start=1):
        for id in tracks.ids():
            masks, boxes = zip(*(_instance(frame, id) for frame in tracks.frames), strict=True)
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "track_id": id,
                    "video_id": video,
                    "category_id": 1,
                    "iscrowd": 0,
                    "height": tracks.height,
                    "width": tracks.width,
                    "length": len(tracks),
                    "segmentations": [_plain_code(mask) for mask in masks],
                    "areas": [None if mask is None else int(mask.sum()) for mask in masks],
                    "bboxes": [None if box is None else extents(box) for box in boxes],
                }
            )
    videos = [_video(number, name, tracks) for number, (name, tracks) in enumerate(clips.items(), start=1)]
    truth = {"videos": videos, "categories": [{"id": 1, "name": category}], "annotations": annotations}
    write_text(Path(path), json.dumps(truth))


def write_youtube_vis_results(clips: Mapping[str, Tracks], path: PathLike) -> None:
    """Write masks as YouTube-VIS results; clips in the order of their ground truth, one score, the mean, per track."""
    results = []
    for video, tracks in enumerate(clips.values(), start=1):
        for id, summary in zip(tracks.ids(), tracks.summary()["objects"], strict=True):
            masks = [_instance(frame, id)[0] for frame in tracks.frames]
            codes = [
                None if mask is None else {"size": list(mask.shape), "counts": encode_text(mask)} for mask in masks
            ]
            results.append(
                {
                    "video_id": video,
                    "category_id": 1,
                    "track_id": id,
                    "score": summary["mean_score"],
                    "segmentations": codes,
                }
            )
    write_text(Path(path), json.dumps(results))


def _instance(frame: FrameInstances, id: int) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Mask and box of one object, None where it is absent."""
    one = frame.select([id])
    return (_masks(one)[0], one.xyxy[0]) if len(one) else (None, None)


def _plain_code(mask: np.ndarray | None) -> dict[str, Any] | None:
    return None if mask is None else {"size": list(mask.shape), "counts": encode_runs(mask)}


def _video(number: int, name: str, tracks: Tracks) -> dict[str, Any]:
    if not name or "/" in name:
        raise TrackingError(f"clip name {name!r} is empty or holds a slash: give a plain name")
    files = [f"{name}/{place:05d}.jpg" for place in range(len(tracks))]
    size = {"height": tracks.height, "width": tracks.width, "length": len(tracks)}
    return {"id": number, **size, "file_names": files}


def read_youtube_vis_truth(path: PathLike) -> dict[str, Tracks]:
    """Read YouTube-VIS annotations, of every category, as one clip for each video; masks as run-length codes."""
    path = Path(path)
    truth = read_json(path)
    annotations = take(truth, "annotations", list, path.name)
    named = [(f"{path.name}, annotations[{place}]", entry) for place, entry in enumerate(annotations)]
    ids = [_annotation_id(entry, where) for where, entry in named]
    return _read_annotations(_read_videos(truth, path), named, ids)


def read_youtube_vis_results(path: PathLike, truth_path: PathLike) -> dict[str, Tracks]:
    """Read YouTube-VIS results as one clip for each video of the ground truth.

    Results that do not say `track_id`, an addition of ours, are numbered from 1.
    """
    path, truth_path = Path(path), Path(truth_path)
    results = read_json(path)
    if not isinstance(results, list):
        raise TrackingError(f"{path.name} is no list: give results, not annotations")
    named = [(f"{path.name}, result {place}", entry) for place, entry in enumerate(results)]
    ids = [
        _annotation_id(entry, where) if isinstance(entry, dict) and "track_id" in entry else place
        for place, (where, entry) in enumerate(named, start=1)
    ]
    return _read_annotations(_read_videos(read_json(truth_path), truth_path), named, ids)


def _annotation_id(entry: Any, where: str) -> int:
    key = "track_id" if isinstance(entry, dict) and "track_id" in entry else "id"
    return whole(take(entry, key, int, where), key, where, 0, MAX_ID)


def _read_videos(truth: Any, path: Path) -> dict[int, tuple[str, int, Draft]]:
    """Name, number of frames and empty draft of each video, by its number."""
    videos = {}
    for place, entry in enumerate(take(truth, "videos", list, path.name)):
        where = f"{path.name}, videos[{place}]"
        files = take(entry, "file_names", list, where)
        if not 1 <= len(files) <= MAX_FRAMES or not isinstance(files[0], str):
            raise TrackingError(f"{where}: {len(files)} file names: give 1 to {MAX_FRAMES} texts")
        number = take(entry, "id", int, where)
        name = files[0].split("/")[0]
        if number in videos or name in (known for known, _, _ in videos.values()):
            raise TrackingError(f"{where}: id {number} or name {name!r} comes a second time: give each video its own")
        height, width = (whole(take(entry, side, int, where), side, where, 1, MAX_SIDE) for side in ("height", "width"))
        videos[number] = name, len(files), Draft(height, width)
    return videos


def _read_annotations(
    videos: dict[int, tuple[str, int, Draft]], named: list[tuple[str, Any]], ids: list[int]
) -> dict[str, Tracks]:
    budget = Budget()
    for (where, entry), id in zip(named, ids, strict=True):
        video = take(entry, "video_id", int, where)
        if video not in videos:
            raise TrackingError(f"{where}: there is no video {video}: give the ground truth that lists it")
        _, length, draft = videos[video]
        codes = take(entry, "segmentations", list, where)
        boxes = take(entry, "bboxes", list, where) if "bboxes" in entry else [None] * length
        if len(codes) != length or len(boxes) != length:
            raise TrackingError(f"{where}: {len(codes)} masks, {len(boxes)} boxes, {length} frames: give one each")
        score = decimal(take(entry, "score", (int, float), where), "score", where) if "score" in entry else 1.0
        for place, (code, box) in enumerate(zip(codes, boxes, strict=True)):
            if code is not None:
                mask = _read_code(code, draft, budget, f"{where}, frame {place + 1}")
                draft.add(where, place, id, _read_box(box, where), mask, score)
    return {name: draft.tracks(length, "mots") for name, length, draft in videos.values()}


def _read_code(code: Any, draft: Draft, budget: Budget, where: str) -> np.ndarray:
    counts = take(code, "counts", (str, list), where)
    return _decode(counts, take(code, "size", list, where), draft, budget, where)


def _read_box(box: Any, where: str) -> np.ndarray | None:
    if box is None:
        return None
    if not isinstance(box, list) or len(box) != 4 or not all(type(value) in (int, float) for value in box):
        raise TrackingError(f"{where}: a box is {str(box)[:40]}: give [left, top, width, height] or null")
    return corners(box, where)


def _masks(frame: FrameInstances) -> np.ndarray:
    if frame.masks is not None:
        return frame.masks
    if len(frame):
        raise TrackingError("the tracks have boxes only: write_mot writes those, the other formats need masks")
    return np.zeros((0, 1, 1), bool)


def _check_disjoint(tracks: Tracks) -> None:
    for number, frame in enumerate(tracks.frames):
        if overlaps(_masks(frame)):
            raise TrackingError(
                f"masks of frame {number} overlap, which this format cannot hold: call disjoint() first"
            )
