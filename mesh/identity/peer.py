"""Who a peer is, by the certificates it shows: a chain under a root that we believe, and one SPIFFE id in its leaf.

For the transport that is terminated in Python (QUIC); the engine judges HBONE's by the same rules in C (cext/tls.c).
`cryptography` builds and checks the chain (RFC 5280). The leaf is no authority, may be used in the peer's role, and
names one service account of our trust domain; neither its id nor its number is on the list of the denied. The clock is
an argument.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from datetime import UTC, datetime
from functools import lru_cache

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import dsa, ec, rsa
from cryptography.x509 import verification
from cryptography.x509.oid import ExtendedKeyUsageOID

from mesh.identity.spiffe import BadId, parse

BETWEEN_MAX = 2  # authorities between a leaf and its root
RSA_BITS_MIN, EC_BITS_MIN = 2048, 256


class Unproven(Exception):
    """A sentence, and the reason as the engine counts it (TLS_REASONS in cext/stats.h)."""

    def __init__(self, reason: str, sentence: str) -> None:
        super().__init__(sentence)
        self.reason = reason


def prove(
    chain: Sequence[bytes],
    roots: tuple[bytes, ...],
    trust_domain: str,
    denied: Collection[str],
    now: float,
    by_server: bool,
) -> str:
    """The SPIFFE id. `chain`, `roots`: DER, the leaf first; `by_server`: the peer's role. Raises Unproven."""
    if not chain:
        raise Unproven("no_certificate", "the peer has no certificate")
    try:
        leaf, *between = (x509.load_der_x509_certificate(each) for each in chain)
        name = _name_in(leaf)
        _check_leaf(leaf, by_server)
    except (ValueError, x509.DuplicateExtension, x509.UnsupportedGeneralNameType) as error:
        raise Unproven("not_spiffe", f"the peer's certificate cannot be read: {error}") from None
    _check_strength((leaf, *between))
    _check_times(leaf, now)
    _check_chain(leaf, between, roots, now)
    _check_name(name, trust_domain)
    if _is_denied(name, leaf, denied):
        raise Unproven("denied", f"{name} is on the list of the denied")
    return name


def is_denied(name: str, chain: Sequence[bytes], denied: Collection[str]) -> bool:
    """Whether somebody who was proven by that chain is denied now, whatever else has become of his certificate."""
    return _is_denied(name, x509.load_der_x509_certificate(chain[0]), denied)


def _is_denied(name: str, leaf: x509.Certificate, denied: Collection[str]) -> bool:
    return name in denied or f"{leaf.serial_number:x}" in denied or _serial(leaf) in denied


def _serial(leaf: x509.Certificate) -> str:
    """In whole bytes, as tools print it."""
    number = leaf.serial_number
    return number.to_bytes(max(1, (number.bit_length() + 7) // 8), "big").hex()


def _name_in(leaf: x509.Certificate) -> str:
    try:
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        raise Unproven("not_spiffe", "the peer's certificate has no SPIFFE id") from None
    uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    if len(uris) != 1:
        raise Unproven("not_spiffe", f"the peer's certificate has {len(uris)} URIs, and one was expected")
    return str(uris[0])


def _check_leaf(leaf: x509.Certificate, by_server: bool) -> None:
    extensions = leaf.extensions
    for each in extensions:
        if isinstance(each.value, x509.BasicConstraints) and each.value.ca:
            raise Unproven("not_a_leaf", "the peer shows the certificate of an authority")
        if isinstance(each.value, x509.KeyUsage) and not each.value.digital_signature:
            raise Unproven("not_a_leaf", "the peer's certificate is not for signing")
        if isinstance(each.value, x509.ExtendedKeyUsage):
            wanted = ExtendedKeyUsageOID.SERVER_AUTH if by_server else ExtendedKeyUsageOID.CLIENT_AUTH
            if wanted not in each.value:
                raise Unproven("not_a_leaf", "the peer's certificate is not for its role")


def _is_weak(certificate: x509.Certificate) -> bool:
    """By the engine's bounds (OpenSSL's security level 2); and no curve that TLS 1.3 lacks."""
    key = certificate.public_key()
    if isinstance(certificate.signature_hash_algorithm, hashes.SHA1 | hashes.MD5):
        return True
    if isinstance(key, rsa.RSAPublicKey):
        return key.key_size < RSA_BITS_MIN
    if isinstance(key, ec.EllipticCurvePublicKey):
        return key.key_size < EC_BITS_MIN
    return isinstance(key, dsa.DSAPublicKey)


def _check_strength(chain: Iterable[x509.Certificate]) -> None:
    try:
        if any(map(_is_weak, chain)):
            raise Unproven("weak", "a certificate of the peer's has too small a key, or is signed by too weak a digest")
    except (ValueError, UnsupportedAlgorithm) as error:
        raise Unproven(
            "weak", f"a certificate of the peer's has a key or signature that is not known: {error}"
        ) from None


def _check_times(leaf: x509.Certificate, now: float) -> None:
    at = datetime.fromtimestamp(now, UTC)
    if at < leaf.not_valid_before_utc:
        raise Unproven("not_yet_valid", f"the peer's certificate begins at {leaf.not_valid_before_utc:%F %T} UTC")
    if at > leaf.not_valid_after_utc:
        raise Unproven("expired", f"the peer's certificate ended at {leaf.not_valid_after_utc:%F %T} UTC")


@lru_cache(maxsize=4)
def _store(roots: tuple[bytes, ...]) -> verification.Store:
    return verification.Store([x509.load_der_x509_certificate(each) for each in roots])


def _is_authority(policy: verification.Policy, certificate: x509.Certificate, found: x509.BasicConstraints) -> None:
    if not found.ca:
        raise ValueError("a certificate in the chain may not sign others")


def _may_sign(policy: verification.Policy, certificate: x509.Certificate, found: x509.KeyUsage | None) -> None:
    if found is not None and not found.key_cert_sign:
        raise ValueError("a certificate in the chain is not for signing others")


# What makes an authority, by RFC 5280 4.2.1.9 and 4.2.1.3; private roots lack much of what the web's must have.
_AUTHORITY = (
    verification.ExtensionPolicy.permit_all()
    .require_present(x509.BasicConstraints, verification.Criticality.AGNOSTIC, _is_authority)
    .may_be_present(x509.KeyUsage, verification.Criticality.AGNOSTIC, _may_sign)
)
_LEAF = verification.ExtensionPolicy.permit_all()  # looked at by ourselves


def _check_chain(leaf: x509.Certificate, between: list[x509.Certificate], roots: tuple[bytes, ...], now: float) -> None:
    if not roots:
        raise Unproven("untrusted", "there is no root to believe yet")
    builder = verification.PolicyBuilder().store(_store(roots)).time(datetime.fromtimestamp(now, UTC))
    policy = builder.max_chain_depth(BETWEEN_MAX).extension_policies(ca_policy=_AUTHORITY, ee_policy=_LEAF)
    try:
        policy.build_client_verifier().verify(leaf, between)
    except verification.VerificationError as error:
        raise Unproven("untrusted", f"no root that we believe vouches for the peer: {error}") from None


def _check_name(name: str, trust_domain: str) -> None:
    try:
        found = parse(name)
    except BadId as error:
        raise Unproven("not_spiffe", str(error)) from None
    if found.trust_domain != trust_domain:
        raise Unproven("trust_domain", f"the peer is of the trust domain {found.trust_domain}, not {trust_domain}")
