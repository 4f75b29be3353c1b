"""Series of what is gone make room for what comes; who still has a connection keeps its own."""

from __future__ import annotations

import os

from mesh.model import Protocol, Series
from tests.engine.rig import SLOT, SOURCE, Peer, Rig, Server

MANY = 1600  # sources with two series each; three quarters of the room for series are 3072
IDLE_MS = 40


def connect_as(rig: Rig, source: int) -> Peer:
    rig.engine.add_pod(SLOT, source)
    return rig.client()


def come_and_go(rig: Rig, first: int, count: int) -> None:
    """So many pods, of which each had a connection that failed at once: no endpoint."""
    for source in range(first, first + count):
        connect_as(rig, source).close()


def of(rig: Rig, source: int) -> list[Series]:
    return [series for series in rig.series() if series.source == source]


def test_what_nothing_counts_in_any_more_makes_room() -> None:
    with Rig(series_idle_ms=IDLE_MS) as rig:
        rig.plan()
        come_and_go(rig, 1000, MANY)
        come_and_go(rig, 10_000, MANY)  # more than there is room for
        assert rig.count("series_overflow") > 0
        rig.wait_for(series_retired=2 * MANY)
        assert of(rig, 1000) == []
        rig.until(lambda: all_have_their_own(rig))


def all_have_their_own(rig: Rig) -> bool:
    """A place that was made free is given away at the next look, which may take a moment."""
    before = rig.count("series_overflow")
    come_and_go(rig, 50_000, 200)
    found = [of(rig, source) for source in (50_000, 50_199)]
    return rig.count("series_overflow") == before and all(series[0].count for series in found if series)


def test_a_connection_that_is_quiet_for_long_keeps_its_series() -> None:
    with Rig(series_idle_ms=IDLE_MS) as rig:
        server = Server(rig)
        rig.plan(server.endpoint(), protocol=Protocol.OPAQUE)
        client = connect_as(rig, SOURCE)
        app = server.accept()
        rig.plan()
        come_and_go(rig, 1000, MANY)
        rig.wait_for(series_retired=2 * MANY)
        client.send(b"still here")
        assert app.receive(10) == b"still here"
        (series,) = of(rig, SOURCE)
        assert (series.opened, series.closed, series.request_bytes) == (1, 0, 10)
        client.close()
        app.close()
        rig.until(lambda: rig.engine.live() == 0)
        (series,) = of(rig, SOURCE)
        assert (series.opened, series.closed, series.count) == (1, 1, 1)


def test_with_room_enough_nothing_is_retired() -> None:
    with Rig(series_idle_ms=1) as rig:
        rig.plan()
        come_and_go(rig, 1000, 100)
        before = rig.count("pumps")
        rig.until(lambda: rig.count("pumps") > before + 20)
        assert rig.count("series_retired") == 0
        assert len(rig.series()) == 200


def test_a_successor_knows_retired_series_for_what_they_are() -> None:
    stats = os.memfd_create("stats")
    with Rig(stats=os.dup(stats), series_idle_ms=IDLE_MS) as first:
        first.plan()
        come_and_go(first, 1000, MANY)
        first.wait_for(series_retired=2 * MANY)
        assert first.series() == []
    with Rig(stats=stats, series_idle_ms=60_000) as second:
        second.plan()
        assert second.series() == []
        come_and_go(second, 1000, MANY)
        assert second.count("series_overflow") == 0
        assert [series.count + series.opened for series in second.series()] == [1] * 2 * MANY
