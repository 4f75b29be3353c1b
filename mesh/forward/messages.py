"""What agent and workers say to each other over their channel; descriptors ride beside the message named here.

The agent speaks state, not history: after a reconnect it sends everything again and ends with `Synced`, and the
worker drops what was not named. Every message is therefore idempotent.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from mesh.model import Plan, Value


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


class Carried(Message, frozen=True):
    """Answer to Show: the newest connections, as the engine's ConnectionInfo."""

    connections: tuple[dict[str, str | int], ...]
    live: int


# --- agent to worker


class Welcome(Message, frozen=True):
    """Descriptors: the worker's counter file, the heartbeat map."""

    node: str
    drain_seconds: float


class AddPod(Message, frozen=True):
    """Descriptors: outbound and inbound listener. A known {slot, cookie} keeps the listeners it has."""

    slot: int
    cookie: int
    source: int
    addresses: tuple[str, ...]
    opaque_ports: tuple[int, ...] = ()


class RemovePod(Message, frozen=True):
    """`close_connections`: the pod is gone; else it was unenrolled and its connections may end by themselves."""

    slot: int
    close_connections: bool


class SetPlans(Message, frozen=True):
    plans: tuple[Plan, ...]


class RemovePlans(Message, frozen=True):
    keys: tuple[tuple[str, int], ...]


class SetSources(Message, frozen=True):
    """Which workload a client address is, for the counters of connections from outside the node's enrolled pods."""

    known: tuple[tuple[str, int], ...]
    gone: tuple[str, ...] = ()


class Synced(Message, frozen=True):
    """All state was sent: whatever was not named since Welcome is to be dropped."""


class NoPlan(Message, frozen=True):
    """Answer to NeedPlan when nothing is known: pass through to the original destination."""

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


FromWorker = Hello | HavePod | NeedPlan | NeedSockets | Levels | Carried
FromAgent = (
    Welcome | AddPod | RemovePod | SetPlans | RemovePlans | SetSources | Synced | NoPlan | Sockets | Show | Drain
)

encode = msgspec.msgpack.Encoder().encode
decode_from_worker: Callable[[bytes], FromWorker] = msgspec.msgpack.Decoder(FromWorker).decode
decode_from_agent: Callable[[bytes], FromAgent] = msgspec.msgpack.Decoder(FromAgent).decode
