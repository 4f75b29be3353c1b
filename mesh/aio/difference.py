"""What differs between two mappings or sequences of frozen values: cheap where nearly all of them are the same objects.

A cluster's state is replaced as a whole when a few of its 10 000 Services change. Whether two are the same object is
asked in C here, which takes 0.4 ms where to look at each in Python takes 1.1. The answer is the same. Measured by

    python -m timeit -s 'from mesh.aio.difference import difference
    a = {(str(i), 80): (i,) for i in range(10_000)}; b = dict(a)' 'difference(a, b)'

and likewise by `[k for k, v in b.items() if k not in a or a[k] != v], [k for k in a if k not in b]`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import compress, count
from operator import is_, is_not
from typing import TypeVar

K = TypeVar("K")
V = TypeVar("V")


def difference(before: Mapping[K, V], now: Mapping[K, V]) -> tuple[list[K], list[K]]:
    """Keys that are new or have another value now, and keys that are gone."""
    if len(before) == len(now) and all(map(is_, before, now)):
        others = compress(now, map(is_not, before.values(), now.values()))
        return [key for key in others if before[key] != now[key]], []
    changed = [key for key, value in now.items() if key not in before or before[key] != value]
    return changed, [key for key in before if key not in now]


def replaced(before: Sequence[V], now: Sequence[V]) -> list[int] | None:
    """Where another object is now; None where they are not alike: some came, went or moved."""
    if len(before) != len(now):
        return None
    at = list(compress(count(), map(is_not, before, now)))
    former = {id(before[index]) for index in at}
    return None if any(id(now[index]) in former for index in at) else at
