"""Everything that can be taken away: clips, frames, figures and the record of the run."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from core.jsonfile import write_json
from core.media import write_video

DOWNLOADS = (
    "dense.mp4",
    "sparse.mp4",
    "rectified.mp4",
    "centroid.mp4",
    "side-by-side.mp4",
    "strip.png",
    "frames.zip",
    "summary.csv",
    "attention.csv",
    "blocks.npz",
    "results.json",
    "run.json",
)
AMPLIFY = 4  # of the difference from dense
_STRIP_FRAMES, _MARGIN = 9, 16


def difference_name(method: str) -> str:
    """File of a clip's difference from dense."""
    return f"{method}-difference.mp4"


def write_files(
    directory: Path,
    samples: Sequence[Any],
    handles: Mapping[str, Any],
    maps: Mapping[str, np.ndarray],
    result: Mapping[str, Any],
    record: Any,
) -> None:
    """Write every download.

    Args:
        samples: of `compare`, in the order shown.
        handles: of the sparse runs, by label.
        maps: of chosen blocks, by layer.
        result: the job's result.
        record: the run record.
    """
    clips = {sample.variant.method: np.round(255 * sample.frames).astype(np.uint8) for sample in samples}
    fps = samples[0].run["fps"]
    for method, frames in clips.items():
        write_video(directory / f"{method}.mp4", frames, fps)
        if method != "dense" and "dense" in clips:
            write_video(directory / difference_name(method), _difference(frames, clips["dense"]), fps)
    if len(clips) > 1:
        write_video(directory / "side-by-side.mp4", np.concatenate(list(clips.values()), axis=2), fps)
    _write_strip(directory / "strip.png", clips)
    _write_frames(directory / "frames.zip", clips)
    _write_tables(directory, result, handles)
    if maps:
        arrays: dict[str, Any] = {name: kept.astype(np.float16) for name, kept in maps.items()}
        np.savez_compressed(directory / "blocks.npz", **arrays)
    write_json(directory / "results.json", result)
    record.write(directory)


def _difference(frames: np.ndarray, dense: np.ndarray) -> np.ndarray:
    """|frames - dense|, amplified: black where they agree."""
    return np.clip(AMPLIFY * np.abs(frames.astype(int) - dense.astype(int)), 0, 255).astype(np.uint8)


def _write_strip(path: Path, clips: Mapping[str, np.ndarray]) -> None:
    """Frames from first to last in a row, one row per kind of attention, its name above."""
    rows = []
    for method, frames in clips.items():
        chosen = frames[np.linspace(0, len(frames) - 1, min(_STRIP_FRAMES, len(frames))).round().astype(int)]
        row = np.concatenate(list(chosen), axis=1)
        label = Image.new("RGB", (row.shape[1], _MARGIN), "white")
        ImageDraw.Draw(label).text((4, 2), method, fill="black")
        rows += [np.asarray(label), row]
    Image.fromarray(np.concatenate(rows)).save(path)


def _write_frames(path: Path, clips: Mapping[str, np.ndarray]) -> None:
    with zipfile.ZipFile(path, "w") as archive:  # stored: png is packed already
        for method, frames in clips.items():
            for number, frame in enumerate(frames):
                buffer = io.BytesIO()
                Image.fromarray(frame).save(buffer, "png")
                archive.writestr(f"{method}/{number:04d}.png", buffer.getvalue())


def _write_tables(directory: Path, result: Mapping[str, Any], handles: Mapping[str, Any]) -> None:
    import pandas as pd

    pd.DataFrame(result["rows"]).to_csv(directory / "summary.csv", index=False)
    records = [
        {
            "clip": label,
            "model": record.model,
            "layer": record.layer,
            "step": record.step,
            "guidance_call": record.cfg_call,
            "density": record.stats.density,
            "estimated_recall": record.stats.estimated_recall,
            "rectification_factor": record.stats.rectification_factor,
            "compensated_share": record.stats.compensated_share,
            "executor": record.stats.executor,
            "fallback": record.stats.fallback or "",
            **{f"recall_head_{head}": recall for head, recall in enumerate(record.stats.recall_per_head)},
        }
        for label, handle in handles.items()
        for record in handle.stats().records
    ]
    if records:
        pd.DataFrame(records).to_csv(directory / "attention.csv", index=False)
