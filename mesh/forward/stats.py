"""Reads the counters that an engine keeps in shared memory; the layout is an argument, nothing here is trusted.

The file is written by a worker, which may be anybody's after a break-in: every number read from it is checked
before it is used, a file of another layout is refused whole, a series that makes no sense is left out.
Source: cext/stats.h.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

from mesh.model import Direction, Security, Series

MAGIC = 0x53454E4945535441
_HEADER = struct.Struct("<QQII")
_KEY = struct.Struct("<QQQHBBBB2x")
_NUMBERS = struct.Struct("<6Q")


class Layout(NamedTuple):
    """The writer's layout, as its own code states it."""

    hash: int
    bytes: int
    policies_offset: int
    policies_max: int
    series_offset: int
    series_bytes: int
    series_max: int
    buckets: int
    counters: tuple[str, ...]
    gauges: frozenset[str]
    flags: tuple[str, ...]
    protocols: tuple[str, ...]
    securities: tuple[str, ...]
    verdicts: tuple[str, ...]


class StatsError(ValueError):
    """The file is not one of ours; the sentence says why."""


def check(memory: memoryview, layout: Layout) -> int:
    """How many series are valid. The file may be longer than needed, never shorter."""
    if len(memory) < layout.bytes:
        raise StatsError(f"counters hold {len(memory)} bytes where {layout.bytes} are needed")
    magic, seen, _version, count = _HEADER.unpack_from(memory)
    if magic != MAGIC:
        raise StatsError("counters do not begin with our mark: the worker has not opened them yet")
    if seen != layout.hash:
        raise StatsError("counters have the layout of another version")
    return min(int(count), layout.series_max)


def read_counters(memory: memoryview, layout: Layout) -> tuple[dict[str, int], dict[str, int]]:
    """What only grows, and the gauges."""
    check(memory, layout)
    numbers = struct.unpack_from(f"<{len(layout.counters)}Q", memory, _HEADER.size)
    named = dict(zip(layout.counters, numbers, strict=True))
    gauges = {name: named.pop(name) for name in layout.counters if name in layout.gauges}
    return named, gauges


def read_policies(memory: memoryview, layout: Layout) -> dict[int, dict[str, int]]:
    """Policy id -> verdict -> how often, without zeroes; id 0 is where no policy allowed it."""
    check(memory, layout)
    row = struct.Struct(f"<{1 + len(layout.verdicts)}Q")
    found: dict[int, dict[str, int]] = {}
    for number in range(layout.policies_max):
        id, *counts = row.unpack_from(memory, layout.policies_offset + number * row.size)
        if id == 0 and number > 0:
            break
        found[id] = {verdict: count for verdict, count in zip(layout.verdicts, counts, strict=True) if count}
    return found


def _series(memory: memoryview, at: int, layout: Layout) -> Series | None:
    source, service, endpoint, code, direction, protocol, flag, security = _KEY.unpack_from(memory, at)
    named = protocol < len(layout.protocols) and flag < len(layout.flags) and security < len(layout.securities)
    if direction not in (0, 1) or not named:
        return None
    at += _KEY.size
    count, opened, closed, request_bytes, response_bytes, sum_ns = _NUMBERS.unpack_from(memory, at)
    histogram = struct.unpack_from(f"<{layout.buckets}Q", memory, at + _NUMBERS.size)
    return Series(
        source=source,
        service=service,
        endpoint=endpoint,
        direction=Direction(direction),
        protocol=layout.protocols[protocol],
        code=code,
        flag=layout.flags[flag],
        count=count,
        opened=opened,
        closed=closed,
        request_bytes=request_bytes,
        response_bytes=response_bytes,
        duration_us_sum=sum_ns // 1000,
        histogram=histogram,
        security=Security(layout.securities[security]),
    )


def _used(series: Series) -> bool:
    return bool(series.count or series.opened or series.closed)


def read_series(memory: memoryview, layout: Layout) -> Iterator[Series]:
    """Every series with something in it. The first, all of whose ids are 0, holds what no series was left for."""
    for number in range(check(memory, layout)):
        series = _series(memory, layout.series_offset + number * layout.series_bytes, layout)
        if series is not None and _used(series):
            yield series
