"""Each request goes by the plan of its moment; who speaks first is learned, and costs nobody a wait."""

from __future__ import annotations

import pytest

from mesh.forward.engine import NeedPlan
from mesh.model import Balancer, Direction, Protocol
from tests.engine.rig import SLOT, Peer, Rig, Server
from tests.engine.web import GET, OK, answered, asked, exchange, finished, opened, serving


@pytest.mark.parametrize("balancer", list(Balancer))
def test_every_request_picks_its_endpoint(rig: Rig, balancer: Balancer) -> None:
    servers = [Server(rig) for _ in range(3)]
    rig.plan(*(server.endpoint() for server in servers), protocol=Protocol.HTTP, balancer=balancer)
    client = rig.client()
    apps: dict[int, Peer] = {}
    shares = dict.fromkeys((server.port for server in servers), 0)

    def one_answers() -> bool:
        for server in servers:
            if peer := server.try_accept():
                apps[server.port] = peer
        for port, app in apps.items():
            if app.take():
                shares[port] += 1
                app.send(OK)
                return True
        return False

    for _ in range(90):
        client.send(GET)
        rig.until(one_answers)
        assert client.receive(len(OK)) == OK
    assert sum(shares.values()) == 90
    assert set(shares.values()) == {30} or (balancer is Balancer.EWMA and min(shares.values()) > 0)
    assert rig.count("dialled") == 3
    counted = {series.endpoint: series.count for series in rig.series() if series.count}
    assert counted == shares


def test_an_endpoint_that_fails_quickly_is_not_preferred(rig: Rig) -> None:
    good, bad = Server(rig), Server(rig)
    rig.plan(good.endpoint(), bad.endpoint(), protocol=Protocol.HTTP)
    client = rig.client()
    apps: dict[int, Peer] = {}

    def one_answers() -> bool:
        for server in (good, bad):
            if peer := server.try_accept():
                apps[server.port] = peer
        for port, app in apps.items():
            if app.take():
                app.send(OK if port == good.port else b"HTTP/1.1 500 Oh\r\nContent-Length: 2\r\n\r\nno")
                return True
        return False

    for _ in range(60):
        client.send(GET)
        rig.until(one_answers)
        rig.until(client.take)
    shares = {series.code: series.count for series in rig.series() if series.count}
    assert shares[200] > 2 * shares.get(500, 0)


def test_a_plan_replaced_while_requests_are_under_way(rig: Rig) -> None:
    server = serving(rig)
    client, app = opened(rig, server)
    for _ in range(20):
        rig.plan(server.endpoint(), protocol=Protocol.HTTP)
    answered(client, app)
    rig.plan(server.endpoint(), protocol=Protocol.HTTP)
    exchange(client, app)
    assert rig.count("dialled") == 1


def test_the_next_request_goes_by_the_new_plan(rig: Rig) -> None:
    client, app = finished(rig, serving(rig))
    other = serving(rig)
    assert app.rest() == b""
    answered(client, asked(client, other))


def test_a_plan_that_is_gone_is_asked_for_again(rig: Rig) -> None:
    client, _ = finished(rig, serving(rig))
    rig.engine.remove_plan("10.96.0.1", 80)
    client.send(GET)
    rig.until(lambda: rig.events)
    (event,) = rig.events
    assert isinstance(event, NeedPlan)
    assert event[1:] == (SLOT, Direction.OUTBOUND, "10.96.0.1", 80)
    (listed,) = rig.engine.connections()
    assert listed.state == "parked"
    other = serving(rig)
    app = other.accept()
    assert app.receive(len(GET)) == GET
    answered(client, app)
    exchange(client, app)


def test_a_client_that_leaves_while_its_plan_is_awaited(rig: Rig) -> None:
    client, _ = finished(rig, serving(rig))
    rig.engine.remove_plan("10.96.0.1", 80)
    client.send(GET)
    rig.until(lambda: rig.events)
    client.reset()
    rig.until(lambda: rig.engine.live() == 0)
    assert rig.flags() == {"-": 1, "DC": 1}
    assert rig.count("buffers") == rig.count("parked") == 0


def test_a_plan_that_never_comes_means_the_original_destination() -> None:
    with Rig(park_timeout_ms=20) as rig:
        server = Server(rig)
        rig.plan(server.endpoint(), protocol=Protocol.HTTP, address=server.address, port=server.port)
        client = rig.client(server.address, server.port)
        answered(client, asked(client, server))
        rig.engine.remove_plan(server.address, server.port)
        app = asked(client, server)
        answered(client, app)
        exchange(client, app)
        rig.plan(server.endpoint(), protocol=Protocol.HTTP, address=server.address, port=server.port)
        asked(client, server)  # a workload has a name now, and a pool of its own


def test_too_many_that_wait_for_a_plan() -> None:
    with Rig(max_parked=1) as rig:
        server = serving(rig)
        clients = [finished(rig, server, f"127.0.0.{n}")[0] for n in (5, 6)]
        rig.engine.remove_plan("10.96.0.1", 80)
        for client in clients:
            client.send(GET)
            rig.settle()
        assert clients[1].rest().startswith(b"HTTP/1.1 503 ")
        assert rig.count("park_limited") == 1


def test_a_connection_dialled_at_once_carries_the_first_request(rig: Rig) -> None:
    server = serving(rig, Protocol.DETECT)
    client = rig.client()
    app = server.accept()
    for byte in GET:
        client.send(bytes([byte]))
        rig.settle()
    assert app.receive(len(GET)) == GET
    answered(client, app)
    exchange(client, app)
    assert rig.count("dialled") == 1


def test_a_connection_dialled_at_once_that_ends_before_it_is_needed_is_replaced(rig: Rig) -> None:
    server = serving(rig, Protocol.DETECT)
    client = rig.client()
    early = server.accept()
    client.send(b"GET / HTTP/1.1\r\n")
    rig.settle()
    early.close()
    rig.settle()
    client.send(b"Host: a\r\n\r\n")
    app = server.accept()
    assert app.receive(len(GET)) == GET
    answered(client, app)


def test_where_clients_are_known_to_speak_first_nothing_is_dialled_early(rig: Rig) -> None:
    server = serving(rig, Protocol.DETECT)
    client, _ = opened(rig, server)
    silent = rig.client()
    rig.settle()
    assert rig.count("dialled") == 1
    asked(silent, server)
    del client


def test_a_server_that_speaks_first_after_all_is_heard_in_time() -> None:
    with Rig(detect_hold_ms=20) as rig:
        server = serving(rig, Protocol.DETECT)
        opened(rig, server)
        client = rig.client()
        app = server.accept()
        app.send(b"220 hello\r\n")
        assert client.receive(11) == b"220 hello\r\n"
        second = rig.client()
        server.accept().send(b"220 hello\r\n")  # at once: this was learned as well
        assert second.receive(11) == b"220 hello\r\n"


def test_a_silent_client_of_a_port_declared_http_that_speaks_at_last_is_judged() -> None:
    with Rig(detect_timeout_ms=20) as rig:
        server = serving(rig)
        client = rig.client()
        app = server.accept()
        client.send(b"GET /\x01 HTTP/1.1\r\n\r\n")
        assert client.rest().startswith(b"HTTP/1.1 400 ")
        assert app.is_reset()
