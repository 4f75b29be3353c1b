"""X.509 as SPIFFE wants it, written: roots, workloads' certificates, and requests for them.

P-256 throughout. A workload's certificate has its id as the only name (URI SAN, critical because the subject is empty:
RFC 5280 4.2.1.6), may sign handshakes as client and as server, and is no CA. It hangs directly from its root.
Sources: RFC 5280; X509-SVID sections 3 to 5.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from mesh.identity.certificate import BadCertificate, Key, PublicKey, fingerprint
from mesh.model import Value

BACKDATE_SECONDS = 60  # a peer's clock may be so far behind ours and still take what was issued this moment
ROOT_SECONDS = 10 * 365 * 86400  # as Istio's own; replaced by `seine identity rotate`, never by surprise
SERIAL_BYTES = 20  # the most that RFC 5280 4.1.2.2 allows, all of it by chance: unguessable, never twice

_HASH = hashes.SHA256()
_EVERY_USAGE = (
    "digital_signature",
    "content_commitment",
    "key_encipherment",
    "data_encipherment",
    "key_agreement",
    "key_cert_sign",
    "crl_sign",
    "encipher_only",
    "decipher_only",
)


def new_key() -> Key:
    return ec.generate_private_key(ec.SECP256R1())


def make_root(trust_domain: str, key: Key, now: float) -> bytes:
    """A self-signed root that signs workloads' certificates and no other authority's; DER."""
    mark = secrets.token_hex(4)  # two roots of a trust domain must not have one subject: chains are built by it
    name = x509.Name(
        [x509.NameAttribute(NameOID.ORGANIZATION_NAME, trust_domain), x509.NameAttribute(NameOID.COMMON_NAME, mark)]
    )
    builder = (
        _builder(name, name, key.public_key(), now, ROOT_SECONDS)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage("key_cert_sign", "crl_sign"), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.SubjectAlternativeName([_uri(f"spiffe://{trust_domain}")]), critical=False)
    )
    return builder.sign(key, _HASH).public_bytes(Encoding.DER)


class Issuer(Value, frozen=True):
    """Who signs. `chain`: itself and whoever stands between it and the root, as DER; empty when it is the root."""

    certificate: bytes  # DER
    key: Key
    chain: tuple[bytes, ...] = ()


def make_leaf(issuer: Issuer, public: PublicKey, spiffe: str, now: float, seconds: float) -> bytes:
    """A workload's certificate as DER; it never outlives its issuer. Raises BadCertificate when that has ended."""
    both = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    return _make_end(issuer, public, both, [_uri(spiffe)], now, seconds)


def make_server(issuer: Issuer, public: PublicKey, names: Iterable[str], now: float, seconds: float) -> bytes:
    """The authority's own, for HTTPS under these DNS names; as make_leaf."""
    hosts = [x509.DNSName(name) for name in names]
    return _make_end(issuer, public, [ExtendedKeyUsageOID.SERVER_AUTH], hosts, now, seconds)


def _make_end(
    issuer: Issuer,
    public: PublicKey,
    usages: list[x509.ObjectIdentifier],
    names: Iterable[x509.GeneralName],
    now: float,
    seconds: float,
) -> bytes:
    upper = x509.load_der_x509_certificate(issuer.certificate)
    left = upper.not_valid_after_utc.timestamp() - now
    if left <= 0:
        name = fingerprint(issuer.certificate)
        raise BadCertificate(f"the root {name} ended at {upper.not_valid_after_utc:%Y-%m-%d %H:%M} UTC")
    builder = (
        _builder(x509.Name([]), upper.subject, public, now, min(seconds, left))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage("digital_signature"), critical=True)
        .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.key.public_key()), critical=False)
        .add_extension(x509.SubjectAlternativeName(names), critical=True)
    )
    return builder.sign(issuer.key, _HASH).public_bytes(Encoding.DER)


def make_request(key: Key, spiffe: str) -> bytes:
    """A PKCS #10 request as DER, signed with the key that asks."""
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    builder = builder.add_extension(x509.SubjectAlternativeName([_uri(spiffe)]), critical=True)
    return builder.sign(key, _HASH).public_bytes(Encoding.DER)


def _builder(
    subject: x509.Name, issuer: x509.Name, public: PublicKey, now: float, seconds: float
) -> x509.CertificateBuilder:
    start = datetime.fromtimestamp(now, UTC).replace(microsecond=0)  # X.509 knows whole seconds
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(_serial())
        .not_valid_before(start - timedelta(seconds=BACKDATE_SECONDS))
        .not_valid_after(start + timedelta(seconds=int(seconds)))
    )


def _serial() -> int:
    """Positive, and always of the full length: the first byte is 01xxxxxx."""
    random = bytearray(secrets.token_bytes(SERIAL_BYTES))
    random[0] = random[0] & 0x3F | 0x40
    return int.from_bytes(random, "big")


def _uri(text: str) -> x509.UniformResourceIdentifier:
    return x509.UniformResourceIdentifier(text)


def _usage(*wanted: str) -> x509.KeyUsage:
    return x509.KeyUsage(**{each: each in wanted for each in _EVERY_USAGE})
