"""What of an object in a cluster is not as we want it: sentences. Pure.

Only what we say counts: servers fill in defaults, and others may own other fields. Members of a list are the same when
they have the same name (containers, variables, volumes), else when they stand at the same place.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

SHOWN_MAX = 60


def difference(wanted: Any, found: Any, path: str = "") -> Iterator[str]:
    """Nothing when `found` has all that `wanted` says."""
    if isinstance(wanted, dict) and isinstance(found, dict):
        for key, value in wanted.items():
            yield from difference(value, found.get(key), f"{path}.{key}" if path else key)
    elif isinstance(wanted, list) and isinstance(found, list):
        yield from _lists(wanted, found, path)
    elif not _same(wanted, found):
        yield f"{path}: {_shown(found)} -> {_shown(wanted)}"


def _lists(wanted: list[Any], found: list[Any], path: str) -> Iterator[str]:
    if all(isinstance(each, dict) and "name" in each for each in (*wanted, *found)):
        there, named = {each["name"]: each for each in found}, {each["name"]: each for each in wanted}
        for name, value in named.items():
            yield from difference(value, there.get(name), f"{path}[{name}]")
        for name in there.keys() - named.keys():
            yield f"{path}[{name}]: {_shown(there[name])} -> nothing"
        return
    for at, value in enumerate(wanted):
        yield from difference(value, found[at] if at < len(found) else None, f"{path}[{at}]")
    for at in range(len(wanted), len(found)):
        yield f"{path}[{at}]: {_shown(found[at])} -> nothing"


def _same(wanted: Any, found: Any) -> bool:
    """What is empty is left out by servers."""
    return wanted == found or (not wanted and not found and not isinstance(wanted, bool | int))


def _shown(value: Any) -> str:
    text = "nothing" if value is None else str(value)
    return text if len(text) <= SHOWN_MAX else f"{text[:SHOWN_MAX]}..."
