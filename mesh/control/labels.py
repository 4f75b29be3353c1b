"""Ids -> whom metrics mean by them. An id that is in none of these is called unknown, never guessed."""

from __future__ import annotations

from mesh.control.plans import endpoint_id
from mesh.model import Service, Snapshot, Value, Workload


class Labels(Value):
    """`addresses`: endpoints outside the mesh, or pods that were not seen themselves, by their address."""

    workloads: dict[int, Workload] = {}
    services: dict[int, Service] = {}
    addresses: dict[int, str] = {}


def labels(snapshot: Snapshot) -> Labels:
    workloads = {each.id: each for each in snapshot.workloads}
    endpoints = (end for service in snapshot.services for port in service.ports for end in port.endpoints)
    return Labels(
        workloads=workloads,
        services={each.id: each for each in snapshot.services},
        addresses={key: each.address for each in endpoints if (key := endpoint_id(each)) not in workloads},
    )
