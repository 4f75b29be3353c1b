"""Two nodes with an agent each, and one set of Kubernetes objects that both follow.

    with Lab("pair") as lab, TwoNodes(lab, directory) as town:
        client, web = town.pod("client", town.a), town.pod("web", town.b)
        vips = town.manifests.service("web", 80, backends=[web])
        town.wait_captured(client, web)
        town.wait_introduced()

Each agent runs in its node's network namespace and takes the pods that name its node; what it says of itself to the
others (its MeshNode) goes into the same directory. Settings of one node only: `town.mesh[town.a].settings`, before the
agents start.
"""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.kit.lab import Lab, Pod
from tests.kit.manifests import Manifests
from tests.kit.network import Node
from tests.kit.seine import Mesh
from tests.kit.wait import eventually


class TwoNodes:
    def __init__(self, lab: Lab, directory: Path, routed: bool = True, **settings: object) -> None:
        """`settings`: of mesh.config.AgentConfig, by its own names, for both agents."""
        self.lab, self.manifests = lab, Manifests(directory, lab)
        self.a, self.b = lab.make_node("a", routed), lab.make_node("b", routed)
        self.mesh: dict[Node, Mesh] = {}
        for node in (self.a, self.b):
            publish = self.manifests.directory / f"meshnode-{node.name}.yaml"
            self.mesh[node] = Mesh(lab, self.manifests, node, publish=publish, **settings)

    def __enter__(self) -> Self:
        for mesh in self.mesh.values():
            mesh.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        for mesh in self.mesh.values():
            mesh.__exit__(kind, value, trace)

    def pod(self, name: str, node: Node, ipv6: bool = True, **written: Any) -> Pod:
        """A pod on that node, and its object (`written`: see Manifests.pod)."""
        pod = self.lab.pod(name, ipv6, node)
        self.manifests.pod(pod, **written)
        return pod

    def mesh_of(self, pod: Pod) -> Mesh:
        return self.mesh[pod.node]

    def wait_captured(self, *pods: Pod) -> None:
        for pod in pods:
            self.mesh_of(pod).wait_captured(pod)

    def wait_service(self, *names: str) -> None:
        """Until both agents know them."""
        for mesh in self.mesh.values():
            mesh.wait_service(*names)

    def wait_introduced(self) -> None:
        """Until each agent knows of every pod that the other one names: from then on they go by tunnel."""
        expected = {mesh: len(mesh.status()["pods"]) for mesh in self.mesh.values()}

        def known() -> bool:
            return all(
                sum(peer["workloads"] for peer in mesh.status()["peers"]) == sum(expected.values()) - own
                for mesh, own in expected.items()
            )

        eventually(known, "the agents to know each other's pods", 10.0)
