"""The command line plays, writes what it did, and replays it."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from plugins.ui_action import cli
from plugins.ui_action.backends.base import Completion, Prompt
from plugins.ui_action.environments.simulator import SimulatorEnvironment
from plugins.ui_action.games import experts
from plugins.ui_action.serialiser import serialise


class Expert:
    """Answers as an expert would at each decision of one game."""

    name = "expert"

    def __init__(self) -> None:
        self.environment = SimulatorEnvironment("resource-allocation", "web")
        self.environment.reset(3)

    def complete(self, prompt: Prompt) -> Completion:
        decision, screen = experts.decide(self.environment.game), self.environment.screen
        if prompt.role == "reason":
            return Completion(decision.sentence, screen)
        self.environment.execute(decision.action)
        return Completion(serialise(decision.action, screen=screen), screen)


@pytest.fixture
def command(monkeypatch):
    monkeypatch.setattr(cli, "_backend", lambda *_: Expert())
    return lambda *words: CliRunner().invoke(cli.app, [str(word) for word in words])


def test_a_game_is_played_written_down_and_replayed(command, tmp_path):
    game = ("--task", "resource-allocation", "--seed", 3)
    played = command("play", *game, "--out", tmp_path)
    assert played.exit_code == 0, played.output
    assert "Send every front exactly what it needs" in played.output
    assert "success: the task is solved" in played.output
    assert (tmp_path / "report.html").read_text("utf-8").startswith("<!doctype html>")
    again = command("replay", tmp_path / "trace.jsonl", "--task", "resource-allocation")
    assert again.exit_code == 0, again.output
    assert "another state" not in again.output
    assert again.output.count("same state") == played.output.count(". click (")
    other = command("replay", tmp_path / "trace.jsonl", "--task", "area-control")
    assert other.exit_code == 1


def test_what_is_there_is_not_written_over(command, tmp_path):
    (tmp_path / "trace.jsonl").write_text("mine")
    refused = command("play", "--task", "resource-allocation", "--seed", 3, "--out", tmp_path)
    assert refused.exit_code == 2
    assert "is there already" in refused.output
    assert (tmp_path / "trace.jsonl").read_text() == "mine"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("play", "--task", "chess", "--out", "x"), "no task 'chess': choose one of target-localisation"),
        (("play", "--task", "area-control", "--platform", "tv", "--out", "x"), "no platform 'tv'"),
        (("replay", "nowhere.jsonl", "--task", "area-control"), "nowhere.jsonl"),
    ],
)
def test_what_is_not_there_is_named(command, words, message):
    refused = command(*words)
    assert refused.exit_code == 2
    assert message in refused.output


def test_an_endpoint_needs_a_model_and_a_family(tmp_path):
    words = ["play", "--task", "area-control", "--out", str(tmp_path), "--endpoint", "http://127.0.0.1:9/v1"]
    refused = CliRunner().invoke(cli.app, words)
    assert refused.exit_code == 2
    assert "needs --model" in refused.output
