"""Where the agent starts nobody: a launcher without any privilege starts whom the agent wants, and they outlive it."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.kit import leftovers, spawn
from tests.kit.lab import Lab
from tests.kit.manifests import Manifests
from tests.kit.seine import COMMAND, Mesh
from tests.kit.wait import eventually

UID = 65532


@dataclass
class Town:
    mesh: Mesh
    launcher: spawn.Process

    def pids(self) -> list[int]:
        """Workers, signer, QUIC process; 0 for who is not there."""
        status = self.mesh.status()
        workers = [worker["pid"] if worker["up"] else 0 for worker in status["workers"]]
        return [*workers, status["identity"]["signer"]["pid"], status["quic"]["pid"]]

    def wait_other(self, than: list[int], timeout: float = 10.0) -> None:
        """Until all are there, and each is another process than then."""

        def replaced() -> bool:
            now = self.pids()
            return all(now) and not set(now) & set(than)

        eventually(replaced, "their successors", timeout)

    def children(self) -> set[int]:
        text = Path(f"/proc/{self.launcher.pid}/task/{self.launcher.pid}/children").read_text()
        return set(map(int, text.split()))


def without_privilege() -> None:
    spawn.interruptible()
    os.setgroups([])
    os.setresgid(UID, UID, UID)
    os.setresuid(UID, UID, UID)


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    with Lab("launch") as lab:
        manifests = Manifests(tmp_path_factory.mktemp("source"), lab)
        mesh = Mesh(lab, manifests, external_workers="enabled", transport="quic", drain_second=9)
        command = [str(COMMAND), "workers", "--node", mesh.node]
        environment = {**mesh.settings, leftovers.MARK: mesh.mark}
        launcher = spawn.spawn(command, lab.log_path("launcher"), without_privilege, environment)
        try:
            with mesh:
                yield Town(mesh, launcher)
                launcher.stop()  # before it is cleaned up, or it would start them again
        finally:
            launcher.stop()


def test_whom_the_agent_wants_the_launcher_starts_again_and_again(town: Town) -> None:
    eventually(lambda: all(town.pids()), "all of them")
    before = town.pids()
    assert set(before) == town.children()
    for pid in before:
        os.kill(pid, signal.SIGKILL)
    town.wait_other(before)
    eventually(lambda: set(town.pids()) == town.children(), "exactly one process of each")


def test_a_misspelt_setting_is_told_by_the_agent_and_by_the_launcher(town: Town) -> None:
    told = "SEINE_DRAIN_SECOND is no setting and has no effect; SEINE_DRAIN_SECONDS is one"
    for output in (town.mesh.log(), town.launcher.output()):
        assert output.count("is no setting") == output.count(told) == 1


def test_they_outlive_the_agent_and_the_next_one_adopts_them(town: Town) -> None:
    eventually(lambda: all(town.pids()), "all of them")
    before = town.pids()
    town.mesh.kill_agent()
    town.mesh.heal()
    eventually(lambda: town.pids() == before, "all to be adopted")


def test_who_hangs_the_agent_kills(town: Town) -> None:
    eventually(lambda: all(town.pids()), "all of them")
    before = town.pids()
    for pid in before:
        os.kill(pid, signal.SIGSTOP)
    town.wait_other(before, 15.0)


def test_told_to_end_it_ends_all_of_them(town: Town) -> None:
    eventually(lambda: all(town.pids()), "all of them")
    os.kill(town.launcher.pid, signal.SIGTERM)
    assert town.launcher.wait(15.0) == 0
    eventually(lambda: not any(town.pids()), "all to be gone")
