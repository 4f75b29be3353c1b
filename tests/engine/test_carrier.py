"""Connections that another process carries between nodes: asked for, judged when they arrive, and by HBONE else."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator

import pytest
from msgspec.structs import replace

from mesh.forward.engine import Arrived, NeedCarrier
from mesh.model import Authorization, AuthorizationPolicy, Direction, Mtls, PlanEndpoint, Protocol
from tests.engine.pair import CLIENT, HERE, SERVER, SOURCE_OF_CLIENT, Pair
from tests.engine.rig import SLOT, Peer, Rig, Server
from tests.engine.web import GET
from tests.kit.builders import policy, rule

MINE = policy("client", "ALLOW", rule(principals=[CLIENT.removeprefix("spiffe://")]))
OTHERS = policy("other", "ALLOW", rule(principals=["cluster.local/ns/shop/sa/other"]))
NO_GET = policy("get", "DENY", rule(methods=["GET"]))
NODE = "192.0.2.2:15008"
CARRIED, DENIED, BY_HBONE, UNREACHABLE = 200, 401, 421, 503


@pytest.fixture
def pair() -> Iterator[Pair]:
    with Pair() as made:
        yield made.ready()


def loopback(rig: Rig) -> tuple[int, Peer]:
    """A pair as the carrier makes it: the engine's end, and ours."""
    ours = socket.create_connection(rig.gate.getsockname())
    given, _ = rig.gate.accept()
    given.setblocking(False)
    return given.detach(), Peer(rig, ours)


def plan(pair: Pair, port: int, protocol: Protocol = Protocol.OPAQUE) -> None:
    pair.source.plan(replace(pair.endpoint(port), node=NODE), protocol=protocol)


def asked(rig: Rig) -> NeedCarrier:
    found: list[NeedCarrier] = []

    def came() -> bool:
        found.extend(event for event in rig.events if isinstance(event, NeedCarrier))
        rig.events = [event for event in rig.events if not isinstance(event, NeedCarrier)]
        return bool(found)

    rig.until(came)
    (only,) = found
    return only


# --- to another node


def test_who_is_on_a_node_with_a_carrier_is_asked_for_there_with_all_that_it_needs(pair: Pair) -> None:
    plan(pair, 8080)
    client = pair.source.client()
    need = asked(pair.source)
    assert (need.source, need.target, need.node) == (CLIENT, SERVER, NODE)
    assert need.destination == (HERE, 8080)
    assert need.client == client.sock.getsockname()
    assert pair.source.count("tunnels_dialled") == 0


def test_what_a_carrier_hands_over_carries_the_connection(pair: Pair) -> None:
    plan(pair, 8080)
    client = pair.source.client()
    need = asked(pair.source)
    fd, far = loopback(pair.source)
    pair.source.engine.carried(need.connection, need.job, fd, CARRIED)
    client.send(b"question")
    assert far.receive(8) == b"question"
    far.send(b"answer")
    far.finish()
    assert client.rest() == b"answer"
    client.send(b"still")
    assert far.receive(5) == b"still"
    client.close()
    far.rest()
    pair.source.until(lambda: not pair.source.engine.live())
    assert [series.security for series in pair.source.series() if series.count] == ["mutual_tls"]
    assert pair.source.flags() == {"-": 1}


@pytest.mark.parametrize("who", ["client", "carrier"])
def test_a_reset_is_passed_on(pair: Pair, who: str) -> None:
    plan(pair, 8080)
    client = pair.source.client()
    need = asked(pair.source)
    fd, far = loopback(pair.source)
    pair.source.engine.carried(need.connection, need.job, fd, CARRIED)
    client.send(b"x")
    far.receive(1)
    (client if who == "client" else far).reset()
    assert (far if who == "client" else client).is_reset()


def test_http_requests_of_one_client_share_what_was_handed_over(pair: Pair) -> None:
    plan(pair, 8080, Protocol.HTTP)
    request, response = b"GET / HTTP/1.1\r\nHost: web\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
    client = pair.source.client()
    client.send(request)
    need = asked(pair.source)
    fd, far = loopback(pair.source)
    pair.source.engine.carried(need.connection, need.job, fd, CARRIED)
    for again in (True, True, False):
        assert far.receive(len(request)) == request
        far.send(response)
        assert client.receive(len(response)) == response
        if again:
            client.send(request)
    assert pair.source.count("carry_asked") == 1


def test_by_hbone_means_by_hbone_and_nothing_less(pair: Pair) -> None:
    server = pair.serve()
    plan(pair, server.port)
    client = pair.source.client()
    need = asked(pair.source)
    pair.source.engine.carried(need.connection, need.job, -1, BY_HBONE)
    app = server.accept()
    client.send(b"hello")
    assert app.receive(5) == b"hello"
    assert pair.source.count("tunnels_dialled") == pair.destination.count("tunnels_accepted") == 1
    assert pair.source.count("carry_by_hbone") == 1


@pytest.mark.parametrize("status", [BY_HBONE, DENIED, UNREACHABLE])
def test_a_socket_that_comes_with_a_refusal_is_closed(pair: Pair, status: int) -> None:
    plan(pair, pair.serve().port)
    pair.source.client()
    need = asked(pair.source)
    fd, far = loopback(pair.source)
    pair.source.engine.carried(need.connection, need.job, fd, status)
    assert far.is_reset()


def test_a_carrier_that_does_not_answer_in_time_is_not_waited_for() -> None:
    with Pair(connect_timeout_ms=100) as pair:
        server = pair.ready().serve()
        plan(pair, server.port)
        client = pair.source.client()
        need = asked(pair.source)
        app = server.accept()
        client.send(b"hello")
        assert app.receive(5) == b"hello"
        assert pair.source.count("carry_timeout") == 1
        fd, far = loopback(pair.source)
        pair.source.engine.carried(need.connection, need.job, fd, CARRIED)  # too late
        assert far.is_reset()
        client.send(b"more")
        assert app.receive(4) == b"more"


@pytest.mark.parametrize(("status", "flag"), [(DENIED, "UAEX"), (UNREACHABLE, "UF"), (400, "UF")])
def test_a_refusal_is_what_it_would_be_by_hbone(pair: Pair, status: int, flag: str) -> None:
    plan(pair, 8080)
    client = pair.source.client()
    need = asked(pair.source)
    pair.source.engine.carried(need.connection, need.job, -1, status)
    assert client.is_reset()
    assert pair.source.flags() == {flag: 1}
    assert pair.source.count("carry_refused") == 1


def test_another_endpoint_is_tried_where_one_is_unreachable(pair: Pair) -> None:
    ends = [
        PlanEndpoint(id=number, address=HERE, port=8000 + number, peer=SERVER, node=NODE, weight=1) for number in (1, 2)
    ]
    pair.source.plan(*ends, protocol=Protocol.OPAQUE)
    client = pair.source.client()
    first = asked(pair.source)
    pair.source.engine.carried(first.connection, first.job, -1, UNREACHABLE)
    second = asked(pair.source)
    assert first.destination != second.destination
    assert first.job != second.job
    fd, far = loopback(pair.source)
    pair.source.engine.carried(first.connection, first.job, fd, CARRIED)  # of the one before
    assert far.is_reset()
    fd, far = loopback(pair.source)
    pair.source.engine.carried(second.connection, second.job, fd, CARRIED)
    client.send(b"x")
    assert far.receive(1) == b"x"


def test_a_client_that_leaves_while_it_waits_leaves_nothing_behind(pair: Pair) -> None:
    plan(pair, 8080)
    client = pair.source.client()
    need = asked(pair.source)
    client.reset()
    pair.source.until(lambda: not pair.source.engine.live())
    fd, far = loopback(pair.source)
    pair.source.engine.carried(need.connection, need.job, fd, CARRIED)
    assert far.is_reset()


def test_a_pod_of_this_node_is_never_asked_for_elsewhere(pair: Pair) -> None:
    """Inbound of the very pod: in there already."""
    server = Server(pair.destination)
    endpoint = PlanEndpoint(id=1, address=HERE, port=server.port, slot=SLOT, peer=SERVER, node=NODE)
    pair.destination.plan(endpoint, address=HERE, port=server.port, protocol=Protocol.OPAQUE)
    client = pair.destination.client(HERE, server.port, Direction.INBOUND)
    app = server.accept()
    client.send(b"x")
    assert app.receive(1) == b"x"
    assert pair.destination.count("carry_asked") == 0


# --- from another node


def arrive(
    pair: Pair,
    port: int,
    identity: str = CLIENT,
    client: str = HERE,
    job: int = 5,
    slot: int = SLOT,
    target: str = SERVER,
) -> tuple[Peer, int]:
    fd, far = loopback(pair.destination)
    pair.destination.engine.arrive(fd, job, slot, identity, target, (HERE, port), (client, 40000), "192.0.2.1")
    return far, job


def outcome(rig: Rig) -> Arrived:
    found: list[Arrived] = []

    def came() -> bool:
        found.extend(event for event in rig.events if isinstance(event, Arrived))
        return bool(found)

    rig.until(came)
    (only,) = found
    rig.events.clear()
    return only


def test_who_arrives_is_answered_when_its_application_is_there_and_then_served(pair: Pair) -> None:
    server = pair.serve()
    far, job = arrive(pair, server.port)
    app = server.accept()
    assert outcome(pair.destination) == Arrived(job, CARRIED)
    far.send(b"question")
    assert app.receive(8) == b"question"
    app.send(b"answer")
    app.finish()
    assert far.rest() == b"answer"
    (there,) = pair.destination.engine.connections()
    assert (there.identity, there.client, there.client_port) == (CLIENT, HERE, 40000)
    far.close()
    app.rest()
    pair.destination.until(lambda: not pair.destination.engine.live())
    (counted,) = [series for series in pair.destination.series() if series.count]
    assert (counted.security, counted.source) == ("mutual_tls", SOURCE_OF_CLIENT)
    assert pair.destination.events == []  # it is answered once


def test_a_strict_pod_is_served_too_for_this_is_no_plaintext() -> None:
    with Pair() as made:
        pair = made.ready(mtls=Mtls.STRICT)
        server = pair.serve()
        far, _ = arrive(pair, server.port)
        app = server.accept()
        assert outcome(pair.destination).status == CARRIED
        pair.destination.engine.add_pod(SLOT, 77, identity=SERVER, mtls=Mtls.STRICT)  # told again
        far.send(b"x")
        assert app.receive(1) == b"x"


def test_whose_address_is_nobodys_we_know_counts_as_its_node(pair: Pair) -> None:
    server = pair.serve()
    far, _ = arrive(pair, server.port, client="192.0.2.99")
    server.accept()
    (there,) = pair.destination.engine.connections()
    assert there.client == "192.0.2.1"
    assert there.identity == CLIENT
    far.close()


# --- refused as an HBONE arrival is


def refused(pair: Pair, status: int, counter: str = "hbone_refused", **changes: str) -> None:
    server = pair.serve()
    before = pair.destination.count(counter)
    far, job = arrive(pair, server.port, **changes)  # type: ignore[arg-type]
    assert outcome(pair.destination) == Arrived(job, status)
    assert far.is_reset()
    assert server.try_accept() is None
    assert pair.destination.count(counter) == before + 1
    assert pair.destination.engine.live() == 0


def test_who_is_not_the_one_at_his_address_is_refused(pair: Pair) -> None:
    thief = "spiffe://cluster.local/ns/shop/sa/thief"
    refused(pair, DENIED, "hbone_address_mismatch", identity=thief)


def test_a_pod_that_is_somebody_else_by_now_is_not_reached_by_its_former_name(pair: Pair) -> None:
    refused(pair, UNREACHABLE, target="spiffe://cluster.local/ns/shop/sa/former")
    pair.destination.identify("spiffe://cluster.local/ns/shop/sa/later")
    refused(pair, UNREACHABLE)


def test_a_pod_that_takes_no_tunnels_takes_none_of_a_carrier() -> None:
    with Pair() as made:
        refused(made.ready(mtls=Mtls.DISABLED), UNREACHABLE, "tunnel_no_identity")


def test_a_pod_without_a_certificate_takes_nobody(pair: Pair) -> None:
    pair.destination.engine.remove_identity(SERVER)
    refused(pair, UNREACHABLE, "tunnel_no_identity")


def test_who_is_denied_is_refused_although_the_carrier_does_not_know_it_yet(pair: Pair) -> None:
    pair.destination.trust(denied=(CLIENT,))
    refused(pair, DENIED, "tunnel_denied")


def test_a_denial_ends_what_has_arrived_and_nothing_else(pair: Pair) -> None:
    server = pair.serve()
    other = "spiffe://cluster.local/ns/shop/sa/other"
    far, _ = arrive(pair, server.port)
    app = server.accept()
    spared, _ = arrive(pair, server.port, identity=other, client="192.0.2.99", job=6)
    kept = server.accept()
    pair.destination.trust(denied=(CLIENT,))
    assert far.is_reset()
    assert app.is_reset()
    spared.send(b"x")
    assert kept.receive(1) == b"x"
    assert pair.destination.count("tunnel_denied") == 1


def test_an_application_that_is_not_there_is_503(pair: Pair) -> None:
    server = pair.serve()
    server.sock.close()
    far, job = arrive(pair, server.port)
    assert outcome(pair.destination) == Arrived(job, UNREACHABLE)
    assert far.is_reset()


def test_a_slot_without_a_pod_is_refused_at_once(pair: Pair) -> None:
    with pytest.raises(OSError, match="arrival"):
        arrive(pair, 8080, slot=4)
    assert pair.destination.engine.live() == 0


def test_a_pod_that_goes_ends_what_arrived_and_was_not_answered(pair: Pair) -> None:
    listener = socket.socket()
    listener.bind((HERE, 0))  # it does not listen, and nothing answers for a closed port that is dropped
    port = listener.getsockname()[1]
    pair.destination.plan(
        PlanEndpoint(id=1, address="192.0.2.77", port=port, slot=SLOT),
        address=HERE,
        port=port,
        protocol=Protocol.OPAQUE,
    )
    far, job = arrive(pair, port)
    pair.destination.engine.remove_pod(SLOT, close_connections=True)
    assert outcome(pair.destination) == Arrived(job, UNREACHABLE)
    assert far.is_reset()
    listener.close()


def test_a_carrier_that_dies_resets_what_it_had_brought(pair: Pair) -> None:
    server = pair.serve()
    far, _ = arrive(pair, server.port)
    app = server.accept()
    outcome(pair.destination)
    far.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    far.close()
    assert app.is_reset()


# --- policies of the pod that is reached


def say(pair: Pair, *policies: AuthorizationPolicy) -> None:
    pair.destination.engine.set_policies(SLOT, Authorization(policies=policies))


def test_the_identity_that_the_carrier_has_proven_is_the_one_that_is_judged(pair: Pair) -> None:
    say(pair, MINE)
    server = pair.serve()
    arrive(pair, server.port)
    server.accept()
    assert outcome(pair.destination).status == CARRIED
    assert pair.destination.said(MINE) == {"allowed": 1}


@pytest.mark.parametrize("protocol", [Protocol.OPAQUE, Protocol.DETECT])
def test_whom_no_policy_lets_through_the_carrier_hears_is_denied(pair: Pair, protocol: Protocol) -> None:
    say(pair, OTHERS)
    server = pair.serve(protocol)
    far, job = arrive(pair, server.port)
    assert outcome(pair.destination) == Arrived(job, DENIED)
    assert far.is_reset()
    assert server.try_accept() is None
    (ruling,) = pair.destination.engine.rulings()
    assert (ruling.identity, ruling.client) == (CLIENT, HERE)


def test_who_is_denied_a_request_hears_so_by_http_when_he_has_spoken(pair: Pair) -> None:
    say(pair, NO_GET)
    server = pair.serve(Protocol.DETECT)
    far, job = arrive(pair, server.port)
    assert outcome(pair.destination) == Arrived(job, CARRIED)  # else he would not speak
    far.send(GET)
    assert far.receive(12) == b"HTTP/1.1 403"
    assert server.try_accept() is None


def test_a_new_policy_ends_what_has_arrived(pair: Pair) -> None:
    server = pair.serve()
    far, _ = arrive(pair, server.port)
    app = server.accept()
    outcome(pair.destination)
    say(pair, OTHERS)
    assert far.is_reset()
    assert app.is_reset()
