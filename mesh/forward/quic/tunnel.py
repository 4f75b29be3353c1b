"""One QUIC connection as HBONE uses it: CONNECT requests, a pipe for each that stands, and going away.

Both roles. A client's requests are asked for by `request`; a server's are handed to its owner, who answers them. The
owner (pool or endpoint) decides; here is what follows from it on the wire. Nothing waits: what is to be sent leaves
when the endpoint flushes, once per turn of the loop however many streams had something to say.
"""

from __future__ import annotations

import socket
from collections import Counter
from collections.abc import Callable
from typing import Protocol

from aioquic.h3.connection import ErrorCode
from aioquic.quic import events
from aioquic.quic.packet import QuicErrorCode

from mesh.forward.quic.connect import answer_fields, read_status
from mesh.forward.quic.connection import IDLE_TIMEOUT, Connection
from mesh.forward.quic.handshake import Reason
from mesh.forward.quic.http3 import Data, End, Fields, GoAway, Head, Http3, Http3Error, data_head
from mesh.forward.quic.messages import Status
from mesh.forward.quic.pipe import UNSENT_BYTES_MAX, Pipe

Answered = Callable[[int], None]  # with the status; 0: the connection is gone
DEAF_MAX = 256  # when so many are remembered, those that are over are forgotten


class Owner(Protocol):
    """Who made it."""

    def established(self, tunnel: Tunnel) -> None: ...

    def requested(self, tunnel: Tunnel, stream: int, fields: Fields) -> None: ...

    def left(self, tunnel: Tunnel, stream: int) -> None:
        """A stream that is not answered yet was given up by the peer."""

    def closed(self, tunnel: Tunnel, reason: str) -> None:
        """`reason`: "silence" when nothing came for too long."""

    def freed(self, tunnel: Tunnel) -> None:
        """A stream has ended."""


class Tunnel:
    """`wake` has it flushed soon."""

    def __init__(
        self,
        connection: Connection,
        owner: Owner,
        wake: Callable[[Tunnel], None],
        counts: Counter[str],
        clock: Callable[[], float],
    ) -> None:
        self.connection, self._owner, self._counts, self._clock = connection, owner, counts, clock
        self._wake = wake
        self._http3 = Http3(connection.is_client, self._send_raw)
        self._pipes: dict[int, Pipe] = {}
        self._asked: dict[int, Answered] = {}  # a client's, not answered yet
        self._open: set[int] = set()  # a server's, not answered yet
        self._paused: set[Pipe] = set()
        self._half: set[int] = set()  # a server's, not answered yet, and the peer sends nothing more
        self._deaf: set[int] = set()  # aborted or refused: what still comes of them is nobody's
        self._goaway: int | None = None  # requests from this stream on are refused
        self.began = clock()
        self.established_at = 0.0
        self.quiet_since = self.began  # no stream is open
        self._heard = self.began  # of the peer, or asked whether it lives
        self.leaving = False  # takes no new requests
        self.is_closed = False

    @property
    def streams(self) -> int:
        return len(self._pipes) + len(self._asked) + len(self._open)

    @property
    def room(self) -> bool:
        """Whether it takes another request."""
        known = self.connection.is_connected and not self.leaving and not self.is_closed
        return known and self.connection.requests_left > 0

    # --- a client

    def request(self, fields: Fields, answered: Answered) -> int:
        """The stream's number. `answered` is called once, unless `give_up` is."""
        stream = self.connection.get_next_available_stream_id()
        self._asked[stream] = answered
        self._http3.send_head(stream, fields)
        self._wake(self)
        return stream

    def give_up(self, stream: int) -> None:
        """Nobody waits for the answer any more."""
        if self._asked.pop(stream, None) is not None:
            self.abort(stream, ErrorCode.H3_REQUEST_CANCELLED)

    # --- a server

    def answer(self, stream: int, status: int) -> None:
        """All but 200 end the stream."""
        if stream not in self._open or self.is_closed:
            return
        self._open.discard(stream)
        refused = status != Status.CARRIED
        self._http3.send_head(stream, answer_fields(status), end=refused)
        if refused:
            self._counts[f"requests_refused/{status}"] += 1
            self._ignore(stream)
            self.connection.stop_stream(stream, ErrorCode.H3_NO_ERROR)
            self.over(stream)
        self._wake(self)

    def is_waiting(self, stream: int) -> bool:
        """Whether a request is still to be answered."""
        return stream in self._open and not self.is_closed

    # --- both

    def attach(self, stream: int, sock: socket.socket) -> None:
        """The request was granted: its bytes are this socket's."""
        pipe = Pipe(self, stream, sock)
        self._pipes[stream] = pipe
        pipe.begin()
        if stream in self._half:
            self._half.discard(stream)
            pipe.end()

    def leave(self) -> None:
        """No new requests; those under way go on. A server says so, a client just makes none."""
        if not self.leaving and not self.connection.is_client and self.connection.is_connected and not self.is_closed:
            self._goaway = self.connection.first_unseen_request
            self._http3.send_goaway(self._goaway)
            self._wake(self)
        self.leaving = True

    def close(self, code: int = ErrorCode.H3_NO_ERROR, reason: str = "") -> None:
        self.connection.close(error_code=code, reason_phrase=reason)
        self._wake(self)

    def keep_alive(self, seconds: float) -> None:
        """Asks for a sign of life when there was none for so long."""
        now = self._clock()
        if now - self._heard >= seconds and self.connection.is_connected and not self.is_closed:
            self._heard = now
            self.connection.send_ping(0)
            self._wake(self)

    # --- for pipes

    def send(self, stream: int, data: bytes, end: bool) -> None:
        self._counts["bytes/sent"] += len(data)
        self.connection.send_stream_data(stream, data_head(len(data)) + data if data else b"", end)
        self._wake(self)

    def unsent(self, stream: int) -> int:
        return self.connection.unsent(stream)

    def take(self, stream: int, count: int, waiting: int) -> None:
        if self.connection.take(stream, count, waiting, self._clock()):
            self._wake(self)

    def pause(self, pipe: Pipe) -> None:
        self._paused.add(pipe)

    def abort(self, stream: int, code: int = ErrorCode.H3_CONNECT_ERROR) -> None:
        self._ignore(stream)
        if not self.is_closed:
            self.connection.reset_stream(stream, code)
            self.connection.stop_stream(stream, code)
            self._wake(self)
        self.over(stream)

    def over(self, stream: int) -> None:
        pipe = self._pipes.pop(stream, None)
        if pipe is not None:
            self._paused.discard(pipe)
        if not self.streams:
            self.quiet_since = self._clock()
        self._owner.freed(self)

    def _ignore(self, stream: int) -> None:
        self._http3.forget(stream)
        self._half.discard(stream)
        if len(self._deaf) >= DEAF_MAX:
            self._deaf = {each for each in self._deaf if self.connection.receives(each)}
        self._deaf.add(stream)

    def _send_raw(self, stream: int, data: bytes, end: bool) -> None:
        self.connection.send_stream_data(stream, data, end)

    # --- what came

    def process(self) -> None:
        """Handle what the connection has to tell."""
        self._heard = self._clock()
        while (event := self.connection.next_event()) is not None:
            try:
                self._handle(event)
            except Http3Error as error:
                self._counts[f"connections_aborted/{ErrorCode(error.code).name}"] += 1
                self.connection.close(error_code=error.code, reason_phrase=error.reason)
        if (ending := self.connection.ending) is not None and not self.is_closed:
            self._terminated(ending)
        self._wake(self)

    def _handle(self, event: events.QuicEvent) -> None:
        match event:
            case events.StreamDataReceived(data=data, end_stream=end, stream_id=stream):
                self._receive(stream, data, end)
            case events.StreamReset(stream_id=stream):
                self._http3.reset(stream)
                self._dropped(stream)
                self._deaf.discard(stream)
                self.connection.forget(stream)
            case events.StopSendingReceived(stream_id=stream):
                self._http3.reset(stream)
                self.connection.reset_stream(stream, ErrorCode.H3_REQUEST_CANCELLED)
                if stream not in self._asked:  # a refusal comes with it, or soon
                    self._dropped(stream)
            case events.HandshakeCompleted():
                self.established_at = self.quiet_since = self._clock()
                self._http3.begin()
                self._owner.established(self)

    def _receive(self, stream: int, data: bytes, end: bool) -> None:
        left = len(data)  # of these bytes, those that nobody has taken yet
        for event in () if stream in self._deaf else self._http3.receive(stream, data, end):
            if isinstance(event, Data):
                pipe = self._pipes.get(event.stream)
                if pipe is not None:
                    left -= len(event.data) + event.framing
                    self._counts["bytes/received"] += len(event.data)
                    pipe.receive(event.data, event.framing)
                elif event.data and event.stream in self._open:
                    self._refuse_early(event.stream)
                    break
            elif isinstance(event, Head):
                self._head(event)
            elif isinstance(event, End):
                self._end(event.stream)
            elif isinstance(event, GoAway):
                self._go_away(event.first_refused)
            elif not self.connection.allows("unknown", self._clock()):
                raise Http3Error(ErrorCode.H3_EXCESSIVE_LOAD, "too many frames and streams of unknown type")
        if left:
            self.take(stream, left, 0)
        if end:
            self._deaf.discard(stream)
            self.connection.forget(stream)

    def _refuse_early(self, stream: int) -> None:
        """RFC 9114 4.4: bytes of a tunnel that does not stand yet. Nobody would take them."""
        self._counts["requests_refused/early"] += 1
        self._open.discard(stream)
        self.abort(stream, ErrorCode.H3_MESSAGE_ERROR)
        self._owner.left(self, stream)

    def _head(self, head: Head) -> None:
        if head.stream & 3:
            raise Http3Error(ErrorCode.H3_STREAM_CREATION_ERROR, "a request on a stream that a server began")
        if self.connection.is_client:
            self._response(head)
            return
        if self._goaway is not None and head.stream >= self._goaway:
            self.abort(head.stream, ErrorCode.H3_REQUEST_REJECTED)
            return
        if not self.connection.allows("request", self._clock()):
            raise Http3Error(ErrorCode.H3_EXCESSIVE_LOAD, "too many requests")
        self._open.add(head.stream)
        self._owner.requested(self, head.stream, head.fields)

    def _response(self, head: Head) -> None:
        status = read_status(head.fields)
        if 100 <= status < 200:
            return
        answered = self._asked.pop(head.stream, None)
        if answered is None:
            return
        if status != Status.CARRIED:
            self.connection.reset_stream(head.stream, ErrorCode.H3_REQUEST_CANCELLED)
            self.over(head.stream)
        answered(status or Status.UNREACHABLE)

    def _end(self, stream: int) -> None:
        pipe = self._pipes.get(stream)
        if pipe is not None:
            pipe.end()
        elif stream in self._asked:
            self._dropped(stream)
        elif stream in self._open:
            self._half.add(stream)
        elif not self.connection.is_client and not stream & 3:
            self.connection.reset_stream(stream, ErrorCode.H3_REQUEST_INCOMPLETE)

    def _dropped(self, stream: int) -> None:
        """The peer has given up a stream."""
        pipe = self._pipes.get(stream)
        if pipe is not None:
            pipe.reset()
            self.abort(stream)
        elif (answered := self._asked.pop(stream, None)) is not None:
            self.abort(stream, ErrorCode.H3_REQUEST_CANCELLED)
            answered(Status.UNREACHABLE)
        elif stream in self._open:
            self._open.discard(stream)
            self.abort(stream, ErrorCode.H3_REQUEST_CANCELLED)
            self._owner.left(self, stream)

    def _go_away(self, first_refused: int) -> None:
        self.leaving = True
        if self.connection.is_client:
            for stream in [each for each in self._asked if each >= first_refused]:
                self._dropped(stream)

    def _terminated(self, event: events.ConnectionTerminated) -> None:
        self.is_closed = True
        for pipe in list(self._pipes.values()):
            pipe.reset()
        self._pipes.clear()
        self._paused.clear()
        unanswered, self._asked = list(self._asked.values()), {}
        left, self._open = list(self._open), set()
        for stream in left:
            self._owner.left(self, stream)
        self._owner.closed(self, self._why(event))
        for answered in unanswered:
            answered(0)

    def _why(self, event: events.ConnectionTerminated) -> str:
        """As counters have it."""
        connection = self.connection
        if event.reason_phrase == IDLE_TIMEOUT:
            return str(Reason.SILENCE)
        if connection.abuse:
            return connection.abuse
        if connection.tls_context is not None and connection.tls_context.refusal:
            return str(connection.tls_context.refusal)
        if event.error_code in (QuicErrorCode.NO_ERROR, ErrorCode.H3_NO_ERROR):
            return "done"
        if QuicErrorCode.CRYPTO_ERROR <= event.error_code < QuicErrorCode.CRYPTO_ERROR + 0x100:
            return str(Reason.TOLD if connection.was_told else Reason.BROKEN)
        return "told" if connection.was_told else "broken"

    # --- what leaves

    def outgoing(self, now: float) -> list[tuple[bytes, tuple[object, ...]]]:
        """Datagrams with their addresses. Pipes that waited for room go on."""
        for pipe in [pipe for pipe in self._paused if self.connection.unsent(pipe.stream) < UNSENT_BYTES_MAX]:
            self._paused.discard(pipe)
            pipe.resume()
        return self.connection.datagrams_to_send(now)
