"""Who is behind a client's address: for counters of connections that come in from outside the node, and for tunnels.

A tunnel says for which address it speaks, and must not say just any.
"""

from __future__ import annotations

from collections.abc import Mapping

from mesh.control.peers import Peer
from mesh.control.select import addressed
from mesh.model import Snapshot, Source


def compile_sources(snapshot: Snapshot, peers: Mapping[str, Peer]) -> dict[str, Source]:
    """By pod address. What is not here is unknown in metrics, never guessed."""
    return {
        address: Source(workload.id, peers[workload.uid].identity if workload.uid in peers else "")
        for address, workload in addressed(snapshot).items()
    }
