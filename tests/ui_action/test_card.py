"""The shipped checkpoint: its card says what it is, its figures are the committed ones, and they can be made again."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import RepoCard
from transformers import AutoModelForImageTextToText

from plugins.ui_action.evaluate import as_markdown, evaluate_cell
from plugins.ui_action.evaluate_strategies import as_markdown as strategies_as_markdown
from plugins.ui_action.pipeline_ui_action import UIActionPipeline
from plugins.ui_action.strategy import Strategy
from plugins.ui_action.train import STAGES
from tests.conftest import Run

FOLDER = Path(__file__).resolve().parents[2] / "hub_cards" / "ui-action-tiny"
CARD = (FOLDER / "README.md").read_text(encoding="utf-8")
FIGURES: dict[str, Any] = json.loads((FOLDER / "evaluation.json").read_text(encoding="utf-8"))
STRATEGIES: dict[str, Any] = json.loads((FOLDER / "strategies.json").read_text(encoding="utf-8"))
TRAINING: dict[str, Any] = json.loads((FOLDER / "training.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def pipeline() -> UIActionPipeline:
    return UIActionPipeline.from_pretrained(str(FOLDER), device="cpu")


def test_the_metadata_is_what_the_hub_takes():
    data = RepoCard(CARD, ignore_metadata_errors=False).data.to_dict()
    assert data["pipeline_tag"] == "image-text-to-text"
    assert data["license"] == "apache-2.0"
    assert data["library_name"] == "transformers"


def test_transformers_alone_loads_it_and_the_parameter_count_on_the_card_is_right():
    model = AutoModelForImageTextToText.from_pretrained(FOLDER)
    (millions,) = re.findall(r"([\d.]+) M parameters", CARD)
    assert type(model).__name__ == "Qwen2_5_VLForConditionalGeneration"
    assert float(millions) == pytest.approx(sum(value.numel() for value in model.parameters()) / 1e6, abs=0.006)


def test_the_cards_table_is_that_of_the_committed_figures_of_this_checkpoint():
    assert as_markdown(FIGURES) in CARD
    assert FIGURES["checkpoint"] == "hub_cards/ui-action-tiny"
    assert len(FIGURES["cells"]) == 9
    assert all(len(cell["games"]) >= 10 for cell in FIGURES["cells"])


def test_the_cards_comparison_of_strategies_is_that_of_the_committed_figures():
    assert strategies_as_markdown(STRATEGIES) in CARD
    assert [each["strategy"] for each in STRATEGIES["strategies"]] == ["S", "M*V+S", "S*M*V"]
    assert set(STRATEGIES["timings"]) == {"S", "M*V+S", "S*M*V"}


def test_no_strategy_is_above_what_its_media_tell():
    for each in STRATEGIES["strategies"]:
        for cell in each["cells"]:
            assert cell["decisions"]["means"] <= cell["ceiling"] + 1e-9


def test_no_figure_is_above_what_can_be_known():
    for cell in FIGURES["cells"]:
        assert cell["decisions"]["means"] <= cell["ceiling"] + 1e-9


def test_the_curve_says_how_it_was_trained():
    assert {row["stage"] for row in TRAINING["curve"]} == {stage.name for stage in STAGES}
    assert TRAINING["strategy"] == "M*V+S"
    last = TRAINING["curve"][-1]
    assert f"{last['step']:,} steps" in CARD
    assert f"{last['samples']:,} samples" in CARD


def test_a_game_goes_as_the_figures_say(pipeline):
    committed = next(cell for cell in FIGURES["cells"] if (cell["task"], cell["platform"]) == TRIED)
    term = Strategy.parse(FIGURES["media"]).terms[0]
    seed = committed["games"][0]["seed"]
    found = evaluate_cell(pipeline.backend(), *TRIED, [seed], term, decisions_of=1)
    assert found["games"][0]["success"] == committed["games"][0]["success"]
    assert found["decisions"]["parsed"] == 1


TRIED = ("target-localisation", "mobile")


def test_the_cards_snippet_runs(run_here: Run):
    (snippet,) = re.findall(r"^```python\n(.*?)^```", CARD, flags=re.MULTILINE | re.DOTALL)
    assert "Action(type='click'" in run_here(snippet)
