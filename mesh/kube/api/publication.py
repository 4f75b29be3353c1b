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

from mesh.kube.api.access import Access, AccessError
from mesh.kube.api.client import Session
from mesh.kube.api.decode import Garbage, Gone, Refusal
from mesh.kube.api.events import event
from mesh.kube.api.http1 import BadResponse
from mesh.kube.api.watching import kind_of
from mesh.kube.mesh_node import MeshNodeFacts, mesh_node
from mesh.kube.objects import MeshNode as RawMeshNode
from mesh.kube.parse import parse
from mesh.kube.publication import PublicationError
from mesh.kube.settings import BadField
from mesh.model import MeshNode

log = logging.getLogger("seine.source")
ANSWER_SECONDS = 10.0
ANSWER_BYTES_MAX = 8 << 20
APPLY = "application/apply-patch+yaml"  # JSON is YAML
MANAGER = "fieldManager=seine-agent&force=true"
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
        self._sessions = [Session(access, ANSWER_SECONDS) for _ in range(3)]
        self._session, self._renewals, self._events = self._sessions
        self._said: MeshNode | None = None
        self._said_at = 0.0

    @property
    def _path(self) -> str:
        return f"{kind_of('MeshNode').path}/{self._node}"

    async def former(self) -> MeshNode | None:
        """What a former agent of this node said. Raises PublicationError."""
        status, content = await self._ask(self._session, self._path, good=(200, 404))
        if status == 404:
            return None
        try:
            found = parse(msgspec.json.decode(content, type=RawMeshNode))
        except (msgspec.DecodeError, BadField):  # somebody else wrote it; ours will stand in its place
            return None
        return found.node if isinstance(found, MeshNodeFacts) else None

    async def say(self, node: MeshNode) -> None:
        """Raises PublicationError."""
        await self._apply(self._session, self._path, mesh_node(node, (self._namespace, self._home())))
        self._said, self._said_at = node, time.monotonic()

    def stands(self) -> bool:
        """Whether the others can still read what we said last."""
        heard = self._heard()
        same = heard is not None and self._said is not None and mesh_node(heard) == mesh_node(self._said)
        return same or time.monotonic() - self._said_at < ECHO_SECONDS

    async def tell(self, uid: str, namespace: str, name: str, reason: str, message: str, warning: bool) -> None:
        """An Event about a pod; said before, it is not said again. Raises PublicationError."""
        made = event(self._node, uid, namespace, name, reason, message, warning, datetime.now(UTC))
        path = f"/api/v1/namespaces/{namespace}/events"
        await self._ask(
            self._events, path, "POST", msgspec.json.encode(made), good=(201, 404, 409)
        )  # 404: they are gone

    def close(self) -> None:
        for session in self._sessions:
            session.close()

    async def run(self) -> None:
        """Renews the Lease, for ever. That it fails is told once; the API server's absence is told elsewhere too."""
        told = ""
        while True:
            try:
                await self._apply(
                    self._renewals, self._lease_path, lease(self._node, self._namespace, datetime.now(UTC))
                )
                told = ""
            except PublicationError as error:
                if str(error) != told:
                    log.warning("the Lease of this node is not renewed: %s", error)
                told = str(error)
            await asyncio.sleep(RENEW_SECONDS)

    @property
    def _lease_path(self) -> str:
        return f"/apis/coordination.k8s.io/v1/namespaces/{self._namespace}/leases/{lease_name(self._node)}"

    async def _apply(self, session: Session, path: str, made: dict[str, Any]) -> None:
        await self._ask(session, f"{path}?{MANAGER}", "PATCH", msgspec.json.encode(made))

    async def _ask(
        self,
        session: Session,
        target: str,
        method: str = "GET",
        body: bytes = b"",
        good: tuple[int, ...] = (200, 201),
    ) -> tuple[int, bytes]:
        try:
            answer = await session.ask(target, method, body, APPLY if method == "PATCH" else "application/json")
            if answer.status not in good:
                raise await answer.refuse()
            return answer.status, await answer.read(ANSWER_BYTES_MAX)
        except (OSError, BadResponse, AccessError, Garbage, Gone, Refusal) as error:
            what = target.partition("?")[0]
            raise PublicationError(
                f"the API server does not take {what}: {error}; the others know the last one"
            ) from None


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
