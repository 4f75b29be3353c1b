"""What strangers send to the port: nothing is amplified, nothing grows, the proven are served all the while.

The stock client of aioquic is one of them, with and without what it needs to be let in.

The list of what a QUIC server must bear, and where each item is tried (here, unless another place is named):
amplification before an address is proven, also by a client that moves (and test_connection); Initials that are short;
Retry asked for, not asked for, forged; version negotiation, reflected too; half-open handshakes; CRYPTO holes (and
test_connection); noise; stateless resets that somebody asks for; HTTP/3's control stream missing, twice and ended,
SETTINGS twice, QPACK bombs, long and blocked sections (and test_http3); rapid reset; GREASE; migration.
test_connection: floods of each frame, connection ids handed out and retired, key updates, windows that grow by offsets
alone, sparse streams, streams beyond the limit, acknowledgements of many ranges or of nothing, forged migration.
test_handshake: certificates, groups, signatures. test_life: denied, distrusted, gone. test_pool: nodes without end.
"""

from __future__ import annotations

import asyncio
import os
import random
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from time import monotonic

import pytest
from aioquic._buffer import Buffer
from aioquic.buffer import encode_uint_var
from aioquic.h3.connection import H3Connection
from aioquic.h3.events import DataReceived, HeadersReceived
from aioquic.quic import events as told
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection
from aioquic.quic.packet import QuicPacketType, pull_quic_header
from cryptography import x509

from mesh.forward.quic.gate import GateLimits
from mesh.forward.quic.name import opaque_name
from tests.kit.pki import Certificate
from tests.kit.street import Street, spiffe, until
from tests.quic.conftest import Run


@dataclass
class Stock:
    """aioquic's own client, by a socket of its own; counts bytes."""

    street: Street
    certificate: Certificate | None = None
    server_name: str = ""
    sent: int = 0
    received: int = 0
    answers: list[bytes] = field(default_factory=list)
    events: list[told.QuicEvent] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.to = self.street.b.udp.getsockname()[1]
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.setblocking(False)
        self.sock.bind(("127.0.0.1", 0))
        root = self.street.b.roots[0]
        name = self.server_name or opaque_name(self.street.b.identity, root, os.urandom(10))
        configuration = QuicConfiguration(
            alpn_protocols=["h3"], is_client=True, server_name=name, verify_mode=ssl.CERT_NONE
        )
        if self.certificate:
            configuration.certificate = x509.load_der_x509_certificate(self.certificate.der)
            configuration.private_key = self.certificate.key
        self.quic = QuicConnection(configuration=configuration)
        self.quic.connect(("127.0.0.1", self.to), monotonic())

    def send(self, data: bytes) -> None:
        self.sent += len(data)
        self.sock.sendto(data, ("127.0.0.1", self.to))

    def flush(self) -> None:
        for data, _ in self.quic.datagrams_to_send(monotonic()):
            self.send(data)

    def take(self) -> None:
        while True:
            try:
                data = self.sock.recv(65536)
            except BlockingIOError:
                return
            self.received += len(data)
            self.answers.append(data)

    async def talk(self, condition: Callable[[], object], what: str, seconds: float = 5.0) -> None:
        """Until the condition holds; bounded."""
        end = monotonic() + seconds
        while not condition():
            if monotonic() > end:
                raise TimeoutError(f"waited {seconds:g} s for {what}")
            self.flush()
            await asyncio.sleep(0.005)
            seen = len(self.answers)
            self.take()
            for data in self.answers[seen:]:
                self.quic.receive_datagram(data, ("127.0.0.1", self.to), monotonic())
            at = self.quic.get_timer()
            if at is not None and at <= monotonic():
                self.quic.handle_timer(monotonic())
            while (event := self.quic.next_event()) is not None:
                self.events.append(event)

    @property
    def ended(self) -> told.ConnectionTerminated | None:
        return self.quic._close_event

    @property
    def is_connected(self) -> bool:
        return any(isinstance(event, told.HandshakeCompleted) for event in self.events)

    def initial(self, size: int = 1200) -> bytes:
        (first, _), *_ = self.quic.datagrams_to_send(monotonic())
        return first[:size]

    def __enter__(self) -> Stock:
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()


async def is_served(street: Street) -> None:
    """Somebody who is proven, meanwhile."""
    reader, writer = await street.a.call(street.b)
    writer.write(b"served")
    assert await asyncio.wait_for(reader.readexactly(6), 2) == b"served"
    writer.close()


def friend(street: Street) -> Stock:
    name = spiffe("friend")
    return Stock(street, street.authority.issue(name))


# --- before anything is proven


def test_a_client_that_says_hello_and_no_more_gets_at_most_three_times_its_bytes(run: Run) -> None:
    async def scenario() -> None:
        async with Street() as street:
            with Stock(street) as stock:
                stock.send(stock.initial())
                await until(lambda: street.b.counts.get("initials/late"), "the server to give up", 8)
                stock.take()
                assert 0 < stock.received <= 3 * stock.sent
                assert street.b.node.parts
                assert street.b.node.parts.endpoint.tunnels == []
                await is_served(street)

    run(scenario())


@pytest.mark.parametrize("size", [1199, 600, 50])
def test_an_initial_below_1200_bytes_gets_nothing(run: Run, size: int) -> None:
    async def scenario() -> None:
        async with Street() as street:
            with Stock(street) as stock:
                stock.send(stock.initial(size))
                await until(
                    lambda: any(street.b.counts.get(f"datagrams_dropped/{why}") for why in ("short", "garbage")),
                    "it to be dropped",
                )
                stock.take()
                assert stock.received == 0

    run(scenario())


def test_another_version_is_told_ours_once_and_never_more_than_it_sent(run: Run) -> None:
    async def scenario() -> None:
        async with Street() as street:
            with Stock(street) as stock:
                packet = b"\xc0\x1a\x2a\x3a\x4a\x08" + b"d" * 8 + b"\x08" + b"s" * 8 + bytes(1200)
                stock.send(packet)
                await stock_answer(stock)
                header = pull_quic_header(Buffer(data=stock.answers[0]), host_cid_length=8)
                assert header.packet_type == QuicPacketType.VERSION_NEGOTIATION
                assert header.supported_versions == [1]
                assert stock.received < stock.sent
                for _ in range(500):
                    stock.send(packet)
                await asyncio.sleep(0.1)
                stock.take()
                assert len(stock.answers) <= 130, "so many strangers are answered at most"
                await is_served(street)

    run(scenario())


async def stock_answer(stock: Stock) -> None:
    def came() -> bool:
        stock.take()
        return bool(stock.answers)

    await until(came, "an answer")


def test_two_servers_cannot_be_made_to_negotiate_with_each_other(run: Run) -> None:
    async def scenario() -> None:
        async with Street() as street:
            with Stock(street) as stock:
                stock.send(b"\x80\x00\x00\x00\x00\x08" + b"d" * 8 + b"\x08" + b"s" * 8 + b"\0\0\0\1" * 300)
                await until(lambda: street.b.counts.get("datagrams_dropped/short"), "it to be dropped")
                stock.take()
                assert stock.answers == []

    run(scenario())


def test_noise_is_counted_and_not_answered_but_by_few_short_resets(run: Run) -> None:
    async def scenario() -> None:
        async with Street() as street:
            chance = random.Random(1)
            with Stock(street) as stock:
                for _ in range(3000):
                    stock.send(chance.randbytes(chance.randrange(1, 1400)))
                    if _ % 100 == 0:
                        await asyncio.sleep(0)
                await is_served(street)
                stock.take()
                assert stock.received < stock.sent / 50
                assert all(len(each) <= 42 or len(each) > 1000 for each in stock.answers)
                assert sum(n for what, n in street.b.counts.items() if what.startswith("datagrams_dropped")) > 1000

    run(scenario())


def test_nobody_gets_a_reset_for_a_connection_that_lives(run: Run) -> None:
    """RFC 9000 10.3, 21.11: the token in it would end that connection. Who has seen its id may ask as he likes."""

    async def scenario() -> None:
        async with Street() as street:
            with friend(street) as proven, Stock(street) as thief:
                await proven.talk(lambda: proven.is_connected, "the handshake")
                await proven.talk(lambda: proven.quic._handshake_confirmed, "its confirmation")
                known = [proven.quic._peer_cid.cid, *(each.cid for each in proven.quic._peer_cid_available)]
                assert len(known) > 1
                for cid in known * 20:
                    thief.send(b"\x40" + cid + os.urandom(40))
                thief.send(b"\x40" + os.urandom(8 + 40))  # of nobody
                await stock_answer(thief)
                thief.take()
                tokens = {proven.quic._peer_cid.stateless_reset_token}
                tokens |= {each.stateless_reset_token for each in proven.quic._peer_cid_available}
                assert len(thief.answers) == 1, "only what belongs to nobody is answered"
                assert not any(token and token in thief.answers[0] for token in tokens)
                assert thief.received < thief.sent
                proven.quic.send_ping(3)
                await proven.talk(
                    lambda: any(isinstance(each, told.PingAcknowledged) for each in proven.events), "it to live on"
                )

    run(scenario())


def test_many_half_open_handshakes_must_prove_their_address_and_then_wait(run: Run) -> None:
    async def scenario() -> None:
        async with Street() as street:
            assert street.b.node.parts
            street.b.node.parts.endpoint._gate = GateLimits(connections=100, unproven=8, trusting=4)
            strangers = [Stock(street) for _ in range(12)]
            try:
                for each in strangers:
                    each.send(each.initial())
                await until(lambda: street.b.counts.get("initials/retry", 0) == 8, "Retry")
                assert street.b.counts["connections_begun/server"] == 4
                last = strangers[-1]
                last.take()
                retry = pull_quic_header(Buffer(data=last.answers[0]), host_cid_length=8)
                assert retry.packet_type == QuicPacketType.RETRY
                assert last.received < last.sent
                # Who comes back with the token has an address, and is let in.
                with friend(street) as proven:
                    await proven.talk(lambda: proven.is_connected, "the handshake by Retry")
                for each in strangers[4:]:  # they come back too: all places are taken
                    each.take()
                    for data in each.answers:
                        each.quic.receive_datagram(data, ("127.0.0.1", each.to), monotonic())
                    each.flush()
                await until(lambda: street.b.counts.get("initials/out"), "places to run out")
            finally:
                for each in strangers:
                    each.sock.close()

    run(scenario())


def test_a_forged_or_stolen_token_is_none(run: Run) -> None:
    async def scenario() -> None:
        async with Street() as street:
            assert street.b.node.parts
            street.b.node.parts.endpoint._gate = GateLimits(connections=100, unproven=8, trusting=0)
            with Stock(street) as stock:
                stock.quic._peer_token = os.urandom(60)
                stock.quic._close_at = None
                stock.flush()
                await until(lambda: street.b.counts.get("initials/token"), "the token to be looked at")
                await stock_answer(stock)
                retry = pull_quic_header(Buffer(data=stock.answers[0]), host_cid_length=8)
                assert retry.packet_type == QuicPacketType.RETRY

    run(scenario())


def test_holes_in_the_first_flight_hold_a_bounded_place_for_a_bounded_time(run: Run) -> None:
    """CRYPTO frames with gaps: nothing can be made of them, and nothing is."""

    async def scenario() -> None:
        async with Street() as street:
            with Stock(street) as stock:
                crypto = stock.quic._crypto_streams[next(iter(stock.quic._crypto_streams))]
                hello = bytes(crypto.sender._buffer)
                crypto.sender._buffer[:] = bytes(len(hello))  # as if its head were still on the way
                for offset in range(10, 40, 3):
                    frame = b"\x06" + encode_uint_var(offset * 13000) + encode_uint_var(8) + bytes(8)
                    stock.quic._datagrams_pending.clear()
                    _raw_initial(stock, frame)
                await until(lambda: street.b.counts.get("connections_begun/server"), "the server to take it up")
                await is_served(street)
                await until(lambda: street.b.node.parts and not street.b.node.parts.endpoint._unproven, "its end", 8)

    run(scenario())


def _raw_initial(stock: Stock, frame: bytes) -> None:
    quic = stock.quic
    crypto = quic._cryptos_initial[1]
    number = quic._packet_number
    quic._packet_number += 1
    payload = frame + bytes(1200 - len(frame) - 60)
    length = len(payload) + 2 + 16
    head = (
        b"\xc1\x00\x00\x00\x01"
        + bytes((len(quic._peer_cid.cid),))
        + quic._peer_cid.cid
        + bytes((len(quic.host_cid),))
        + quic.host_cid
        + b"\x00"
        + (length | 0x4000).to_bytes(2, "big")
        + number.to_bytes(2, "big")
    )
    packet = crypto.encrypt_packet(head, payload, number)
    stock.send(packet + bytes(max(0, 1200 - len(packet))))


# --- with a handshake


def test_the_stock_client_of_aioquic_is_carried_when_it_is_proven(run: Run) -> None:
    async def scenario() -> None:
        async with Street() as street:
            with friend(street) as stock:
                await stock.talk(lambda: stock.is_connected, "the handshake")
                http3 = H3Connection(stock.quic)
                stream = stock.quic.get_next_available_stream_id()
                http3.send_headers(stream, [(b":method", b"CONNECT"), (b":authority", b"10.2.0.1:80")])
                heard: list[object] = []

                def more() -> list[object]:
                    while stock.events:
                        heard.extend(http3.handle_event(stock.events.pop(0)))
                    return heard

                stock.events = [each for each in stock.events if isinstance(each, told.StreamDataReceived)]
                await stock.talk(lambda: any(isinstance(each, HeadersReceived) for each in more()), "the answer")
                assert next(each for each in heard if isinstance(each, HeadersReceived)).headers == [
                    (b":status", b"200")
                ]
                http3.send_data(stream, b"over stock HTTP/3", end_stream=True)
                await stock.talk(
                    lambda: any(isinstance(each, DataReceived) and each.stream_ended for each in more()), "the echo"
                )
                echoed = b"".join(each.data or b"" for each in heard if isinstance(each, DataReceived))
                assert echoed == b"over stock HTTP/3"
                assert street.b.arrivals[-1].source == spiffe("friend")
                assert street.b.arrivals[-1].client == ""

    run(scenario())


def test_a_client_without_a_certificate_is_told_so_and_gets_nothing(run: Run) -> None:
    async def scenario() -> None:
        async with Street() as street:
            with Stock(street) as stock:
                await stock.talk(lambda: stock.ended, "the alert")
                assert stock.ended
                assert stock.ended.error_code == 0x100 + 116
                assert street.b.counts["handshakes_failed/no_certificate"] == 1
                await is_served(street)

    run(scenario())


def test_a_client_that_asks_for_nobody_here_learns_no_certificate(run: Run) -> None:
    async def scenario() -> None:
        async with Street() as street:
            with Stock(street, server_name="b.default.svc.cluster.local") as stock:
                await stock.talk(lambda: stock.ended, "the alert")
                assert stock.ended
                assert stock.ended.error_code == 0x100 + 112
                assert street.b.counts["handshakes_failed/name"] == 1
                assert stock.quic.tls._peer_certificate is None

    run(scenario())


HOSTILE: dict[str, tuple[str, list[tuple[int, bytes, bool]]]] = {
    "SETTINGS twice": ("H3_FRAME_UNEXPECTED", [(2, b"\x00\x04\x00\x04\x00", False)]),
    "no SETTINGS": ("H3_MISSING_SETTINGS", [(2, b"\x00\x07\x01\x00", False)]),
    "two control streams": ("H3_STREAM_CREATION_ERROR", [(2, b"\x00\x04\x00", False), (6, b"\x00\x04\x00", False)]),
    "a control stream that ends": ("H3_CLOSED_CRITICAL_STREAM", [(2, b"\x00\x04\x00", True)]),
    "a QPACK bomb": ("H3_EXCESSIVE_LOAD", [(0, b"\x01\x4e\xda\x00\x00" + b"\xff\x16" * 1900, False)]),
    "a long section": ("H3_EXCESSIVE_LOAD", [(0, b"\x01\x80\x10\x00\x00", False)]),
    "a blocked section": ("QPACK_DECOMPRESSION_FAILED", [(0, b"\x01\x03\x02\x80\x10", False)]),
    "DATA first": ("H3_FRAME_UNEXPECTED", [(0, b"\x00\x01x", False)]),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_who_breaks_http3_loses_his_connection_with_the_code_for_it(run: Run, case: str) -> None:
    code, said = HOSTILE[case]

    async def scenario() -> None:
        async with Street() as street:
            with friend(street) as stock:
                await stock.talk(lambda: stock.is_connected, "the handshake")
                for stream, data, end in said:
                    stock.quic.send_stream_data(stream, data, end)
                await stock.talk(lambda: stock.ended, "the end")
                assert street.b.counts[f"connections_aborted/{code}"] == 1
                await is_served(street)

    run(scenario())


def test_a_flood_of_requests_that_are_reset_at_once_ends_the_connection(run: Run) -> None:
    """Rapid reset (CVE-2023-44487), as HTTP/3 has it."""

    async def scenario() -> None:
        async with Street() as street:
            with friend(street) as stock:
                await stock.talk(lambda: stock.is_connected, "the handshake")
                http3 = H3Connection(stock.quic)
                begin = monotonic()
                sent = 0

                def flood() -> bool:
                    nonlocal sent
                    allowed = stock.quic._remote_max_streams_bidi
                    while stock.quic.get_next_available_stream_id() // 4 < allowed and sent < 5000:
                        stream = stock.quic.get_next_available_stream_id()
                        http3.send_headers(stream, [(b":method", b"CONNECT"), (b":authority", b"10.2.0.1:80")])
                        stock.quic.reset_stream(stream, 0x10C)
                        sent += 1
                    return stock.ended is not None

                await stock.talk(flood, "the end", 20)
                assert sent < 2000 + 500 * (monotonic() - begin)
                assert len(street.b.arrivals) < 2000
                await is_served(street)

    run(scenario())


def test_a_peer_that_greases_everything_is_carried(run: Run) -> None:
    async def scenario() -> None:
        async with Street() as street:
            with friend(street) as stock:
                await stock.talk(lambda: stock.is_connected, "the handshake")
                H3Connection(stock.quic)
                grease = encode_uint_var(0x1F * 1000 + 0x21)
                for _ in range(3):
                    stream = stock.quic.get_next_available_stream_id(is_unidirectional=True)
                    stock.quic.send_stream_data(stream, grease + b"grease")
                stream = stock.quic.get_next_available_stream_id()
                stock.quic.send_stream_data(stream, grease + b"\x05hello")
                http3 = street.b.node
                await stock.talk(lambda: stock.quic._streams[stream].sender._buffer_start > 0, "it to be taken")
                assert stock.ended is None
                assert http3.parts
                await is_served(street)

    run(scenario())


def test_a_client_that_moves_to_a_new_port_is_followed(run: Run) -> None:
    """As behind a NAT that forgot: the connection goes on from the new address, once that is proven."""

    async def scenario() -> None:
        async with Street() as street:
            with friend(street) as stock:
                await stock.talk(lambda: stock.is_connected, "the handshake")
                await stock.talk(lambda: stock.quic._handshake_confirmed, "its confirmation")
                former, stock.sock = stock.sock, socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
                former.close()
                stock.sock.setblocking(False)
                stock.sock.bind(("127.0.0.1", 0))
                stock.quic.send_ping(7)
                await stock.talk(
                    lambda: any(isinstance(each, told.PingAcknowledged) for each in stock.events), "the answer there"
                )

    run(scenario())
