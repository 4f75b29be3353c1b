"""Policies between two nodes: the node of the pod that is called judges by the identity that the tunnel has proven."""

from dataclasses import dataclass

import pytest

from tests.kit import apps
from tests.kit.lab import Lab, Pod
from tests.kit.manifests import Port
from tests.kit.talk import ask
from tests.kit.two_nodes import TwoNodes
from tests.kit.wait import eventually

CLIENT = "cluster.local/ns/default/sa/client"
TALK = 7000


@dataclass
class Town:
    nodes: TwoNodes
    client: Pod  # on node a, like the other
    other: Pod
    server: Pod  # on node b
    nginx: apps.Nginx
    vip: str

    def get(self, pod: Pod, path: str = "/") -> int:
        return apps.curl(pod, f"http://{self.vip}{path}", "--path-as-is").status

    def wait_status(self, pod: Pod, status: int, path: str = "/") -> None:
        eventually(lambda: self.get(pod, path) == status, f"{pod} to get {status} for {path}", 10.0)
        self.nodes.mesh_of(self.server).heard()


@pytest.fixture(scope="module")
def town(tmp_path_factory):
    with Lab("authz2") as lab, TwoNodes(lab, tmp_path_factory.mktemp("objects")) as nodes:
        client = nodes.pod("client", nodes.a, service_account="client")
        other = nodes.pod("other", nodes.a, service_account="other")
        server = nodes.pod("server", nodes.b, service_account="server")
        nginx = apps.Nginx(server)
        apps.Talk(server)
        vip, _ = nodes.manifests.service("web", Port(80, app_protocol="http"), TALK, backends=[server])
        nodes.wait_captured(client, other, server)
        nodes.wait_service("web")
        nodes.wait_introduced()
        built = Town(nodes, client, other, server, nginx, vip)
        built.wait_status(client, 200)
        built.wait_status(other, 200)
        yield built


@pytest.fixture(autouse=True)
def policies(town):
    yield town.nodes.manifests
    for path in town.nodes.manifests.directory.glob("policy-*"):
        path.unlink()
    far = town.nodes.mesh_of(town.server)
    eventually(lambda: not any(each["name"] for each in far.status()["policies"]), "no policy to be left")
    town.wait_status(town.other, 200)


def test_who_may_not_is_refused_by_the_other_node_and_told_by_his_own(town, policies):
    policies.policy("one", {"rules": [{"from": [{"source": {"principals": [CLIENT]}}]}]})
    town.wait_status(town.other, 403)
    logged = len(town.nginx.requests())
    assert town.get(town.client) == 200
    eventually(lambda: len(town.nginx.requests()) == logged + 1, "the allowed request to be logged")
    with pytest.raises(ConnectionResetError), town.other.connect(town.vip, TALK) as refused:
        refused.recv(1)
    with town.client.connect(town.vip, TALK) as allowed:
        assert ask(allowed, "who")
    assert f"spiffe://{CLIENT.replace('client', 'other')}" in town.nodes.mesh_of(town.server).log()


def test_paths_are_judged_where_the_pod_is(town, policies):
    policies.policy("admin", {"action": "DENY", "rules": [{"to": [{"operation": {"paths": ["/admin*"]}}]}]})
    town.wait_status(town.client, 403, "/admin")
    assert [town.get(town.client, path) for path in ("//admin", "/x/../%61dmin", "/a%2fb", "/")] == [403, 403, 400, 200]


def test_a_change_ends_what_is_open_between_the_nodes(town, policies):
    with town.client.connect(town.vip, TALK) as mine, town.other.connect(town.vip, TALK) as theirs:
        assert ask(mine, "who")
        assert ask(theirs, "who")
        policies.policy("one", {"rules": [{"from": [{"source": {"principals": [CLIENT]}}]}]})
        theirs.settimeout(10)
        with pytest.raises(ConnectionResetError):
            theirs.recv(1)
        assert ask(mine, "who")
