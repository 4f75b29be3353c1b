"""The Node object, as far as it says where a machine and its pods are found. Schema: Kubernetes 1.33 core/v1."""

from __future__ import annotations

import ipaddress

from mesh.kube import objects
from mesh.kube.documents import Path, shown
from mesh.kube.fields import address
from mesh.kube.settings import BadField, mtu
from mesh.model import Host
from mesh.model import Value as Frozen

ZONE_LABEL = "topology.kubernetes.io/zone"


class HostFacts(Frozen):
    host: Host

    @property
    def title(self) -> str:
        return f"Node {self.host.name}"


def parse_node(raw: objects.Node, name: str) -> HostFacts:
    """Raises BadField."""
    addresses: dict[bool, str] = {}  # the first of each family is the one that others use
    for index, each in enumerate(raw.status.addresses or ()):
        if each.type == "InternalIP":
            text = address(each.address, ("status", "addresses", index, "address"))
            addresses.setdefault(":" in text, text)
    host = Host(
        name=name,
        addresses=tuple(addresses.values()),
        pod_cidrs=_pod_cidrs(raw.spec),
        mtu=mtu(raw.metadata) or 0,
        zone=(raw.metadata.labels or {}).get(ZONE_LABEL, ""),
        kubelet_port=raw.status.daemon_endpoints.kubelet_endpoint.port,
    )
    return HostFacts(host=host)


def _pod_cidrs(spec: objects.NodeSpec) -> tuple[str, ...]:
    texts = spec.pod_cidrs or ([spec.pod_cidr] if spec.pod_cidr else [])
    if spec.pod_cidr and spec.pod_cidr != texts[0]:
        raise BadField(("spec", "podCIDR"), f"{shown(spec.pod_cidr)}, but podCIDRs[0] is {shown(texts[0])}")
    found: dict[int, str] = {}
    for index, text in enumerate(texts):
        path: Path = ("spec", "podCIDRs", index) if spec.pod_cidrs else ("spec", "podCIDR")
        try:
            network = ipaddress.ip_network(text)
        except ValueError as error:
            raise BadField(path, f"{shown(text)} is no network: {error}") from None
        if network.prefixlen == 0 or network.is_multicast or network.is_loopback or network.is_link_local:
            raise BadField(path, f"{text} cannot be the network of a node's pods")
        if network.version in found:
            raise BadField(
                path, f"{text}; a node has one network of pods per family, and {found[network.version]} is it"
            )
        found[network.version] = str(network)
    return tuple(found.values())
