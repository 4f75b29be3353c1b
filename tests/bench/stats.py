"""Medians with their quartiles, and the order of turns. Pure: numbers in, numbers out.

Ratios are taken within one round and only then summarised, because what disturbs a shared machine (frequency,
neighbours) changes slowly: two turns of one round are alike in it, two rounds are not.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Spread:
    """The median of some rounds with its lower and upper quartile."""

    median: float
    low: float
    high: float
    count: int


def spread(values: Iterable[float]) -> Spread | None:
    """None when nothing was measured. Quartiles of one value are that value."""
    found = sorted(values)
    if not found:
        return None
    if len(found) == 1:
        return Spread(found[0], found[0], found[0], 1)
    low, median, high = statistics.quantiles(found, n=4, method="inclusive")
    return Spread(median, low, high, len(found))


def percentile(ordered: Sequence[float], share: float) -> float:
    """Nearest rank of an ascending, non-empty sequence; `share` from 0 to 1."""
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def turns(names: Sequence[str], round_number: int) -> list[str]:
    """Who runs when in a round: another one begins each time, and every second lap runs backwards.

    Round 0 is the given order. Over a lap everybody has each place once, so a trend of the machine favours nobody;
    backwards laps change who comes after whom.
    """
    start = round_number % len(names)
    rotated = [*names[start:], *names[:start]]
    lap = round_number // len(names)
    return rotated[::-1] if lap % 2 else rotated
