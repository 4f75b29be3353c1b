"""Which legs are encrypted: each mode of a pod, from each kind of client, by HTTP and by bytes, on a wire that is read.

Two nodes. Node a has client, which is in the mesh, and stranger, which is not; node b has a pod of each mode and an
outsider. Every application listens all the time, so what is refused is refused by the mesh.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from operator import sub

import pytest
import yaml

from tests.kit import apps, talk
from tests.kit.frames import Frames
from tests.kit.lab import Lab, Pod, Socket
from tests.kit.manifests import uid
from tests.kit.seine import Mesh, Samples
from tests.kit.two_nodes import TwoNodes
from tests.kit.wait import eventually

AT_ONCE_S = 0.5  # a reset, not a time-out
MODES = ["permissive", "strict", "disabled"]
TUNNELLED = {"permissive": True, "strict": True, "disabled": False}
IDENTITY = "spiffe://cluster.local/ns/default/sa/default"


@dataclass
class Town:
    nodes: TwoNodes
    client: Pod
    stranger: Pod
    outsider: Pod
    servers: dict[str, Pod]
    vips: dict[str, tuple[str, str]] = field(default_factory=dict)

    @property
    def near(self) -> Mesh:
        return self.nodes.mesh[self.nodes.a]

    @property
    def far(self) -> Mesh:
        return self.nodes.mesh[self.nodes.b]

    def healthy(self) -> None:
        for mesh in (self.near, self.far):
            mesh.heal()
        self.nodes.wait_captured(self.client, *self.servers.values())
        eventually(lambda: listed(self.near) == 2, "the strict and the permissive pod to be listed")


def listed(mesh: Mesh) -> int:
    """How many pods the other node lists, as this one's agent has it in effect."""
    return sum(peer["workloads"] for peer in mesh.status()["peers"])


def counter(mesh: Mesh, name: str) -> int:
    """An engine's counter over all workers."""
    return sum(each(mesh, name))


def each(mesh: Mesh, name: str) -> list[int]:
    """An engine's counter, of each worker."""
    return [worker["counters"].get(name, 0) for worker in mesh.status()["workers"]]


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Iterator[Town]:
    with Lab("mtls") as lab:
        nodes = TwoNodes(lab, tmp_path_factory.mktemp("source"))
        client, stranger = nodes.pod("client", nodes.a), nodes.pod("stranger", nodes.a, enrolled=False)
        outsider = nodes.pod("outsider", nodes.b, enrolled=False)
        servers = {mode: nodes.pod(mode, nodes.b, annotations={"seine.dev/mtls": mode}) for mode in MODES}
        town = Town(nodes, client, stranger, outsider, servers)
        apps.Nginx(outsider)
        for mode, pod in servers.items():
            apps.Nginx(pod)
            apps.Talk(pod)
            town.vips[mode] = nodes.manifests.service(mode, 80, 7000, backends=[pod])
        with nodes:
            nodes.wait_service(*MODES)
            yield town
        left = [yaml.safe_load(path.read_text()) for path in nodes.manifests.directory.glob("meshnode-*.yaml")]
        assert [each["spec"]["workloads"] for each in left] == [[], []], "`seine clean` takes back what was said"


@pytest.fixture
def town(built: Town) -> Town:
    built.healthy()
    return built


@contextmanager
def wire(town: Town) -> Iterator[Frames]:
    with town.nodes.lab.wire.captured() as frames:
        yield frames
    assert frames.complete
    assert frames.frames, "nothing was heard at all"


def ways(pod: Pod, vips: tuple[str, str]) -> list[str]:
    """Every address by which the pod can be meant."""
    return [*vips, pod.ip, pod.ip6]


def request(pod: Pod, address: str, marker: str) -> str:
    """The body of an answer to an HTTP request that carries a marker in its head."""
    host = f"[{address}]" if ":" in address else address
    return apps.curl(pod, f"http://{host}/", "-H", f"x-marker: {marker}").body


def say(sock: Socket, marker: str) -> bool:
    return talk.ask(sock, f"echo {marker}") == marker


def refused_at_once(pod: Pod, address: str, port: int) -> bool:
    """Before or after the handshake: a worker accepts first and resets then."""
    began = time.monotonic()
    try:
        with pod.connect(address, port) as sock:
            say(sock, "let me in")
    except (ConnectionError, EOFError):
        return time.monotonic() - began < AT_ONCE_S
    return False


# --- the matrix


@pytest.mark.parametrize("mode", MODES)
def test_from_a_pod_of_the_mesh(town, mode):
    """By tunnel to whom another node lists, in plaintext by policy to whom it does not: on the wire too."""
    server, marker = town.servers[mode], f"marker-{mode}-{time.monotonic_ns()}"
    with wire(town) as frames:
        for address in ways(server, town.vips[mode]):
            assert request(town.client, address, marker) == f"{mode}\n"
            with town.client.connect(address, 7000) as sock:
                assert say(sock, marker)
                assert talk.who(sock)["peer"][0] in (town.client.ip, town.client.ip6), "the app sees the true client"
    assert bool(frames.holding(marker.encode())) != TUNNELLED[mode]
    assert bool(frames.holding(b"GET / HTTP/1.1")) != TUNNELLED[mode]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("who", ["stranger", "outsider"])
def test_from_a_pod_that_is_in_no_mesh(town, mode, who):
    """Strict refuses at once, with its reason counted; the others accept plaintext."""
    client, server, before = getattr(town, who), town.servers[mode], counter(town.far, "plaintext_refused")
    for address in (server.ip, server.ip6):
        if mode == "strict":
            assert refused_at_once(client, address, 80)
            assert refused_at_once(client, address, 7000)
        else:
            assert request(client, address, "plain") == f"{mode}\n"
            with client.connect(address, 7000) as sock:
                assert say(sock, "plain")
    refused = counter(town.far, "plaintext_refused") - before
    assert refused == (4 if mode == "strict" else 0)


def test_what_was_protected_is_in_the_metrics_and_in_the_status(town):
    for mode, pod in town.servers.items():
        assert request(town.client, town.vips[mode][0], "count me") == f"{mode}\n"
        assert town.far.pod(pod)["mtls"] == mode
        assert town.far.pod(pod)["identity"] == IDENTITY

    def told(scrape: Samples, mode: str, reporter: str, **labels: str) -> float:
        return scrape.value("istio_requests_total", destination_workload=mode, reporter=reporter, **labels)

    here, there = town.near.metrics(), town.far.metrics()
    both = {"source_principal": IDENTITY, "destination_principal": IDENTITY}
    for mode, tunnelled in TUNNELLED.items():
        policy, proven = ("mutual_tls", both) if tunnelled else ("none", {"source_principal": "unknown"})
        from_client = {"source_workload": "client", "connection_security_policy": policy}
        assert told(there, mode, "destination", **from_client, **proven) > 0
        assert told(there, mode, "destination", source_workload="client") == told(
            there, mode, "destination", **from_client
        )
        assert told(here, mode, "source", connection_security_policy="unknown", **proven) > 0


# --- when something of ours is dead


def test_while_its_agent_is_dead_strict_is_strict_and_tunnels_go_on(town):
    strict = town.servers["strict"]
    town.far.kill_agent()
    for client in (town.stranger, town.outsider):
        assert refused_at_once(client, strict.ip, 7000)
    assert request(town.client, strict.ip, "x") == "strict\n"


def test_while_nobody_lives_at_the_servers_node(town):
    """Strict is reached by nobody; permissive by nobody who must come by tunnel; nothing of it is on the wire."""
    town.far.kill_everything()
    with wire(town) as frames:
        for mode in ("strict", "permissive"):
            for address in ways(town.servers[mode], town.vips[mode]):
                with pytest.raises((ConnectionError, EOFError)), town.client.connect(address, 7000) as sock:
                    say(sock, "secret")
    assert frames.holding(b"secret") == []
    for client in (town.stranger, town.outsider):
        assert refused_at_once(client, town.servers["strict"].ip, 7000)
        with client.connect(town.servers["permissive"].ip, 7000) as sock:
            assert say(sock, "plain")
    town.healthy()
    assert town.far.pod(town.servers["strict"])["kernel"]["inbound_strict"] >= 2


def test_while_nobody_lives_at_the_clients_node(town):
    """An open pod goes direct, but not to whom a tunnel leads."""
    town.near.kill_everything()
    with wire(town) as frames:
        for mode in ("strict", "permissive"):
            for address in ways(town.servers[mode], town.vips[mode]):
                assert refused_at_once(town.client, address, 7000)
        for address in ways(town.servers["disabled"], town.vips["disabled"]):
            with town.client.connect(address, 7000) as sock:
                assert say(sock, "in the open")
    assert frames.holding(b"let me in") == []
    assert frames.holding(b"in the open")
    town.healthy()
    assert town.near.pod(town.client)["kernel"]["tunnel_refused"] == 8


def test_a_new_agent_withdraws_nobody(town):
    """What the others know stays in effect over its start: not one connection goes another way.

    Each worker of the other node has its tunnel: a new one needs the agent, who alone has the keys; and there are no
    more connections than the workers have sockets in stock.
    """
    began = each(town.near, "dialled")
    load = apps.Load(town.client, town.servers["strict"].ip, 7000, kept=2, per_second=10)
    eventually(lambda: min(map(sub, each(town.near, "dialled"), began)) > 3, "both workers to have a tunnel")
    before = counter(town.far, "plaintext_refused")
    town.far.kill_agent()
    load.flows(exchanges=5, fresh=10)
    town.far.heal()
    load.flows(exchanges=5, fresh=10)
    result = load.stop()
    assert result.failed_fresh == []
    assert result.broken == []
    assert counter(town.far, "plaintext_refused") == before


def test_a_list_that_somebody_removes_comes_back(town):
    """And one that says something else by now is left alone, and told."""
    path = town.nodes.manifests.directory / f"meshnode-{town.nodes.b.name}.yaml"
    said = path.read_text()
    path.unlink()
    eventually(path.exists, "the list to be written again")
    assert path.read_text() == said
    path.write_text("kind: Namespace\napiVersion: v1\nmetadata: {name: mine}\n")
    eventually(lambda: town.far.status()["announced"]["problem"], "the agent to say what is wrong")
    assert "left alone" in town.far.seine("status").stdout
    path.unlink()
    eventually(lambda: path.exists() and path.read_text() == said, "the list to be written again")


def test_a_list_that_is_gone_makes_nobody_plaintext_and_is_told(town):
    """Its agent cannot write it again; the caller's agent starts anew. A list without pods is a goodbye."""
    path = town.nodes.manifests.directory / f"meshnode-{town.nodes.b.name}.yaml"
    said, obstacle = path.read_text(), path.with_name(f".{path.name}.new")
    obstacle.mkdir()
    path.unlink()
    told = f"the MeshNode of {town.nodes.b.name} is gone"
    eventually(lambda: any(told in peer["problem"] for peer in town.near.status()["peers"]), "it to be told")
    restarted = [None, town.near.kill_agent]
    with wire(town) as frames:
        for step in restarted:
            if step is not None:
                step()
                town.near.heal()
                assert listed(town.near) == 2
            for mode in ("strict", "permissive"):
                for address in ways(town.servers[mode], town.vips[mode]):
                    assert request(town.client, address, "still private") == f"{mode}\n"
    assert frames.holding(b"still private") == []
    for command in ("status", "nodes", "check"):
        assert told in " ".join(town.near.seine(command).stdout.split())
    metrics = town.near.metrics()
    assert metrics.value("seine_peer_list_missing_seconds", node=town.nodes.b.name) > 0
    goodbye = yaml.safe_load(said)
    goodbye["spec"]["workloads"] = []
    town.nodes.manifests.write(path.stem, goodbye)
    eventually(lambda: listed(town.near) == 0, "the goodbye to be heard")
    assert request(town.client, town.servers["permissive"].ip, "in the open") == "permissive\n"
    obstacle.rmdir()
    town.healthy()
    assert town.near.metrics().value("seine_peer_list_missing_seconds", node=town.nodes.b.name) == 0


def test_a_node_that_lists_anothers_pod_is_not_believed_and_told(town):
    """Its own name comes first in every order but that of time."""
    strict = town.servers["strict"]
    entry = {"uid": uid(strict), "namespace": "default", "name": "strict", "serviceAccount": "default"}
    thief = {"apiVersion": "seine.dev/v1alpha1", "kind": "MeshNode", "metadata": {"name": "a-thief"}}
    town.nodes.manifests.write(
        "a-thief", thief | {"spec": {"workloads": [entry | {"addresses": [town.outsider.ip, strict.ip]}]}}
    )
    eventually(lambda: town.near.status()["source"]["errors"], "the lie to be told")
    (sentence,) = town.near.status()["source"]["errors"]
    told = f"MeshNode a-thief lists Pod default/strict, which is on node {town.nodes.b.name}; this is not believed"
    assert sentence == f"{town.nodes.manifests.directory}/a-thief.yaml:1: {told}"
    assert request(town.client, strict.ip, "x") == "strict\n"
    assert request(town.client, town.outsider.ip, "y") == "outsider\n"
    town.nodes.manifests.remove("a-thief")
    eventually(lambda: not town.near.status()["source"]["errors"], "the lie to be forgotten")


# --- when what a pod accepts changes


def test_permissive_becomes_strict_under_traffic(town):
    """Plaintext connections end, tunnels stay; and becoming permissive again lets the stranger in again."""
    server = town.servers["permissive"]
    with town.stranger.connect(server.ip, 7000) as plain, town.client.connect(server.ip, 7000) as proven:
        assert say(plain, "before")
        assert say(proven, "before")
        town.nodes.manifests.pod(server, annotations={"seine.dev/mtls": "strict"})
        with pytest.raises((ConnectionError, EOFError)):
            while say(plain, "still?"):
                pass
        assert say(proven, "after")
    assert refused_at_once(town.stranger, server.ip, 7000)
    assert request(town.client, server.ip, "x") == "permissive\n"
    town.nodes.manifests.pod(server, annotations={"seine.dev/mtls": "permissive"})
    eventually(lambda: town.far.pod(server)["mtls"] == "permissive", "the pod to be permissive again")
    with town.stranger.connect(server.ip, 7000) as sock:
        assert say(sock, "again")


def test_a_pod_that_leaves_the_mesh_is_reached_in_plaintext_and_one_that_comes_in_by_tunnel(town):
    server = town.servers["permissive"]
    town.nodes.manifests.pod(server, enrolled=False)
    eventually(lambda: listed(town.near) == 1, "the pod to be withdrawn")
    with wire(town) as frames:
        assert request(town.client, server.ip, "left the mesh") == "permissive\n"
    assert frames.holding(b"left the mesh")
    town.nodes.manifests.pod(server, annotations={"seine.dev/mtls": "permissive"})
    town.healthy()
    with wire(town) as frames:
        assert request(town.client, server.ip, "in it again") == "permissive\n"
    assert frames.holding(b"in it again") == []
