"""Takes away what agents of nodes said that are gone: MeshNode, Lease and record. For the leader.

Only the absence of the Node object counts. An agent that is silent may be dead while its workers serve on: without its
list others would reach its pods in plaintext. A list that vanishes holds with everybody who knew it, so that it says
goodbye first, by being empty, and goes at the next look. One node is looked up at a time, in turn.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from urllib.parse import quote

from mesh.controlplane.keeping import RECORD, Keeping
from mesh.kube.api.publication import lease_name
from mesh.kube.api.requests import ApiFailure, Requests
from mesh.kube.api.watching import kind_of

log = logging.getLogger("seine.controller")
TURN_SECONDS = 1.0  # a thousand nodes take a quarter of an hour
ROUND_SECONDS = 60.0  # few nodes are not looked up more often


class Departed:
    def __init__(self, requests: Requests, keeping: Keeping, leads: Callable[[], bool]) -> None:
        self._requests, self._keeping, self._leads = requests, keeping, leads
        self.removed = 0
        self.failures = 0
        self._told = False  # that it cannot be known; sentences name the node, and differ

    async def run(self) -> None:
        while True:
            began = asyncio.get_running_loop().time()
            for node in self._keeping.recorded():
                if self._leads():
                    await self._attempt(node)
                await asyncio.sleep(TURN_SECONDS)
            spent = asyncio.get_running_loop().time() - began
            await asyncio.sleep(max(TURN_SECONDS, ROUND_SECONDS - spent))

    async def _attempt(self, node: str) -> None:
        try:
            await self.look(node)
        except ApiFailure as failure:
            self.failures += 1
            if not self._told:
                log.warning("whether nodes are gone cannot be known: %s", failure)
            self._told = True
        else:
            self._told = False

    async def look(self, node: str) -> None:
        """Raises ApiFailure. The record goes last: as long as it is there, the rest is tried again."""
        if await self._requests.find(f"/api/v1/nodes/{quote(node)}") is not None:
            return
        home, listing = self._keeping.namespace, f"{kind_of('MeshNode').path}/{quote(node)}"
        if ((await self._requests.find(listing) or {}).get("spec") or {}).get("workloads"):
            await self._requests.merge(listing, {"spec": {"workloads": []}})
            log.info("node %s is gone; its pods are no longer in the mesh", node)
            return
        await self._requests.delete(listing)
        await self._requests.delete(f"/apis/coordination.k8s.io/v1/namespaces/{home}/leases/{quote(lease_name(node))}")
        await self._requests.delete(f"/api/v1/namespaces/{home}/configmaps/{RECORD}{quote(node)}")
        self.removed += 1
        log.info("node %s is gone, and what its agent said with it", node)
