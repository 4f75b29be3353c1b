"""Questions about a snapshot that more than one compiler asks."""

from __future__ import annotations

from collections.abc import Iterator

from mesh.model import Service, ServicePort, Snapshot, Workload


def addressed(snapshot: Snapshot) -> dict[str, Workload]:
    """Pod address -> workload. Not those of host-network pods: they are the node's, whoever else listens there."""
    found: dict[str, Workload] = {}
    for workload in snapshot.workloads:
        if not workload.host_network:
            for address in workload.addresses:
                found.setdefault(address, workload)
    return found


def virtual(snapshot: Snapshot) -> Iterator[tuple[str, Service, ServicePort]]:
    """Every {VIP, declared port} once; of two Services that claim one the first has it."""
    seen: set[tuple[str, int]] = set()
    for service in snapshot.services:
        for vip in service.vips:
            for port in service.ports:
                if (vip, port.port) not in seen:
                    seen.add((vip, port.port))
                    yield vip, service, port
