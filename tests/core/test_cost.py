import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.cost import SavedCost, cost_of, cost_per_unit
from core.errors import InputError

amounts = st.floats(min_value=0, max_value=1e6)


def test_an_hour_costs_the_hourly_price():
    assert cost_of(3600, 2.5) == 2.5


def test_half_an_hour_for_ten_minutes_of_video_costs_its_share_per_minute():
    assert cost_per_unit(1800, 4.0, 10) == pytest.approx(0.2)


@given(first=amounts, second=amounts, price=amounts)
def test_costs_add_up_over_time(first, second, price):
    assert cost_of(first + second, price) == pytest.approx(cost_of(first, price) + cost_of(second, price))


@given(before=amounts.filter(lambda value: value > 1e-6), after=amounts)
def test_what_is_saved_and_what_is_paid_make_up_the_old_cost(before, after):
    saving = SavedCost(before, after)
    assert saving.saved + after == pytest.approx(before, abs=1e-6)
    assert saving.fraction is not None
    assert saving.fraction <= 1
    assert (saving.fraction >= 0) == (after <= before)


def test_a_way_that_costs_more_saves_a_negative_amount():
    saving = SavedCost(before=1.0, after=1.5)
    assert saving.saved == -0.5
    assert saving.fraction == -0.5
    assert saving.over(10) == -5.0


def test_ratios_without_a_base_are_none_not_infinite():
    assert SavedCost(0.0, 1.0).fraction is None
    assert SavedCost(1.0, 0.0).speedup is None
    assert SavedCost(3.0, 1.5).speedup == 2.0


@pytest.mark.parametrize("bad", [-1.0, math.nan, math.inf])
def test_amounts_that_mean_nothing_are_refused_by_name(bad):
    with pytest.raises(InputError, match="seconds is"):
        cost_of(bad, 1.0)
    with pytest.raises(InputError, match="dollars per hour is"):
        cost_of(1.0, bad)
    with pytest.raises(InputError, match="units is"):
        cost_per_unit(1.0, 1.0, bad)
    with pytest.raises(InputError, match="cost after is"):
        SavedCost(1.0, bad)


def test_a_price_per_no_units_is_refused():
    with pytest.raises(InputError, match="units is 0"):
        cost_per_unit(1.0, 1.0, 0)
