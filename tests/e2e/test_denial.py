"""A denied identity among the pods of its own node: what it has open ends, new connections are refused, until it is
allowed again. All of them ask for the kernel short-cut, which is no way around."""

import json
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.kit import apps
from tests.kit.lab import Lab, Pod
from tests.kit.manifests import Manifests, Port
from tests.kit.seine import Mesh
from tests.kit.talk import ask
from tests.kit.wait import eventually

DENIED = "spiffe://cluster.local/ns/default/sa/client"
SHORTCUT = {"seine.dev/shortcut": "enabled"}
WEB, TALK = 80, 7000


@dataclass
class Town:
    """strict and permissive are called by client, who is going to be denied, and by other, who is not."""

    mesh: Mesh
    client: Pod
    other: Pod
    servers: dict[str, Pod]
    vips: dict[str, str]


@pytest.fixture(scope="module")
def town() -> Iterator[Town]:
    with Lab("denial") as lab:
        client, other, strict, permissive = (lab.pod(name) for name in ("client", "other", "strict", "permissive"))
        servers = {"strict": strict, "permissive": permissive}
        manifests = Manifests(lab.directory / "source", lab)
        manifests.pod(client, service_account="client", annotations=SHORTCUT)
        manifests.pod(other, service_account="other", annotations=SHORTCUT)
        vips = {}
        for name, pod in servers.items():
            apps.Nginx(pod)
            apps.Talk(pod)
            manifests.pod(pod, service_account="server", annotations=SHORTCUT | {"seine.dev/mtls": name})
            vips[name], _ = manifests.service(name, Port(WEB, app_protocol="http"), TALK, backends=[pod])
        with Mesh(lab, manifests) as mesh:
            mesh.wait_captured(client, other, strict, permissive)
            mesh.wait_service(*servers)
            yield Town(mesh, client, other, servers, vips)


@pytest.fixture(params=["service", "pod"])
def address(request, server: str, town: Town) -> str:
    return town.vips[server] if request.param == "service" else town.servers[server].ip


@pytest.fixture(params=["strict", "permissive"])
def server(request) -> str:
    return str(request.param)


def told(town: Town, *denied: str) -> None:
    """Both workers know who is denied."""

    def known() -> bool:
        shown = json.loads(town.mesh.seine("identity", "-o", "json").stdout)["denied"]
        return [each["what"] for each in shown] == [*denied]

    eventually(known, "the denials to be known")
    town.mesh.heard()


@pytest.fixture
def denial(town: Town) -> Iterator[None]:
    """What a test denies is allowed again."""
    yield
    town.mesh.seine("identity", "allow", DENIED)
    told(town)


def test_its_connections_end_and_nobody_elses(town: Town, server: str, address: str, denial: None) -> None:
    with town.client.connect(address, TALK) as mine, town.other.connect(address, TALK) as theirs:
        assert ask(mine, "who")
        assert ask(theirs, "who")
        assert int(town.mesh.pod(town.client)["kernel"]["shortcut_messages"]) > 0
        said = town.mesh.seine("identity", "deny", DENIED, "--for", "1h").stdout
        assert said == f"{DENIED} is denied for 1h; its connections end, between nodes and within one\n"
        mine.settimeout(10)
        with pytest.raises(ConnectionResetError):
            mine.recv(1)
        assert ask(theirs, "who")
    assert town.mesh.metrics().value("seine_engine_identity_ended_total") >= 1
    told(town, DENIED)
    with pytest.raises(ConnectionResetError), town.client.connect(address, TALK) as again:
        again.recv(1)
    refused = apps.curl(town.client, f"http://{address}/", "-i")
    assert (refused.status, "x-seine-reason: identity_denied" in refused.body) == (403, True)
    assert apps.curl(town.other, f"http://{address}/").status == 200
    assert town.mesh.metrics().value("seine_engine_identity_denied_total") >= 2
    explained = town.mesh.seine("authz", server, "--from", "default/client", "--port", str(WEB))
    assert f"refused: {DENIED} is denied" in explained.stdout


def test_who_is_allowed_again_comes_in_again(town: Town, address: str, denial: None) -> None:
    town.mesh.seine("identity", "deny", DENIED)
    told(town, DENIED)
    assert apps.curl(town.client, f"http://{address}/").status == 403
    town.mesh.seine("identity", "allow", DENIED)
    told(town)
    assert apps.curl(town.client, f"http://{address}/").status == 200
    with town.client.connect(address, TALK) as sock:
        assert ask(sock, "who")
