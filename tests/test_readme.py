"""The README is what a Space and a newcomer read first: its front matter, links and code have to hold."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import RepoCard
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from tests.conftest import Run
from tests.sparse_video.tiny_models import tiny_wan_pipeline

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
COLOURS = {"red", "yellow", "green", "blue", "indigo", "purple", "pink", "gray"}
# Keys that the Hub reads from a Space's README; it ignores any other, so another one here is a mistake.
KEYS = {
    "title",
    "emoji",
    "colorFrom",
    "colorTo",
    "sdk",
    "sdk_version",
    "python_version",
    "app_file",
    "app_port",
    "base_path",
    "fullWidth",
    "header",
    "short_description",
    "models",
    "datasets",
    "tags",
    "thumbnail",
    "pinned",
    "license",
    "hf_oauth",
    "disable_embedding",
    "startup_duration_timeout",
    "custom_headers",
    "preload_from_hub",
    "suggested_hardware",
}


@pytest.fixture(scope="module")
def front() -> dict[str, Any]:
    """The front matter as the Hub's own library parses it."""
    return RepoCard(README, ignore_metadata_errors=False).data.to_dict()


def blocks(language: str) -> list[str]:
    """The README's fenced blocks of one language, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```", README, flags=re.MULTILINE | re.DOTALL)


def test_the_front_matter_has_only_keys_that_the_hub_reads(front: dict[str, Any]) -> None:
    assert set(front) <= KEYS
    assert {"title", "emoji", "sdk", "sdk_version", "app_file", "license"} <= set(front)


def test_the_space_is_a_gradio_app_that_exists(front: dict[str, Any]) -> None:
    assert front["sdk"] == "gradio"
    assert (ROOT / front["app_file"]).is_file()


def test_the_colours_and_the_emoji_are_ones_that_the_hub_takes(front: dict[str, Any]) -> None:
    assert {front["colorFrom"], front["colorTo"]} <= COLOURS
    assert 1 <= len(front["emoji"]) <= 2
    assert not front["emoji"].isascii()


def test_the_short_description_fits(front: dict[str, Any]) -> None:
    assert 0 < len(front["short_description"]) <= 60


def test_the_sdk_version_is_one_that_the_requirements_allow(front: dict[str, Any]) -> None:
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    requirements = [Requirement(line) for line in lines if line and not line.startswith("#")]
    gradio = next(each for each in requirements if each.name == "gradio")
    assert re.fullmatch(r"\d+\.\d+\.\d+", front["sdk_version"])
    assert gradio.specifier.contains(front["sdk_version"])


def test_the_python_version_is_one_that_the_project_allows(front: dict[str, Any]) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert isinstance(front["python_version"], str), "quote it, or YAML reads 3.10 as 3.1"
    assert SpecifierSet(project["requires-python"]).contains(front["python_version"])


def test_tags_and_licence_are_spelled_as_the_hub_does(front: dict[str, Any]) -> None:
    assert all(re.fullmatch(r"[a-z0-9][a-z0-9-]*", tag) for tag in front["tags"])
    assert front["license"] == "apache-2.0"


def test_every_link_to_a_file_leads_to_one() -> None:
    targets = re.findall(r"\]\((?!https?:)([^)#]+)", README)
    assert targets
    assert [target for target in targets if not (ROOT / target).exists()] == []


def run_python(code: str) -> str:
    """What the lines print in a process of their own."""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def python_block(word: str) -> str:
    """The one python block in which `word` stands."""
    (found,) = [block for block in blocks("python") if word in block]
    return found


def test_every_python_block_is_run_by_a_test() -> None:
    words = (
        "SparseVideoPipeline", "enable_rectified_attention", "SataPipeline", "start_session", "UIActionPipeline",
        "parse_response", "sensors()", "find_mixture", "decompose(", "gradio_client", "quartet_backwards",
    )  # fmt: skip
    assert {python_block(word) for word in words} == set(blocks("python"))


def test_the_sparse_video_lines_make_a_clip(run_here: Run) -> None:
    lines = python_block("SparseVideoPipeline").replace("seed=0", "seed=0, num_inference_steps=2")
    assert "num_inference_steps=2" in lines
    shape, recall = run_here(lines).strip().rsplit(" ", 1)
    assert shape == "(1, 57, 96, 96, 3)"
    assert 0 < float(recall) <= 1


def test_the_drop_in_lines_work_on_a_diffusers_pipeline(run_here: Run, tmp_path: Path) -> None:
    """The real repository needs the network: a tiny one of the same classes takes its place."""
    tiny_wan_pipeline().save_pretrained(tmp_path / "wan")
    lines = python_block("enable_rectified_attention")
    sizes = "height=480, width=832, num_frames=81, num_inference_steps=50"
    assert sizes in lines
    lines = lines.replace("Wan-AI/Wan2.1-T2V-1.3B-Diffusers", str(tmp_path / "wan"))
    lines = lines.replace(sizes, "height=64, width=64, num_frames=9, num_inference_steps=2")
    assert "'density'" in run_here(lines)


def test_the_tracking_lines_track_a_scene_and_a_stream(run_here: Run) -> None:
    printed = run_here(python_block("SataPipeline") + python_block("start_session") + "    print(found.ids)\n")
    first, *steps = printed.strip().split("\n")
    assert first.startswith("12 [")
    assert first.endswith(", 128, 128)")
    assert steps == ["[7]"] * 12


def test_the_ui_action_lines_play_a_game(run_here: Run) -> None:
    *steps, outcome = run_here(python_block("UIActionPipeline")).strip().split("\n")
    assert 1 <= len(steps) <= 30
    assert outcome == "success"


def test_the_parsing_lines_print_a_point(run_here: Run) -> None:
    assert run_here(python_block("parse_response")) == "(98.0, 42.0)\n"


def test_the_pipeline_lines_end_in_a_verdict_for_each_stream(run_here: Run) -> None:
    printed = run_here(python_block("sensors()"))
    assert "**thermal: keep**" in printed
    assert "**colour: needs early fusion**" in printed


def test_the_model_lines_show_where_the_picture_arrives(run_here: Run) -> None:
    printed = run_here(python_block("find_mixture"))
    assert "**image: needs early fusion**" in printed
    assert re.search(r"\| fusion\.1 \|.*\| 0\.9\d+ ± \S+ \| [01]\.\d+ ± \S+ \|\n\| fusion\.2", printed)


def test_the_decompose_lines_print_what_the_readme_says() -> None:
    (expected,) = blocks("text")
    assert run_python(python_block("decompose(")) == expected


def test_every_make_target_that_the_readme_names_exists() -> None:
    named = set(re.findall(r"^make ([a-z-]+)", "\n".join(blocks("bash")), flags=re.MULTILINE))
    listed = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, timeout=30).stdout
    assert named
    assert named <= {line.split()[0] for line in listed.splitlines()}
