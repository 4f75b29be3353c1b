"""Two nodes, an agent each: pods of both use one Service, and each agent serves its own pods only."""

from dataclasses import dataclass

import pytest

from tests.kit import apps
from tests.kit.lab import Lab, Pod
from tests.kit.two_nodes import TwoNodes


@dataclass
class Town:
    nodes: TwoNodes
    client: Pod  # on node a
    web: Pod  # on node b, behind a Service
    nginx: apps.Nginx
    vips: tuple[str, str]


@pytest.fixture(scope="module")
def town(tmp_path_factory):
    with Lab("two") as lab:
        nodes = TwoNodes(lab, tmp_path_factory.mktemp("source"))
        client, web = nodes.pod("client", nodes.a), nodes.pod("web", nodes.b)
        nginx = apps.Nginx(web)
        vips = nodes.manifests.service("web", 80, backends=[web])
        with nodes:
            nodes.wait_captured(client, web)
            nodes.wait_service("web")
            yield Town(nodes, client, web, nginx, vips)


def test_each_agent_serves_the_pods_of_its_own_node(town):
    for pod in (town.client, town.web):
        assert [entry["name"] for entry in town.nodes.mesh_of(pod).status()["pods"]] == [pod.name]


@pytest.mark.parametrize("family", [0, 1], ids=["ipv4", "ipv6"])
def test_a_request_to_a_service_reaches_a_pod_of_the_other_node(town, family):
    near, far = town.nodes.mesh_of(town.client), town.nodes.mesh_of(town.web)
    vip = town.vips[family]
    before = near.carried(town.client), far.carried(town.client, "inbound")
    assert apps.curl(town.client, f"http://[{vip}]/" if ":" in vip else f"http://{vip}/").body == "web\n"
    assert town.nginx.requests()[-1]["peer"] == (town.client.ip, town.client.ip6)[family]
    near.wait_carried(town.client, before[0] + 1)
    far.wait_carried(town.client, before[1] + 1, "inbound")
