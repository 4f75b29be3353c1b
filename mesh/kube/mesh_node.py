"""The MeshNode object: what the agent of one node says of its pods, to be read by all others.

Whom it does not list is not in the mesh now, so an entry that cannot be right is refused with the whole object (the
last good one stays) rather than left out. Whether entries of several nodes contradict each other is asked in
listings.py. Schema: deploy/crds/meshnodes.yaml.
"""

from __future__ import annotations

from typing import Any

from mesh.kube import objects
from mesh.kube.documents import Path, shown
from mesh.kube.fields import NAME, address
from mesh.kube.settings import BadField
from mesh.model import MeshNode, Transport, Workload
from mesh.model import Value as Frozen


class MeshNodeFacts(Frozen):
    node: MeshNode

    @property
    def title(self) -> str:
        return f"MeshNode {self.node.name}"


def parse_mesh_node(raw: objects.MeshNode, name: str) -> MeshNodeFacts:
    """Raises BadField."""
    spec = raw.spec
    if spec.transport not in list(Transport):
        raise BadField(("spec", "transport"), f"{shown(spec.transport)}; it must be {' or '.join(Transport)}")
    workloads: list[Workload] = []
    seen: dict[str, int] = {}  # uid or address -> whose
    for index, each in enumerate(spec.workloads or ()):
        path: Path = ("spec", "workloads", index)
        workloads.append(_workload(each, path, name, spec.zone))
        for claim in (workloads[-1].uid, *workloads[-1].addresses):
            if seen.setdefault(claim, index) != index:
                raise BadField(path, f"{shown(claim)} is that of workloads[{seen[claim]}] already")
    return MeshNodeFacts(node=MeshNode(name=name, workloads=tuple(workloads), transport=Transport(spec.transport)))


def _workload(raw: objects.ListedWorkload, path: Path, node: str, zone: str) -> Workload:
    if not raw.uid or len(raw.uid) > objects.UID_LENGTH_MAX:
        raise BadField((*path, "uid"), f"a pod's uid has 1 to {objects.UID_LENGTH_MAX} characters")
    for field, text in (("namespace", raw.namespace), ("name", raw.name), ("serviceAccount", raw.service_account)):
        if not NAME.fullmatch(text):
            raise BadField((*path, field), f"{shown(text)} is no name")
    if not raw.addresses:
        raise BadField((*path, "addresses"), "nobody is reached without an address")
    owner = raw.owner or raw.name
    return Workload(
        uid=raw.uid,
        namespace=raw.namespace,
        name=raw.name,
        addresses=tuple(address(text, (*path, "addresses", at)) for at, text in enumerate(raw.addresses)),
        service_account=raw.service_account,
        node=node,
        zone=zone,
        owner=owner,
        app=raw.app or owner,
        version=raw.version or "latest",
    )


def mesh_node(node: MeshNode, home: tuple[str, str] = ("", "")) -> dict[str, Any]:
    """As an object to write; the opposite of parse_mesh_node. `home`: name and uid of our own Namespace, with which it
    goes: a list that nobody keeps would be believed for ever."""
    spec: dict[str, Any] = {"transport": str(node.transport), "workloads": [_entry(each) for each in node.workloads]}
    zone = next((each.zone for each in node.workloads if each.zone), "")  # one per node
    if zone:
        spec["zone"] = zone
    metadata: dict[str, Any] = {"name": node.name}
    if home[1]:
        owner = {"apiVersion": "v1", "kind": "Namespace", "name": home[0], "uid": home[1]}
        metadata["ownerReferences"] = [owner]
    return {"apiVersion": objects.SEINE, "kind": "MeshNode", "metadata": metadata, "spec": spec}


def _entry(workload: Workload) -> dict[str, Any]:
    entry = {
        "uid": workload.uid,
        "namespace": workload.namespace,
        "name": workload.name,
        "addresses": list(workload.addresses),
        "serviceAccount": workload.service_account,
    }
    owner = workload.owner or workload.name
    beside = (("owner", owner, workload.name), ("app", workload.app, owner), ("version", workload.version, "latest"))
    return entry | {field: text for field, text, understood in beside if text not in ("", understood)}
