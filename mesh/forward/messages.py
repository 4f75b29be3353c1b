"""What agent and workers say to each other over their channel; descriptors ride beside the message named here.

The agent speaks state, not history: after a reconnect it sends everything again and ends with `Synced`, and the
worker drops what was not named. Every message is therefore idempotent.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from mesh.model import Authorization, Mtls, Plan, Ruling, Value


class Message(Value, tag=True):
    """Tagged by class name."""


# --- worker to agent


class Hello(Message, frozen=True):
    """First word of a worker, also after a reconnect. Followed by one HavePod per pod that it serves."""

    worker: int
    pid: int
    pods: int


class HavePod(Message, frozen=True):
    """Descriptors: outbound and inbound listener."""

    slot: int
    cookie: int


class NeedPlan(Message, frozen=True):
    connection: int
    address: str
    port: int


class NeedSockets(Message, frozen=True):
    slot: int
    family: int  # 4 or 6
    count: int


class Level(Value, frozen=True):
    slot: int
    ipv4: int
    ipv6: int


class Levels(Message, frozen=True):
    """Every few seconds: the sockets in stock per pod."""

    stock: tuple[Level, ...]


class Ruled(Message, frozen=True):
    """What policies said, for the log."""

    rulings: tuple[Ruling, ...]


class Carried(Message, frozen=True):
    """Answer to Show: the newest connections, as the engine's ConnectionInfo."""

    connections: tuple[dict[str, str | int], ...]
    live: int


# --- agent to worker


class Limits(Value, frozen=True):
    """What an operator sets of the engine, per worker."""

    max_connections: int  # 0: what the limit of open files leaves
    connect_timeout_ms: int
    detect_timeout_ms: int
    idle_timeout_ms: int
    stream_idle_ms: int


class Welcome(Message, frozen=True):
    """Descriptors: the worker's counter file, the heartbeat map."""

    node: str
    drain_seconds: float
    limits: Limits


class AddPod(Message, frozen=True):
    """Descriptors: outbound and inbound listener. A known {slot, cookie} keeps the listeners it has."""

    slot: int
    cookie: int
    source: int
    addresses: tuple[str, ...]
    opaque_ports: tuple[int, ...] = ()
    identity: str = ""  # SPIFFE id, once it has a certificate; empty: no tunnel
    principal: str = ""  # SPIFFE id that policies of this node's pods know it by: the kernel proves it
    mtls: Mtls = Mtls.PERMISSIVE
    baggage: str = ""  # what other nodes' proxies are told of it (W3C Baggage)


class RemovePod(Message, frozen=True):
    """`close_connections`: the pod is gone; else it was unenrolled and its connections may end by themselves."""

    slot: int
    close_connections: bool


class SetPlans(Message, frozen=True):
    plans: tuple[Plan, ...]


class SetPolicies(Message, frozen=True):
    """Who may call the pod in this slot; None: everybody. Comes before the pod does, which is never served without."""

    slot: int
    authorization: Authorization | None


class RemovePlans(Message, frozen=True):
    keys: tuple[tuple[str, int], ...]


class SetSources(Message, frozen=True):
    """Who a client address is, for connections from outside the node's enrolled pods: {address, workload, SPIFFE id}.

    Only a tunnel of that identity may speak for that address; none may where it is empty.
    """

    known: tuple[tuple[str, int, str], ...]
    gone: tuple[str, ...] = ()


class Identity(Value, frozen=True):
    """Who a worker may speak as: a SPIFFE id and its certificates as DER, leaf first. The signer has the key."""

    name: str
    chain: tuple[bytes, ...]


class SetIdentities(Message, frozen=True):
    """New or renewed ones, and names of those that nobody on this node has any more."""

    known: tuple[Identity, ...]
    gone: tuple[str, ...] = ()


class SetTrust(Message, frozen=True):
    """Whom to believe: our trust domain, the roots' certificates as DER, and who is denied although a root vouches for
    it: SPIFFE ids, or serial numbers in lower-case hexadecimal. Connections of who is denied now are closed."""

    domain: str
    roots: tuple[bytes, ...]
    denied: tuple[str, ...] = ()


class SetSigner(Message, frozen=True):
    """Descriptor: where handshakes' signatures are asked for (cext/signing.h), from now on."""


class Synced(Message, frozen=True):
    """All state was sent: whatever was not named since Welcome is to be dropped."""


class NoPlan(Message, frozen=True):
    """Answer to NeedPlan when nothing is known: pass through to where it was going, from a pod without an identity."""

    connection: int


class Sockets(Message, frozen=True):
    """Descriptors: unconnected TCP sockets made in the pod's namespace. Empty with `error` when none could be made."""

    slot: int
    family: int
    error: str = ""


class Show(Message, frozen=True):
    """For bug reports: tell the connections you carry."""

    limit: int


class Drain(Message, frozen=True):
    """Accept nothing new, end when the last connection has, or after drain_seconds."""


FromWorker = Hello | HavePod | NeedPlan | NeedSockets | Levels | Ruled | Carried
FromAgent = (
    Welcome
    | AddPod
    | RemovePod
    | SetPlans
    | RemovePlans
    | SetPolicies
    | SetSources
    | SetIdentities
    | SetTrust
    | SetSigner
    | Synced
    | NoPlan
    | Sockets
    | Show
    | Drain
)

encode = msgspec.msgpack.Encoder().encode
decode_from_worker: Callable[[bytes], FromWorker] = msgspec.msgpack.Decoder(FromWorker).decode
decode_from_agent: Callable[[bytes], FromAgent] = msgspec.msgpack.Decoder(FromAgent).decode
