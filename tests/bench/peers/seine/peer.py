"""Seine: an agent and its workers on the node, both pods enrolled, the client calls the Service's VIP.

Counter: /metrics, what the workers counted for the client. Started means proven: the agent's own prover says that both
pods are captured. Stopped means that hooks, pins, cgroup and workers are gone too, which is `seine clean`'s work.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from mesh.cli import client
from mesh.model import PodState
from mesh.observe import status
from tests.bench import proc
from tests.bench.peer import Mode, Peer
from tests.kit import leftovers, spawn
from tests.kit.wait import eventually

SEINE = [sys.executable, "-m", "mesh.cli"]
COUNTER = {Mode.HTTP: "seine_requests_total", Mode.TCP: "seine_connections_total"}
PROTOCOL = {Mode.HTTP: "http", Mode.TCP: "tcp"}  # appProtocol of the Service's port
READY_S = 20.0  # compiling the hooks takes one of them


class Seine(Peer):
    shortcut = "disabled"
    skip = ""  # ports that the pods exempt from capture

    def start(self) -> None:
        place = self.place
        source = place.directory / "source"
        source.mkdir(exist_ok=True)
        shutil.move(self._mesh(), source / "mesh.yaml")
        argv = [*SEINE, "agent", "--source", str(source), "--node", place.node, "--workers", str(place.threads)]
        argv += ["--metrics-address", "127.0.0.1:0"]
        log = place.client.lab.log_path("seine-agent")
        self.running = spawn.spawn(argv, log, env={leftovers.MARK: place.client.lab.name})
        eventually(self._proven, "Seine to capture both pods", READY_S)

    def _mesh(self) -> Path:
        client, server = self.place.client, self.place.server
        return self.configured(
            "mesh.yaml",
            Path(__file__).parent,
            client=client.ip,
            client_netns=client.netns,
            client_cgroup=str(client.cgroup),
            server_netns=server.netns,
            server_cgroup=str(server.cgroup),
            shortcut=self.shortcut,
            skip=self.skip,
            protocol=PROTOCOL[self.place.mode],
        )

    def _proven(self) -> bool:
        if self.running and not self.running.alive:
            raise RuntimeError(f"seine agent ended: {self.running.output()[-500:]}")
        try:
            document = status.decode(client.ask(client.run_dir(self.place.node), "/status"))
        except (client.AgentDown, client.AgentError):
            return False
        captured = [pod for pod in document.pods if pod.state is PodState.CAPTURED]
        return len(captured) == 2 and sum(worker.up for worker in document.workers) == self.place.threads

    def address(self) -> tuple[str, int]:
        return self.place.vip, self.place.app.port

    def carried(self) -> int:
        name = COUNTER[self.place.mode]
        text = client.ask(client.run_dir(self.place.node), "/metrics", query={"name[]": [name]}).decode()
        samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
        return int(sum(s.value for s in samples if s.name == name and s.labels["direction"] == "outbound"))

    def version(self) -> str:
        return subprocess.run([*SEINE, "version"], capture_output=True, text=True, check=True).stdout.strip()

    def stop(self) -> None:
        """The workers are sessions of their own and outlive their agent; they are ended by pid and start time."""
        mine = {pid: proc.started(pid) for pid in self.processes()}
        super().stop()
        cleaned = subprocess.run([*SEINE, "clean", "--node", self.place.node], capture_output=True, text=True)
        for pid, when in mine.items():
            if when and proc.started(pid) == when:
                os.kill(pid, signal.SIGKILL)
        if cleaned.returncode:
            raise RuntimeError(f"seine clean: {cleaned.stderr[-300:]}")
