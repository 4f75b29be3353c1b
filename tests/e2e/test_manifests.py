"""The YAML that a lab writes is understood by the source as it is meant."""

import asyncio

from mesh.kube import DirectorySource
from mesh.model import FailMode, Snapshot
from tests.kit.lab import Lab
from tests.kit.manifests import Manifests, Port


def read(manifests: Manifests) -> Snapshot:
    async def twice() -> Snapshot | None:
        source = DirectorySource(manifests.directory, manifests.lab.name)
        return await source.poll() or await source.poll()

    snapshot = asyncio.run(twice())
    assert snapshot is not None
    return snapshot


def test_the_source_understands_a_lab():
    with Lab("yaml") as lab:
        manifests = Manifests(lab.directory / "source", lab)
        web, plain, host = lab.pod("web"), lab.pod("plain", ipv6=False), lab.host_pod("host")
        manifests.namespace().pod(web, fail="closed", skip_outbound=[22, 23]).pod(plain, enrolled=False).pod(host)
        vips = manifests.service("web", Port(80, 8080, app_protocol="tcp"), backends=[web], unready=[plain])

        snapshot = read(manifests)

        assert snapshot.errors == ()
        found = {pod.workload.name: pod for pod in snapshot.pods}
        assert found["web"].enrolled
        assert found["web"].fail_mode is FailMode.CLOSED
        assert found["web"].skip_outbound_ports == {22, 23}
        assert (found["web"].netns, found["web"].cgroup) == (web.netns, str(web.cgroup))
        assert not found["plain"].enrolled
        assert "hostNetwork" in found["host"].refused
        (service,) = snapshot.services
        assert service.vips == vips
        endpoints = {(e.address, e.port, e.ready) for e in service.ports[0].endpoints}
        assert endpoints == {(web.ip, 8080, True), (web.ip6, 8080, True), (plain.ip, 8080, False)}
