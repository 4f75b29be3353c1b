"""What the mesh's processes are: an agent without a compiler in its memory, workers without any privilege.

And what their counters are: kept where a dead worker's successor goes on counting.
"""

import os
import re
import resource
import socket
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.kit import apps
from tests.kit.lab import Lab, Pod
from tests.kit.manifests import Manifests
from tests.kit.seine import Mesh
from tests.kit.wait import eventually

WORKER_UID = 65532


@dataclass
class Town:
    lab: Lab
    mesh: Mesh
    client: Pod
    server: Pod
    vip: str


@pytest.fixture(scope="module")
def town():
    with Lab("proc") as lab:
        client, server = lab.pod("client"), lab.pod("server")
        apps.Talk(server)
        manifests = Manifests(lab.directory / "source", lab).pod(client).pod(server)
        vip, _ = manifests.service("talk", 7000, backends=[server])
        with Mesh(lab, manifests) as mesh:
            mesh.wait_captured(client, server)
            mesh.wait_service("talk")
            yield Town(lab, mesh, client, server, vip)


def status_of(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def loaded_by(pid: int) -> str:
    return Path(f"/proc/{pid}/maps").read_text()


def talk(town: Town, times: int) -> None:
    for _ in range(times):
        with town.client.connect(town.vip, 7000) as sock:
            sock.sendall(b"who\n")
            assert sock.recv(1000)


def test_the_agent_compiles_in_a_child_and_keeps_no_compiler(town):
    assert "libbcc" not in loaded_by(town.mesh.agent.pid)
    assert "LLVM" not in loaded_by(town.mesh.agent.pid)


def test_workers_have_no_privilege_and_cannot_get_any(town):
    for pid in town.mesh.worker_pids().values():
        status = status_of(pid)
        assert status["Uid"].split() == [str(WORKER_UID)] * 4
        assert status["Gid"].split() == [str(WORKER_UID)] * 4
        assert status["Groups"] == ""
        assert {status[name] for name in ("CapPrm", "CapEff", "CapInh", "CapBnd", "CapAmb")} == {"0" * 16}
        assert status["NoNewPrivs"] == "1"


def test_workers_are_sessions_of_their_own_and_share_no_terminal_with_the_agent(town):
    for pid in town.mesh.worker_pids().values():
        assert os.getsid(pid) == pid


def test_a_stranger_at_the_workers_door_is_turned_away(town):
    """Whoever is not the workers' uid, root included: it would be handed sockets of pods."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(5)
        sock.connect(str(town.mesh.run_dir / "agent.sock"))
        assert sock.recv(1) == b""


def test_counters_never_go_backwards_when_a_worker_dies(town):
    """Over three deaths, with traffic between them: every counter of every family only grows."""
    before = counters(town)
    for number in (0, 1, 0):
        talk(town, 10)
        dead = town.mesh.worker_pids()[number]
        town.mesh.kill_worker(number)
        town.mesh.wait_replaced(number, dead)
        eventually(lambda: all(worker["up"] for worker in town.mesh.status()["workers"]), "both workers")
        now = counters(town)
        went_back = {key: (value, now.get(key)) for key, value in before.items() if now.get(key, -1) < value}
        assert went_back == {}
        before = now


def counters(town: Town) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """All samples of counters and of histograms' counts."""
    kinds = ("_total", "_count", "_bucket")
    samples = town.mesh.metrics().samples
    return {(s.name, frozenset(s.labels.items())): s.value for s in samples if s.name.endswith(kinds)}


def test_a_connection_that_a_dead_worker_held_is_not_shown_as_open_for_ever(town):
    sock = town.client.connect(town.vip, 7000)
    with sock:
        sock.sendall(b"who\n")
        assert sock.recv(1000)
        for number, pid in town.mesh.worker_pids().items():
            town.mesh.kill_worker(number)
            town.mesh.wait_replaced(number, pid)
    eventually(
        lambda: town.mesh.metrics().value("seine_connections_open", source_workload="client") == 0,
        "no connection to be counted as open",
    )


def test_a_shells_low_limit_of_open_files_does_not_limit_agent_and_workers(town):
    """Connections, and the sockets held for each pod, would end after some hundred."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    town.mesh.kill_everything()
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard - 1, hard))
    try:
        town.mesh.start()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    for pid in (town.mesh.agent.pid, *town.mesh.worker_pids().values()):
        assert re.search(rf"Max open files +{hard} +{hard} ", Path(f"/proc/{pid}/limits").read_text())
    town.mesh.wait_captured(town.client, town.server)


def test_what_an_operator_sets_of_the_engine_is_told_to_workers_that_live_on(town):
    workers = town.mesh.worker_pids()
    town.mesh.agent.stop()
    town.mesh.settings["SEINE_IDLE_TIMEOUT_SECONDS"] = "1"
    try:
        town.mesh.start()
        assert town.mesh.worker_pids() == workers
        with town.client.connect(town.vip, 7000) as sock:
            sock.settimeout(10)
            with pytest.raises(ConnectionResetError):
                sock.recv(1)
    finally:
        del town.mesh.settings["SEINE_IDLE_TIMEOUT_SECONDS"]
        town.mesh.agent.stop()
        town.mesh.start()
