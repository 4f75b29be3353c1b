"""Raw Kubernetes objects, as far as we read them; everything else in them is skipped, not refused.

One set of structs for both sources: YAML values go through `msgspec.convert`, an API server's JSON through
`msgspec.json.Decoder` (2 us per pod). A collection may be null: the API server writes `"endpoints": null`.
Schemas: Kubernetes 1.33 core/v1 and discovery.k8s.io/v1; deploy/crds/ for seine.dev.
"""

from __future__ import annotations

from typing import dataclass_transform

import msgspec

SEINE = "seine.dev/v1alpha1"
UID_LENGTH_MAX = 512  # Kubernetes gives 36 characters; standalone it may be NAMESPACE/NAME


@dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(msgspec.field,))
class Raw(msgspec.Struct, frozen=True, kw_only=True, gc=False, rename="camel"):
    """Base: lenient about unknown fields, strict about the types of known ones, as the API server is."""


class Owner(Raw):
    kind: str
    name: str
    controller: bool = False


class Meta(Raw):
    name: str = ""
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""
    generation: int = 0
    labels: dict[str, str] | None = None
    annotations: dict[str, str] | None = None
    owner_references: list[Owner] | None = None
    deletion_timestamp: str | None = None


class Object(Raw):
    metadata: Meta = Meta()


class Namespace(Object):
    pass


class PodIP(Raw):
    ip: str = ""


class PodSpec(Raw):
    node_name: str = ""
    service_account_name: str = ""
    host_network: bool = False


class PodStatus(Raw):
    phase: str = ""
    pod_ip: str = msgspec.field(default="", name="podIP")
    pod_ips: list[PodIP] | None = msgspec.field(default=None, name="podIPs")


class Pod(Object):
    spec: PodSpec = PodSpec()
    status: PodStatus = PodStatus()


class NodeSpec(Raw):
    pod_cidr: str = msgspec.field(default="", name="podCIDR")
    pod_cidrs: list[str] | None = msgspec.field(default=None, name="podCIDRs")


class NodeAddress(Raw):
    type: str = ""
    address: str = ""


class DaemonEndpoint(Raw):
    port: int = msgspec.field(default=0, name="Port")


class DaemonEndpoints(Raw):
    kubelet_endpoint: DaemonEndpoint = DaemonEndpoint()


class NodeStatus(Raw):
    addresses: list[NodeAddress] | None = None
    daemon_endpoints: DaemonEndpoints = DaemonEndpoints()


class Node(Object):
    spec: NodeSpec = NodeSpec()
    status: NodeStatus = NodeStatus()


class ServicePort(Raw):
    port: int
    name: str = ""
    protocol: str = "TCP"
    app_protocol: str | None = None


class ServiceSpec(Raw):
    type: str = "ClusterIP"
    cluster_ip: str = msgspec.field(default="", name="clusterIP")
    cluster_ips: list[str] | None = msgspec.field(default=None, name="clusterIPs")
    ports: list[ServicePort] | None = None


class Service(Object):
    spec: ServiceSpec = ServiceSpec()


class Conditions(Raw):
    """Absent means unknown; consumers read unknown `ready` and `serving` as true."""

    ready: bool | None = None
    serving: bool | None = None
    terminating: bool | None = None


class Reference(Raw):
    kind: str = ""
    namespace: str = ""
    name: str = ""
    uid: str = ""


class SliceEndpoint(Raw):
    addresses: list[str]
    conditions: Conditions = Conditions()
    target_ref: Reference | None = None
    zone: str | None = None


class SlicePort(Raw):
    port: int | None = None
    name: str | None = None
    protocol: str | None = None
    app_protocol: str | None = None


class EndpointSlice(Object):
    address_type: str = ""
    endpoints: list[SliceEndpoint] | None = None
    ports: list[SlicePort] | None = None


class ListedWorkload(Raw):
    uid: str = ""
    namespace: str = ""
    name: str = ""
    addresses: list[str] | None = None
    service_account: str = ""
    owner: str = ""
    app: str = ""
    version: str = ""


class MeshNodeSpec(Raw):
    zone: str = ""
    transport: str = "hbone"
    workloads: list[ListedWorkload] | None = None


class MeshNode(Object):
    spec: MeshNodeSpec = MeshNodeSpec()


class PolicyRaw(Raw, frozen=True, forbid_unknown_fields=True):
    """Of a policy: what is not understood must not be left out, or it would mean something else."""


class PolicySelector(PolicyRaw):
    match_labels: dict[str, str] | None = None


class PolicySource(PolicyRaw):
    principals: list[str] | None = None
    not_principals: list[str] | None = None
    namespaces: list[str] | None = None
    not_namespaces: list[str] | None = None
    ip_blocks: list[str] | None = None
    not_ip_blocks: list[str] | None = None
    request_principals: object = None
    not_request_principals: object = None
    remote_ip_blocks: object = None
    not_remote_ip_blocks: object = None
    service_accounts: object = None
    not_service_accounts: object = None


class PolicyFrom(PolicyRaw):
    source: PolicySource


class PolicyOperation(PolicyRaw):
    hosts: list[str] | None = None
    not_hosts: list[str] | None = None
    ports: list[str] | None = None
    not_ports: list[str] | None = None
    methods: list[str] | None = None
    not_methods: list[str] | None = None
    paths: list[str] | None = None
    not_paths: list[str] | None = None


class PolicyTo(PolicyRaw):
    operation: PolicyOperation


class PolicyRule(PolicyRaw):
    from_: list[PolicyFrom] | None = msgspec.field(default=None, name="from")
    to: list[PolicyTo] | None = None
    when: object = None


class PolicySpec(PolicyRaw):
    selector: PolicySelector | None = None
    action: str = "ALLOW"
    rules: list[PolicyRule] | None = None
    target_ref: object = None
    target_refs: object = None
    provider: object = None


class Condition(Raw):
    type: str = ""
    status: str = ""
    reason: str = ""
    message: str = ""
    observed_generation: int = 0
    last_transition_time: str = ""


class Status(Raw):
    """What a controller says of an object; agents read none of it."""

    conditions: list[Condition] | None = None


class AuthorizationPolicy(Object):
    spec: PolicySpec = PolicySpec()
    status: Status = Status()


KINDS: dict[str, tuple[str, type[Object]]] = {
    "Namespace": ("v1", Namespace),
    "Pod": ("v1", Pod),
    "Node": ("v1", Node),
    "Service": ("v1", Service),
    "EndpointSlice": ("discovery.k8s.io/v1", EndpointSlice),
    "MeshNode": (SEINE, MeshNode),
    "AuthorizationPolicy": (SEINE, AuthorizationPolicy),
}
