"""While nobody of ours lives, the kernel alone keeps what was promised: strict stays strict, tunnels stay tunnels.

Every pod here fails open, and behind every refusal an application listens that would answer.
"""

import time
from dataclasses import dataclass

import pytest

from tests.kit import apps, talk
from tests.kit.lab import Lab, Pod
from tests.kit.manifests import Manifests, uid
from tests.kit.seine import Mesh
from tests.kit.wait import eventually

AT_ONCE_S = 0.5  # a reset, not a time-out: the first retransmission of a SYN comes after one second


@dataclass
class Town:
    """far is a pod that another node lists; strict accepts mutual TLS only; stranger is in no mesh."""

    mesh: Mesh
    client: Pod
    near: Pod
    far: Pod
    strict: Pod
    stranger: Pod
    vips: dict[str, tuple[str, str]]


def listing(node: str, *pods: Pod) -> dict[str, object]:
    entries = [
        {"uid": uid(pod), "namespace": "default", "name": pod.name, "serviceAccount": "default"}
        | {"addresses": [pod.ip, pod.ip6]}
        for pod in pods
    ]
    return {
        "apiVersion": "seine.dev/v1alpha1",
        "kind": "MeshNode",
        "metadata": {"name": node},
        "spec": {"workloads": entries},
    }


@pytest.fixture(scope="module")
def town():
    with Lab("strict") as lab:
        client, near, far, strict, stranger = (
            lab.pod(name) for name in ("client", "near", "far", "strict", "stranger")
        )
        for pod in (near, far, strict):
            apps.Talk(pod)
        manifests = Manifests(lab.directory / "source", lab).pod(client).pod(near)
        manifests.pod(strict, annotations={"seine.dev/mtls": "strict"})
        manifests.write("meshnode-elsewhere", listing("elsewhere", far))
        vips = {
            "far": manifests.service("far", 7000, backends=[far]),
            "both": manifests.service("both", 7000, backends=[far, near]),
        }
        with Mesh(lab, manifests) as mesh:
            mesh.wait_captured(client, near, strict)
            mesh.wait_service("far", "both")
            yield Town(mesh, client, near, far, strict, stranger, vips)


@pytest.fixture
def nobody(town):
    """Agent and workers are dead; afterwards they are not."""
    town.mesh.kill_everything()
    yield
    town.mesh.heal()
    town.mesh.wait_captured(town.client, town.near, town.strict)


def refused_at_once(pod: Pod, address: str) -> bool:
    began = time.monotonic()
    with pytest.raises(ConnectionRefusedError):
        pod.connect(address, 7000)
    return time.monotonic() - began < AT_ONCE_S


def kernel(town: Town, pod: Pod, reason: str) -> int:
    """A counter of the hooks; they go on counting over the agent's death."""
    return int(town.mesh.pod(pod)["kernel"][reason])


def test_what_a_pod_accepts_is_shown_and_who_is_listed_elsewhere_counted(town):
    assert {pod.name: town.mesh.pod(pod)["mtls"] for pod in (town.client, town.strict)} == {
        "client": "permissive",
        "strict": "strict",
    }
    (peer,) = town.mesh.status()["peers"]
    assert (peer["node"], peer["transport"], peer["workloads"], peer["problem"]) == ("elsewhere", "hbone", 1, "")
    assert "1 other node with 1 pod, the others are told nothing" in town.mesh.seine("status").stdout
    assert town.mesh.metrics().value("seine_peer_workloads", node="elsewhere", transport="hbone") == 1


def test_a_strict_pod_is_reached_by_nobody(town, nobody):
    for pod in (town.stranger, town.client):
        for address in (town.strict.ip, town.strict.ip6):
            assert refused_at_once(pod, address)
    assert town.strict.established(7000) == 0
    town.mesh.heal()
    assert kernel(town, town.strict, "inbound_strict") >= 4
    assert kernel(town, town.strict, "inbound_open") == 0


def test_a_permissive_pod_beside_it_answers_itself(town, nobody):
    with town.stranger.connect(town.near.ip, 7000) as sock:
        assert talk.who(sock)["name"] == "near"


def test_a_strict_pod_still_reaches_itself_and_others(town, nobody):
    for address, name in ((town.strict.ip, "strict"), (town.near.ip, "near")):
        with town.strict.connect(address, 7000) as sock:
            assert talk.who(sock)["name"] == name


def test_whom_another_node_lists_is_not_reached_without_a_tunnel(town, nobody):
    addresses = [*town.vips["far"], town.far.ip, town.far.ip6]
    assert [refused_at_once(town.client, address) for address in addresses] == [True] * 4
    assert town.far.established(7000) == 0
    with town.stranger.connect(town.far.ip, 7000) as sock:
        assert talk.who(sock)["name"] == "far", "it was there all the time"
    town.mesh.heal()
    assert kernel(town, town.client, "tunnel_refused") == 4


def test_a_service_goes_on_with_those_that_need_no_tunnel(town, nobody):
    for _ in range(8):
        with town.client.connect(town.vips["both"][0], 7000) as sock:
            assert talk.who(sock)["name"] == "near"


def test_a_pod_that_is_no_longer_listed_is_reached_as_without_a_mesh(town):
    town.mesh.manifests.write("meshnode-elsewhere", listing("elsewhere"))
    eventually(lambda: not any(peer["workloads"] for peer in town.mesh.status()["peers"]), "it to be heard")
    town.mesh.kill_everything()
    with town.client.connect(town.far.ip, 7000) as sock:
        assert talk.who(sock)["name"] == "far"
