from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mesh.aio.difference import difference, replaced

mappings = st.dictionaries(st.integers(0, 9), st.tuples(st.integers(0, 2)), max_size=8)


@given(mappings, mappings)
def test_a_difference_is_what_has_to_be_told(before: dict[int, tuple[int]], now: dict[int, tuple[int]]) -> None:
    changed, gone = difference(before, now)
    known = {key: value for key, value in before.items() if key not in gone}
    known |= {key: now[key] for key in changed}
    assert known == now
    assert all(key not in before or before[key] != now[key] for key in changed)


def test_an_equal_value_is_no_difference_even_as_another_object() -> None:
    before, now = {"a": [1, 2], "b": [3]}, {"a": [1, 2], "b": [4]}
    assert difference(before, now) == (["b"], [])


def test_replaced_are_places_unless_something_came_went_or_moved() -> None:
    one, two, three, four = ([n] for n in range(4))
    assert replaced([one, two, three], [one, four, three]) == [1]
    assert replaced([one, two], [one, two]) == []
    assert replaced([one, two], [two, one]) is None
    assert replaced([one, two], [one]) is None
    assert replaced([one, two], [two, three]) is None
