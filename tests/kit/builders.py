"""Model values for tests of pure code: name what matters, the rest is plausible and distinct."""

from __future__ import annotations

from typing import Any

from mesh.model import Endpoint, MeshNode, Plan, PlanEndpoint, Pod, Service, ServicePort, Snapshot, Workload, stable_id


def workload(name: str = "web-1", *addresses: str, **fields: Any) -> Workload:
    defaults = {"uid": f"uid-{name}", "namespace": "default", "app": name, "addresses": addresses or ("10.0.0.1",)}
    return Workload(**{"name": name, **defaults, **fields})


def pod(name: str = "web-1", *addresses: str, **fields: Any) -> Pod:
    """An enrolled pod of this node."""
    defaults = {"workload": workload(name, *addresses), "netns": f"/run/netns/{name}", "enrolled": True}
    return Pod(**{**defaults, **fields})


def mesh_node(name: str, *workloads: Workload, **fields: Any) -> MeshNode:
    """What another node lists."""
    return MeshNode(name=name, workloads=workloads, **fields)


def endpoint(address: str = "10.0.0.1", port: int = 8080, **fields: Any) -> Endpoint:
    return Endpoint(address=address, port=port, **fields)


def service(name: str = "web", port: int = 80, *endpoints: Endpoint, vip: str = "10.96.0.10", **fields: Any) -> Service:
    """One port; `fields` win."""
    ports = (ServicePort(port=port, name="http", endpoints=endpoints or (endpoint(),)),)
    return Service(**{"namespace": "default", "name": name, "vips": (vip,) if vip else (), "ports": ports, **fields})


def snapshot(*things: Service | Pod | Workload, **fields: Any) -> Snapshot:
    """A snapshot of these; a pod brings its workload."""
    pods = tuple(thing for thing in things if isinstance(thing, Pod))
    workloads = tuple(thing for thing in things if isinstance(thing, Workload)) + tuple(p.workload for p in pods)
    services = tuple(thing for thing in things if isinstance(thing, Service))
    return Snapshot(**{"services": services, "workloads": workloads, "pods": pods, **fields})


def plan(address: str = "10.96.0.10", port: int = 80, *endpoints: tuple[str, int], **fields: Any) -> Plan:
    """A plan with these {address, port} endpoints."""
    chosen = tuple(PlanEndpoint(id=stable_id("address", host), address=host, port=number) for host, number in endpoints)
    return Plan(**{"address": address, "port": port, "endpoints": chosen, **fields})
