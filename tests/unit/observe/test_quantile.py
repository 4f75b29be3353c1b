from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.observe.quantile import quantile, rebucket

BOUNDS = (1.0, 2.0, 4.0)
counts = st.lists(st.integers(0, 50), min_size=4, max_size=4)


@pytest.mark.parametrize(
    ("found", "q", "value"),
    [
        ((10, 0, 0, 0), 0.5, 0.5),  # linear within the bucket
        ((10, 0, 0, 0), 1.0, 1.0),
        ((0, 10, 0, 0), 0.0, 1.0),
        ((5, 5, 0, 0), 0.5, 1.0),
        ((0, 0, 4, 0), 0.25, 2.5),
        ((0, 0, 0, 3), 0.5, 4.0),  # beyond the last bound: the most that is known
        ((0, 0, 0, 0), 0.5, None),
        ((), 0.5, None),
    ],
)
def test_quantile(found: tuple[int, ...], q: float, value: float | None) -> None:
    assert quantile(found, BOUNDS, q) == value


@given(counts, st.floats(0, 1), st.floats(0, 1))
def test_quantiles_are_ordered_and_within_bounds(found: list[int], a: float, b: float) -> None:
    low, high = quantile(found, BOUNDS, min(a, b)), quantile(found, BOUNDS, max(a, b))
    if low is None or high is None:
        assert sum(found) == 0
        return
    assert 0 <= low <= high <= BOUNDS[-1]


def test_rebucket_keeps_what_fits_and_moves_what_straddles_to_the_slower_side() -> None:
    assert rebucket((1, 2, 3, 4), BOUNDS, (2.0,)) == [3, 7]
    assert rebucket((1, 2, 3, 4), BOUNDS, (1.5, 3.0)) == [1, 2, 7]


@given(counts, st.lists(st.floats(0.1, 10), max_size=5, unique=True).map(sorted))
def test_rebucket_loses_nothing_and_makes_nothing_faster(found: list[int], coarse: list[float]) -> None:
    result = rebucket(found, BOUNDS, coarse)
    assert sum(result) == sum(found)
    for index, bound in enumerate(coarse):
        faster = sum(n for n, upper in zip(found, BOUNDS, strict=False) if upper <= bound)
        assert sum(result[: index + 1]) == faster
