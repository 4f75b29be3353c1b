"""Frozen values that every stage shares: who exists, where, and what the control stage made of it.

Nothing here decides, opens or remembers anything. Addresses are `ipaddress` text in canonical form
("10.0.0.1", "fd00::1"); identifiers are stable 64-bit hashes of names (`stable_id`), so that counters
kept in shared memory keep their meaning over a restart of the agent.
"""

from __future__ import annotations

import hashlib
from enum import IntEnum, StrEnum
from typing import NamedTuple, dataclass_transform

import msgspec


# msgspec hands `frozen` down, which type checkers must be told; that fields are named in calls is our own habit.
@dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(msgspec.field,))
class Value(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Base of every shared value: immutable, hashable, comparable, and a message as it is.

    Being immutable it cannot be part of a cycle, so the garbage collector need not look at it: of 100 000 endpoints.
    """


class FailMode(StrEnum):
    """What a pod's new connections do while no worker is alive to carry them."""

    OPEN = "open"
    CLOSED = "closed"


class Mtls(StrEnum):
    """What a pod accepts: plaintext and mutual TLS, mutual TLS only, or plaintext only (it gets no tunnel)."""

    PERMISSIVE = "permissive"
    STRICT = "strict"
    DISABLED = "disabled"


class Transport(StrEnum):
    """What carries connections between two nodes: HTTP/2 CONNECT over TLS 1.3, or the same over HTTP/3."""

    HBONE = "hbone"
    QUIC = "quic"


class Direction(IntEnum):
    """Seen from the enrolled pod. The numbers are those of bpf/types.h and cext/engine.h."""

    OUTBOUND = 0
    INBOUND = 1


class Protocol(StrEnum):
    """What a port is declared to speak. DETECT means: nobody said, the first bytes decide."""

    DETECT = "detect"
    HTTP = "http"
    HTTP2 = "http2"
    TLS = "tls"
    OPAQUE = "opaque"


class Balancer(StrEnum):
    EWMA = "ewma"
    ROUND_ROBIN = "round_robin"


def stable_id(kind: str, *names: str) -> int:
    """A non-zero 64-bit id that any process computes alike: blake2b of the names, joined by NUL."""
    text = "\0".join((kind, *names)).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little") or 1


def spiffe_id(trust_domain: str, namespace: str, service_account: str) -> str:
    """The identity of every pod that runs as this service account (SPIFFE-ID 1.0, the path is Istio's)."""
    return f"spiffe://{trust_domain}/ns/{namespace}/sa/{service_account}"


class Workload(Value):
    """One pod, wherever it runs; what metrics call source or destination."""

    uid: str
    namespace: str
    name: str
    addresses: tuple[str, ...]
    service_account: str = "default"
    node: str = ""
    zone: str = ""
    owner: str = ""  # the controller's name ("web" for web-5d4f-xyz); the pod's own name if it has none
    app: str = ""
    version: str = ""
    host_network: bool = False

    @property
    def id(self) -> int:
        return stable_id("workload", self.uid)

    def identity(self, trust_domain: str) -> str:
        return spiffe_id(trust_domain, self.namespace, self.service_account)


class AuthzAction(StrEnum):
    """What happens to whom a policy's rules match. AUDIT: it is told, and goes on."""

    ALLOW = "ALLOW"
    DENY = "DENY"
    AUDIT = "AUDIT"


class Match(IntEnum):
    """How a text is compared: "x", "x*", "*x", "*". The numbers of cext/authz.h."""

    EXACT = 0
    PREFIX = 1
    SUFFIX = 2
    PRESENT = 3


class Pattern(Value):
    how: Match
    text: str = ""

    def __str__(self) -> str:
        return f"{'*' * (self.how >= Match.SUFFIX)}{self.text}{'*' * (self.how is Match.PREFIX)}"


class AuthzSource(Value):
    """Who calls. Every list that is not empty must hold: one of its entries, or for `not_`: none."""

    principals: tuple[Pattern, ...] = ()  # SPIFFE ids without "spiffe://"
    not_principals: tuple[Pattern, ...] = ()
    namespaces: tuple[Pattern, ...] = ()  # of the SPIFFE id
    not_namespaces: tuple[Pattern, ...] = ()
    ip_blocks: tuple[str, ...] = ()  # canonical, with prefix length
    not_ip_blocks: tuple[str, ...] = ()


class AuthzOperation(Value):
    """What for, read like AuthzSource. All but the ports is known of HTTP only."""

    hosts: tuple[Pattern, ...] = ()  # lower case, without port
    not_hosts: tuple[Pattern, ...] = ()
    ports: tuple[int, ...] = ()  # the pod's
    not_ports: tuple[int, ...] = ()
    methods: tuple[Pattern, ...] = ()
    not_methods: tuple[Pattern, ...] = ()
    paths: tuple[Pattern, ...] = ()  # in normal form
    not_paths: tuple[Pattern, ...] = ()


class AuthzRule(Value):
    """One of the sources (none given: anybody) with one of the operations (none given: anything)."""

    sources: tuple[AuthzSource, ...] = ()
    operations: tuple[AuthzOperation, ...] = ()


class AuthorizationPolicy(Value):
    namespace: str
    name: str
    action: AuthzAction = AuthzAction.ALLOW
    rules: tuple[AuthzRule, ...] = ()
    selector: tuple[
        tuple[str, str], ...
    ] = ()  # labels that a pod must have; empty: all of the namespace, or of the mesh
    dry_run: bool = False  # told and counted, not enforced

    @property
    def id(self) -> int:
        return stable_id("authorization policy", self.namespace, self.name)


class Authorization(Value):
    """All that is said about who may call one pod, in the order it is looked at: DENY, ALLOW, AUDIT, by name."""

    policies: tuple[AuthorizationPolicy, ...] = ()
    default_deny: bool = False  # also where no ALLOW policy is


class Ruling(Value):
    """What a policy said of one connection or request, as a worker tells it: at most once a second per policy."""

    policy: int  # its id; 0: none allowed it
    rule: int  # of the policy; -1: none
    verdict: str  # of cext/stats.h: denied, audited, would_deny, would_allow
    missed: int  # like it, since the last one that was told
    slot: int  # of the pod that was called
    client: str
    client_port: int
    port: int
    identity: str = ""  # empty: none was proven
    method: str = ""  # empty: it was not HTTP
    host: str = ""
    path: str = ""


class MeshNode(Value):
    """What another node's agent says: who is in the mesh there, and proven to be captured. Nobody else is."""

    name: str
    workloads: tuple[Workload, ...] = ()
    transport: Transport = Transport.HBONE  # by which it wants to be reached
    missing_since: float | None = None  # its list is gone since then, s since boot, and nobody took it back: it holds


class Host(Value):
    """A machine of the cluster, this one too, as far as its Node object says how its pods are reached."""

    name: str
    addresses: tuple[str, ...] = ()  # at most one of a family, where the other machines find it
    pod_cidrs: tuple[str, ...] = ()  # at most one of a family; canonical text
    mtu: int = 0  # the largest packet that its network takes, in bytes; 0: nobody said
    zone: str = ""
    kubelet_port: int = 0  # 0: nobody said


class Pod(Value):
    """A pod of this node together with how Seine shall treat it."""

    workload: Workload
    netns: str  # path of its network namespace; empty: it can be found by the pod's uid
    cgroup: str = ""  # its leaf: absolute, or relative to the cgroup2 root (`root / cgroup` is both); empty: unknown
    enrolled: bool = False
    fail_mode: FailMode = FailMode.OPEN
    mtls: Mtls = Mtls.PERMISSIVE
    shortcut: bool = False
    skip_inbound_ports: frozenset[int] = frozenset()
    skip_outbound_ports: frozenset[int] = frozenset()
    opaque_ports: frozenset[int] = frozenset()
    labels: frozenset[tuple[str, str]] = frozenset()  # those that some policy selects by
    refused: str = ""  # a sentence: why it cannot be enrolled although it asks for it


class Endpoint(Value):
    """One address behind a service port."""

    address: str
    port: int
    workload_uid: str = ""
    ready: bool = True
    last_resort: bool = False  # not ready, but serving while it ends: for when nothing is ready
    weight: int = 1
    zone: str = ""


class ServicePort(Value):
    port: int
    name: str = ""
    app_protocol: str = ""  # as written; together with the name a hint, see mesh.detect
    protocol: Protocol = Protocol.DETECT  # what an annotation wants whatever the hints say; DETECT: nothing
    endpoints: tuple[Endpoint, ...] = ()


class Service(Value):
    namespace: str
    name: str
    vips: tuple[str, ...] = ()  # empty for a headless service
    ports: tuple[ServicePort, ...] = ()
    balancer: Balancer = Balancer.EWMA

    @property
    def id(self) -> int:
        return stable_id("service", self.namespace, self.name)


class Snapshot(Value):
    """Everything the source knows at one moment.

    `errors`: file, line and reason of what was refused; `warnings`: of what was taken and may not mean what it should.
    """

    services: tuple[Service, ...] = ()
    workloads: tuple[Workload, ...] = ()
    pods: tuple[Pod, ...] = ()
    nodes: tuple[MeshNode, ...] = ()  # the others
    hosts: tuple[Host, ...] = ()
    policies: tuple[AuthorizationPolicy, ...] = ()
    default_deny: frozenset[str] = frozenset()  # namespaces
    ending: frozenset[str] = frozenset()  # namespaces that are being deleted
    closed: frozenset[str] = frozenset()  # namespaces whose pods must never run outside of the mesh
    errors: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


class Source(NamedTuple):
    """Who a client's address is."""

    workload: int  # Workload.id
    identity: str = ""  # as a SPIFFE id: whose tunnels may speak for it; empty: nobody's


class Destination(Value):
    """What the connect hook knows of one address. `port` 0: any port of a pod's address.

    `backends` are the ready endpoints that the kernel's own small picker uses while no worker lives, without those
    that are reached by tunnel; `service` says that an empty list means "refuse" (a Service without endpoints) and not
    "go direct".
    """

    address: str
    port: int
    service: bool
    backends: tuple[tuple[str, int], ...] = ()
    guarded: bool = False  # somebody behind it is reached by tunnel
    tunnelled: bool = False  # everybody is, so nobody in plaintext: refuse, rather than go direct


class PlanEndpoint(Value):
    """One choice of a plan. `slot`: the pod of this node that is dialled from inside; -1: dialled from the source's.

    Where there is a `peer` it goes by tunnel also within the node; but a connection that is in that pod already (its
    session has this slot: it came in to the pod, or the pod calls itself) goes inside, or it would go in circles.
    """

    id: int  # Workload.id, or stable_id("address", address) where no workload is known
    address: str
    port: int  # 0: the port that was asked for
    slot: int = -1
    weight: int = 1
    peer: str = ""  # who must answer there, as a SPIFFE id; then it goes by tunnel and by nothing else. Empty: as it is
    transport: Transport = Transport.HBONE
    node: str = ""  # IP:PORT of its node's QUIC process; only where that is the transport


class Plan(Value):
    """What the engine does with connections to one address; looked up by {address, port}, then {address, 0}."""

    address: str
    port: int
    service: int = 0  # Service.id, 0 when no service is meant
    host: str = ""  # its DNS name, for the proxies of other nodes
    protocol: Protocol = Protocol.DETECT
    balancer: Balancer = Balancer.EWMA
    endpoints: tuple[PlanEndpoint, ...] = ()


class PodState(StrEnum):
    """What `seine status` and the metric say of a pod."""

    CAPTURED = "captured"
    BYPASSING = "bypassing"
    OPEN = "open"
    CLOSED = "closed"
    LEAKING = "leaking"
    REFUSED = "refused"
    PENDING = "pending"  # just enrolled, not proven yet


class Security(StrEnum):
    """What protected a connection on its way from node to node. The words are Istio's."""

    NONE = "none"
    MUTUAL_TLS = "mutual_tls"


class Series(Value, frozen=True):
    """What one worker slot has counted for one kind of traffic since it was made; every number only ever grows.

    `source`, `service` and `endpoint` are ids (0: unknown). `protocol`: what was spoken, not what was declared.
    "http1": `count`, duration and histogram are of finished requests; `code` 0 is a request without a response, and
    has a flag. All else, HTTP/2 too for now, is carried opaque: they are of finished connections, `code` is 0.
    `opened` and `closed` are client connections: of opaque ones with their endpoint; of HTTP ones under endpoint 0,
    code 0 and no flag, because their requests may have gone to many. A worker that takes over the counters of a dead
    one lets `closed` catch up with `opened` first. Bytes are bodies or payload, seen from the client: request bytes
    flow to the server. `flag`: Envoy's response flag, "" or "-" for none. The bounds of the histogram's buckets are
    the engine's, the last bucket has none. `security`: of the way to or from another node.
    """

    source: int
    service: int
    endpoint: int
    direction: Direction
    protocol: str
    code: int
    flag: str
    count: int
    opened: int
    closed: int
    request_bytes: int
    response_bytes: int
    duration_us_sum: int
    histogram: tuple[int, ...]
    security: Security = Security.NONE
