"""The proof on the wire: between two nodes nothing can be read, neither what is said nor who says it.

The words to look for are the payload's and every name that the mesh knows of: pods, Services, namespaces, service
accounts. That they would be found is shown beside it, by a client that is in no mesh.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.kit import apps
from tests.kit.frames import Frames
from tests.kit.lab import Lab, Pod
from tests.kit.streams import ALPN, SERVER_NAME, SUPPORTED_VERSIONS, client_hello, segments, streams
from tests.kit.talk import ask
from tests.kit.two_nodes import TwoNodes

HBONE_PORT = 15008
NAMESPACE, CLIENTS, SERVERS, OUTSIDER, SERVICE = "walrus", "heron", "osprey", "magpie", "tapir"
NAMES = ["ibis", "kiwi", NAMESPACE, CLIENTS, SERVERS, SERVICE]
HEADER, PATH, OPAQUE, QUERY = "quagga", "ocelot", "lemur", "axolotl"
PAYLOAD = [HEADER, PATH, OPAQUE, QUERY, "HTTP/1.1", "select"]
PROTOCOL = ["spiffe", "cluster.local", "authority", "baggage", "forwarded", "traceparent", "CONNECT"]


@dataclass
class Town:
    nodes: TwoNodes
    client: Pod  # on node a
    outsider: Pod  # beside it, in no mesh
    server: Pod  # on node b, with a web server, a talker and a database
    vips: tuple[str, str]
    postgres: apps.Postgres

    def traffic(self, client: Pod, *addresses: str) -> None:
        """HTTP, opaque TCP and PostgreSQL."""
        for address in addresses:
            host = f"[{address}]" if ":" in address else address
            answer = apps.curl(client, f"http://{host}/{PATH}", "-H", f"X-Animal: {HEADER}")
            assert answer.status == 200, answer
            with client.connect(address, 7000) as sock:
                assert ask(sock, f"echo {OPAQUE * 1000}") == OPAQUE * 1000
            query = f"select '{QUERY}', inet_client_addr()"
            own = client.ip6 if ":" in address else client.ip
            assert apps.psql(client, address, self.postgres.port, query) == f"{QUERY}|{own}"


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    with Lab("wire") as lab:
        nodes = TwoNodes(lab, tmp_path_factory.mktemp("source"))
        client = nodes.pod("ibis", nodes.a, namespace=NAMESPACE, service_account=CLIENTS)
        server = nodes.pod("kiwi", nodes.b, namespace=NAMESPACE, service_account=SERVERS)
        outsider = lab.pod(OUTSIDER, node=nodes.a)
        apps.Nginx(server)
        apps.Talk(server)
        postgres = apps.Postgres(server)
        vips = nodes.manifests.service(SERVICE, 80, 7000, postgres.port, backends=[server], namespace=NAMESPACE)
        with nodes:
            nodes.wait_captured(client, server)
            nodes.wait_service(SERVICE)
            nodes.wait_introduced()
            yield Town(nodes, client, outsider, server, vips, postgres)


@pytest.fixture(scope="module")
def frames(town: Town) -> Frames:
    """What crossed the wire, handshakes included, while a client used a Service, and the pod behind it by address."""
    with town.nodes.lab.wire.captured() as frames:
        town.traffic(town.client, *town.vips, town.server.ip, town.server.ip6)
    assert frames.complete
    return frames


def test_everything_between_two_pods_of_the_mesh_goes_by_tunnel(town: Town, frames: Frames) -> None:
    pods = {town.client.ip, town.client.ip6, town.server.ip, town.server.ip6}
    ways = {each.way for each in segments(frames.frames)}
    assert {way.source for way in ways} == pods, "both families, both directions, and nobody else"
    assert {min(way.source_port, way.destination_port) for way in ways} == {HBONE_PORT}


@pytest.mark.parametrize("word", [*PAYLOAD, *NAMES, *PROTOCOL])
def test_no_word_of_it_can_be_read(frames: Frames, word: str) -> None:
    """In no frame, and in no stream that frames are pieces of."""
    assert not frames.holding(word.encode())
    assert not [way for way, stream in streams(frames.frames).items() if word.encode() in stream]


def test_a_tunnel_begins_without_a_name(frames: Frames) -> None:
    """What a TLS client shows before anything is encrypted: that it is HBONE, and not for whom."""
    toward = [stream for way, stream in streams(frames.frames).items() if way.destination_port == HBONE_PORT]
    hellos = [client_hello(stream) for stream in toward]
    assert hellos
    for hello in hellos:
        assert SERVER_NAME not in hello
        assert hello[ALPN] == b"\x00\x03\x02h2"
        assert hello[SUPPORTED_VERSIONS] == b"\x02\x03\x04", "TLS 1.3 and nothing older"


def test_without_the_mesh_every_word_is_there(town: Town) -> None:
    """That the capture would show them: a client outside the mesh is served in plaintext, as its policy allows."""
    with town.nodes.lab.wire.captured() as frames:
        town.traffic(town.outsider, town.server.ip, town.server.ip6)
    assert frames.complete
    for word in PAYLOAD:
        assert frames.holding(word.encode()), word
    assert any((OPAQUE * 1000).encode() in stream for stream in streams(frames.frames).values())
    assert HBONE_PORT not in {each.way.destination_port for each in segments(frames.frames)}
