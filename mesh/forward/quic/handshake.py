"""Mutual TLS 1.3 for QUIC: aioquic's handshake, with both ends proven and private keys that are elsewhere.

aioquic asks clients for no certificate (but in a test switch), believes any that comes, and signs on the spot. Here:
 - a client is asked, and refused without a certificate; whether one is believed, and who it is, `Credentials` decides;
 - a server shows the certificate of the identity that the client's name means (see `name`);
 - the handshake stops where it needs a signature (`wanted`) and goes on when `signed` brings it: the loop never waits.
 - no resumption and no early data: nothing crosses identities, nothing can be replayed;
 - one group and what HBONE offers of suites; messages have a limit.
The methods that override aioquic's follow them step by step (RFC 8446 section 4), hence the pinned release.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import NoReturn, Protocol

from aioquic import tls
from aioquic._buffer import Buffer
from aioquic.tls import AlertDescription, CipherSuite, Direction, Epoch, Group, SignatureAlgorithm, State
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from mesh.model import Value

H3 = "h3"
SUITES = [CipherSuite.AES_256_GCM_SHA384, CipherSuite.AES_128_GCM_SHA256]  # HBONE's two
SIGNED_BY = SignatureAlgorithm.ECDSA_SECP256R1_SHA256  # what our certificates are made for
SIGNATURES = [
    SIGNED_BY,
    SignatureAlgorithm.ECDSA_SECP384R1_SHA384,
    SignatureAlgorithm.ED25519,
    SignatureAlgorithm.RSA_PSS_RSAE_SHA256,
    SignatureAlgorithm.RSA_PSS_RSAE_SHA384,
]
HANDSHAKE_BYTES_MAX = 65536  # that a peer may send as TLS messages, over the connection's life; ours are 2 KiB
CHAIN_MAX = 4  # certificates, as the engine
CHAIN_BYTES_MAX = 12288  # aioquic writes a flight into 16 KiB


class Reason(StrEnum):
    """Why a handshake failed; the engine's names where it has them."""

    NO_CERTIFICATE = "no_certificate"
    EXPIRED = "expired"
    NOT_YET_VALID = "not_yet_valid"
    CHAIN = "chain"
    WEAK = "weak"
    UNTRUSTED = "untrusted"
    NOT_A_LEAF = "not_a_leaf"
    NOT_SPIFFE = "not_spiffe"
    TRUST_DOMAIN = "trust_domain"
    IDENTITY = "identity"
    DENIED = "denied"
    NAME = "name"
    UNSIGNED = "unsigned"
    ALPN = "alpn"
    TOLD = "told"
    SILENCE = "silence"
    BROKEN = "broken"


ALERTS = {
    Reason.NO_CERTIFICATE: AlertDescription.certificate_required,
    Reason.EXPIRED: AlertDescription.certificate_expired,
    Reason.NOT_YET_VALID: AlertDescription.certificate_expired,  # as OpenSSL says it
    Reason.CHAIN: AlertDescription.bad_certificate,
    Reason.WEAK: AlertDescription.bad_certificate,
    Reason.UNTRUSTED: AlertDescription.unknown_ca,
    Reason.NOT_A_LEAF: AlertDescription.unsupported_certificate,
    Reason.NOT_SPIFFE: AlertDescription.bad_certificate,
    Reason.TRUST_DOMAIN: AlertDescription.certificate_unknown,
    Reason.IDENTITY: AlertDescription.certificate_unknown,
    Reason.DENIED: AlertDescription.certificate_revoked,
    Reason.NAME: AlertDescription.unrecognized_name,
    Reason.UNSIGNED: AlertDescription.internal_error,
}


class Refused(Exception):
    """A sentence, and the reason as counters have it."""

    def __init__(self, reason: Reason, sentence: str) -> None:
        super().__init__(sentence)
        self.reason = reason


class RefusedAlert(tls.Alert):
    """A refusal on its way through aioquic."""

    def __init__(self, refusal: Refused) -> None:
        super().__init__(str(refusal))
        self.description = ALERTS[refusal.reason]


class Own(Value, frozen=True):
    """One of our identities: SPIFFE id and certificates as DER, leaf first."""

    name: str
    chain: tuple[bytes, ...]


class Credentials(Protocol):
    def named(self, server_name: str) -> Own:
        """As whom a client wants us. Raises Refused."""

    def prove(self, chain: Sequence[bytes], by_server: bool) -> str:
        """The SPIFFE id that a peer's certificates (DER, leaf first) prove. Raises Refused."""


class MutualTls(tls.Context):
    """Takes the place of the context that aioquic has made for a connection. `own`: as whom a client speaks;
    `expected`: the only server that it wants. A server is told by `credentials`."""

    def __init__(self, plain: tls.Context, credentials: Credentials, own: Own | None, expected: str) -> None:
        super().__init__(
            is_client=plain._is_client, alpn_protocols=[H3], cipher_suites=SUITES, server_name=plain._server_name
        )
        self._supported_groups = [Group.X25519]
        self._signature_algorithms = list(SIGNATURES)
        self._request_client_certificate = True
        self.handshake_extensions = plain.handshake_extensions
        self.alpn_cb = plain.alpn_cb
        self.update_traffic_key_cb = plain.update_traffic_key_cb
        self._credentials, self._expected = credentials, expected
        self._bytes = 0
        self._next_key = b""
        self._go_on_with: Callable[[bytes], None] = lambda signature: None
        self.peer_chain: list[bytes] = []
        self.own = own
        self.peer = ""  # proven
        self.refusal: Reason | None = None
        self.wanted = b""  # what is to be signed with the key of `own`

    def handle_message(self, input_data: bytes, output_buf: dict[Epoch, Buffer]) -> None:
        self._bytes += len(input_data)
        if self._bytes > HANDSHAKE_BYTES_MAX:
            raise tls.AlertDecodeError("too many bytes of handshake messages")
        super().handle_message(input_data, output_buf)

    def _handle_reassembled_message(
        self, message_type: int, input_buf: Buffer, output_buf: dict[Epoch, Buffer]
    ) -> None:
        if self.wanted:
            raise tls.AlertUnexpectedMessage("a message came before its turn")
        super()._handle_reassembled_message(message_type, input_buf, output_buf)

    # --- signatures

    def _want(self, context: bytes, output_buf: Buffer, go_on: Callable[[], None]) -> None:
        self.wanted = self._schedule.certificate_verify_data(context)

        def go_on_with(signature: bytes) -> None:
            with tls.push_message(self._schedule, output_buf):
                verify = tls.CertificateVerify(algorithm=SIGNED_BY, signature=signature)
                tls.push_certificate_verify(output_buf, verify)
            go_on()

        self._go_on_with = go_on_with

    def signed(self, signature: bytes) -> None:
        """Goes on. Empty: there is no signature. Raises tls.Alert."""
        self.wanted = b""
        if not signature:
            self._refuse(Refused(Reason.UNSIGNED, "our part of the handshake was not signed"))
        self._go_on_with(signature)

    @property
    def _schedule(self) -> tls.KeySchedule:
        assert self.key_schedule is not None
        return self.key_schedule

    def _refuse(self, refusal: Refused) -> NoReturn:
        self.refusal = refusal.reason
        raise RefusedAlert(refusal) from None

    # --- the peer's certificates

    def _set_peer_certificate(self, certificate: tls.Certificate) -> None:
        chain = [der for der, _ in certificate.certificates]
        if len(chain) > CHAIN_MAX or sum(map(len, chain)) > CHAIN_BYTES_MAX:
            self._refuse(Refused(Reason.CHAIN, "the peer's certificates are too many or too long"))
        self.peer_chain = chain
        super()._set_peer_certificate(certificate)

    def _prove(self) -> None:
        try:
            self.peer = self._credentials.prove(self.peer_chain, by_server=self._is_client)
        except Refused as refusal:
            self._refuse(refusal)
        if self._expected and self.peer != self._expected:
            self._refuse(Refused(Reason.IDENTITY, f"{self.peer} answered, and {self._expected} was wanted"))

    def _client_handle_certificate_verify(self, input_buf: Buffer) -> None:
        self._check_certificate_verify_signature(tls.pull_certificate_verify(input_buf))
        self._prove()
        self._schedule.update_hash(input_buf.data)
        self._set_state(State.CLIENT_EXPECT_FINISHED)

    def _server_handle_certificate(self, input_buf: Buffer) -> None:
        super()._server_handle_certificate(input_buf)
        if self.state != State.SERVER_EXPECT_CERTIFICATE_VERIFY:
            self._refuse(Refused(Reason.NO_CERTIFICATE, "a client must show a certificate"))

    def _server_handle_certificate_verify(self, input_buf: Buffer) -> None:
        super()._server_handle_certificate_verify(input_buf)
        self._prove()

    # --- the client's last flight

    def _client_handle_finished(self, input_buf: Buffer, output_buf: Buffer) -> None:
        assert self._dec_key is not None
        assert self.own is not None
        schedule, request = self._schedule, self._certificate_request
        if tls.pull_finished(input_buf).verify_data != schedule.finished_verify_data(self._dec_key):
            raise tls.AlertDecryptError
        if request is None or SIGNED_BY not in (request.signature_algorithms or ()):
            raise tls.AlertHandshakeFailure("the server does not ask who we are")
        schedule.update_hash(input_buf.data)
        schedule.extract(None)
        self._setup_traffic_protection(Direction.DECRYPT, Epoch.ONE_RTT, b"s ap traffic")
        self._next_key = schedule.derive_secret(b"c ap traffic")
        self._push_chain(output_buf, request.request_context)
        self._want(tls.CLIENT_CONTEXT_STRING, output_buf, lambda: self._client_finish(output_buf))

    def _client_finish(self, output_buf: Buffer) -> None:
        self._push_finished(output_buf)
        self._enc_key = self._next_key
        self.update_traffic_key_cb(Direction.ENCRYPT, Epoch.ONE_RTT, self._schedule.cipher_suite, self._next_key)
        self._set_state(State.CLIENT_POST_HANDSHAKE)

    def _push_chain(self, output_buf: Buffer, request_context: bytes) -> None:
        assert self.own is not None
        with tls.push_message(self._schedule, output_buf):
            entries = [(der, b"") for der in self.own.chain]
            tls.push_certificate(output_buf, tls.Certificate(request_context=request_context, certificates=entries))

    def _push_finished(self, output_buf: Buffer) -> None:
        assert self._enc_key is not None
        with tls.push_message(self._schedule, output_buf):
            tls.push_finished(output_buf, tls.Finished(verify_data=self._schedule.finished_verify_data(self._enc_key)))

    # --- the server's only flight

    def _server_handle_hello(self, input_buf: Buffer, initial_buf: Buffer, handshake_buf: Buffer) -> None:
        hello = tls.pull_client_hello(input_buf)
        suite = self._negotiate(hello)
        try:
            self.own = self._credentials.named(hello.server_name or "")
        except Refused as refusal:
            self._refuse(refusal)
        if self.alpn_cb:
            self.alpn_cb(H3)
        self.key_schedule = schedule = tls.KeySchedule(suite)
        schedule.extract(None)
        schedule.update_hash(input_buf.data)
        self._answer_hello(hello, suite, initial_buf)
        self._setup_traffic_protection(Direction.ENCRYPT, Epoch.HANDSHAKE, b"s hs traffic")
        self._setup_traffic_protection(Direction.DECRYPT, Epoch.HANDSHAKE, b"c hs traffic")
        with tls.push_message(schedule, handshake_buf):
            extensions = tls.EncryptedExtensions(alpn_protocol=H3, other_extensions=self.handshake_extensions)
            tls.push_encrypted_extensions(handshake_buf, extensions)
        with tls.push_message(schedule, handshake_buf):
            request = tls.CertificateRequest(signature_algorithms=self._signature_algorithms)
            tls.push_certificate_request(handshake_buf, request)
        self._push_chain(handshake_buf, b"")
        self._want(tls.SERVER_CONTEXT_STRING, handshake_buf, lambda: self._server_finish(handshake_buf))

    def _negotiate(self, hello: tls.ClientHello) -> CipherSuite:
        """What both can do; the suite. Raises tls.Alert."""
        tls.negotiate([tls.TLS_VERSION_1_3], hello.supported_versions, tls.AlertProtocolVersion("TLS 1.3 is needed"))
        tls.negotiate([SIGNED_BY], hello.signature_algorithms, tls.AlertHandshakeFailure("ECDSA with P-256 is needed"))
        tls.negotiate([tls.CompressionMethod.NULL], hello.legacy_compression_methods, tls.AlertIllegalParameter())
        if hello.key_share is None:
            raise tls.AlertMissingExtension("ClientHello has no key share")
        suite = tls.negotiate(SUITES, hello.cipher_suites, tls.AlertHandshakeFailure("no common cipher suite"))
        try:
            tls.negotiate([H3], hello.alpn_protocols, tls.AlertNoApplicationProtocol("HTTP/3 is needed"))
        except tls.AlertNoApplicationProtocol:
            self.refusal = Reason.ALPN
            raise
        assert suite is not None
        self.alpn_negotiated = H3
        self.client_random, self.server_random = hello.random, os.urandom(32)
        self.legacy_session_id = hello.legacy_session_id
        self.received_extensions = hello.other_extensions
        return suite

    def _answer_hello(self, hello: tls.ClientHello, suite: CipherSuite, initial_buf: Buffer) -> None:
        share = next((key for group, key in hello.key_share or () if group == Group.X25519), None)
        if share is None:
            raise tls.AlertHandshakeFailure("a key share for X25519 is needed")
        own = X25519PrivateKey.generate()
        try:
            shared = own.exchange(X25519PublicKey.from_public_bytes(share))
        except ValueError:
            raise tls.AlertIllegalParameter("ClientHello has an invalid key share") from None
        with tls.push_message(self._schedule, initial_buf):
            answer = tls.ServerHello(
                random=self.server_random,
                legacy_session_id=self.legacy_session_id,
                cipher_suite=suite,
                compression_method=tls.CompressionMethod.NULL,
                key_share=tls.encode_public_key(own.public_key()),
                supported_version=tls.TLS_VERSION_1_3,
            )
            tls.push_server_hello(initial_buf, answer)
        self._schedule.extract(shared)

    def _server_finish(self, handshake_buf: Buffer) -> None:
        self._push_finished(handshake_buf)
        self._schedule.extract(None)
        self._setup_traffic_protection(Direction.ENCRYPT, Epoch.ONE_RTT, b"s ap traffic")
        self._next_dec_key = self._schedule.derive_secret(b"c ap traffic")
        self._set_state(State.SERVER_EXPECT_CERTIFICATE)
