"""Clients and apps that do everything wrong at random moments, under limits that are always hit, while plans and pods
come and go. Whatever happens: a client gets answers to its own requests only, in order and whole, or its connection
ends; and afterwards nothing is left.
"""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from mesh.forward.engine import NeedPlan
from mesh.model import Balancer, Protocol
from tests.engine.rig import PATIENCE_SECONDS, SLOT, Peer, Reset, Rig, Server, refusing_port
from tests.engine.test_http1_failure import refusing

STEPS = 400
ADDRESS = "127.0.0.1"
LIMITS = {
    "max_buffers": 6,
    "stuck_ms": 20,
    "max_pooled": 3,
    "max_pooled_per_key": 2,
    "max_waiting": 3,
    "max_parked": 3,
    "max_interim": 2,
    "max_linger_bytes": 100_000,
    "head_timeout_ms": 60,
    "stream_idle_ms": 100,
    "linger_ms": 30,
    "pool_idle_ms": 30,
    "park_timeout_ms": 30,
    "detect_timeout_ms": 40,
    "detect_hold_ms": 5000,  # or what comes slowly is carried as it is
    "connect_timeout_ms": 60,
    "budget": 7,
}
GONE = (Reset, ConnectionError, OSError)


def body_of(number: int, size: int) -> bytes:
    return (b"<%d>" % number) + b"." * size


def chunked(body: bytes, chance: random.Random) -> bytes:
    cut = chance.randrange(len(body) + 1)
    parts = [part for part in (body[:cut], body[cut:]) if part]
    return b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"


@dataclass
class Client:
    """Asks for numbers, and checks what it is told."""

    peer: Peer
    chance: random.Random
    numbers: list[int] = field(default_factory=list)  # asked and not answered
    unsent: bytes = b""
    heard: bytes = b""
    done: bool = False

    def ask(self, number: int) -> None:
        kind = self.chance.randrange(8)
        head = b"X-Number: %d\r\nHost: a\r\n" % number
        size = self.chance.choice([0, 3, 5000, 120_000])
        if kind < 4:
            self.unsent += b"GET / HTTP/1.1\r\n" + head + b"\r\n"
        elif kind == 4:
            self.unsent += b"PUT / HTTP/1.1\r\n%sContent-Length: %d\r\n\r\n" % (head, size) + b"u" * size
        elif kind == 5:
            self.unsent += b"POST / HTTP/1.1\r\n%sTransfer-Encoding: chunked\r\n\r\n" % head
            self.unsent += chunked(b"u" * (size + 1), self.chance)
        elif kind == 6:
            self.unsent += b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n" + head + b"\r\n"
        else:
            self.unsent += self.chance.choice([b"GET / HTTP/1.1\r\nbad\r\n\r\n", b"POST / HTTP/1.1\r\n"])
        self.numbers.append(number)

    def push(self) -> None:
        size = self.chance.choice([1, 20, 1000, 200_000])
        self.unsent = self.unsent[self.peer.offer(self.unsent[:size]) :] if self.unsent else b""

    def hear(self) -> None:
        self.heard += self.peer.take(self.chance.choice([10, 1000, 1 << 20]))
        self.done = self.peer.ended
        while self.answer():
            pass

    def answer(self) -> bool:
        """Takes one whole response off what was heard, and judges it."""
        head, mark, rest = self.heard.partition(b"\r\n\r\n")
        if not mark:
            return False
        assert head.startswith(b"HTTP/1."), head
        if head[9:12] == b"103":
            self.heard = rest
            return True
        body, length = self.body(head, rest)
        if length < 0:
            return False
        self.heard = rest[length:]
        if b"x-seine-reason" in head:
            self.numbers = self.numbers[1:] if b"X-Number" not in head else self.numbers
            return True
        number = int(body[1:].partition(b">")[0])
        assert number in self.numbers, "an answer to somebody else's request"
        self.numbers = self.numbers[self.numbers.index(number) + 1 :]
        return True

    def body(self, head: bytes, rest: bytes) -> tuple[bytes, int]:
        """And how many bytes it takes; -1: not complete."""
        if b"Content-Length: " in head:
            length = int(head.partition(b"Content-Length: ")[2].partition(b"\r\n")[0])
            return (rest[:length], length) if len(rest) >= length else (b"", -1)
        if b"chunked" not in head:
            return (rest, len(rest)) if self.done else (b"", -1)
        body, at = b"", 0
        while True:
            line, mark, _ = rest[at:].partition(b"\r\n")
            if not mark:
                return b"", -1
            size = int(line, 16)
            at += len(line) + 2
            if len(rest) < at + size + 2:
                return b"", -1
            body += rest[at : at + size]
            at += size + 2
            if size == 0:
                return body, at


@dataclass
class App:
    """Answers the numbers it hears, in every way and sometimes in a wrong one."""

    peer: Peer
    chance: random.Random
    heard: bytes = b""
    unsent: bytes = b""

    def act(self) -> None:
        self.heard += self.peer.take(self.chance.choice([50, 5000, 1 << 20]))
        while (at := self.heard.find(b"X-Number: ")) >= 0 and b"\r\n" in self.heard[at:]:
            number, _, self.heard = self.heard[at + 10 :].partition(b"\r\n")
            self.unsent += self.response(int(number))
        self.heard = self.heard[-30:]
        size = self.chance.choice([1, 30, 5000, 1 << 20])
        if self.unsent:
            self.unsent = self.unsent[self.peer.offer(self.unsent[:size]) :]

    def response(self, number: int) -> bytes:
        body = body_of(number, self.chance.choice([0, 10, 3000, 150_000]))
        length = b"Content-Length: %d\r\n\r\n" % len(body)
        kind = self.chance.randrange(12)
        if kind < 6:
            return b"HTTP/1.1 200 OK\r\n" + length + body
        if kind < 8:
            return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked(body, self.chance)
        if kind == 8:
            return (
                b"HTTP/1.1 103 Early Hints\r\n\r\n" * self.chance.randrange(1, 4)
                + b"HTTP/1.1 200 OK\r\n"
                + length
                + body
            )
        if kind == 9:
            return b"HTTP/1.1 200 OK\r\nConnection: close\r\n" + length + body
        if kind == 10:
            return b"HTTP/1.1 500 Oh\r\n" + length + body + self.chance.choice([b"", b"surplus"])
        return self.chance.choice([b"nonsense\r\n\r\n", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"])


@dataclass
class World:
    rig: Rig
    chance: random.Random
    servers: list[Server]
    clients: list[Client] = field(default_factory=list)
    apps: list[App] = field(default_factory=list)
    numbers: int = 0
    port: int = field(default_factory=refusing_port)  # where those without a plan go

    def plan(self) -> None:
        some = self.chance.sample(self.servers, self.chance.randrange(len(self.servers) + 1))
        endpoints = [server.endpoint(slot=self.chance.choice([-1, -1, 7])) for server in some]
        if self.chance.random() < 0.3:
            endpoints.append(refusing(refusing_port()))
        protocol = self.chance.choice([Protocol.HTTP, Protocol.DETECT])
        balancer = self.chance.choice(list(Balancer))
        self.rig.plan(*endpoints, address=ADDRESS, port=self.port, protocol=protocol, balancer=balancer)

    def step(self) -> None:
        for act in self.chance.choices(
            [self.open, self.ask, self.talk, self.serve, self.hurt, self.rule], weights=[4, 10, 40, 40, 2, 1], k=4
        ):
            act()
        self.rig.step() if self.chance.random() < 0.3 else self.rig.settle()
        for event in self.rig.events:
            if isinstance(event, NeedPlan) and self.chance.random() < 0.5:
                self.rig.engine.no_plan(event.connection)
        self.rig.events.clear()

    def go_on_until(self, enough: Callable[[], bool]) -> None:
        """A machine with other work to do gets little done in `STEPS`: the limits of time are hit at each of them. What
        the test needs to have happened is waited for, with rules that are given anew until they allow it."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not enough():
            assert time.monotonic() < deadline, f"waited {PATIENCE_SECONDS} s; counters: {self.rig.counts()}"
            self.calm()
            self.step()

    def calm(self) -> None:
        self.plan()

    def open(self) -> None:
        if len(self.clients) < 8:
            source = self.chance.choice(["127.0.0.2", "127.0.0.3"])
            self.clients.append(Client(self.rig.client(ADDRESS, self.port, source=source), self.chance))

    def ask(self) -> None:
        for client in self.chance.sample(self.clients, min(2, len(self.clients))):
            self.numbers += 1
            client.ask(self.numbers)

    def talk(self) -> None:
        for client in list(self.clients):
            try:
                client.push()
                client.hear()
            except GONE:
                client.done = True
            if client.done:
                self.clients.remove(client)
                client.peer.close()

    def serve(self) -> None:
        for server in self.servers:
            if peer := server.try_accept():
                self.apps.append(App(peer, self.chance))
        for app in list(self.apps):
            try:
                app.act()
            except GONE:
                app.peer.ended = True
            if app.peer.ended:
                self.apps.remove(app)
                app.peer.close()

    def hurt(self) -> None:
        """Somebody ends in the middle of something."""
        victims: list[Client | App] = [*self.clients, *self.apps]
        if not victims:
            return
        victim = self.chance.choice(victims)
        with contextlib.suppress(OSError):
            self.chance.choice([victim.peer.finish, victim.peer.reset, victim.peer.close])()
        if victim.peer.sock.fileno() < 0:
            self.clients = [client for client in self.clients if client is not victim]
            self.apps = [app for app in self.apps if app is not victim]

    def rule(self) -> None:
        kind = self.chance.randrange(4)
        if kind == 0:
            self.rig.engine.remove_plan(ADDRESS, self.port)
        elif kind == 1:
            slot = self.chance.choice([SLOT, 7])
            self.rig.engine.remove_pod(slot, close_connections=self.chance.random() < 0.5)
            self.rig.engine.add_pod(slot, slot)
        else:
            self.plan()


@pytest.mark.parametrize("seed", range(20))
def test_whatever_happens(seed: int) -> None:
    chance = random.Random(seed)
    with Rig(**LIMITS) as rig:  # type: ignore[arg-type]
        rig.engine.add_pod(7, 7)
        world = World(rig, chance, [Server(rig) for _ in range(3)])
        world.plan()
        for _ in range(STEPS):
            world.step()
        world.go_on_until(lambda: rig.count("http_requests") > 10)
        rig.engine.drain()
        for peer in rig.peers:
            peer.close()
        for server in world.servers:
            server.sock.close()
        rig.until(lambda: rig.engine.live() == 0)
        left = {
            name: rig.count(name) for name in ("connections", "upstreams", "pooled", "buffers", "waiting", "parked")
        }
        assert not any(left.values()), left
        opened = sum(series.opened for series in rig.series())
        assert opened == sum(series.closed for series in rig.series())
