"""What the QUIC process says to the agent and to workers; descriptors ride beside the message named here.

From the agent: identities, trust and the way to the signer are those of mesh.forward.messages. To and from a worker: a
connection is asked for by `Open` and arrives by `Arrive`; with it goes one end of a loopback TCP connection that
carries nothing but the application's bytes, half-closes and resets as they are. That is why it is no Unix socket:
those cannot say "reset" when the other end has half-closed, and a cut answer would pass for a whole one.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum

import msgspec

from mesh.forward.messages import Message, SetIdentities, SetSigner, SetTrust
from mesh.model import Value


class Status(IntEnum):
    """HBONE's answers, and one that never leaves the node."""

    CARRIED = 200
    BAD_REQUEST = 400
    DENIED = 401
    BY_HBONE = 421  # this node is rather reached by HBONE now
    UNREACHABLE = 503


# --- with the agent


class HelloQuic(Message, frozen=True):
    """First word of the process, also after a reconnect. Descriptor: its UDP socket, if it has one."""

    reset_key: bytes = b""  # with which it is serving; empty: it has no sockets yet


class WelcomeQuic(Message, frozen=True):
    """Descriptors, unless it is serving: the UDP socket, the listening socket for workers."""

    node: str
    drain_seconds: float
    reset_key: bytes  # of stateless resets: the same in every process of this agent
    datagram_bytes: int


class Here(Value, frozen=True):
    """A pod of this node that may be asked for."""

    address: str
    identity: str


class SetHere(Message, frozen=True):
    """All of them."""

    pods: tuple[Here, ...]


class DrainQuic(Message, frozen=True):
    """Take nothing new, end when the last stream has, or after drain_seconds."""


class NodeWay(Value, frozen=True):
    """How a node is reached: `way` is `fallback.Way`."""

    node: str
    way: str
    reason: str
    seconds: float  # until the next attempt


class ReportQuic(Message, frozen=True):
    """Twice a second, and so the sign of life: what was counted since the start ("what" or "what/why") and is there."""

    counts: dict[str, int]
    levels: dict[str, int]
    ways: tuple[NodeWay, ...]


FromQuic = HelloQuic | ReportQuic
ToQuic = WelcomeQuic | SetIdentities | SetTrust | SetHere | SetSigner | DrainQuic


# --- with a worker


class Opening(Value, frozen=True):
    """A connection of an application, as one side asks the other for it. Addresses are IP:PORT or [IPv6]:PORT."""

    source: str  # SPIFFE id of who calls; proven when it arrives
    target: str  # SPIFFE id of who must answer
    destination: str
    client: str  # whose connection it is, as the source's node says
    node: str  # where the other node's QUIC process is


class Serve(Message, frozen=True):
    """First word of a worker."""

    worker: int


class Open(Message, frozen=True):
    job: int
    opening: Opening


class Opened(Message, frozen=True):
    """Answer to Open. Descriptor, if it is carried: the connection."""

    job: int
    status: int
    reason: str = ""


class Arrive(Message, frozen=True):
    """Somebody calls a pod of this node. Descriptor: the connection; nothing is read from it before `Answer`."""

    job: int
    opening: Opening


class Answer(Message, frozen=True):
    """The application's connection stands, or why not: HBONE's status."""

    job: int
    status: int


FromDoor = Opened | Arrive
ToDoor = Serve | Open | Answer

encode = msgspec.msgpack.Encoder().encode
decode_from_quic: Callable[[bytes], FromQuic] = msgspec.msgpack.Decoder(FromQuic).decode
decode_to_quic: Callable[[bytes], ToQuic] = msgspec.msgpack.Decoder(ToQuic).decode
decode_from_door: Callable[[bytes], FromDoor] = msgspec.msgpack.Decoder(FromDoor).decode
decode_to_door: Callable[[bytes], ToDoor] = msgspec.msgpack.Decoder(ToDoor).decode
