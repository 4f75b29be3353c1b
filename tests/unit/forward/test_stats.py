"""The reader of shared counters believes nothing."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.forward import stats
from mesh.model import Direction, Security

LAYOUT = stats.Layout(
    hash=0x1234,
    bytes=256 + 4 * 96,
    policies_offset=128,
    policies_max=4,
    series_offset=256,
    series_bytes=96,
    series_max=4,
    buckets=2,
    counters=("accepted", "connections"),
    gauges=frozenset({"connections"}),
    flags=("-", "DC"),
    protocols=("tcp", "http1"),
    securities=("none", "mutual_tls"),
    verdicts=("allowed", "denied"),
)


def file(count: int = 0, hash: int = LAYOUT.hash, magic: int = stats.MAGIC) -> bytearray:
    memory = bytearray(LAYOUT.bytes)
    struct.pack_into("<QQII2Q", memory, 0, magic, hash, 1, count, 7, 3)
    return memory


def put(
    memory: bytearray, number: int, *, direction: int = 1, protocol: int = 1, flag: int = 1, security: int = 1
) -> None:
    at = LAYOUT.series_offset + number * LAYOUT.series_bytes
    struct.pack_into("<QQQHBBBB2x", memory, at, 11, 22, 33, 404, direction, protocol, flag, security)
    struct.pack_into("<6Q2Q", memory, at + 32, 5, 6, 4, 100, 200, 1_500_000, 2, 3)


def test_a_series_is_read_as_it_was_written() -> None:
    memory = file(count=2)
    put(memory, 1)
    (series,) = stats.read_series(memoryview(memory), LAYOUT)
    assert (series.source, series.service, series.endpoint) == (11, 22, 33)
    assert (series.direction, series.protocol, series.code, series.flag) == (Direction.INBOUND, "http1", 404, "DC")
    assert series.security is Security.MUTUAL_TLS
    assert (series.count, series.opened, series.closed) == (5, 6, 4)
    assert (series.request_bytes, series.response_bytes) == (100, 200)
    assert (series.duration_us_sum, series.histogram) == (1500, (2, 3))


def test_counters_and_gauges_are_told_apart() -> None:
    assert stats.read_counters(memoryview(file()), LAYOUT) == ({"accepted": 7}, {"connections": 3})


def test_what_policies_said_ends_with_the_first_that_is_none() -> None:
    memory = file()
    struct.pack_into("<12Q", memory, LAYOUT.policies_offset, 0, 0, 9, 77, 5, 0, 0, 0, 0, 78, 1, 1)
    assert stats.read_policies(memoryview(memory), LAYOUT) == {0: {"denied": 9}, 77: {"allowed": 5}}


def test_no_more_policies_than_there_is_room_for() -> None:
    memory = file()
    struct.pack_into("<12Q", memory, LAYOUT.policies_offset, *range(1, 13))
    assert list(stats.read_policies(memoryview(memory), LAYOUT)) == [1, 4, 7, 10]


def test_no_more_series_than_there_is_room_for() -> None:
    memory = file(count=0xFFFFFFFF)
    for number in range(LAYOUT.series_max):
        put(memory, number)
    assert len(list(stats.read_series(memoryview(memory), LAYOUT))) == LAYOUT.series_max


@pytest.mark.parametrize("nonsense", [{"direction": 2}, {"protocol": 2}, {"flag": 2}])
def test_a_series_that_makes_no_sense_is_left_out(nonsense: dict[str, int]) -> None:
    memory = file(count=3)
    put(memory, 1, **nonsense)
    put(memory, 2)
    assert len(list(stats.read_series(memoryview(memory), LAYOUT))) == 1


def test_an_empty_series_is_left_out() -> None:
    memory = file(count=1)
    assert list(stats.read_series(memoryview(memory), LAYOUT)) == []


@pytest.mark.parametrize(
    ("memory", "why"),
    [
        (bytearray(), "bytes"),
        (file()[:-1], "bytes"),
        (file(magic=1), "mark"),
        (file(hash=1), "layout"),
    ],
)
def test_a_file_that_is_not_ours_is_refused_with_a_sentence(memory: bytearray, why: str) -> None:
    with pytest.raises(stats.StatsError, match=why):
        list(stats.read_series(memoryview(memory), LAYOUT))


@given(st.binary(min_size=LAYOUT.bytes - 16, max_size=LAYOUT.bytes - 16))
def test_any_content_is_survived(content: bytes) -> None:
    memory = struct.pack("<QQ", stats.MAGIC, LAYOUT.hash) + content
    for series in stats.read_series(memoryview(memory), LAYOUT):
        assert series.flag in LAYOUT.flags
        assert series.protocol in LAYOUT.protocols
