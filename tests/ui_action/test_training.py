"""Training: batches of recorded play, losses that fall, and a trainer that goes on where it stopped."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import pytest
import torch
import typer

from plugins.ui_action import train
from plugins.ui_action.errors import UIActionInputError
from plugins.ui_action.pipeline_ui_action import UIActionPipeline
from plugins.ui_action.processing import ScreenProcessor
from plugins.ui_action.small_model import new_model, new_tokenizer
from plugins.ui_action.strategy import Strategy
from plugins.ui_action.train import STAGES, TRAINING_SEEDS, Samples, Trainer, parts_of

WORDS = ["<reason> <act> Select the red tank", "Action: click(start_box='<|box_start|>(12,34)<|box_end|>')"]


@pytest.fixture(scope="module")
def processor() -> ScreenProcessor:
    return ScreenProcessor(new_tokenizer(WORDS))


@pytest.fixture(autouse=True)
def small_batches(monkeypatch):
    monkeypatch.setattr(train, "MOST_PATCHES", 3 * 216)


def batches(processor: ScreenProcessor, strategy: str, count: int, stage: int = 1):
    stream = Samples(STAGES[stage], Strategy.parse(strategy), processor, TRAINING_SEEDS, None)
    return list(islice(iter(stream), count))


def test_the_same_seed_makes_the_same_batches_and_another_seed_others(processor):
    first, again = (batches(processor, "M*V+S", 4) for _ in range(2))
    for (role, one, _), (same, two, _) in zip(first, again, strict=True):
        assert role == same
        assert all(torch.equal(one[name], two[name]) for name in one)
    other = next(iter(Samples(STAGES[1], Strategy.parse("M*V+S"), processor, TRAINING_SEEDS + 99, None)))
    assert not all(torch.equal(first[0][1][name], other[1][name]) for name in ("input_ids",))


def test_a_batch_holds_one_role_and_one_kind_of_media(processor):
    kinds = set()
    for role, batch, labels in batches(processor, "M*V+S", 40):
        kinds.add((role, "pixel_values_videos" in batch))
        assert sum(len(each.rows) for each in labels) == int((batch["mm_token_type_ids"] > 0).sum())
    assert {("act", False), ("reason", True), ("reason", False)} <= kinds


@pytest.mark.parametrize(("strategy", "video"), [("S", False), ("S*M*V", True)])
def test_a_strategy_decides_which_media_the_reasoner_sees(processor, strategy, video):
    asked = [batch for role, batch, _ in batches(processor, strategy, 8) if role == "reason"]
    assert asked
    assert all(("pixel_values_videos" in batch) == video for batch in asked)


def test_losses_fall_on_what_is_seen_again_and_again(processor):
    torch.manual_seed(0)
    trainer = Trainer(new_model(processor.tokenizer), processor, "cpu")
    ((_, batch, labels),) = batches(processor, "S", 1, stage=0)
    found = [trainer.train_step(batch, labels, 2e-3) for _ in range(12)]
    assert {"answer", "place", "kind", "target", "answers_right"} <= set(found[0])
    assert found[-1]["answer"] < 0.7 * found[0]["answer"]
    assert found[-1]["place"] < found[0]["place"]
    assert trainer.samples == 12 * len(batch["input_ids"])


def test_points_weigh_more_than_words(processor, monkeypatch):
    torch.manual_seed(0)
    trainer = Trainer(new_model(processor.tokenizer), processor, "cpu")
    batch, labels = next(
        (batch, labels) for role, batch, labels in batches(processor, "S", 8, stage=0) if role == "act"
    )
    with torch.no_grad():
        heavy = float(trainer.losses(batch, labels)[0]["answer"])
        monkeypatch.setattr(train, "POINT_WEIGHT", 1.0)
        plain = float(trainer.losses(batch, labels)[0]["answer"])
        found = trainer.model(**batch)
    assert plain == pytest.approx(float(found.loss), abs=1e-3)
    assert heavy != pytest.approx(plain, abs=1e-4)


def test_what_a_sentence_decides_weighs_more_than_the_words_around_it(processor, monkeypatch):
    torch.manual_seed(0)
    trainer = Trainer(new_model(processor.tokenizer), processor, "cpu")
    batch, labels = next((batch, labels) for role, batch, labels in batches(processor, "S", 8) if role == "reason")
    assert 0 < int(batch["focus"].sum()) < int((batch["labels"] != -100).sum())
    assert bool((batch["labels"][batch["focus"]] != -100).all())
    with torch.no_grad():
        losses, shares = trainer.losses(batch, labels)
        monkeypatch.setattr(train, "VALUE_WEIGHT", 1.0)
        plain, _ = trainer.losses(batch, labels)
    assert float(losses["answer"]) != pytest.approx(float(plain["answer"]), abs=1e-4)
    assert 0 <= shares["values_right"] <= 1


def test_a_trainer_goes_on_where_it_stopped(processor, tmp_path):
    torch.manual_seed(0)
    first = Trainer(new_model(processor.tokenizer), processor, "cpu")
    steps = batches(processor, "S", 3)
    for _, batch, labels in steps[:2]:
        first.train_step(batch, labels, 1e-3)
    first.save(tmp_path / "state.pt", stages_done=1)
    second = Trainer(new_model(processor.tokenizer), processor, "cpu")
    assert second.load(tmp_path / "state.pt")["stages_done"] == 1
    _, batch, labels = steps[2]
    assert second.train_step(batch, labels, 1e-3) == first.train_step(batch, labels, 1e-3)
    assert (second.step, second.samples) == (first.step, first.samples)


def test_the_board_fills_up_over_the_first_stage():
    assert [units for _, units in parts_of(STAGES[0])] == [1, 3, 10]
    assert parts_of(STAGES[1]) == [(1.0, None)]


def test_the_command_ends_in_a_checkpoint_that_loads_and_when_all_is_done_goes_on_with_the_last_part(
    tmp_path, monkeypatch
):
    trained: list[str] = []
    monkeypatch.setattr(train, "train_stage", lambda trainer, stage, *_, **__: trained.append(stage.name))
    monkeypatch.setattr(train, "CORPUS_GAMES", 1)
    for _ in range(2):
        train.train_command(minutes=1, strategy="S", out=tmp_path, threads=0, workers=0, device="cpu", seed=0)
    assert trained == [*(stage.name for stage in STAGES), STAGES[-1].name]
    loaded = UIActionPipeline.from_pretrained(tmp_path / "checkpoint", device="cpu")
    assert loaded.family == "tiny"
    assert not any("heads" in name for name in loaded.model.state_dict())
    assert all(file.stat().st_size < 10_000_000 for file in Path(tmp_path / "checkpoint").iterdir())


def test_what_cannot_be_trained_is_refused(tmp_path):
    with pytest.raises(typer.BadParameter, match="is not above 0"):
        train.train_command(minutes=0, out=tmp_path / "out")
    with pytest.raises(UIActionInputError, match="use each of S, M and V at most once"):
        train.train_command(minutes=1, strategy="S*S", out=tmp_path / "out")
    assert not (tmp_path / "out").exists()
