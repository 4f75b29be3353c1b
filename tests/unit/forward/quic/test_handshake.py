"""Both ends are proven or there is no connection; each refusal has its reason, and the loop never waits for a key."""

from __future__ import annotations

from datetime import timedelta
from unittest import mock

import pytest
from aioquic import tls
from cryptography.x509.oid import ExtendedKeyUsageOID

from mesh.forward.quic.connection import Connection
from mesh.forward.quic.handshake import CHAIN_MAX, HANDSHAKE_BYTES_MAX, MutualTls, Reason
from tests.kit.pki import DAY, Authority, Certificate
from tests.kit.quic_pair import DOMAIN, A, B, Pair, Party

OTHER = f"spiffe://{DOMAIN}/ns/default/sa/other"


def refusal(connection: Connection) -> Reason | None:
    return connection.tls_context.refusal if connection.tls_context else None


def test_both_know_who_the_other_is_and_nobody_names_anybody_on_the_wire() -> None:
    pair = Pair()
    pair.connect()
    assert (pair.client.peer, pair.server.peer) == (B, A)
    assert (pair.client.own, pair.server.own) == (A, B)
    assert pair.client.peer_chain == pair.there.keys[B].chain
    # The first packets are protected by keys that everybody can derive; what is in them counts as said aloud.
    first, answer = pair.seen[0], pair.seen[1]
    for name in (A, B, DOMAIN, "default"):
        assert name.encode() not in _open(pair, first) + _open(pair, answer)


def _open(pair: Pair, datagram: bytes) -> bytes:
    """An Initial packet as anybody on the way reads it (RFC 9001 5.2)."""
    from aioquic._buffer import Buffer
    from aioquic.quic.crypto import CryptoPair
    from aioquic.quic.packet import pull_quic_header

    buffer = Buffer(data=datagram)
    header = pull_quic_header(buffer, host_cid_length=8)
    from_client = header.destination_cid == pair.client.original_destination_connection_id
    crypto = CryptoPair()
    crypto.setup_initial(
        cid=pair.client.original_destination_connection_id, is_client=not from_client, version=header.version or 0
    )
    return crypto.decrypt_packet(datagram[: header.packet_length], buffer.tell(), 0)[1]


@pytest.mark.parametrize("lost", range(8))
def test_a_lost_datagram_delays_the_handshake_and_does_not_break_it(lost: int) -> None:
    pair, count = Pair(), iter(range(1000))
    pair.lose = lambda data: next(count) == lost
    pair.run(2.0)
    assert (pair.client.peer, pair.server.peer) == (B, A)


CLIENTS = {
    "expired": (lambda a: a.issue(A, begins=-2 * DAY, ends=-DAY), Reason.EXPIRED),
    "not yet valid": (lambda a: a.issue(A, begins=DAY, ends=2 * DAY), Reason.NOT_YET_VALID),
    "of another authority": (lambda a: Authority().issue(A), Reason.UNTRUSTED),
    "of an authority with the same name": (lambda a: Authority(a.name).issue(A), Reason.UNTRUSTED),
    "of another trust domain": (lambda a: a.issue("spiffe://other.domain/ns/default/sa/a"), Reason.TRUST_DOMAIN),
    "with two ids": (lambda a: a.issue(A, OTHER), Reason.NOT_SPIFFE),
    "without an id": (lambda a: a.issue(dns=["a.default"]), Reason.NOT_SPIFFE),
    "with an id that has a port": (lambda a: a.issue(f"spiffe://{DOMAIN}:1/ns/default/sa/a"), Reason.NOT_SPIFFE),
    "with an id that has a query": (lambda a: a.issue(A + "?x=1"), Reason.NOT_SPIFFE),
    "with an id of a host": (lambda a: a.issue(f"spiffe://{DOMAIN}/host/1"), Reason.NOT_SPIFFE),
    "of an authority itself": (lambda a: a.issue(A, ca=True), Reason.NOT_A_LEAF),
    "for servers alone": (
        lambda a: a.issue(A, purposes=[ExtendedKeyUsageOID.SERVER_AUTH]),
        Reason.NOT_A_LEAF,
    ),
}


@pytest.mark.parametrize("case", CLIENTS)
def test_a_client_that_proves_nothing_is_refused(case: str) -> None:
    make, reason = CLIENTS[case]
    authority = Authority()
    pair = Pair(here=_shown(authority, make(authority)), there=Party(authority, B))
    pair.run(1.0)
    assert refusal(pair.server) is reason
    assert pair.server.peer == ""
    assert not pair.server.is_connected
    ended = pair.ended(pair.client)
    assert ended is not None
    assert ended.error_code >= 0x100  # a TLS alert


def _shown(authority: Authority, certificate: Certificate) -> Party:
    """A client that asks by the right name, whatever it then shows."""
    party = Party(authority, A)
    root = party.credentials.roots[0]
    party.credentials._roots_of[A] = root
    party.keys[A] = certificate
    party.credentials.own[A] = type(party.credentials.own[A])(name=A, chain=certificate.chain)
    return party


SERVERS = {
    "expired": (lambda a: a.issue(B, ends=timedelta(seconds=-1)), Reason.EXPIRED),
    "of another authority": (lambda a: Authority().issue(B), Reason.UNTRUSTED),
    "of another trust domain": (lambda a: a.issue("spiffe://other.domain/ns/default/sa/b"), Reason.TRUST_DOMAIN),
    "of another pod": (lambda a: a.issue(OTHER), Reason.IDENTITY),
    "for clients alone": (lambda a: a.issue(B, purposes=[ExtendedKeyUsageOID.CLIENT_AUTH]), Reason.NOT_A_LEAF),
}


@pytest.mark.parametrize("case", SERVERS)
def test_a_server_that_is_not_who_was_wanted_is_refused(case: str) -> None:
    make, reason = SERVERS[case]
    authority = Authority()
    pair = Pair(here=Party(authority, A), there=Party(authority, B, certificate=make(authority)))
    pair.run(1.0)
    assert refusal(pair.client) is reason
    assert not pair.client.is_connected
    assert not pair.server.is_connected


def test_a_client_without_a_certificate_is_refused() -> None:
    authority = Authority()
    here = Party(authority, A)
    here.credentials._roots_of[A] = authority.root.der
    here.credentials.own[A] = type(here.credentials.own[A])(name=A, chain=())
    pair = Pair(here=here, there=Party(authority, B))
    pair.run(1.0)
    assert refusal(pair.server) is Reason.NO_CERTIFICATE


def test_a_name_that_means_nobody_here_is_refused_before_anything_is_shown() -> None:
    pair = Pair(expected=OTHER)
    pair.run(1.0)
    assert refusal(pair.server) is Reason.NAME
    ended = pair.ended(pair.client)
    assert ended is not None
    assert ended.error_code == 0x100 + tls.AlertDescription.unrecognized_name


def test_who_is_denied_is_refused() -> None:
    authority = Authority()
    here, there = Party(authority, A), Party(authority, B)
    there.credentials.trust(DOMAIN, [authority.root.der], [here.keys[A].serial])
    pair = Pair(here, there)
    pair.run(1.0)
    assert refusal(pair.server) is Reason.DENIED


def test_a_chain_that_is_too_long_is_refused() -> None:
    authority = Authority()
    certificate = authority.issue(A)
    pair = Pair(here=_shown(authority, certificate), there=Party(authority, B))
    own = pair.here.credentials.own[A]
    assert pair.client.tls_context
    pair.client.tls_context.own = type(own)(name=A, chain=(certificate.der,) * (CHAIN_MAX + 1))
    pair.run(1.0)
    assert refusal(pair.server) is Reason.CHAIN


def test_a_forged_signature_is_refused() -> None:
    authority = Authority()
    here = Party(authority, A)
    stranger = authority.issue(A)
    here.keys[A] = Certificate(stranger.key, here.keys[A].certificate)
    pair = Pair(here, Party(authority, B))
    pair.run(1.0)
    assert not pair.server.is_connected
    ended = pair.ended(pair.client)
    assert ended is not None
    assert ended.error_code == 0x100 + tls.AlertDescription.decrypt_error


def test_a_handshake_that_waits_for_a_signature_goes_on_when_it_comes() -> None:
    pair = Pair()
    pair.there.sign = lambda connection: None  # type: ignore[method-assign]
    pair.run(0.5)
    assert not pair.client.is_connected
    content = pair.server.signature_wanted()
    assert content.startswith(b" " * 64 + b"TLS 1.3, server CertificateVerify\0")
    assert pair.server.signature_wanted() == b""  # asked for once
    pair.server.signed(pair.there.keys[B].sign(content))
    pair.run(0.5)
    assert pair.client.is_connected


@pytest.mark.parametrize("side", ["client", "server"])
def test_without_a_signature_the_handshake_fails_with_that_reason(side: str) -> None:
    pair = Pair()
    party = pair.here if side == "client" else pair.there
    party.sign = lambda connection: connection.signature_wanted() and connection.signed(b"")  # type: ignore[method-assign, assignment, func-returns-value]
    pair.run(1.0)
    assert refusal(getattr(pair, side)) is Reason.UNSIGNED
    assert not pair.client.is_connected or not pair.server.is_connected


def test_a_peer_that_does_not_speak_http3_is_refused() -> None:
    pair = _offering(["h2"])
    pair.run(1.0)
    assert refusal(pair.server) is Reason.ALPN


def _offering(protocols: list[str]) -> Pair:
    class Odd(MutualTls):
        def _client_send_hello(self, output_buf: object) -> None:
            self._alpn_protocols = protocols
            super()._client_send_hello(output_buf)  # type: ignore[arg-type]

    with mock.patch("mesh.forward.quic.connection.MutualTls", Odd):
        return Pair()


def test_endless_handshake_messages_are_refused() -> None:
    pair = Pair()
    pair.connect()
    stream = pair.client._crypto_streams[tls.Epoch.ONE_RTT]
    message = bytes((4,)) + (HANDSHAKE_BYTES_MAX * 2).to_bytes(3, "big")
    stream.sender.write(message + bytes(HANDSHAKE_BYTES_MAX))
    pair.run(2.0)
    ended = pair.ended(pair.client)
    assert ended is not None
    assert ended.error_code == 0x100 + tls.AlertDescription.decode_error


def test_nothing_is_resumed() -> None:
    pair = Pair()
    pair.connect()
    pair.run(1.0)
    assert pair.client.tls.session_resumed is False
    assert pair.client._session_ticket_handler is None
    assert pair.server.tls.new_session_ticket_cb is None
