"""All of a node's QUIC process but its start: what the agent says, put into effect; what it is told, gathered.

It lives on what it was told: while the agent is away connections go on, and new ones between identities that already
have a tunnel too, and new handshakes as well: they are signed by the signer.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections import Counter
from collections.abc import Callable
from enum import Enum

from aioquic.h3.connection import ErrorCode

from mesh.aio.channel import Channel, ChannelClosed
from mesh.forward.messages import Message, SetIdentities, SetSigner, SetTrust
from mesh.forward.quic import messages as say
from mesh.forward.quic.connection import LIMITS, Connection, Limits
from mesh.forward.quic.credentials import NodeCredentials
from mesh.forward.quic.door import Door
from mesh.forward.quic.endpoint import Endpoint, socket_address
from mesh.forward.quic.gate import GateLimits
from mesh.forward.quic.handshake import Own, Refused
from mesh.forward.quic.local import Pairs
from mesh.forward.quic.pool import Pool
from mesh.forward.quic.serving import Serving
from mesh.forward.quic.signer import Signer
from mesh.forward.quic.wire import Wire

log = logging.getLogger("seine.quic")
REPORT_SECONDS = 0.5
TEND_SECONDS = 1.0


class Verdict(Enum):
    """What becomes of a connection when trust changes. LEAVE: no new requests, and it ends with its last one."""

    STAY = 0
    LEAVE = 1
    CLOSE = 2


class Parts:
    """What is there once the sockets are."""

    def __init__(
        self,
        udp: socket.socket,
        door: socket.socket,
        credentials: NodeCredentials,
        signer: Signer,
        counts: Counter[str],
        reset_key: bytes,
        limits: Limits,
    ) -> None:
        ipv6 = udp.family == socket.AF_INET6
        self.wire = Wire(udp, counts)
        self.pairs = Pairs()
        self.door = Door(door)
        self.serving = Serving(self.door, self.pairs, counts)
        self.endpoint = Endpoint(
            self.wire, credentials, signer.sign, self.serving, counts, reset_key, limits, GateLimits()
        )
        self.pool = Pool(
            self.endpoint, credentials, self.pairs, counts, limits, lambda ip, port: socket_address(ip, port, ipv6)
        )
        self.door.begin(self.pool)
        log.info("serving UDP port %d; batching: %s", udp.getsockname()[1], self.wire.features)

    def close(self) -> None:
        self.door.close()
        self.endpoint.close()
        self.pairs.close()


class Node:
    """`limits`: for tests."""

    def __init__(self, credentials: NodeCredentials, limits: Limits = LIMITS) -> None:
        self._credentials, self._limits = credentials, limits
        self._signer = Signer(credentials.key_of)
        self._counts: Counter[str] = Counter()
        self._channel: Channel | None = None
        self._here: dict[str, str] = {}
        self._reset_key = b""
        self._drain_seconds = 0.0
        self._draining: asyncio.Task[None] | None = None
        self.parts: Parts | None = None
        self.drained = asyncio.Event()

    # --- the conversation

    def meet(self, channel: Channel) -> None:
        self._channel = channel
        udp = [self.parts.wire.sock.fileno()] if self.parts else []
        self._say(say.HelloQuic(reset_key=self._reset_key), udp)

    def part(self) -> None:
        self._channel = None

    def _say(self, message: Message, descriptors: list[int] | None = None) -> None:
        if self._channel is not None:
            try:
                self._channel.send(say.encode(message), descriptors)
            except ChannelClosed:
                log.debug("the agent is gone; what is not said is said again when it is back")

    def obey(self, message: say.ToQuic, descriptors: list[int]) -> None:
        match message:
            case say.WelcomeQuic():
                self._begin(message, descriptors)
            case SetIdentities(known=known, gone=gone):
                self._credentials.know((Own(name=each.name, chain=each.chain) for each in known), gone)
                self._judge(lambda connection: Verdict.LEAVE if connection.own in gone else Verdict.STAY)
            case SetTrust(domain=domain, roots=roots, denied=denied):
                self._credentials.trust(domain, roots, denied)
                self._judge(self._by_trust)
            case say.SetHere(pods=pods):
                self._here = {each.address: each.identity for each in pods}
                if self.parts is not None:
                    self.parts.serving.here = self._here
            case SetSigner():
                self._signer.meet(socket.socket(fileno=descriptors[0]))
            case say.DrainQuic():
                self.drain()

    def _begin(self, welcome: say.WelcomeQuic, descriptors: list[int]) -> None:
        self._drain_seconds = welcome.drain_seconds
        if self.parts is not None or len(descriptors) != 2:
            for fd in descriptors:
                os.close(fd)
            return
        self._reset_key = welcome.reset_key
        udp, door = (socket.socket(fileno=fd) for fd in descriptors)
        limits = self._limits if self._limits is not LIMITS else _sized(welcome.datagram_bytes)
        self.parts = Parts(udp, door, self._credentials, self._signer, self._counts, welcome.reset_key, limits)
        self.parts.serving.here = self._here

    # --- who is believed no more

    def _judge(self, verdict_on: Callable[[Connection], Verdict]) -> None:
        """As the engine does: who is denied is cut off; else what is under way was judged when it began."""
        for tunnel in self.parts.endpoint.tunnels if self.parts else ():
            verdict = verdict_on(tunnel.connection) if tunnel.connection.peer else Verdict.STAY
            if verdict is Verdict.CLOSE:
                self._counts["connections_aborted/denied"] += 1
                tunnel.close(ErrorCode.H3_NO_ERROR, "not believed any more")
            elif verdict is Verdict.LEAVE and not tunnel.leaving:
                self._counts["connections_left/distrusted"] += 1
                tunnel.leave()

    def _by_trust(self, connection: Connection) -> Verdict:
        if self._credentials.is_denied(connection.peer, connection.peer_chain):
            return Verdict.CLOSE
        try:
            self._credentials.prove(connection.peer_chain, connection.is_client)
        except Refused:
            return Verdict.LEAVE
        return Verdict.STAY

    # --- time

    async def tend(self) -> None:
        """For ever: pings and rest."""
        while True:
            await asyncio.sleep(TEND_SECONDS)
            if self.parts is not None:
                self.parts.pool.tend()

    async def report(self) -> None:
        """For ever: the sign of life."""
        while True:
            await asyncio.sleep(REPORT_SECONDS)
            self._say(say.ReportQuic(counts=dict(self._counts), levels=self._levels(), ways=self._ways()))

    def _levels(self) -> dict[str, int]:
        if self.parts is None:
            return {}
        tunnels = self.parts.endpoint.tunnels
        return {
            "connections": sum(tunnel.connection.is_connected for tunnel in tunnels),
            "streams": sum(tunnel.streams for tunnel in tunnels),
            "workers": self.parts.door.workers,
        }

    def _ways(self) -> tuple[say.NodeWay, ...]:
        return self.parts.pool.ways() if self.parts else ()

    # --- the end

    def drain(self) -> None:
        """Take nothing new; `drained` is set when nothing is left or the time is up."""
        if self._draining is None:
            self._draining = asyncio.get_running_loop().create_task(self._drain())

    async def _drain(self) -> None:
        deadline = asyncio.get_running_loop().time() + self._drain_seconds
        parts = self.parts
        if parts is not None:
            parts.endpoint.draining = parts.pool.draining = True
            for tunnel in parts.endpoint.tunnels:
                tunnel.leave()
            while self._levels()["streams"] and asyncio.get_running_loop().time() < deadline:
                await asyncio.sleep(TEND_SECONDS / 10)
            for tunnel in parts.endpoint.tunnels:
                tunnel.close(ErrorCode.H3_NO_ERROR, "the node drains")
            await asyncio.sleep(0)  # one turn of the loop: the words leave
        self.drained.set()

    def close(self) -> None:
        if self._draining is not None:
            self._draining.cancel()
        self._signer.close()
        if self.parts is not None:
            self.parts.close()


def _sized(datagram_bytes: int) -> Limits:
    return Limits(datagram_bytes=datagram_bytes)
