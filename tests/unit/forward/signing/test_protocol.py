"""What the signer signs, what it refuses, and what it does with who says anything else."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator

import pytest
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from mesh.forward.signing import protocol
from mesh.forward.signing.protocol import Answer
from mesh.identity import certificate, issue
from tests.kit.pki import Authority, Certificate
from tests.kit.signing import OwnSigner

SERVER = b" " * 64 + b"TLS 1.3, server CertificateVerify\0"
CLIENT = b" " * 64 + b"TLS 1.3, client CertificateVerify\0"
AUTHORITY = Authority()
WEB = AUTHORITY.issue("spiffe://cluster.local/ns/shop/sa/web")
OTHER = AUTHORITY.issue("spiffe://cluster.local/ns/shop/sa/other")


@pytest.fixture
def signer() -> Iterator[OwnSigner]:
    made = OwnSigner()
    made.know(WEB)
    yield made
    made.close()


def ask(signer: OwnSigner, sock: socket.socket, content: bytes, known: Certificate = WEB, ticket: int = 7) -> Answer:
    sock.send(protocol.request(ticket, certificate.key_name(known.ours), content))
    signer.run()
    answer = protocol.read_answer(sock.recv(4096, socket.MSG_DONTWAIT))
    assert answer is not None
    assert answer.ticket == ticket
    return answer


def ended(sock: socket.socket) -> bool:
    try:
        return sock.recv(4096, socket.MSG_DONTWAIT) == b""
    except ConnectionResetError:  # with something that it never read
        return True
    except BlockingIOError:
        return False


@pytest.mark.parametrize("content", [SERVER + b"h" * 32, SERVER + b"h" * 48, CLIENT + b"h" * 32, CLIENT + b"\0" * 48])
def test_handshakes_are_signed_with_the_key_that_is_named_and_no_other(signer: OwnSigner, content: bytes) -> None:
    signer.know(OTHER)
    with signer.open() as sock:
        answer = ask(signer, sock, content)
    WEB.ours.public_key().verify(answer.signature, content, ec.ECDSA(hashes.SHA256()))
    with pytest.raises(InvalidSignature):
        OTHER.ours.public_key().verify(answer.signature, content, ec.ECDSA(hashes.SHA256()))
    assert signer.report().results == {"signed": 1, "content": 0, "unknown": 0, "failed": 0}


def to_be_signed() -> list[bytes]:
    """Of a certificate, and of a request: what a taken-over worker would like to have signed."""
    request = x509.load_der_x509_csr(issue.make_request(WEB.ours, "spiffe://cluster.local/ns/shop/sa/web"))
    found = [WEB.certificate.tbs_certificate_bytes, request.tbs_certrequest_bytes]
    return [each[:length] for each in found for length in (128, 130, 146)]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"h" * 32,
        SERVER,
        SERVER + b"h" * 31,
        SERVER + b"h" * 33,
        SERVER + b"h" * 47,
        SERVER[1:] + b"h" * 32,
        b" " + SERVER + b"h" * 32,
        SERVER[:-1] + b"h" * 33,
        SERVER[:-1] + b" " + b"h" * 32,
        SERVER.replace(b"server", b"Server") + b"h" * 32,
        SERVER.replace(b"1.3", b"1.2") + b"h" * 32,
        SERVER.replace(b"CertificateVerify", b"Finished") + b"h" * 32,
        b"\t" * 64 + SERVER[64:] + b"h" * 32,
        b" " * 63 + b"\0" + SERVER[64:] + b"h" * 32,
        b"eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJyb290In0",
        *to_be_signed(),
    ],
)
def test_nothing_else_is_signed(signer: OwnSigner, content: bytes) -> None:
    with signer.open() as sock:
        assert ask(signer, sock, content) == Answer(7, b"", "content")
    assert signer.report().results["content"] == 1


def test_a_length_beyond_the_content_is_believed_by_nobody(signer: OwnSigner) -> None:
    with signer.open() as sock:
        for length in (147, 255, 65535):
            good = bytearray(protocol.request(7, certificate.key_name(WEB.ours), SERVER + b"h" * 48))
            at = good.index((146).to_bytes(2, "little"), len(good) - 8)
            good[at : at + 2] = length.to_bytes(2, "little")
            sock.send(good)
            signer.run()
            assert protocol.read_answer(sock.recv(4096)) == Answer(7, b"", "content")


def test_nothing_is_signed_with_a_key_that_is_not_there_or_not_any_more(signer: OwnSigner) -> None:
    with signer.open() as sock:
        assert ask(signer, sock, SERVER + b"h" * 32, OTHER) == Answer(7, b"", "unknown")
        assert ask(signer, sock, SERVER + b"h" * 32).result == "signed"
        signer.forget(WEB)
        assert ask(signer, sock, SERVER + b"h" * 32) == Answer(7, b"", "unknown")
    assert signer.report().keys == 0


@pytest.mark.parametrize("cut", range(192))
def test_who_sends_a_packet_of_another_length_is_cut_off_and_nobody_else(signer: OwnSigner, cut: int) -> None:
    whole = protocol.request(7, certificate.key_name(WEB.ours), SERVER + b"h" * 32)
    with signer.open() as bad, signer.open() as good:
        bad.send(whole[:cut] if cut else whole + b"x" * 3000)
        signer.run()
        assert ended(bad)
        assert ask(signer, good, SERVER + b"h" * 32).result == "signed"
    assert signer.report().cut == 1


def test_who_does_not_read_its_answers_is_not_listened_to_and_gets_them_all_the_same(signer: OwnSigner) -> None:
    request = [protocol.request(number, certificate.key_name(WEB.ours), SERVER + b"h" * 32) for number in range(2000)]
    with signer.open() as slow, signer.open() as other:
        slow.setblocking(False)
        sent, heard = 0, list[int]()
        while len(heard) < len(request):
            try:
                while sent < len(request):
                    slow.send(request[sent])
                    sent += 1
                    signer.run()
            except BlockingIOError:
                pass
            assert ask(signer, other, SERVER + b"h" * 32).result == "signed"
            try:
                while True:
                    answer = protocol.read_answer(slow.recv(4096))
                    assert answer is not None
                    heard.append(answer.ticket)
                    signer.run()
            except BlockingIOError:
                pass
        assert heard == list(range(2000))


def test_who_goes_away_is_forgotten(signer: OwnSigner) -> None:
    socks = [signer.open() for _ in range(5)]
    assert signer.report().clients == 5
    socks[0].send(protocol.request(7, certificate.key_name(WEB.ours), SERVER + b"h" * 32))
    for sock in socks:
        sock.close()
    signer.run()
    assert signer.report().clients == 0


# --- the agent


@pytest.mark.parametrize("secret", [b"", b"\x30", os.urandom(138), b"\x30\x81\x87" + bytes(135)])
def test_an_agent_that_tells_what_is_no_key_is_cut_off_and_the_others_served(signer: OwnSigner, secret: bytes) -> None:
    with signer.open() as sock:
        signer.tell(protocol.add(secret))
        assert not signer.signer.has_agent
        assert ask(signer, sock, SERVER + b"h" * 32).result == "signed"


def test_keys_of_another_curve_are_not_taken(signer: OwnSigner) -> None:
    signer.tell(protocol.add(certificate.secret(ec.generate_private_key(ec.SECP384R1()))))
    assert not signer.signer.has_agent


@pytest.mark.parametrize("change", [0, 1, 100])
def test_an_agents_packet_of_another_length_or_kind_ends_the_conversation(signer: OwnSigner, change: int) -> None:
    message = protocol.keep()
    signer.tell({0: message[:-1], 1: message + b"x", 100: message[:4] + b"\x09\0" + message[6:]}[change])
    assert not signer.signer.has_agent
    assert not signer.signer.is_outdated


def test_a_signer_of_another_version_ends(signer: OwnSigner) -> None:
    signer.tell((99).to_bytes(4, "little") + b"whatever its words are")
    assert signer.signer.is_outdated


def test_the_next_agent_finds_the_keys_until_it_has_told_its_own(signer: OwnSigner) -> None:
    with signer.open() as sock:
        signer.agent.close()
        signer.run()
        assert ask(signer, sock, SERVER + b"h" * 32).result == "signed"
        signer.meet()
        signer.know(OTHER)
        assert ask(signer, sock, SERVER + b"h" * 32).result == "signed"
        signer.tell(protocol.keep())
        assert ask(signer, sock, SERVER + b"h" * 32).result == "unknown"
        assert ask(signer, sock, SERVER + b"h" * 32, OTHER).result == "signed"


def test_a_key_that_is_told_twice_is_there_once(signer: OwnSigner) -> None:
    signer.know(WEB)
    assert signer.report().keys == 1


def test_a_socket_is_given_with_serve_and_with_nothing_else(signer: OwnSigner) -> None:
    before = len(os.listdir("/proc/self/fd"))
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        signer.tell(protocol.keep(), [theirs.fileno()] * 3)
        assert signer.signer.has_agent
        assert len(os.listdir("/proc/self/fd")) == before + 2
        signer.tell(protocol.serve())
        assert not signer.signer.has_agent


# --- what is read of a signer


@pytest.mark.parametrize("read", [protocol.read_answer, protocol.read_report])
def test_a_packet_of_another_length_is_no_word_of_a_signers(read: object) -> None:
    good = {protocol.read_answer: protocol.ANSWER_BYTES, protocol.read_report: 56}[read]  # type: ignore[index]
    for length in range(300):
        assert (read(bytes(length)) is not None) == (length == good)  # type: ignore[operator]


def test_an_answer_with_impossible_numbers_is_none() -> None:
    assert protocol.read_answer(b"\xff" * protocol.ANSWER_BYTES) is None
