"""Training's log and states."""

from __future__ import annotations

import json

import pytest
import torch

from core.training import TrainingLog, save_state


def test_a_log_is_one_object_a_line_and_goes_on_where_it_was(tmp_path, capsys):
    file = tmp_path / "new" / "log.jsonl"
    TrainingLog(file)("first", {"loss": 0.5})
    TrainingLog(file).of("second")({"loss": 0.25})
    rows = [json.loads(line) for line in file.read_text("utf-8").splitlines()]
    assert rows == [{"stage": "first", "loss": 0.5}, {"stage": "second", "loss": 0.25}]
    assert capsys.readouterr().out.splitlines() == file.read_text("utf-8").splitlines()


def test_a_state_that_cannot_be_written_leaves_the_old_one_whole(tmp_path):
    file = tmp_path / "deep" / "state.pt"
    save_state(file, {"step": 1})
    with pytest.raises(Exception, match="pickle"):
        save_state(file, {"step": lambda: None})
    assert torch.load(file, weights_only=True) == {"step": 1}
