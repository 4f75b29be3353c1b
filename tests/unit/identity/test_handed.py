"""A root that somebody else made: taken as cert-manager writes it, or refused with what is wrong with it."""

from __future__ import annotations

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from mesh.identity import certificate, handed, issue
from mesh.identity.authority import RootState
from mesh.identity.certificate import BadCertificate
from tests.kit.pki import Authority

NOW, DOMAIN, WEB = 1_800_000_000.0, "cluster.local", "spiffe://cluster.local/ns/shop/sa/web"
KEY = issue.new_key()
ROOT = issue.make_root(DOMAIN, KEY, NOW)


def data(chain=(ROOT,), key=KEY, root=(ROOT,)):
    made = {
        "tls.crt": "".join(map(certificate.pem, chain)),
        "tls.key": certificate.key_text(key),
        "ca.crt": "".join(map(certificate.pem, root)),
    }
    return {name: text.encode() for name, text in made.items()}


def below(issuer, issuer_key, key, ca=True):
    upper = x509.load_der_x509_certificate(issuer)
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "between")]))
        .issuer_name(upper.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(upper.not_valid_before_utc)
        .not_valid_after(upper.not_valid_after_utc)
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
    )
    return builder.sign(issuer_key, hashes.SHA256()).public_bytes(Encoding.DER)


def test_a_self_signed_root_is_taken_with_and_without_ca_crt():
    for given in (data(), data(root=())):
        found = handed.read(given)
        assert (found.root, found.id, found.issuer.chain) == (ROOT, certificate.fingerprint(ROOT), ())


def test_an_authority_below_a_root_signs_and_the_root_is_what_is_believed():
    key = issue.new_key()
    between = below(ROOT, KEY, key)
    found = handed.read(data([between], key))
    assert (found.root, found.issuer.chain) == (ROOT, (between,))
    leaf = issue.make_leaf(found.issuer, issue.new_key().public_key(), WEB, NOW, 60)
    _, facts = certificate.read_leaf((leaf, *found.issuer.chain), [ROOT], DOMAIN)
    assert facts.root == certificate.fingerprint(ROOT)


def test_what_is_stored_is_read_as_it_was():
    key = issue.new_key()
    found = handed.read(data([below(ROOT, KEY, key)], key))
    stored = found.stored(RootState.JOINING, 3)
    assert certificate.der(stored.certificate) == ROOT
    assert tuple(map(certificate.der, stored.chain)) == found.issuer.chain


OTHER = issue.new_key()
BETWEEN = below(ROOT, KEY, OTHER)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({}, "there is no tls.crt and no tls.key"),
        (data() | {"tls.key": b""}, "there is no tls.key"),
        (data() | {"tls.crt": b"hello"}, "holds no certificate"),
        (data() | {"tls.crt": "\N{SNOWMAN}".encode()}, "tls.crt is not PEM"),
        (data(key=OTHER), "tls.key is not the key of the first certificate"),
        (data([BETWEEN], OTHER, root=()), "ca.crt does not hold the root"),
        (data([BETWEEN], OTHER, root=[issue.make_root(DOMAIN, OTHER, NOW)]), "ca.crt does not hold the root"),
        (data([BETWEEN, BETWEEN, ROOT], OTHER), "does not hold together"),
        (data([below(ROOT, KEY, OTHER, ca=False)], OTHER), "may not sign others"),
        (data([Authority().issue(WEB).chain[0]], KEY), "tls.key is not the key"),
    ],
)
def test_what_is_wrong_is_said(given, words):
    with pytest.raises(BadCertificate, match=words):
        handed.read(given)


def test_a_key_of_another_kind_is_refused():
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    text = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    with pytest.raises(BadCertificate, match="not of the curve P-256"):
        handed.read(data() | {"tls.key": text})
