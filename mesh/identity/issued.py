"""Of which identities this node has had certificates: a file of names for the agent's successor.

Workers outlive an agent and go on with the certificates that they have. A successor that starts while the authority is
away has none to show, and must not take from its pods an identity that the workers still prove. Nothing here says that
a certificate is good: one that has ended fails in the handshake, by its own reason.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path

log = logging.getLogger("seine.agent")


class Issued:
    """One of those who are told of certificates (mesh.identity.keeper.Audience)."""

    def __init__(self, path: Path, complete: Callable[[], bool]) -> None:
        """`complete`: every identity that is wanted has a certificate, so that older names mean nothing any more."""
        self._path, self._complete = path, complete
        self._written = self._names = self._read()

    def __contains__(self, name: str) -> bool:
        return name in self._names

    def set_trust(self, domain: str, roots: tuple[bytes, ...], denied: tuple[str, ...]) -> None:
        """Whoever is believed, names are the same."""

    def set_identities(self, chains: Mapping[str, tuple[bytes, ...]]) -> None:
        self._names = frozenset(chains) if self._complete() else self._names | frozenset(chains)
        if self._names != self._written:
            self._write()

    def _read(self) -> frozenset[str]:
        try:
            return frozenset(self._path.read_text(encoding="ascii").splitlines())
        except FileNotFoundError:
            return frozenset()
        except (OSError, UnicodeDecodeError) as error:
            log.warning("%s is not read: %s; pods have no identity until the authority answers", self._path, error)
            return frozenset()

    def _write(self) -> None:
        fresh = self._path.with_name(f".{self._path.name}.new")
        try:
            fresh.write_text("".join(f"{name}\n" for name in sorted(self._names)), encoding="ascii")
            fresh.replace(self._path)
        except OSError as error:
            log.warning("%s is not written: %s; the next agent needs its authority at once", self._path, error.strerror)
        self._written = self._names
