"""Where the node's objects come from, as the settings say; where we tell the others of ours; and where its pods are.

A pod that says neither its network namespace nor its cgroup is looked for by its uid (mesh.node.sandboxes). One that is
not found yet stays in the snapshot without a namespace: it is being started, and the next look finds it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Protocol

from msgspec import structs

from mesh.announce import Board
from mesh.config import ROOTS_KEY, AgentConfig
from mesh.identity.authority import AuthorityError
from mesh.identity.remote import Roots, RootsFile
from mesh.kube.api.access import open_access
from mesh.kube.api.bundle import Text
from mesh.kube.api.publication import ApiBoard
from mesh.kube.api.requests import ApiFailure, Requests
from mesh.kube.api.source import KubernetesSource
from mesh.kube.directory import DirectorySource
from mesh.kube.publication import FileBoard
from mesh.model import Pod, Snapshot
from mesh.node.sandboxes import Sandboxes


class Source(Protocol):
    @property
    def name(self) -> str:
        """For people."""

    @property
    def looked_at(self) -> float:
        """When it was last heard of, by the monotonic clock."""

    @property
    def counts(self) -> dict[str, tuple[int, int]]:
        """By kind: times that all of it was listed, and failures."""

    def watch(self) -> AsyncIterator[Snapshot]:
        """What is there at once, then the whole again after each change, for ever."""


class BundledRoots:
    """Those that the controller publishes: asked for when they are needed, so a rotation finds no agent behind."""

    def __init__(self, config: AgentConfig) -> None:
        self._requests = Requests(open_access(config.kubeconfig), "seine-agent")
        self._text = Text(self._requests, config.namespace, config.authority_bundle, ROOTS_KEY)
        self._place = f"ConfigMap {config.namespace}/{config.authority_bundle}"

    async def read(self) -> str:
        try:
            return await self._text.read()
        except ApiFailure as failure:
            raise AuthorityError(f"{self._place}: no roots can be read: {failure}", "files") from None
        finally:
            self._requests.close()  # they are asked for so rarely

    def forget(self) -> None:
        self._text.forget()


def open_roots(config: AgentConfig) -> Roots:
    """By which an authority elsewhere proves itself."""
    return BundledRoots(config) if config.authority_bundle else RootsFile(config.authority_roots)


def open_source(config: AgentConfig) -> tuple[Source, Board | None]:
    """The source, and where we publish; None: nowhere."""
    if config.from_api:
        access = open_access(config.kubeconfig)
        source = KubernetesSource(access, config.node, config.api, config.mtls)
        home = partial(source.uid_of_namespace, config.namespace)
        return source, ApiBoard(access, config.node, config.namespace, source.own_mesh_node, home)
    keep = config.run_dir / "source"
    board = FileBoard(Path(config.publish), config.node, config.run_dir / "published") if config.publish else None
    return DirectorySource(config.source, config.node, config.files, keep=keep, mtls=config.mtls), board


class Places:
    """`root`: of the cgroup2 tree, to which pods' cgroups may be relative."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._sandboxes = Sandboxes(root)

    def located(self, snapshot: Snapshot) -> Snapshot:
        """With namespaces and absolute cgroups of this node's pods."""
        found = self._sandboxes.find([pod.workload.uid for pod in snapshot.pods if pod.enrolled and not pod.netns])
        pods: list[Pod] = []
        for pod in snapshot.pods:
            if (sandbox := found.get(pod.workload.uid)) is not None:
                pods.append(structs.replace(pod, netns=sandbox.netns, cgroup=sandbox.cgroup))
            else:
                pods.append(structs.replace(pod, cgroup=str(self._root / pod.cgroup)) if pod.cgroup else pod)
        return structs.replace(snapshot, pods=tuple(pods))

    def hand_in(self, uid: str, netns: int) -> None:
        """The namespace of a pod that is being started, as a descriptor; a copy is kept. Raises OSError."""
        self._sandboxes.hand_in(uid, netns)

    def take_back(self, uid: str) -> None:
        self._sandboxes.take_back(uid)

    def waits(self, uid: str) -> bool:
        """Handed in, and in no snapshot yet in which the pod is enrolled."""
        return self._sandboxes.waits(uid)

    def close(self) -> None:
        self._sandboxes.close()
