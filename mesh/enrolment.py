"""Which pods are in the mesh now: the wanted ones, as far as their namespaces exist, made so step by step.

Order is everything here. In: listeners, workers, plans, destinations, and only then the hooks, so that nothing is
captured that nobody can carry. Out: the hooks first. A pod is known by its namespace's cookie, which no two
namespaces of one boot share; a slot is its index in the kernel's tables and survives the agent in pinned maps.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Iterable, Mapping

import msgspec

from mesh.capture import PODS_MAX, Kernel, KernelError
from mesh.capture.sockets import SocketFactory
from mesh.config import AgentConfig, Switch
from mesh.control import DestinationCompiler, Peer, PlanCompiler, compile_peers, compile_policies, compile_sources
from mesh.control.baggage import describe
from mesh.control.memo import Memo
from mesh.forward.fleet import Fleet, ServedPod
from mesh.forward.messages import AddPod
from mesh.model import Destination, Direction, Pod, Snapshot, Source
from mesh.node import netns

log = logging.getLogger("seine.agent")


class Member(msgspec.Struct):
    """A pod that is in."""

    pod: Pod
    slot: int
    cookie: int
    inode: int


class Enrolment:
    def __init__(
        self,
        config: AgentConfig,
        kernel: Kernel,
        factory: SocketFactory,
        fleet: Fleet,
        certified: Callable[[str], bool],
    ) -> None:
        """`certified`: whether there is a certificate of that SPIFFE id."""
        self._config, self._kernel, self._factory, self._fleet = config, kernel, factory, fleet
        self._certified = certified
        self._lock = asyncio.Lock()
        self._plans, self._destinations = PlanCompiler(), DestinationCompiler()
        self._peers: Memo[dict[str, Peer]] = Memo()
        self._sources: Memo[dict[str, Source]] = Memo()
        self.members: dict[str, Member] = {}  # by workload uid
        self.problems: dict[str, str] = {}  # uid -> why a pod that should be in is not
        self._told: dict[str, str] = {}  # the same problem is logged once, not at every look
        self.destinations: Mapping[tuple[str, int], Destination] = {}  # what the connect hook knows

    async def apply(self, snapshot: Snapshot) -> None:
        """Make the node as the snapshot wants it. Safe to call again with the same one: it repairs."""
        async with self._lock:
            wanted = {pod.workload.uid: pod for pod in snapshot.pods if pod.enrolled and not pod.refused}
            self.problems = {pod.workload.uid: pod.refused for pod in snapshot.pods if pod.refused}
            self._remove(uid for uid in list(self.members) if not self._stays(uid, wanted))
            self._identify()
            entering = [member for pod in wanted.values() if (member := await self._prepare(pod))]
            self._compile(snapshot)
            for member in entering:
                self._admit(member)
            self._fleet.synced()
            self._forget_strangers()

    def _stays(self, uid: str, wanted: dict[str, Pod]) -> bool:
        member, pod = self.members[uid], wanted.get(uid)
        return pod is not None and pod.netns == member.pod.netns and not netns.gone(pod.netns, member.inode)

    def _remove(self, uids: Iterable[str]) -> None:
        for uid in uids:
            member = self.members.pop(uid)
            self._kernel.unenrol(member.slot)
            gone = netns.gone(member.pod.netns, member.inode)
            self._fleet.remove_pod(member.slot, close_connections=gone)
            log.info("pod %s left the mesh%s", uid, " with its network namespace" if gone else "")

    async def _prepare(self, pod: Pod) -> Member | None:
        """Listeners made and told to the workers; None when there is nothing to do or it cannot be done."""
        uid = pod.workload.uid
        if (known := self.members.get(uid)) is not None and known.pod == pod:
            return None
        try:
            if not pod.netns:
                raise OSError("none of its containers runs yet, so its network namespace is not known")
            if netns.is_host(pod.netns):
                raise OSError("its network namespace is the host's; all host-network pods share it")
            cookie, inode = netns.cookie(pod.netns), netns.inode(pod.netns)
            slot = known.slot if known else self._slot(cookie)
            listeners = await self._listeners(pod, slot, cookie, known)
        except OSError as error:
            self._refuse(uid, error.strerror or str(error))
            return None
        member = Member(pod, slot, cookie, inode)
        self.members[uid] = member
        told = AddPod(
            slot=slot,
            cookie=cookie,
            source=pod.workload.id,
            addresses=pod.workload.addresses,
            opaque_ports=tuple(sorted(pod.opaque_ports)),
            identity=self._name(pod),
            principal=pod.workload.identity(self._config.trust_domain),
            mtls=pod.mtls,
            baggage=describe(pod.workload),
        )
        self._fleet.add_pod(ServedPod(told, pod.netns, listeners))
        return member

    def _name(self, pod: Pod) -> str:
        """Its SPIFFE id, once there is a certificate. It stays when that ends: then tunnels fail, and say why."""
        name = pod.workload.identity(self._config.trust_domain)
        member = self.members.get(pod.workload.uid)
        served = self._fleet.pods.get(member.slot) if member else None
        known = served is not None and served.told.identity == name
        return name if known or self._certified(name) else ""

    def _identify(self) -> None:
        """Pods that are in get their identity when its first certificate comes later than they did."""
        for member in self.members.values():
            served = self._fleet.pods[member.slot]
            if (name := self._name(member.pod)) != served.told.identity:
                told = msgspec.structs.replace(served.told, identity=name)
                self._fleet.add_pod(msgspec.structs.replace(served, told=told))

    def _refuse(self, uid: str, why: str) -> None:
        if self._told.get(uid) != why:
            log.error("pod %s cannot be enrolled: %s", uid, why)
        self.problems[uid] = self._told[uid] = why

    def _slot(self, cookie: int) -> int:
        """The slot that a former agent gave this namespace, or a free one."""
        found = self._kernel.slots()
        for slot, owner in found.items():
            if owner == cookie:
                return slot
        used = found.keys() | {member.slot for member in self.members.values()}
        free = next((slot for slot in range(PODS_MAX) if slot not in used), None)
        if free is None:
            raise OSError(f"all {PODS_MAX} places for pods of this node are taken")
        return free

    async def _listeners(self, pod: Pod, slot: int, cookie: int, known: Member | None) -> list[int]:
        if known is not None:
            return self._fleet.pods[slot].listeners
        owner, inherited = self._fleet.inherited.pop(slot, (0, []))
        if owner == cookie:
            return inherited
        for fd in inherited:
            os.close(fd)
        return list(await self._factory.listeners(pod.netns))

    def _compile(self, snapshot: Snapshot) -> None:
        slots = {uid: member.slot for uid, member in self.members.items()}
        local_tunnel = self._config.local_tunnel is Switch.ENABLED
        trust_domain, root = self._config.trust_domain, self._config.root_namespace
        peers = self._peers.of(
            (snapshot.nodes, snapshot.hosts, snapshot.pods, slots),
            lambda: compile_peers(snapshot, slots, trust_domain, local_tunnel),
        )
        self._fleet.set_policies(compile_policies(snapshot, slots, trust_domain, root))  # before anybody is led to them
        self._fleet.set_plans(self._plans.compile(snapshot, slots, peers))
        whom = (snapshot.nodes, snapshot.workloads, peers)
        self._fleet.set_sources(self._sources.of(whom, lambda: compile_sources(snapshot, peers)))
        self._lead(self._destinations.compile(snapshot, peers))

    def _lead(self, destinations: Mapping[tuple[str, int], Destination]) -> None:
        """To us, whoever asks for one of these."""
        if destinations is self.destinations:
            return
        try:
            self._kernel.set_destinations(destinations)
        except KernelError as error:  # what fits is in effect, and the rest goes direct
            self.problems["destinations"] = str(error)
            destinations = dict(destinations)  # another one: the next time it is tried again
        self.destinations = destinations

    def _admit(self, member: Member) -> None:
        uid = member.pod.workload.uid
        try:
            self.enter(member)
        except (OSError, KernelError) as error:  # the namespace went meanwhile, or a table is full
            self._remove([uid])
            self._refuse(uid, getattr(error, "strerror", None) or str(error))
            return
        self._told.pop(uid, None)
        log.info("pod %s is in the mesh, slot %d", uid, member.slot)

    def enter(self, member: Member) -> None:
        """The kernel's part, last of all. Again is fine: it puts back what somebody took away."""
        listeners = self._fleet.pods[member.slot].listeners
        for direction, fd in zip(Direction, listeners, strict=True):
            self._kernel.set_listener(member.slot, direction, fd)
        namespace = os.open(member.pod.netns, os.O_RDONLY | os.O_CLOEXEC)
        try:
            self._kernel.enrol(member.slot, member.pod, namespace, member.cookie)
        finally:
            os.close(namespace)

    def identity(self, member: Member) -> str:
        """The SPIFFE id that its tunnels are served with; empty when it has none (yet)."""
        return self._fleet.pods[member.slot].told.identity

    def _forget_strangers(self) -> None:
        """Slots that a former agent filled and that nobody wants now."""
        ours = {member.slot for member in self.members.values()}
        for slot in self._kernel.slots().keys() - ours:
            self._kernel.unenrol(slot)
