"""Certificates for peers that prove who they are to each other: one authority, an end near the client, and a far one.

ECDSA P-256, as Seine's own are, so that handshakes cost the same. Files: ca.pem, and near.pem and far.pem with key and
chain in one. They last as long as a run.
"""

from __future__ import annotations

import datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

ENDS = ("near", "far")
VALID = datetime.timedelta(days=1)


def identity(end: str) -> str:
    return f"spiffe://bench.test/ns/default/sa/{end}"


def issue(directory: Path) -> None:
    now = datetime.datetime.now(datetime.UTC)
    root, name = ec.generate_private_key(ec.SECP256R1()), _name("bench root")

    def signed(subject: x509.Name, key: ec.EllipticCurvePublicKey, *extensions: x509.ExtensionType) -> bytes:
        builder = x509.CertificateBuilder(name, subject, key, x509.random_serial_number(), now - VALID, now + VALID)
        for extension in extensions:
            builder = builder.add_extension(extension, critical=isinstance(extension, x509.BasicConstraints))
        return builder.sign(root, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

    authority = signed(name, root.public_key(), x509.BasicConstraints(ca=True, path_length=0))
    (directory / "ca.pem").write_bytes(authority)
    for end in ENDS:
        key = ec.generate_private_key(ec.SECP256R1())
        names = [x509.DNSName(end), x509.UniformResourceIdentifier(identity(end))]
        leaf = signed(_name(end), key.public_key(), x509.SubjectAlternativeName(names))
        (directory / f"{end}.pem").write_bytes(leaf + _private(key))


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _private(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
