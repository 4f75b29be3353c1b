"""Seine: an agent and its workers on the node, both pods enrolled, the client calls the Service's VIP.

Started means proven: the agent's own prover says that both pods are captured. The settings are the product's defaults.
Stopped means that hooks, pins, cgroup and workers are gone too. Counter: /metrics, what was counted for the client.
"""

from __future__ import annotations

import subprocess

from mesh.config import AgentConfig
from tests.bench.peer import Mode, Peer, Place
from tests.kit.manifests import Manifests, Port
from tests.kit.seine import COMMAND, Mesh

PROTOCOL = {Mode.HTTP: "http", Mode.TCP: "tcp"}  # appProtocol of the Service's port


class Seine(Peer):
    shortcut = "disabled"

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        lab, app = place.client.lab, place.app
        manifests = Manifests(place.directory / "source", lab)
        for pod in (place.client, place.server):
            skipped = self.skipped()
            annotations = {"seine.dev/shortcut": self.shortcut}
            manifests.pod(pod, skip_inbound=skipped, skip_outbound=skipped, annotations=annotations)
        port = Port(app.port, app_protocol=PROTOCOL[place.mode])
        self.vip = manifests.service("web", port, backends=[place.server])[0]
        self.mesh = Mesh(
            lab,
            manifests,
            workers=place.threads,
            reconcile_seconds=AgentConfig.reconcile_seconds,  # tests are hastier
            prove_seconds=AgentConfig.prove_seconds,
            log_level=AgentConfig.log_level,
        )

    def skipped(self) -> tuple[int, ...]:
        """Ports that both pods exempt from capture."""
        return ()

    def start(self) -> None:
        self.mesh.__enter__()
        self.mesh.wait_captured(self.place.client, self.place.server)

    def address(self) -> tuple[str, int]:
        return self.vip, self.place.app.port

    def processes(self) -> list[int]:
        return self.mesh.processes()

    def carried(self) -> int:
        client = self.place.client
        if self.place.mode is Mode.TCP:
            return self.mesh.carried(client)
        samples = self.mesh.metrics()
        return int(samples.value("seine_requests_total", direction="outbound", source_workload=client.name))

    def version(self) -> str:
        return version()

    def stop(self) -> None:
        self.mesh.stop()


def version() -> str:
    done = subprocess.run([COMMAND, "version"], capture_output=True, text=True, timeout=10, check=True)
    return done.stdout.splitlines()[0].rpartition(" ")[2]
