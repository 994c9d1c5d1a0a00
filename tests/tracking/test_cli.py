"""The command line: what it writes and prints, and how it says no."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from core.runs import RunRecord
from plugins.tracking.cli import app
from plugins.tracking.formats import read_davis, read_mot, read_mots
from plugins.tracking.overlay import write_mp4
from plugins.tracking.session import SataSession
from plugins.tracking.videos import open_video

from .pipelines import SIDE, small_scene, tiny_pipeline

ROOT = Path(__file__).resolve().parents[2]
runner = CliRunner()


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> str:
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("checkpoint") / "sata"
    tiny_pipeline().save_pretrained(folder)
    return str(folder)


@pytest.fixture
def files(tmp_path: Path) -> dict[str, str]:
    """Two sensors of a small scene, one as a video and one as images."""
    scene = small_scene(3)
    write_mp4(tmp_path / "day.mp4", scene.frames["rgb"], 10)
    (tmp_path / "heat").mkdir()
    for number, frame in enumerate(scene.frames["thermal"]):
        Image.fromarray(frame).save(tmp_path / "heat" / f"{number}.png")
    return {"rgb": str(tmp_path / "day.mp4"), "thermal": str(tmp_path / "heat")}


def run(*arguments: str) -> str:
    result = runner.invoke(app, ["run", "--device", "cpu", *arguments])
    assert result.exit_code == 0, result.output
    return result.stdout


def refusal(*arguments: str) -> str:
    """Run what must fail, and return its one line."""
    result = runner.invoke(app, ["run", "--device", "cpu", *arguments])
    assert result.exit_code == 2, result.output
    assert result.stderr.startswith("error: ")
    assert len(result.stderr.splitlines()) == 1
    return result.stderr


class TestRun:
    def test_files_are_tracked_and_every_format_is_written(self, checkpoint, files, tmp_path):
        out = tmp_path / "out"
        sensors = ("--rgb", files["rgb"], "--thermal", files["thermal"])
        line = run(
            *sensors, "--task", "vos", "--prompt", "7:box:5,5,30,30", "--out", str(out), "--checkpoint", checkpoint
        )
        assert "3 frames, 1 objects (vos)" in line
        assert sorted(file.name for file in out.iterdir()) == [
            "davis", "mot.txt", "mots.txt", "overlay.mp4", "run.json", "tracks.json", "youtube_vis.json",
        ]  # fmt: skip
        assert read_mot(out / "mot.txt", height=SIDE, width=SIDE).ids() == (7,)
        assert read_mots(out / "mots.txt").ids() == (7,)
        assert read_davis(out / "davis").ids() == (7,)
        assert len(open_video(out / "overlay.mp4", ("rgb",))) == 3
        tracks = json.loads((out / "tracks.json").read_text())
        assert [frame["ids"] for frame in tracks["instances"]] == [[7]] * 3

    def test_the_run_record_holds_python_that_does_it_again(self, checkpoint, tmp_path):
        mask = np.zeros((128, 128), np.uint8)
        mask[20:60, 20:60] = 255
        Image.fromarray(mask).save(tmp_path / "m.png")
        prompt = ("--prompt", f"9@1:mask:{tmp_path / 'm.png'}")
        scene = ("--scene", "3", "--frames", "2", "--night", "--modalities", "rgb,depth")
        run(*scene, *prompt, "--task", "vos", "--out", str(tmp_path / "out"), "--checkpoint", checkpoint)
        record = RunRecord.from_json((tmp_path / "out" / "run.json").read_text())
        assert record.params["modalities"] == ["rgb", "depth"]
        assert record.checkpoint == checkpoint
        names: dict = {}
        exec(record.command, names)  # noqa: S102  # what is tested is that it can be executed
        table = json.loads((tmp_path / "out" / "tracks.json").read_text())
        assert [frame.ids.tolist() for frame in names["tracks"].frames] == [one["ids"] for one in table["instances"]]

    def test_a_scene_brings_its_own_prompts_and_boxes_need_no_masks(self, checkpoint, tmp_path):
        out = tmp_path / "out"
        figures = tmp_path / "figures.json"
        scene = ("--scene", "3", "--frames", "2", "--task", "sot")
        run(*scene, "--out", str(out), "--checkpoint", checkpoint, "--json", str(figures))
        assert not (out / "davis").exists()
        found = json.loads(figures.read_text())
        assert len(found["run"]["params"]["prompts"]) == 1
        assert found["summary"]["frames"] == 2

    def test_points_are_read_with_their_labels(self, checkpoint, files, tmp_path):
        out = tmp_path / "out"
        prompt = ("--prompt", "4@1:points:20,20,1;60,60,0")
        run(files["rgb"], *prompt, "--task", "vos", "--out", str(out), "--checkpoint", checkpoint)
        table = json.loads((out / "tracks.json").read_text())
        assert [frame["ids"] for frame in table["instances"]] == [[], [4], [4]]

    def test_what_was_done_before_a_failure_is_written(self, checkpoint, files, tmp_path, monkeypatch):
        take = SataSession.take

        def failing(session, looked):
            if session.frame == 2:
                raise RuntimeError("out of memory")
            return take(session, looked)

        monkeypatch.setattr(SataSession, "take", failing)
        out = tmp_path / "out"
        message = refusal(files["rgb"], "--task", "mots", "--out", str(out), "--checkpoint", checkpoint)
        assert "frame 2 of 3 could not be tracked (out of memory)" in message
        assert len(json.loads((out / "tracks.json").read_text())["instances"]) == 2


class TestRefusals:
    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ((), "give one of"),
            (("a.mp4", "--scene", "1"), "give one of"),
            (("nowhere.mp4",), "there is no file"),
            (("nowhere.mp4", "--night"), "give --scene"),
            (("--scene", "1", "--modalities", "sonar"), "unknown modality 'sonar'"),
            (("--scene", "1", "--prompt", "7"), "write ID:box"),
            (("--scene", "1", "--prompt", "x:box:1,2,3,4"), "write ID:box"),
            (("--scene", "1", "--prompt", "7:box:1,2,a"), "write ID:box"),
            (("--scene", "1", "--prompt", "7:points:1,2"), "write ID:box"),
            (("--scene", "1", "--prompt", "7:mask:nowhere.png"), "nowhere.png"),
            (("--scene", "1", "--prompt", "7:box:500,500,600,600"), "no area"),
            (("--scene", "1", "--json", "no/such/file.json"), "cannot be written"),
        ],
    )
    def test_bad_input_is_one_line_and_leaves_nothing(self, checkpoint, tmp_path, arguments, message):
        out = tmp_path / "out"
        settings = ("--task", "vos", "--out", str(out), "--checkpoint", checkpoint)
        assert message in refusal(*arguments, *settings)
        assert list(tmp_path.iterdir()) == []

    def test_a_folder_with_something_in_it_is_not_written_to(self, checkpoint, tmp_path):
        (tmp_path / "mine.txt").write_text("keep")
        settings = ("--task", "mots", "--out", str(tmp_path), "--checkpoint", checkpoint)
        assert "holds something already" in refusal("--scene", "1", *settings)
        assert [file.name for file in tmp_path.iterdir()] == ["mine.txt"]

    def test_a_checkpoint_that_is_not_there_is_named(self, tmp_path):
        settings = ("--task", "mots", "--out", str(tmp_path / "out"), "--checkpoint", "/nowhere")
        assert "there is no checkpoint folder '/nowhere'" in refusal("--scene", "1", *settings)


class TestCommands:
    def test_each_command_has_its_own_help(self):
        for command in ("run", "train"):
            result = runner.invoke(app, [command, "--help"])
            assert result.exit_code == 0, result.output
            assert "--out" in result.output

    def test_help_and_the_plugins_face_import_nothing_heavy(self):
        code = """
import json, runpy, sys
import plugins.tracking.plugin
sys.argv = ["plugins.tracking", "--help"]
try:
    runpy.run_module("plugins.tracking", run_name="__main__", alter_sys=True)
except SystemExit as end:
    assert not end.code
print()
print(json.dumps([name for name in ("torch", "gradio", "transformers", "diffusers", "pandas") if name in sys.modules]))
"""
        done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout.splitlines()[-1]) == []
