"""Certificates for tests, good and odd ones, by `cryptography`: also what no authority of the real world would sign."""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

DAY = datetime.timedelta(days=1)
Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


@dataclass
class Certificate:
    key: Key
    certificate: x509.Certificate
    issuer: Certificate | None = None
    beside: tuple[Certificate, ...] = ()  # shown with it

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(Encoding.DER)

    @property
    def chain(self) -> tuple[bytes, ...]:
        return (self.der, *(each.der for each in self.beside))

    @property
    def serial(self) -> str:
        text = f"{self.certificate.serial_number:x}"
        return text.zfill(len(text) + len(text) % 2)

    @property
    def ours(self) -> ec.EllipticCurvePrivateKey:
        """The key, of the kind that our own identities have."""
        assert isinstance(self.key, ec.EllipticCurvePrivateKey)
        return self.key

    def sign(self, content: bytes) -> bytes:
        """As the signer does."""
        return self.ours.sign(content, ec.ECDSA(hashes.SHA256()))

    def pem(self) -> bytes:
        """Certificates and key, for programs that want a file."""
        key = self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        shown = (self.certificate, *(each.certificate for each in self.beside))
        return b"".join(each.public_bytes(Encoding.PEM) for each in shown) + key


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
        key: Key | None = None,
    ) -> Certificate:
        """A leaf with these URI SANs, valid from `begins` to `ends`, seen from now."""
        return self._make("", _names(uris, dns), ca, begins, ends, purposes, self.root, key)

    def below(self, name: str, key: Key | None = None) -> Authority:
        """One that this one vouches for; what it issues shows all up to this one."""
        made = Authority.__new__(Authority)
        made.name = name
        made.root = self._make(name, (), ca=True, issuer=self.root, key=key)
        made.root.beside = (made.root, *self.root.beside)
        return made

    def impostor(self, uri: str) -> Certificate:
        """Self-signed, in the root's name and with its key identifier."""
        identifier = x509.SubjectKeyIdentifier.from_public_key(self.root.certificate.public_key())
        authority = x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier)
        return self._make(self.name, _names([uri], ()), ca=False, more=(identifier, authority))

    def _make(
        self,
        name: str,
        names: Sequence[x509.GeneralName],
        ca: bool,
        begins: datetime.timedelta = -DAY,
        ends: datetime.timedelta = DAY,
        purposes: Sequence[x509.ObjectIdentifier] = (),
        issuer: Certificate | None = None,
        key: Key | None = None,
        more: Sequence[x509.ExtensionType] = (),
    ) -> Certificate:
        key = key or ec.generate_private_key(ec.SECP256R1())
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
        for each in more:
            builder = builder.add_extension(each, critical=False)
        signed = builder.sign(issuer.key if issuer else key, hashes.SHA256())
        return Certificate(key, signed, issuer, issuer.beside if issuer else ())


def _names(uris: Iterable[str], dns: Iterable[str]) -> list[x509.GeneralName]:
    return [*(x509.UniformResourceIdentifier(uri) for uri in uris), *(x509.DNSName(name) for name in dns)]
