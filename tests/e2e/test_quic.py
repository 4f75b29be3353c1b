"""Two nodes that reach each other by QUIC: their pods notice nothing; what fails goes by HBONE, never in plaintext."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest

from tests.kit import apps
from tests.kit.frames import Frames
from tests.kit.lab import Lab, Pod, Socket
from tests.kit.quic_wire import client_hellos, datagrams
from tests.kit.seine import Mesh
from tests.kit.streams import ALPN, SERVER_NAME, segments
from tests.kit.talk import ask
from tests.kit.two_nodes import TwoNodes
from tests.kit.wait import eventually

PORT = 15008
NAMESPACE, CLIENTS, SERVERS, SERVICE = "walrus", "heron", "osprey", "tapir"
PAYLOAD = "axolotl"
WORDS = [PAYLOAD, NAMESPACE, CLIENTS, SERVERS, SERVICE, "ibis", "kiwi", "spiffe", "cluster.local", "HTTP/1.1", "select"]
WORDS += ["CONNECT", "authority", "forwarded"]
FAMILIES = pytest.mark.parametrize("family", [0, 1], ids=["ipv4", "ipv6"])


@dataclass
class Town:
    nodes: TwoNodes
    client: Pod  # on node a
    server: Pod  # on node b: nginx, PostgreSQL, a talker
    nginx: apps.Nginx
    postgres: apps.Postgres
    vips: tuple[str, str]

    @property
    def near(self) -> Mesh:
        return self.nodes.mesh[self.nodes.a]

    @property
    def far(self) -> Mesh:
        return self.nodes.mesh[self.nodes.b]

    def url(self, address: str) -> str:
        return f"http://[{address}]/{PAYLOAD}" if ":" in address else f"http://{address}/{PAYLOAD}"

    def asks(self) -> str:
        """One connection of its own, there and back."""
        with self.client.connect(self.vips[0], 7000) as sock:
            return ask(sock, "echo over")

    def arrived(self) -> int:
        """Connections that node b got by QUIC."""
        return sum(int(worker["counters"].get("carry_arrived", 0)) for worker in self.far.status()["workers"])


def quic(mesh: Mesh) -> dict[str, Any]:
    found: dict[str, Any] = mesh.status()["quic"]
    return found


def has_workers(mesh: Mesh) -> bool:
    """Both of them are at the QUIC process."""
    return bool(quic(mesh)["levels"].get("workers") == 2)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    with Lab("quic") as lab:
        nodes = TwoNodes(lab, tmp_path_factory.mktemp("source"), transport="quic")
        client = nodes.pod("ibis", nodes.a, namespace=NAMESPACE, service_account=CLIENTS)
        server = nodes.pod("kiwi", nodes.b, namespace=NAMESPACE, service_account=SERVERS)
        for node in (nodes.a, nodes.b):
            nodes.manifests.node(node)
        nginx, postgres = apps.Nginx(server), apps.Postgres(server)
        apps.Talk(server)
        vips = nodes.manifests.service(SERVICE, 80, 7000, postgres.port, backends=[server], namespace=NAMESPACE)
        with nodes:
            nodes.wait_captured(client, server)
            nodes.wait_service(SERVICE)
            nodes.wait_introduced()
            yield Town(nodes, client, server, nginx, postgres, vips)


@pytest.fixture
def town(built: Town) -> Town:
    for mesh in built.nodes.mesh.values():
        mesh.heal()
        eventually(partial(has_workers, mesh), "both workers at the QUIC process")
    built.nodes.wait_captured(built.client, built.server)
    built.nodes.wait_introduced()
    return built


@FAMILIES
def test_a_request_goes_by_quic_and_nginx_sees_who_asked(town: Town, family: int) -> None:
    before = town.arrived()
    assert apps.curl(town.client, town.url(town.vips[family])).body == "kiwi\n"
    assert town.nginx.requests()[-1]["peer"] == (town.client.ip, town.client.ip6)[family]
    eventually(lambda: town.arrived() > before, "the connection to be counted")


def test_postgresql_is_asked_by_quic_and_sees_who_asked(town: Town) -> None:
    before = town.arrived()
    answer = apps.psql(town.client, town.vips[0], town.postgres.port, "select inet_client_addr(), 6 * 7")
    assert answer == f"{town.client.ip}|42"
    assert town.arrived() > before


def test_both_ends_count_it_as_mutually_proven_and_name_who(town: Town) -> None:
    apps.curl(town.client, town.url(town.vips[0]))
    labels = {"source_workload": "ibis", "destination_workload": "kiwi", "reporter": "destination"}
    principals = {
        "source_principal": f"spiffe://cluster.local/ns/{NAMESPACE}/sa/{CLIENTS}",
        "destination_principal": f"spiffe://cluster.local/ns/{NAMESPACE}/sa/{SERVERS}",
    }
    name = "istio_requests_total"

    def counted() -> bool:
        found = town.far.metrics()
        assert found.value(name, connection_security_policy="none", **labels) == 0
        return (
            found.value(name, connection_security_policy="mutual_tls", **principals, **labels) >= 1
            and found.value("seine_quic_events_total", what="handshakes", why="server") >= 1
            and town.near.metrics().value("seine_quic_way", node=f"{town.nodes.b.address}:{PORT}") == 1
        )

    eventually(counted, "metrics to say so")


@pytest.fixture
def overheard(town: Town) -> Frames:
    """All that crosses the wire from the first handshake on, while a client asks by HTTP, in bytes and in SQL."""
    replace_process(town.near)
    with town.nodes.lab.wire.captured() as frames:
        apps.curl(town.client, town.url(town.vips[0]), "-H", f"X-Animal: {PAYLOAD}")
        with town.client.connect(town.vips[0], 7000) as sock:
            assert ask(sock, f"echo {PAYLOAD * 500}") == PAYLOAD * 500
        apps.psql(town.client, town.vips[0], town.postgres.port, f"select '{PAYLOAD}'")
        replace_process(town.near)
        apps.curl(town.client, town.url(town.vips[0]))
    assert frames.complete
    return frames


def replace_process(mesh: Mesh) -> None:
    """What stands is forgotten, and the next connection begins with a handshake."""
    former = quic(mesh)["pid"]
    os.kill(former, signal.SIGKILL)

    def replaced() -> bool:
        found = quic(mesh)
        return found["pid"] not in (0, former) and found["levels"].get("workers") == 2

    eventually(replaced, "the successor of the QUIC process")


def test_on_the_wire_there_is_udp_of_one_port_and_no_word_of_anybody(town: Town, overheard: Frames) -> None:
    assert list(segments(overheard.frames)) == [], "no TCP between the nodes"
    seen = list(datagrams(overheard.frames))
    assert {each[:2] for each in seen} == {(PORT, PORT)}
    for word in WORDS:
        assert not overheard.holding(word.encode()), word


def test_who_derives_the_first_packets_keys_reads_no_name_either(town: Town, overheard: Frames) -> None:
    """RFC 9001 5.2: anybody can. A server name is there, and says nothing but that somebody is meant."""
    hellos = client_hellos(overheard.frames)
    names = {hello[SERVER_NAME] for hello in hellos}
    assert len(names) >= 2, "two handshakes for one pod, and two names: nobody sees that it is the same"
    for hello in hellos:
        assert hello[ALPN] == b"\x00\x03\x02h3"
        for word in WORDS:
            assert not any(word.encode() in content for content in hello.values()), word


def test_a_wire_that_loses_packets_costs_no_request(town: Town) -> None:
    load, wire = apps.Load(town.client, town.vips[0], 7000, kept=8, per_second=20), town.nodes.lab.wire
    load.flows(exchanges=5, fresh=5)
    wire.lose(0.03)
    before, arrived = wire.lost, town.arrived()
    eventually(lambda: wire.lost > before + 20, "packets to be lost", 20)
    load.flows(exchanges=10, fresh=20)
    wire.lose(0)
    result = load.stop()
    assert result.broken == []
    assert result.failed_fresh == []
    assert town.arrived() > arrived


# --- who may come in


def test_policies_hold_for_who_comes_by_quic(town: Town) -> None:
    """Both of a connection and of a request, as for HBONE; a new one ends what is open."""
    spec = {"selector": {"matchLabels": {"app": town.server.name}}, "action": "DENY"}
    source = [{"source": {"principals": [f"cluster.local/ns/{NAMESPACE}/sa/{CLIENTS}"]}}]
    with town.client.connect(town.vips[0], 7000) as kept:
        assert ask(kept, "echo hello") == "hello"
        arrived = town.arrived()
        town.nodes.manifests.policy("no-herons", spec | {"rules": [{"from": source}]}, NAMESPACE)
        eventually(lambda: is_cut(kept), "the open connection to be ended")
    assert refused(town)
    assert town.arrived() > arrived, "it was the far node that refused"
    assert town.far.metrics().value("seine_authz_total", policy="no-herons", verdict="denied") >= 1
    town.nodes.manifests.remove(f"policy-{NAMESPACE}-no-herons")
    eventually(lambda: not refused(town), "it to be let in again")
    paths = [{"operation": {"paths": [f"/{PAYLOAD}"]}}]
    town.nodes.manifests.policy("no-axolotls", spec | {"rules": [{"from": source, "to": paths}]}, NAMESPACE)
    eventually(lambda: apps.curl(town.client, town.url(town.vips[0])).status == 403, "the request to be denied")
    assert apps.curl(town.client, f"http://{town.vips[0]}/other").status == 200
    town.nodes.manifests.remove(f"policy-{NAMESPACE}-no-axolotls")
    eventually(lambda: apps.curl(town.client, town.url(town.vips[0])).status == 200, "it to be let in again")


def is_cut(sock: Socket) -> bool:
    try:
        return ask(sock, "echo again") == ""
    except (ConnectionError, EOFError):
        return True


def refused(town: Town) -> bool:
    try:
        return town.asks() != "over"
    except (ConnectionError, EOFError):
        return True


@pytest.mark.parametrize("side", ["near", "far"])
def test_a_process_that_is_killed_takes_its_own_connections_and_is_replaced(town: Town, side: str) -> None:
    mesh: Mesh = getattr(town, side)
    load = apps.Load(town.client, town.vips[0], 7000, kept=8, per_second=20)
    load.flows(exchanges=5, fresh=5)
    before = quic(mesh)
    os.kill(before["pid"], signal.SIGKILL)
    eventually(lambda: load.progress()["broken"] == 8, "its connections to be reset", 20)
    load.flows(fresh=25)
    eventually(lambda: quic(mesh)["up"] and quic(mesh)["pid"] != before["pid"], "its successor")
    result = load.stop()
    assert {record["error"] for record in result.kept} == {"ECONNRESET"}, "no end that could pass for one"
    later = [record["error"] for record in result.fresh[-10:]]
    assert later == [""] * 10
    assert quic(mesh)["restarts"] == before["restarts"] + 1
    pids = mesh.worker_pids()
    assert len(pids) == 2, "workers are no part of it"


def test_where_the_other_side_is_silent_it_goes_by_hbone_and_comes_back(town: Town) -> None:
    """As where UDP is blocked: its process is stopped before there is any connection."""
    replace_process(town.near)
    stopped = quic(town.far)["pid"]
    os.kill(stopped, signal.SIGSTOP)
    with town.nodes.lab.wire.captured() as frames:
        assert town.asks() == "over"  # no HTTP: that may go on by a connection that was kept
    kinds = {min(each.way.source_port, each.way.destination_port) for each in segments(frames.frames)}
    assert kinds == {PORT}, "by HBONE, and not in plaintext"
    eventually(lambda: [way["way"] for way in quic(town.near)["ways"]] == ["hbone"], "the silence to be remembered")
    eventually(lambda: quic(town.far)["pid"] not in (0, stopped), "the silent process to be replaced")

    def back() -> bool:
        """Each request is answered meanwhile."""
        assert town.asks() == "over"
        return [way["way"] for way in quic(town.near)["ways"]] == ["quic"]

    eventually(back, "QUIC to be tried again", 40)


def test_an_agent_that_dies_costs_nobody_anything(town: Town) -> None:
    load = apps.Load(town.client, town.vips[0], 7000, kept=8, per_second=5)
    load.flows(exchanges=5, fresh=5)
    pid = quic(town.near)["pid"]
    town.near.kill_agent()
    load.flows(exchanges=10, fresh=5)
    town.near.heal()
    load.flows(exchanges=10, fresh=5)
    result = load.stop()
    assert result.broken == []
    assert result.failed_fresh == []
    assert quic(town.near)["pid"] == pid, "the next agent has adopted it"
