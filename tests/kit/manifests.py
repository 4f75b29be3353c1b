"""The Kubernetes YAML of a lab, for `seine agent --source DIR`: one file per object, each replaced at once.

    manifests = Manifests(directory, lab)
    manifests.pod(client).pod(web, fail="closed")
    vip, vip6 = manifests.service("web", 80, backends=[web])

Objects look as an API server would show them (status, conditions, targetRef, one EndpointSlice per family). Changing
something is writing it again.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.kit.lab import HostPod, Lab, Pod
from tests.kit.network import Node

Ports = Iterable[int]


@dataclass(frozen=True)
class Port:
    """One port of a Service; `target` 0: the same number in the pod."""

    port: int
    target: int = 0
    name: str = ""
    app_protocol: str = ""


class Manifests:
    def __init__(self, directory: Path, lab: Lab) -> None:
        self.directory, self.lab = directory, lab
        self._vips: dict[str, tuple[str, str]] = {}
        directory.mkdir(parents=True, exist_ok=True)

    def write(self, name: str, *objects: dict[str, Any]) -> Manifests:
        """These objects as one file."""
        return self.text(name, yaml.safe_dump_all(objects, sort_keys=False))

    def text(self, name: str, text: str) -> Manifests:
        """Any text, also a broken one, as a file of the source."""
        fresh = self.directory / f".{name}.new"
        fresh.write_text(text)
        os.replace(fresh, self.directory / f"{name}.yaml")
        return self

    def remove(self, name: str) -> Manifests:
        (self.directory / f"{name}.yaml").unlink()
        return self

    def namespace(self, name: str = "default", enrolled: bool | None = None, **annotations: str) -> Manifests:
        metadata = {"name": name, "labels": _switch(enrolled), "annotations": annotations}
        return self.write(f"namespace-{name}", {"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})

    def pod(
        self,
        pod: Pod,
        enrolled: bool | None = True,
        namespace: str = "default",
        service_account: str = "default",
        fail: str = "",
        skip_inbound: Ports = (),
        skip_outbound: Ports = (),
        opaque: Ports = (),
        labels: dict[str, str] | None = None,
        annotations: dict[str, str] | None = None,
    ) -> Manifests:
        """`enrolled` None: the namespace decides."""
        notes = {"seine.dev/netns": pod.netns, "seine.dev/cgroup": str(pod.cgroup)}
        notes |= {"seine.dev/fail": fail} if fail else {}
        for key, ports in (("skip-inbound", skip_inbound), ("skip-outbound", skip_outbound), ("opaque", opaque)):
            if ports:
                notes[f"config.seine.dev/{key}-ports"] = ",".join(map(str, ports))
        body = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "name": pod.name,
                "namespace": namespace,
                "uid": uid(pod),
                "labels": {"app": pod.name, **_switch(enrolled), **(labels or {})},
                "annotations": {**notes, **(annotations or {})},
            },
            "spec": {
                "nodeName": pod.node.name,
                "serviceAccountName": service_account,
                "hostNetwork": isinstance(pod, HostPod),
                "containers": [{"name": "app", "image": "app"}],
            },
            "status": {"phase": "Running", "podIP": pod.ip, "podIPs": [{"ip": ip} for ip in (pod.ip, pod.ip6) if ip]},
        }
        return self.write(f"pod-{namespace}-{pod.name}", body)

    def node(
        self, node: Node, addresses: Sequence[str] = (), cidrs: Sequence[str] | None = None, mtu: int = 0
    ) -> Manifests:
        """The Node object of a node of the lab; addresses and networks of pods are its own unless others are given."""
        listed = addresses or (node.address, node.address6)
        body = {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": node.name, "annotations": {"seine.dev/mtu": str(mtu)} if mtu else {}},
            "spec": {"podCIDRs": list(cidrs if cidrs is not None else (node.subnet.cidr, node.subnet.cidr6))},
            "status": {"addresses": [{"type": "InternalIP", "address": address} for address in listed]},
        }
        return self.write(f"node-{node.name}", body)

    def policy(self, name: str, spec: dict[str, Any], namespace: str = "default", dry_run: bool = False) -> Manifests:
        """An AuthorizationPolicy, in a file of its own."""
        metadata = {"name": name, "namespace": namespace, "annotations": {"seine.dev/dry-run": str(dry_run).lower()}}
        body = {"apiVersion": "seine.dev/v1alpha1", "kind": "AuthorizationPolicy", "metadata": metadata, "spec": spec}
        return self.write(f"policy-{namespace}-{name}", body)

    def service(
        self,
        name: str,
        *ports: Port | int,
        backends: Sequence[Pod] = (),
        unready: Sequence[Pod] = (),
        namespace: str = "default",
        headless: bool = False,
        annotations: dict[str, str] | None = None,
    ) -> tuple[str, str]:
        """A Service and its EndpointSlices; its addresses, the same ones whenever it is written again."""
        listed = [port if isinstance(port, Port) else Port(port) for port in ports]
        vips = self._vips.setdefault(f"{namespace}/{name}", self.lab.vip())
        shown = ["None"] if headless else list(vips)
        service = {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": name, "namespace": namespace, "annotations": annotations or {}},
            "spec": {
                "type": "ClusterIP",
                "clusterIP": shown[0],
                "clusterIPs": shown,
                "ipFamilies": ["IPv4", "IPv6"],
                "ports": [_service_port(port) for port in listed],
            },
        }
        slices = [_slice(name, namespace, listed, backends, unready, family) for family in ("IPv4", "IPv6")]
        self.write(f"service-{namespace}-{name}", service, *slices)
        return vips


def uid(pod: Pod) -> str:
    return f"uid-{pod.full_name}"


def _switch(enrolled: bool | None) -> dict[str, str]:
    return {} if enrolled is None else {"seine.dev/mesh": "enabled" if enrolled else "disabled"}


def _service_port(port: Port) -> dict[str, Any]:
    found = {"name": _name(port), "port": port.port, "targetPort": port.target or port.port, "protocol": "TCP"}
    return {**found, "appProtocol": port.app_protocol} if port.app_protocol else found


def _name(port: Port) -> str:
    return port.name or f"port-{port.port}"


def _slice(
    name: str, namespace: str, ports: Sequence[Port], ready: Sequence[Pod], unready: Sequence[Pod], family: str
) -> dict[str, Any]:
    def endpoint(pod: Pod, good: bool) -> dict[str, Any]:
        return {
            "addresses": [pod.ip if family == "IPv4" else pod.ip6],
            "conditions": {"ready": good, "serving": good, "terminating": False},
            "targetRef": {"kind": "Pod", "name": pod.name, "namespace": namespace, "uid": uid(pod)},
        }

    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": f"{name}-{family.lower()}",
            "namespace": namespace,
            "labels": {"kubernetes.io/service-name": name},
        },
        "addressType": family,
        "ports": [{"name": _name(port), "port": port.target or port.port, "protocol": "TCP"} for port in ports],
        "endpoints": [endpoint(pod, pod in ready) for pod in (*ready, *unready) if family == "IPv4" or pod.ip6],
    }
