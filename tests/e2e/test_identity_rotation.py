"""The root is replaced and identities are denied while two nodes talk through their tunnels."""

import itertools
import json
from dataclasses import dataclass

import pytest

from tests.kit import apps
from tests.kit.lab import Lab, Pod
from tests.kit.two_nodes import TwoNodes
from tests.kit.wait import eventually

SETTLE_S = 1  # as long as a test may wait at each step; the default is 10


@dataclass
class Town:
    nodes: TwoNodes
    client: Pod  # on node a
    web: Pod  # on node b, behind a Service
    talk: apps.Talk
    vip: str

    @property
    def meshes(self):
        return list(self.nodes.mesh.values())

    def roots(self):
        """Of each node: {root: state}."""
        return [{root["id"]: root["state"] for root in mesh.status()["identity"]["roots"]} for mesh in self.meshes]

    def handshakes(self):
        return sum(mesh.metrics().value("seine_engine_tls_handshakes_total") for mesh in self.meshes)

    def handshakes_failed(self):
        samples = [sample for mesh in self.meshes for sample in mesh.metrics().samples]
        return {s.name: s.value for s in samples if s.name.startswith("seine_engine_tls_failed") and s.value}


@pytest.fixture
def town(tmp_path):
    with Lab("rotate") as lab:
        nodes = TwoNodes(lab, tmp_path / "source", settle_seconds=SETTLE_S)
        client, web = (
            nodes.pod(name, node, service_account=name) for name, node in (("client", nodes.a), ("web", nodes.b))
        )
        talk = apps.Talk(web)
        vip, _ = nodes.manifests.service("web", talk.port, backends=[web])
        with nodes:
            nodes.wait_captured(client, web)
            nodes.wait_service("web")
            town = Town(nodes, client, web, talk, vip)
            eventually(lambda: tunnels(town) > 0, "a tunnel between the nodes")
            yield town


def ask(town, pod):
    with pod.connect(town.vip, town.talk.port) as sock:
        sock.sendall(b"who\n")
        return json.loads(sock.recv(4000))["name"]


def tunnels(town):
    ask(town, town.client)
    return town.handshakes()


def test_no_request_fails_while_the_root_is_replaced(town):
    """Old tunnels, new connections through them, and pods that come meanwhile and need tunnels of their own."""
    near, _ = town.meshes
    old, *_ = town.roots()[0]
    load = apps.Load(town.client, town.vip, town.talk.port, kept=4, per_second=20)
    load.flows(fresh=10)
    before = town.handshakes()
    dry = near.seine("identity", "rotate", "--dry-run")
    assert "nothing stands in its way" in dry.stdout
    assert town.roots() == [{old: "issuing"}] * 2
    begun = near.seine("identity", "rotate")
    assert begun.returncode == 0, begun.stderr
    assert "issues once all of 2 nodes with certificates believe it" in begun.stdout
    seen = []
    for number in itertools.count():
        newcomer = town.nodes.pod(f"new-{number}", town.nodes.a, service_account=f"new-{number % 3}")
        town.nodes.wait_captured(newcomer)
        assert ask(town, newcomer) == town.web.name
        seen.append(town.roots())
        if all(old not in roots for roots in seen[-1]):
            break
    load.flows(fresh=10)
    result = load.stop()
    (new,) = seen[-1][0]
    assert seen[-1] == [{new: "issuing"}] * 2
    assert (result.failed_fresh, result.broken) == ([], [])
    assert min(record["requests"] for record in result.kept) > 50
    assert town.handshakes() - before >= 2 * len(seen)  # each newcomer's, seen by both ends
    assert town.handshakes_failed() == {}
    held = [each for mesh in town.meshes for each in mesh.status()["identity"]["certificates"]]
    assert {each["root"] for each in held} == {new}


def test_a_rotation_waits_for_a_node_whose_agent_is_down_and_says_so(town):
    near, far = town.meshes
    old, *_ = town.roots()[0]
    load = apps.Load(town.client, town.vip, town.talk.port, kept=2, per_second=5)
    eventually(lambda: both_have_tunnels(near), "both workers to have their tunnel: new ones need both agents")
    far.kill_agent()
    assert near.seine("identity", "rotate").returncode == 0
    eventually(lambda: len(town_roots(near)) == 2, "the new root to join")
    load.flows(fresh=4 * 5 * SETTLE_S)  # longer than a step takes; few enough for the sockets in stock
    assert town_roots(near)[old] == "issuing"
    assert f"waiting for {far.node}" in near.seine("identity", "rotate", "--dry-run").stdout
    assert near.seine("identity", "rotate").returncode == 1
    result = load.stop()
    assert (result.failed_fresh, result.broken) == ([], [])
    far.start()
    eventually(lambda: all(old not in roots for roots in town.roots()), "the rotation to end", 30)
    eventually(lambda: ask(town, town.client) == town.web.name, "an answer")


def both_have_tunnels(mesh):
    shaken = [mesh.metrics().value("seine_engine_tls_handshakes_total", worker=str(number)) for number in (0, 1)]
    return all(shaken) and all(mesh.worker_gauge(number, "tunnels") for number in (0, 1))


def town_roots(mesh):
    return {root["id"]: root["state"] for root in mesh.status()["identity"]["roots"]}


def test_who_is_denied_is_cut_off_at_once_and_nobody_else(town):
    near, _ = town.meshes
    other = town.nodes.pod("other", town.nodes.a, service_account="other")
    town.nodes.wait_captured(other)
    with town.client.connect(town.vip, town.talk.port) as live, other.connect(town.vip, town.talk.port) as bystander:
        for sock in (live, bystander):
            sock.sendall(b"who\n")
            assert sock.recv(4000)
        identity = near.pod(town.client)["identity"]
        assert near.seine("identity", "deny", identity, "--for", "1h", "--reason", "a test").returncode == 0
        assert ended(live)
        eventually(lambda: refused(town, town.client), "new connections to be refused")
        bystander.sendall(b"who\n")
        assert bystander.recv(4000)
    assert ask(town, other) == town.web.name
    assert near.seine("identity", "allow", identity).returncode == 0
    eventually(lambda: not refused(town, town.client), "the client to be let in again", 10)


def ended(sock):
    """Within the socket's three seconds."""
    try:
        return sock.recv(1) == b""
    except ConnectionResetError:
        return True


def refused(town, pod):
    try:
        return not ask(town, pod)
    except (OSError, ValueError):
        return True
