"""What the other nodes list, without contradictions.

A workload is of one node, an address of one workload, and neither may be what we know better ourselves: our own pods,
other Pod objects, Services. Between two nodes whoever said it first stays, so that no node can take over what
another has; without an order (a new agent) the name decides. Of an entry that loses only an address the rest stays:
the pod is in the mesh, and may be reached by tunnel or not at all. Every loss is told.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from msgspec import structs

from mesh.model import MeshNode, Pod, Service, Workload

Seats = frozenset[tuple[str, str]]


class Said(NamedTuple):
    """What one node says, and where."""

    place: str
    node: MeshNode


class Owner(NamedTuple):
    """Whose an address is."""

    uid: str  # "": no workload's
    whose: str  # in a sentence


class _Entry(NamedTuple):
    place: str
    node: str
    workload: Workload

    @property
    def seat(self) -> tuple[str, str]:
        return (f"MeshNode {self.node}", self.workload.uid)

    def __str__(self) -> str:
        return f"{self.place}: MeshNode {self.node} lists Pod {self.workload.namespace}/{self.workload.name}"


class Known:
    """What we know ourselves."""

    def __init__(self, services: Iterable[Service], workloads: Iterable[Workload], local: Iterable[Pod]) -> None:
        self.workloads = {each.uid: each for each in workloads}
        self.local = {each.workload.uid for each in local}
        self.addresses: dict[str, Owner] = {}
        for service in services:
            owner = Owner("", f"Service {service.namespace}/{service.name}'s")
            self.addresses.update(dict.fromkeys(service.vips, owner))
        for each in self.workloads.values():
            if not each.host_network:
                _claim(each, self.addresses)


def settle(said: Sequence[Said], known: Known, before: Seats = frozenset()) -> tuple[list[MeshNode], list[str], Seats]:
    """The nodes by name, each with the entries that are believed; a sentence for every loss; who has what now."""
    entries = [_Entry(each.place, each.node.name, workload) for each in said for workload in each.node.workloads]
    kept: dict[tuple[str, str], Workload] = {}  # by seat
    taken: dict[str, _Entry] = {}  # by uid
    addresses = dict(known.addresses)
    errors: list[str] = []
    for entry in sorted(entries, key=lambda entry: (entry.seat not in before, entry.seat)):
        if reason := _refusal(entry, known, taken):
            errors.append(f"{entry}, {reason}; this is not believed")
            continue
        taken[entry.workload.uid] = entry
        lost = _claim(entry.workload, addresses)
        errors += [f"{entry} at {address}, which is {addresses[address].whose}" for address in lost]
        rest = tuple(address for address in entry.workload.addresses if address not in lost)
        kept[entry.seat] = structs.replace(entry.workload, addresses=rest)
    believed: dict[str, list[Workload]] = {name: [] for name in sorted(each.node.name for each in said)}
    for entry in entries:
        if entry.seat in kept:
            believed[entry.node].append(kept[entry.seat])
    nodes = {each.node.name: each.node for each in said}
    settled = [structs.replace(nodes[name], workloads=tuple(mine)) for name, mine in believed.items()]
    return settled, errors, frozenset(kept)


def _refusal(entry: _Entry, known: Known, taken: Mapping[str, _Entry]) -> str:
    """Why nothing of it is believed; "" if it is."""
    workload = entry.workload
    ours = known.workloads.get(workload.uid)
    if workload.uid in known.local:
        return "which is a pod of this node"
    if ours is not None and ours.node not in ("", entry.node):
        return f"which is on node {ours.node}"
    if ours is not None and _who(ours) != _who(workload):
        return f"whose uid is that of {_who(ours)}"
    if (other := taken.get(workload.uid)) is not None:
        return f"which MeshNode {other.node} listed before it"
    return ""


def _who(workload: Workload) -> str:
    return f"Pod {workload.namespace}/{workload.name} with service account {workload.service_account}"


def _claim(workload: Workload, addresses: dict[str, Owner]) -> list[str]:
    """The addresses that somebody else has; the others are this workload's from now on."""
    own = Owner(workload.uid, f"Pod {workload.namespace}/{workload.name}'s")
    return [address for address in workload.addresses if addresses.setdefault(address, own).uid != workload.uid]
