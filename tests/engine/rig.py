"""An engine driven by hand over loopback: no BPF, no loop, no threads, and no wait without a condition.

`Rig.until` is the only place that waits: it pumps when the engine has something, until the condition holds.
Connections enter by `adopt`, which names the destination that the kernel's hook would have told.
"""

from __future__ import annotations

import os
import select
import socket
import struct
import time
from collections.abc import Callable

from mesh.forward.engine import (
    Engine,
    EngineConfig,
    Event,
    NeedSockets,
    read_counters,
    read_policies,
    read_series,
    stats_bytes,
)
from mesh.model import AuthorizationPolicy, Balancer, Direction, Plan, PlanEndpoint, Protocol, Series

SLOT, SOURCE, SERVICE = 3, 77, 9
PATIENCE_SECONDS = 20.0
LOOPBACK = {4: "127.0.0.1", 6: "::1"}
FAMILIES = {4: socket.AF_INET, 6: socket.AF_INET6}


class Reset(Exception):
    """The other side sent RST."""


class Peer:
    """One end of a connection, as an app holds it; never blocks but in `Rig.until`."""

    def __init__(self, rig: Rig, sock: socket.socket) -> None:
        sock.setblocking(False)
        self.rig, self.sock, self.ended = rig, sock, False
        rig.peers.append(self)

    def send(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            try:
                view = view[self.sock.send(view) :]
            except BlockingIOError:
                self.rig.step()

    def offer(self, data: bytes) -> int:
        """Sends what can be sent now."""
        try:
            return self.sock.send(data)
        except BlockingIOError:
            return 0

    def take(self, size: int = 1 << 20) -> bytes:
        """What has arrived by now."""
        try:
            data = self.sock.recv(size)
        except BlockingIOError:
            return b""
        except (ConnectionResetError, BrokenPipeError) as error:
            raise Reset from error
        self.ended = self.ended or not data
        return data

    def receive(self, size: int) -> bytes:
        got = bytearray()

        def enough() -> bool:
            got.extend(self.take(size - len(got)))
            return len(got) == size or self.ended

        self.rig.until(enough)
        return bytes(got)

    def rest(self) -> bytes:
        """Everything up to the end of the stream."""
        got = bytearray()

        def over() -> bool:
            got.extend(self.take())
            return self.ended

        self.rig.until(over)
        return bytes(got)

    def is_reset(self) -> bool:
        """Reads until the end, which must be a reset."""
        try:
            self.rest()
        except Reset:
            return True
        return False

    def finish(self) -> None:
        self.sock.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        self.sock.close()

    def reset(self) -> None:
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()


class Server:
    """A listening app; `port` is free for a plan to name."""

    def __init__(self, rig: Rig, family: int = 4, backlog: int = 64, buffer_bytes: int = 0) -> None:
        self.rig = rig
        self.sock = socket.socket(FAMILIES[family], socket.SOCK_STREAM)
        if buffer_bytes:  # accepted sockets inherit it
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer_bytes)
        self.sock.bind((LOOPBACK[family], 0))
        self.sock.listen(backlog)
        self.sock.setblocking(False)
        self.address, self.port = LOOPBACK[family], self.sock.getsockname()[1]
        rig.servers.append(self)

    def try_accept(self) -> Peer | None:
        try:
            return Peer(self.rig, self.sock.accept()[0])
        except BlockingIOError:
            return None

    def accept(self) -> Peer:
        found: list[Peer] = []

        def came() -> bool:
            peer = self.try_accept()
            found.extend([peer] if peer else [])
            return bool(found)

        self.rig.until(came)
        return found[0]

    def endpoint(self, weight: int = 1, slot: int = -1, id: int = 0) -> PlanEndpoint:
        return PlanEndpoint(id=id or self.port, address=self.address, port=self.port, weight=weight, slot=slot)


_bound: list[socket.socket] = []  # for as long as the tests run
BOUND_MAX = 64  # more than any plan has endpoints


def refusing_port() -> int:
    """Where nobody listens, and nobody else comes to listen or to call from by chance: a socket stays bound to it."""
    if len(_bound) < BOUND_MAX:
        fresh = socket.socket()
        fresh.bind(("127.0.0.1", 0))
        _bound.append(fresh)
    else:
        _bound.append(_bound.pop(0))
    return int(_bound[-1].getsockname()[1])


class Rig:
    def __init__(self, stocked: bool = True, stats: int = -1, **config: int) -> None:
        self.stats = stats if stats >= 0 else os.memfd_create("stats")
        self.heart = os.memfd_create("heart")
        os.ftruncate(self.heart, 4096)
        values: dict[str, int] = {"seed": 1, "backoff_ms": 20, **config}
        self.engine = Engine(EngineConfig(banner=b"seine rig\n", **values), self.stats, self.heart, 0)
        self.stocked = stocked
        self.events: list[Event] = []
        self.peers: list[Peer] = []
        self.servers: list[Server] = []
        self.sockets: list[socket.socket] = []  # to be closed at the end, too
        self.gate = socket.create_server(("127.0.0.1", 0), backlog=1024)  # where clients meet their accepted halves
        self.engine.add_pod(SLOT, SOURCE)
        self.pump()

    def close(self) -> None:
        self.engine.close()
        for sock in [peer.sock for peer in self.peers] + [server.sock for server in self.servers] + self.sockets:
            sock.close()
        self.gate.close()
        for fd in (self.stats, self.heart):
            os.close(fd)

    def __enter__(self) -> Rig:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # --- time

    def pump(self) -> None:
        for event in self.engine.pump():
            if isinstance(event, NeedSockets) and self.stocked:
                self.engine.add_sockets(event.slot, event.family, sockets(event.family, event.missing))
            else:
                self.events.append(event)

    def step(self) -> bool:
        """Pumps once if the engine has something within a moment."""
        ready, _, _ = select.select([self.engine.fd], [], [], 0.005)
        if ready:
            self.pump()
        return bool(ready)

    def settle(self) -> None:
        """Pumps until nothing is left to do now."""
        while select.select([self.engine.fd], [], [], 0)[0]:
            self.pump()

    def until(self, condition: Callable[[], object]) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not condition():
            assert time.monotonic() < deadline, f"waited {PATIENCE_SECONDS} s; counters: {self.counts()}"
            self.step()

    def wait_for(self, **counters: int) -> None:
        """Until each of these counters has reached its number."""
        self.until(lambda: all(self.count(name) >= number for name, number in counters.items()))

    # --- the world

    def plan(
        self,
        *endpoints: PlanEndpoint,
        address: str = "10.96.0.1",
        port: int = 80,
        protocol: Protocol = Protocol.DETECT,
        balancer: Balancer = Balancer.EWMA,
    ) -> None:
        self.engine.set_plan(
            Plan(address=address, port=port, service=SERVICE, protocol=protocol, balancer=balancer, endpoints=endpoints)
        )

    def client(
        self,
        address: str = "10.96.0.1",
        port: int = 80,
        direction: Direction = Direction.OUTBOUND,
        slot: int = SLOT,
        buffer_bytes: int = 0,
        source: str = "",
    ) -> Peer:
        """An app in the pod that has just connected to this address."""
        sock = socket.socket()
        if source:
            sock.bind((source, 0))
        if buffer_bytes:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer_bytes)
        sock.connect(self.gate.getsockname())
        accepted, _ = self.gate.accept()
        accepted.setblocking(False)
        peer = Peer(self, sock)
        self.engine.adopt(accepted.detach(), slot, direction, address, port)
        return peer

    def pair(self, protocol: Protocol = Protocol.OPAQUE) -> tuple[Peer, Peer]:
        """A client and the server's end of the same connection."""
        server = Server(self)
        self.plan(server.endpoint(), protocol=protocol)
        client = self.client()
        return client, server.accept()

    # --- what it says of itself

    def _memory(self) -> memoryview:
        return memoryview(os.pread(self.stats, stats_bytes(), 0))

    def counts(self) -> dict[str, int]:
        counters, gauges = read_counters(self._memory())
        return {name: number for name, number in (counters | gauges).items() if number}

    def count(self, name: str) -> int:
        return self.counts().get(name, 0)

    def said(self, policy: AuthorizationPolicy | None = None) -> dict[str, int]:
        """By verdict; without a policy: what none allowed."""
        return read_policies(self._memory()).get(policy.id if policy else 0, {})

    def series(self) -> list[Series]:
        return read_series(self._memory())

    def flags(self) -> dict[str, int]:
        """How connections ended."""
        found: dict[str, int] = {}
        for series in self.series():
            if series.count:
                found[series.flag] = found.get(series.flag, 0) + series.count
        return found


def sockets(family: int, count: int) -> list[int]:
    """Unconnected, as the agent makes them."""
    made = []
    for _ in range(count):
        sock = socket.socket(FAMILIES[family], socket.SOCK_STREAM)
        sock.setblocking(False)
        made.append(sock.detach())
    return made
