"""Model values for tests of pure code: name what matters, the rest is plausible and distinct."""

from __future__ import annotations

from typing import Any

from mesh.model import (
    AuthorizationPolicy,
    AuthzAction,
    AuthzOperation,
    AuthzRule,
    AuthzSource,
    Endpoint,
    Match,
    MeshNode,
    Pattern,
    Plan,
    PlanEndpoint,
    Pod,
    Service,
    ServicePort,
    Snapshot,
    Workload,
    stable_id,
)


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


def pattern(text: str) -> Pattern:
    if text == "*":
        return Pattern(how=Match.PRESENT)
    if text.startswith("*"):
        return Pattern(how=Match.SUFFIX, text=text[1:])
    return Pattern(how=Match.PREFIX, text=text[:-1]) if text.endswith("*") else Pattern(how=Match.EXACT, text=text)


def _patterns(fields: dict[str, Any]) -> dict[str, Any]:
    plain = ("ports", "not_ports", "ip_blocks", "not_ip_blocks")
    return {name: tuple(values) if name in plain else tuple(map(pattern, values)) for name, values in fields.items()}


def rule(**fields: Any) -> AuthzRule:
    """Of one source and one operation; no fields: it matches everything."""
    source = _patterns({name: values for name, values in fields.items() if name in AuthzSource.__struct_fields__})
    operation = _patterns({name: values for name, values in fields.items() if name not in source})
    return AuthzRule(
        sources=(AuthzSource(**source),) if source else (),
        operations=(AuthzOperation(**operation),) if operation else (),
    )


def policy(name: str, action: str, *rules: AuthzRule, **fields: Any) -> AuthorizationPolicy:
    return AuthorizationPolicy(
        **{"namespace": "default", "name": name, "action": AuthzAction(action), "rules": rules, **fields}
    )
