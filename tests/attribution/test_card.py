"""The embedded model's card: its figures are the committed ones, can be made again, and its snippets run."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import RepoCard

from plugins.attribution import PIDAttributionPipeline
from plugins.attribution.evaluate import (
    FIT_SEED,
    MixtureResult,
    ablated,
    as_markdown,
    evaluate_gate,
    evaluate_mixture,
)
from plugins.attribution.planted import MIXTURES, TRAINING_SEEDS
from tests.conftest import Run

FOLDER = Path(__file__).resolve().parents[2] / "hub_cards" / "attribution-tiny"
CARD = (FOLDER / "README.md").read_text(encoding="utf-8")
FIGURES: dict[str, Any] = json.loads((FOLDER / "evaluation.json").read_text(encoding="utf-8"))
TOLERANCE = 0.05  # bits; what the shorter form may be off


@pytest.fixture(scope="module")
def pipe() -> PIDAttributionPipeline:
    return PIDAttributionPipeline.from_pretrained(FOLDER)


def test_the_metadata_is_what_the_hub_takes() -> None:
    data = RepoCard(CARD, ignore_metadata_errors=False).data.to_dict()
    assert data["license"] == "apache-2.0"
    assert data["library_name"] == "transformers"
    assert data["pipeline_tag"] == "visual-question-answering"


def test_the_parameter_count_is_right(pipe: PIDAttributionPipeline) -> None:
    (millions,) = re.findall(r"([\d.]+) M parameters", CARD)
    assert float(millions) == pytest.approx(pipe.model.num_parameters() / 1e6, abs=0.006)


def test_the_figures_of_the_training_are_those_of_its_record() -> None:
    record = json.loads((FOLDER / "training.json").read_text(encoding="utf-8"))
    for name, recorded in record["held_out"].items():
        cells = [f"{100 * recorded['accuracy']:.2f} %"]
        for atoms in (recorded["truth"], recorded["atoms"]):
            cells.append(" ".join(f"{value:.3f}" for value in atoms))
        (row,) = re.findall(rf"^\| `{name}` \|.*$", CARD, flags=re.MULTILINE)
        assert row.endswith(f"| {' | '.join(cells)} |")


def test_the_cards_tables_are_those_of_the_committed_figures() -> None:
    assert as_markdown(FIGURES) in CARD


def test_the_figures_come_from_seeds_that_no_training_and_no_discretiser_saw() -> None:
    first, last = (int(seed) for seed in FIGURES["seeds"].split(":"))
    assert first < last <= FIT_SEED < TRAINING_SEEDS
    assert FIGURES["checkpoint"] == FOLDER.name


def test_every_planted_atom_was_found_within_a_twentieth_of_a_bit_and_shuffled_answers_read_as_nothing() -> None:
    results = [MixtureResult(**each) for each in FIGURES["mixtures"]]
    assert {each.mixture for each in results} == set(MIXTURES)
    for each in results:
        assert each.planted == list(MIXTURES[each.mixture].atoms)
        assert each.worst < 0.05
        assert each.shuffled_total < 0.02


def test_a_shorter_evaluation_agrees_with_the_card(pipe: PIDAttributionPipeline) -> None:
    result = evaluate_mixture(pipe, "synergy", seed=0, examples=800)
    known = MixtureResult(**FIGURES["mixtures"][list(MIXTURES).index("synergy")])
    assert result.measured == pytest.approx(known.measured, abs=TOLERANCE)
    assert result.accuracy == pytest.approx(known.accuracy, abs=0.01)
    assert result.shuffled_total < TOLERANCE


def test_the_gate_tells_the_sound_model_from_the_ablated_one(pipe: PIDAttributionPipeline) -> None:
    assert FIGURES["gate"]["sound_passed"] + FIGURES["gate"]["ablated_failed"] >= 2 * FIGURES["gate"]["seeds"] - 1
    found = evaluate_gate(pipe, range(40, 42), examples=600)
    assert (found.sound_passed, found.ablated_failed) == (2, 2)


def test_ablating_leaves_the_encoders_as_they_are(pipe: PIDAttributionPipeline) -> None:
    cut = ablated(pipe.model).state_dict()
    changed = {name for name, value in pipe.model.state_dict().items() if not value.equal(cut[name])}
    assert changed
    assert all(".cross_attention.output." in name for name in changed)


def test_the_snippets_run(run_here: Run) -> None:
    first, second = re.findall(r"```python\n(.*?)```", CARD, re.DOTALL)
    printed = run_here(f"{first}\n{second}")
    assert printed.startswith("circle blue yes\n")
    assert "needs early fusion" in printed
