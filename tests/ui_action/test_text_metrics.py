"""Similarity of sentences against NLTK's and sacreBLEU's figures."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plugins.ui_action.text_metrics import character_bleu, exact_match, word_bleu

TANK = "click the red tank"
DEPOT = "Select the supply depot and send two units to front 3."
WRONG_DEPOT = "Select the supply depot and send one unit to front 1."

# (prediction, label): as measured with NLTK's sentence_bleu, smoothing method 3, on characters.
CHARACTERS = {
    (TANK, TANK): 100,
    ("click the red base", TANK): 76.943,
    ("click the blue tank", TANK): 68.5924,
    ("tank", TANK): 3.0197,
    ("", TANK): 0,
    (TANK, ""): 0,
    ("", ""): 0,
    ("abc", "abc"): 84.0896,
    (WRONG_DEPOT, DEPOT): 83.5074,
    ("wait", DEPOT): 0.0001,
}


@pytest.mark.parametrize("pair", CHARACTERS)
def test_character_bleu_is_that_of_nltk(pair: tuple[str, str]) -> None:
    assert character_bleu(*pair) == pytest.approx(CHARACTERS[pair], abs=5.1e-5)


@pytest.mark.parametrize(
    ("prediction", "label", "expected"),
    [
        ("click the red base", TANK, 59.46),
        (WRONG_DEPOT, DEPOT, 48.33),
        (DEPOT, DEPOT, 100),
        ("wait", DEPOT, 0),
        ("", DEPOT, 0),
        (DEPOT, "", 0),
        ("tank", "tank", 100),
    ],
)
def test_word_bleu_is_that_of_sacrebleu(prediction: str, label: str, expected: float) -> None:
    assert word_bleu(prediction, label) == pytest.approx(expected, abs=0.005)


def test_signs_are_words_but_points_inside_numbers_are_not() -> None:
    assert word_bleu("send 1.5, now!", "send 1.5 , now !") == pytest.approx(100)
    assert word_bleu("send 1.5", "send 1 . 5") < 100


@given(st.text(max_size=30), st.text(max_size=30))
def test_scores_lie_between_nothing_and_all_and_all_is_equality(prediction: str, label: str) -> None:
    for score in (character_bleu, word_bleu):
        assert 0 <= score(prediction, label) <= 100 + 1e-9
    if len(label) >= 4:
        assert (character_bleu(prediction, label) > 100 - 1e-9) == (prediction == label)


def test_a_wrong_action_can_score_high_and_never_matches() -> None:
    assert character_bleu(WRONG_DEPOT, DEPOT) > 80
    assert not exact_match(WRONG_DEPOT, DEPOT)
    assert exact_match(f" {DEPOT}\n", DEPOT)
