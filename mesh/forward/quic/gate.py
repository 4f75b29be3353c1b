"""Whether somebody unknown may begin a connection: a decision on counts, pure.

A first packet costs us half a millisecond and some memory, and its address may be a lie. While few handshakes are
under way everybody is let in at once (aioquic sends no more than three times what came before an address is proven);
when many are, an address must first prove itself by a Retry (RFC 9000 8.1.2), which costs a round trip and us no
memory.
"""

from __future__ import annotations

from enum import StrEnum

from mesh.model import Value


class Entry(StrEnum):
    IN = "in"
    RETRY = "retry"
    OUT = "out"


class GateLimits(Value, frozen=True):
    connections: int = 4096  # all together; 100 nodes with 40 pairs of identities each
    unproven: int = 256  # handshakes under way: a tenth of a second of work
    trusting: int = 32  # up to so many need no Retry: more begin at once only when a node restarts


def admit(connections: int, unproven: int, has_proof: bool, draining: bool, limits: GateLimits) -> Entry:
    """`has_proof`: it came back with a token of ours, which was checked."""
    if draining or connections >= limits.connections or unproven >= limits.unproven:
        return Entry.OUT
    if unproven >= limits.trusting and not has_proof:
        return Entry.RETRY
    return Entry.IN
