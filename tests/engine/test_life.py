"""The engine as a whole: pods that go, draining, beating, waking the loop, and counters that outlive a worker."""

from __future__ import annotations

import os
import select
import socket
import struct
import time
from pathlib import Path

import pytest

from mesh.forward.engine import Engine, EngineConfig, NeedPlan, StatsError, read_counters, read_series, stats_bytes
from mesh.forward.messages import Limits
from mesh.model import Direction, PlanEndpoint, Protocol
from tests.engine.rig import SLOT, SOURCE, Rig, Server


def test_a_pod_that_is_gone_takes_its_connections_with_it(rig: Rig) -> None:
    client, server = rig.pair()
    rig.engine.remove_pod(SLOT, close_connections=True)
    assert client.is_reset()
    assert server.is_reset()
    assert rig.flags() == {"LR": 1}
    assert rig.count("stock") == 0


def test_connections_to_a_pod_that_is_gone_end_as_well(rig: Rig) -> None:
    rig.engine.add_pod(7, 1)
    rig.settle()
    server = Server(rig)
    rig.plan(server.endpoint(slot=7), protocol=Protocol.OPAQUE)
    client = rig.client()
    server.accept()
    rig.engine.remove_pod(7, close_connections=True)
    assert client.is_reset()


def test_connections_of_an_unenrolled_pod_live_on(rig: Rig) -> None:
    client, server = rig.pair()
    parked = rig.client("10.9.9.9", 1)
    rig.engine.remove_pod(SLOT, close_connections=False)
    client.send(b"still here")
    assert server.receive(10) == b"still here"
    assert parked.is_reset()  # it has no server yet, and the slot will be another pod's


def limits(**changes: int) -> Limits:
    values = {name: getattr(EngineConfig(), name) for name in Limits.__struct_fields__}
    return Limits(**(values | changes))


def test_limits_may_be_set_while_it_runs(rig: Rig) -> None:
    first, app = rig.pair()
    rig.engine.set_limits(limits(max_connections=1))
    with pytest.raises(BlockingIOError):
        rig.client()
    assert rig.count("accept_limited") == 1
    rig.engine.set_limits(limits(idle_timeout_ms=20))
    second, _ = rig.pair()
    assert second.is_reset()
    first.send(b"still here")
    assert app.receive(10) == b"still here", "who was there before has the time it was given then"


def test_no_limit_of_connections_means_what_the_limit_of_open_files_leaves(rig: Rig) -> None:
    rig.engine.set_limits(limits(max_connections=0))
    rig.pair()
    rig.pair()
    assert rig.engine.live() == 2


def test_draining_closes_the_door_and_lets_finish_who_is_in(rig: Rig) -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    address = listener.getsockname()
    listener.setblocking(False)
    rig.engine.add_listener(SLOT, Direction.OUTBOUND, listener.detach())
    client, server = rig.pair()
    rig.engine.drain()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address)
    client.send(b"finish")
    assert server.receive(6) == b"finish"
    assert rig.engine.live() == 1
    client.close()
    server.close()
    rig.until(lambda: rig.engine.live() == 0)


def test_who_lets_go_with_the_door_open_lets_in_who_comes_and_who_drains_leads_nobody_here(rig: Rig) -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    address = listener.getsockname()
    listener.setblocking(False)
    rig.engine.add_listener(SLOT, Direction.OUTBOUND, listener.detach())
    client, server = rig.pair()
    rig.engine.let_go(accept=True)
    with socket.create_connection(address):
        rig.until(lambda: rig.engine.live() == 2)
    assert rig.engine.oldest_seconds() >= 0
    rig.engine.let_go(accept=False)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address)
    client.send(b"finish")
    assert server.receive(6) == b"finish"


def test_who_drains_says_that_he_lives_and_not_that_the_node_does() -> None:
    with Rig(heartbeat_ms=10) as rig:

        def cells() -> tuple[int, ...]:
            return struct.unpack("2Q", os.pread(rig.heart, 16, 0))

        rig.engine.let_go(accept=False)
        before = cells()
        rig.until(lambda: cells()[1] > before[1])
        assert cells()[0] == before[0]


def test_the_heart_beats_where_a_newer_agent_looks(rig: Rig) -> None:
    newer = os.memfd_create("heart")
    os.ftruncate(newer, 4096)
    rig.engine.beat_in(newer)
    assert 0 < struct.unpack("Q", os.pread(newer, 8, 0))[0] <= time.monotonic_ns()
    with pytest.raises(OSError, match="heartbeat map"):
        rig.engine.beat_in(-1)
    os.close(newer)


def test_the_heart_beats_in_both_cells() -> None:
    with Rig(heartbeat_ms=10) as rig:

        def cells() -> tuple[int, ...]:
            return struct.unpack("3Q", os.pread(rig.heart, 24, 0))

        before = cells()
        assert before[0] == before[1] <= time.monotonic_ns()
        assert before[2] == 0
        rig.until(lambda: cells()[0] > before[0] and cells()[1] > before[1])


def test_a_poke_wakes_the_loop(rig: Rig) -> None:
    rig.settle()
    rig.engine.poke()
    rig.engine.poke()
    assert select.select([rig.engine.fd], [], [], 0)[0]
    rig.settle()
    assert not select.select([rig.engine.fd], [], [], 0)[0]


def test_a_command_that_makes_events_wakes_the_loop(rig: Rig) -> None:
    rig.settle()
    rig.client("10.9.9.9", 1)
    assert select.select([rig.engine.fd], [], [], 0)[0]


def test_a_spent_budget_leaves_the_descriptor_readable() -> None:
    with Rig(budget=1) as rig:
        pairs = [rig.pair() for _ in range(5)]
        rig.settle()
        for client, _ in pairs:
            client.send(b"x")
        assert select.select([rig.engine.fd], [], [], 5)[0]
        rig.pump()
        assert select.select([rig.engine.fd], [], [], 0)[0]
        assert [server.receive(1) for _, server in pairs] == [b"x"] * 5


def test_more_events_than_one_pump_returns_are_kept() -> None:
    with Rig(max_parked=1000) as rig:
        for _ in range(600):
            rig.client("10.9.9.9", 1)
        rig.settle()
        assert len([event for event in rig.events if isinstance(event, NeedPlan)]) == 600


def test_an_idle_engine_sleeps(rig: Rig) -> None:
    rig.pair()
    rig.settle()
    before, end = rig.count("pumps"), time.monotonic() + 0.6
    while time.monotonic() < end:
        rig.step()
    assert rig.count("pumps") - before <= 8  # four beats a second, and a turn of the wheel


def test_a_successor_goes_on_with_the_counters() -> None:
    stats = os.memfd_create("stats")
    with Rig(stats=os.dup(stats)) as first:
        server = Server(first)
        first.plan(server.endpoint())
        client = first.client()
        client.send(b"x" * 10)
        assert server.accept().receive(10)
        dead = first.series()
        assert first.count("connections") == 1
    with Rig(stats=os.dup(stats)) as second:
        assert second.count("adopted") == 1
        assert second.count("connections") == 0
        kept = next(series for series in second.series() if series.flag == "-")
        assert (kept.opened, kept.closed) == (1, 1)
        assert kept.request_bytes == dead[0].request_bytes == 10
        client = second.client()  # to the same endpoint, which is gone
        second.plan(PlanEndpoint(id=kept.endpoint, address="127.0.0.1", port=server.port))
        assert client.is_reset()
        grown = [series for series in second.series() if series.endpoint == kept.endpoint and series.flag == "-"]
        assert [(series.opened, series.closed, series.request_bytes) for series in grown] == [(2, 2, 10)]
    os.close(stats)


def test_the_gauges_of_a_killed_worker_are_zeroed_by_its_successor() -> None:
    stats = os.memfd_create("stats")
    with Rig(stats=os.dup(stats)) as first:
        first.pair()
        first.client("10.9.9.9", 1)
        killed = os.pread(stats, stats_bytes(), 0)  # as it would be after kill -9
    os.pwrite(stats, killed, 0)
    _, gauges = read_counters(memoryview(os.pread(stats, stats_bytes(), 0)))
    assert gauges["connections"] == 2
    with Rig(stats=os.dup(stats)) as second:
        assert second.count("connections") == second.count("parked") == 0
        assert second.count("adopted") == 2
        assert [series.opened - series.closed for series in second.series() if series.opened] == [0]
    os.close(stats)


def test_a_file_of_another_layout_is_made_anew() -> None:
    for content in (b"x" * 5000, b"\xff" * stats_bytes(), os.urandom(stats_bytes())):
        stats = os.memfd_create("stats")
        os.write(stats, content)
        with Rig(stats=stats) as rig:
            rig.pair()
            assert rig.count("connections") == 1
            assert rig.count("adopted") == 1


def test_a_damaged_file_of_our_layout_is_survived() -> None:
    stats = os.memfd_create("stats")
    with Rig(stats=os.dup(stats)) as first:
        first.pair()
    damaged = bytearray(os.pread(stats, stats_bytes(), 0))
    struct.pack_into("<I", damaged, 20, 0xFFFFFFFF)
    os.pwrite(stats, damaged, 0)
    with Rig(stats=os.dup(stats)) as second:
        second.pair()
        assert len(second.series()) >= 1
    struct.pack_into("<I", damaged, 20, 4097)
    os.pwrite(stats, damaged, 0)
    with Rig(stats=stats) as third:
        third.pair()
        third.series()


def test_beyond_its_room_everything_counts_in_the_overflow() -> None:
    with Rig() as rig:
        for number in range(4200):
            rig.engine.add_pod(SLOT, number + 1)
            rig.plan()
            rig.client().close()
        assert rig.count("series_overflow") > 0
        total = sum(series.count for series in rig.series())
        assert total == 4200
        overflow = rig.series()[0]
        assert (overflow.source, overflow.service, overflow.endpoint) == (0, 0, 0)
        assert overflow.count > 0


def test_inbound_sources_are_known_by_address(rig: Rig) -> None:
    rig.engine.add_source("127.0.0.1", 4242)
    server = Server(rig)
    rig.plan(server.endpoint(), protocol=Protocol.OPAQUE)
    rig.client(direction=Direction.INBOUND)
    server.accept()
    rig.engine.remove_source("127.0.0.1")
    rig.client(direction=Direction.INBOUND)
    server.accept()
    rig.client()
    server.accept()
    assert sorted(series.source for series in rig.series()) == sorted([0, SOURCE, 4242])


def test_a_connection_of_a_pod_has_its_identity_and_one_from_outside_has_none(rig: Rig) -> None:
    web = "spiffe://cluster.local/ns/shop/sa/web"
    rig.engine.add_pod(SLOT, SOURCE, principal=web)
    rig.plan(Server(rig).endpoint(), protocol=Protocol.OPAQUE)
    rig.client()
    rig.client(direction=Direction.INBOUND)
    assert [each.identity for each in rig.engine.connections()] == ["", web]


def test_connections_keep_the_identity_that_they_began_with(rig: Rig) -> None:
    rig.plan(Server(rig).endpoint(), protocol=Protocol.OPAQUE)
    for identity in ("spiffe://a/ns/b/sa/c", "", "spiffe://a/ns/b/sa/d", "spiffe://a/ns/b/sa/c"):
        rig.engine.add_pod(SLOT, SOURCE, principal=identity)
        rig.client()
    rig.engine.remove_pod(SLOT, close_connections=False)
    names = [each.identity.rpartition("/")[2] for each in rig.engine.connections()]
    assert names == ["c", "d", "", "c"]


def test_it_does_not_start_with_nonsense() -> None:
    stats = os.memfd_create("stats")
    for config, worker in (
        (EngineConfig(banner=b"x" * 65), 0),
        (EngineConfig(stock_target=1000), 0),
        (EngineConfig(), 9999),
    ):
        with pytest.raises((OSError, IndexError)):
            Engine(config, stats, -1, worker)
    with pytest.raises(OSError, match="does not start"):
        Engine(EngineConfig(), 999, -1, 0)
    with pytest.raises(OSError, match="does not start"):
        Engine(EngineConfig(), stats, 999, 0)
    os.close(stats)


def test_readers_refuse_what_is_not_ours() -> None:
    with pytest.raises(StatsError, match="bytes"):
        read_series(memoryview(b"short"))
    with pytest.raises(StatsError, match="mark"):
        read_series(memoryview(bytes(stats_bytes())))


def test_an_idle_connection_costs_little() -> None:
    """Ours beyond the two kernel sockets; the bar for everything is 16 KiB (tests/bench measures that)."""
    if "SEINE_TEST_ENGINE" in os.environ:
        return  # the sanitizer's own memory is most of it

    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    with Rig(stock_target=256, stock_low=128) as rig:
        server = Server(rig, backlog=512)
        rig.plan(server.endpoint(), protocol=Protocol.OPAQUE)
        clients = []
        sizes = []
        for _ in range(4):
            for _ in range(100):
                clients.append(rig.client())
                server.accept()
            rig.settle()
            sizes.append(resident())
        assert (sizes[-1] - sizes[0]) / 300 < 4096  # Python's own objects for two peers included
