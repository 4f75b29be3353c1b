"""Many writes to an API server over a few kept connections: as fast as they go, or at a rate."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

from tests.bench.load import RATE_KEPT, LoadError
from tests.cluster.api import Api

LINES = 4  # connections, each with a thread: enough for 600 writes/s on two cores
TRIES, BUSY = 3, (429, 500, 503)  # of a write that the server had no time for


class Write(NamedTuple):
    method: str
    path: str
    body: dict[str, Any]


class Line:
    """One connection, kept."""

    def __init__(self, api: Api) -> None:
        self._connection = api.connect()

    def write(self, write: Write) -> dict[str, Any]:
        """What the server made of it. LoadError when it refuses."""
        status, text = self._send(write)
        for _ in range(TRIES - 1):
            if status not in BUSY:
                break
            time.sleep(1)
            status, text = self._send(write)
        if status >= 300:
            raise LoadError(f"{write.method} {write.path}: {status} {text[:300]!r}")
        found: dict[str, Any] = json.loads(text)
        return found

    def _send(self, write: Write) -> tuple[int, bytes]:
        self._connection.request(write.method, write.path, json.dumps(write.body), {"Content-Type": "application/json"})
        answer = self._connection.getresponse()
        return answer.status, answer.read()

    def close(self) -> None:
        self._connection.close()


def write_all(api: Api, writes: Iterable[Write]) -> None:
    """In no order."""
    remaining, turn = iter(writes), threading.Lock()

    def work() -> None:
        line = Line(api)
        try:
            while True:
                with turn:
                    write = next(remaining, None)
                if write is None:
                    return
                line.write(write)
        finally:
            line.close()

    with ThreadPoolExecutor(LINES) as pool:
        for done in [pool.submit(work) for _ in range(LINES)]:
            done.result()


class Sent(NamedTuple):
    """When a write began and when the server had confirmed it, by the monotonic clock."""

    tick: int
    began: float
    ended: float


def write_at(api: Api, rate: float, seconds: float, make: Callable[[int], Write]) -> list[Sent]:
    """`make` gives the write of each tick, and is called in one thread per tick modulo LINES. LoadError when the rate
    could not be kept."""
    start, total = time.monotonic() + 0.5, int(rate * seconds)

    def work(number: int) -> list[Sent]:
        line, sent = Line(api), []
        try:
            for tick in range(number, total, LINES):
                time.sleep(max(0.0, start + tick / rate - time.monotonic()))
                write = make(tick)
                began = time.monotonic()
                line.write(write)
                sent.append(Sent(tick, began, time.monotonic()))
        finally:
            line.close()
        return sent

    with ThreadPoolExecutor(LINES) as pool:
        found = sorted(each for part in pool.map(work, range(LINES)) for each in part)
    kept = total / (found[-1].ended - start) / rate
    if kept < RATE_KEPT:
        raise LoadError(f"only {kept:.0%} of {rate:g} changes/s were written: the machine is busy")
    return found
