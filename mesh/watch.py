"""Is every pod really captured? Proven again and again by trying, and mended when not.

What is remembered per pod is the last proof and its connections that go past us; the state is computed when asked
for, because whether a worker lives may have changed since. A failed proof is followed by a repair and a second look.
A pod that accepts mutual TLS only keeps no connection that goes past us: it is drained without being asked.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable

import msgspec

from mesh.capture import Kernel, KernelError
from mesh.capture.existing import Bypass, established
from mesh.capture.prover import Proof, prove, state_of
from mesh.capture.sockets import SocketFactory
from mesh.config import AgentConfig
from mesh.drains import Drains
from mesh.enrolment import Enrolment, Member
from mesh.model import Direction, Mtls, PodState
from mesh.observe.status import Draining

log = logging.getLogger("seine.agent")
REPAIRS_KEPT = 20
NEWCOMER_SECONDS = 0.2
PROOFS_AT_ONCE = 8  # each holds a child process for about 10 ms


class Watched(msgspec.Struct):
    member: Member
    proof: Proof
    bypasses: tuple[Bypass, ...] = ()


class Watch:
    def __init__(
        self,
        config: AgentConfig,
        kernel: Kernel,
        factory: SocketFactory,
        enrolment: Enrolment,
        beating: Callable[[], bool],
    ) -> None:
        self._config, self._kernel, self._factory, self._enrolment = config, kernel, factory, enrolment
        self._beating = beating
        self._pods: dict[str, Watched] = {}
        self._turn = asyncio.Semaphore(PROOFS_AT_ONCE)
        self.drains = Drains(config.drain_seconds, time.monotonic)
        self.repairs: deque[str] = deque(maxlen=REPAIRS_KEPT)
        self.repairs_total = 0

    async def run(self) -> None:
        """All pods every `prove_seconds`; one that just came in or was changed, at once."""
        due = 0.0
        while True:
            members = dict(self._enrolment.members)
            for uid in self._pods.keys() - members.keys():
                del self._pods[uid]
            self.drains.forget_all_but(members)
            now = asyncio.get_running_loop().time()
            everyone = now >= due
            if everyone:
                due = now + self._config.prove_seconds
                self._mend_shortcut()
            await asyncio.gather(*(self._look(member) for member in members.values() if everyone or self._new(member)))
            await asyncio.sleep(min(NEWCOMER_SECONDS, self._config.prove_seconds))

    def _new(self, member: Member) -> bool:
        watched = self._pods.get(member.pod.workload.uid)
        return watched is None or watched.member is not member

    async def _look(self, member: Member) -> None:
        async with self._turn:
            proof = await self._prove(member)
            if self._state(member, Watched(member, proof)) is PodState.LEAKING:
                self._mend(member)
                proof = await self._prove(member)
            if member.pod.workload.uid in self._enrolment.members:
                bypasses = await self._bypasses(member)
                self._pods[member.pod.workload.uid] = Watched(member, proof, bypasses)
                if bypasses and member.pod.mtls is Mtls.STRICT:
                    self.drains.begin(member.pod, bypasses)  # what came in plaintext by us is the engine's to end

    async def _prove(self, member: Member) -> Proof:
        return await prove(member.pod, node=self._config.node, factory=self._factory, effective=self._kernel.effective)

    def _mend(self, member: Member) -> None:
        """Put back what somebody took away: hooks, then this pod's own entries."""
        try:
            mended = self._kernel.repair()
            self._enrolment.enter(member)
        except (OSError, KernelError) as error:
            log.error("pod %s leaks and cannot be mended: %s", member.pod.workload.uid, error)
            return
        self._record(mended)

    def _mend_shortcut(self) -> None:
        """No pod leaks without its program: bytes merely go by TCP, which no proof would notice."""
        try:
            self._record(self._kernel.shortcut.attach())
        except KernelError as error:
            log.error("the kernel short-cut cannot be mended: %s", error)

    def _record(self, mended: list[str]) -> None:
        for sentence in mended:
            log.error("repaired: %s", sentence)
        self.repairs.extend(mended)
        self.repairs_total += len(mended)

    async def _established(self, member: Member) -> tuple[Bypass, ...]:
        """But for kubelet's probes, which go past us on purpose. Raises OSError."""
        found = await established(member.pod, self._kernel.cgroup, self._enrolment.destinations)
        return tuple(each for each in found if not self._is_probe(each))

    def _is_probe(self, bypass: Bypass) -> bool:
        one = bypass.connection
        return bypass.direction is Direction.INBOUND and self._kernel.is_probe(
            (one.peer, one.peer_port), (one.local, one.local_port)
        )

    async def _bypasses(self, member: Member) -> tuple[Bypass, ...]:
        try:
            return await self._established(member)
        except OSError as error:
            log.warning("the connections of pod %s cannot be listed: %s", member.pod.workload.uid, error)
            return ()

    # --- answers

    def _state(self, member: Member, watched: Watched) -> PodState:
        alive = self._beating() and all(self._kernel.has_listener(member.slot, direction) for direction in Direction)
        return state_of(watched.proof, alive, member.pod.fail_mode, len(watched.bypasses))

    def of(self, member: Member) -> tuple[PodState, int, str]:
        """State, number of connections that go past us, and a sentence when the state needs one."""
        watched = self._pods.get(member.pod.workload.uid)
        if watched is None:
            return PodState.PENDING, 0, "just enrolled; the first proof is on its way"
        state = self._state(member, watched)
        detail = watched.proof.detail
        if state is PodState.BYPASSING:
            detail = detail or self._bypassing(member)
        if state is PodState.OPEN and member.pod.mtls is Mtls.STRICT:
            detail = detail or "from outside nothing is accepted, because it is strict"
        return state, len(watched.bypasses), detail

    def _bypassing(self, member: Member) -> str:
        drain = self.drains.of(member.pod.workload.uid)
        if drain is not None and not drain.finished:
            return f"being drained: {drain.handled} of {drain.total} done, {drain.seconds_left:.0f} s left"
        return "connections older than the pod's enrolment go past the mesh; `seine drain` closes them"

    def proven(self, member: Member) -> bool:
        """Its capture was, at the last look."""
        watched = self._pods.get(member.pod.workload.uid)
        return watched is not None and watched.proof.good

    async def drain(self, member: Member) -> Draining:
        """Begin to close the connections that go past us. Raises OSError when they cannot be listed."""
        return self.drains.begin(member.pod, await self._established(member))
