"""Who is behind a client's address, for the counters of connections that come in from outside the node."""

from __future__ import annotations

from mesh.control.select import addressed
from mesh.model import Snapshot


def compile_sources(snapshot: Snapshot) -> dict[str, int]:
    """Pod address -> Workload.id. What is not here is unknown in metrics, never guessed."""
    return {address: workload.id for address, workload in addressed(snapshot).items()}
