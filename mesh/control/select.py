"""Questions about a snapshot that more than one compiler asks."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import chain

from mesh.model import Endpoint, Snapshot, Workload


def addressed(snapshot: Snapshot) -> dict[str, Workload]:
    """Pod address -> workload. Not those of host-network pods: they are the node's, whoever else listens there.

    What we know of a pod ourselves comes before what another node says of its address.
    """
    found: dict[str, Workload] = {}
    for workload in chain(snapshot.workloads, *(node.workloads for node in snapshot.nodes)):
        if not workload.host_network:
            for address in workload.addresses:
                found.setdefault(address, workload)
    return found


def pod_of(endpoint: Endpoint, pods: Mapping[str, Workload]) -> Workload | None:
    """The pod that an endpoint is; one of another uid has only had its address before or after. `pods`: by address."""
    workload = pods.get(endpoint.address)
    return workload if workload is not None and endpoint.workload_uid in ("", workload.uid) else None


def uid_of(endpoint: Endpoint, pods: Mapping[str, Workload]) -> str:
    """Its workload's uid, "" where nobody is known; a uid may be all that is known of a pod."""
    workload = pod_of(endpoint, pods)
    return workload.uid if workload is not None else endpoint.workload_uid
