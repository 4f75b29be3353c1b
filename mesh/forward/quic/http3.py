"""CONNECT over HTTP/3 and nothing else (RFC 9114; CONNECT: section 4.4): bytes in, events and bytes out; no I/O.

One object per connection, client or server. Stream data comes in by `receive`, in order per stream; what is to be sent
leaves by the callable given. QPACK (RFC 9204) has no dynamic table here, so that no stream waits for another and what
a field section can expand to is bounded by its own length. Everything a peer can make long has a limit: field
sections, encoded and decoded; control frames; unknown frames and streams (section 9 wants them ignored) by number. Not
here: requests other than CONNECT (they are reported, the user refuses them), pushes, datagrams, trailers. aioquic has
an HTTP/3 layer too; it has no limit on sections, drops GOAWAY, and takes a Buffer and a context per piece of DATA.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pylsqpack
from aioquic.buffer import encode_uint_var
from aioquic.h3.connection import ErrorCode, FrameType, Setting, StreamType

Fields = list[tuple[bytes, bytes]]
Send = Callable[[int, bytes, bool], None]  # stream, bytes, end

SECTION_BYTES_MAX = 4096  # encoded; a CONNECT of ours has about 200
FIELDS_BYTES_MAX = 16384  # decoded, 32 more for each (section 4.2.2); what ztunnel takes of responses
CONTROL_FRAME_BYTES_MAX = 1024  # SETTINGS of ours has 10; one setting has at most 16
UNKNOWN_BYTES_MAX = 65536  # of unknown frames on one request's stream
_RESERVED = frozenset((0x2, 0x6, 0x8, 0x9))  # HTTP/2's frame types without a meaning here (section 7.2.8)
_REQUEST_ONLY = frozenset((FrameType.DATA, FrameType.HEADERS, FrameType.PUSH_PROMISE))
_CONTROL_ONLY = frozenset((FrameType.CANCEL_PUSH, FrameType.SETTINGS, FrameType.GOAWAY, FrameType.MAX_PUSH_ID))
_CRITICAL = frozenset((StreamType.CONTROL, StreamType.QPACK_ENCODER, StreamType.QPACK_DECODER))


class Http3Error(Exception):
    """The connection is to be closed: with this code, for this reason."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code, self.reason = code, reason


@dataclass(slots=True)
class Head:
    stream: int
    fields: Fields


@dataclass(slots=True)
class Data:
    stream: int
    data: bytes
    framing: int  # bytes of frame heads that came with it: they take credit as well


@dataclass(slots=True)
class End:
    stream: int


@dataclass(slots=True)
class Unknown:
    """A frame or stream of unknown type was passed over."""


@dataclass(slots=True)
class GoAway:
    """The peer takes no request whose stream has this number or a higher one."""

    first_refused: int


Event = Head | Data | End | Unknown | GoAway


@dataclass(slots=True)
class _Incoming:
    """What is known of a stream that the peer sends on."""

    pending: bytearray = field(default_factory=bytearray)  # of a frame that is not complete
    data_left: int = 0  # of the DATA frame that is being read
    skip_left: int = 0  # of an unknown frame
    unknown: int = 0  # bytes of unknown frames in all
    has_head: bool = False
    kind: int | None = None  # of a unidirectional stream


def varint_frame(kind: int, length: int) -> bytes:
    return encode_uint_var(kind) + encode_uint_var(length)


def data_head(length: int) -> bytes:
    """What goes before `length` bytes of DATA."""
    if length < 0x40:
        return bytes((0, length))
    if length < 0x4000:
        return bytes((0, 0x40 | length >> 8, length & 0xFF))
    return b"\0" + encode_uint_var(length)


class Http3:
    """Of one connection; its user opens no unidirectional stream of its own."""

    def __init__(self, is_client: bool, send: Send) -> None:
        self._is_client, self._send = is_client, send
        self._control = 2 if is_client else 3
        self._incoming: dict[int, _Incoming] = {}
        self._kinds: set[int] = set()  # of the peer's critical streams, each there once
        self._critical: set[int] = set()
        self.settings_came = False
        self._goaway: int | None = None
        self._encoder = pylsqpack.Encoder()
        self._decoder = pylsqpack.Decoder(0, 0)

    def begin(self) -> None:
        """Our control stream and both of QPACK."""
        settings = encode_uint_var(Setting.MAX_FIELD_SECTION_SIZE) + encode_uint_var(FIELDS_BYTES_MAX)
        frame = varint_frame(FrameType.SETTINGS, len(settings)) + settings
        self._send(self._control, bytes((StreamType.CONTROL,)) + frame, False)
        self._send(self._control + 4, bytes((StreamType.QPACK_ENCODER,)), False)
        self._send(self._control + 8, bytes((StreamType.QPACK_DECODER,)), False)

    def send_head(self, stream: int, fields: Fields, end: bool = False) -> None:
        _, section = self._encoder.encode(stream, fields)
        self._send(stream, varint_frame(FrameType.HEADERS, len(section)) + section, end)

    def send_goaway(self, first_refused: int) -> None:
        number = encode_uint_var(first_refused)
        self._send(self._control, varint_frame(FrameType.GOAWAY, len(number)) + number, False)

    def forget(self, stream: int) -> None:
        """Nothing more of this stream is of interest."""
        self._incoming.pop(stream, None)

    def reset(self, stream: int) -> None:
        """The peer has reset or stopped a stream. Raises Http3Error when it was one that must live."""
        if stream in self._critical or (stream & 2 and bool(stream & 1) != self._is_client):
            raise Http3Error(ErrorCode.H3_CLOSED_CRITICAL_STREAM, "a critical stream was reset or stopped")
        self.forget(stream)

    def receive(self, stream: int, data: bytes, end: bool) -> Iterator[Event]:
        """The events of these bytes. Raises Http3Error."""
        incoming = self._incoming.get(stream)
        if incoming is None:
            incoming = self._incoming[stream] = _Incoming()
        if not stream & 2:
            if incoming.data_left >= len(data) > 0 and not end:  # the common case: the middle of a DATA frame
                incoming.data_left -= len(data)
                return iter((Data(stream, data, 0),))
            return self._receive_request(stream, incoming, data, end)
        return self._receive_uni(stream, incoming, data, end)

    # --- requests and responses

    def _receive_request(self, stream: int, incoming: _Incoming, data: bytes, end: bool) -> Iterator[Event]:
        if incoming.pending:
            data = bytes(incoming.pending) + data
            incoming.pending.clear()
        at = 0
        while at < len(data):
            if incoming.data_left:
                piece = data[at : at + incoming.data_left]
                incoming.data_left -= len(piece)
                at += len(piece)
                yield Data(stream, piece, 0)
            elif incoming.skip_left:
                skipped = min(incoming.skip_left, len(data) - at)
                incoming.skip_left -= skipped
                at += skipped
            else:
                begin = at
                at, event = self._frame(stream, incoming, data, at)
                if at == begin:
                    incoming.pending += data[at:]
                    break
                if event is not None:
                    yield event
        if end:
            if incoming.pending or incoming.data_left or incoming.skip_left:
                raise Http3Error(ErrorCode.H3_FRAME_ERROR, "a stream ended within a frame")
            self.forget(stream)
            yield End(stream)

    def _frame(self, stream: int, incoming: _Incoming, data: bytes, at: int) -> tuple[int, Event | None]:
        """Reads one frame's head, and a whole HEADERS; the same `at`: more is needed."""
        if (head := read_frame_head(data, at)) is None:
            return at, None
        kind, length, body = head
        if kind == FrameType.DATA:
            if not incoming.has_head:
                raise Http3Error(ErrorCode.H3_FRAME_UNEXPECTED, "DATA came before HEADERS")
            incoming.data_left = length
            return body, Data(stream, b"", body - at)
        if kind == FrameType.HEADERS:
            return self._headers(stream, incoming, data, at, body, length)
        if kind in _CONTROL_ONLY or kind in _RESERVED or kind == FrameType.PUSH_PROMISE:
            raise Http3Error(ErrorCode.H3_FRAME_UNEXPECTED, f"a frame of type {kind:#x} on a request's stream")
        incoming.unknown += length + body - at
        if incoming.unknown > UNKNOWN_BYTES_MAX:
            raise Http3Error(ErrorCode.H3_EXCESSIVE_LOAD, "too many bytes of unknown frames")
        incoming.skip_left = length
        return body, Unknown()

    def _headers(
        self, stream: int, incoming: _Incoming, data: bytes, at: int, body: int, length: int
    ) -> tuple[int, Event | None]:
        if length > SECTION_BYTES_MAX:
            raise Http3Error(ErrorCode.H3_EXCESSIVE_LOAD, f"a field section of {length} bytes")
        if incoming.has_head:  # section 4.4: after CONNECT there is nothing but DATA
            raise Http3Error(ErrorCode.H3_FRAME_UNEXPECTED, "HEADERS came after HEADERS")
        if len(data) < body + length:
            return at, None
        fields = self._decode(stream, data[body : body + length])
        incoming.has_head = not (self._is_client and is_interim(fields))
        return body + length, Head(stream, fields)

    def _decode(self, stream: int, section: bytes) -> Fields:
        try:
            _, fields = self._decoder.feed_header(stream, section)
        except (pylsqpack.DecompressionFailed, pylsqpack.StreamBlocked):
            raise Http3Error(ErrorCode.QPACK_DECOMPRESSION_FAILED, "a field section cannot be decoded") from None
        if sum(len(name) + len(value) + 32 for name, value in fields) > FIELDS_BYTES_MAX:
            raise Http3Error(ErrorCode.H3_EXCESSIVE_LOAD, "the fields of a section are too long")
        return fields

    # --- control streams

    def _receive_uni(self, stream: int, incoming: _Incoming, data: bytes, end: bool) -> Iterator[Event]:
        incoming.pending += data
        if incoming.kind is None:
            kind = _read_varint(incoming.pending, 0)
            if kind is None:
                return
            del incoming.pending[: kind[1]]
            incoming.kind = kind[0]
            self._check_kind(stream, kind[0])
            if kind[0] not in _CRITICAL:
                yield Unknown()
        if end and incoming.kind in _CRITICAL:
            raise Http3Error(ErrorCode.H3_CLOSED_CRITICAL_STREAM, "a critical stream was ended")
        if incoming.kind == StreamType.CONTROL:
            yield from self._control_frames(incoming)
        elif incoming.kind == StreamType.QPACK_ENCODER:
            self._encoder_stream(bytes(incoming.pending))
            incoming.pending.clear()
        else:  # acknowledgements of what refers to no table, or unknown: nothing to do
            incoming.pending.clear()
        if end:
            self.forget(stream)

    def _check_kind(self, stream: int, kind: int) -> None:
        if kind == StreamType.PUSH:
            code = ErrorCode.H3_ID_ERROR if self._is_client else ErrorCode.H3_STREAM_CREATION_ERROR
            raise Http3Error(code, "a push stream, and none was allowed")
        if kind in self._kinds:
            raise Http3Error(ErrorCode.H3_STREAM_CREATION_ERROR, f"a second stream of type {kind}")
        if kind in _CRITICAL:
            self._kinds.add(kind)
            self._critical.add(stream)

    def _encoder_stream(self, data: bytes) -> None:
        try:
            self._decoder.feed_encoder(data)
        except pylsqpack.EncoderStreamError:
            raise Http3Error(ErrorCode.QPACK_ENCODER_STREAM_ERROR, "an entry for a table of size 0") from None

    def _control_frames(self, incoming: _Incoming) -> Iterator[Event]:
        while incoming.pending or incoming.skip_left:
            if incoming.skip_left:
                skipped = min(incoming.skip_left, len(incoming.pending))
                incoming.skip_left -= skipped
                del incoming.pending[:skipped]
                if not skipped:
                    return
                continue
            data = bytes(incoming.pending)
            if (head := read_frame_head(data, 0)) is None:
                return
            kind, length, body = head
            self._check_control(kind)
            if kind not in (FrameType.SETTINGS, FrameType.GOAWAY):
                incoming.skip_left = length
                del incoming.pending[:body]
                yield Unknown()
                continue
            if length > CONTROL_FRAME_BYTES_MAX:
                raise Http3Error(ErrorCode.H3_EXCESSIVE_LOAD, f"a control frame of {length} bytes")
            if len(data) < body + length:
                return
            del incoming.pending[: body + length]
            payload = data[body : body + length]
            if kind == FrameType.SETTINGS:
                self._read_settings(payload)
            else:
                yield self._read_goaway(payload)

    def _check_control(self, kind: int) -> None:
        if not self.settings_came and kind != FrameType.SETTINGS:
            raise Http3Error(ErrorCode.H3_MISSING_SETTINGS, "the control stream does not begin with SETTINGS")
        if self.settings_came and kind == FrameType.SETTINGS:
            raise Http3Error(ErrorCode.H3_FRAME_UNEXPECTED, "SETTINGS came twice")
        if kind in _REQUEST_ONLY or kind in _RESERVED or (kind == FrameType.MAX_PUSH_ID and self._is_client):
            raise Http3Error(ErrorCode.H3_FRAME_UNEXPECTED, f"a frame of type {kind:#x} on the control stream")

    def _read_settings(self, payload: bytes) -> None:
        """Of the peer's settings none changes what we send: no table, and small sections."""
        self.settings_came = True
        seen: set[int] = set()
        at = 0
        while at < len(payload):
            number = _read_varint(payload, at)
            value = _read_varint(payload, number[1]) if number else None
            if number is None or value is None:
                raise Http3Error(ErrorCode.H3_FRAME_ERROR, "SETTINGS cannot be read")
            if number[0] in seen or number[0] in (0x0, 0x2, 0x3, 0x4, 0x5):
                raise Http3Error(ErrorCode.H3_SETTINGS_ERROR, f"setting {number[0]:#x} is reserved or there twice")
            seen.add(number[0])
            at = value[1]

    def _read_goaway(self, payload: bytes) -> GoAway:
        number = _read_varint(payload, 0)
        if number is None or number[1] != len(payload):
            raise Http3Error(ErrorCode.H3_FRAME_ERROR, "GOAWAY cannot be read")
        if self._goaway is not None and number[0] > self._goaway:
            raise Http3Error(ErrorCode.H3_ID_ERROR, "GOAWAY rose")
        self._goaway = number[0]
        return GoAway(number[0])


def is_interim(fields: Fields) -> bool:
    return any(name == b":status" and value.startswith(b"1") for name, value in fields)


def read_frame_head(data: bytes, at: int) -> tuple[int, int, int] | None:
    """Type, length and where its payload begins; None: more bytes are needed."""
    kind = _read_varint(data, at)
    length = _read_varint(data, kind[1]) if kind else None
    return None if kind is None or length is None else (kind[0], length[0], length[1])


def _read_varint(data: bytes | bytearray, at: int) -> tuple[int, int] | None:
    """RFC 9000 section 16: the number, and where it ends."""
    if at >= len(data):
        return None
    size = 1 << (data[at] >> 6)
    if at + size > len(data):
        return None
    return int.from_bytes(data[at : at + size], "big") & ((1 << (8 * size - 2)) - 1), at + size
