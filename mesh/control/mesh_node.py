"""What this node says of itself to the others: which of its pods are in the mesh, so that they are reached by tunnel.

A pod comes in when it has an identity and its capture has been proven, because a tunnel to it must find us; and it
stays for as long as it is enrolled, with a certificate or (an agent that starts while its authority is away) without,
because the others would reach it in plaintext the moment it is not listed. So while our workers are being replaced, a
tunnel fails and is tried again, and no byte goes unprotected.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from mesh.model import MeshNode, Mtls, Pod, Transport


def compile_mesh_node(
    node: str, pods: Iterable[Pod], proven: Collection[str], before: Collection[str], transport: Transport
) -> MeshNode:
    """`pods`: the enrolled ones; `proven` (with an identity), `before` (listed until now): workload uids."""
    listed = [
        pod.workload
        for pod in pods
        if pod.mtls is not Mtls.DISABLED and (pod.workload.uid in proven or pod.workload.uid in before)
    ]
    workloads = tuple(sorted(listed, key=lambda workload: workload.uid))
    return MeshNode(name=node, workloads=workloads, transport=transport)
