"""The authority's own certificate for HTTPS: from the root that issues, like everybody's, so that agents need only one
set of roots. Made anew when another root issues, or half of its life is over; its key never leaves this process."""

from __future__ import annotations

import asyncio
import logging
import os
import ssl
from collections.abc import Callable

from mesh.identity import certificate, issue
from mesh.identity.authority import AuthorityError
from mesh.identity.certificate import BadCertificate
from mesh.identity.issue import Issuer

log = logging.getLogger("seine.controller")
LIFE_SECONDS = 86400.0
LOOK_SECONDS = 1.0


def names(service: str, namespace: str) -> tuple[str, ...]:
    """As which we are reached; localhost: by who forwards a port to look at us."""
    return (
        f"{service}.{namespace}.svc",
        f"{service}.{namespace}.svc.cluster.local",
        f"{service}.{namespace}",
        "localhost",
    )


class Serving:
    """`context` is good for a server once `ready`."""

    def __init__(self, issuer: Callable[[], Issuer], names: tuple[str, ...], clock: Callable[[], float]) -> None:
        self._issuer, self._names, self._clock = issuer, names, clock
        self._key = issue.new_key()
        self._signed_by: bytes | None = None
        self._due = 0.0
        self.problem = "its certificate was not made yet"
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.minimum_version = ssl.TLSVersion.TLSv1_3

    async def run(self) -> None:
        while True:
            try:
                self.look()
                self.problem = ""
            except (AuthorityError, BadCertificate) as error:
                if str(error) != self.problem:
                    log.error("no certificate of our own: %s", error)
                self.problem = str(error)
            await asyncio.sleep(LOOK_SECONDS)

    @property
    def ready(self) -> bool:
        return self._signed_by is not None

    def look(self) -> None:
        """Raises AuthorityError and BadCertificate; what there is goes on."""
        issuer, now = self._issuer(), self._clock()
        if issuer.certificate == self._signed_by and now < self._due:
            return
        leaf = issue.make_server(issuer, self._key.public_key(), self._names, now, LIFE_SECONDS)
        self._load((leaf, *issuer.chain))
        self._signed_by, self._due = issuer.certificate, now + LIFE_SECONDS / 2
        log.info("this replica proves itself by a certificate of %s", certificate.fingerprint(issuer.certificate))

    def _load(self, chain: tuple[bytes, ...]) -> None:
        """By a file in memory: OpenSSL's reader wants a path, and a key has no business on a disk."""
        fd = os.memfd_create("seine-controller", os.MFD_CLOEXEC)
        with open(fd, "w", encoding="ascii") as file:
            file.write(certificate.key_text(self._key) + "".join(map(certificate.pem, chain)))
            file.flush()
            self.context.load_cert_chain(f"/proc/self/fd/{fd}")
