"""Who is who in a cluster: one authority, a certificate for everybody, a kubeconfig for every client.

Names and groups are those that Kubernetes' own RBAC rules are written for (kubeadm's): nobody but `admin` may do more
than its role. Everything is written into one directory and lasts a week, longer than any lab.
"""

from __future__ import annotations

import base64
import datetime
import ipaddress
import json
from collections.abc import Iterable
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

DAYS = 7
SKEW = datetime.timedelta(hours=1)
CLIENTS = {
    "admin": ("admin", "system:masters"),
    "controllers": ("system:kube-controller-manager", ""),
    "scheduler": ("system:kube-scheduler", ""),
    "proxy": ("system:kube-proxy", ""),
    "apiserver-kubelet": ("kube-apiserver-kubelet-client", "system:masters"),  # as kubeadm: else exec needs a binding
}


class Certificates:
    """Everything that a cluster's processes prove themselves with, as files below `directory`."""

    def __init__(self, directory: Path, server: str) -> None:
        """`server`: the API server's URL, for the kubeconfigs."""
        self._directory, self._server = directory, server
        directory.mkdir(mode=0o700)
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._authority = self._sign(self._key, _subject("seine-test-ca"), None)
        self._write("ca", self._key, self._authority)

    def path(self, name: str) -> Path:
        """`ca.crt`, `admin.conf`, `node-a.key` ..."""
        return self._directory / name

    def issue(self, name: str, common_name: str, organization: str = "", hosts: Iterable[str] = ()) -> None:
        """NAME.crt and NAME.key, good for clients and servers."""
        key = ec.generate_private_key(ec.SECP256R1())
        self._write(name, key, self._sign(key, _subject(common_name, organization), list(hosts)))

    def issue_clients(self) -> None:
        for name, (common_name, organization) in CLIENTS.items():
            self.issue_client(name, common_name, organization)

    def issue_client(self, name: str, common_name: str, organization: str, hosts: Iterable[str] = ()) -> None:
        """As `issue`, and NAME.conf beside it."""
        self.issue(name, common_name, organization, hosts)
        user = {
            "client-certificate-data": self._base64(f"{name}.crt"),
            "client-key-data": self._base64(f"{name}.key"),
        }
        cluster = {"server": self._server, "certificate-authority-data": self._base64("ca.crt")}
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "seine-test",
            "clusters": [{"name": "seine-test", "cluster": cluster}],
            "users": [{"name": name, "user": user}],
            "contexts": [{"name": "seine-test", "context": {"cluster": "seine-test", "user": name}}],
        }
        self.path(f"{name}.conf").write_text(json.dumps(config))

    def issue_service_accounts(self) -> None:
        """The key pair that signs and proves service accounts' tokens: accounts.key, accounts.pub."""
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self.path("accounts.key").write_bytes(_private(key))
        public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        self.path("accounts.pub").write_bytes(public)

    def _base64(self, name: str) -> str:
        return base64.b64encode(self.path(name).read_bytes()).decode()

    def _sign(self, key: ec.EllipticCurvePrivateKey, subject: x509.Name, hosts: list[str] | None) -> x509.Certificate:
        """`hosts` None: the authority itself."""
        now = datetime.datetime.now(datetime.UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(subject if hosts is None else self._authority.subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - SKEW)
            .not_valid_after(now + datetime.timedelta(days=DAYS))
            .add_extension(x509.BasicConstraints(ca=hosts is None, path_length=None), critical=True)
        )
        if hosts is not None:
            usage = [ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH]
            builder = builder.add_extension(x509.ExtendedKeyUsage(usage), critical=False)
        if hosts:
            builder = builder.add_extension(x509.SubjectAlternativeName(list(map(_general, hosts))), critical=False)
        return builder.sign(self._key, hashes.SHA256())

    def _write(self, name: str, key: CertificateIssuerPrivateKeyTypes, certificate: x509.Certificate) -> None:
        self.path(f"{name}.key").write_bytes(_private(key))
        self.path(f"{name}.crt").write_bytes(certificate.public_bytes(Encoding.PEM))


def _private(key: CertificateIssuerPrivateKeyTypes) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _subject(common_name: str, organization: str = "") -> x509.Name:
    names = [x509.NameAttribute(NameOID.COMMON_NAME, common_name)]
    if organization:
        names.append(x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization))
    return x509.Name(names)


def _general(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)
