"""What the connect hook captures: every declared port of every VIP, every pod address on any port, and the canaries.

What is not here goes direct. A VIP's backends serve only while no worker lives; without any the hook refuses, so a
Service that lost its last endpoint must stay in this table. Who is reached by tunnel is no backend: without a worker
there is no tunnel, and nothing else is wanted.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import chain

from mesh.balance.ready import usable
from mesh.config import CANARY_ADDRESSES, CANARY_PORT
from mesh.control.memo import Memo, PerService, patched
from mesh.control.peers import Peer
from mesh.control.select import addressed, uid_of
from mesh.model import Destination, Service, ServicePort, Snapshot, Workload

Key = tuple[str, int]


class DestinationCompiler:
    """Remembers, see mesh.control.memo."""

    def __init__(self) -> None:
        self._of_services: PerService[list[tuple[Key, Destination]]] = PerService()
        self._pods: Memo[dict[str, Workload]] = Memo()
        self._destinations: dict[Key, Destination] = {}

    def compile(self, snapshot: Snapshot, peers: Mapping[str, Peer]) -> dict[Key, Destination]:
        """{address, port} -> destination; port 0 means any port of a pod's address. The very same dict where nothing
        changed. Nobody changes what is given or returned."""
        pods = self._pods.of((snapshot.workloads, snapshot.nodes), lambda: addressed(snapshot))

        def of(service: Service) -> list[tuple[Key, Destination]]:
            return [
                ((vip, port.port), _of_vip(vip, port, pods, peers)) for vip in service.vips for port in service.ports
            ]

        around = (snapshot.workloads, snapshot.nodes, peers)
        made = self._of_services.of(snapshot.services, around, of)
        changed = self._of_services.changed
        known = patched(self._destinations, changed) if changed is not None else None
        self._destinations = _together(made, pods, peers) if known is None else known
        return self._destinations


def _together(
    of_services: Iterable[list[tuple[Key, Destination]]], pods: Mapping[str, Workload], peers: Mapping[str, Peer]
) -> dict[Key, Destination]:
    found: dict[Key, Destination] = {}
    for key, each in chain.from_iterable(of_services):
        found.setdefault(key, each)  # of two that claim a VIP the first has it
    for address, workload in pods.items():
        peer = workload.uid in peers
        found[address, 0] = Destination(address=address, port=0, service=False, guarded=peer, tunnelled=peer)
    for address in CANARY_ADDRESSES:
        found[address, CANARY_PORT] = Destination(address=address, port=CANARY_PORT, service=False)
    return found


def compile_destinations(snapshot: Snapshot, peers: Mapping[str, Peer]) -> dict[Key, Destination]:
    """Once, without a memory."""
    return DestinationCompiler().compile(snapshot, peers)


def _of_vip(vip: str, port: ServicePort, pods: Mapping[str, Workload], peers: Mapping[str, Peer]) -> Destination:
    chosen = usable(port.endpoints, vip)
    plain = tuple((each.address, each.port) for each in chosen if uid_of(each, pods) not in peers)
    guarded = len(plain) < len(chosen)
    return Destination(
        address=vip,
        port=port.port,
        service=True,
        backends=plain,
        guarded=guarded,
        tunnelled=guarded and not plain,
    )
