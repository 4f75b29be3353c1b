"""A large cluster as Kubernetes objects. Pure: the same numbers give the same objects.

Endpoints are spread as people do: one Service has 1 % of them, fifty have 0.1 % each, the others nine or ten. Objects
carry what controllers write into them, read by us or not, because it is bytes on the way.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from uuid import UUID

Object = dict[str, Any]
SLICE_ENDPOINTS_MAX = 100  # the endpoint slice controller's own
NAMESPACES = 100
NODES = 1000
ZONES = 3
LARGE = 50


@dataclass(frozen=True)
class Size:
    services: int
    endpoints: int
    pods: int  # enrolled, on the node

    def counts(self) -> list[int]:
        """Endpoints of each Service."""
        large = [self.endpoints // 100, *[self.endpoints // 1000] * LARGE]
        rest, others = self.endpoints - sum(large), self.services - len(large)
        return large + [rest // others + (number < rest % others) for number in range(others)]


@dataclass(frozen=True)
class Piece:
    """One EndpointSlice: which Service's, which of its slices, and its endpoints by number."""

    service: int
    index: int
    members: tuple[int, ...]

    @property
    def path(self) -> str:
        return f"{slices_path(namespace_of(self.service))}/{self.name}"

    @property
    def name(self) -> str:
        return f"{service_name(self.service)}-{self.index}"

    def changed(self, at: int, member: int) -> Piece:
        """One pod was replaced by another."""
        return Piece(self.service, self.index, (*self.members[:at], member, *self.members[at + 1 :]))

    def object(self) -> Object:
        namespace = namespace_of(self.service)
        pods = [_endpoint(number, namespace, service_name(self.service)) for number in self.members]
        return endpoint_slice(self.name, namespace, service_name(self.service), 8080, pods)


def namespace_of(service: int) -> str:
    return f"team-{service % NAMESPACES:02}"


def service_name(service: int) -> str:
    return f"svc-{service:05}"


def services_path(namespace: str) -> str:
    return f"/api/v1/namespaces/{namespace}/services"


def slices_path(namespace: str) -> str:
    return f"/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices"


def pieces(size: Size) -> Iterator[Piece]:
    first = 0
    for service, count in enumerate(size.counts()):
        for index, start in enumerate(range(first, first + count, SLICE_ENDPOINTS_MAX)):
            yield Piece(service, index, tuple(range(start, min(start + SLICE_ENDPOINTS_MAX, first + count))))
        first += count


def service(name: str, namespace: str, port: int, target_port: int) -> Object:
    """The API server gives it its address."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": namespace, "labels": {"app": name, "team": namespace}},
        "spec": {"selector": {"app": name}, "ports": [{"name": "http", "port": port, "targetPort": target_port}]},
    }


def endpoint_slice(name: str, namespace: str, of: str, port: int, endpoints: list[Object]) -> Object:
    labels = {
        "app": of,
        "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io",
        "kubernetes.io/service-name": of,
    }
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": name, "namespace": namespace, "labels": labels},
        "addressType": "IPv4",
        "ports": [{"name": "http", "port": port, "protocol": "TCP"}],
        "endpoints": endpoints,
    }


def endpoint(address: str, node: str, namespace: str, pod: str, uid: str, zone: str) -> Object:
    return {
        "addresses": [address],
        "conditions": {"ready": True, "serving": True, "terminating": False},
        "nodeName": node,
        "targetRef": {"kind": "Pod", "namespace": namespace, "name": pod, "uid": uid},
        "zone": zone,
    }


def _endpoint(number: int, namespace: str, app: str) -> Object:
    """A pod somewhere else, in 10.0.0.0/9, where no lab is."""
    address = f"10.{number >> 16 & 127}.{number >> 8 & 255}.{number & 255}"
    node = f"node-{number % NODES:04}"
    name = f"{app}-{number * 2654435761 & 0xFFFFFFFF:08x}-{number % 100000:05}"
    return endpoint(address, node, namespace, name, str(UUID(int=number << 64 | number)), f"zone-{number % ZONES}")
