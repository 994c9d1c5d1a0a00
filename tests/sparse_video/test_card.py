"""The shipped checkpoint: its card says what it is, its figures are the committed ones, and they can be made again."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from huggingface_hub import RepoCard
from safetensors import safe_open

from plugins.sparse_video import SparseVideoPipeline
from plugins.sparse_video.evaluate import as_markdown, evaluate_clips
from plugins.sparse_video.train import FULL
from tests.conftest import Run

FOLDER = Path(__file__).resolve().parents[2] / "hub_cards" / "sparse-video-tiny"
CARD = (FOLDER / "README.md").read_text(encoding="utf-8")
FIGURES: dict[str, Any] = json.loads((FOLDER / "evaluation.json").read_text(encoding="utf-8"))
PSNR_TOLERANCE = 1.5  # dB, for another machine's arithmetic over all steps


@pytest.fixture(scope="module")
def pipeline() -> SparseVideoPipeline:
    made = SparseVideoPipeline.from_pretrained(str(FOLDER))
    made.set_progress_bar_config(disable=True)
    return made


def test_the_metadata_is_what_the_hub_takes():
    data = RepoCard(CARD, ignore_metadata_errors=False).data.to_dict()
    assert data["pipeline_tag"] == "text-to-video"
    assert data["license"] == "apache-2.0"
    assert data["library_name"] == "diffusers"


def test_the_parameter_counts_on_the_card_are_right(pipeline):
    for part, pattern in (("transformer", r"([\d.]+) M parameters"), ("vae", r"([\d.]+) M\), a word tokenizer")):
        (millions,) = re.findall(pattern, CARD)
        count = sum(value.numel() for value in getattr(pipeline, part).parameters())
        assert float(millions) == pytest.approx(count / 1e6, abs=0.06)


def test_the_default_clip_has_the_tokens_that_the_card_says(pipeline):
    grid = pipeline.geometry.grid(pipeline.default("num_frames"), pipeline.default("height"), pipeline.default("width"))
    assert int(np.prod(grid)) == FULL.tokens == 4176
    assert "4,176 tokens" in CARD


def test_the_cards_tables_are_those_of_the_committed_figures():
    assert as_markdown(FIGURES) in CARD


def test_the_figures_come_from_held_out_seeds_of_this_checkpoint():
    assert FIGURES["checkpoint"] == "hub_cards/sparse-video-tiny"
    assert len(FIGURES["clips"]) >= 16


@pytest.mark.skipif(not os.environ.get("QUARTET_LONG"), reason="40 s: with QUARTET_LONG=1")
def test_a_short_evaluation_finds_what_the_card_says(pipeline):
    committed = FIGURES["clips"][0]
    found = evaluate_clips(
        pipeline, [committed["seed"]], ["dense", "rectified"], density=FIGURES["density"], steps=FIGURES["steps"]
    )
    assert found["clips"][0]["prompt"] == committed["prompt"]
    assert found["clips"][0]["rectified"]["psnr"] == pytest.approx(committed["rectified"]["psnr"], abs=PSNR_TOLERANCE)


def test_the_cards_snippet_runs(run_here: Run):
    (snippet,) = re.findall(r"^```python\n(.*?)^```", CARD, flags=re.MULTILINE | re.DOTALL)
    assert "seed=0" in snippet
    shape, density = run_here(snippet.replace("seed=0", "seed=0, num_inference_steps=3")).strip().rsplit(" ", 1)
    assert shape == "(1, 57, 96, 96, 3)"
    assert 0 < float(density) < 0.6  # one of the three steps is dense


def test_the_transformer_is_stored_in_bfloat16():
    files = list((FOLDER / "transformer").glob("*.safetensors"))
    assert files
    for file in files:
        with safe_open(file, framework="pt") as weights:
            assert {weights.get_slice(name).get_dtype() for name in weights.keys()} == {"BF16"}  # noqa: SIM118
