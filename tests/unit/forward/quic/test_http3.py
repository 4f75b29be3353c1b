"""CONNECT over HTTP/3: however it is cut, what two ends say arrives; what breaks the rules has its code."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterable

import pylsqpack
import pytest
from aioquic.h3.connection import ErrorCode

from mesh.forward.quic.http3 import (
    CONTROL_FRAME_BYTES_MAX,
    FIELDS_BYTES_MAX,
    SECTION_BYTES_MAX,
    UNKNOWN_BYTES_MAX,
    Data,
    End,
    Event,
    Fields,
    GoAway,
    Head,
    Http3,
    Http3Error,
    Unknown,
    data_head,
    varint_frame,
)

REQUEST: Fields = [(b":method", b"CONNECT"), (b":authority", b"10.2.0.1:80"), (b"forwarded", b'for="10.1.0.1:4000"')]
GREASE = 0x1F * 7 + 0x21  # RFC 9114 7.2.8
CONTROL, ENCODER, DECODER = 2, 6, 10  # of a client


def section(fields: Fields) -> bytes:
    block = pylsqpack.Encoder().encode(0, fields)[1]
    return varint_frame(1, len(block)) + block


def frame(kind: int, payload: bytes = b"") -> bytes:
    return varint_frame(kind, len(payload)) + payload


class End3:
    """One end, and what it has sent by stream."""

    def __init__(self, is_client: bool) -> None:
        self.sent: list[tuple[int, bytes, bool]] = []
        self.http3 = Http3(is_client, lambda stream, data, end: self.sent.append((stream, data, end)))


def server() -> Http3:
    return End3(is_client=False).http3


def client() -> Http3:
    return End3(is_client=True).http3


def collect(events: Iterable[Event]) -> list[Event]:
    """Neighbouring pieces of one stream's data put together."""
    found: list[Event] = []
    for event in events:
        if isinstance(event, Data):
            last = found[-1] if found else None
            if isinstance(last, Data) and last.stream == event.stream:
                found[-1] = Data(event.stream, last.data + event.data, last.framing + event.framing)
                continue
        found.append(event)
    return found


def whole(data: bytes) -> list[bytes]:
    return [data]


def per_byte(data: bytes) -> list[bytes]:
    return [data[at : at + 1] for at in range(len(data))]


def anyhow(data: bytes) -> list[bytes]:
    chance = random.Random(len(data))
    cuts = sorted({0, len(data), *(chance.randrange(len(data) + 1) for _ in range(5))})
    return [data[begin:end] for begin, end in itertools.pairwise(cuts)]


@pytest.mark.parametrize("cut", [whole, per_byte, anyhow])
def test_a_request_its_bytes_and_its_end_arrive(cut: Callable[[bytes], list[bytes]]) -> None:
    said = section(REQUEST) + frame(GREASE, b"ignored") + frame(0, b"hello ") + frame(0) + frame(0, b"world" * 100)
    http3 = server()
    events: list[Event] = []
    pieces = cut(said)
    for piece in pieces[:-1]:
        events += http3.receive(0, piece, False)
    events += http3.receive(0, pieces[-1], True)
    head, unknown, data, end = collect(events)
    assert head == Head(0, REQUEST)
    assert isinstance(unknown, Unknown)
    assert isinstance(data, Data)
    assert data.data == b"hello " + b"world" * 100
    assert data.framing == 2 + 2 + 3
    assert end == End(0)


def test_both_ends_understand_each_other() -> None:
    ours, theirs = End3(is_client=True), End3(is_client=False)
    ours.http3.begin()
    theirs.http3.begin()
    ours.http3.send_head(0, REQUEST)
    theirs.http3.send_head(0, [(b":status", b"200")])
    theirs.http3.send_goaway(8)
    there = [event for stream, data, end in ours.sent for event in theirs.http3.receive(stream, data, end)]
    here = [event for stream, data, end in theirs.sent for event in ours.http3.receive(stream, data, end)]
    assert there == [Head(0, REQUEST)]
    assert here == [Head(0, [(b":status", b"200")]), GoAway(8)]
    assert ours.http3.settings_came
    assert theirs.http3.settings_came


def test_an_interim_response_is_followed_by_the_real_one() -> None:
    http3 = client()
    said = section([(b":status", b"103")]) + section([(b":status", b"200")]) + frame(0, b"x")
    assert [type(event) for event in collect(http3.receive(0, said, False))] == [Head, Head, Data]


@pytest.mark.parametrize("length", [0, 1, 63, 64, 16383, 16384, 65520])
def test_the_head_of_data_is_what_a_peer_reads(length: int) -> None:
    assert data_head(length) == varint_frame(0, length)


def broken(http3: Http3, *said: tuple[int, bytes, bool]) -> ErrorCode:
    with pytest.raises(Http3Error) as error:
        for stream, data, end in said:
            list(http3.receive(stream, data, end))
    return ErrorCode(error.value.code)


REQUESTS_BROKEN = {
    "DATA before HEADERS": (frame(0, b"x"), False, ErrorCode.H3_FRAME_UNEXPECTED),
    "trailers": (section(REQUEST) + section([(b"a", b"b")]), False, ErrorCode.H3_FRAME_UNEXPECTED),
    "SETTINGS on a request": (frame(4), False, ErrorCode.H3_FRAME_UNEXPECTED),
    "GOAWAY on a request": (section(REQUEST) + frame(7, b"\0"), False, ErrorCode.H3_FRAME_UNEXPECTED),
    "a push promise": (frame(5, b"\0"), False, ErrorCode.H3_FRAME_UNEXPECTED),
    "HTTP/2's PING": (frame(6, bytes(8)), False, ErrorCode.H3_FRAME_UNEXPECTED),
    "cut within a head": (section(REQUEST) + b"\x00", True, ErrorCode.H3_FRAME_ERROR),
    "cut within HEADERS": (section(REQUEST)[:-1], True, ErrorCode.H3_FRAME_ERROR),
    "cut within DATA": (section(REQUEST) + frame(0, b"abc")[:-1], True, ErrorCode.H3_FRAME_ERROR),
    "cut within an unknown frame": (section(REQUEST) + frame(GREASE, b"abc")[:-1], True, ErrorCode.H3_FRAME_ERROR),
    "a long section": (varint_frame(1, SECTION_BYTES_MAX + 1), False, ErrorCode.H3_EXCESSIVE_LOAD),
    "a reference to a table of size 0": (frame(1, b"\x02\x80\x10"), False, ErrorCode.QPACK_DECOMPRESSION_FAILED),
    "a section that ends early": (frame(1, b"\x00"), False, ErrorCode.QPACK_DECOMPRESSION_FAILED),
    # Static entry 85 of QPACK: 13 bytes of name and 53 of value for two bytes of section
    "a section that expands": (frame(1, b"\0\0" + b"\xff\x16" * 1900), False, ErrorCode.H3_EXCESSIVE_LOAD),
    "endless unknown frames": (varint_frame(GREASE, UNKNOWN_BYTES_MAX + 1), False, ErrorCode.H3_EXCESSIVE_LOAD),
}


@pytest.mark.parametrize("case", REQUESTS_BROKEN)
def test_a_request_that_breaks_the_rules(case: str) -> None:
    data, end, code = REQUESTS_BROKEN[case]
    assert broken(server(), (0, data, end)) is code


SETTINGS = b"\0" + frame(4, b"\x06\x52\x34")
CONTROL_BROKEN = {
    "SETTINGS twice": ([(CONTROL, SETTINGS + frame(4), False)], ErrorCode.H3_FRAME_UNEXPECTED),
    "no SETTINGS first": ([(CONTROL, b"\0" + frame(GREASE), False)], ErrorCode.H3_MISSING_SETTINGS),
    "GOAWAY first": ([(CONTROL, b"\0" + frame(7, b"\0"), False)], ErrorCode.H3_MISSING_SETTINGS),
    "a second control stream": (
        [(CONTROL, SETTINGS, False), (CONTROL + 12, SETTINGS, False)],
        ErrorCode.H3_STREAM_CREATION_ERROR,
    ),
    "a second encoder": ([(ENCODER, b"\2", False), (14, b"\2", False)], ErrorCode.H3_STREAM_CREATION_ERROR),
    "a second decoder": ([(DECODER, b"\3", False), (14, b"\3", False)], ErrorCode.H3_STREAM_CREATION_ERROR),
    "the control stream ends": ([(CONTROL, SETTINGS, True)], ErrorCode.H3_CLOSED_CRITICAL_STREAM),
    "the encoder's ends": ([(ENCODER, b"\2", True)], ErrorCode.H3_CLOSED_CRITICAL_STREAM),
    "a client pushes": ([(14, b"\1\0", False)], ErrorCode.H3_STREAM_CREATION_ERROR),
    "DATA on control": ([(CONTROL, SETTINGS + frame(0, b"x"), False)], ErrorCode.H3_FRAME_UNEXPECTED),
    "HEADERS on control": ([(CONTROL, SETTINGS + section(REQUEST), False)], ErrorCode.H3_FRAME_UNEXPECTED),
    "HTTP/2's WINDOW_UPDATE": ([(CONTROL, SETTINGS + frame(8, bytes(4)), False)], ErrorCode.H3_FRAME_UNEXPECTED),
    "a reserved setting": ([(CONTROL, b"\0" + frame(4, b"\x02\x01"), False)], ErrorCode.H3_SETTINGS_ERROR),
    "a setting twice": ([(CONTROL, b"\0" + frame(4, b"\x06\x01\x06\x01"), False)], ErrorCode.H3_SETTINGS_ERROR),
    "a setting that is cut": ([(CONTROL, b"\0" + frame(4, b"\x06"), False)], ErrorCode.H3_FRAME_ERROR),
    "endless SETTINGS": (
        [(CONTROL, b"\0" + varint_frame(4, CONTROL_FRAME_BYTES_MAX + 1), False)],
        ErrorCode.H3_EXCESSIVE_LOAD,
    ),
    "GOAWAY that is cut": ([(CONTROL, SETTINGS + frame(7), False)], ErrorCode.H3_FRAME_ERROR),
    "GOAWAY that rises": ([(CONTROL, SETTINGS + frame(7, b"\4") + frame(7, b"\10"), False)], ErrorCode.H3_ID_ERROR),
    "an entry for no table": ([(ENCODER, b"\2\x3f\xe1\x1f\xc1abc", False)], ErrorCode.QPACK_ENCODER_STREAM_ERROR),
}


@pytest.mark.parametrize("cut", [whole, per_byte])
@pytest.mark.parametrize("case", CONTROL_BROKEN)
def test_a_control_stream_that_breaks_the_rules(case: str, cut: Callable[[bytes], list[bytes]]) -> None:
    said, code = CONTROL_BROKEN[case]
    pieces = [(stream, piece, False) for stream, data, _ in said for piece in cut(data)]
    pieces[-1] = (*pieces[-1][:2], said[-1][2])
    assert broken(server(), *pieces) is code


def test_a_server_that_pushes_without_leave_breaks_the_rules() -> None:
    assert broken(client(), (3, b"\1\0", False)) is ErrorCode.H3_ID_ERROR


@pytest.mark.parametrize("stream", [CONTROL, ENCODER, DECODER, 3, 7, 11])
def test_streams_that_must_live_may_neither_be_reset_nor_stopped(stream: int) -> None:
    http3 = server()
    for number, first in ((CONTROL, SETTINGS), (ENCODER, b"\2"), (DECODER, b"\3")):
        list(http3.receive(number, first, False))
    with pytest.raises(Http3Error) as error:
        http3.reset(stream)
    assert error.value.code == ErrorCode.H3_CLOSED_CRITICAL_STREAM


@pytest.mark.parametrize("cut", [whole, per_byte])
def test_unknown_streams_and_frames_are_passed_over(cut: Callable[[bytes], list[bytes]]) -> None:
    http3 = server()
    events: list[Event] = []
    for piece in cut(SETTINGS + frame(GREASE, b"x" * 200) + frame(0x3, b"\0") + frame(7, b"\0")):
        events += http3.receive(CONTROL, piece, False)
    for piece in cut(varint_frame(GREASE, 7)[:2] + b"whatever it is"):
        events += http3.receive(14, piece, False)
    assert [type(event) for event in events] == [Unknown, Unknown, GoAway, Unknown]


def test_a_stream_of_one_data_frame_costs_no_copies() -> None:
    http3 = server()
    list(http3.receive(0, section(REQUEST) + data_head(1 << 20), False))
    piece = bytes(1200)
    (event,) = http3.receive(0, piece, False)
    assert isinstance(event, Data)
    assert event.data is piece


def test_fields_within_the_limits_pass() -> None:
    longest = [*REQUEST, (b"x", b"\x00" * (SECTION_BYTES_MAX - 200))]
    (head,) = server().receive(0, section(longest), False)
    assert isinstance(head, Head)
    assert sum(len(name) + len(value) + 32 for name, value in head.fields) < FIELDS_BYTES_MAX
