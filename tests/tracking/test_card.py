"""The shipped checkpoint: its card says what it is, its figures are the committed ones, and they can be made again."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import RepoCard
from safetensors import safe_open

from plugins.tracking import SataPipeline
from plugins.tracking.evaluate import cases_of, evaluate
from plugins.tracking.evaluate_report import as_markdown
from plugins.tracking.evaluate_run import Clips
from plugins.tracking.evaluate_suite import find
from plugins.tracking.scenes import EVALUATION_SEEDS
from tests.conftest import Run

FOLDER = Path(__file__).resolve().parents[2] / "hub_cards" / "sata-tiny"
CARD = (FOLDER / "README.md").read_text(encoding="utf-8")
FIGURES: dict[str, Any] = json.loads((FOLDER / "evaluation.json").read_text(encoding="utf-8"))
TOLERANCE = 0.02  # of a figure between 0 and 1, for another machine's arithmetic over all frames


@pytest.fixture(scope="module")
def pipeline() -> SataPipeline:
    return SataPipeline.from_pretrained(FOLDER, device="cpu")


def test_the_metadata_is_what_the_hub_takes():
    data = RepoCard(CARD, ignore_metadata_errors=False).data.to_dict()
    assert data["license"] == "apache-2.0"
    assert data["library_name"] == "transformers"
    assert data["pipeline_tag"] == "mask-generation"


def test_the_code_beside_the_weights_is_that_of_the_plugin():
    source = FOLDER.parents[1] / "plugins" / "tracking"
    copies = sorted(file for file in FOLDER.glob("*.py"))
    assert copies
    assert [file.name for file in copies if file.read_bytes() != (source / file.name).read_bytes()] == []


def test_the_parameter_count_on_the_card_is_right(pipeline):
    (millions,) = re.findall(r"([\d.]+) M parameters", CARD)
    count = sum(value.numel() for value in pipeline.model.parameters())
    assert float(millions) == pytest.approx(count / 1e6, abs=0.06)


def test_the_cards_tables_are_those_of_the_committed_figures():
    assert as_markdown(FIGURES) in CARD


def test_the_figures_come_from_held_out_seeds_of_this_checkpoint():
    first, last = (int(seed) for seed in FIGURES["seeds"].split(":"))
    assert FIGURES["checkpoint"] == "hub_cards/sata-tiny"
    assert first >= EVALUATION_SEEDS
    assert last - first >= 10


def test_a_short_evaluation_finds_what_the_card_says(pipeline):
    seed = int(FIGURES["seeds"].split(":")[0])
    height, width = FIGURES["size"]
    found = evaluate(
        lambda task: pipeline.start_session(task=task),
        cases_of("vos", "rgb,thermal", "day"),
        Clips(range(seed, seed + 1), FIGURES["frames"], (height, width)),
    )
    committed = find(FIGURES["cases"], "vos", "day", ("rgb", "thermal"))
    assert committed is not None
    (expected,) = [row for row in committed["seeds"] if row["seed"] == seed]
    (row,) = found["cases"]
    assert row["scores"]["j_and_f"] == pytest.approx(expected["j_and_f"], abs=TOLERANCE)


def test_the_cards_snippets_run(run_here: Run):
    snippets = re.findall(r"^```python\n(.*?)^```", CARD, flags=re.MULTILINE | re.DOTALL)
    assert len(snippets) == 2
    for snippet in snippets:
        assert run_here(snippet).strip().startswith("30 ")


def test_the_weights_are_single_precision():
    for file in FOLDER.glob("*.safetensors"):
        with safe_open(file, framework="pt") as weights:
            kinds = {weights.get_slice(name).get_dtype() for name in weights.keys()}  # noqa: SIM118
            assert kinds == {"F32"}
