"""Strategies are trained alike, judged alike, and compared; what is done already is not done again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from plugins.ui_action import evaluate_strategies, train
from plugins.ui_action.errors import UIActionInputError
from plugins.ui_action.evaluate_strategies import ablate_command, as_markdown, summaries
from plugins.ui_action.small_model import new_model
from plugins.ui_action.train import Trainer, processor_of


@pytest.fixture(scope="module")
def start(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("start")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train, "CORPUS_GAMES", 1)
        processor = processor_of(folder)
    torch.manual_seed(0)
    trainer = Trainer(new_model(processor.tokenizer), processor, "cpu")
    trainer.step = 40
    trainer.save(folder / "state.pt", stages_done=1)
    return folder


def cell(media: str, task: str, success: float, **decisions: float) -> dict[str, Any]:
    names = ("bleu", "means", "exact", "hit", "parsed", "prompt_tokens", "prefill_ms", "decode_ms")
    judged = dict.fromkeys(names, 1.0) | decisions
    return {"media": media, "task": task, "success": success, "ceiling": 1.0, "decisions": judged}


def test_every_strategy_takes_as_many_steps_from_the_same_state_and_only_once(start, tmp_path, monkeypatch):
    monkeypatch.setattr(train, "MOST_PATCHES", 3 * 216)
    judged: list[str] = []

    def judge(checkpoint: Path, terms, *_: Any) -> list[dict[str, Any]]:
        judged.append(checkpoint.parent.name)
        assert (checkpoint / "config.json").exists()
        return [cell(media, "area-control", 0.5) for media in map(evaluate_strategies.spelled, terms)]

    monkeypatch.setattr(evaluate_strategies, "judge_strategy", judge)
    for name, value in {"TIMED_ROUNDS": 1, "TASKS": ("target-localisation",), "PLATFORMS": ("web",)}.items():
        monkeypatch.setattr(evaluate_strategies, name, value)
    asked: dict[str, Any] = {"steps": 2, "start": start, "seeds": "0:2", "out": tmp_path, "threads": 0, "workers": 0}
    ablate_command(strategies="S", **asked)
    ablate_command(strategies="S,S*M*V", **asked)
    assert judged == ["S", "SxMxV"]
    for folder in judged:
        counts = torch.load(tmp_path / folder / "state.pt", weights_only=True)["counts"]
        assert counts["step"] == 42
        assert counts["samples"] > 0
    report = json.loads((tmp_path / "report.json").read_text("utf-8"))
    assert [each["strategy"] for each in report["strategies"]] == ["S", "S*M*V"]
    rows = summaries(report)
    assert [row["media"] for row in rows] == ["S", "S*M*V", "S"]
    assert rows[1]["time"]["ratio"] == 1.0
    for row in rows:
        assert 0 < row["time"]["least"] <= row["time"]["ratio"] <= row["time"]["most"]


def test_bleu_and_time_are_put_beside_those_of_full_fusion():
    report = {
        "date": "2026",
        "steps": 9,
        "seeds": "0:2",
        "timings": {"S": {"S": {"milliseconds": 3.0, "ratio": 0.5, "least": 0.4, "most": 0.6}}},
        "strategies": [
            {"strategy": "S", "samples": 1000, "cells": [cell("S", "x", 0.25, bleu=40.0, decode_ms=3.0)]},
            {
                "strategy": "S*M*V",
                "samples": 500,
                "cells": [
                    cell("S*M*V", "x", 1.0, bleu=80.0, decode_ms=6.0, prefill_ms=2.0),
                    cell("S*M*V", "x", 0.0, bleu=80.0, decode_ms=6.0, prefill_ms=2.0),
                    cell("S", "x", 0.0, bleu=5.0),
                ],
            },
        ],
    }
    one, full, other = summaries(report)
    assert (one["bleu_ratio"], one["time"]["ratio"]) == (0.5, 0.5)
    assert (full["bleu_ratio"], full["time"], full["success"]) == (1.0, None, {"x": 0.5})
    assert other["bleu_ratio"] == 5 / 80
    table = as_markdown(report)
    assert "| S | S | 1,000 | 1 | 40.0 | 100 % | 100 % | 100 % | 0.50 x [0.40, 0.60] | 25 % |" in table


def test_a_beginning_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(UIActionInputError, match=r"holds no state\.pt"):
        ablate_command(start=tmp_path)
    with pytest.raises(UIActionInputError, match="use each of S, M and V at most once"):
        ablate_command(strategies="S,M*M", start=tmp_path)
