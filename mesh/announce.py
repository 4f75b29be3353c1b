"""Tells the other nodes which of our pods are in the mesh, whenever that changes; see mesh.control.mesh_node.

An agent that ends withdraws nothing: its workers serve on. One that starts goes on with what its predecessor said.
What somebody else removes or changes comes back: without it our pods would be reached in plaintext.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Protocol

from mesh.config import AgentConfig
from mesh.control import compile_mesh_node
from mesh.enrolment import Enrolment
from mesh.kube import publication
from mesh.kube.publication import FileBoard, PublicationError
from mesh.model import MeshNode
from mesh.watch import Watch

log = logging.getLogger("seine.agent")
LOOK_SECONDS = 0.2  # a newcomer is proven within as much
AGAIN_SECONDS = 1.0  # after a failure


class Board(Protocol):
    """Where the other nodes read it."""

    name: str

    async def former(self) -> MeshNode | None: ...
    async def say(self, node: MeshNode) -> None: ...
    def stands(self) -> bool: ...


class Announcement:
    def __init__(
        self, config: AgentConfig, enrolment: Enrolment, watch: Watch, ready: Callable[[], bool], board: Board | None
    ) -> None:
        """`ready`: the source was applied once; before that nobody is a member, and nobody was taken out."""
        self._node, self._enrolment, self._watch, self._ready = config.node, enrolment, watch, ready
        self.board = board
        self._transport = config.transport
        self._record = config.run_dir / "published"
        self.said: MeshNode | None = None  # by this agent
        self._before: frozenset[str] | None = None  # uids that the others know; None: not asked yet
        self.problem = ""  # a sentence: why the others do not know our latest state

    async def run(self) -> None:
        if self.board is None or not isinstance(self.board, FileBoard):
            await self._attempt(self._withdraw)
        while True:
            if self.board is not None and self._ready():
                await self._attempt(partial(self._look, self.board))
            await asyncio.sleep(AGAIN_SECONDS if self.problem else LOOK_SECONDS)

    async def _attempt(self, step: Callable[[], Awaitable[None]]) -> None:
        try:
            await step()
        except PublicationError as error:
            if str(error) != self.problem:
                log.error("%s", error)
            self.problem = str(error)
        else:
            self.problem = ""

    async def _withdraw(self) -> None:
        """The file of an agent that was told to write one."""
        publication.withdraw(self._record, self._node)

    async def _look(self, board: Board) -> None:
        if self._before is None:
            former = await board.former()
            self._before = frozenset(each.uid for each in former.workloads) if former else frozenset()
        members = self._enrolment.members.values()
        proven = {
            member.pod.workload.uid
            for member in members
            if self._enrolment.identity(member) and self._watch.proven(member)
        }
        pods = (member.pod for member in members)
        current = compile_mesh_node(self._node, pods, proven, self._before, self._transport)
        if current == self.said and board.stands():
            return
        await board.say(current)
        self.said, self._before = current, frozenset(each.uid for each in current.workloads)
        log.info("the other nodes are told of %d pods", len(current.workloads))
