"""The generated pictures with sentences: what is planted is known, is really there, and is all that is there."""

from __future__ import annotations

import hashlib
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from plugins.attribution import AttributionInputError, JointCounts
from plugins.attribution.planted import (
    LABELS,
    MIXTURES,
    PICTURED,
    TOLD,
    TRAINING_SEEDS,
    PlantedExamples,
    find_mixture,
    generate,
    vocabulary,
)
from plugins.attribution.synthetic import sample
from plugins.attribution.train import HELD_OUT_SEED, RUN_SEEDS, batch_seed

every_mixture = pytest.mark.parametrize("mixture", MIXTURES.values(), ids=list(MIXTURES))


def shape_pixels(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where a picture is most colourful, [n, 2] of y and x, and how much redder than blue it is there, [n]."""
    red, green, blue = (image[..., channel].astype(float) for channel in range(3))
    strength = np.maximum(red, blue) - (red + green + blue - np.maximum(red, blue)) / 2
    found = np.argwhere(strength > 0.5 * np.quantile(strength, 0.97))
    return found, (red - blue)[tuple(found.T)]


def read_colour(image: np.ndarray) -> int:
    return int(np.median(shape_pixels(image)[1]) < 0)


def read_side(image: np.ndarray) -> int:
    return int(np.median(shape_pixels(image)[0][:, 1]) + 0.5 > image.shape[1] / 2)


def share_right(read: object, examples: PlantedExamples, name: str) -> float:
    assert callable(read)
    return float(np.mean([read(image) for image in examples.images] == examples.attributes[name]))


class TestKnownTruth:
    @every_mixture
    def test_the_closed_form_is_what_the_solver_finds(self, mixture):
        truth = mixture.truth
        found = (truth.redundancy, truth.unique_1, truth.unique_2, truth.synergy)
        assert [float(value) for value in found] == pytest.approx(mixture.atoms, abs=1e-6)
        assert float(truth.gap) < 1e-6

    @every_mixture
    def test_the_joint_table_is_a_distribution_with_a_name_for_every_symbol(self, mixture):
        assert mixture.joint.sum() == pytest.approx(1.0)
        assert mixture.joint.shape == (len(mixture.image_names), len(mixture.text_names), len(mixture.answers))
        assert (mixture.joint.sum(axis=(0, 1)) > 0).all()

    @every_mixture
    def test_the_answer_is_decided_by_picture_and_sentence(self, mixture):
        assert ((mixture.joint > 0).sum(axis=2) <= 1).all()

    def test_every_atom_is_planted_alone_somewhere(self):
        alone = {mixture.atoms for mixture in MIXTURES.values() if sum(value > 0 for value in mixture.atoms) == 1}
        assert alone == {(1, 0, 0, 0), (0, 1, 0, 0), (0, 0, 1, 0), (0, 0, 0, 1)}

    @every_mixture
    def test_twenty_thousand_draws_come_near_the_joint_table(self, mixture):
        drawn = sample(mixture.joint, 20_000, np.random.default_rng(5))
        table = JointCounts(*mixture.joint.shape).update(*drawn).table / 20_000
        assert abs(table - mixture.joint).sum() < 0.04
        assert (table[mixture.joint == 0] == 0).all()

    @every_mixture
    def test_the_picture_shows_what_its_value_says(self, mixture):
        examples = generate(mixture, 4, 100)
        for place, name in enumerate(mixture.pictured):
            assert np.array_equal(examples.attributes[name], (examples.image_values >> place) & 1)
            assert {0, 1} == set(examples.attributes[name])

    @every_mixture
    def test_values_texts_and_answers_of_examples_fit_each_other(self, mixture):
        examples = generate(mixture, 2, 60)
        for k, text in enumerate(examples.texts):
            answer = mixture.joint[examples.image_values[k], examples.text_values[k]].argmax()
            assert examples.labels[k] == mixture.answers[answer]
            assert text.startswith(mixture.question + " ")
            said = set(re.findall(r"\w+", text[len(mixture.question) :].lower()))
            for place, name in enumerate(mixture.told):
                meant = (examples.text_values[k] >> place) & 1
                assert said & set(TOLD[name].words[meant])
                assert not said & set(TOLD[name].words[1 - meant])


class TestExamples:
    def test_the_same_seed_gives_the_same_examples_and_another_does_not(self):
        one, two, other = (generate(MIXTURES["mixed"], seed, 80) for seed in (7, 7, 8))
        assert np.array_equal(one.images, two.images)
        assert one.texts == two.texts
        assert np.array_equal(one.labels, two.labels)
        assert not np.array_equal(one.images, other.images)
        assert one.texts != other.texts

    def test_mixtures_with_one_seed_share_no_picture(self):
        seen = [image.tobytes() for mixture in MIXTURES.values() for image in generate(mixture, 0, 20).images]
        assert len(set(seen)) == len(seen)

    def test_pictures_and_texts_are_as_promised(self):
        examples = generate(MIXTURES["synergy"], 0, 70)
        assert examples.images.shape == (70, 32, 32, 3)
        assert examples.images.dtype == np.uint8
        assert len(examples.texts) == len(examples.labels) == 70

    def test_wordings_vary(self):
        assert len(set(generate(MIXTURES["copy"], 0, 200).texts)) >= 12

    def test_every_word_is_in_the_vocabulary(self):
        known = set(vocabulary())
        for mixture in MIXTURES.values():
            for text in generate(mixture, 1, 100).texts:
                assert set(re.findall(r"\w+|[^\w\s]", text.lower())) <= known

    def test_answers_have_one_code_each(self):
        assert len(set(LABELS)) == len(LABELS)
        assert {answer for mixture in MIXTURES.values() for answer in mixture.answers} == set(LABELS)

    def test_an_unknown_mixture_is_refused_with_those_there_are(self):
        with pytest.raises(AttributionInputError, match="choose from image, text"):
            find_mixture("nothing")

    @pytest.mark.parametrize(("seed", "count"), [(-1, 5), (0, 0), (0, 100_001)])
    def test_seeds_and_counts_out_of_range_are_refused(self, seed, count):
        with pytest.raises(AttributionInputError, match="give"):
            generate(MIXTURES["image"], seed, count)


class TestSeeds:
    @given(st.integers(0, 1000), st.integers(0, RUN_SEEDS - 1))
    def test_training_never_takes_a_seed_of_evaluation(self, seed, step):
        assert batch_seed(seed, step) >= TRAINING_SEEDS > HELD_OUT_SEED

    @given(st.integers(0, 999), st.integers(0, RUN_SEEDS - 1), st.integers(0, RUN_SEEDS - 1))
    def test_trainings_with_other_seeds_share_no_step(self, seed, step, other):
        assert batch_seed(seed, step) < batch_seed(seed + 1, other)

    def test_no_held_out_picture_is_drawn_in_training(self):
        drawn = [
            {hashlib.sha256(image.tobytes()).digest() for image in generate(MIXTURES["mixed"], seed, 200).images}
            for seed in (HELD_OUT_SEED, batch_seed(0, 0), batch_seed(0, HELD_OUT_SEED))
        ]
        assert [len(part) for part in drawn] == [200] * 3
        assert len(set.union(*drawn)) == 600


class TestVisible:
    """Readers that know nothing of how pictures are drawn: colour and place of what is colourful, form and spread."""

    @pytest.fixture(scope="class")
    def examples(self):
        return generate(MIXTURES["mixed"], 11, 300)

    def test_the_colour_is_that_of_the_most_colourful_pixels(self, examples):
        assert share_right(read_colour, examples, "colour") > 0.99

    def test_the_side_is_where_the_most_colourful_pixels_are(self, examples):
        assert share_right(read_side, examples, "side") > 0.99

    def test_stripes_are_the_pale_pixels_within_the_outline(self, examples):
        pale = np.array([self.pale_share(image) for image in examples.images])
        striped = examples.attributes["pattern"] == 1
        threshold = (pale[striped].mean() + pale[~striped].mean()) / 2
        assert np.mean((pale > threshold) == striped) > 0.9

    def test_a_cross_reaches_farther_than_a_circle_of_its_area(self, examples):
        reach = np.array([self.reach(image) for image in examples.images])
        plain = examples.attributes["pattern"] == 0
        cross = examples.attributes["shape"] == 1
        threshold = (reach[plain & cross].mean() + reach[plain & ~cross].mean()) / 2
        assert np.mean((reach > threshold)[plain] == cross[plain]) > 0.95

    def test_what_is_not_planted_says_nothing(self):
        examples = generate(MIXTURES["synergy"], 12, 4000)
        right = examples.labels == "yes"
        for name in set(PICTURED) - {"shape"}:
            assert abs(right[examples.attributes[name] == 1].mean() - right.mean()) < 0.04

    def test_size_and_light_do_not_tell_the_shape(self):
        examples = generate(MIXTURES["synergy"], 13, 1000)
        cross = examples.attributes["shape"] == 1
        light = examples.images.astype(float).mean(axis=(1, 2, 3))
        assert abs(light[cross].mean() - light[~cross].mean()) < 0.2 * light.std()

    @staticmethod
    def pale_share(image: np.ndarray) -> float:
        """Of the pixels near the shape's middle, how many are not colourful."""
        found, _ = shape_pixels(image)
        y, x = np.median(found, axis=0)
        rows, columns = np.indices(image.shape[:2])
        inside = np.hypot(rows - y, columns - x) < 3.5
        colourful = np.zeros(image.shape[:2], bool)
        colourful[tuple(found.T)] = True
        return float(1 - colourful[inside].mean())

    @staticmethod
    def reach(image: np.ndarray) -> float:
        """The farthest colourful pixel near the shape, against the radius of a circle of their area."""
        found, _ = shape_pixels(image)
        away = np.hypot(*(found - np.median(found, axis=0)).T)
        near = away[away < 10]
        return float(np.quantile(near, 0.97) / np.sqrt(len(near) / np.pi))
