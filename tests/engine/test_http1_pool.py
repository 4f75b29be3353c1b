"""Connections to apps between exchanges: whose they are, how long they live, and what ends them."""

from __future__ import annotations

import pytest

from mesh.model import Balancer, Protocol
from tests.engine.rig import SLOT, Peer, Rig, Server
from tests.engine.web import GET, OK, answer, answered, asked, exchange, finished, nothing_more, opened, serving


def test_connections_of_one_client_are_shared_by_its_connections(rig: Rig) -> None:
    client, app = finished(rig, serving(rig))
    client.close()
    rig.until(lambda: rig.engine.live() == 0)
    exchange(rig.client(), app)
    exchange(rig.client(), app)
    assert (rig.count("dialled"), rig.count("pool_reused"), rig.count("pooled")) == (1, 2, 1)


def test_another_clients_connection_is_never_used(rig: Rig) -> None:
    server = serving(rig)
    _, first = finished(rig, server, "127.0.0.2")
    _, second = finished(rig, server, "127.0.0.3")
    exchange(rig.client(source="127.0.0.2"), first)
    exchange(rig.client(source="127.0.0.3"), second)
    assert rig.count("dialled") == 2


def test_a_connection_from_another_pod_is_never_used(rig: Rig) -> None:
    server = serving(rig)
    rig.engine.add_pod(7, 1)
    rig.settle()
    finished(rig, server)
    finished(rig, server, slot=7)
    assert rig.count("dialled") == 2


def test_the_same_endpoint_by_another_name_is_the_same_endpoint(rig: Rig) -> None:
    server = serving(rig)
    _, app = finished(rig, server)
    rig.plan(server.endpoint(), address="10.0.0.5", port=8080, protocol=Protocol.HTTP)
    exchange(rig.client("10.0.0.5", 8080), app)


def test_the_newest_is_used_first_and_the_surplus_grows_old(rig: Rig) -> None:
    server = serving(rig)
    pairs = [opened(rig, server) for _ in range(5)]
    for client, app in pairs:
        answered(client, app)
    assert rig.count("pooled") == 5
    for client, _ in pairs:
        exchange(client, pairs[-1][1])


def test_old_ones_are_closed() -> None:
    with Rig(pool_idle_ms=30) as rig:
        server = serving(rig)
        client, app = finished(rig, server)
        assert app.rest() == b""
        assert (rig.count("pool_idle_timeout"), rig.count("pooled"), rig.count("upstreams")) == (1, 0, 0)
        asked(client, server)


@pytest.mark.parametrize("limits", [(2, 100), (100, 2)])
def test_there_are_no_more_than_allowed(limits: tuple[int, int]) -> None:
    with Rig(max_pooled=limits[0], max_pooled_per_key=limits[1]) as rig:
        server = serving(rig)
        pairs = [opened(rig, server) for _ in range(4)]
        for client, app in pairs:
            answered(client, app)
        assert rig.count("pooled") == 2
        assert rig.count("pool_limited") == 2
        assert [app.rest() for _, app in pairs[2:]] == [b"", b""]


@pytest.mark.parametrize("said", [b"HTTP/1.1 408 Request Timeout\r\n\r\n", b"x", OK])
def test_bytes_that_nobody_asked_for_end_an_idle_connection(rig: Rig, said: bytes) -> None:
    server = serving(rig)
    client, app = finished(rig, server)
    app.send(said)
    rig.wait_for(pool_ended=1)
    again = asked(client, server)
    assert nothing_more(client)
    answered(client, again)


@pytest.mark.parametrize("surplus", [b"x", OK])
def test_bytes_beyond_a_response_end_the_connection_and_reach_nobody(rig: Rig, surplus: bytes) -> None:
    server = serving(rig)
    client, app = opened(rig, server)
    app.send(OK + surplus)
    assert client.receive(len(OK)) == OK
    assert nothing_more(client)
    assert rig.count("http_surplus") == 1
    assert rig.count("pooled") == 0
    asked(client, server)


@pytest.mark.parametrize("length", [65_471, 65_472, 65_473, 65_520, 131_072])
def test_a_response_that_fills_a_block_to_the_last_byte_has_no_surplus(rig: Rig, length: int) -> None:
    client, app = opened(rig, serving(rig))
    response = answer(bytes(length - len(answer(bytes(length))) + length))
    assert len(response) == length
    answered(client, app, response)
    assert rig.count("pooled") == 1
    exchange(client, app)


def test_a_server_that_is_done_is_not_kept(rig: Rig) -> None:
    client, app = opened(rig, serving(rig))
    app.send(OK)
    app.finish()
    assert client.receive(len(OK)) == OK
    rig.settle()
    assert rig.count("pooled") == 0


def test_an_endpoint_that_leaves_its_plan_takes_its_connections_along(rig: Rig) -> None:
    one, two = Server(rig), Server(rig)
    rig.plan(one.endpoint(), two.endpoint(), protocol=Protocol.HTTP, balancer=Balancer.ROUND_ROBIN)
    client, first = finished(rig, one)
    second = asked(client, two)
    answered(client, second)
    rig.plan(two.endpoint(), protocol=Protocol.HTTP)
    assert first.rest() == b""
    assert rig.count("pool_dropped") == 1
    exchange(client, second)


def test_a_plan_that_goes_takes_its_connections_along(rig: Rig) -> None:
    _, app = finished(rig, serving(rig))
    rig.engine.remove_plan("10.96.0.1", 80)
    assert app.rest() == b""


def test_a_connection_in_use_is_not_kept_once_its_endpoint_is_gone(rig: Rig) -> None:
    client, app = opened(rig, serving(rig))
    other = serving(rig)
    answered(client, app)
    assert app.rest() == b""
    asked(client, other)


def in_pod(rig: Rig, slot: int) -> Server:
    """An app in a pod of this node."""
    rig.engine.add_pod(slot, 1)
    rig.settle()
    server = Server(rig)
    rig.plan(server.endpoint(slot=slot), protocol=Protocol.HTTP)
    return server


def test_a_pod_that_is_gone_takes_its_idle_connections_along(rig: Rig) -> None:
    client, app = finished(rig, in_pod(rig, 7))
    rig.engine.remove_pod(7, close_connections=False)
    assert app.rest() == b""
    assert rig.count("pooled") == 0
    assert nothing_more(client)


def test_a_connection_into_a_pod_that_is_gone_is_not_kept(rig: Rig) -> None:
    client, app = opened(rig, in_pod(rig, 7))
    rig.engine.remove_pod(7, close_connections=False)
    answered(client, app)
    assert app.rest() == b""


def test_a_client_whose_pod_is_gone_finishes_and_asks_no_more(rig: Rig) -> None:
    server = serving(rig)
    idle, _ = finished(rig, server, "127.0.0.2")
    client, app = opened(rig, server)
    begun = rig.client()
    begun.send(GET[:5])
    rig.settle()
    rig.engine.remove_pod(SLOT, close_connections=False)
    assert idle.rest() == b""
    assert begun.is_reset()  # the slot will be another pod's: it can dial nothing any more
    app.send(OK)
    assert client.rest() == answer(b"hi", "Connection: close")


def test_a_pod_that_is_gone_with_all_its_connections(rig: Rig) -> None:
    server = serving(rig)
    idle, _ = finished(rig, server, "127.0.0.2")
    client, _ = opened(rig, server)
    rig.engine.remove_pod(SLOT, close_connections=True)
    assert client.is_reset()
    assert idle.is_reset()
    assert rig.flags() == {"-": 1, "LR": 1}
    assert rig.count("upstreams") == rig.count("pooled") == 0


def test_draining_finishes_what_is_under_way_and_closes_what_is_idle(rig: Rig) -> None:
    server = serving(rig)
    idle, spare = finished(rig, server)
    busy, app = opened(rig, server, source="127.0.0.2")
    begun = rig.client()
    begun.send(GET[:5])
    rig.settle()
    rig.engine.drain()
    assert idle.rest() == b""
    assert spare.rest() == b""
    begun.send(GET[5:])
    other = server.accept()
    assert other.receive(len(GET)) == GET
    for client, its_app in ((busy, app), (begun, other)):
        its_app.send(OK)
        assert client.rest() == answer(b"hi", "Connection: close")
        client.close()
    rig.until(lambda: rig.engine.live() == 0)
    assert rig.count("upstreams") == 0
    assert rig.flags() == {"-": 3}


def test_who_is_told_to_go_loses_no_request_and_who_asks_nothing_more_is_let_go_later(rig: Rig) -> None:
    server = serving(rig)
    kept, app = finished(rig, server)
    spare, _ = finished(rig, server, "127.0.0.2")
    rig.engine.let_go(accept=True)
    rig.settle()
    kept.send(GET)
    assert app.receive(len(GET)) == GET
    app.send(OK)
    assert kept.rest() == answer(b"hi", "Connection: close")
    kept.close()
    rig.engine.end_idle(3600)
    rig.until(lambda: rig.engine.live() == 1)
    rig.engine.end_idle(0)
    assert spare.rest() == b""
    rig.until(lambda: rig.engine.live() == 0)


def test_apps_that_come_and_go_leave_nothing_behind(rig: Rig) -> None:
    clients: list[Peer] = [rig.client(source=f"127.0.1.{n}") for n in range(1, 6)]
    for _ in range(10):
        server = serving(rig)
        for client in clients:
            answered(client, asked(client, server))
        server.sock.close()
    rig.plan(protocol=Protocol.HTTP)
    assert rig.count("upstreams") == rig.count("pooled") == rig.count("buffers") == 0
