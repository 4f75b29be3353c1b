"""Who is reached by tunnel, and as whom: what other nodes list, and this node's own pods if it is set so.

A workload is known by its uid, never by its address: addresses are given to somebody else within seconds. Who is
listed is reached by tunnel or not at all, however old the list may be, because the alternative would be plaintext
that nobody asked for; who is not listed is reached as without a mesh. QUIC goes to a node and not to a pod: where the
node's own address is not known (its Node object says it) the way is HBONE.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from mesh.config import TUNNEL_PORT
from mesh.model import Mtls, Snapshot, Transport


class Peer(NamedTuple):
    identity: str  # SPIFFE id
    transport: Transport
    node: str = ""  # IP:PORT of its node, for QUIC alone


def compile_peers(
    snapshot: Snapshot, slots: Mapping[str, int], trust_domain: str, local_tunnel: bool = False
) -> dict[str, Peer]:
    """By workload uid. `slots`: of this node's enrolled pods; `local_tunnel`: they are peers too."""
    peers: dict[str, Peer] = {}
    by_quic = quic_nodes(snapshot)
    for node in snapshot.nodes:
        where = by_quic.get(node.name, "")
        way = (Transport.QUIC, where) if where else (Transport.HBONE, "")
        for workload in node.workloads:
            if workload.uid not in slots:
                peers.setdefault(workload.uid, Peer(workload.identity(trust_domain), *way))
    if local_tunnel:
        for pod in snapshot.pods:
            if pod.workload.uid in slots and pod.mtls is not Mtls.DISABLED:
                peers[pod.workload.uid] = Peer(pod.workload.identity(trust_domain), Transport.HBONE)
    return peers


def quic_nodes(snapshot: Snapshot) -> dict[str, str]:
    """IP:PORT by name of each node that asks for QUIC, and whose Node object says where it is."""
    addresses = {host.name: host.addresses[0] for host in snapshot.hosts if host.addresses}
    asking = (node.name for node in snapshot.nodes if node.transport is Transport.QUIC)
    return {name: _port(addresses[name]) for name in asking if name in addresses}


def _port(address: str) -> str:
    return f"[{address}]:{TUNNEL_PORT}" if ":" in address else f"{address}:{TUNNEL_PORT}"
