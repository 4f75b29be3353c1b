"""This node's MeshNode and its Lease on the API server: who is in the mesh here, and that somebody still says so.

Both by server-side apply, so that there is no difference between making and changing them, and what others write beside
our fields stays. The Lease is renewed rarely, because an idle agent should cost the server next to nothing; what an
agent lists holds until its Node object is gone, and then the controller takes the list away, not each reader.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import msgspec

from mesh.kube.api.access import Access
from mesh.kube.api.events import event
from mesh.kube.api.requests import CONFLICT, MISSING, ApiFailure, Requests
from mesh.kube.api.watching import kind_of
from mesh.kube.mesh_node import MeshNodeFacts, mesh_node
from mesh.kube.objects import MeshNode as RawMeshNode
from mesh.kube.parse import parse
from mesh.kube.publication import PublicationError
from mesh.kube.settings import BadField
from mesh.model import MeshNode

log = logging.getLogger("seine.source")
MANAGER = "seine-agent"
RENEW_SECONDS = 30.0
LEASE_SECONDS = 120  # three may be lost
ECHO_SECONDS = 5.0  # what we say comes back by the watch, in milliseconds, or later when the server is busy


class ApiBoard:
    """`heard`: our own MeshNode as the source knows it; `home`: the uid of our own Namespace, likewise."""

    def __init__(
        self,
        access: Access,
        node: str,
        namespace: str,
        heard: Callable[[], MeshNode | None],
        home: Callable[[], str] = lambda: "",
    ) -> None:
        self.name = f"MeshNode {node}"
        self._node, self._namespace, self._heard, self._home = node, namespace, heard, home
        self._requests = Requests(access, MANAGER)
        self._said: MeshNode | None = None
        self._said_at = 0.0

    @property
    def _path(self) -> str:
        return f"{kind_of('MeshNode').path}/{self._node}"

    async def former(self) -> MeshNode | None:
        """What a former agent of this node said. Raises PublicationError."""
        try:
            there = await self._requests.find(self._path)
        except ApiFailure as failure:
            raise _unsaid(failure) from None
        if there is None:
            return None
        try:
            found = parse(msgspec.convert(there, RawMeshNode))
        except (msgspec.ValidationError, BadField):  # somebody else wrote it; ours will stand in its place
            return None
        return found.node if isinstance(found, MeshNodeFacts) else None

    async def say(self, node: MeshNode) -> None:
        """Raises PublicationError."""
        try:
            await self._requests.apply(self._path, mesh_node(node, (self._namespace, self._home())))
        except ApiFailure as failure:
            raise _unsaid(failure) from None
        self._said, self._said_at = node, time.monotonic()

    def stands(self) -> bool:
        """Whether the others can still read what we said last."""
        heard = self._heard()
        same = heard is not None and self._said is not None and mesh_node(heard) == mesh_node(self._said)
        return same or time.monotonic() - self._said_at < ECHO_SECONDS

    async def tell(self, uid: str, namespace: str, name: str, reason: str, message: str, warning: bool) -> None:
        """An Event about a pod; said before, it is not said again. Raises PublicationError."""
        made = event(self._node, uid, namespace, name, reason, message, warning, datetime.now(UTC))
        try:
            await self._requests.create(f"/api/v1/namespaces/{namespace}/events", made)
        except ApiFailure as failure:
            if failure.code not in (CONFLICT, MISSING):  # said before; the pod is gone, and its namespace too
                raise PublicationError(str(failure)) from None

    def close(self) -> None:
        self._requests.close()

    async def run(self) -> None:
        """Renews the Lease, for ever. That it fails is told once; the API server's absence is told elsewhere too."""
        told = ""
        while True:
            try:
                await self._requests.apply(self._lease_path, lease(self._node, self._namespace, datetime.now(UTC)))
                told = ""
            except ApiFailure as failure:
                if str(failure) != told:
                    log.warning("the Lease of this node is not renewed: %s", failure)
                told = str(failure)
            await asyncio.sleep(RENEW_SECONDS)

    @property
    def _lease_path(self) -> str:
        return f"/apis/coordination.k8s.io/v1/namespaces/{self._namespace}/leases/{lease_name(self._node)}"


def _unsaid(failure: ApiFailure) -> PublicationError:
    return PublicationError(f"{failure}; the others know the last one")


def lease_name(node: str) -> str:
    return f"seine-agent-{node}"


def lease(node: str, namespace: str, now: datetime) -> dict[str, Any]:
    return {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {"name": lease_name(node), "namespace": namespace},
        "spec": {
            "holderIdentity": node,
            "leaseDurationSeconds": LEASE_SECONDS,
            "renewTime": now.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        },
    }
