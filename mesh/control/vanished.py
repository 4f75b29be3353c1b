"""Nodes whose lists are gone though nobody took them back: what they said last holds for a while.

A list is taken back by a list without pods, which `seine clean` writes, or entry by entry by its own agent. A MeshNode
that is not there any more takes nothing back: a document deleted, a file lost or a directory that came up empty would
have its pods reached in plaintext, and nobody would be told. The bias: whoever was proven is reached by tunnel or not
at all. It ends after `hold_seconds`, because a node that died without a word must not have its pods' addresses for
ever; and whatever anybody says who still speaks, of a pod or an address, is believed before it. The clock is the
machine's own since its boot, which nobody sets.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from msgspec import structs

from mesh.model import MeshNode, Snapshot, Workload

Known = Mapping[str, MeshNode]  # by name


def remember(known: Known, snapshot: Snapshot, now: float, hold_seconds: float) -> dict[str, MeshNode]:
    """Who lists pods, or did last, and whose list is missing since when. `known`: of the last time."""
    there = {node.name for node in snapshot.nodes}
    kept = {node.name: node for node in snapshot.nodes if node.workloads}
    for name, node in known.items():
        since = now if node.missing_since is None else min(node.missing_since, now)
        if name not in there and now - since < hold_seconds:
            kept[name] = structs.replace(node, missing_since=since)
    return kept


def complete(snapshot: Snapshot, known: Known) -> Snapshot:
    """With the missing nodes, as far as nobody else has what they listed."""
    missing = sorted((node for node in known.values() if node.missing_since is not None), key=lambda node: node.name)
    if not missing:
        return snapshot
    taken = {pod.workload.uid for pod in snapshot.pods}
    taken |= {each.uid for node in snapshot.nodes for each in node.workloads}
    owners = dict(_owned(snapshot))
    held = tuple(structs.replace(node, workloads=tuple(_rest(node, taken, owners))) for node in missing)
    return structs.replace(snapshot, nodes=(*snapshot.nodes, *held))


def _owned(snapshot: Snapshot) -> Iterator[tuple[str, str]]:
    """(address, uid of whose it is)."""
    for service in snapshot.services:
        yield from ((vip, "") for vip in service.vips)
    listed = (each for node in snapshot.nodes for each in node.workloads)
    for workload in (*listed, *snapshot.workloads):
        if not workload.host_network:
            yield from ((address, workload.uid) for address in workload.addresses)


def _rest(node: MeshNode, taken: set[str], owners: dict[str, str]) -> Iterator[Workload]:
    for each in node.workloads:
        if each.uid not in taken:
            taken.add(each.uid)
            own = tuple(address for address in each.addresses if owners.setdefault(address, each.uid) == each.uid)
            yield structs.replace(each, addresses=own)
