"""The state of a node as one document: the schema of /status, of `seine status -o json` and of the demo.

Numbers are totals, never rates: whoever wants rates takes two documents (mesh.observe.rates). Fields may be added,
never renamed or given another meaning.
"""

from __future__ import annotations

import msgspec

from mesh.model import Authorization, FailMode, Mtls, PodState, Transport, Value
from mesh.node.routing import Neighbour


class PodStatus(Value, frozen=True):
    namespace: str
    name: str
    state: PodState
    fail_mode: FailMode = FailMode.OPEN
    detail: str = ""  # a sentence: why the state is not `captured`
    slot: int = -1
    captured: int = 0  # connections the hooks steered to us since the pod's slot was made
    bypassing: int = 0  # established connections that were there before us
    kernel: dict[str, int] = msgspec.field(default_factory=dict)  # the hooks' counters by reason
    stock: dict[str, int] = msgspec.field(default_factory=dict)  # unconnected sockets, by "ipv4", "ipv6"
    shortcut: bool = False
    mtls: Mtls = Mtls.PERMISSIVE
    identity: str = ""  # SPIFFE id; empty: it has none (yet), and no tunnel


class PeerStatus(Value, frozen=True):
    """Another node, as it says of itself."""

    node: str
    transport: Transport = Transport.HBONE  # that it asks for
    workloads: int = 0  # in the mesh there
    missing_seconds: float = 0.0  # since its list is gone, which nobody took back; 0: the list is there
    held_seconds: float = 0.0  # for how long it holds all the same
    problem: str = ""  # a sentence about that
    used: Transport = Transport.HBONE  # by which it is reached now
    detour: str = ""  # a sentence: why by another than it asks for


class AnnouncedStatus(Value, frozen=True):
    """What the other nodes are told of this one."""

    path: str = ""  # where they read it; empty: nowhere
    workloads: int = 0
    problem: str = ""  # a sentence: why they do not know the latest


class Draining(Value, frozen=True):
    """How far the ending of a pod's bypassing connections is; what /drain answers."""

    total: int = 0
    handled: int = 0
    closed: int = 0  # of those; the others had ended by themselves
    seconds_left: float = 0.0
    finished: bool = False
    detail: str = ""  # a sentence: why it could not go on


class EndpointStatus(Value, frozen=True):
    namespace: str
    pod: str
    requests: int = 0
    connections: int = 0  # opened so far, opaque only


class ServiceStatus(Value, frozen=True):
    namespace: str
    name: str
    requests: int = 0
    failures: int = 0  # no response, or 5xx
    opened: int = 0
    closed: int = 0
    request_bytes: int = 0
    response_bytes: int = 0
    duration_us: int = 0
    histogram: tuple[int, ...] = ()  # requests per bucket of StatusDocument.latency_bounds_us
    endpoints: tuple[EndpointStatus, ...] = ()


class WorkerStatus(Value, frozen=True):
    worker: int  # its slot number; a successor has the same
    pid: int = 0
    up: bool = False
    restarts: int = 0
    heartbeat_age_seconds: float = 0.0
    counters: dict[str, int] = msgspec.field(default_factory=dict)  # the engine's, only growing
    gauges: dict[str, int] = msgspec.field(default_factory=dict)  # the engine's, of this moment


class PolicyStatus(Value, frozen=True):
    """An AuthorizationPolicy and what it said here, by verdict of cext/stats.h. The one without a name counts what no
    ALLOW policy allowed."""

    namespace: str
    name: str
    action: str
    dry_run: bool = False
    verdicts: dict[str, int] = msgspec.field(default_factory=dict)


class KindStatus(Value, frozen=True):
    """How a kind of objects is told by an API server."""

    lists: int = 0  # of all objects: one is normal, more say that a watch could not go on
    failures: int = 0  # requests refused, connections lost, answers without sense


class SourceStatus(Value, frozen=True):
    kind: str = ""
    age_seconds: float = 0.0  # since the last successful look
    unchanged_seconds: float = 0.0  # since what was seen last changed something
    errors: tuple[str, ...] = ()  # FILE:LINE: reason, of what was refused
    warnings: tuple[str, ...] = ()  # FILE:LINE: what may not mean what it should
    kinds: dict[str, KindStatus] = {}  # of an API server only


class ShortcutStatus(Value, frozen=True):
    """What pods did with it is among their `kernel` counters, see mesh.observe.shortcut."""

    available: bool = False
    detail: str = ""  # a sentence: why not


class RoutingStatus(Value, frozen=True):
    """The routes to other nodes' pods."""

    mode: str = ""  # the setting: auto, enabled or disabled
    neighbours: tuple[Neighbour, ...] = ()  # one per node and family that has pods
    repairs_total: int = 0  # routes and rules that somebody removed and that were put back
    problem: str = ""  # a sentence: why none are kept at all


class NodesDocument(RoutingStatus, frozen=True):
    """What `seine nodes -o json` says."""

    peers: tuple[PeerStatus, ...] = ()


class CniStatus(Value, frozen=True):
    """How new pods are announced to us."""

    path: str = ""  # the network configuration that has our entry; empty: none
    problem: str = ""  # a sentence: why they are not announced
    repairs: tuple[str, ...] = ()  # what others took away and was put back, latest last; the newest few
    repairs_total: int = 0
    counts: dict[str, int] = msgspec.field(default_factory=dict)  # pods, by what became of them; door_*: got no answer


class QuicWay(Value, frozen=True):
    """Another node that is, or was, reached by QUIC."""

    node: str  # IP:PORT
    way: str = "quic"  # or hbone, for now
    reason: str = ""  # why by HBONE
    seconds: float = 0.0  # until QUIC is tried again


class QuicStatus(Value, frozen=True):
    """The process that tunnels over UDP."""

    wanted: bool = False  # some MeshNode asks for it
    pid: int = 0
    up: bool = False
    restarts: int = 0
    counts: dict[str, int] = msgspec.field(default_factory=dict)  # "what" or "what/why", only growing
    levels: dict[str, int] = msgspec.field(default_factory=dict)  # of this moment
    ways: tuple[QuicWay, ...] = ()
    problem: str = ""  # a sentence: why it cannot serve


class CertificateStatus(Value, frozen=True):
    """Of one identity that a pod of this node needs. Without a serial number there is none."""

    name: str  # SPIFFE id
    serial: str = ""
    issued_at: float = 0.0  # times are seconds since 1970
    not_after: float = 0.0
    root: str = ""
    problem: str = ""  # a sentence: why there is none, or no new one
    chain: tuple[str, ...] = ()  # PEM, leaf first; in /identity only


class RootStatus(Value, frozen=True):
    id: str
    state: str = ""  # joining, issuing or leaving; certificates of all three are believed
    not_after: float = 0.0
    certificate: str = ""  # PEM; in /identity only


class DenialStatus(Value, frozen=True):
    what: str  # SPIFFE id or serial number
    until: float
    reason: str = ""


class SignerStatus(Value, frozen=True):
    """The process that has the private keys."""

    pid: int = 0
    up: bool = False
    restarts: int = 0
    keys: int = 0
    signatures: int = 0
    refused: dict[str, int] = msgspec.field(default_factory=dict)  # by reason


class IdentityStatus(Value, frozen=True):
    authority: str = ""  # which
    answered_at: float = 0.0  # when it last did, seconds since 1970; 0: never
    skew_seconds: float = 0.0  # by how much its clock was ahead of ours then
    problem: str = ""  # a sentence: why whom to believe cannot be learned, or not anew
    certificates: tuple[CertificateStatus, ...] = ()
    roots: tuple[RootStatus, ...] = ()
    denied: tuple[DenialStatus, ...] = ()
    events: dict[str, int] = msgspec.field(default_factory=dict)  # certificates issued, renewed, expired
    failures: dict[str, int] = msgspec.field(default_factory=dict)  # of the authority, by reason
    signer: SignerStatus = SignerStatus()


class RotatedNode(Value, frozen=True):
    """A node whose certificates a step of a rotation could make worthless. `obstacle`: why it would; empty: ready."""

    node: str
    obstacle: str = ""
    certificates: int = 0
    until: float = 0.0  # when the last of them ends
    heard_at: float = 0.0  # when it last said what it holds


class Rotation(Value, frozen=True):
    """What a step would do, and to whom; what /identity/rotate answers."""

    step: str  # none (nothing is under way), switch or remove
    sentence: str
    nodes: tuple[RotatedNode, ...] = ()


class StatusDocument(Value, frozen=True):
    node: str
    version: str = ""
    kernel: str = ""  # release
    pid: int = 0
    taken_at: float = 0.0  # seconds since 1970
    uptime_seconds: float = 0.0  # of the agent
    adopted: bool = False  # the agent found a former agent's hooks and kept them
    repairs: tuple[str, ...] = ()  # what was detached by somebody and put back, latest last; the newest few
    repairs_total: int = 0
    pods: tuple[PodStatus, ...] = ()
    services: tuple[ServiceStatus, ...] = ()
    services_untold: int = 0  # of a large cluster: how many more there are, none of which was called
    workers: tuple[WorkerStatus, ...] = ()
    policies: tuple[PolicyStatus, ...] = ()
    source: SourceStatus = SourceStatus()
    shortcut: ShortcutStatus = ShortcutStatus()
    trust_domain: str = ""
    peers: tuple[PeerStatus, ...] = ()
    peer_lists_lost: int = 0  # that were missing once, since the agent started
    announced: AnnouncedStatus = AnnouncedStatus()
    identity: IdentityStatus = IdentityStatus()
    routing: RoutingStatus = RoutingStatus()
    quic: QuicStatus = QuicStatus()
    cni: CniStatus | None = None  # None: no such step is wanted
    kubelet_problem: str = ""  # a sentence: why its probes are refused by closed and strict pods
    latency_bounds_us: tuple[int, ...] = ()


class PodAuthorization(Value, frozen=True):
    """Who may call one pod of the node: what /authz answers."""

    namespace: str
    name: str
    identity: str  # of the pod itself
    trust_domain: str
    authorization: Authorization
    fail_mode: FailMode = FailMode.OPEN
    mtls: Mtls = Mtls.PERMISSIVE
    skip_inbound_ports: tuple[int, ...] = ()  # not captured, so nothing is enforced there
    denied: tuple[str, ...] = ()  # identities and serial numbers, by `seine identity deny`


encode = msgspec.json.Encoder().encode
decode = msgspec.json.Decoder(StatusDocument).decode
