"""Two pods of one node, with and without a tunnel between them: who they are is proven both ways, and told apart."""

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.kit import apps, talk
from tests.kit.lab import Lab, Pod
from tests.kit.manifests import Manifests
from tests.kit.seine import Mesh

IDENTITY = "spiffe://cluster.local/ns/default/sa/default"
REQUESTS = 3


@dataclass
class Town:
    mesh: Mesh
    client: Pod
    web: Pod
    plain: Pod  # accepts no tunnel
    stranger: Pod
    vips: dict[str, str]


@pytest.fixture(scope="module", params=["disabled", "enabled"])
def switch(request) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def town(switch: str) -> Iterator[Town]:
    with Lab(f"local-{switch}") as lab:
        client, web, plain, stranger = (lab.pod(name) for name in ("client", "web", "plain", "stranger"))
        manifests = Manifests(lab.directory / "source", lab).pod(client).pod(web)
        manifests.pod(plain, annotations={"seine.dev/mtls": "disabled"})
        vips = {}
        for pod in (web, plain):
            apps.Nginx(pod)
            apps.Talk(pod)
            vips[pod.name] = manifests.service(pod.name, 80, 7000, backends=[pod])[0]
        with Mesh(lab, manifests, local_tunnel=switch) as mesh:
            mesh.wait_captured(client, web, plain)
            mesh.wait_service("web", "plain")
            yield Town(mesh, client, web, plain, stranger, vips)


def handshakes(mesh: Mesh) -> int:
    return sum(worker["counters"].get("tls_handshakes", 0) for worker in mesh.status()["workers"])


def test_requests_arrive_once_and_are_counted_once_by_each_side(town, switch):
    for name in ("web", "plain"):
        for _ in range(REQUESTS):
            assert apps.curl(town.client, f"http://{town.vips[name]}/").body == f"{name}\n"
    policies = {"web": "mutual_tls" if switch == "enabled" else "none", "plain": "none"}
    scrape = town.mesh.metrics()
    for name, policy in policies.items():
        of = {"source_workload": "client", "destination_workload": name}
        of |= {"source_principal": IDENTITY, "destination_principal": IDENTITY}
        for reporter, said in (("source", "unknown"), ("destination", policy)):
            counted = scrape.value("istio_requests_total", reporter=reporter, connection_security_policy=said, **of)
            assert counted == REQUESTS, (name, reporter)
            assert scrape.value("istio_requests_total", reporter=reporter, **of) == REQUESTS, (name, reporter)
    assert bool(handshakes(town.mesh)) == (switch == "enabled")


def test_bytes_arrive_by_any_address_and_the_app_sees_the_true_client(town):
    for pod in (town.web, town.plain):
        for address in (town.vips[pod.name], pod.ip, pod.ip6):
            with town.client.connect(address, 7000) as sock:
                assert talk.who(sock)["peer"][0] in (town.client.ip, town.client.ip6)


def test_a_pod_reaches_itself_by_every_name(town):
    before = handshakes(town.mesh)
    for address in ("127.0.0.1", town.web.ip, town.vips["web"]):
        with town.web.connect(address, 7000) as sock:
            assert talk.who(sock)["name"] == "web"
    assert handshakes(town.mesh) == before


def test_who_is_in_no_mesh_comes_in_in_plaintext(town):
    with town.stranger.connect(town.web.ip, 7000) as sock:
        assert talk.who(sock)["name"] == "web"
