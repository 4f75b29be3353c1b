"""Who is reached by tunnel, and as whom: what other nodes list, and this node's own pods if it is set so.

A workload is known by its uid, never by its address: addresses are given to somebody else within seconds. Who is
listed is reached by tunnel or not at all, however old the list may be, because the alternative would be plaintext
that nobody asked for; who is not listed is reached as without a mesh.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from mesh.model import Mtls, Snapshot, Transport


class Peer(NamedTuple):
    identity: str  # SPIFFE id
    transport: Transport


def compile_peers(
    snapshot: Snapshot, slots: Mapping[str, int], trust_domain: str, local_tunnel: bool = False
) -> dict[str, Peer]:
    """By workload uid. `slots`: of this node's enrolled pods; `local_tunnel`: they are peers too."""
    peers: dict[str, Peer] = {}
    for node in snapshot.nodes:
        for workload in node.workloads:
            if workload.uid not in slots:
                peers.setdefault(workload.uid, Peer(workload.identity(trust_domain), node.transport))
    if local_tunnel:
        for pod in snapshot.pods:
            if pod.workload.uid in slots and pod.mtls is not Mtls.DISABLED:
                peers[pod.workload.uid] = Peer(pod.workload.identity(trust_domain), Transport.HBONE)
    return peers
