"""What an authority is kept in: a directory (mesh.identity.store), or objects of a cluster (mesh.controlplane.keeping).

Reading shows what was there at the last look; writing is for whoever holds `locked`, and lasts once that has ended
without an error. Everything that fails is an AuthorityError which names the place and says what to do.
"""

from __future__ import annotations

from collections.abc import Hashable
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from typing import Protocol

import msgspec

from mesh.identity.authority import AuthorityError, Record, RootState

AUTHORITY, DENIED, NODES = "authority.json", "denied.json", "nodes"
VERSION = 1
DENIALS_MAX = 10_000  # each is compared with every new peer


class StoredRoot(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """`chain`: certificates between the root and what it signs by this key, the lowest first; most roots have none."""

    state: RootState
    since: int  # generation
    certificate: str  # PEM
    key: str  # PEM, of the lowest of `chain`, else of the root
    chain: tuple[str, ...] = ()  # PEM


class StoredAuthority(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    version: int
    trust_domain: str
    generation: int
    roots: tuple[StoredRoot, ...]


class StoredDenial(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    what: str
    until: datetime  # with its zone, as 2030-01-31T12:00:00Z
    reason: str = ""


class StoredDenials(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    denied: tuple[StoredDenial, ...] = ()


class Files(Protocol):
    @property
    def name(self) -> str:
        """For people."""

    @property
    def record_seconds(self) -> float:
        """How often a node's record is written although nothing in it changed."""

    def where(self, name: str) -> str:
        """For people."""

    def damaged(self, name: str, why: str) -> AuthorityError: ...
    def stamp(self, name: str) -> Hashable:
        """Differs when what is there differs."""

    def authority(self) -> StoredAuthority | None: ...
    def denials(self) -> tuple[StoredDenial, ...]: ...
    def records(self) -> tuple[Record, ...]: ...
    def prepare(self) -> None: ...
    def locked(self) -> AbstractAsyncContextManager[None]:
        """What is read inside is as fresh as it gets."""

    def write_authority(self, value: StoredAuthority) -> None: ...
    def write_denials(self, denied: tuple[StoredDenial, ...]) -> None: ...
    def write_record(self, record: Record) -> None: ...


def wrong_version(found: StoredAuthority) -> str:
    """Why it is not for this program; empty: it is."""
    return (
        "" if found.version == VERSION else f"is of version {found.version}, and this program knows version {VERSION}"
    )


def wrong_denials(found: StoredDenials) -> str:
    if len(found.denied) > DENIALS_MAX:
        return f"has {len(found.denied)} entries, and {DENIALS_MAX} are the most"
    if any(denial.until.tzinfo is None for denial in found.denied):
        return "has a time without its zone (2030-01-31T12:00:00Z has one)"
    return ""
