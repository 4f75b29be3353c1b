"""How often a peer may do what costs us work and it nearly nothing: token buckets by kind of frame, pure.

Each kind has a burst and a rate far above what honest peers need and far below what would be felt. Over it, the
connection ends (H3_EXCESSIVE_LOAD or PROTOCOL_VIOLATION), with the kind as its reason. Every kind is counted.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Allowance:
    burst: float
    per_second: float


# What an honest peer does, and why it is less. 20 ms of a core is the bar for a hostile connection: at 20 us a frame
# a burst of 1000 is at it.
ALLOWANCES: Mapping[str, Allowance] = {
    "path_challenge": Allowance(32, 1),  # one per new path; migration takes a few
    "connection_id": Allowance(64, 4),  # new and retired ones: 8 at the start, one per path
    "key_update": Allowance(4, 0.1),  # RFC 9001 6.6: after 2^23 packets
    "reset": Allowance(200, 50),  # RESET_STREAM and STOP_SENDING: applications that go away, not faster than streams
    "ping": Allowance(100, 20),  # keep-alive each 5 s; probes while packets are lost
    "limit": Allowance(2000, 2000),  # MAX_*: a few per round trip and stream
    "blocked": Allowance(1000, 500),  # *_BLOCKED: at most one per limit
    "request": Allowance(1000, 500),  # each costs a pair of sockets and work in a worker
    "unknown": Allowance(64, 1),  # frames and streams of unknown type (GREASE, RFC 9114 7.2.8)
}


class Floods:
    """The buckets of one connection."""

    def __init__(self, now: float, allowances: Mapping[str, Allowance] = ALLOWANCES) -> None:
        self._allowances = allowances
        self._level = {kind: each.burst for kind, each in allowances.items()}
        self._at = dict.fromkeys(allowances, now)

    def allows(self, kind: str, now: float) -> bool:
        """Once more of this kind. False: that was too much."""
        each = self._allowances[kind]
        level = min(each.burst, self._level[kind] + (now - self._at[kind]) * each.per_second)
        self._at[kind] = now
        self._level[kind] = level - 1 if level >= 1 else level
        return level >= 1
