"""Agent and workers are replaced, as an upgrade does it, under steady load: not one request fails.

One node, whose workers are another pod's: that of a launcher, which is ended and started anew as a DaemonSet's pod is,
with a time between in which there is no worker at all.
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.test_launcher import without_privilege
from tests.kit import apps, leftovers, spawn
from tests.kit.lab import Lab, Pod
from tests.kit.manifests import Manifests
from tests.kit.seine import COMMAND, Mesh
from tests.kit.wait import eventually

CLIENTS = 4
DRAIN_SECONDS = 10.0


class Steady:
    """Load from a pod (see tests/kit/steady.py)."""

    def __init__(self, pod: Pod, address: str) -> None:
        self.out = pod.lab.log_path("steady.json")
        psql = apps.postgres_bin() / "psql"
        self.process = apps.script(pod, "steady", address, 80, CLIENTS, self.out, psql, 5432)

    def seen(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.out.read_text()) if self.out.exists() else {"good": 0, "sessions": 0}
        return found

    def flows(self) -> None:
        """Wait until some more requests and sessions are done."""
        before = self.seen()

        def moved() -> bool:
            now = self.seen()
            return bool(now["good"] >= before["good"] + 20 and now["sessions"] >= before["sessions"] + 3)

        eventually(moved, "the load to flow", 30.0)

    def stop(self) -> dict[str, Any]:
        self.process.stop()
        return self.seen()


@dataclass
class Town:
    lab: Lab
    mesh: Mesh
    client: Pod
    vip: str
    launcher: spawn.Process

    def launch(self) -> None:
        self.launcher = launched(self.lab, self.mesh)

    def workers_up(self) -> bool:
        return all(worker["up"] for worker in self.mesh.status()["workers"])


def launched(lab: Lab, mesh: Mesh) -> spawn.Process:
    environment = {**mesh.settings, leftovers.MARK: mesh.mark}
    command = [str(COMMAND), "workers", "--node", mesh.node]
    return spawn.spawn(command, lab.log_path("launcher"), without_privilege, environment)


@pytest.fixture
def town(tmp_path: Path) -> Iterator[Town]:
    with Lab("upgrade") as lab:
        client, server = lab.pod("client"), lab.pod("server")
        apps.Nginx(server)
        apps.Postgres(server)
        manifests = Manifests(tmp_path, lab).pod(client).pod(server)
        vip, _ = manifests.service("shop", 80, 5432, backends=[server])
        mesh = Mesh(lab, manifests, external_workers="enabled", drain_seconds=DRAIN_SECONDS)
        town = Town(lab, mesh, client, vip, launched(lab, mesh))
        try:
            with mesh:
                mesh.wait_captured(client, server)
                mesh.wait_service("shop")
                yield town
                town.launcher.stop()
        finally:
            town.launcher.stop()


def test_no_request_fails_while_the_agent_and_then_the_workers_are_replaced(town: Town) -> None:
    load = Steady(town.client, town.vip)
    load.flows()
    town.mesh.agent.stop()
    load.flows()
    town.mesh.start()
    load.flows()
    before = town.mesh.carried(town.client)
    os.kill(town.launcher.pid, signal.SIGTERM)
    load.flows()
    assert town.launcher.wait(DRAIN_SECONDS + 5) == 0
    town.launch()
    eventually(town.workers_up, "the new workers", 10.0)
    load.flows()
    seen = load.stop()
    assert seen["failures"] == []
    assert seen["connections"] >= 2 * CLIENTS, "nobody was told to go"
    assert town.mesh.carried(town.client) > before


def test_a_long_session_does_not_keep_others_waiting_and_ends_with_the_time_to_drain(town: Town) -> None:
    """As the last worker goes, it lets in who comes."""
    target = f"host={town.vip} port=5432 user=postgres dbname=postgres sslmode=disable"
    psql = str(apps.postgres_bin() / "psql")
    sessions = [town.client.popen([psql, "-Xq", "-d", target, "-c", "SELECT pg_sleep(60)"]) for _ in range(4)]
    eventually(
        lambda: sum(each["gauges"]["connections"] for each in town.mesh.status()["workers"]) >= 4, "the sessions"
    )
    load = Steady(town.client, town.vip)
    load.flows()
    os.kill(town.launcher.pid, signal.SIGTERM)
    load.flows()
    load.flows()
    assert town.launcher.wait(DRAIN_SECONDS + 5) == 0
    town.launch()
    load.flows()
    assert load.stop()["failures"] == []
    for session in sessions:
        assert session.wait(5) != 0
