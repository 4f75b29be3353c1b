import logging

import pytest
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from mesh.identity import issue
from mesh.identity.signer import Signer, proves_a_handshake
from tests.kit.clock import FakeClock

WEB = "spiffe://cluster.local/ns/shop/sa/web"
KEY = issue.new_key()
SERVER = b" " * 64 + b"TLS 1.3, server CertificateVerify\0"
CLIENT = b" " * 64 + b"TLS 1.3, client CertificateVerify\0"


def make(clock=None):
    return Signer({WEB: KEY}.get, clock or FakeClock())


@pytest.mark.parametrize("content", [SERVER + b"h" * 32, SERVER + b"h" * 48, CLIENT + b"h" * 32, CLIENT + b"\0" * 48])
def test_handshakes_are_signed_for_an_identity_of_this_node(content):
    signer = make()
    KEY.public_key().verify(signer.sign(WEB, content), content, ec.ECDSA(hashes.SHA256()))
    assert (signer.signed, signer.refused) == (1, {})


def to_be_signed():
    """Of a certificate, and of a request: what a taken-over worker would like to have signed."""
    root = issue.make_root("cluster.local", KEY, 1_800_000_000.0)
    request = x509.load_der_x509_csr(issue.make_request(KEY, WEB))
    return [x509.load_der_x509_certificate(root).tbs_certificate_bytes, request.tbs_certrequest_bytes]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"h" * 32,
        SERVER,
        SERVER + b"h" * 31,
        SERVER + b"h" * 33,
        SERVER + b"h" * 47,
        SERVER + b"h" * 49,
        SERVER + b"h" * 64,
        SERVER[1:] + b"h" * 32,
        b" " + SERVER + b"h" * 32,
        SERVER[:-1] + b"h" * 33,
        SERVER[:-1] + b" " + b"h" * 32,
        SERVER.replace(b"server", b"Server") + b"h" * 32,
        SERVER.replace(b"1.3", b"1.2") + b"h" * 32,
        SERVER.replace(b"CertificateVerify", b"Finished") + b"h" * 32,
        b"\t" * 64 + SERVER[64:] + b"h" * 32,
        CLIENT + SERVER + b"h" * 32,
        b"eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJyb290In0",
        b"x" * (8 << 20),
        *to_be_signed(),
    ],
)
def test_nothing_else_is_signed(content):
    signer = make()
    assert not proves_a_handshake(content)
    assert signer.sign(WEB, content) == b""
    assert (signer.signed, signer.refused) == (0, {"content": 1})


def test_nobody_elses_identity_is_signed_for():
    signer = make()
    for name in ("", WEB + "x", "spiffe://cluster.local/ns/shop/sa/db"):
        assert signer.sign(name, SERVER + b"h" * 32) == b""
    assert (signer.signed, signer.refused) == (0, {"identity": 3})


def test_refusals_are_logged_once_per_second_at_most_and_never_with_the_content(caplog):
    clock = FakeClock()
    signer = make(clock)
    with caplog.at_level(logging.WARNING):
        for _ in range(100):
            signer.sign(WEB, b"secret")
        assert len(caplog.records) == 1
        clock.advance(1.0)
        signer.sign("spiffe://\n", SERVER + b"h" * 32)
    assert len(caplog.records) == 2
    assert "101 so far" in caplog.text
    assert "secret" not in caplog.text
    assert signer.refused.total() == 101


def test_a_signature_fits_the_certificate_and_no_other_key():
    content = CLIENT + b"h" * 48
    signature = make().sign(WEB, content)
    with pytest.raises(InvalidSignature):
        issue.new_key().public_key().verify(signature, content, ec.ECDSA(hashes.SHA256()))
