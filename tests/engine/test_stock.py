"""The stock of unconnected sockets: asked for in time, waited for when empty, never more than it should be."""

from __future__ import annotations

import os
import socket

import pytest

from mesh.forward.engine import NeedSockets
from mesh.model import Protocol
from tests.engine.rig import SLOT, Rig, Server, sockets


def asked(rig: Rig, family: int = 4) -> list[NeedSockets]:
    return [event for event in rig.events if isinstance(event, NeedSockets) and event.family == family]


def test_a_new_pod_asks_for_both_families() -> None:
    with Rig(stocked=False, stock_target=8, stock_low=2) as rig:
        assert rig.events == [NeedSockets(SLOT, 4, 8), NeedSockets(SLOT, 6, 8)]
        rig.engine.add_sockets(SLOT, 4, sockets(4, 8))
        assert rig.engine.stock([SLOT]) == {(SLOT, 4): 8, (SLOT, 6): 0}


def test_it_asks_again_at_the_low_mark_and_not_before() -> None:
    with Rig(stocked=False, stock_target=4, stock_low=2) as rig:
        server = Server(rig)
        rig.plan(server.endpoint(), protocol=Protocol.OPAQUE)
        rig.engine.add_sockets(SLOT, 4, sockets(4, 4))
        rig.events.clear()
        rig.client()
        rig.settle()
        assert asked(rig) == []
        rig.client()
        rig.settle()
        assert asked(rig) == [NeedSockets(SLOT, 4, 2)]
        rig.client()
        rig.settle()
        assert len(asked(rig)) == 1  # the answer is on its way


def test_a_worker_whose_agent_dies_at_any_moment_of_a_quiet_time_has_sockets_for_fifty_connections() -> None:
    """As it is shipped: however many were taken before, what is left when nothing is on order is enough."""
    with Rig() as rig:
        rig.plan(Server(rig).endpoint(), protocol=Protocol.OPAQUE)
        for _ in range(40):
            rig.client()
            rig.settle()
            assert rig.engine.stock([SLOT])[SLOT, 4] > 55


def test_the_low_mark_grows_with_the_target() -> None:
    with Rig(stocked=False, stock_target=4, stock_low=3) as rig:
        rig.plan(Server(rig).endpoint(), protocol=Protocol.OPAQUE)
        rig.client()  # finds nothing: the target doubles
        rig.engine.add_sockets(SLOT, 4, sockets(4, 8))
        rig.settle()
        rig.events.clear()
        rig.client()
        rig.settle()
        assert asked(rig) == [NeedSockets(SLOT, 4, 2)], "at six of eight"


def test_who_finds_it_empty_waits_for_the_delivery() -> None:
    with Rig(stocked=False) as rig:
        server = Server(rig)
        rig.plan(server.endpoint(), protocol=Protocol.OPAQUE)
        client = rig.client()
        client.send(b"patience")
        rig.settle()
        assert rig.count("waiting") == 1
        rig.engine.add_sockets(SLOT, 4, sockets(4, 1))
        assert server.accept().receive(8) == b"patience"
        assert rig.count("waiting") == 0


def test_an_empty_stock_makes_the_next_order_larger() -> None:
    with Rig(stocked=False, stock_target=4, stock_low=2) as rig:
        rig.plan(Server(rig).endpoint(), protocol=Protocol.OPAQUE)
        rig.client()
        rig.engine.add_sockets(SLOT, 4, sockets(4, 2))
        rig.settle()
        assert asked(rig)[-1].missing == 7


def test_nobody_delivers_and_the_client_is_reset() -> None:
    with Rig(stocked=False, stock_wait_ms=20) as rig:
        rig.plan(Server(rig).endpoint(), protocol=Protocol.OPAQUE)
        assert rig.client().is_reset()
        assert rig.count("wait_timeout") == 1
        assert rig.flags() == {"UF": 1}


def test_an_empty_delivery_fails_who_waits() -> None:
    with Rig(stocked=False) as rig:
        rig.plan(Server(rig).endpoint(), protocol=Protocol.OPAQUE)
        client = rig.client()
        rig.engine.add_sockets(SLOT, 4, [])
        assert client.is_reset()
        assert rig.count("stock_refused") == 1


def test_too_many_that_wait_are_reset() -> None:
    with Rig(stocked=False, max_waiting=1) as rig:
        rig.plan(Server(rig).endpoint(), protocol=Protocol.OPAQUE)
        rig.client()
        assert rig.client().is_reset()
        assert rig.count("wait_limited") == 1


def test_a_client_that_leaves_while_it_waits_takes_no_socket() -> None:
    with Rig(stocked=False) as rig:
        rig.plan(Server(rig).endpoint(), protocol=Protocol.OPAQUE)
        rig.client().reset()
        rig.until(lambda: rig.engine.live() == 0)
        rig.engine.add_sockets(SLOT, 4, sockets(4, 1))
        assert rig.engine.stock([SLOT])[SLOT, 4] == 1


def test_surplus_is_closed(rig: Rig) -> None:
    extra = sockets(4, 300)
    rig.engine.add_sockets(SLOT, 4, extra)
    assert rig.engine.stock([SLOT])[SLOT, 4] == 256
    assert rig.count("stock_surplus") == 64 + 300 - 256
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(extra[-1])


def test_sockets_for_nobody_are_closed(rig: Rig) -> None:
    extra = sockets(4, 1)
    with pytest.raises(FileNotFoundError):
        rig.engine.add_sockets(99, 4, extra)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(extra[0])


def test_a_local_endpoint_is_dialled_from_its_own_pod(rig: Rig) -> None:
    rig.engine.add_pod(7, 1)
    rig.settle()
    server = Server(rig)
    rig.plan(server.endpoint(slot=7), protocol=Protocol.OPAQUE)
    before = rig.engine.stock([SLOT, 7])
    rig.client()
    server.accept()
    after = rig.engine.stock([SLOT, 7])
    assert (after[SLOT, 4], after[7, 4]) == (before[SLOT, 4], before[7, 4] - 1)
    assert rig.count("note_unsupported") == 1  # no hook here; tests/kernel has one


def test_an_endpoint_in_a_pod_that_is_gone_is_passed_over(rig: Rig) -> None:
    server = Server(rig)
    rig.plan(server.endpoint(slot=55), protocol=Protocol.OPAQUE)
    assert rig.client().is_reset()
    assert rig.count("no_pod") == 1


def test_a_socket_that_cannot_be_used_costs_one_try(rig: Rig) -> None:
    with Rig(stocked=False) as rig:
        server = Server(rig)
        rig.plan(server.endpoint(id=1), server.endpoint(id=2), protocol=Protocol.OPAQUE)
        listening = socket.create_server(("127.0.0.1", 0))
        listening.setblocking(False)
        rig.engine.add_sockets(SLOT, 4, sockets(4, 4))
        rig.engine.add_sockets(SLOT, 4, [listening.detach()])  # the newest is taken first
        rig.client()
        server.accept()
        assert rig.count("dial_failed") == 1
