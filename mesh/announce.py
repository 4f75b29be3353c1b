"""Tells the other nodes which of our pods are in the mesh, whenever that changes; see mesh.control.mesh_node.

An agent that ends withdraws nothing: its workers serve on. One that starts goes on with what its predecessor said.
What somebody else removes or changes comes back: without it our pods would be reached in plaintext.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path

from mesh.config import AgentConfig
from mesh.control import compile_mesh_node
from mesh.enrolment import Enrolment
from mesh.kube import publication
from mesh.kube.directory import Fingerprint, fingerprint
from mesh.kube.publication import PublicationError
from mesh.model import MeshNode
from mesh.watch import Watch

log = logging.getLogger("seine.agent")
LOOK_SECONDS = 0.2  # a newcomer is proven within as much


class Announcement:
    def __init__(self, config: AgentConfig, enrolment: Enrolment, watch: Watch, ready: Callable[[], bool]) -> None:
        """`ready`: the source was applied once; before that nobody is a member, and nobody was taken out."""
        self._node, self._enrolment, self._watch, self._ready = config.node, enrolment, watch, ready
        self._path = Path(config.publish) if config.publish else None
        self._record = config.run_dir / "published"
        self.said: MeshNode | None = None  # by this agent
        self._written: Fingerprint | None = None
        self._before: frozenset[str] = frozenset()  # uids that the others know
        self.problem = ""  # a sentence: why the others do not know our latest state

    async def run(self) -> None:
        self._attempt(self._begin)
        while True:
            if self._path is not None and self._ready():
                self._attempt(self._look)
            await asyncio.sleep(LOOK_SECONDS)

    def _attempt(self, step: Callable[[], None]) -> None:
        try:
            step()
        except PublicationError as error:
            if str(error) != self.problem:
                log.error("%s", error)
            self.problem = str(error)
        else:
            self.problem = ""

    def _begin(self) -> None:
        if self._path is None:
            publication.withdraw(self._record, self._node)
        elif (former := publication.published(self._path, self._node)) is not None:
            self._before = frozenset(each.uid for each in former.workloads)

    def _look(self) -> None:
        members = [member for member in self._enrolment.members.values() if self._enrolment.identity(member)]
        proven = {member.pod.workload.uid for member in members if self._watch.proven(member)}
        current = compile_mesh_node(self._node, (member.pod for member in members), proven, self._before)
        assert self._path is not None
        if current == self.said and fingerprint(self._path) == self._written:
            return
        publication.publish(self._path, current, self._record)
        self.said, self._written = current, fingerprint(self._path)
        self._before = frozenset(each.uid for each in current.workloads)
        log.info("the other nodes are told of %d pods", len(current.workloads))
