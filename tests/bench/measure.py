"""One turn: a peer's life from start to stop, and what is measured around a load.

Invariant: a figure exists only if the peer's own counter agrees with the client's: everything that was answered was
carried, and at most two requests more per connection (those that a generator abandoned at its end, this one and the
warm-up before it).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from tests.bench import proc
from tests.bench.load import Load, LoadError
from tests.bench.peer import Peer
from tests.kit.wait import eventually

Sample = dict[str, float]  # what one turn found: name -> number

SETTLED_S = 0.2  # after a start: accept threads up, first timers done


@contextmanager
def running(peer: Peer) -> Iterator[Peer]:
    """Started and, whatever happens, stopped."""
    try:
        peer.start()
        time.sleep(SETTLED_S)
        yield peer
    finally:
        peer.stop()


def proven(peer: Peer, before: int, answered: int, in_flight: int) -> None:
    """Raises LoadError unless the peer's counter grew by what the client got. Metrics may lag by a moment."""

    def agrees() -> bool:
        return answered <= peer.carried() - before <= answered + 2 * in_flight

    try:
        eventually(agrees, "the peer's counter", 3)
    except TimeoutError:
        counted = peer.carried() - before
        name = type(peer).__name__
        raise LoadError(f"the client got {answered} answers, but {name} says it carried {counted}") from None


@dataclass(frozen=True)
class Cost:
    """Microseconds per request: of the whole machine, and of the peer's own processes."""

    busy_us: float
    process_us: float


def costed(peer: Peer, drive: Callable[[], Load], in_flight: int) -> tuple[Load, Cost]:
    """Drive a load through the peer; its cost, and the proof that the peer carried it."""
    before, process = peer.carried(), proc.process_seconds(peer.processes())
    busy = proc.busy_seconds()
    load = drive()
    busy = proc.busy_seconds() - busy
    process = proc.process_seconds(peer.processes()) - process
    proven(peer, before, load.requests, in_flight)
    return load, Cost(busy / load.requests * 1e6, process / load.requests * 1e6)
