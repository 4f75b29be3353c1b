"""A root that somebody else made, as cert-manager (and every kubernetes.io/tls Secret) writes it. Pure.

    tls.crt    who signs: a root, or an authority below one, and then whoever stands between, the lowest first
    tls.key    its key, P-256
    ca.crt     the root; may be left out where tls.crt is one

The root is what everybody believes; who stands below it may be renewed as often as its maker likes without anybody
having to learn anything.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import pairwise

from mesh.identity import certificate
from mesh.identity.authority import RootState
from mesh.identity.certificate import BadCertificate
from mesh.identity.files import StoredRoot
from mesh.identity.issue import Issuer
from mesh.model import Value

CHAIN, KEY, ROOT = "tls.crt", "tls.key", "ca.crt"
_BLOCK = re.compile(r"-----BEGIN CERTIFICATE-----[^-]*-----END CERTIFICATE-----")


class Handed(Value, frozen=True):
    root: bytes  # DER
    issuer: Issuer

    @property
    def id(self) -> str:
        return certificate.fingerprint(self.root)

    def stored(self, state: RootState, generation: int) -> StoredRoot:
        return StoredRoot(
            state=state,
            since=generation,
            certificate=certificate.pem(self.root),
            key=certificate.key_text(self.issuer.key),
            chain=tuple(map(certificate.pem, self.issuer.chain)),
        )


def read(data: Mapping[str, bytes]) -> Handed:
    """Raises BadCertificate."""
    missing = [name for name in (CHAIN, KEY) if not data.get(name)]
    if missing:
        raise BadCertificate(f"there is no {' and no '.join(missing)}")
    chain, roots = _certificates(data, CHAIN), _certificates(data, ROOT)
    if not chain:
        raise BadCertificate(f"{CHAIN} holds no certificate")
    key = certificate.key_of(_text(data, KEY))
    if not certificate.same_key(chain[0], key):
        raise BadCertificate(f"{KEY} is not the key of the first certificate in {CHAIN}")
    for each in chain:
        certificate.read_root(each)
    return _joined(chain, roots, key)


def _joined(chain: list[bytes], roots: list[bytes], key: certificate.Key) -> Handed:
    if certificate.issued(chain[-1], chain[-1]):
        root, below = chain[-1], chain[:-1]
    else:
        found = next((root for root in roots if certificate.issued(chain[-1], root)), None)
        if found is None:
            raise BadCertificate(f"{ROOT} does not hold the root that {CHAIN} hangs from")
        root, below = found, chain
    if len(below) >= certificate.CHAIN_MAX:
        raise BadCertificate(f"{len(below)} authorities stand below the root; at most {certificate.CHAIN_MAX - 1} may")
    if not _hold([*below, root]):
        raise BadCertificate(f"{CHAIN} does not hold together: one certificate did not issue the one before it")
    certificate.read_root(root)
    return Handed(root=root, issuer=Issuer(certificate=chain[0], key=key, chain=tuple(below)))


def _hold(chain: Sequence[bytes]) -> bool:
    return all(certificate.issued(lower, upper) for lower, upper in pairwise(chain))


def _certificates(data: Mapping[str, bytes], name: str) -> list[bytes]:
    return [certificate.der(block) for block in _BLOCK.findall(_text(data, name))]


def _text(data: Mapping[str, bytes], name: str) -> str:
    try:
        return data.get(name, b"").decode("ascii")
    except UnicodeDecodeError:
        raise BadCertificate(f"{name} is not PEM") from None
