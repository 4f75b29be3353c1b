"""Two nodes, an agent each: their pods reach each other by tunnel, see each other's addresses, and outlive what fails.

What a dying process had in flight may be lost. What began after its death may not, and nothing goes in plaintext.
"""

import errno
from dataclasses import dataclass

import pytest

from tests.kit import apps
from tests.kit.lab import Lab, Pod
from tests.kit.seine import Mesh
from tests.kit.streams import segments
from tests.kit.two_nodes import TwoNodes
from tests.kit.wait import eventually

HBONE_PORT = 15008
FAMILIES = pytest.mark.parametrize("family", [0, 1], ids=["ipv4", "ipv6"])


@dataclass
class Town:
    nodes: TwoNodes
    client: Pod  # on node a
    server: Pod  # on node b, behind a Service: nginx, PostgreSQL, a talker
    nginx: apps.Nginx
    postgres: apps.Postgres
    vips: tuple[str, str]

    @property
    def near(self) -> Mesh:
        return self.nodes.mesh[self.nodes.a]

    @property
    def far(self) -> Mesh:
        return self.nodes.mesh[self.nodes.b]

    def own(self, family: int) -> str:
        return (self.client.ip, self.client.ip6)[family]

    def url(self, address: str) -> str:
        return f"http://[{address}]/" if ":" in address else f"http://{address}/"

    def streams(self) -> int:
        """Connections that node b got by tunnel."""
        return sum(int(worker["counters"].get("hbone_streams", 0)) for worker in self.far.status()["workers"])

    def load(self, kept: int = 16, per_second: int = 50) -> apps.Load:
        """Traffic from a to b, once both workers of a have a tunnel: only then does it go on without the agents."""
        load = apps.Load(self.client, self.vips[0], 7000, kept=kept, per_second=per_second)
        load.flows(exchanges=5, fresh=5)
        eventually(lambda: self.near.worker_gauge(0, "tunnels"), "a tunnel of worker 0")
        eventually(lambda: self.near.worker_gauge(1, "tunnels"), "a tunnel of worker 1")
        return load


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    with Lab("two") as lab:
        nodes = TwoNodes(lab, tmp_path_factory.mktemp("source"))
        client, server = nodes.pod("client", nodes.a), nodes.pod("server", nodes.b)
        nginx, postgres = apps.Nginx(server), apps.Postgres(server)
        apps.Talk(server)
        vips = nodes.manifests.service("app", 80, 7000, postgres.port, backends=[server])
        with nodes:
            nodes.wait_captured(client, server)
            nodes.wait_service("app")
            nodes.wait_introduced()
            yield Town(nodes, client, server, nginx, postgres, vips)


@pytest.fixture
def town(built):
    """All well at the beginning of each test, whatever the one before it did."""
    for mesh in built.nodes.mesh.values():
        mesh.heal()
    built.nodes.wait_captured(built.client, built.server)
    built.nodes.wait_introduced()
    return built


# --- traffic


def test_each_agent_serves_the_pods_of_its_own_node(town):
    for pod in (town.client, town.server):
        assert [entry["name"] for entry in town.nodes.mesh_of(pod).status()["pods"]] == [pod.name]


@FAMILIES
@pytest.mark.parametrize("target", ["service", "pod"])
def test_a_request_goes_by_tunnel_and_nginx_sees_who_asked(town, target, family):
    address = town.vips[family] if target == "service" else (town.server.ip, town.server.ip6)[family]
    before = town.near.carried(town.client), town.far.carried(town.client, "inbound"), town.streams()
    assert apps.curl(town.client, town.url(address)).body == "server\n"
    assert town.nginx.requests()[-1]["peer"] == town.own(family)
    town.near.wait_carried(town.client, before[0] + 1)
    town.far.wait_carried(town.client, before[1] + 1, "inbound")
    assert town.streams() > before[2]


@FAMILIES
def test_postgresql_is_asked_by_tunnel_and_sees_who_asked(town, family):
    before = town.streams()
    answer = apps.psql(town.client, town.vips[family], town.postgres.port, "select inet_client_addr(), 6 * 7")
    assert answer == f"{town.own(family)}|42"
    assert town.streams() == before + 1


def test_both_ends_count_the_request_as_mutually_proven(town):
    """As Kiali reads it, with its padlock."""
    apps.curl(town.client, town.url(town.vips[0]))
    labels = {"source_workload": "client", "destination_workload": "server", "reporter": "destination"}
    name = "istio_requests_total"
    found = town.far.metrics()
    assert found.value(name, connection_security_policy="mutual_tls", **labels) >= 1
    assert found.value(name, connection_security_policy="none", **labels) == 0
    principal = "spiffe://cluster.local/ns/default/sa/default"
    assert found.value(name, source_principal=principal, destination_principal=principal, **labels) >= 1


# --- what fails


NODES = pytest.mark.parametrize("side", ["near", "far"])


@NODES
def test_a_worker_that_dies_takes_only_what_it_had_along(town, side):
    load = town.load()
    mesh = getattr(town, side)
    victim = mesh.worker_pids()[0]
    died_at = mesh.kill_worker(0)
    mesh.wait_replaced(0, victim)
    load.flows(exchanges=10, fresh=25)
    result = load.stop()
    assert {record["error"] for record in result.kept} <= {"", "eof", "ECONNRESET"}
    assert [record for record in result.failed_fresh if record["at"] > died_at] == []
    assert any(record["at"] > died_at for record in result.fresh)


@NODES
def test_an_agent_that_dies_costs_nobody_anything(town, side):
    load = town.load(per_second=5)  # few: an agent that is away refills no stock of sockets
    died_at = getattr(town, side).kill_agent()
    load.flows(exchanges=10, fresh=5)
    getattr(town, side).heal()
    load.flows(exchanges=10, fresh=5)
    result = load.stop()
    assert result.broken == []
    assert result.failed_fresh == []
    assert any(record["at"] > died_at for record in result.fresh)


@NODES
def test_a_node_that_restarts_is_reached_again_and_meanwhile_nothing_goes_in_plaintext(town, side):
    mesh = getattr(town, side)
    load = town.load(kept=4)
    with town.nodes.lab.wire.captured() as frames:
        mesh.kill_everything()
        load.flows(fresh=10)
        mesh.heal()
        town.nodes.wait_captured(town.client, town.server)
        town.nodes.wait_introduced()
        healed_at = load.progress()["fresh"]
        eventually(lambda: load.progress()["fresh"] > healed_at + 25, "connections after the restart", 10)
    result = load.stop()
    assert {record["error"] for record in result.kept} <= {"", "eof", "ECONNRESET"}
    refused = {errno.errorcode[number] for number in (errno.ECONNREFUSED, errno.ECONNRESET)}
    assert result.outcomes() <= {"", "eof", *refused}, "each at once, and with a reason"
    assert not any(record["error"] for record in result.fresh[healed_at:]), "after it, all is well"
    ports = {min(each.way.source_port, each.way.destination_port) for each in segments(frames.frames)}
    assert frames.complete
    assert ports <= {HBONE_PORT}


def test_a_wire_that_loses_everything_for_a_moment_costs_nothing_but_that_moment(town):
    load, wire = town.load(kept=4), town.nodes.lab.wire
    wire.lose(1.0)
    before = wire.lost
    eventually(lambda: wire.lost > before + 10, "packets to be lost")
    wire.lose(0)
    load.flows(exchanges=10, fresh=10)
    result = load.stop()
    assert result.broken == []
    assert result.failed_fresh == []
