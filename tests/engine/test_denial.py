"""A denied identity between two pods of this node, where the kernel proves who they are and nobody shakes hands."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from mesh.model import Authorization, AuthorizationPolicy, Direction, Mtls, Protocol
from tests.engine.pair import CLIENT, SERVER, Node
from tests.engine.rig import SLOT, SOURCE, Peer, Server
from tests.engine.web import GET, OK, answered, asked
from tests.kit.builders import policy, rule
from tests.kit.pki import Authority

POD = 7
OTHER = CLIENT + "-2"
EITHER = pytest.mark.parametrize("denied", [CLIENT, SERVER], ids=["client", "server"])


@dataclass
class Home:
    """The client's pod in SLOT calls an app in POD, which takes nothing else than mutual TLS or a proven neighbour."""

    node: Node
    server: Server

    def plan(self, protocol: Protocol, slot: int = POD) -> None:
        self.node.plan(self.server.endpoint(slot=slot), protocol=protocol)

    def say(self, *policies: AuthorizationPolicy) -> None:
        self.node.engine.set_policies(POD, Authorization(policies=policies))

    def deny(self, *identities: str) -> None:
        self.node.trust(denied=identities)

    def talk(self) -> tuple[Peer, Peer]:
        """A live connection: the client's end, and the app's."""
        client, app = self.node.client(), self.server.accept()
        client.send(b"ping")
        assert app.receive(4) == b"ping"
        return client, app

    def counted(self) -> tuple[int, int]:
        return self.node.count("identity_denied"), self.node.count("identity_ended")


@pytest.fixture
def home() -> Iterator[Home]:
    node = Node(Authority(), detect_hold_ms=40)
    with node:
        node.trust()
        node.engine.add_pod(SLOT, SOURCE, principal=CLIENT)
        node.engine.add_pod(POD, 1, principal=SERVER, mtls=Mtls.STRICT)
        yield Home(node, Server(node))


def ask(client: Peer) -> tuple[int, bytes]:
    """The status of a local reply, and its reason."""
    client.send(GET)
    heard = bytearray()

    def whole() -> bool:
        heard.extend(client.take())
        return b"more.\n" in heard

    client.rig.until(whole)
    reason = heard.split(b"x-seine-reason: ")[1].split(b"\r\n")[0]
    return int(heard.split()[1]), bytes(reason)


@EITHER
def test_a_new_connection_is_reset_before_the_app_sees_it(home: Home, denied: str) -> None:
    home.plan(Protocol.OPAQUE)
    home.deny(denied)
    assert home.node.client().is_reset()
    assert home.server.try_accept() is None
    assert (home.node.count("dialled"), home.node.flags(), home.counted()) == (0, {"UAEX": 1}, (1, 0))


@EITHER
def test_a_live_connection_ends_when_it_is_denied(home: Home, denied: str) -> None:
    home.plan(Protocol.OPAQUE)
    client, app = home.talk()
    home.deny(denied)
    assert client.is_reset()
    assert app.is_reset()
    assert (home.node.flags(), home.counted()) == ({"UAEX": 1}, (0, 1))


def test_others_go_on_and_come_in(home: Home) -> None:
    home.plan(Protocol.OPAQUE)
    client, app = home.talk()
    home.deny(OTHER, "0a1b")
    client.send(b"still")
    assert app.receive(5) == b"still"
    home.talk()
    assert home.counted() == (0, 0)


def test_who_is_allowed_again_comes_in_again(home: Home) -> None:
    home.plan(Protocol.OPAQUE)
    home.deny(CLIENT)
    assert home.node.client().is_reset()
    home.deny()
    home.talk()


def test_a_policy_that_names_the_identity_does_not_let_it_in(home: Home) -> None:
    home.plan(Protocol.OPAQUE)
    allow = policy("client", "ALLOW", rule(principals=[CLIENT.removeprefix("spiffe://")]))
    home.say(allow)
    home.talk()
    home.deny(CLIENT)
    assert home.node.client().is_reset()
    assert home.node.said(allow) == {"allowed": 1}


@pytest.mark.parametrize("protocol", [Protocol.HTTP, Protocol.DETECT])
def test_http_hears_403_and_why_and_is_answered_when_it_is_allowed_again(home: Home, protocol: Protocol) -> None:
    home.plan(protocol)
    home.deny(CLIENT)
    client = home.node.client()
    assert ask(client) == (403, b"identity_denied")
    assert ask(client) == (403, b"identity_denied")
    assert (home.server.try_accept(), home.counted()) == (None, (2, 0))
    home.deny()
    answered(client, asked(client, home.server), OK)


def test_a_kept_http_connection_hears_it_at_its_next_request(home: Home) -> None:
    home.plan(Protocol.HTTP)
    client = home.node.client()
    answered(client, asked(client, home.server), OK)
    home.deny(CLIENT)
    assert ask(client) == (403, b"identity_denied")
    assert {(series.code, series.flag) for series in home.node.series() if series.count} == {(200, "-"), (403, "UAEX")}


def test_a_request_under_way_is_ended(home: Home) -> None:
    home.plan(Protocol.HTTP)
    client = home.node.client()
    app = asked(client, home.server)
    home.deny(CLIENT)
    assert client.is_reset()
    assert app.is_reset()
    assert home.counted() == (0, 1)


def test_who_speaks_late_is_not_connected_to_an_app_that_speaks_first(home: Home) -> None:
    home.plan(Protocol.DETECT)
    home.deny(CLIENT)
    assert home.node.client().is_reset(), "it never spoke"
    assert home.server.try_accept() is None


def test_where_it_goes_outside_of_the_mesh_is_nobodys_business_here(home: Home) -> None:
    home.plan(Protocol.OPAQUE, slot=-1)
    home.deny(CLIENT)
    home.talk()


def test_who_came_in_unproven_is_not_taken_for_anybody(home: Home) -> None:
    home.node.engine.add_pod(POD, 1, principal=SERVER)
    home.deny(CLIENT)
    home.node.plan(home.server.endpoint(slot=POD), address=home.server.address, port=home.server.port)
    client = home.node.client(home.server.address, home.server.port, Direction.INBOUND, slot=POD)
    client.send(b"ping\n")
    assert home.server.accept().receive(5) == b"ping\n"
