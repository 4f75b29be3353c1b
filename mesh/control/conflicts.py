"""What two objects of one snapshot claim. The sources admit nothing of the kind; whoever builds a snapshot can check.

The compilers do not depend on it: where a conflict slips through, the first claimant has it, in the snapshot's order.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from mesh.config import CANARY_ADDRESSES
from mesh.model import Snapshot, Workload


def conflicts(snapshot: Snapshot) -> tuple[str, ...]:
    """A sentence per claim on what another has."""
    owners: dict[str, str] = {}
    found = []
    for claim, claimant in claims(snapshot):
        owner = owners.setdefault(claim, claimant)
        if owner != claimant:
            found.append(f"{claimant} has the {claim} of {owner}")
    return tuple(found)


def claims(snapshot: Snapshot) -> Iterator[tuple[str, str]]:
    """(what, who) of everything that belongs to nobody else."""
    yield from _each(CANARY_ADDRESSES, "address", "the mesh's own probe")
    for service in snapshot.services:
        name = f"Service {service.namespace}/{service.name}"
        yield from _each(service.vips, "address", name)
    for workload in snapshot.workloads:
        yield f"uid {workload.uid}", _pod(workload)
        if not workload.host_network:
            yield from _each(workload.addresses, "address", _pod(workload))
    for pod in snapshot.pods:
        if pod.netns and not pod.workload.host_network:
            yield f"network namespace {pod.netns}", _pod(pod.workload)
    for node in snapshot.nodes:
        for workload in node.workloads:
            yield f"entry of uid {workload.uid}", f"MeshNode {node.name}"
            yield from _each(workload.addresses, "address", _pod(workload))


def _pod(workload: Workload) -> str:
    return f"Pod {workload.namespace}/{workload.name} ({workload.uid})"


def _each(values: Iterable[str], what: str, who: str) -> Iterator[tuple[str, str]]:
    return ((f"{what} {value}", who) for value in values)
