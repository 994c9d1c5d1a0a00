"""The algebra of media in samples and of samples in sets."""

from __future__ import annotations

from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plugins.ui_action.errors import UIActionInputError
from plugins.ui_action.strategy import MEDIA, Medium, Strategy, Term

FOURTEEN = (
    *("S", "M", "V", "S+M", "S+V", "M+V", "S+M+V"),
    *("S*M", "S*V", "M*V", "S*M+V", "S*V+M", "M*V+S", "S*M*V"),
)


def test_there_are_fourteen_and_each_is_spelled_as_in_the_literature() -> None:
    assert tuple(map(str, Strategy.all())) == FOURTEEN
    assert len(set(Strategy.all())) == 14


@pytest.mark.parametrize("text", FOURTEEN)
def test_factors_and_terms_may_come_in_any_order(text: str) -> None:
    for terms in permutations(text.split("+")):
        for letters in permutations(MEDIA):
            written = "+".join("*".join(x for x in letters if x in term) for term in terms)
            assert str(Strategy.parse(written)) == text
            assert Strategy.parse(written.replace("*", "")) == Strategy.parse(text)


def test_motion_comes_first_in_a_sample_and_the_screen_last() -> None:
    assert Strategy.parse("M*V+S").terms == (("V", "M"), ("S",))
    assert Strategy.parse("V * M + S").terms == (("V", "M"), ("S",))
    assert Strategy.parse("S*M*V").terms == (("V", "M", "S"),)
    assert Strategy.parse("MV+S") == Strategy.parse("M*V+S")


@pytest.mark.parametrize("text", ["", " ", "S*S", "X", "M**V", "M*", "+S", "S+", "S+S", "M*V+M", "s", "S;M", "S" * 99])
def test_what_is_no_strategy_is_refused_with_those_that_are(text: str) -> None:
    with pytest.raises(UIActionInputError, match=r"at most once: S, M, V, S\+M, .*M\*V\+S, S\*M\*V"):
        Strategy.parse(text)


def test_terms_are_checked_however_they_come() -> None:
    assert Strategy((("V", "M"), ("S",))) == Strategy.parse("M*V+S")
    bad: list[tuple[Term, ...]] = [
        (),
        ((),),
        (("M", "V"), ("S",)),
        (("S",), ("V", "M")),
        (("S",), ("S",)),
        (("S", "S"),),
    ]
    for terms in bad:
        with pytest.raises(UIActionInputError, match=r"Strategy\.parse"):
            Strategy(terms)


decisions = st.dictionaries(st.integers(), st.frozensets(st.sampled_from(MEDIA)), max_size=12)


@given(decisions, st.sampled_from(Strategy.all()))
def test_a_sum_has_the_samples_of_its_terms_and_a_product_one_for_each_aligned_decision(
    media: dict[int, frozenset[Medium]], strategy: Strategy
) -> None:
    samples = strategy.samples(media)
    aligned = [sum(set(term) <= has for has in media.values()) for term in strategy.terms]
    assert len(samples) == len(set(samples)) == sum(aligned)
    assert len(samples) == sum(len(Strategy((term,)).samples(media)) for term in strategy.terms)
    assert all(set(term) <= media[decision] for decision, term in samples)


def test_samples_of_two_decisions_one_of_which_has_no_clip() -> None:
    media: dict[str, tuple[Medium, ...]] = {"a": ("V", "M", "S"), "b": ("M", "S")}
    assert Strategy.parse("M*V+S").samples(media) == [("a", ("V", "M")), ("a", ("S",)), ("b", ("S",))]
