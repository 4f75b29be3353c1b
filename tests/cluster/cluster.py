"""A whole cluster: up, asked by kubectl, down without a trace.

    with Cluster("shop") as cluster:
        cluster.apply(yaml)
        cluster.kubectl("rollout", "status", "deployment/web")

Invariant: whatever it is made of belongs to a lab of this process and goes with it (see tests/kit/lab.py).
"""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.cluster import binaries, images
from tests.cluster.api import Api, ApiError, Object
from tests.cluster.control import Control
from tests.cluster.kubernetes import Kubernetes
from tests.cluster.machine import Machine
from tests.cluster.node import Node
from tests.kit import leftovers
from tests.kit.lab import Lab
from tests.kit.wait import eventually

CONTROL_HOST, FIRST_NODE_HOST = 10, 11
NODES = ("node-a", "node-b")
READY_SECONDS = 60.0  # 6 s on an idle machine


class Cluster(Kubernetes):
    def __init__(self, name: str, routed: bool = True) -> None:
        """`routed`: the nodes know the ways to each other's pods; otherwise somebody has to tell them."""
        self._lab = Lab(name)
        self._routed = routed
        self.nodes: dict[str, Node] = {}
        self.program = binaries.folder() / "kubectl"

    def __enter__(self) -> Self:
        binaries.ensure()
        self._lab.__enter__()
        self.home = self._lab.directory
        try:
            self._build()
        except BaseException:
            self._lab.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lab.close()

    def _build(self) -> None:
        for root in leftovers.cgroup1_roots():
            self._lab.at_end(leftovers.remove_cgroup1, root / self._lab.name)
        self.control = Control(self._machine("control", CONTROL_HOST))
        for number, name in enumerate(NODES, 1):
            self.nodes[name] = Node(self._machine(name, FIRST_NODE_HOST + number - 1), self.control, number)
        for node in self.nodes.values():
            node.start_runtime()
        with ThreadPoolExecutor() as pool:
            loading = pool.submit(self.load, self._own_images())
            self.control.start_server()
            self.control.start_controllers()
            for node in self.nodes.values():
                node.start_kubelet()
            loading.result()
        self._route()
        self.apply(Path(__file__).with_name("coredns.yaml").read_text())
        eventually(self._is_ready, "both nodes and the default service account", READY_SECONDS)
        self.wait_rollout("deployment/coredns", "kube-system")

    def _machine(self, name: str, host: int) -> Machine:
        machine = Machine(self._lab, name, host)
        machine.build()
        return machine

    def _route(self) -> None:
        """The API server reaches pods, and is reached by them, in any case."""
        for node in self.nodes.values():
            others = [other.machine for other in self.nodes.values() if other is not node] if self._routed else []
            for machine in (self.control.machine, *others):
                node.routed_from(machine)

    def _own_images(self) -> list[Path]:
        made, place = binaries.folder(), self._lab.directory
        tools = images.programs("/bin/busybox", "/usr/bin/curl") | {"/bin/sh": Path("/bin/busybox")}
        return [
            images.pack(place / "pause.tar", images.PAUSE, ["/pause"], {"/pause": made / "pause"}),
            images.pack(place / "tools.tar", images.TOOLS, ["/bin/sh"], tools),
            images.pack(place / "coredns.tar", images.COREDNS, ["/coredns"], {"/coredns": made / "coredns"}),
        ]

    def _is_ready(self) -> bool:
        try:
            self.api.get("/api/v1/namespaces/default/serviceaccounts/default")
        except ApiError:
            return False
        return sum(map(_node_is_ready, self.api.items("/api/v1/nodes"))) == len(self.nodes)

    # --- use

    @property
    def lab(self) -> Lab:
        return self._lab

    @property
    def api(self) -> Api:
        return self.control.api

    @property
    def kubeconfig(self) -> Path:
        """The administrator's."""
        return self.control.certificates.path("admin.conf")

    def load(self, archives: Iterable[Path]) -> None:
        """Import images on every node, side by side."""
        wanted = list(archives)
        with ThreadPoolExecutor() as pool:
            list(pool.map(lambda node: node.load(wanted), self.nodes.values()))


def _node_is_ready(node: Object) -> bool:
    conditions = node.get("status", {}).get("conditions", [])
    return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)
