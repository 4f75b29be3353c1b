"""Medians, quartiles, and the order of turns."""

from __future__ import annotations

import pytest

from tests.bench.stats import Spread, percentile, spread, turns


def test_spread_of_seven_rounds() -> None:
    assert spread([7, 1, 6, 2, 5, 3, 4]) == Spread(4, 2.5, 5.5, 7)


def test_spread_of_one_round_has_no_width() -> None:
    assert spread([3]) == Spread(3, 3, 3, 1)


def test_spread_of_nothing_is_nothing() -> None:
    assert spread([]) is None


@pytest.mark.parametrize(("share", "value"), [(0, 1), (0.5, 3), (0.99, 4), (1, 4)])
def test_percentile_is_a_value_that_was_seen(share: float, value: int) -> None:
    assert percentile([1, 2, 3, 4], share) == value


def test_the_first_round_keeps_the_given_order() -> None:
    assert turns(["envoy", "direct", "seine"], 0) == ["envoy", "direct", "seine"]


def test_in_one_lap_everybody_has_each_place_once() -> None:
    names = ["a", "b", "c", "d"]
    for lap in (0, 1):
        orders = [turns(names, lap * 4 + number) for number in range(4)]
        for place in range(4):
            assert sorted(order[place] for order in orders) == names


def test_the_second_lap_changes_who_follows_whom() -> None:
    assert turns(["a", "b", "c"], 0)[:2] == ["a", "b"]
    assert turns(["a", "b", "c"], 3)[:2] == ["c", "b"]
