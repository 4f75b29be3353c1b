"""What another node's proxy is told of a workload that calls it: Istio's fields of W3C Baggage (HBONE's `baggage`).

Only what is known; nothing in it is proof of anything, the certificate is.
"""

from __future__ import annotations

from mesh.model import Workload


def describe(workload: Workload, cluster: str = "Kubernetes") -> str:
    """k8s.cluster.name=...,k8s.namespace.name=...; names of Kubernetes need no escaping (W3C Baggage 3.3)."""
    found = {
        "k8s.cluster.name": cluster,
        "k8s.namespace.name": workload.namespace,
        "k8s.deployment.name": workload.owner or workload.name,
        "service.name": workload.app,
        "service.version": workload.version,
        "cloud.availability_zone": workload.zone,
    }
    return ",".join(f"{name}={value}" for name, value in found.items() if value)
