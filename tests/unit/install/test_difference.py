"""What of a live object is not as we want it."""

from __future__ import annotations

import pytest

from mesh.install.difference import difference


@pytest.mark.parametrize(
    ("wanted", "found", "said"),
    [
        ({"a": 1}, {"a": 1, "status": {}}, []),
        ({"a": {"b": 1}}, {"a": {"b": 2}}, ["a.b: 2 -> 1"]),
        ({"a": {"b": 1}}, {}, ["a: nothing -> {'b': 1}"]),
        ({"a": {}}, {}, []),
        ({"a": False}, {}, ["a: nothing -> False"]),
        ({"a": 0}, {}, ["a: nothing -> 0"]),
        (
            {"env": [{"name": "X", "value": "1"}, {"name": "Y"}]},
            {"env": [{"name": "Y"}, {"name": "X", "value": "2"}]},
            ["env[X].value: 2 -> 1"],
        ),
        ({"env": [{"name": "X"}]}, {"env": [{"name": "X"}, {"name": "Z"}]}, ["env[Z]: {'name': 'Z'} -> nothing"]),
        ({"args": ["a", "b"]}, {"args": ["a"]}, ["args[1]: nothing -> b"]),
        ({"args": ["a"]}, {"args": ["a", "b"]}, ["args[1]: b -> nothing"]),
    ],
)
def test_only_what_we_say_counts(wanted: object, found: object, said: list[str]) -> None:
    assert list(difference(wanted, found)) == said


def test_what_is_long_is_not_shown_whole() -> None:
    assert all(len(each) < 200 for each in difference({"a": "x" * 1000}, {"a": "y" * 1000}))
