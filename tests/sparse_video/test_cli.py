"""The command line: what it makes and prints, and how it says no."""

from __future__ import annotations

import json
import runpy
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
import typer
from typer.testing import CliRunner

from core.media import probe_video, read_video
from core.runs import RunRecord
from plugins.sparse_video.cli import app
from plugins.sparse_video.errors import SparseVideoInputError
from plugins.sparse_video.pipeline import SparseVideoPipeline

from .tiny_models import tiny_wan_components

ROOT = Path(__file__).resolve().parents[2]
PROMPT = "a red square moves right"
QUICK = ("--device", "cpu", "--executor", "reference")
runner = CliRunner()


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A folder with random weights; a clip has 3 x 4 x 4 = 48 tokens, 8 to a block."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("checkpoint") / "tiny"
    SparseVideoPipeline(
        **tiny_wan_components(),
        default_num_frames=9,
        default_height=64,
        default_width=64,
        default_num_inference_steps=2,
        default_guidance_scale=1.0,
        default_attention={"density": 0.25, "block_size": 8, "neighbors": False, "min_tokens": 16},
    ).save_pretrained(folder)
    return str(folder)


def run(*arguments: str) -> str:
    result = runner.invoke(app, list(arguments))
    assert result.exit_code == 0, result.output
    return result.stdout


def refusal(*arguments: str) -> str:
    """Run what must fail, and return its one line."""
    result = runner.invoke(app, list(arguments))
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
    return result.stderr


@pytest.mark.parametrize("command", [[], ["generate"], ["compare"]])
def test_help_imports_no_torch(command: list[str]) -> None:
    code = (
        "import sys; from plugins.sparse_video.cli import app\n"
        "try: app(sys.argv[1:], prog_name='x')\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'numpy', 'diffusers', 'transformers'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    arguments = [sys.executable, "-c", code, *command, "--help"]
    done = subprocess.run(arguments, capture_output=True, text=True, cwd=ROOT, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "Usage" in done.stdout


def test_the_whole_is_listed() -> None:
    listed = run("--help")
    assert all(command in listed for command in ("generate", "compare", "bench", "train", "evaluate"))


def test_generate_writes_a_clip_and_a_run_record_that_repeats_it(checkpoint: str, tmp_path: Path) -> None:
    clip, figures = tmp_path / "clip.mp4", tmp_path / "figures.json"
    files = ("--out", str(clip), "--json", str(figures))
    said = run("generate", PROMPT, *files, "--checkpoint", checkpoint, "--seed", "3", "--size", "64x80", *QUICK)
    assert "9 frames" in said
    assert "seed 3" in said
    info = probe_video(clip)
    assert (info.width, info.height, info.frames, info.fps) == (80, 64, 9, 16)
    record = RunRecord.from_json((tmp_path / "clip.run.json").read_text())
    assert record.seed == 3
    assert record.params["width"] == 80
    assert record.details["executor"]["name"] == "reference"
    document = json.loads(figures.read_text())
    assert document["run"]["density"] == pytest.approx(document["stats"]["summary"]["density"])
    (tmp_path / "again.py").write_text(record.command.replace("sparse_video import", "sparse_video.pipeline import"))
    again = runpy.run_path(str(tmp_path / "again.py"))["clip"]
    assert again.run["params"] == record.params
    frames = read_video(clip).frames
    grey, again_grey = frames.mean(-1).ravel(), again.frames[0].mean(-1).ravel()  # mp4 thins out colour
    assert np.corrcoef(grey, again_grey)[0, 1] > 0.9


def test_generate_draws_a_seed_and_tells_it(checkpoint: str, tmp_path: Path) -> None:
    clip = tmp_path / "clip.mp4"
    said = run("generate", PROMPT, "--out", str(clip), "--checkpoint", checkpoint, "--attention", "dense", *QUICK)
    record = RunRecord.from_json((tmp_path / "clip.run.json").read_text())
    assert f"seed {record.seed}" in said
    assert f"seed={record.seed}" in record.command


def test_compare_measures_every_kind_beside_dense(checkpoint: str, tmp_path: Path) -> None:
    figures, clips = tmp_path / "figures.json", tmp_path / "clips"
    said = run(
        *("compare", PROMPT, "--densities", "0.25", "--methods", "sparse,rectified,centroid", "--seeds", "0:2"),
        *("--out", str(clips), "--json", str(figures), "--dollars-per-hour", "3.6", "--checkpoint", checkpoint, *QUICK),
    )
    document = json.loads(figures.read_text())
    rows = document["rows"]
    assert [(row["method"], row["density_asked"]) for row in rows] == [
        ("dense", 1),
        *((method, 0.25) for method in ("sparse", "rectified", "centroid")),
    ]
    assert rows[0]["ratio"] == 1
    assert rows[0]["psnr"] is None
    for row in rows:
        assert row["dollars_per_minute"] == pytest.approx(row["seconds_per_minute"] / 1000)
        assert row["seconds_per_minute"] == pytest.approx(row["seconds"] * 60 * 16 / 9)
        assert row["method"] in said
    assert all(0 < row["density"] < 1 and row["psnr"] > 0 and row["ssim"] < 1 for row in rows[1:])
    assert len(document["samples"]) == len(list(clips.glob("*.mp4"))) == len(list(clips.glob("*.run.json"))) == 8
    assert len(said.strip().splitlines()) == 2 + len(rows)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--density", "2"], "above 0 and at most 1"),
        (["--frames", "10"], "4k + 1 frames: 9 is the nearest"),
        (["--size", "big"], "height x width"),
        (["--attention", "fast"], "'rectified'"),
        (["--device", "tpu"], "'cuda'"),
        (["--image", "nothing.png"], "nothing.png"),
    ],
)
def test_generate_refuses_in_one_line(checkpoint: str, tmp_path: Path, arguments: list[str], message: str) -> None:
    clip = tmp_path / "clip.mp4"
    assert message in refusal("generate", PROMPT, "--out", str(clip), "--checkpoint", checkpoint, *arguments)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["generate", PROMPT, "--checkpoint", "./nothing"], "WanPipeline"),
        (["generate", PROMPT, "--out", "no/such/folder/clip.mp4"], "a folder that exists"),
        (["generate", PROMPT, "--out", "clip.avi"], ".mp4"),
        (["compare", PROMPT, "--seeds", "3"], "A:B"),
        (["compare", PROMPT, "--densities", "half"], "0.5,0.25"),
        (["compare", PROMPT, "--methods", "fast"], "sparse, rectified, centroid"),
        (["compare", PROMPT, "--dollars-per-hour", "-1"], "0 or above"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_loaded(arguments: list[str], message: str) -> None:
    assert message in refusal(*arguments)


class TestForwarding:
    @pytest.fixture
    def module(self, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
        made = ModuleType("plugins.sparse_video.train")

        def train_command(minutes: float = 1.0, bad: bool = False) -> None:
            """Train it."""
            if bad:
                raise SparseVideoInputError("minutes is bad")
            typer.echo(f"trained for {minutes}")

        made.train_command = train_command  # ty: ignore[missing-attribute]
        monkeypatch.setitem(sys.modules, made.__name__, made)
        return made

    def test_a_command_of_another_module_gets_its_options(self, module: ModuleType) -> None:
        assert run("train", "--minutes", "2.5") == "trained for 2.5\n"
        assert "--minutes" in run("train", "--help")

    def test_its_errors_are_one_line(self, module: ModuleType) -> None:
        assert "minutes is bad" in refusal("train", "--bad")

    def test_one_that_is_not_there_is_told(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "plugins.sparse_video.evaluate", None)
        assert "no plugins.sparse_video.evaluate" in refusal("evaluate", "--seeds", "0:1")
