"""Where a connection goes: plans by address, parking without one, endpoints chosen and tried again."""

from __future__ import annotations

import collections
import socket

import pytest

from mesh.forward.engine import NeedPlan
from mesh.model import Balancer, Direction, Plan, PlanEndpoint, Protocol
from tests.engine.rig import SLOT, Peer, Rig, Server, refusing_port


def refusing(id: int = 1) -> PlanEndpoint:
    return PlanEndpoint(id=id, address="127.0.0.1", port=refusing_port())


def test_a_connection_without_a_plan_waits_for_one(rig: Rig) -> None:
    client = rig.client("10.0.0.9", 8080)
    client.send(b"early")
    rig.settle()
    (event,) = rig.events
    assert isinstance(event, NeedPlan)
    assert event[1:] == (SLOT, Direction.OUTBOUND, "10.0.0.9", 8080)
    assert rig.count("parked") == 1
    server = Server(rig)
    rig.plan(server.endpoint(), address="10.0.0.9", port=8080)
    assert server.accept().receive(5) == b"early"
    assert rig.count("parked") == 0


def test_only_the_connections_that_a_plan_is_for_go_on(rig: Rig) -> None:
    server = Server(rig)
    rig.client("10.0.0.9", 8080)
    rig.client("10.0.0.9", 9090)
    rig.client("10.0.0.8", 8080)
    rig.plan(server.endpoint(), address="10.0.0.9", port=8080)
    server.accept()
    assert rig.count("parked") == 2
    rig.plan(server.endpoint(), address="10.0.0.9", port=0)
    server.accept()
    assert rig.count("parked") == 1


def test_no_plan_means_the_original_destination(rig: Rig) -> None:
    server = Server(rig)
    client = rig.client(server.address, server.port)
    rig.settle()
    (event,) = rig.events
    assert isinstance(event, NeedPlan)
    rig.engine.no_plan(event.connection)
    server.accept().send(b"hi")
    assert client.receive(2) == b"hi"
    assert rig.count("passed_through") == 1
    rig.engine.no_plan(event.connection)  # answered twice: nothing
    rig.engine.no_plan(12345)


@pytest.mark.parametrize("answered", [True, False])
def test_a_pod_that_could_go_by_tunnel_does_not_go_on_without_a_plan(answered: bool) -> None:
    with Rig(park_timeout_ms=20) as rig:
        server = Server(rig)
        rig.engine.add_pod(SLOT, 77, identity="spiffe://cluster.local/ns/shop/sa/client")
        client = rig.client(server.address, server.port)
        if answered:
            rig.settle()
            rig.engine.no_plan(rig.events[0].connection)  # type: ignore[union-attr]
        assert client.is_reset()
        assert (rig.count("plan_missing"), rig.count("passed_through")) == (1, 0)


def test_nobody_answers_and_it_goes_to_the_original_destination() -> None:
    with Rig(park_timeout_ms=20) as rig:
        server = Server(rig)
        client = rig.client(server.address, server.port)
        server.accept().send(b"hi")
        assert client.receive(2) == b"hi"
        assert rig.count("park_timeout") == 1


def test_an_inbound_connection_without_a_plan_goes_to_its_own_pod(rig: Rig) -> None:
    server = Server(rig)
    rig.client(server.address, server.port, Direction.INBOUND)
    rig.settle()
    (event,) = rig.events
    assert isinstance(event, NeedPlan)
    rig.engine.no_plan(event.connection)
    server.accept()
    assert rig.count("note_unsupported") + rig.count("note_failed") == 1  # it went through the pod's own stock


def test_too_many_that_wait_for_a_plan_are_reset() -> None:
    with Rig(max_parked=2) as rig:
        clients = [rig.client("10.0.0.9", 1) for _ in range(3)]
        assert clients[2].is_reset()
        assert rig.count("park_limited") == 1
        assert rig.flags() == {"UO": 1}


def test_a_parked_client_that_leaves_is_forgotten(rig: Rig) -> None:
    client = rig.client("10.0.0.9", 1)
    rig.settle()
    client.reset()
    rig.until(lambda: rig.engine.live() == 0)
    assert rig.count("parked") == 0
    rig.plan(refusing(), address="10.0.0.9", port=1)


def test_a_plan_for_the_port_goes_before_one_for_the_address(rig: Rig) -> None:
    anything, exact = Server(rig), Server(rig)
    rig.plan(anything.endpoint(), address="10.0.0.9", port=0)
    rig.plan(exact.endpoint(), address="10.0.0.9", port=443)
    rig.client("10.0.0.9", 443)
    exact.accept()
    rig.client("10.0.0.9", 80)
    anything.accept()
    rig.engine.remove_plan("10.0.0.9", 443)
    rig.client("10.0.0.9", 443)
    anything.accept()


def test_an_endpoint_without_a_port_is_dialled_at_the_port_asked_for(rig: Rig) -> None:
    server = Server(rig)
    rig.plan(PlanEndpoint(id=1, address="127.0.0.1", port=0), address="10.0.0.9", port=0)
    rig.client("10.0.0.9", server.port)
    server.accept()


def test_ipv6_endpoints_and_addresses(rig: Rig) -> None:
    server = Server(rig, family=6)
    rig.plan(server.endpoint(), address="fd00::9", port=80)
    client = rig.client("fd00::9", 80)
    server.accept().send(b"six")
    assert client.receive(3) == b"six"
    (listed,) = rig.engine.connections()
    assert (listed.address, listed.port, listed.client) == ("fd00::9", 80, "127.0.0.1")


def test_a_plan_without_endpoints_resets(rig: Rig) -> None:
    rig.plan()
    assert rig.client().is_reset()
    assert rig.flags() == {"UH": 1}


def test_an_endpoint_that_refuses_is_passed_over(rig: Rig) -> None:
    server = Server(rig)
    rig.plan(refusing(1), refusing(2), server.endpoint())
    for _ in range(5):
        client = rig.client()
        server.accept().send(b"x")
        assert client.receive(1) == b"x"
    assert rig.count("dial_retried") == rig.count("dial_refused") > 0


def test_when_all_refuse_the_client_is_reset(rig: Rig) -> None:
    rig.plan(*(refusing(id) for id in range(1, 8)))
    assert rig.client().is_reset()
    assert rig.count("dialled") == 3
    assert rig.flags() == {"UF": 1}


def test_an_endpoint_that_does_not_answer_is_given_up_in_time() -> None:
    with Rig(connect_timeout_ms=50) as rig:
        silent = Server(rig, backlog=0)
        fill(silent)
        rig.plan(silent.endpoint(), protocol=Protocol.OPAQUE)
        assert rig.client().is_reset()
        assert rig.count("dial_timeout") == 1
        assert rig.flags() == {"UF": 1}


def fill(server: Server) -> None:
    """Fills its backlog, so that the kernel drops what comes next."""
    for _ in range(4):
        sock = socket.socket()
        filler = Peer(server.rig, sock)
        filler.sock.connect_ex((server.address, server.port))


def test_what_was_learned_survives_a_new_plan(rig: Rig) -> None:
    quick, slow = Server(rig), refusing(99)
    rig.plan(slow, quick.endpoint(), protocol=Protocol.OPAQUE)
    rig.client()
    quick.accept()
    rig.until(lambda: rig.count("dialled") >= 1)
    if not rig.count("dial_refused"):
        rig.client()
        quick.accept()
    for _ in range(10):  # each a new plan: the refusing endpoint stays an expensive one
        rig.plan(quick.endpoint(), slow, protocol=Protocol.OPAQUE)
        rig.client().close()
        quick.accept().close()
        rig.until(lambda: rig.engine.live() <= 2)
    assert rig.count("dial_refused") <= 1


@pytest.mark.parametrize("balancer", list(Balancer))
def test_every_endpoint_gets_its_part(rig: Rig, balancer: Balancer) -> None:
    servers = [Server(rig) for _ in range(3)]
    rig.plan(*(server.endpoint() for server in servers), balancer=balancer, protocol=Protocol.OPAQUE)
    clients = [rig.client() for _ in range(60)]
    seen: collections.Counter[int] = collections.Counter()

    def all_came() -> bool:
        for server in servers:
            while server.try_accept():
                seen[server.port] += 1
        return seen.total() == len(clients)

    rig.until(all_came)
    assert sorted(seen.values()) == [20, 20, 20] or (balancer == Balancer.EWMA and min(seen.values()) >= 5)


def test_weights_are_shares_in_round_robin(rig: Rig) -> None:
    light, heavy, none = Server(rig), Server(rig), Server(rig)
    endpoints = (light.endpoint(1), heavy.endpoint(3), none.endpoint(0))
    rig.plan(*endpoints, balancer=Balancer.ROUND_ROBIN, protocol=Protocol.OPAQUE)
    for _ in range(40):
        rig.client()
        rig.settle()
    shares = {series.endpoint: series.opened for series in rig.series()}
    assert shares == {light.port: 10, heavy.port: 30}


def test_a_plan_that_makes_no_sense_is_refused(rig: Rig) -> None:
    with pytest.raises(ValueError, match="address"):
        rig.engine.set_plan(Plan(address="nonsense", port=1))
    rig.engine.remove_plan("10.1.1.1", 1)


def test_thousands_of_plans_are_found(rig: Rig) -> None:
    server = Server(rig)
    for number in range(3000):
        rig.plan(server.endpoint(), address=f"10.1.{number >> 8}.{number & 255}", port=80)
    assert rig.count("plans") == 3000
    for number in (0, 255, 256, 2999):
        rig.client(f"10.1.{number >> 8}.{number & 255}", 80)
        server.accept()
    for number in range(3000):
        rig.engine.remove_plan(f"10.1.{number >> 8}.{number & 255}", 80)
    assert rig.count("plans") == 0
