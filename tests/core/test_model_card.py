"""Model cards: what the Hub accepts, and that every figure in their metadata is one that was measured."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from core.errors import InputError
from core.registry import ROOT
from core.spaces.model_card import check_model_card, eval_results, model_card_problems

HEAD = "license: apache-2.0\nlibrary_name: transformers\npipeline_tag: mask-generation\n"
INDEX = """model-index:
  - name: m
    results:
      - task:
          type: {task}
        dataset:
          type: generated
          name: Scenes
        metrics:
          - type: j
            value: {value}
            args:
              evaluation: {pointer}
"""
CARDS = sorted(path for path in (ROOT / "hub_cards").iterdir() if any(path.rglob("*.safetensors")))


def card(front: str) -> str:
    return f"---\n{front}---\n\n# A model\n"


def index(value: object = 0.81, task: str = "mask-generation", pointer: str = "/cases/0/j") -> str:
    return HEAD + INDEX.format(value=value, task=task, pointer=pointer)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A checkpoint's folder with an evaluation."""
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "evaluation.json").write_text(json.dumps({"cases": [{"j": 0.8144, "task": "vos"}]}))
    return tmp_path


@pytest.mark.parametrize("folder", CARDS, ids=lambda folder: folder.name)
def test_a_published_card_has_no_problems_and_states_what_was_measured(folder: Path) -> None:
    check_model_card(folder / "README.md")
    if (folder / "evaluation.json").is_file():
        assert eval_results((folder / "README.md").read_text(encoding="utf-8"))


def test_a_card_with_the_least_has_no_problems(folder: Path) -> None:
    assert model_card_problems(card(HEAD), folder) == ()


@pytest.mark.parametrize(
    ("front", "said"),
    [
        (HEAD.replace("license: apache-2.0\n", ""), "license is missing"),
        (HEAD.replace("apache-2.0", "Apache"), "license is 'Apache'"),
        (HEAD.replace("apache-2.0", "other"), "add license_name"),
        (HEAD.replace("library_name: transformers\n", ""), "library_name is missing"),
        (HEAD.replace("transformers", "diffusers"), "without model_index.json"),
        (HEAD.replace("transformers", "My Library"), "in lower case"),
        (HEAD.replace("mask-generation", "tracking"), "pipeline_tag is 'tracking'"),
        (HEAD.replace("pipeline_tag: mask-generation\n", ""), "or say why in a comment"),
        (HEAD + "language: [no]\n", "in quotes where YAML"),
        (HEAD + "tags: [a, a]\n", "name each once"),
        (HEAD + "base_model: sam2\n", "write owner/name"),
        (HEAD + "base_model: a/b\nbase_model_relation: child\n", "use one of finetune"),
        (HEAD + "datasets: ['a/b', 'c d']\n", "write owner/name"),
        (HEAD + "model-index: {}\n", "cannot be read"),
        (HEAD + "model-index: [{name: m}]\n", "'results' is missing"),
        (index(task="tracking"), "which the Hub does not have"),
    ],
)
def test_each_problem_is_named_alone(front: str, said: str, folder: Path) -> None:
    problems = model_card_problems(card(front), folder)
    assert len(problems) == 1, problems
    assert said in problems[0]


def test_a_checkpoint_that_fits_no_task_says_why() -> None:
    front = HEAD.replace("pipeline_tag: mask-generation\n", "# no pipeline_tag: the Hub has no task for attribution\n")
    assert model_card_problems(card(front)) == ()


@pytest.mark.parametrize(
    ("value", "fits"), [(0.81, True), (0.814, True), (0.8144, True), (0.82, False), (0.815, False)]
)
def test_a_figure_is_the_one_that_was_measured_to_the_digits_it_is_written_with(
    value: float, fits: bool, folder: Path
) -> None:
    problems = model_card_problems(card(index(value)), folder)
    assert (problems == ()) is fits
    assert fits or "but evaluation.json has 0.8144" in problems[0]


@pytest.mark.parametrize("pointer", ["/cases/1/j", "/cases/0/k", "/cases/0/task", "/cases/x/j", "cases", "''", "3"])
def test_a_figure_that_points_at_no_measurement_is_refused(pointer: str, folder: Path) -> None:
    assert "points at no number" in model_card_problems(card(index(pointer=pointer)), folder)[0]


@pytest.mark.parametrize("value", ["good", ".nan", "true"])
def test_a_result_that_is_no_number_is_refused(value: str) -> None:
    assert "write a number" in model_card_problems(card(index(value)))[0]


def test_the_results_are_those_that_huggingface_hub_reads() -> None:
    (result,) = eval_results(card(index()))
    assert (result.task_type, result.metric_type, result.metric_value) == ("mask-generation", "j", 0.81)


def test_a_folder_without_a_card_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no card"):
        check_model_card(tmp_path / "README.md")
