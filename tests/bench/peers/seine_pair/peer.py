"""Seine: an agent with its workers on each of the two nodes, all pods enrolled, each with an identity of its own.

Started means proven: each agent's prover says that its pods are captured, and each knows of the other's, so that
nothing goes between them but by tunnel. The settings are the product's defaults. Counters: /metrics of both; what both
have carried counts, and only if there were tunnels.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from mesh.config import AgentConfig
from tests.bench.peer import Mode, Peer, Place
from tests.bench.peers.seine.peer import version
from tests.kit.manifests import Manifests, Port
from tests.kit.seine import Mesh
from tests.kit.wait import eventually

DEFAULTS: dict[str, Any] = {
    name: getattr(AgentConfig, name) for name in ("reconcile_seconds", "prove_seconds", "log_level")
}  # tests are hastier


class SeinePair(Peer):
    modes = frozenset({Mode.HTTP, Mode.MIXED, Mode.MANY})
    settings = DEFAULTS

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        lab, self.servers = place.client.lab, [app.pod for app in place.apps]
        manifests = Manifests(place.directory / "source", lab)
        for pod in (place.client, *self.servers):
            manifests.pod(pod, service_account=pod.name)
        ports = [Port(place.app.port, app_protocol="tcp" if place.mode is Mode.MIXED else "http")]
        ports += [Port(place.web.port, app_protocol="http")] if place.web else []
        self.vip = manifests.service("app", *ports, backends=[place.server])[0]
        self.near, self.far = (
            Mesh(
                lab,
                manifests,
                node,
                workers=place.threads,
                publish=manifests.directory / f"meshnode-{node.name}.yaml",
                **self.settings,
            )
            for node in (place.client.node, place.server.node)
        )

    def start(self) -> None:
        self.near.__enter__()
        self.far.__enter__()
        self.near.wait_captured(self.place.client)
        self.far.wait_captured(*self.servers)
        for mesh, count in ((self.near, len(self.servers)), (self.far, 1)):
            eventually(partial(knows, mesh, count), "the agents to know each other's pods", 20)

    def address(self) -> tuple[str, int]:
        return self.vip, self.place.app.port

    def addresses(self) -> list[tuple[str, int]]:
        return [(app.pod.ip, app.port) for app in self.place.apps]

    def web_address(self) -> tuple[str, int]:
        assert self.place.web is not None
        return self.vip, self.place.web.port

    def processes(self) -> list[int]:
        return [*self.near.processes(), *self.far.processes()]

    def carried(self) -> int:
        """HTTP requests of several connections share one beyond the near end, so far there are fewer connections."""
        if not self.is_tunnelled():
            return 0
        if self.place.mode is Mode.MIXED:
            return self._counted(self.near, "seine_connections_total", "outbound")
        ends = ((self.near, "outbound"), (self.far, "inbound"))
        return min(self._counted(mesh, "seine_requests_total", direction) for mesh, direction in ends)

    def is_tunnelled(self) -> bool:
        """False: whatever got there went by no tunnel, or by another one."""
        return any(worker["counters"].get("hbone_streams") for worker in self.far.status()["workers"])

    def _counted(self, mesh: Mesh, name: str, direction: str) -> int:
        return int(mesh.metrics().value(name, direction=direction, source_workload=self.place.client.name))

    def version(self) -> str:
        return version()

    def stop(self) -> None:
        self.near.stop()
        self.far.stop()


def knows(mesh: Mesh, pods: int) -> bool:
    """So many of other nodes."""
    return sum(int(peer["workloads"]) for peer in mesh.status()["peers"]) == pods
