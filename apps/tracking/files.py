"""Everything that can be taken away beside the overlay video: tracks in the field's formats, figures, the record."""

from __future__ import annotations

import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from apps.tracking.request import MASKED
from core.jsonfile import write_json
from core.registry import load_object

DOWNLOADS = (
    "overlay.mp4",
    "mot.txt",
    "mots.txt",
    "davis.zip",
    "youtube_vis.json",
    "tracks.json",
    "timeline.csv",
    "experts.csv",
    "results.json",
    "run.json",
)
_FORMATS = "plugins.tracking.formats:"


def write_files(directory: Path, tracks: Any, result: Mapping[str, Any], record: Any) -> None:
    """Write every download but the video.

    Args:
        tracks: the plugin's Tracks.
        result: the job's result.
        record: the run record.
    """
    load_object(_FORMATS + "write_mot")(tracks, directory / "mot.txt")
    if tracks.task in MASKED:
        _write_masks(directory, tracks)
    instances = [
        {"ids": frame.ids, "xyxy": frame.xyxy, "scores": frame.scores, "stale": frame.stale, "sensors": on}
        for frame, on in zip(tracks.frames, result["on"], strict=True)
    ]
    write_json(directory / "tracks.json", tracks.summary() | {"instances": instances})
    _write_tables(directory, result)
    write_json(directory / "results.json", result)
    record.write(directory)


def _write_masks(directory: Path, tracks: Any) -> None:
    """The formats of masks; MOTS and DAVIS leave each pixel to one object."""
    apart = load_object("plugins.tracking.evaluate_scores:writable")(tracks)
    load_object(_FORMATS + "write_mots")(apart, directory / "mots.txt")
    load_object(_FORMATS + "write_youtube_vis_results")({"video": tracks}, directory / "youtube_vis.json")
    with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(directory / "davis.zip", "w") as archive:
        load_object(_FORMATS + "write_davis")(apart, Path(folder) / "davis")
        for file in sorted((Path(folder) / "davis").iterdir()):  # stored: png is packed already
            archive.write(file, f"davis/{file.name}")


def _write_tables(directory: Path, result: Mapping[str, Any]) -> None:
    import pandas as pd

    overlap = result["truth"]["overlap"] if result["truth"] else [None] * len(result["ms"])
    rows = [
        {"frame": number, "sensors": " ".join(on), "ms": ms, "overlap": value}
        | {f"score_{row['id']}": row["scores"][number] for row in result["objects"]}
        for number, (on, ms, value) in enumerate(zip(result["on"], result["ms"], overlap, strict=True))
    ]
    pd.DataFrame(rows).to_csv(directory / "timeline.csv", index=False)
    if result["experts"]:
        shares = [
            {"layer": row["layer"], "group": row["group"], "expert": number, "share": share}
            for row in result["experts"]
            for number, share in enumerate(row["shares"])
        ]
        pd.DataFrame(shares).to_csv(directory / "experts.csv", index=False)
