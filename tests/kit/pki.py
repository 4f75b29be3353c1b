"""Certificates for tests, good and odd ones, by `cryptography`: also what no authority of the real world would sign."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

DAY = datetime.timedelta(days=1)


@dataclass
class Certificate:
    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate
    issuer: Certificate | None = None

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(Encoding.DER)

    @property
    def chain(self) -> tuple[bytes, ...]:
        return (self.der,)

    @property
    def serial(self) -> str:
        text = f"{self.certificate.serial_number:x}"
        return text.zfill(len(text) + len(text) % 2)

    def sign(self, content: bytes) -> bytes:
        """As the agent does for a worker."""
        return self.key.sign(content, ec.ECDSA(hashes.SHA256()))

    def pem(self) -> bytes:
        """Certificate and key, for programs that want a file."""
        key = self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        return self.certificate.public_bytes(Encoding.PEM) + key


class Authority:
    def __init__(self, name: str = "test root") -> None:
        self.name = name
        self.root = self._make(name, (), ca=True)

    def issue(
        self,
        *uris: str,
        dns: Sequence[str] = (),
        ca: bool = False,
        begins: datetime.timedelta = -DAY,
        ends: datetime.timedelta = DAY,
        purposes: Sequence[x509.ObjectIdentifier] = (ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH),
    ) -> Certificate:
        """A leaf with these URI SANs, valid from `begins` to `ends`, seen from now."""
        names = [x509.UniformResourceIdentifier(uri) for uri in uris] + [x509.DNSName(name) for name in dns]
        return self._make("", names, ca, begins, ends, purposes, self.root)

    def _make(
        self,
        name: str,
        names: Sequence[x509.GeneralName],
        ca: bool,
        begins: datetime.timedelta = -DAY,
        ends: datetime.timedelta = DAY,
        purposes: Sequence[x509.ObjectIdentifier] = (),
        issuer: Certificate | None = None,
    ) -> Certificate:
        key = ec.generate_private_key(ec.SECP256R1())
        now = datetime.datetime.now(datetime.UTC)
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)] if name else [])
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer.certificate.subject if issuer else subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now + begins)
            .not_valid_after(now + ends)
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        )
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=not name)
        if purposes:
            builder = builder.add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
        signed = builder.sign(issuer.key if issuer else key, hashes.SHA256())
        return Certificate(key, signed, issuer)
