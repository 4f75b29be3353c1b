"""Pods are in the mesh before their first packet: the CNI chain asks us, and the answer waits until the pod is in.

Bias: a pod starts. What cannot be done in time is the reconciler's, which finds the pod by its cgroup; only pods that
must never run outside of the mesh (`closed`, strict) are told to come again. The plugin's program and its entry in the
network configuration are looked after here too, as long as the agent lives; its end leaves them, as it leaves hooks.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter, deque
from pathlib import Path
from typing import NamedTuple, Protocol

from mesh.cni import chain, rules
from mesh.cni.chain import Chain, ChainError
from mesh.cni.conflist import entry
from mesh.cni.door import Door
from mesh.cni.question import Question
from mesh.config import AgentConfig
from mesh.enrolment import Enrolment
from mesh.model import FailMode, Mtls, Pod, Snapshot
from mesh.observe.status import CniStatus
from mesh.source import Places

log = logging.getLogger("seine.cni")
ANSWER_SECONDS = 4.0  # the plugin waits 5
LOOK_SECONDS = 1.0  # a configuration that somebody wrote anew is without us for as long
REPAIRS_KEPT = 20
SOCKET, NOTE = "cni.sock", "cni.places"  # in the run directory


class Tells(Protocol):
    """The source, as far as it can be told where a pod is."""

    async def place(self, namespace: str, name: str, uid: str, addresses: tuple[str, ...]) -> bool: ...


class _Awaited(NamedTuple):
    question: Question
    found: asyncio.Future[Pod | None]  # None: it does not ask for the mesh


class Arrivals:
    def __init__(self, config: AgentConfig, source: Tells, places: Places, enrolment: Enrolment) -> None:
        self._config, self._source, self._places, self._enrolment = config, source, places, enrolment
        path = config.run_dir / SOCKET
        self._door = Door(path, self.answer)
        self._paths = chain.Paths(Path(config.cni_conf), Path(config.cni_bin), config.cni_rules)
        self._chain = Chain(self._paths, entry(str(path), str(config.cni_rules), config.namespace))
        self._awaited: dict[str, _Awaited] = {}  # by uid
        self._closed: frozenset[str] | None = None  # namespaces, as the file of rules has them
        self.counts: Counter[str] = Counter()  # answers, by what became of the pod
        self.repairs: deque[str] = deque(maxlen=REPAIRS_KEPT)
        self.repairs_total = 0
        self.problem = ""  # a sentence: why new pods are not announced

    async def run(self) -> None:
        """For ever; until then the door is open, and afterwards plugins know at once that nobody is here."""
        self._paths.note(self._config.run_dir / NOTE)
        self._door.open()
        try:
            while True:
                self._look()
                await asyncio.sleep(LOOK_SECONDS)
        finally:
            await self._door.close()

    def _look(self) -> None:
        try:
            mended = self._chain.ensure()
        except ChainError as error:
            if str(error) != self.problem:
                log.error("%s; pods are enrolled a moment after their start", error)
            self.problem = str(error)
            return
        self.problem = ""
        for sentence in mended:
            log.warning("repaired: %s", sentence)
        self.repairs.extend(mended)
        self.repairs_total += len(mended)

    # --- answers

    async def answer(self, question: Question, netns: int) -> str:
        """Why the pod must not start now, or ""; see mesh.cni.door."""
        self._places.hand_in(question.uid, netns)
        awaited = _Awaited(question, asyncio.get_running_loop().create_future())
        self._awaited[question.uid] = awaited
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                await self._source.place(question.namespace, question.name, question.uid, question.addresses)
                return self._judge(question, await awaited.found)
        except TimeoutError:
            return self._late(question)
        finally:
            if self._awaited.get(question.uid) is awaited:
                del self._awaited[question.uid]
                self._places.take_back(question.uid)

    def brought(self, snapshot: Snapshot) -> None:
        """It is in effect: whoever waits for a pod of it gets his answer."""
        self._write_rules(snapshot.closed)
        if not self._awaited:
            return
        known = {workload.uid: workload for workload in snapshot.workloads}
        pods = {pod.workload.uid: pod for pod in snapshot.pods}
        for uid, (question, found) in self._awaited.items():
            workload, pod = known.get(uid), pods.get(uid)
            if found.done() or workload is None or not set(question.addresses) <= set(workload.addresses):
                continue
            if pod is None or not pod.enrolled or not self._places.waits(uid):
                found.set_result(pod)

    def _judge(self, question: Question, pod: Pod | None) -> str:
        if pod is None or not (pod.enrolled or pod.refused):
            self.counts["not_meshed"] += 1
            return ""
        if question.uid in self._enrolment.members:
            self.counts["enrolled"] += 1
            return ""
        why = self._enrolment.problems.get(question.uid, "it could not be enrolled")
        return self._outside(question, pod.fail_mode is FailMode.CLOSED or pod.mtls is Mtls.STRICT, why)

    def _late(self, question: Question) -> str:
        why = "its Pod object, or its enrolment, took too long"
        return self._outside(question, question.namespace in (self._closed or ()), why)

    def _outside(self, question: Question, closed: bool, why: str) -> str:
        """The pod cannot be enrolled now."""
        self.counts["refused" if closed else "started_outside"] += 1
        log.warning("pod %s %s: %s", question.title, "must wait" if closed else "starts outside of the mesh", why)
        return f"pod {question.title} may not start outside of the mesh: {why}" if closed else ""

    def _write_rules(self, closed: frozenset[str]) -> None:
        """What the plugin does while we are away. Our own namespace has no rule: it would wait for itself."""
        closed -= {self._config.namespace}
        if closed == self._closed:
            return
        try:
            path = self._config.cni_rules
            path.parent.mkdir(parents=True, exist_ok=True)
            chain.write(path, rules.text(closed).encode(), 0o644)
        except OSError as error:
            log.error("the rules for the CNI plugin cannot be written: %s: %s", error.filename, error.strerror)
            return
        self._closed = closed

    def status(self) -> CniStatus:
        refused = {f"door_{reason}": count for reason, count in self._door.refused.items()}
        return CniStatus(
            path=self._chain.path,
            problem=self.problem,
            repairs=tuple(self.repairs),
            repairs_total=self.repairs_total,
            counts={**self.counts, **refused},
        )
