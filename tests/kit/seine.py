"""The mesh over a lab: `seine agent` as its users start it, with handles to hurt it.

    with Mesh(lab, manifests) as mesh:
        mesh.wait_state(client, "captured")
        mesh.kill_worker(0)

With `node` it is the agent of a node that the lab made, in that node's namespace (two_nodes.py has two of them).
Everything is asked from outside: status and metrics over the admin socket, process ids from the run directory, ends by
signals. Invariant: after `stop` (SIGTERM, then `seine clean`) no pin, cgroup, file or process of the node is left.
"""

from __future__ import annotations

import json
import os
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from mesh.cli import client
from tests.kit import leftovers, spawn
from tests.kit.lab import Lab, Pod
from tests.kit.manifests import Manifests
from tests.kit.network import Node
from tests.kit.wait import eventually

COMMAND = Path(sys.executable).with_name("seine")
READY_S = 20.0  # compiling BPF takes a second on an idle machine, and this one may be shared
# Quicker than the defaults, so that tests wait less; nothing here changes what is done.
HASTE = {"SEINE_RECONCILE_SECONDS": "0.1", "SEINE_PROVE_SECONDS": "0.5", "SEINE_LOG_LEVEL": "DEBUG"}

_WORKER = re.compile(r"mesh\.worker --worker (\d+)")

running: list[Mesh] = []  # for the report of a failed test


class Samples:
    """One scrape."""

    def __init__(self, text: str) -> None:
        self.samples = [s for family in text_string_to_metric_families(text) for s in family.samples]

    def value(self, name: str, **labels: str) -> float:
        """The sum over all samples of that name that have these labels."""
        return sum(s.value for s in self.samples if s.name == name and labels.items() <= s.labels.items())


class Mesh:
    def __init__(self, lab: Lab, manifests: Manifests, node: Node | None = None, **settings: object) -> None:
        """`settings`: of mesh.config.AgentConfig, by its own names."""
        self.lab, self.manifests, self.node = lab, manifests, node.name if node else lab.name
        self.mark = self.node  # every process of this agent, and no other's, carries it
        self._entering = node.entering() if node else spawn.interruptible
        own = {"SEINE_IDENTITY_DIR": str(lab.directory / "identity")}  # one for all nodes of the lab, gone with it
        self.settings = HASTE | own | {f"SEINE_{key.upper()}": str(value) for key, value in settings.items()}
        self.run_dir = leftovers.RUN / self.node
        self.process: spawn.Process | None = None
        self.logs: list[Path] = []

    def __enter__(self) -> Mesh:
        self.begin()
        self.wait_ready()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    # --- life

    def begin(self) -> None:
        """Start it for the first time, and wait for nothing."""
        running.append(self)
        self.lab.at_end(self.stop)
        self.process = self.launch()

    def launch(self) -> spawn.Process:
        """Start an agent and wait for nothing."""
        env = {**self.settings, "SEINE_ADMIN_PORT": "0", leftovers.MARK: self.mark}
        command = [str(COMMAND), "agent", "--source", str(self.manifests.directory), "--node", self.node]
        log = self.lab.log_path("agent")
        self.logs.append(log)
        return spawn.spawn(command, log, self._entering, env)

    def start(self) -> None:
        """Start the agent and wait until it and all its workers are ready."""
        self.process = self.launch()
        self.wait_ready()

    def wait_ready(self) -> None:
        def ready() -> bool:
            if not self.agent.alive:
                raise RuntimeError(f"the agent ended with status {self.agent.popen.returncode}\n{self.log()}")
            try:
                client.ask(self.run_dir, "/ready")
                return all(bool(worker["up"]) for worker in self.status()["workers"])
            except (client.AgentDown, client.AgentError):
                return False

        eventually(ready, "the agent to be ready", READY_S)

    def stop(self) -> None:
        """End it as an operator would, and prove that nothing is left. Safe to repeat."""
        if self not in running:
            return
        running.remove(self)
        try:
            self._continue()
            if self.process is not None:
                self.process.stop()
            done = self.seine("clean")
            assert done.returncode == 0, done.stdout + done.stderr
            eventually(lambda: not self.left(), "everything of the node to be gone")
        except TimeoutError:
            raise AssertionError(f"`seine clean` left {self.left()}") from None
        finally:
            self._sweep()

    def _continue(self) -> None:
        for pid in self.processes():
            signal_if_alive(pid, signal.SIGCONT)

    def _sweep(self) -> None:
        """A failing test must not leave its hooks on the machine."""
        for pid in self.processes():
            signal_if_alive(pid, signal.SIGKILL)
        for path in self._places():
            leftovers.remove(path)

    def _places(self) -> list[Path]:
        """Where this node has something outside the lab's pods."""
        places = [self.run_dir, leftovers.cgroup2_root() / f"seine-{self.node}"]
        places += [root / "seine" / self.node for root in leftovers.bpf_roots()]
        return [path for path in places if path.exists()]

    def left(self) -> list[str]:
        return [str(path) for path in self._places()] + [f"process {pid}" for pid in self.processes()]

    def processes(self) -> list[int]:
        """Agent, workers and helpers: what the lab started and no pod contains."""
        pods = {pid for pod in self.lab.pods.values() for pid in pod.processes()}
        return [pid for pid in leftovers.marked_with(self.mark) if pid not in pods]

    def heal(self) -> None:
        """After a test that hurt it: continue what was stopped, start what is dead, wait until all is well."""
        self._continue()
        if not self.agent.alive:
            self.start()
        else:
            self.wait_ready()

    # --- questions

    @property
    def agent(self) -> spawn.Process:
        assert self.process is not None, "the mesh was not started"
        return self.process

    def seine(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run another command of `seine` for this node."""
        command = [str(COMMAND), *arguments, "--node", self.node]
        return subprocess.run(
            command, capture_output=True, text=True, timeout=30, check=False, preexec_fn=self._entering
        )

    def status(self) -> dict[str, Any]:
        document: dict[str, Any] = json.loads(client.ask(self.run_dir, "/status"))
        return document

    def pod(self, pod: Pod) -> Mapping[str, Any]:
        """The pod's part of the status; empty when it is not listed."""
        found: list[dict[str, Any]] = [entry for entry in self.status()["pods"] if entry["name"] == pod.name]
        return found[0] if found else {}

    def wait_state(self, pod: Pod, state: str, timeout: float = 10.0) -> Mapping[str, Any]:
        """The pod's status once it is in that state ("" for: not listed)."""
        last: Mapping[str, Any] = {}

        def reached() -> bool:
            nonlocal last
            last = self.pod(pod)
            return bool(last.get("state", "") == state)

        try:
            eventually(reached, f"{pod} to be {state}", timeout)
        except TimeoutError as error:
            raise TimeoutError(f"{error}; its status is {last}") from None
        return last

    def wait_captured(self, *pods: Pod) -> None:
        for pod in pods:
            self.wait_state(pod, "captured")

    def wait_service(self, *names: str) -> None:
        """Until the agent has applied the Services: asking too early leads a client to where no mesh is."""

        def known() -> bool:
            return {service["name"] for service in self.status()["services"]} >= set(names)

        eventually(known, f"the Services {names} to be known")

    def heard(self) -> None:
        """Every worker has done what the agent told it until now: it is asked something, and answers in order."""
        client.ask(self.run_dir, "/dump")

    def metrics(self) -> Samples:
        return Samples(client.ask(self.run_dir, "/metrics").decode())

    def carried(self, pod: Pod, direction: str = "outbound") -> int:
        """Connections that workers accepted and whose source is the pod; the prover's are not among them."""
        value = self.metrics().value("seine_connections_total", direction=direction, source_workload=pod.name)
        return int(value)

    def wait_carried(self, pod: Pod, count: int, direction: str = "outbound") -> None:
        """Until exactly that many were carried, and not one more at that moment."""
        last = 0

        def enough() -> bool:
            nonlocal last
            last = self.carried(pod, direction)
            return last >= count

        try:
            eventually(enough, f"{pod} to have {count} connections carried")
        except TimeoutError as error:
            raise TimeoutError(f"{error}; they are {last}") from None
        assert last == count

    def log(self) -> str:
        return "\n".join(log.read_text(errors="replace") for log in self.logs)

    def worker_pids(self) -> dict[int, int]:
        """Living workers: number -> process id; asked of the machine, so that no agent is needed."""
        found = ((_WORKER.search(command), pid) for pid, command in leftovers.marked_with(self.mark).items())
        return {int(match[1]): pid for match, pid in found if match}

    def wait_replaced(self, number: int, pid: int) -> None:
        """Until another process than `pid` is that worker."""
        eventually(lambda: self.worker_pids().get(number, pid) != pid, f"a successor of worker {number}")

    def worker_gauge(self, number: int, name: str) -> int:
        """What a worker holds at this moment, for instance `connections`."""
        value: int = self.status()["workers"][number]["gauges"].get(name, 0)
        return value

    # --- harm

    def kill_worker(self, number: int) -> float:
        """SIGKILL; the monotonic time at which it surely was dead."""
        return kill_and_wait(self.worker_pids()[number])

    def kill_agent(self) -> float:
        """SIGKILL to the agent alone; its helpers and workers are left to themselves."""
        died = kill_and_wait(self.agent.pid)
        self.agent.popen.wait()
        return died

    def kill_everything(self) -> float:
        """SIGKILL to the agent (which would replace workers), then to all workers."""
        self.kill_agent()
        return max(kill_and_wait(pid) for pid in self.worker_pids().values())

    def freeze(self, *pids: int) -> None:
        """SIGSTOP, and wait until they are stopped."""
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        for pid in pids:
            eventually(partial(_is_stopped, pid), f"process {pid} to stop")


def _is_stopped(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


def signal_if_alive(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass


def kill_and_wait(pid: int) -> float:
    """SIGKILL and wait until all of the process is gone (a zombie has closed its sockets); the time then."""
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return time.monotonic()
    try:
        os.kill(pid, signal.SIGKILL)
        if not select.select([fd], [], [], 5)[0]:
            raise TimeoutError(f"process {pid} survives SIGKILL")
    finally:
        os.close(fd)
    return time.monotonic()
