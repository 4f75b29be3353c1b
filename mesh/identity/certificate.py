"""X.509 as SPIFFE wants it, read and checked: requests, chains, roots; and keys and certificates as text.

What is read may come from a stranger: everything that is not exactly what mesh.identity.issue writes, or a chain of up
to four such certificates, is refused with a sentence. Times are not looked at: that is for whoever has a clock. This
brings OpenSSL and 15 MiB of memory: for the agent, never for a worker. Sources: RFC 5280, RFC 2986, X509-SVID.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from itertools import pairwise

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from mesh.identity.spiffe import BadId, parse
from mesh.model import Value

CHAIN_MAX = 4  # certificates; the engine's own limit
CHAIN_BYTES_MAX = 32768  # likewise

_UNREADABLE = (  # what cryptography raises for what it cannot, or will not, read
    ValueError,
    UnsupportedAlgorithm,
    x509.DuplicateExtension,
    x509.ExtensionNotFound,
    x509.InvalidVersion,
    x509.UnsupportedGeneralNameType,
)

Key = ec.EllipticCurvePrivateKey
PublicKey = ec.EllipticCurvePublicKey


class BadCertificate(Exception):
    """A sentence: what is wrong with a certificate, a key or a request."""


class Facts(Value, frozen=True):
    """What people and decisions want to know of a certificate. Times are seconds since 1970."""

    name: str  # SPIFFE id of a workload's, subject of a root's
    serial: str
    not_before: float
    not_after: float
    root: str  # fingerprint of the root it hangs from


def serial_text(serial: int) -> str:
    """Whole bytes in lower-case hexadecimal, as the engine compares it and as openssl prints it in capitals."""
    return serial.to_bytes(max(1, (serial.bit_length() + 7) // 8), "big").hex()


def fingerprint(certificate: bytes) -> str:
    """Of a DER certificate: 16 digits of its SHA-256, by which roots are called here."""
    return hashlib.sha256(certificate).hexdigest()[:16]


# --- reading


def read_request(request: bytes, trust_domain: str) -> tuple[PublicKey, str]:
    """Whose key, and for which id. Raises BadCertificate; strangers write these."""
    try:
        found = x509.load_der_x509_csr(request)
        good, public = found.is_signature_valid, found.public_key()
        name = _only_name(found.extensions)
    except _UNREADABLE as error:
        raise BadCertificate(f"the request is not a PKCS #10 request with a name: {error}") from None
    if not good:
        raise BadCertificate("the request is not signed with the key it asks for")
    _check_name(name, trust_domain)
    return _p256(public), name


def read_leaf(chain: Sequence[bytes], roots: Sequence[bytes], trust_domain: str) -> tuple[PublicKey, Facts]:
    """Of a chain, leaf first, that hangs from one of the roots, whatever the time. Raises BadCertificate."""
    if not 0 < len(chain) <= CHAIN_MAX or sum(map(len, chain)) > CHAIN_BYTES_MAX:
        raise BadCertificate(f"a chain has 1 to {CHAIN_MAX} certificates and at most {CHAIN_BYTES_MAX} bytes")
    try:
        found = [x509.load_der_x509_certificate(each) for each in chain]
        leaf, root = found[0], _root_of(found, roots)
        name, public = _only_name(leaf.extensions), leaf.public_key()
    except _UNREADABLE as error:
        raise BadCertificate(f"the chain holds no certificate of a workload: {error}") from None
    _check_name(name, trust_domain)
    return _p256(public), _facts(leaf, name, root)


def read_root(certificate: bytes) -> Facts:
    """Raises BadCertificate when it is not a CA's."""
    try:
        found = x509.load_der_x509_certificate(certificate)
        is_ca = found.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except _UNREADABLE as error:
        raise BadCertificate(f"the root is not a certificate of an authority: {error}") from None
    if not is_ca:
        raise BadCertificate("the root is not a certificate of an authority: it may not sign others")
    return _facts(found, found.subject.rfc4514_string(), fingerprint(certificate))


def _facts(certificate: x509.Certificate, name: str, root: str) -> Facts:
    return Facts(
        name=name,
        serial=serial_text(certificate.serial_number),
        not_before=certificate.not_valid_before_utc.timestamp(),
        not_after=certificate.not_valid_after_utc.timestamp(),
        root=root,
    )


def _root_of(chain: Sequence[x509.Certificate], roots: Sequence[bytes]) -> str:
    for lower, upper in pairwise(chain):
        if not _issued(lower, upper):
            raise BadCertificate("the chain does not hold together: one certificate did not issue the one before it")
    for root in roots:
        if _issued(chain[-1], x509.load_der_x509_certificate(root)):
            return fingerprint(root)
    raise BadCertificate("the chain hangs from no root that is trusted")


def _issued(lower: x509.Certificate, upper: x509.Certificate) -> bool:
    try:
        lower.verify_directly_issued_by(upper)
    except (*_UNREADABLE, TypeError, InvalidSignature):
        return False
    return True


def issued(lower: bytes, upper: bytes) -> bool:
    """Whether one certificate signed the other, both as DER; of one and the same: whether it is a root. Raises
    BadCertificate for what is none."""
    try:
        return _issued(x509.load_der_x509_certificate(lower), x509.load_der_x509_certificate(upper))
    except _UNREADABLE as error:
        raise BadCertificate(f"the certificate cannot be read: {error}") from None


def _only_name(extensions: x509.Extensions) -> str:
    names = list(extensions.get_extension_for_class(x509.SubjectAlternativeName).value)
    if len(names) != 1 or not isinstance(names[0], x509.UniformResourceIdentifier):
        raise BadCertificate("it must have one name, and that a URI")
    return str(names[0].value)


def _check_name(name: str, trust_domain: str) -> None:
    try:
        parse(name, trust_domain)
    except BadId as error:
        raise BadCertificate(str(error)) from None


def _p256(key: object) -> PublicKey:
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise BadCertificate("the key is not of the curve P-256")
    return key


# --- text


def key_text(key: Key) -> str:
    """PEM, not encrypted: for the root's own file and for nothing else."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def secret(key: Key) -> bytes:
    """As the signer takes it: PKCS #8 as DER."""
    return key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())


def key_name(key: Key) -> bytes:
    """What the signer calls it (cext/signing.h)."""
    return hashlib.sha256(key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).digest()


def key_of(text: str) -> Key:
    try:
        key = load_pem_private_key(text.encode(), None)
    except (*_UNREADABLE, TypeError) as error:
        raise BadCertificate(f"the key cannot be read: {error}") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise BadCertificate("the key is not of the curve P-256")
    return key


def same_key(certificate: bytes, key: Key) -> bool:
    try:
        return x509.load_der_x509_certificate(certificate).public_key() == key.public_key()
    except _UNREADABLE as error:
        raise BadCertificate(f"the certificate cannot be read: {error}") from None


def pem(certificate: bytes) -> str:
    return x509.load_der_x509_certificate(certificate).public_bytes(Encoding.PEM).decode()


def der(text: str) -> bytes:
    try:
        return x509.load_pem_x509_certificate(text.encode()).public_bytes(Encoding.DER)
    except _UNREADABLE as error:
        raise BadCertificate(f"the certificate cannot be read: {error}") from None
