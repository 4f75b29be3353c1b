"""Who leads, by a Lease: a decision from what the Lease says, when it last changed, and our own clock. Pure.

Times in the Lease are for people: clocks of two machines, and the API server's, may be hours apart. What counts is how
long it has not changed while we watched, as in client-go. So a new candidate waits a whole term before it takes the
place of a leader that is dead, and one that leaves gives the Lease back.
A leader that could not renew for RENEW_SECONDS steps down by itself, before anybody else may begin.
"""

from __future__ import annotations

from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from mesh.model import Value

TERM_SECONDS = 15.0  # client-go's three figures
RENEW_SECONDS = 10.0
TRY_SECONDS = 2.0


class Move(StrEnum):
    MAKE = "make"  # there is no Lease
    TAKE = "take"  # nobody holds it, or whoever did is silent
    RENEW = "renew"
    WAIT = "wait"


class Seen(Value, frozen=True):
    """The Lease as read, without what changes for no reason of ours."""

    holder: str = ""
    renewed: str = ""  # opaque: only ever compared
    transitions: int = 0
    version: str = ""  # resource version


def seen(lease: dict[str, Any]) -> Seen:
    spec = lease.get("spec") or {}
    return Seen(
        holder=spec.get("holderIdentity") or "",
        renewed=spec.get("renewTime") or "",
        transitions=int(spec.get("leaseTransitions") or 0),
        version=lease["metadata"]["resourceVersion"],
    )


class Election:
    """`me`: a name that no other candidate has, not even our predecessor."""

    def __init__(self, me: str) -> None:
        self.me = me
        self._last: Seen | None = None
        self._changed = 0.0  # when, by our clock
        self._held: float | None = None  # when we last had it for sure

    def decide(self, found: Seen | None, now: float) -> Move:
        """`now`: monotonic."""
        if found is None:
            return Move.MAKE
        if self._last is None or (found.holder, found.renewed) != (self._last.holder, self._last.renewed):
            self._changed = now
        self._last = found
        if found.holder == self.me:
            return Move.RENEW
        self._held = None
        silent = now - self._changed >= TERM_SECONDS
        return Move.TAKE if not found.holder or silent else Move.WAIT

    def won(self, now: float) -> None:
        """We wrote it; `now`: when we began to."""
        self._held = now

    def lost(self) -> None:
        """Somebody else wrote it."""
        self._held = None

    def leads(self, now: float) -> bool:
        return self._held is not None and now - self._held < RENEW_SECONDS


def lease(name: str, namespace: str, holder: str, before: Seen | None, now: datetime) -> dict[str, Any]:
    """What to write. `holder`: "" gives it back."""
    metadata: dict[str, Any] = {"name": name, "namespace": namespace}
    if before is not None:
        metadata["resourceVersion"] = before.version
    changed = before is None or (holder and before.holder != holder)
    spec = {
        "holderIdentity": holder,
        "leaseDurationSeconds": int(TERM_SECONDS),
        "renewTime": now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        "leaseTransitions": (before.transitions if before else 0) + bool(changed),
    }
    return {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata, "spec": spec}
