"""Small HTTP requests on a schedule, run in a pod as a script: `paced.py HOST PORT CONNECTIONS RATE SECONDS`.

Open loop: when each request is due is decided before the first one leaves (at random, RATE a second), and its latency
counts from then. A request takes any idle one of CONNECTIONS kept connections, or waits for one: a way that stands
still is measured as those who wait for it see it, and not by the few requests that it lets through. The first second is
not counted. Prints {"requests", "seconds", "p50_us", "p99_us", "late_p99_us", "waited"}: all requests, the counted
seconds and latencies, how late the script itself was, how many requests waited for a connection.
Standard library only: it is started by path.
"""

from __future__ import annotations

import json
import os
import random
import selectors
import socket
import sys
import time
from collections import deque
from dataclasses import dataclass, field

WARM_UP_S = 1.0  # pools, windows and round trip times are known by then
TIMEOUT_S = 20.0
SEED = 7  # everybody meets the same schedule
REQUEST = b"GET / HTTP/1.1\r\nHost: web\r\n\r\n"


def schedule(rate: float, seconds: float) -> list[float]:
    """Seconds after the start, ascending: independent requests, as many clients make them."""
    chance, at, found = random.Random(SEED), 0.0, []
    while (at := at + chance.expovariate(rate)) < seconds:
        found.append(at)
    return found


def percentile(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(share * len(values)))] * 1e6


@dataclass
class Connection:
    sock: socket.socket
    due: float = 0.0
    got: bytearray = field(default_factory=bytearray)

    def is_answered(self) -> bool:
        """Reads what is there."""
        part = self.sock.recv(65536)
        if not part:
            raise SystemExit("a connection ended early")
        self.got += part
        head, found, body = bytes(self.got).partition(b"\r\n\r\n")
        if not found:
            return False
        lines = head.split(b"\r\n")
        if not lines[0].startswith(b"HTTP/1.1 200 "):
            raise SystemExit(f"wrong answer: {lines[0][:80]!r}")
        length = next(int(line[15:]) for line in lines if line.lower().startswith(b"content-length:"))
        return len(body) == length


class Client:
    def __init__(self, host: str, port: int, connections: int) -> None:
        self.selector = selectors.DefaultSelector()
        self.idle: list[Connection] = []
        self.waiting: deque[float] = deque()
        self.took: list[float] = []
        self.late: list[float] = []
        self.waited = self.answered = 0
        for _ in range(connections):  # all at once: one after the other they would wait for each other's lost SYNs
            sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.connect_ex((host, port))
            self.selector.register(sock, selectors.EVENT_WRITE, Connection(sock))
        end = time.monotonic() + TIMEOUT_S
        while len(self.idle) < connections:
            for key, _ in self.selector.select(max(0.0, end - time.monotonic())) or _silent():
                if error := key.data.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                    raise SystemExit(f"cannot connect: {os.strerror(error)}")
                self.selector.modify(key.fileobj, selectors.EVENT_READ, key.data)
                self.idle.append(key.data)

    def run(self, dues: list[float]) -> None:
        begin = time.monotonic()
        left, end = deque(begin + due for due in dues), 0.0
        while self.answered < len(dues):
            now = time.monotonic()
            while left and left[0] <= now:
                self.begin(left.popleft(), now)
            end = end or (now + TIMEOUT_S if not left else 0.0)
            if end and now > end:
                raise SystemExit(f"{len(dues) - self.answered} of {len(dues)} requests were not answered")
            for key, _ in self.selector.select(max(0.0, left[0] - now) if left else TIMEOUT_S):
                self.receive(key.data, begin)

    def begin(self, due: float, now: float) -> None:
        self.late.append(now - due)
        if self.idle:
            self.send(self.idle.pop(), due)
        else:
            self.waited += 1
            self.waiting.append(due)

    def send(self, connection: Connection, due: float) -> None:
        connection.due = due
        connection.sock.sendall(REQUEST)

    def receive(self, connection: Connection, begin: float) -> None:
        if not connection.is_answered():
            return
        connection.got.clear()
        self.answered += 1
        if connection.due >= begin + WARM_UP_S:
            self.took.append(time.monotonic() - connection.due)
        if self.waiting:
            self.send(connection, self.waiting.popleft())
        else:
            self.idle.append(connection)


def _silent() -> list[tuple[selectors.SelectorKey, int]]:
    raise SystemExit(f"not all connections stood after {TIMEOUT_S:g} s")


def main(host: str, port: str, connections: str, rate: str, seconds: str) -> None:
    client, dues = Client(host, int(port), int(connections)), schedule(float(rate), WARM_UP_S + float(seconds))
    client.run(dues)
    found = {
        "requests": len(dues),
        "seconds": float(seconds),
        "p50_us": percentile(client.took, 0.5),
        "p99_us": percentile(client.took, 0.99),
        "late_p99_us": percentile(client.late, 0.99),
        "waited": client.waited,
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
