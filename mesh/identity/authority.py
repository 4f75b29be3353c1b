"""What a certificate authority is to a node, and the values that go between them.

Two kinds exist: mesh.identity.embedded (a state directory) and mesh.identity.remote (a controller). To both a node says
what it holds, and is told in return whom to believe: so whoever rotates roots knows whom he would cut off.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Protocol

from mesh.model import Value


class RootState(StrEnum):
    """All three are believed; certificates come from the issuing one."""

    JOINING = "joining"
    ISSUING = "issuing"
    LEAVING = "leaving"


class Root(Value, frozen=True):
    id: str  # fingerprint
    certificate: bytes  # DER
    state: RootState
    not_after: float
    since: int  # the generation in which it came into this state


class Denial(Value, frozen=True):
    """Who is not believed although a root vouches for it, for a while: until what it has has ended anyway."""

    what: str  # SPIFFE id, or a serial number as mesh.identity.certificate.serial_text writes it
    until: float  # seconds since 1970
    reason: str = ""


class Trust(Value, frozen=True):
    """Whom to believe. Every change of the roots is a new generation."""

    generation: int
    roots: tuple[Root, ...]
    denied: tuple[Denial, ...] = ()

    @property
    def issuing(self) -> str:
        """The root that certificates come from."""
        return next(root.id for root in self.roots if root.state is RootState.ISSUING)


class Hanging(Value, frozen=True):
    """Certificates of a node that hang from one root."""

    root: str
    count: int
    until: float  # the last one's end


class Record(Value, frozen=True):
    """What a node holds, in its own words. `generation`: of the trust by which it acts; 0: of none yet."""

    node: str
    generation: int = 0
    trusts: tuple[str, ...] = ()  # ids of roots
    leafs: tuple[Hanging, ...] = ()
    peers: tuple[str, ...] = ()  # other nodes that it knows to be in the mesh
    written_at: float = 0.0


class AuthorityError(Exception):
    """A sentence for the operator; `reason` is a word for the metric."""

    def __init__(self, sentence: str, reason: str) -> None:
        super().__init__(sentence)
        self.reason = reason


class Authority(Protocol):
    @property
    def kind(self) -> str:
        """Which, and where, in a few words."""

    @property
    def poll_seconds(self) -> float:
        """How often to ask for news."""

    @property
    def skew_seconds(self) -> float:
        """By how much its clock was ahead of ours, when it last answered."""

    async def trust(self, record: Record) -> Trust:
        """Tell what the node holds, hear whom to believe. Raises AuthorityError."""

    async def sign(self, request: bytes, name: str) -> tuple[bytes, ...]:
        """A chain for a PKCS #10 request of that SPIFFE id, as DER, leaf first. Raises AuthorityError."""
