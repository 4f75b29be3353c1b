"""The worker's side of the conversation: the agent's words become engine commands, the engine's events become words.

It decides nothing. While no agent is there, connections without a plan pass through to where they were going, but for
those of pods with an identity, whose plan could have said "by tunnel": they end. Wanted sockets are asked for again at
the next meeting.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable
from itertools import count as counter

from mesh.aio.channel import Channel, ChannelClosed, close_all
from mesh.forward import messages as say
from mesh.forward.engine import (
    Arrived,
    Engine,
    EngineConfig,
    NeedCarrier,
    NeedPlan,
    NeedSockets,
    RulingsReady,
    TunnelRefused,
)
from mesh.forward.quic.address import format_address, parse_address
from mesh.forward.quic.messages import Opening, Status
from mesh.model import Authorization, Direction, Plan

log = logging.getLogger("seine.worker")
DRAIN_CHECK_SECONDS = 0.2
IDLE_SECONDS = 3.0  # a client in use asks again within it, hears that he shall go, and loses no request by that
FINISH_SECONDS = 5.0  # of the drain are for those who came while others went
LEVELS_SECONDS = 2.0


Opened = Callable[[int, str, int], None]  # status, reason, descriptor


class Carrier:
    """`open_quic` asks the QUIC process for a connection; the answer comes now or later."""

    def __init__(self, worker: int) -> None:
        self.worker = worker
        self.open_quic: Callable[[Opening, Opened], None] = _no_quic
        self._arrivals: dict[int, Callable[[int], None]] = {}  # job -> how to answer
        self._arrival_jobs = counter(1)
        self._slots: dict[str, int] = {}  # by address
        self.drained = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._engine: Engine | None = None
        self._channel: Channel | None = None
        self._pods: dict[int, tuple[int, list[int]]] = {}  # slot -> netns cookie, listener descriptors (the engine's)
        self._plans: set[tuple[str, int]] = set()
        self._policies: dict[int, Authorization] = {}  # by slot, also of pods to come
        self._named_pods: set[int] = set()
        self._named_plans: set[tuple[str, int]] = set()
        self._named_policies: set[int] = set()
        self._wanted: dict[tuple[int, int], int] = {}  # {slot, family} -> sockets asked for and not yet here
        self._drain_seconds = 30.0
        self._left_at = 0.0  # when everybody was told to go, by the loop's clock
        self._accepts = True
        self._dismissed = False

    # --- the conversation

    def meet(self, channel: Channel) -> None:
        """A (new) agent answered: say who we are and what we hold."""
        self._channel = channel
        self._named_pods.clear()
        self._named_plans.clear()
        self._named_policies.clear()
        self._say(say.Hello(worker=self.worker, pid=os.getpid(), pods=len(self._pods)))
        for slot, (cookie, listeners) in self._pods.items():
            self._say(say.HavePod(slot=slot, cookie=cookie), listeners)
        for (slot, family), count in self._wanted.items():  # asked of nobody, or of the agent that died
            self._say(say.NeedSockets(slot=slot, family=family, count=count))

    def part(self) -> None:
        self._channel = None

    def _say(self, message: say.Message, descriptors: list[int] | None = None) -> bool:
        if self._channel is None:
            return False
        try:
            self._channel.send(say.encode(message), descriptors)
        except ChannelClosed:
            return False
        return True

    def obey(self, message: say.FromAgent, descriptors: list[int]) -> None:
        """Carry out one message; the descriptors belong to the engine from here on."""
        match message:
            case say.Welcome():
                self._welcome(message, descriptors)
            case say.AddPod():
                self._add_pod(message, descriptors)
            case say.RemovePod(slot=slot, close_connections=close):
                self._remove_pod(slot, close)
            case say.SetPlans(plans=plans):
                self._set_plans(plans)
            case say.RemovePlans(keys=keys):
                self._remove_plans(keys)
            case say.SetPolicies(slot=slot, authorization=authorization):
                self._set_policies(slot, authorization)
            case say.SetSources(known=known, gone=gone):
                self._set_sources(known, gone)
            case say.SetIdentities(known=identities, gone=gone):
                self._set_identities(identities, gone)
            case say.SetTrust(domain=domain, roots=roots, denied=denied):
                self._set_trust(domain, roots, denied)
            case say.SetSigner():
                self.engine.set_signer(*descriptors)
            case say.Synced():
                self._forget_unnamed()
            case say.NoPlan(connection=connection):
                self.engine.no_plan(connection)
            case say.Sockets():
                self._stock(message, descriptors)
            case say.Show(limit=limit):
                self._show(limit)
            case say.Drain():
                self.drain()
        self._react()

    # --- commands

    @property
    def engine(self) -> Engine:
        if self._engine is None:
            raise RuntimeError("the agent spoke before its Welcome")
        return self._engine

    def _welcome(self, message: say.Welcome, descriptors: list[int]) -> None:
        stats, heartbeat = descriptors
        self._drain_seconds = message.drain_seconds
        if self._engine is None:
            config = EngineConfig(banner=f"seine {message.node}\n".encode())
            self._engine = Engine(config, stats, heartbeat, self.worker)
            self._loop.add_reader(self._engine.fd, self._react)
            self._tell_levels()
        self._engine.beat_in(heartbeat)  # the same map for every agent of a version; another's may be another
        self._engine.set_limits(message.limits)
        close_all(descriptors)  # the engine has them mapped

    def _add_pod(self, message: say.AddPod, listeners: list[int]) -> None:
        slot = message.slot
        self._named_pods.add(slot)
        self._forget_addresses(slot)
        self._slots.update(dict.fromkeys(message.addresses, slot))
        known = self._pods.get(slot)
        if known is not None and known[0] != message.cookie:
            self._remove_pod(slot, close_connections=True)
            known = None
        self.engine.add_pod(
            slot,
            message.source,
            message.opaque_ports,
            message.identity,
            message.mtls,
            message.baggage,
            message.principal,
        )
        if known is not None:
            close_all(listeners)
            return
        self.engine.set_policies(slot, self._policies.get(slot))
        self._pods[slot] = (message.cookie, listeners)
        for direction, fd in zip(Direction, listeners, strict=True):
            self.engine.add_listener(slot, direction, fd)

    def _remove_pod(self, slot: int, close_connections: bool) -> None:
        self._named_pods.discard(slot)
        self._policies.pop(slot, None)
        self._forget_addresses(slot)
        if self._pods.pop(slot, None) is not None:
            self.engine.remove_pod(slot, close_connections)
        for key in [key for key in self._wanted if key[0] == slot]:
            del self._wanted[key]

    def _forget_addresses(self, slot: int) -> None:
        self._slots = {address: other for address, other in self._slots.items() if other != slot}

    def _set_plans(self, plans: tuple[Plan, ...]) -> None:
        for plan in plans:
            self.engine.set_plan(plan)
            self._plans.add((plan.address, plan.port))
            self._named_plans.add((plan.address, plan.port))

    def _remove_plans(self, keys: tuple[tuple[str, int], ...]) -> None:
        for address, port in keys:
            self.engine.remove_plan(address, port)
            self._plans.discard((address, port))
            self._named_plans.discard((address, port))

    def _set_policies(self, slot: int, authorization: Authorization | None) -> None:
        self._named_policies.add(slot)
        if self._policies.get(slot) == authorization:
            return
        if authorization is None:
            del self._policies[slot]
        else:
            self._policies[slot] = authorization
        if slot in self._pods:
            self.engine.set_policies(slot, authorization)

    def _set_sources(self, known: tuple[tuple[str, int, str], ...], gone: tuple[str, ...]) -> None:
        for address in gone:
            self.engine.remove_source(address)
        for address, workload, identity in known:
            self.engine.add_source(address, workload, identity)

    def _set_identities(self, known: tuple[say.Identity, ...], gone: tuple[str, ...]) -> None:
        for name in gone:
            self.engine.remove_identity(name)
        for identity in known:
            try:
                self.engine.set_identity(identity.name, identity.chain)
            except OSError as error:
                log.error("%s: pods of this identity get no tunnel; what certificates has the agent sent?", error)

    def _set_trust(self, domain: str, roots: tuple[bytes, ...], denied: tuple[str, ...]) -> None:
        try:
            self.engine.set_trust(domain, roots, denied)
        except OSError as error:
            log.error("%s: the trust of before stays; what certificates has the agent sent?", error)

    def _forget_unnamed(self) -> None:
        for slot in set(self._pods) - self._named_pods:
            self._remove_pod(slot, close_connections=True)
        self._remove_plans(tuple(self._plans - self._named_plans))
        for slot in self._policies.keys() - self._named_policies:
            self._set_policies(slot, None)

    def _stock(self, message: say.Sockets, descriptors: list[int]) -> None:
        self._wanted.pop((message.slot, message.family), None)
        if message.error:
            log.warning("no sockets for slot %d: %s", message.slot, message.error)
        if message.slot in self._pods:
            self.engine.add_sockets(message.slot, message.family, descriptors)
        else:
            close_all(descriptors)

    # --- events

    def _react(self) -> None:
        if self._engine is None:
            return
        for event in self._engine.pump():
            match event:
                case NeedSockets(slot=slot, family=family, missing=missing):
                    self._want(slot, family, missing)
                case NeedCarrier():
                    self._ask_quic(event)
                case Arrived(job=job, status=status):
                    self._arrivals.pop(job)(status)
                case TunnelRefused():
                    log.warning("%s", sentence_of(event))
                case RulingsReady():
                    self._tell_rulings()
                case NeedPlan(connection=connection, address=address, port=port):
                    if not self._say(say.NeedPlan(connection=connection, address=address, port=port)):
                        self._engine.no_plan(connection)

    def _ask_quic(self, need: NeedCarrier) -> None:
        def opened(status: int, reason: str, fd: int) -> None:
            if self._engine is None:
                close_all([fd] if fd >= 0 else [])
                return
            self._engine.carried(need.connection, need.job, fd, status)
            self._react()

        opening = Opening(
            source=need.source,
            target=need.target,
            destination=format_address(*need.destination),
            client=format_address(*need.client),
            node=need.node,
        )
        self._loop.call_soon(self.open_quic, opening, opened)  # not within the pump: the answer may come at once

    def arrived(self, opening: Opening, fd: int, answer: Callable[[int], None]) -> None:
        """The QUIC process hands over what another node asks of a pod here."""
        destination, node = parse_address(opening.destination), parse_address(opening.node)
        slot = self._slots.get(destination[0]) if destination else None
        if self._engine is None or destination is None or node is None or slot is None:
            os.close(fd)
            answer(Status.UNREACHABLE)
            return
        job = next(self._arrival_jobs)
        self._arrivals[job] = answer
        client = parse_address(opening.client) or node
        try:
            self._engine.arrive(fd, job, slot, opening.source, opening.target, destination, client, node[0])
        except OSError as error:
            log.warning("%s", error)
            if (unanswered := self._arrivals.pop(job, None)) is not None:
                unanswered(Status.UNREACHABLE)
        self._react()

    def _want(self, slot: int, family: int, count: int) -> None:
        if (slot, family) not in self._wanted:
            self._wanted[slot, family] = count
            self._say(say.NeedSockets(slot=slot, family=family, count=count))

    def _tell_rulings(self) -> None:
        if rulings := self.engine.rulings():
            self._say(say.Ruled(rulings=tuple(rulings)))

    def _tell_levels(self) -> None:
        if self._engine is None:
            return
        levels = self._engine.stock(self._pods)
        stock = tuple(say.Level(slot=slot, ipv4=levels[slot, 4], ipv6=levels[slot, 6]) for slot in self._pods)
        self._say(say.Levels(stock=stock))
        self._loop.call_later(LEVELS_SECONDS, self._tell_levels)

    def _show(self, limit: int) -> None:
        connections = tuple(connection._asdict() for connection in self.engine.connections(limit))
        self._say(say.Carried(connections=connections, live=self.engine.live()))

    # --- the end

    def drain(self) -> None:
        """Accept nobody; whoever is in is told to go. Done when all have gone, or when the time is up.

        Whoever was told to retire before lets in who comes until those have gone who were there then.
        """
        if self._engine is None:
            self.drained.set()
        elif self._left_at:
            self._dismissed = True
        else:
            self._dismissed = True
            self._leave(accept=False)

    def retire(self) -> None:
        """As the last of its node: tell everybody to go, let in who comes, and wait to be drained."""
        if self._engine is None:
            self.drained.set()
        elif not self._left_at:
            self._leave(accept=True)

    def _leave(self, accept: bool) -> None:
        self._left_at, self._accepts = self._loop.time(), accept
        self.engine.let_go(accept)
        self._loop.call_soon(self._look_after)

    def _look_after(self) -> None:
        """Of those who are told to go, now and then."""
        elapsed = self._loop.time() - self._left_at
        if elapsed >= IDLE_SECONDS:
            self.engine.end_idle(IDLE_SECONDS)
        if self._accepts and self._dismissed:
            late = elapsed >= self._drain_seconds - FINISH_SECONDS
            if late or self.engine.oldest_seconds() < elapsed:
                self._accepts = False
                self.engine.let_go(accept=False)
                self._loop.call_later(FINISH_SECONDS, self.drained.set)
        elif not self._accepts and (elapsed >= self._drain_seconds or not self.engine.live()):
            self.drained.set()
        if not self.drained.is_set():
            self._loop.call_later(DRAIN_CHECK_SECONDS, self._look_after)

    def close(self) -> None:
        if self._engine is not None:
            self._loop.remove_reader(self._engine.fd)
            self._engine.close()
            self._engine = None


def sentence_of(refused: TunnelRefused) -> str:
    way = "to" if refused.direction is Direction.OUTBOUND else "from"
    return (
        f"slot {refused.slot}: no tunnel {way} {refused.address} port {refused.port}: {refused.reason}; "
        "`seine identity` shows who we are and whom we believe"
    )


def _no_quic(opening: Opening, opened: Opened) -> None:
    opened(Status.BY_HBONE, "this worker has no way to the QUIC process", -1)
