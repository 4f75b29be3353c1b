"""One raw object -> checked facts about it, or BadField. Nothing here looks at a second object.

Accepted: what an API server would accept, as far as we read it. Answers None for what is valid and no business of
ours: finished pods, ExternalName Services, FQDN slices. Sources: Kubernetes API validation, Istio's canonical names.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable

import msgspec

from mesh.kube import objects
from mesh.kube.documents import Path, Value, shown
from mesh.kube.fields import NAME, address
from mesh.kube.host import ZONE_LABEL, HostFacts, parse_node
from mesh.kube.mesh_node import MeshNodeFacts, parse_mesh_node
from mesh.kube.policy import PolicyFacts, parse_policy
from mesh.kube.settings import (
    AUTHZ_DEFAULT,
    BALANCER,
    CGROUP,
    NETNS,
    OPAQUE,
    BadField,
    Settings,
    choice,
    path_setting,
    ports,
    read_settings,
    weight,
)
from mesh.model import Balancer, Protocol, Service, ServicePort, Workload
from mesh.model import Value as Frozen

PATH_STEP = re.compile(r"\.([^].\[`]+)|\[(\d+)\]")
APP_LABELS = ("service.istio.io/canonical-name", "app.kubernetes.io/name", "app")
VERSION_LABELS = ("service.istio.io/canonical-revision", "app.kubernetes.io/version", "version")
SERVICE_LABEL = "kubernetes.io/service-name"


class NamespaceFacts(Frozen):
    name: str
    settings: Settings
    default_deny: bool = False
    uid: str = ""
    ending: bool = False

    @property
    def title(self) -> str:
        return f"Namespace {self.name}"


class PodFacts(Frozen):
    workload: Workload
    settings: Settings
    netns: str
    cgroup: str
    weight: int | None
    labels: frozenset[tuple[str, str]] = frozenset()

    @property
    def title(self) -> str:
        return f"Pod {self.workload.namespace}/{self.workload.name}"


class ServiceFacts(Frozen):
    service: Service  # its ports have no endpoints yet

    @property
    def title(self) -> str:
        return f"Service {self.service.namespace}/{self.service.name}"


class EndpointFacts(Frozen):
    address: str
    ready: bool
    last_resort: bool  # terminating, yet serving: used where nothing is ready
    pod: tuple[str, str] | None  # namespace and name, where there is no uid
    uid: str
    zone: str


class SliceFacts(Frozen):
    namespace: str
    name: str
    service: str  # empty: of no Service
    ports: tuple[tuple[str, int], ...]  # TCP only
    other_ports: frozenset[str]  # names of those that are not TCP
    endpoints: tuple[EndpointFacts, ...]
    weight: int | None

    @property
    def title(self) -> str:
        return f"EndpointSlice {self.namespace}/{self.name}"


Facts = NamespaceFacts | PodFacts | ServiceFacts | SliceFacts | HostFacts | MeshNodeFacts | PolicyFacts


def decode(value: Value, kind: str) -> objects.Object:
    """A plain value of a known kind -> raw object; raises BadField at the field that has the wrong type."""
    try:
        return msgspec.convert(value, objects.KINDS[kind][1])
    except msgspec.ValidationError as error:
        reason, _, where = str(error).partition(" - at `")
        path = tuple(name or int(index) for name, index in PATH_STEP.findall(where))
        if where.endswith("[...]`"):  # an entry of labels or annotations: msgspec does not say which
            path = (*path, _not_text(value, path))
        raise BadField(path, f"{reason[:1].lower()}{reason[1:]}") from None


def _not_text(value: Value, path: Path) -> str:
    for step in path:
        value = value[step]
    return next(str(name) for name, entry in value.items() if not isinstance(entry, str))


def parse(raw: objects.Object) -> Facts | None:
    """Raises BadField."""
    match raw:
        case objects.Namespace():
            return NamespaceFacts(
                name=_name(raw.metadata),
                settings=read_settings(raw.metadata),
                default_deny=choice(raw.metadata, AUTHZ_DEFAULT, {"deny": True, "allow": False}) or False,
                uid=raw.metadata.uid,
                ending=bool(raw.metadata.deletion_timestamp),
            )
        case objects.Pod():
            return parse_pod(raw)
        case objects.Node():
            return parse_node(raw, _name(raw.metadata))
        case objects.Service():
            return parse_service(raw)
        case objects.EndpointSlice():
            return parse_slice(raw)
        case objects.MeshNode():
            return parse_mesh_node(raw, _name(raw.metadata))
        case objects.AuthorizationPolicy():
            return parse_policy(raw, _namespace(raw.metadata), _name(raw.metadata))
    raise TypeError(f"no parser for {type(raw).__name__}")


def parse_pod(raw: objects.Pod) -> PodFacts | None:
    if raw.status.phase in ("Succeeded", "Failed"):  # its address may already be another pod's
        return None
    meta, labels = raw.metadata, raw.metadata.labels or {}
    name, namespace = _name(meta), _namespace(meta)
    owner = owner_name(meta) or name
    workload = Workload(
        uid=meta.uid or f"{namespace}/{name}",
        namespace=namespace,
        name=name,
        addresses=_pod_addresses(raw.status),
        service_account=raw.spec.service_account_name or "default",
        node=raw.spec.node_name,
        zone=labels.get(ZONE_LABEL, ""),
        owner=owner,
        app=_first(labels, APP_LABELS) or owner,
        version=_first(labels, VERSION_LABELS) or "latest",
        host_network=raw.spec.host_network,
    )
    netns, cgroup = path_setting(meta, NETNS, absolute=True), path_setting(meta, CGROUP, absolute=False)
    return PodFacts(
        workload=workload,
        settings=read_settings(meta),
        netns=netns,
        cgroup=cgroup,
        weight=weight(meta),
        labels=frozenset(labels.items()),
    )


def owner_name(meta: objects.Meta) -> str:
    """What people call its origin: the Deployment behind a ReplicaSet, the CronJob behind a Job; "" for none."""
    owners = meta.owner_references or []
    owner = next((each for each in owners if each.controller), owners[0] if owners else None)
    if owner is None:
        return ""
    if owner.kind == "ReplicaSet":
        hashed = (meta.labels or {}).get("pod-template-hash", "")
        if hashed and owner.name.endswith(f"-{hashed}"):
            return owner.name.removesuffix(f"-{hashed}")
        return re.sub(r"-[a-z0-9]{5,10}$", "", owner.name)  # a hash has at most ten characters
    if owner.kind == "Job":
        return re.sub(r"-\d{8,}$", "", owner.name)  # minutes since 1970
    return owner.name


def parse_service(raw: objects.Service) -> ServiceFacts | None:
    if raw.spec.type == "ExternalName":
        return None
    meta = raw.metadata
    opaque = ports(meta, OPAQUE) or frozenset()
    service = Service(
        namespace=_namespace(meta),
        name=_name(meta),
        vips=_vips(raw.spec),
        ports=tuple(_service_ports(raw.spec.ports or (), opaque)),
        balancer=choice(meta, BALANCER, {each.value: each for each in Balancer}) or Balancer.EWMA,
    )
    return ServiceFacts(service=service)


def _service_ports(raw: Iterable[objects.ServicePort], opaque: frozenset[int]) -> Iterable[ServicePort]:
    names: set[str] = set()
    numbers: set[tuple[str, int]] = set()
    for index, port in enumerate(raw):
        path = ("spec", "ports", index)
        transport = _transport(port.protocol, path)
        _port(port.port, (*path, "port"))
        if port.name in names:
            raise BadField(path, f"two ports are named {shown(port.name)}; several ports need names of their own")
        if (transport, port.port) in numbers:
            raise BadField(path, f"port {port.port}/{transport} is here twice")
        names.add(port.name)
        numbers.add((transport, port.port))
        if transport == "TCP":
            forced = Protocol.OPAQUE if port.port in opaque else Protocol.DETECT
            hint = port.app_protocol or ""
            yield ServicePort(port=port.port, name=port.name, app_protocol=hint, protocol=forced)


def _vips(spec: objects.ServiceSpec) -> tuple[str, ...]:
    """Empty for a headless Service. One without any address would get it from an API server; here it is a mistake."""
    texts = spec.cluster_ips or ([spec.cluster_ip] if spec.cluster_ip else [])
    if not texts:
        raise BadField(("spec",), "no clusterIP, and nothing assigns one here: write one, or None for headless")
    if spec.cluster_ip and spec.cluster_ip != texts[0]:
        raise BadField(("spec", "clusterIP"), f"{shown(spec.cluster_ip)}, but clusterIPs[0] is {shown(texts[0])}")
    if texts == ["None"]:
        return ()
    field = "clusterIPs" if spec.cluster_ips else "clusterIP"
    return tuple(
        dict.fromkeys(
            address(text, ("spec", field, index) if spec.cluster_ips else ("spec", field))
            for index, text in enumerate(texts)
        )
    )


def parse_slice(raw: objects.EndpointSlice) -> SliceFacts | None:
    if raw.address_type == "FQDN":
        return None
    if raw.address_type not in ("IPv4", "IPv6"):
        raise BadField(("addressType",), f"{shown(raw.address_type)}; it must be IPv4, IPv6 or FQDN")
    namespace = _namespace(raw.metadata)
    endpoints = [_endpoint(each, raw.address_type, namespace, index) for index, each in enumerate(raw.endpoints or ())]
    tcp: list[tuple[str, int]] = []
    others: set[str] = set()
    for index, port in enumerate(raw.ports or ()):
        if _transport(port.protocol or "TCP", ("ports", index)) != "TCP":
            others.add(port.name or "")
        elif port.port is not None:  # null: any port, which no Service can mean
            tcp.append((port.name or "", _port(port.port, ("ports", index, "port"))))
    return SliceFacts(
        namespace=namespace,
        name=_name(raw.metadata),
        service=(raw.metadata.labels or {}).get(SERVICE_LABEL, ""),
        ports=tuple(tcp),
        other_ports=frozenset(others),
        endpoints=tuple(endpoints),
        weight=weight(raw.metadata),
    )


def _endpoint(raw: objects.SliceEndpoint, family: str, namespace: str, index: int) -> EndpointFacts:
    path = ("endpoints", index, "addresses")
    if not raw.addresses:
        raise BadField(path, "an endpoint needs an address")
    text = address(raw.addresses[0], (*path, 0))  # the others mean the same endpoint; kube-proxy uses the first as well
    if (":" in text) != (family == "IPv6"):
        raise BadField((*path, 0), f"{text} is not of the addressType {family}")
    state, target = raw.conditions, raw.target_ref
    pod = target is not None and target.kind == "Pod"
    if target is not None and target.namespace not in ("", namespace):
        namespace = target.namespace
    uid = target.uid if target is not None and pod else ""
    return EndpointFacts(
        address=text,
        ready=state.ready is not False,
        last_resort=state.ready is False and state.serving is not False and state.terminating is True,
        pod=(namespace, target.name) if target is not None and pod and target.name and not uid else None,
        uid=uid,
        zone=sys.intern(raw.zone or ""),  # of 100 000 endpoints
    )


def _pod_addresses(status: objects.PodStatus) -> tuple[str, ...]:
    listed = [(each.ip, ("status", "podIPs", index, "ip")) for index, each in enumerate(status.pod_ips or ())]
    texts: list[tuple[str, Path]] = [(status.pod_ip, ("status", "podIP")), *listed]
    return tuple(dict.fromkeys(address(text, path) for text, path in texts if text))


def _port(number: int, path: Path) -> int:
    if not 1 <= number <= 65535:
        raise BadField(path, f"port {number} is out of range; it must be from 1 to 65535")
    return number


def _transport(text: str, path: Path) -> str:
    if text not in ("TCP", "UDP", "SCTP"):
        raise BadField((*path, "protocol"), f"{shown(text)}; it must be TCP, UDP or SCTP")
    return text


def _name(meta: objects.Meta) -> str:
    if not NAME.fullmatch(meta.name):
        raise BadField(("metadata", "name"), f"{shown(meta.name)} is no name for an object")
    return meta.name


def _namespace(meta: objects.Meta) -> str:
    namespace = meta.namespace or "default"
    if not NAME.fullmatch(namespace):
        raise BadField(("metadata", "namespace"), f"{shown(namespace)} is no name for a Namespace")
    return namespace


def _first(labels: dict[str, str], names: Iterable[str]) -> str:
    return next((labels[name] for name in names if labels.get(name)), "")
