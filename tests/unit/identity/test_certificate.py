"""Certificates as strangers might send them: what is not exactly ours is refused with its reason."""

from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from hypothesis import given, settings
from hypothesis import strategies as st

from mesh.identity import certificate, issue
from mesh.identity.certificate import BadCertificate

DOMAIN, WEB = "cluster.local", "spiffe://cluster.local/ns/shop/sa/web"
NOW = 1_800_000_000.0

ROOT_KEY = issue.new_key()
ROOT = issue.make_root(DOMAIN, ROOT_KEY, NOW)
KEY = issue.new_key()
LEAF = issue.make_leaf(issue.Issuer(certificate=ROOT, key=ROOT_KEY), KEY.public_key(), WEB, NOW, 86400)
REQUEST = issue.make_request(KEY, WEB)


def uri(text):
    return x509.UniformResourceIdentifier(text)


def request(*names, key=None):
    key = key or issue.new_key()
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=True)
    how = None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    return builder.sign(key, how).public_bytes(Encoding.DER)


def test_a_request_says_whose_key_it_is_and_for_which_id():
    public, name = certificate.read_request(REQUEST, DOMAIN)
    assert (public, name) == (KEY.public_key(), WEB)


OTHER_URI = uri("spiffe://cluster.local/ns/shop/sa/db")


@pytest.mark.parametrize(
    ("names", "words"),
    [
        ((), "with a name"),
        ((uri(WEB), OTHER_URI), "one name"),
        ((uri(WEB), x509.DNSName("web.shop")), "one name"),
        ((x509.DNSName("web.shop"),), "one name"),
        ((x509.DNSName("web\0.shop"),), "one name"),
        ((uri("spiffe://example.org/ns/shop/sa/web"),), "of the trust domain example.org"),
        ((uri("spiffe://cluster.local:1/ns/shop/sa/web"),), "has a port"),
        ((uri("spiffe://me@cluster.local/ns/shop/sa/web"),), "has a user"),
        ((uri(WEB + "?a"),), "has a query"),
        ((uri(WEB + "x" * 2048),), "at most 2048"),
        ((uri("https://web.shop"),), "does not begin"),
    ],
)
def test_a_request_for_anything_but_one_id_of_ours_is_refused(names, words):
    with pytest.raises(BadCertificate, match=words):
        certificate.read_request(request(*names), DOMAIN)


@pytest.mark.parametrize(
    "key",
    [
        rsa.generate_private_key(65537, 2048),
        ec.generate_private_key(ec.SECP384R1()),
        ec.generate_private_key(ec.SECP256K1()),
        ed25519.Ed25519PrivateKey.generate(),
    ],
    ids=["rsa", "p384", "k1", "ed25519"],
)
def test_a_request_with_another_kind_of_key_is_refused(key):
    with pytest.raises(BadCertificate, match="P-256"):
        certificate.read_request(request(uri(WEB), key=key), DOMAIN)


def test_a_request_that_its_key_did_not_sign_is_refused():
    made = bytearray(REQUEST)
    made[-1] ^= 1
    with pytest.raises(BadCertificate, match=r"not signed with the key|not a PKCS"):
        certificate.read_request(bytes(made), DOMAIN)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_no_damage_to_a_request_does_more_than_a_refusal(data):
    at = data.draw(st.integers(0, len(REQUEST) - 1))
    bad = REQUEST[:at] + data.draw(st.binary(max_size=4)) + REQUEST[at + data.draw(st.integers(0, 8)) :]
    try:
        public, name = certificate.read_request(bad, DOMAIN)
    except BadCertificate:
        return
    assert (public, name) == (KEY.public_key(), WEB)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_no_damage_to_a_certificate_does_more_than_a_refusal(data):
    at = data.draw(st.integers(0, len(LEAF) - 1))
    bad = LEAF[:at] + data.draw(st.binary(max_size=4)) + LEAF[at + data.draw(st.integers(0, 8)) :]
    try:
        _, facts = certificate.read_leaf([bad], [ROOT], DOMAIN)
    except BadCertificate:
        return
    assert facts.name == WEB


def test_a_chain_says_who_it_is_until_when_and_from_which_root():
    public, facts = certificate.read_leaf([LEAF], [issue.make_root(DOMAIN, issue.new_key(), NOW), ROOT], DOMAIN)
    assert public == KEY.public_key()
    assert (facts.name, facts.root) == (WEB, certificate.fingerprint(ROOT))
    assert (facts.not_before, facts.not_after) == (NOW - issue.BACKDATE_SECONDS, NOW + 86400)


def test_a_chain_from_another_root_is_refused():
    other_key = issue.new_key()
    other = issue.make_root(DOMAIN, other_key, NOW)
    for chain in (
        [issue.make_leaf(issue.Issuer(certificate=other, key=other_key), KEY.public_key(), WEB, NOW, 60)],
        [other],
    ):
        with pytest.raises(BadCertificate, match="hangs from no root"):
            certificate.read_leaf(chain, [ROOT], DOMAIN)


def test_a_root_of_the_same_name_with_another_key_vouches_for_nothing():
    """What looks alike (same subject, same key identifier) was not the issuer."""
    theirs = issue.new_key()
    real = x509.load_der_x509_certificate(ROOT)
    fake = (
        x509.CertificateBuilder()
        .subject_name(real.subject)
        .issuer_name(real.subject)
        .public_key(theirs.public_key())
        .serial_number(real.serial_number)
        .not_valid_before(datetime.fromtimestamp(NOW, UTC))
        .not_valid_after(datetime.fromtimestamp(NOW, UTC) + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(ROOT_KEY.public_key()), critical=False)
        .sign(theirs, hashes.SHA256())
        .public_bytes(Encoding.DER)
    )
    with pytest.raises(BadCertificate, match="hangs from no root"):
        certificate.read_leaf([LEAF], [fake], DOMAIN)


@pytest.mark.parametrize(
    ("chain", "words"),
    [
        ([], "has 1 to 4"),
        ([LEAF] * 5, "has 1 to 4"),
        ([LEAF + b"x" * 40000], "at most 32768 bytes"),
        ([b""], "no certificate of a workload"),
        ([LEAF[:-1]], "no certificate of a workload"),
        ([LEAF, LEAF], "does not hold together"),
        ([ROOT], "has a name|is not /ns/"),
    ],
)
def test_what_is_no_chain_of_a_workload_is_refused(chain, words):
    with pytest.raises(BadCertificate, match=words):
        certificate.read_leaf(chain, [ROOT], DOMAIN)


def test_a_chain_of_another_trust_domain_is_refused():
    with pytest.raises(BadCertificate, match=r"not of example.org"):
        certificate.read_leaf([LEAF], [ROOT], "example.org")


def test_a_root_must_be_an_authority():
    assert certificate.read_root(ROOT).root == certificate.fingerprint(ROOT)
    with pytest.raises(BadCertificate, match="may not sign others"):
        certificate.read_root(LEAF)
    with pytest.raises(BadCertificate, match="not a certificate of an authority"):
        certificate.read_root(ROOT[:-1])


def test_serial_numbers_are_whole_bytes_in_small_letters():
    assert [certificate.serial_text(number) for number in (0, 10, 0xABC, 0x80)] == ["00", "0a", "0abc", "80"]


def test_text_and_back():
    assert certificate.der(certificate.pem(ROOT)) == ROOT
    assert certificate.same_key(ROOT, certificate.key_of(certificate.key_text(ROOT_KEY)))
    assert not certificate.same_key(ROOT, KEY)


def other_key_text(key):
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "-----BEGIN PRIVATE KEY-----",
        certificate.key_text(KEY)[:-40],
        other_key_text(ed25519.Ed25519PrivateKey.generate()),
        other_key_text(ec.generate_private_key(ec.SECP384R1())),
    ],
)
def test_a_key_that_is_none_of_ours_is_refused(text):
    with pytest.raises(BadCertificate):
        certificate.key_of(text)


def test_a_certificate_that_is_cut_short_is_refused():
    with pytest.raises(BadCertificate, match="cannot be read"):
        certificate.der(certificate.pem(ROOT)[:200])
