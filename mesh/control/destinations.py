"""What the connect hook captures: every declared port of every VIP, every pod address on any port, and the canaries.

What is not here goes direct. A VIP's backends serve only while no worker lives; without any the hook refuses, so a
Service that lost its last endpoint must stay in this table. Who is reached by tunnel is no backend: without a worker
there is no tunnel, and nothing else is wanted.
"""

from __future__ import annotations

from collections.abc import Mapping

from mesh.balance.ready import usable
from mesh.config import CANARY_ADDRESSES, CANARY_PORT
from mesh.control.peers import Peer
from mesh.control.select import addressed, uid_of, virtual
from mesh.model import Destination, ServicePort, Snapshot, Workload


def compile_destinations(snapshot: Snapshot, peers: Mapping[str, Peer]) -> dict[tuple[str, int], Destination]:
    """{address, port} -> destination; port 0 means any port of a pod's address."""
    pods = addressed(snapshot)
    found = [_of_vip(vip, port, pods, peers) for vip, _, port in virtual(snapshot)]
    found += [
        Destination(address=address, port=0, service=False, tunnelled=workload.uid in peers)
        for address, workload in pods.items()
    ]
    found += [Destination(address=address, port=CANARY_PORT, service=False) for address in CANARY_ADDRESSES]
    return {(each.address, each.port): each for each in found}


def _of_vip(vip: str, port: ServicePort, pods: Mapping[str, Workload], peers: Mapping[str, Peer]) -> Destination:
    chosen = usable(port.endpoints, vip)
    plain = tuple((each.address, each.port) for each in chosen if uid_of(each, pods) not in peers)
    tunnelled = bool(chosen) and not plain
    return Destination(address=vip, port=port.port, service=True, backends=plain, tunnelled=tunnelled)
