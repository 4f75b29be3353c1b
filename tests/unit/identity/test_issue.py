"""What we issue is what OpenSSL's own program, and the field's rules, take for good."""

import subprocess
from datetime import UTC, datetime

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

from mesh.identity import certificate, issue
from mesh.identity.certificate import BadCertificate

DOMAIN, WEB = "cluster.local", "spiffe://cluster.local/ns/shop/sa/web"
NOW = float(int(datetime.now(UTC).timestamp()))
DAY = 86400


@pytest.fixture(scope="module")
def root_key():
    return issue.new_key()


@pytest.fixture(scope="module")
def root(root_key):
    return issue.make_root(DOMAIN, root_key, NOW)


def leaf(root, root_key, seconds=DAY, now=NOW):
    return issue.make_leaf(
        issue.Issuer(certificate=root, key=root_key), issue.new_key().public_key(), WEB, now, seconds
    )


def openssl_verify(tmp_path, root, leaf, *more):
    for name, der in (("root", root), ("leaf", leaf)):
        (tmp_path / f"{name}.pem").write_text(certificate.pem(der))
    command = ["openssl", "verify", "-x509_strict", "-check_ss_sig", "-CAfile", str(tmp_path / "root.pem"), *more]
    return subprocess.run([*command, str(tmp_path / "leaf.pem")], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("purpose", ["sslserver", "sslclient"])
def test_openssl_takes_a_certificate_for_server_and_client(tmp_path, root, root_key, purpose):
    done = openssl_verify(tmp_path, root, leaf(root, root_key), "-purpose", purpose)
    assert (done.returncode, done.stderr) == (0, "")


def test_openssl_refuses_it_under_another_root(tmp_path, root, root_key):
    other = issue.make_root(DOMAIN, issue.new_key(), NOW)
    done = openssl_verify(tmp_path, other, leaf(root, root_key), "-purpose", "sslserver")
    assert done.returncode != 0


def test_openssl_refuses_what_a_workload_signs_as_if_it_were_an_authority(tmp_path, root, root_key):
    key = issue.new_key()
    middle = issue.make_leaf(issue.Issuer(certificate=root, key=root_key), key.public_key(), WEB, NOW, DAY)
    forged = issue.make_leaf(issue.Issuer(certificate=middle, key=key), issue.new_key().public_key(), WEB, NOW, DAY)
    (tmp_path / "middle.pem").write_text(certificate.pem(middle))
    done = openssl_verify(tmp_path, root, forged, "-untrusted", str(tmp_path / "middle.pem"))
    assert done.returncode != 0


@pytest.mark.parametrize(("after", "good"), [(-61, False), (-59, True), (0, True), (DAY - 1, True), (DAY + 1, False)])
def test_a_peer_whose_clock_is_a_minute_behind_takes_it_and_nobody_after_its_end(tmp_path, root, root_key, after, good):
    done = openssl_verify(tmp_path, root, leaf(root, root_key), "-attime", str(int(NOW + after)))
    assert (done.returncode == 0) is good


def test_the_id_is_the_only_name_and_the_rest_says_handshakes_only(root, root_key):
    found = x509.load_der_x509_certificate(leaf(root, root_key))
    names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    assert names.critical
    assert [name.value for name in names.value] == [WEB]
    assert list(found.subject) == []
    usage = found.extensions.get_extension_for_class(x509.KeyUsage).value
    assert usage.digital_signature
    assert not any((usage.key_cert_sign, usage.crl_sign, usage.key_agreement, usage.key_encipherment))
    extended = found.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert set(extended) == {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH}
    assert not found.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    public = found.public_key()
    assert isinstance(public, ec.EllipticCurvePublicKey)
    assert public.curve.name == "secp256r1"


def test_a_root_signs_certificates_and_no_further_authority(root):
    found = x509.load_der_x509_certificate(root)
    basic = found.extensions.get_extension_for_class(x509.BasicConstraints)
    assert (basic.critical, basic.value.ca, basic.value.path_length) == (True, True, 0)
    usage = found.extensions.get_extension_for_class(x509.KeyUsage).value
    assert usage.key_cert_sign
    assert not usage.digital_signature


def test_serial_numbers_have_twenty_bytes_and_never_come_twice(root, root_key):
    serials = [x509.load_der_x509_certificate(leaf(root, root_key)).serial_number for _ in range(50)]
    assert {(serial.bit_length() + 7) // 8 for serial in serials} == {20}
    assert len({certificate.serial_text(serial) for serial in serials}) == 50


def test_two_roots_of_a_trust_domain_have_different_subjects(root, root_key):
    """Else who builds a chain by names may try the wrong one only."""
    assert certificate.read_root(root).name != certificate.read_root(issue.make_root(DOMAIN, root_key, NOW)).name


def test_a_certificate_does_not_outlive_its_root_and_none_comes_from_a_dead_one(root, root_key):
    end = certificate.read_root(root).not_after
    _, facts = certificate.read_leaf([leaf(root, root_key, now=end - 100)], [root], DOMAIN)
    assert facts.not_after == end
    with pytest.raises(BadCertificate, match="ended at"):
        leaf(root, root_key, now=end)
