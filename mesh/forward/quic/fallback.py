"""Whether a node is reached by QUIC at this moment, or rather by HBONE: a decision with memory, pure.

UDP may be blocked on a way, or only now and then. A handshake that fails, or connections that are lost one after the
other, send the node's traffic by HBONE for a while; then one connection tries again in the background while traffic
stays where it is, so that nobody waits for an attempt that will fail. Each failed attempt doubles the pause.
The bias: rather HBONE once too often than an application that waits. Clock and chance are arguments.
"""

from __future__ import annotations

from enum import StrEnum

from msgspec.structs import replace

from mesh.model import Value

PAUSE_SECONDS = 10.0  # after the first failure: a restart of the other side is over by then
PAUSE_SECONDS_MAX = 600.0
JITTER = 0.2  # of a pause: the nodes of a cluster do not try again in the same instant
LOSSES_MAX = 3  # connections that died of silence ...
LOSSES_SECONDS = 300.0  # ... within this time: the way is not usable although handshakes pass
STEADY_SECONDS = 60.0  # a connection that lived so long makes up for former failures


class Way(StrEnum):
    QUIC = "quic"
    HBONE = "hbone"
    TRY = "try"  # by HBONE, while one attempt is made in the background


class Memory(Value, frozen=True):
    """What is remembered of a node."""

    usable: bool = True  # as far as we know
    failures: int = 0  # since a connection was last steady
    until: float = 0.0  # not usable before
    trying: bool = False
    losses: tuple[float, ...] = ()  # when connections were lost
    reason: str = ""  # of the last failure, for people


def way(memory: Memory, now: float) -> Way:
    """By which way a new connection goes. After TRY the attempt is to be noted by `tried`."""
    if memory.usable:
        return Way.QUIC
    return Way.HBONE if memory.trying or now < memory.until else Way.TRY


def tried(memory: Memory) -> Memory:
    """An attempt has begun."""
    return replace(memory, trying=True)


def succeeded(memory: Memory) -> Memory:
    """A handshake was completed. Failures count on: a way may have good handshakes and lose every connection."""
    return replace(memory, usable=True, trying=False)


def failed(memory: Memory, now: float, chance: float, reason: str) -> Memory:
    """No handshake in time. `chance`: 0 to 1. A second failure within a pause (of another identity) is the same one."""
    if not memory.usable and not memory.trying and now < memory.until:
        return memory
    pause = min(PAUSE_SECONDS_MAX, PAUSE_SECONDS * 2.0 ** min(memory.failures, 16))
    until = now + pause * (1 + JITTER * (2 * chance - 1))
    return Memory(usable=False, failures=memory.failures + 1, until=until, reason=reason)


def lost(memory: Memory, now: float, lived: float, chance: float) -> Memory:
    """A connection died of silence after `lived` seconds."""
    if lived >= STEADY_SECONDS:
        return Memory(losses=(now,))
    losses = (*(each for each in memory.losses if now - each < LOSSES_SECONDS), now)
    if len(losses) < LOSSES_MAX:
        return replace(memory, losses=losses)
    return failed(memory, now, chance, f"{LOSSES_MAX} connections were lost within {LOSSES_SECONDS:.0f} s")
