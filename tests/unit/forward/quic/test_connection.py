"""One connection against a peer that is honest and a way that loses, and against a peer that asks too much."""

from __future__ import annotations

import random
from collections.abc import Callable
from time import process_time

import pytest
from aioquic.buffer import encode_uint_var
from aioquic.quic.connection import QuicConnection
from aioquic.quic.packet import QuicErrorCode
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from mesh.forward.quic.connection import LIMITS, Connection, Limits, reset_token
from mesh.forward.quic.datagrams import glance
from tests.kit.quic_pair import CLIENT, SERVER, Pair

SMALL = replace(
    LIMITS, stream_bytes=4096, stream_bytes_max=16384, growth_bytes=32768, connection_bytes=65536, requests=10, holes=8
)


def connected(limits: Limits = LIMITS) -> Pair:
    pair = Pair(limits=limits)
    pair.connect()
    return pair


def opened(pair: Pair, data: bytes = b"x", end: bool = False) -> int:
    stream = pair.client.get_next_available_stream_id()
    pair.client.send_stream_data(stream, data, end)
    return stream


class Frames:
    """Sends frames of its own making as the client."""

    def __init__(self, pair: Pair) -> None:
        self._pair = pair

    def send(self, *frames: bytes) -> None:
        """Each batch in a packet of its own, as many as it takes."""
        pair = self._pair
        for frame in frames:
            client = pair.client
            crypto = client._cryptos[next(epoch for epoch in client._cryptos if epoch.name == "ONE_RTT")]
            number = client._packet_number
            client._packet_number += 1
            head = b"\x41" + client._peer_cid.cid + number.to_bytes(2, "big")
            packet = crypto.encrypt_packet(head, frame + bytes(max(0, 4 - len(frame))), number)
            pair.server.receive_datagram(packet, CLIENT, pair.now)


def stream_frame(stream: int, offset: int, data: bytes, end: bool = False) -> bytes:
    parts = (bytes((0x0E | end,)), encode_uint_var(stream), encode_uint_var(offset), encode_uint_var(len(data)), data)
    return b"".join(parts)


def refused(pair: Pair, code: int) -> str:
    """The reason, after the connection was ended for it."""
    pair.run(0.05)
    ended = pair.ended(pair.client)
    assert ended is not None, "the server should have ended the connection"
    assert ended.error_code == code
    return str(ended.reason_phrase)


# --- honest peers


def test_bytes_arrive_both_ways_and_a_stream_that_is_over_is_forgotten() -> None:
    pair = connected()
    stream = opened(pair, b"question", end=True)
    pair.run()
    assert pair.received(pair.server) == {stream: b"question"}
    pair.server.send_stream_data(stream, b"answer", True)
    pair.run()
    assert pair.received(pair.client) == {stream: b"answer"}
    for connection in (pair.client, pair.server):
        connection.forget(stream)
        assert stream not in connection._streams
        assert not connection._ready
        assert not connection._ending
        assert not connection._streams_queue


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32), st.floats(0, 0.3))
def test_on_a_way_that_loses_every_stream_arrives_whole_and_in_order(seed: int, loss: float) -> None:
    pair = connected(replace(SMALL, idle_seconds=600.0))  # a third lost both ways: probes may fail ten times in a row
    chance = random.Random(seed)
    pair.lose = lambda data: chance.random() < loss
    said = {opened(pair, b"", False): chance.randbytes(chance.randrange(20_000)) for _ in range(5)}
    for stream, data in said.items():
        pair.client.send_stream_data(stream, data, True)
    heard = dict.fromkeys(said, b"")
    for _ in range(8000):
        pair.run(0.02, step=0.01)
        for stream, data in pair.received(pair.server).items():
            heard[stream] += data
            pair.server.take(stream, len(data), 0, pair.now)
        if heard == said:
            return
    assert heard == said


def test_after_a_silence_of_any_length_the_way_is_tried_every_second() -> None:
    """Probes that back off without an end would find a way that is there again only after as long once more."""
    pair = connected(replace(LIMITS, idle_seconds=600.0))
    pair.lose = lambda data: True
    stream = opened(pair, b"through")
    pair.run(20.0)
    pair.lose = lambda data: False
    pair.run(1.2)
    assert pair.received(pair.server) == {stream: b"through"}


def test_a_probe_carries_a_frame_that_was_lost_in_both_its_copies() -> None:
    pair = connected()
    control = pair.client._recovery.control
    control._loss_share = 0.1
    pair.client.send_ping(0)
    pair.run(0.1)
    assert control.is_lossy_with_room
    pair.lose = lambda data: True
    stream = opened(pair, b"twice lost")
    pair.run(0.01)
    assert pair.client._packet_number
    pair.lose = lambda data: False
    pair.run(0.12)
    assert pair.received(pair.server) == {stream: b"twice lost"}


def test_more_requests_than_at_a_time_follow_one_after_the_other() -> None:
    pair = connected(SMALL)
    for _ in range(3):
        assert pair.client.requests_left == SMALL.requests
        streams = [opened(pair, b"x", True) for _ in range(SMALL.requests)]
        assert pair.client.requests_left == 0
        pair.run()
        for stream in pair.received(pair.server):
            pair.server.send_stream_data(stream, b"y", True)
            pair.server.take(stream, 1, 0, pair.now)
        pair.run()
        assert set(pair.received(pair.client)) == set(streams)
        for connection in (pair.client, pair.server):
            for stream in streams:
                connection.forget(stream)
        pair.run()


def test_an_acknowledgement_travels_with_an_answer() -> None:
    pair = connected()
    opened(pair)
    pair.turn()
    stream = next(iter(pair.received(pair.server)))
    pair.server.send_stream_data(stream, b"answer")
    before = len(pair.seen)
    pair.turn()
    assert len(pair.seen) - before == 1
    assert pair.server._spaces[next(e for e in pair.server._spaces if e.name == "ONE_RTT")].ack_at is None


def test_one_stream_with_much_to_send_does_not_keep_others_waiting() -> None:
    pair = connected()
    bulk, small = opened(pair, bytes(100_000)), opened(pair, b"small")
    pair.turn()
    came = pair.received(pair.server)
    assert came[small] == b"small"
    assert 0 < len(came[bulk]) < 100_000


def test_on_a_way_that_loses_small_frames_leave_twice_and_bulk_does_not() -> None:
    """After the first losses taught it; who is lost once is not missed."""
    pair = connected()
    chance = random.Random(5)
    pair.lose = lambda data: chance.random() < 0.1
    for _ in range(100):
        opened(pair, b"lesson", True)
        pair.run(0.02)
        for stream in pair.received(pair.server):
            pair.server.send_stream_data(stream, b"", True)
            pair.server.take(stream, 6, 0, pair.now)
        pair.received(pair.client)
    assert pair.client._recovery.control.is_lossy_with_room
    pair.lose = lambda data: False
    pair.run(0.5)
    stream = opened(pair)
    pair.client.datagrams_to_send(pair.now)  # and it is lost
    pair.run(0.015, step=0.005)
    assert pair.received(pair.server) == {stream: b"x"}, "long before anybody could know that it was lost"
    bulk = opened(pair, bytes(100_000))
    before = pair.client._packet_number
    pair.run(1.0)
    assert len(pair.received(pair.server)[bulk]) == 100_000
    assert pair.client._packet_number - before < 1.3 * 100_000 / LIMITS.datagram_bytes


# --- flow control


def test_a_peer_may_send_a_window_and_no_more_until_it_is_taken() -> None:
    pair = connected(SMALL)
    stream = opened(pair, bytes(50_000))
    pair.run(1.0)
    assert len(pair.received(pair.server)[stream]) == SMALL.stream_bytes
    pair.run(1.0)
    assert pair.received(pair.server) == {}
    pair.server.take(stream, SMALL.stream_bytes, 0, pair.now)
    pair.run(1.0)
    assert len(pair.received(pair.server)[stream]) == SMALL.stream_bytes


def test_a_reader_that_stalls_holds_up_no_other_stream() -> None:
    pair = connected(SMALL)
    stalled = [opened(pair, bytes(50_000)) for _ in range(SMALL.requests - 1)]
    pair.run(1.0)
    held = sum(len(data) for data in pair.received(pair.server).values())
    assert held <= SMALL.stream_bytes * len(stalled)
    free = opened(pair, b"still here")
    pair.run(0.2)
    assert pair.received(pair.server) == {free: b"still here"}


def test_what_a_reset_stream_had_sent_is_given_back() -> None:
    pair = connected(replace(SMALL, connection_bytes=8192))
    for _ in range(20):
        stream = opened(pair, bytes(4000))
        pair.run(0.1)
        assert pair.received(pair.server), "no credit is left"
        pair.client.reset_stream(stream, 0)
        pair.run(0.1)
        pair.server.reset_stream(stream, 0)
        pair.run(0.2)
        for connection in (pair.client, pair.server):
            pair.events(connection)
            connection.forget(stream)
            assert stream not in connection._streams


def test_aioquics_windows_have_no_end_which_is_why_ours_are_here() -> None:
    """If this fails aioquic has mended it: look whether `windows` is still needed."""
    sparse = QuicConnection._write_stream_limits.__code__.co_names
    assert "max_stream_data_local" in sparse


def test_offsets_alone_gain_no_credit() -> None:
    pair = connected(SMALL)
    stream = opened(pair)
    pair.run()
    for offset in range(0, SMALL.stream_bytes - 1, 600):
        Frames(pair).send(stream_frame(stream, offset + 1, b"x"))
    pair.run(1.0)
    assert pair.server._streams[stream].max_stream_data_local == SMALL.stream_bytes
    assert pair.server._local_max_data.value == SMALL.connection_bytes


def test_a_byte_beyond_the_window_ends_the_connection() -> None:
    pair = connected(SMALL)
    Frames(pair).send(stream_frame(0, SMALL.stream_bytes, b"x"))
    refused(pair, QuicErrorCode.FLOW_CONTROL_ERROR)


# --- peers that ask too much


def test_a_stream_with_too_many_holes_ends_the_connection() -> None:
    pair = connected(SMALL)
    for number in range(SMALL.holes + 2):
        Frames(pair).send(stream_frame(0, 10 * number + 1, b"x"))
    assert "hole" in refused(pair, QuicErrorCode.PROTOCOL_VIOLATION)
    assert pair.server.abuse == "hole"


@pytest.mark.parametrize("offset", [16384, 500_000])
def test_a_hole_in_the_handshake_is_not_held_open_for_long_messages(offset: int) -> None:
    pair = connected()
    Frames(pair).send(b"\x06" + encode_uint_var(offset) + b"\x08" + bytes(8))
    refused(pair, QuicErrorCode.CRYPTO_BUFFER_EXCEEDED)


def new_cid(number: int) -> bytes:
    return b"\x18" + encode_uint_var(number) + encode_uint_var(number) + b"\x08" + number.to_bytes(8, "big") + bytes(16)


FLOODS: dict[str, tuple[str, Callable[[int], bytes]]] = {
    "path challenges": ("path_challenge", lambda n: b"\x1a" + n.to_bytes(8, "big")),
    "new connection ids": ("connection_id", lambda n: new_cid(8 + n)),
    "resets": ("reset", lambda n: b"\x04" + encode_uint_var(0) + b"\x00\x01"),
    "stops": ("reset", lambda n: b"\x05" + encode_uint_var(0) + b"\x00"),
    "pings": ("ping", lambda n: b"\x01"),
    "limits of the connection": ("limit", lambda n: b"\x10" + encode_uint_var(n)),
    "limits of a stream": ("limit", lambda n: b"\x11\x00" + encode_uint_var(n)),
    "blocked": ("blocked", lambda n: b"\x14" + encode_uint_var(n)),
    "streams blocked": ("blocked", lambda n: b"\x16" + encode_uint_var(n)),
}


@pytest.mark.parametrize("flood", FLOODS)
def test_a_flood_ends_the_connection_for_its_reason(flood: str) -> None:
    kind, frame = FLOODS[flood]
    pair = connected()
    Frames(pair).send(stream_frame(0, 0, b"x"))
    ended = None
    for number in range(0, 5000, 10):
        Frames(pair).send(b"".join(frame(n) for n in range(number, number + 10)))
        pair.turn()
        if ended := pair.ended(pair.server):
            break
    assert ended is not None
    assert pair.server.abuse == kind


def test_retiring_our_connection_ids_one_after_the_other_ends_the_connection() -> None:
    """Each that is given up costs us a new one."""
    pair = connected()
    for _ in range(1000):
        known = [each.sequence_number for each in pair.server._host_cids]
        Frames(pair).send(b"\x19" + encode_uint_var(known[-1]))
        pair.server.datagrams_to_send(pair.now)
        if pair.ended(pair.server):
            break
    assert pair.server.abuse == "connection_id"
    assert len(pair.server._host_cids) <= 8


def test_acknowledgements_of_many_ranges_cost_little_and_do_no_harm() -> None:
    pair = connected()
    stream = opened(pair, b"x")
    pair.run()
    pair.received(pair.server)
    pair.server.send_stream_data(stream, bytes(50_000))
    pair.turn()
    ranges = 400
    sparse = b"\x02" + encode_uint_var(2 * ranges) + b"\x00" + encode_uint_var(ranges) + b"\x00" + b"\x00\x00" * ranges
    begin = process_time()
    for _ in range(200):
        Frames(pair).send(sparse)
    assert process_time() - begin < 2.0, "of nothing but bisections"
    assert pair.ended(pair.server) is None
    again = opened(pair, b"works")
    pair.run()
    assert pair.received(pair.server) == {again: b"works"}


def test_too_many_connection_ids_at_once_end_the_connection() -> None:
    pair = connected()
    for number in range(8, 20):
        frame = b"\x18" + encode_uint_var(number) + b"\x00\x08" + number.to_bytes(8, "big") + bytes(16)
        Frames(pair).send(frame)
    refused(pair, QuicErrorCode.CONNECTION_ID_LIMIT_ERROR)


def test_a_stream_beyond_what_was_allowed_ends_the_connection() -> None:
    pair = connected(SMALL)
    Frames(pair).send(stream_frame(4 * SMALL.requests, 0, b"x"))
    refused(pair, QuicErrorCode.STREAM_LIMIT_ERROR)


def test_a_unidirectional_stream_beyond_what_was_allowed_ends_the_connection() -> None:
    pair = connected(SMALL)
    Frames(pair).send(stream_frame(4 * SMALL.uni_streams + 2, 0, b"x"))
    refused(pair, QuicErrorCode.STREAM_LIMIT_ERROR)


def test_key_updates_one_after_the_other_end_the_connection() -> None:
    pair = connected()
    for _ in range(20):
        pair.client.request_key_update()
        pair.client.send_ping(0)
        pair.run(0.1)
        if pair.server.abuse:
            break
    assert pair.server.abuse == "key_update"


def test_a_key_update_now_and_then_is_fine() -> None:
    pair = connected()
    for _ in range(10):
        pair.client.request_key_update()
        pair.client.send_ping(0)
        pair.run(0.1)
        pair.now += 12
        pair.client.send_ping(0)
        pair.run(0.1)
    assert pair.server.abuse == ""
    stream = opened(pair, b"works")
    pair.run()
    assert pair.received(pair.server) == {stream: b"works"}


def test_an_unknown_frame_ends_the_connection() -> None:
    pair = connected()
    Frames(pair).send(encode_uint_var(0x4242) + bytes(8))
    refused(pair, QuicErrorCode.FRAME_ENCODING_ERROR)


def test_acknowledging_what_was_never_sent_does_no_harm() -> None:
    pair = connected()
    Frames(pair).send(b"\x02" + encode_uint_var(60000) + b"\x00\x00" + encode_uint_var(60000))
    stream = opened(pair, b"works")
    pair.run()
    assert pair.received(pair.server) == {stream: b"works"}


# --- addresses


def test_before_its_address_is_proven_a_client_gets_three_times_what_it_sent() -> None:
    pair = Pair()
    received = sent = 0
    for data, _ in pair.client.datagrams_to_send(pair.now):
        received += len(data)
        pair.server.receive_datagram(data, CLIENT, pair.now)
    for _ in range(400):  # the client is silent from now on
        pair.there.sign(pair.server)
        sent += sum(len(data) for data, _ in pair.server.datagrams_to_send(pair.now))
        pair.now += 0.05
        at = pair.server.get_timer()
        if at is not None and at <= pair.now:
            pair.server.handle_timer(pair.now)
    assert 0 < sent <= 3 * received


def test_an_initial_that_is_too_short_is_not_answered() -> None:
    pair = Pair()
    (first, _), *_ = pair.client.datagrams_to_send(pair.now)
    pair.server.receive_datagram(first[:1199], CLIENT, pair.now)
    assert pair.server.host_cid
    assert not pair.server._network_paths


def test_a_packet_from_another_address_moves_nothing_until_that_address_is_proven() -> None:
    pair = connected()
    stream = opened(pair, b"before")
    pair.run()
    pair.received(pair.server)
    pair.server.send_stream_data(stream, bytes(200_000))
    liar = ("203.0.113.9", 666)
    pair.client.send_ping(0)
    stolen = [data for data, _ in pair.client.datagrams_to_send(pair.now)]
    for data in stolen:
        pair.server.receive_datagram(data, liar, pair.now)
    to_liar = 0
    for _ in range(200):
        for data, address in pair.server.datagrams_to_send(pair.now):
            if address == liar:
                to_liar += len(data)
            else:
                pair.client.receive_datagram(data, SERVER, pair.now)
        for data, _ in pair.client.datagrams_to_send(pair.now):
            pair.server.receive_datagram(data, CLIENT, pair.now)
        pair.now += 0.01
        for connection in (pair.client, pair.server):
            at = connection.get_timer()
            if at is not None and at <= pair.now:
                connection.handle_timer(pair.now)
        for number, data in pair.received(pair.client).items():
            pair.client.take(number, len(data), 0, pair.now)
    assert to_liar <= 3 * sum(map(len, stolen))
    assert pair.server.get_peer_address() == CLIENT


def test_a_stateless_reset_is_recognised_by_the_token_that_the_peer_gave() -> None:
    pair = connected()
    token = pair.client.peer_reset_token
    assert token == reset_token(b"s" * 32, pair.client._peer_cid.cid)
    seen = glance(pair.client.datagrams_to_send(pair.now)[0][0], 8) if opened(pair) >= 0 else None
    assert seen is not None
    assert reset_token(b"s" * 32, seen.destination) == token


def test_an_end_without_a_word_is_an_end() -> None:
    pair = connected()
    pair.client.end(QuicErrorCode.NO_ERROR, "stateless reset")
    ended = pair.ended(pair.client)
    assert ended is not None
    assert pair.client.datagrams_to_send(pair.now) == []
    pair.client.end(QuicErrorCode.NO_ERROR, "again")
    assert pair.ended(pair.client) is ended


def test_what_is_relied_on_in_aioquic_is_there() -> None:
    """Names of its private parts, which another release may change."""
    pair = connected()
    connection: Connection = pair.server
    for name in ("_host_cids", "_peer_cid", "_local_max_data", "_local_max_streams_bidi", "_remote_max_data_used"):
        assert hasattr(connection, name)
    for name in ("_streams_queue", "_loss", "_cryptos", "_spaces", "_crypto_streams", "_network_paths"):
        assert hasattr(connection, name)
    for name in ("_retire_connection_ids", "_streams_blocked_pending", "_close_event", "_push_crypto_data"):
        assert hasattr(connection, name)
    for frame in (0x00, 0x08, 0x1A):
        assert frame in connection._QuicConnection__frame_handlers  # type: ignore[attr-defined]
