"""Arithmetic on histograms given as counts per bucket; bucket i holds values from bounds[i-1] up to bounds[i].

There may be one count more than bounds: the bucket without an upper bound. What lies there is reported as its lower
bound, the most that is known.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence


def quantile(counts: Sequence[int], bounds: Sequence[float], q: float) -> float | None:
    """The value below which the fraction q lies, linear within its bucket; None when nothing was counted."""
    total = sum(counts)
    if total == 0:
        return None
    rank, below = q * total, 0
    for index, count in enumerate(counts):
        if count and below + count >= rank:
            lower = bounds[index - 1] if index else 0.0
            if index >= len(bounds):
                return float(bounds[-1])
            return lower + (bounds[index] - lower) * max(0.0, rank - below) / count
        below += count
    return float(bounds[-1])


def rebucket(counts: Sequence[int], bounds: Sequence[float], coarse: Sequence[float]) -> list[int]:
    """Counts per coarse bucket, one more than `coarse`.

    A fine bucket that straddles a coarse bound goes to the slower side: no request looks faster than it was.
    """
    result = [0] * (len(coarse) + 1)
    for index, count in enumerate(counts):
        if count:
            result[bisect_left(coarse, bounds[index]) if index < len(bounds) else len(coarse)] += count
    return result
