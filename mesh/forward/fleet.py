"""The agent's side of its workers: what they should serve, told to each of them, and their requests answered.

State in, messages out: `pods` and `plans` are what every worker is to have; a worker that (re)connects is told all of
it. Listeners are shared by all workers, so a worker's death strands no connection that waits to be accepted.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence

import msgspec

from mesh.aio.channel import Channel, ChannelClosed, close_all
from mesh.aio.difference import difference
from mesh.forward import messages as say
from mesh.model import Authorization, Plan, Ruling, Source

log = logging.getLogger("seine.agent")
PLANS_PER_MESSAGE = 500
SOCKETS_PER_REQUEST_MAX = 250
SHOW_SECONDS = 1.0

PlanKey = tuple[str, int]
Hear = Callable[[Sequence[Ruling]], None]  # what policies said
MakeSockets = Callable[[str, int, int], Awaitable[list[int]]]  # netns path, family, count
OpenSigner = Callable[[], int | None]  # a socket to the signer, which is the caller's; None while there is none


class ServedPod(msgspec.Struct):
    """A pod as the workers know it; the listeners are the agent's own duplicates."""

    told: say.AddPod
    netns: str
    listeners: list[int]


class Member:
    """One connected worker."""

    def __init__(self, worker: int, pid: int, channel: Channel) -> None:
        self.worker, self.pid, self.channel = worker, pid, channel
        self.stock: dict[int, say.Level] = {}  # by slot, as last told
        self.early: dict[tuple[int, int], say.NeedSockets] = {}  # asked before the pod was enrolled again
        self.unplanned: list[say.NeedPlan] = []  # asked before the first plans were compiled
        self.carried: asyncio.Future[say.Carried] | None = None

    def say(self, message: say.Message, descriptors: list[int] | None = None) -> None:
        self.send(say.encode(message), descriptors)

    def send(self, encoded: bytes, descriptors: list[int] | None = None) -> None:
        try:
            self.channel.send(encoded, descriptors)
        except ChannelClosed:
            pass  # its conversation ends by itself, and whoever follows is told everything


class Fleet:
    def __init__(
        self,
        welcome: say.Welcome,
        make_sockets: MakeSockets,
        open_signer: OpenSigner,
        heartbeat_fd: int,
        hear: Hear = lambda _: None,
    ) -> None:
        self._welcome = welcome
        self._make_sockets, self._open_signer, self._hear = make_sockets, open_signer, hear
        self._heartbeat_fd = heartbeat_fd
        self._tasks: set[asyncio.Task[None]] = set()
        self._complete = False  # after a start: pods and plans are not all known yet, nobody may drop anything
        self._planned = (
            False  # likewise: nobody may be told that there is no plan, and pass to a tunnel's end without it
        )
        self.members: dict[int, Member] = {}
        self.pods: dict[int, ServedPod] = {}
        self.plans: Mapping[PlanKey, Plan] = {}
        self.policies: dict[int, Authorization] = {}  # by slot
        self.sources: Mapping[str, Source] = {}  # by address
        self.trust: say.SetTrust | None = None
        self.identities: dict[str, say.Identity] = {}  # by name
        self.inherited: dict[int, tuple[int, list[int]]] = {}  # slot -> netns cookie, listeners of living workers

    # --- what the workers should serve

    def _tell(self, message: say.Message, descriptors: list[int] | None = None) -> None:
        """Every worker."""
        encoded = say.encode(message)
        for member in self.members.values():
            member.send(encoded, descriptors)

    def add_pod(self, pod: ServedPod) -> None:
        self.pods[pod.told.slot] = pod
        self._tell(pod.told, pod.listeners)
        for member in self.members.values():
            for key in [key for key in member.early if key[0] == pod.told.slot]:
                self._spawn(self._stock(member, member.early.pop(key)))

    def remove_pod(self, slot: int, close_connections: bool) -> None:
        pod = self.pods.pop(slot)
        self._tell(say.RemovePod(slot=slot, close_connections=close_connections))
        close_all(pod.listeners)

    def set_plans(self, plans: Mapping[PlanKey, Plan]) -> None:
        """Tell every worker the difference to what they were told. Whoever gives them does not change them later."""
        changed, removed = difference(self.plans, plans)
        self.plans = plans
        for message in _of_plans(tuple(plans[key] for key in changed)):
            self._tell(message)
        if removed:
            self._tell(say.RemovePlans(keys=tuple(removed)))
        self._planned = True
        for member in self.members.values():
            while member.unplanned:
                self._answer(member, member.unplanned.pop(0))

    def set_policies(self, policies: Mapping[int, Authorization]) -> None:
        """Before the pods in these slots are captured."""
        slots = sorted(self.policies.keys() | policies.keys())
        changed = [slot for slot in slots if self.policies.get(slot) != policies.get(slot)]
        self.policies = dict(policies)
        for slot in changed:
            self._tell(say.SetPolicies(slot=slot, authorization=policies.get(slot)))

    def set_sources(self, sources: Mapping[str, Source]) -> None:
        changed, gone = difference(self.sources, sources)
        self.sources = sources
        if changed or gone:
            known = tuple((address, *sources[address]) for address in changed)
            self._tell(say.SetSources(known=known, gone=tuple(gone)))

    def set_trust(self, domain: str, roots: tuple[bytes, ...], denied: tuple[str, ...]) -> None:
        self.trust = say.SetTrust(domain=domain, roots=roots, denied=denied)
        self._tell(self.trust)

    def set_identities(self, chains: Mapping[str, tuple[bytes, ...]]) -> None:
        """Certificates as DER, leaf first, by SPIFFE id. Tells every worker the difference."""
        now = {name: say.Identity(name=name, chain=chain) for name, chain in chains.items()}
        known = tuple(identity for name, identity in now.items() if self.identities.get(name) != identity)
        gone = tuple(self.identities.keys() - now.keys())
        self.identities = now
        if known or gone:
            self._tell(say.SetIdentities(known=known, gone=gone))

    def renew_signer(self) -> None:
        """Another one is there."""
        for member in self.members.values():
            self._give_signer(member)

    def _give_signer(self, member: Member) -> None:
        if (fd := self._open_signer()) is not None:
            member.say(say.SetSigner(), [fd])
            os.close(fd)

    # --- conversations

    async def converse(self, channel: Channel, stats_of: Callable[[int], int], pid: int = 0) -> None:
        """Serve one worker until it is gone. `stats_of` opens the counter file of a worker number; `pid` as the kernel
        tells it, for a worker in a container knows only what it is called there."""
        member: Member | None = None
        try:
            hello, _ = await _receive(channel)
            if not isinstance(hello, say.Hello):
                raise ChannelClosed(f"a worker began with {type(hello).__name__} instead of Hello")
            for _ in range(hello.pods):
                have, listeners = await _receive(channel)
                self._inherit(have, listeners)
            member = self._join(hello, channel, stats_of, pid)
            while True:
                message, _ = await _receive(channel)
                self._answer(member, message)
                await asyncio.sleep(0)  # what a worker has sent at once must not keep the loop from everybody else
        except (ChannelClosed, msgspec.DecodeError) as end:
            log.info("worker %s left: %s", member.worker if member else "?", end)
        finally:
            channel.close()
            if member is not None and self.members.get(member.worker) is member:
                del self.members[member.worker]

    def _inherit(self, have: say.FromWorker, listeners: list[int]) -> None:
        """A worker that outlived the former agent hands back the listeners it serves."""
        if isinstance(have, say.HavePod) and have.slot not in self.inherited and not self._complete:
            self.inherited[have.slot] = (have.cookie, listeners)
        else:
            close_all(listeners)

    def _join(self, hello: say.Hello, channel: Channel, stats_of: Callable[[int], int], pid: int) -> Member:
        member = Member(hello.worker, pid or hello.pid, channel)
        former = self.members.get(hello.worker)
        if former is not None:
            former.channel.close()
        self.members[hello.worker] = member
        stats = stats_of(hello.worker)
        member.say(self._welcome, [stats, self._heartbeat_fd])
        os.close(stats)
        self._give_signer(member)
        if self.trust is not None:
            member.say(self.trust)
        if self.identities:
            member.say(say.SetIdentities(known=tuple(self.identities.values())))
        for slot, authorization in self.policies.items():
            member.say(say.SetPolicies(slot=slot, authorization=authorization))
        for pod in self.pods.values():
            member.say(pod.told, pod.listeners)
        for message in _of_plans(tuple(self.plans.values())):
            member.say(message)
        if self.sources:
            member.say(say.SetSources(known=tuple((address, *who) for address, who in self.sources.items())))
        if self._complete:
            member.say(say.Synced())
        return member

    def synced(self) -> None:
        """The first state is complete: what nobody took over is not wanted any more, here and in adopted workers."""
        self._complete = True
        for member in self.members.values():
            member.early.clear()
        for _, listeners in self.inherited.values():
            close_all(listeners)
        self.inherited.clear()
        for member in self.members.values():
            member.say(say.Synced())

    async def show(self, limit: int) -> dict[int, say.Carried | None]:
        """What each worker carries now; None for one that does not answer in time."""
        loop = asyncio.get_running_loop()
        asked = list(self.members.values())
        for member in asked:
            member.carried = loop.create_future()
            member.say(say.Show(limit=limit))
        futures = {member.worker: member.carried for member in asked if member.carried}
        if futures:
            await asyncio.wait(futures.values(), timeout=SHOW_SECONDS)
        return {worker: future.result() if future.done() else None for worker, future in futures.items()}

    def _answer(self, member: Member, message: say.FromWorker) -> None:
        match message:
            case say.NeedSockets():
                self._spawn(self._stock(member, message))
            case say.Levels(stock=stock):
                member.stock = {level.slot: level for level in stock}
            case say.Ruled(rulings=rulings):
                self._hear(rulings)
            case say.Carried():
                if member.carried and not member.carried.done():
                    member.carried.set_result(message)
            case say.NeedPlan() if not self._planned:
                member.unplanned.append(message)
            case say.NeedPlan(connection=connection, address=address, port=port):
                plan = self.plans.get((address, port)) or self.plans.get((address, 0))
                member.say(say.SetPlans(plans=(plan,)) if plan else say.NoPlan(connection=connection))

    async def _stock(self, member: Member, need: say.NeedSockets) -> None:
        pod = self.pods.get(need.slot)
        if pod is None:
            member.early[need.slot, need.family] = need
            return
        try:
            family = socket.AF_INET if need.family == 4 else socket.AF_INET6
            made = await self._make_sockets(pod.netns, family, min(need.count, SOCKETS_PER_REQUEST_MAX))
        except OSError as error:
            member.say(say.Sockets(slot=need.slot, family=need.family, error=str(error)))
            return
        member.say(say.Sockets(slot=need.slot, family=need.family), made)
        close_all(made)

    def _spawn(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


async def _receive(channel: Channel) -> tuple[say.FromWorker, list[int]]:
    payload, descriptors = await channel.receive()
    return say.decode_from_worker(payload), descriptors


def _of_plans(plans: tuple[Plan, ...]) -> Iterator[say.SetPlans]:
    for start in range(0, len(plans), PLANS_PER_MESSAGE):
        yield say.SetPlans(plans=plans[start : start + PLANS_PER_MESSAGE])
