"""Workers share their queues: who carries clearly more than a living neighbour lets it go first, for a moment only."""

from __future__ import annotations

import os
import struct
import time
from functools import partial

from mesh.config import WORKERS_MAX
from mesh.forward.engine import read_counters, stats_bytes
from mesh.model import Protocol
from tests.engine.rig import Rig, Server
from tests.engine.test_listen import connect, gate

NEIGHBOUR = 1


def neighbour(rig: Rig, carries: int, beat_age_s: float = 0.0) -> None:
    """Another worker's cells in the heartbeat map."""
    os.pwrite(rig.heart, struct.pack("Q", time.monotonic_ns() - int(beat_age_s * 1e9)), 8 * (1 + NEIGHBOUR))
    os.pwrite(rig.heart, struct.pack("Q", carries), 8 * (1 + WORKERS_MAX + NEIGHBOUR))


def carries(rig: Rig, count: int) -> bool:
    return rig.engine.live() == count


def carry(rig: Rig, count: int) -> dict[str, int]:
    """Accept so many connections one after the other, and answer the engine's counters."""
    server = Server(rig)
    address = gate(rig)
    rig.plan(server.endpoint(), address=address[0], port=address[1], protocol=Protocol.OPAQUE)
    for number in range(count):
        client = connect(rig, address)
        client.send(b"x")
        rig.until(partial(carries, rig, number + 1))
    return read_counters(memoryview(os.pread(rig.stats, stats_bytes(), 0)))[0]


def test_a_worker_tells_how_many_connections_it_carries(rig: Rig) -> None:
    carry(rig, 3)
    assert struct.unpack("Q", os.pread(rig.heart, 8, 8 * (1 + WORKERS_MAX))) == (3,)


def test_with_an_idle_neighbour_it_waits_a_moment_and_then_accepts_all_the_same(rig: Rig) -> None:
    neighbour(rig, carries=0)
    assert carry(rig, 16)["accept_yielded"] > 0


def test_with_a_busy_neighbour_it_does_not_wait(rig: Rig) -> None:
    neighbour(rig, carries=100)
    assert carry(rig, 16)["accept_yielded"] == 0


def test_a_dead_neighbour_is_not_waited_for(rig: Rig) -> None:
    neighbour(rig, carries=0, beat_age_s=5.0)
    assert carry(rig, 16)["accept_yielded"] == 0


def test_alone_it_does_not_wait(rig: Rig) -> None:
    assert carry(rig, 16)["accept_yielded"] == 0
