"""Signatures for workers, which have certificates and no keys.

Signed is what proves an identity in a TLS 1.3 handshake and nothing else (RFC 8446 4.4.3): 64 spaces, the side's
context, NUL and a hash. So a worker that was taken over can speak as this node's pods while it lives, as it could
anyway, but has no certificate, request or token signed to take away. A signature costs 30 us: it is made on the loop.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from mesh.identity.certificate import Key

log = logging.getLogger("seine.identity")
LOG_SECONDS = 1.0

_SIDES = tuple(b" " * 64 + f"TLS 1.3, {side} CertificateVerify".encode() + b"\0" for side in ("server", "client"))
_HASH_BYTES = (32, 48)  # SHA-256 and SHA-384, of TLS_AES_128_GCM_SHA256 and TLS_AES_256_GCM_SHA384
_ECDSA = ec.ECDSA(hashes.SHA256())  # ecdsa_secp256r1_sha256


def proves_a_handshake(content: bytes) -> bool:
    """Whether that is what a CertificateVerify message of TLS 1.3 signs."""
    return any(content.startswith(side) and len(content) - len(side) in _HASH_BYTES for side in _SIDES)


class Signer:
    def __init__(self, key_of: Callable[[str], Key | None], monotonic: Callable[[], float]) -> None:
        self._key_of, self._monotonic = key_of, monotonic
        self._logged = -LOG_SECONDS
        self.signed = 0
        self.refused: Counter[str] = Counter()  # by reason

    def sign(self, name: str, content: bytes) -> bytes:
        """ECDSA as DER; empty when it is refused."""
        if not proves_a_handshake(content):
            return self._refuse("content", f"of {len(content)} bytes that are no handshake's")
        key = self._key_of(name)
        if key is None:
            return self._refuse("identity", f"for {name[:100]!r}, which this node has no certificate of")
        self.signed += 1
        return key.sign(content, _ECDSA)

    def _refuse(self, reason: str, what: str) -> bytes:
        self.refused[reason] += 1
        now = self._monotonic()
        if now - self._logged >= LOG_SECONDS:
            self._logged = now
            log.warning("a worker asked for a signature %s; refused (%d so far)", what, self.refused.total())
        return b""
