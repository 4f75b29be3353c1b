"""When a bar is met: the median must meet it, the worse quartile may miss it by a tenth."""

from __future__ import annotations

import pytest

from tests.bench import bars
from tests.bench.bars import Bar, Side
from tests.bench.connect import Connect
from tests.bench.http1 import Http1
from tests.bench.memory import Memory
from tests.bench.stats import Spread
from tests.bench.tcp import Tcp

AT_MOST = Bar("cpu", Side.AT_MOST, 1.0, "")
AT_LEAST = Bar("rps", Side.AT_LEAST, 2.0, "")


@pytest.mark.parametrize(
    ("bar", "low", "median", "high", "met"),
    [
        (AT_MOST, 0.5, 1.0, 1.1, True),
        (AT_MOST, 0.5, 1.0, 1.11, False),
        (AT_MOST, 0.5, 1.01, 1.02, False),
        (AT_MOST, 0.1, 0.5, 0.9, True),
        (AT_LEAST, 1.8, 2.0, 9.0, True),
        (AT_LEAST, 1.79, 2.0, 9.0, False),
        (AT_LEAST, 1.9, 1.99, 9.0, False),
    ],
)
def test_median_and_worse_quartile_decide(bar: Bar, low: float, median: float, high: float, met: bool) -> None:
    assert bar.met(Spread(median, low, high, 7)) is met


def test_what_was_not_measured_is_neither_met_nor_missed() -> None:
    assert AT_MOST.met(None) is None


def test_every_bar_can_be_computed_by_its_bench() -> None:
    """A round in which every peer measured 2 of everything gives every key of the tables, and no other."""
    for kind, wanted in ((Http1, bars.HTTP1), (Tcp, bars.TCP), (Connect, bars.CONNECT), (Memory, bars.MEMORY)):
        bench = kind(quick=False)
        names = ["rps", "fixed_p50_us", "busy_us", "process_us", "bytes_per_s", "idle_kib", "http_kib", "tcp_kib"]
        found = bench.complete({peer: dict.fromkeys(names, 2.0) for peer in bench.peers})
        assert set(bench.ratios(found)) == {bar.key for bar in wanted}


def test_ratios_of_absent_peers_are_absent() -> None:
    assert Http1(quick=True).ratios({"direct": {"rps": 1.0, "fixed_p50_us": 1.0}}) == {}


def test_added_latency_is_beyond_direct_of_the_same_round() -> None:
    found = {name: {"fixed_p50_us": p50} for name, p50 in (("direct", 100.0), ("seine", 130.0), ("envoy", 200.0))}
    assert Http1(quick=True).ratios(found)["added_p50_vs_envoy"] == pytest.approx(0.3)


def test_memory_takes_the_dearer_kind_of_connection() -> None:
    bench = Memory(quick=False)
    found = {
        "direct": {"idle_kib": 0.0, "http_kib": 8.0, "tcp_kib": 7.0},
        "seine": {"idle_kib": 102400.0, "http_kib": 10.0, "tcp_kib": 20.0},
    }
    assert bench.ratios(bench.complete(found)) == {"idle_mib": 100.0, "per_connection_kib": 13.0}


def test_envoys_first_saturation_sets_everybodys_rate_for_the_run() -> None:
    bench = Http1(quick=True)
    assert [bench._rate("envoy", 10_000), bench._rate("direct", 90_000), bench._rate("envoy", 20_000)] == [2000.0] * 3


def test_without_envoy_the_rate_is_the_same_in_all_rounds() -> None:
    bench = Http1(quick=True)
    assert [bench._rate("direct", 90_000), bench._rate("envoy", 20_000)] == [3000.0, 3000.0]
