"""Ranges of seeds on the command line."""

from __future__ import annotations

import sys

import pytest

from core.errors import InputError
from core.seeds import seed_range


@pytest.mark.parametrize(("text", "seeds"), [("0:20", range(20)), (" 7:8 ", range(7, 8)), ("100:102", range(100, 102))])
def test_a_range_is_half_open(text, seeds):
    assert seed_range(text, InputError, trained=range(20, 100)) == seeds


@pytest.mark.parametrize("text", ["", "5", "5:5", "7:3", "-1:3", "a:b", "0:1:2", "0:²", "0:٣", ":", "0:" + 30 * "9"])
def test_another_form_is_refused_in_the_callers_words_for_it(text):
    with pytest.raises(InputError, match="write A:B") as refused:
        seed_range(text, InputError)
    assert len(str(refused.value)) < 150


def test_too_many_are_refused():
    with pytest.raises(InputError, match="are 5,000,000: give at most 100,000"):
        seed_range("0:5000000", InputError)
    assert len(seed_range("0:10", InputError, most=10)) == 10
    with pytest.raises(InputError, match="at most 10"):
        seed_range("0:11", InputError, most=10)


@pytest.mark.parametrize("text", ["20:21", "19:21", "99:101", "30:40", "0:200"])
def test_seeds_that_training_may_have_drawn_are_refused(text):
    with pytest.raises(InputError, match="overlap those of training, from 20 to 99, on"):
        seed_range(text, InputError, trained=range(20, 100))
    with pytest.raises(InputError, match="training, from 10 on, on"):
        seed_range(text, InputError, trained=range(10, sys.maxsize))
