"""Who we are on this node and whom we believe, as the agent told it: what handshakes ask for.

The private keys are not here: signatures are asked of the signer. `prove` and `is_denied` are given
(mesh.identity.peer), because stages do not know each other.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterable, Sequence

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from mesh.forward.quic.handshake import Own, Reason, Refused
from mesh.forward.quic.name import meant_by, opaque_name

Prove = Callable[[Sequence[bytes], tuple[bytes, ...], str, Collection[str], float, bool], str]
IsDenied = Callable[[str, Sequence[bytes], Collection[str]], bool]


class NodeCredentials:
    """`prove` raises an exception with a `reason`, which `unproven` is the class of; `clock`: seconds since 1970."""

    def __init__(
        self, prove: Prove, is_denied: IsDenied, unproven: type[Exception], clock: Callable[[], float]
    ) -> None:
        self._prove, self._is_denied, self._unproven, self._clock = prove, is_denied, unproven, clock
        self._roots_of: dict[str, bytes] = {}  # which root vouches for an identity of ours
        self.own: dict[str, Own] = {}
        self.domain = ""
        self.roots: tuple[bytes, ...] = ()
        self.denied: frozenset[str] = frozenset()

    # --- told

    def know(self, identities: Iterable[Own], gone: Iterable[str] = ()) -> None:
        for each in identities:
            self.own[each.name] = each
            self._roots_of.pop(each.name, None)
        for name in gone:
            self.own.pop(name, None)
            self._roots_of.pop(name, None)

    def trust(self, domain: str, roots: Iterable[bytes], denied: Iterable[str]) -> None:
        self.domain, self.roots, self.denied = domain, tuple(roots), frozenset(denied)
        self._roots_of.clear()

    # --- asked

    def named(self, server_name: str) -> Own:
        found = self.own.get(meant_by(server_name, self.roots, self.own))
        if found is None:
            raise Refused(Reason.NAME, "nobody of that name is here")
        return found

    def key_of(self, name: str) -> bytes:
        """What the signer calls the key of an identity of ours (cext/signing.h); empty: we have none."""
        own = self.own.get(name)
        if own is None:
            return b""
        public = x509.load_der_x509_certificate(own.chain[0]).public_key()
        return hashlib.sha256(public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).digest()

    def prove(self, chain: Sequence[bytes], by_server: bool) -> str:
        try:
            return self._prove(chain, self.roots, self.domain, self.denied, self._clock(), by_server)
        except self._unproven as error:
            raise Refused(Reason(error.reason), str(error)) from None  # type: ignore[attr-defined]

    def is_denied(self, peer: str, chain: Sequence[bytes]) -> bool:
        """Of somebody who was proven before."""
        return self._is_denied(peer, chain, self.denied)

    def name_for(self, own: str, target: str, salt: bytes) -> str:
        """By which name one of our identities asks another node for `target`. Raises Refused."""
        identity = self.own.get(own)
        if identity is None:
            raise Refused(Reason.UNSIGNED, f"this node has no certificate for {own}")
        if (root := self._roots_of.get(own)) is None:
            root = self._roots_of[own] = self._root_of(identity)
        return opaque_name(target, root, salt)

    def _root_of(self, identity: Own) -> bytes:
        last = x509.load_der_x509_certificate(identity.chain[-1])
        for root in self.roots:
            if _issued(root, last):
                return root
        raise Refused(Reason.UNTRUSTED, f"no root that we believe vouches for our own {identity.name}")


def _issued(root: bytes, certificate: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(x509.load_der_x509_certificate(root))
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True
