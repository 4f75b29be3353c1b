"""Two pods of one engine with a tunnel between them, and what must not go by tunnel: it would go in circles."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from mesh.model import Authorization, Direction, PlanEndpoint, Protocol, Security
from tests.engine.pair import CLIENT, HERE, SERVER, Node
from tests.engine.rig import SLOT, Peer, Server
from tests.engine.web import OK, asked, exchange, finished
from tests.kit.builders import policy, rule
from tests.kit.pki import Authority

OTHER = SLOT + 4  # the server's pod


class Home:
    """The client's pod in SLOT, the server's in OTHER, where an app listens that is reached by tunnel."""

    def __init__(self) -> None:
        self.listener = socket.create_server((HERE, 0), backlog=16)
        self.listener.setblocking(False)
        self.node = Node(Authority(), tunnel_port=self.listener.getsockname()[1])
        self.node.trust()
        self.node.identify(CLIENT)
        self.node.keys[SERVER] = self.node.authority.issue(SERVER)
        self.node.signer.know(self.node.keys[SERVER])
        self.node.engine.set_identity(SERVER, self.node.keys[SERVER].chain)
        self.node.engine.add_pod(OTHER, 78, identity=SERVER)
        self.node.engine.add_listener(OTHER, Direction.INBOUND, self.listener.dup().detach())
        self.app = Server(self.node)
        self.node.settle()

    def plan(self, address: str, port: int, peer: str = SERVER, protocol: Protocol = Protocol.OPAQUE) -> None:
        end = PlanEndpoint(id=self.app.port, address=HERE, port=self.app.port, slot=OTHER, peer=peer)
        self.node.plan(end, address=address, port=port, protocol=protocol)

    def talk(self, client: Peer) -> None:
        client.send(b"question")
        app = self.app.accept()
        assert app.receive(8) == b"question"
        app.send(b"answer")
        assert client.receive(6) == b"answer"


@pytest.fixture
def home() -> Iterator[Home]:
    made = Home()
    with made.node, made.listener:
        made.plan(HERE, made.app.port)
        yield made


def test_from_another_pod_it_goes_by_tunnel_and_comes_in_once(home: Home) -> None:
    home.talk(home.node.client(HERE, home.app.port))
    assert home.node.count("tls_handshakes") == 2, "one tunnel has two ends"
    assert home.node.count("hbone_streams") == 1
    arrived, left = home.node.engine.connections()
    assert [(each.direction, each.slot) for each in (arrived, left)] == [
        (Direction.INBOUND, OTHER),
        (Direction.OUTBOUND, SLOT),
    ]
    assert arrived.identity == CLIENT


@pytest.mark.parametrize("direction", Direction)
def test_what_is_in_the_pod_already_goes_inside(home: Home, direction: Direction) -> None:
    """The pod calls itself, or something came in to it in plaintext."""
    home.talk(home.node.client(HERE, home.app.port, direction, slot=OTHER))
    assert home.node.count("tls_handshakes") == 0
    assert {each.security for each in home.node.series()} == {Security.NONE}


def test_http_through_it_keeps_its_connections_apart(home: Home) -> None:
    """Client and endpoint are the same on both ways, the way is not."""
    for address, port in ((HERE, home.app.port), ("10.96.0.1", 80)):
        home.plan(address, port, protocol=Protocol.HTTP)
    client = home.node.client(HERE, home.app.port)
    app = asked(client, home.app)
    app.send(OK)
    assert client.receive(len(OK)) == OK
    for _ in range(3):
        exchange(client, app)
        exchange(home.node.client(), app)
    assert {each.security for each in home.node.series() if each.code} == {Security.MUTUAL_TLS}


def test_a_connection_made_in_plaintext_is_not_used_again_once_there_is_a_tunnel(home: Home) -> None:
    """The two plans of one endpoint do not change in the same instant."""
    for address, port in ((HERE, home.app.port), ("10.96.0.1", 80)):
        home.plan(address, port, peer="", protocol=Protocol.HTTP)
    finished(home.node, home.app)
    assert home.node.count("pooled") == 1
    home.plan(HERE, home.app.port, protocol=Protocol.HTTP)
    asked(home.node.client(HERE, home.app.port), home.app)
    assert (home.node.count("pool_reused"), home.node.count("hbone_streams")) == (0, 1)


def test_policies_judge_once_at_the_tunnels_end_by_what_it_has_proven(home: Home) -> None:
    allow = policy("client", "ALLOW", rule(principals=[CLIENT.removeprefix("spiffe://")]))
    home.node.engine.set_policies(OTHER, Authorization(policies=(allow,)))
    home.talk(home.node.client(HERE, home.app.port))
    assert home.node.said(allow) == {"allowed": 1}
    home.node.engine.set_policies(OTHER, Authorization(policies=(policy("client", "ALLOW", rule(principals=["x"])),)))
    assert home.node.client(HERE, home.app.port).is_reset()
    assert home.node.said() == {"denied": 2}, "the open connection, and the new one"
