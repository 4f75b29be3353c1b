"""Policies of a pod that is called by tunnel: the identity that counts is the one that the tunnel has proven."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from mesh.model import Authorization, AuthorizationPolicy, Protocol
from tests.engine.pair import CLIENT, HERE, Pair
from tests.engine.rig import SLOT, Peer, Server
from tests.engine.web import GET, OK, answered, get
from tests.kit.builders import policy, rule

NAME = CLIENT.removeprefix("spiffe://")
MINE = policy("client", "ALLOW", rule(principals=[NAME]))
NO_GET = policy("get", "DENY", rule(methods=["GET"]))
OTHERS = policy("other", "ALLOW", rule(principals=["cluster.local/ns/shop/sa/other"]))


@pytest.fixture
def pair() -> Iterator[Pair]:
    with Pair(detect_hold_ms=40) as made:
        yield made.ready()


def say(pair: Pair, *policies: AuthorizationPolicy) -> None:
    pair.destination.engine.set_policies(SLOT, Authorization(policies=policies))


def status(client: Peer, request: bytes) -> tuple[int, bytes]:
    client.send(request)
    heard = bytearray()

    def whole() -> bool:
        heard.extend(client.take())
        return b"\r\n\r\n" in heard

    client.rig.until(whole)
    return int(heard.split()[1]), bytes(heard)


def untouched(server: Server) -> bool:
    return server.try_accept() is None


def test_the_proven_identity_is_let_through(pair: Pair) -> None:
    say(pair, MINE)
    client, app = pair.talk()
    client.send(b"ping")
    assert app.receive(4) == b"ping"
    assert pair.destination.said(MINE) == {"allowed": 1}


def test_another_is_refused_before_the_tunnel_carries_a_byte_and_its_client_reset(pair: Pair) -> None:
    say(pair, OTHERS)
    server = pair.serve()
    client = pair.source.client()
    assert client.is_reset()
    assert untouched(server)
    assert (pair.source.count("dial_denied"), pair.source.flags()) == (1, {"UAEX": 1})
    assert (pair.destination.said(), pair.destination.flags()) == ({"denied": 1}, {"UAEX": 1})
    (ruling,) = pair.destination.engine.rulings()
    assert (ruling.identity, ruling.client) == (CLIENT, HERE)


def test_whom_no_request_could_save_the_tunnel_is_not_opened_for(pair: Pair) -> None:
    say(pair, OTHERS)
    pair.serve(Protocol.DETECT)
    assert pair.source.client().is_reset()
    assert (pair.destination.count("policy_waited"), pair.source.count("dial_denied")) == (0, 1)


@pytest.mark.parametrize("protocol", [Protocol.HTTP, Protocol.DETECT])
@pytest.mark.parametrize(
    "denying", [OTHERS, policy("get", "DENY", rule(methods=["GET"]))], ids=["by name", "by method"]
)
def test_its_client_hears_403_when_it_speaks_http(pair: Pair, denying: AuthorizationPolicy, protocol: Protocol) -> None:
    say(pair, denying)
    server = pair.serve(protocol)
    code, heard = status(pair.source.client(), GET)
    assert (code, b"x-seine-reason: authz_denied" in heard) == (403, True)
    assert untouched(server)


def test_requests_by_tunnel_are_judged_one_by_one_in_their_normal_form(pair: Pair) -> None:
    say(pair, policy("admin", "DENY", rule(paths=["/admin"])), MINE)
    server = pair.serve(Protocol.HTTP)
    client = pair.source.client()
    client.send(get("/x/../b"))
    app = server.accept()
    assert app.receive(len(get("/b"))) == get("/b")
    answered(client, app, OK)
    assert status(client, get("/%61dmin"))[0] == 403
    assert status(client, get("/a%2fb"))[0] == 400


def test_who_only_listens_is_not_connected_where_nothing_but_http_may_pass(pair: Pair) -> None:
    """The tunnel has to be opened for the client to speak; the app is not dialled for it."""
    say(pair, policy("paths", "ALLOW", rule(paths=["/"])))
    server = pair.serve(Protocol.DETECT)
    silent, speaking = pair.source.client(), pair.source.client()
    speaking.send(GET)
    app = server.accept()
    assert app.receive(len(GET)) == GET
    answered(speaking, app, OK)
    assert silent.is_reset()
    assert untouched(server)


def test_a_server_that_speaks_first_is_reached_by_who_may(pair: Pair) -> None:
    say(pair, MINE)
    server = pair.serve(Protocol.DETECT)
    client = pair.source.client()
    app = server.accept()
    app.send(b"220 hello\r\n")
    assert client.receive(11) == b"220 hello\r\n"


def test_a_new_policy_ends_what_is_open(pair: Pair) -> None:
    client, app = pair.talk()
    client.send(b"ping")
    assert app.receive(4) == b"ping"
    say(pair, OTHERS)
    assert client.is_reset()
    assert app.is_reset()
    assert pair.destination.count("policy_ended") == 1


def test_the_callers_own_node_does_not_judge_for_the_other(pair: Pair) -> None:
    pair.source.engine.set_policies(SLOT, Authorization(policies=(policy("all", "DENY", rule()),)))
    client, app = pair.talk()
    client.send(b"ping")
    assert app.receive(4) == b"ping"
