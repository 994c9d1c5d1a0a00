"""Names of conditions and sensors, and the seeds that a model may be judged on."""

from __future__ import annotations

import pytest

from plugins.tracking import train
from plugins.tracking.conditions import MIXED, TRAINING_SEEDS, conditions_of, scene_options, sensors_of
from plugins.tracking.errors import TrackingError
from plugins.tracking.evaluate import held_out_seeds
from plugins.tracking.scenes import EVALUATION_SEEDS
from tests.tracking.tiny import tiny_config


class TestNames:
    def test_a_condition_is_a_name_or_several_joined(self):
        assert scene_options("day") == scene_options("plain") == {}
        assert scene_options("night+twins") == {"night": True, "twins": True}

    def test_mixed_stands_for_four(self):
        assert conditions_of("mixed") == MIXED
        assert conditions_of("plain") == ("day",)
        assert conditions_of("night") == ("night",)

    @pytest.mark.parametrize("name", ["", "dusk", "night+", "night+night", "day+night", "Night", "mixed+night"])
    def test_an_unknown_condition_names_those_that_there_are(self, name):
        with pytest.raises(TrackingError, match=r"unknown condition.*twins.*crossover.*mixed"):
            conditions_of(name)

    def test_sensors_come_in_one_order(self):
        assert sensors_of("thermal, rgb") == ("rgb", "thermal")

    @pytest.mark.parametrize("text", ["", "radar", "rgb,rgb", "rgb,radar"])
    def test_unknown_sensors_name_those_that_there_are(self, text):
        with pytest.raises(TrackingError, match="rgb, thermal, depth, event"):
            sensors_of(text)


class TestSeeds:
    def test_those_before_and_after_the_ones_of_training_can_be_judged_on(self):
        assert held_out_seeds("0:20") == range(20)
        assert held_out_seeds(f"{EVALUATION_SEEDS}:100000002") == range(10**8, 10**8 + 2)

    @pytest.mark.parametrize(
        "text", ["10000000:10000001", "9999999:10000001", "99999999:100000001", "30000000:30000009"]
    )
    def test_seeds_that_training_may_have_drawn_are_refused(self, text):
        with pytest.raises(TrackingError, match="overlap those of training"):
            held_out_seeds(text)

    def test_training_draws_its_seeds_from_that_range_alone(self, monkeypatch, tmp_path):
        drawn = []
        monkeypatch.setattr(train, "train_stage", lambda *_, seed, **__: drawn.append(seed))
        monkeypatch.setattr(train, "tiny_config", tiny_config)
        train.train_command(minutes=1, out=tmp_path / "run", threads=0, seed=0)
        assert len(drawn) == len(train.STAGES)
        assert all(seed in TRAINING_SEEDS for seed in drawn)
