"""One application connection: what comes on a stream goes to the local socket, and the other way, each at its own
pace.

Rules: credit for a stream is given when the local socket has taken the bytes; the local socket is read only while
little waits to be sent, so a slow side holds up its own connection and nothing else, at both ends. A half-close is an
end of the stream, a reset a reset (H3_CONNECT_ERROR, RFC 9114 4.4). The pipe is over when both directions have ended.
"""

from __future__ import annotations

import asyncio
import socket
from typing import Protocol

READ_BYTES = 65536 - 16  # with its frame head a round number of packets
WRITE_BYTES = 65536
UNSENT_BYTES_MAX = 131072  # beyond what is under way: two reads


class Carrier(Protocol):
    """The connection, as a pipe uses it. Each call is of one stream."""

    def send(self, stream: int, data: bytes, end: bool) -> None:
        """DATA, to leave soon."""

    def unsent(self, stream: int) -> int: ...

    def take(self, stream: int, count: int, waiting: int) -> None:
        """Bytes of the peer were passed on."""

    def pause(self, pipe: Pipe) -> None:
        """Call `resume` when less than UNSENT_BYTES_MAX is unsent."""

    def abort(self, stream: int) -> None:
        """Reset both directions."""

    def over(self, stream: int) -> None:
        """Nothing will be said of this stream any more."""


class Pipe:
    def __init__(self, carrier: Carrier, stream: int, sock: socket.socket) -> None:
        self._carrier, self._stream, self._sock = carrier, stream, sock
        self._loop = asyncio.get_running_loop()
        self._waiting = bytearray()  # one piece, however small the peer's frames are
        self._peer_ended = False  # after what waits
        self._shut = False  # the local socket was told so
        self._local_ended = False
        self._reading = False
        self.closed = False

    def begin(self) -> None:
        self._read(True)

    # --- from the local socket to the stream

    def _read(self, wanted: bool) -> None:
        if wanted and not self._reading:
            self._loop.add_reader(self._sock.fileno(), self._readable)
        elif self._reading and not wanted:
            self._loop.remove_reader(self._sock.fileno())
        self._reading = wanted

    def _readable(self) -> None:
        try:
            data = self._sock.recv(READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            self._break()
            return
        if not data:
            self._local_ended = True
            self._read(False)
            self._carrier.send(self._stream, b"", True)
            self._settle()
            return
        self._carrier.send(self._stream, data, False)
        if self._carrier.unsent(self._stream) >= UNSENT_BYTES_MAX:
            self._read(False)
            self._carrier.pause(self)

    def resume(self) -> None:
        if not self.closed and not self._local_ended:
            self._read(True)

    @property
    def stream(self) -> int:
        return self._stream

    # --- from the stream to the local socket

    def receive(self, data: bytes, framing: int) -> None:
        """`framing`: bytes of the stream that are no payload."""
        if self.closed:
            self._carrier.take(self._stream, len(data) + framing, 0)
            return
        sent: int | None = 0
        if data and not self._waiting:
            sent = self._send(data)
        if sent is None:
            sent = len(data)  # broken: nobody will take them
        elif sent < len(data):
            if not self._waiting:
                self._loop.add_writer(self._sock.fileno(), self._writable)
            self._waiting += data[sent:]
        self._carrier.take(self._stream, sent + framing, len(self._waiting))

    def _send(self, data: bytes) -> int | None:
        """How many the local socket took; None: it is broken, and the pipe with it."""
        try:
            return self._sock.send(data)
        except BlockingIOError:
            return 0
        except OSError:
            self._break()
            return None

    def _writable(self) -> None:
        sent = self._send(bytes(self._waiting[:WRITE_BYTES]))
        if sent is None:
            return
        del self._waiting[:sent]
        if not self._waiting:
            self._loop.remove_writer(self._sock.fileno())
        if sent:
            self._carrier.take(self._stream, sent, len(self._waiting))
        self._shut_if_due()

    def end(self) -> None:
        """The peer sends nothing more."""
        self._peer_ended = True
        self._shut_if_due()

    def _shut_if_due(self) -> None:
        if self._peer_ended and not self._waiting and not self._shut and not self.closed:
            self._shut = True
            try:
                self._sock.shutdown(socket.SHUT_WR)
            except OSError:
                self._break()
                return
            self._settle()

    # --- the end

    def _settle(self) -> None:
        if self._shut and self._local_ended and not self.closed:
            self._close()
            self._carrier.over(self._stream)

    def _break(self) -> None:
        """The local side has reset."""
        if not self.closed:
            self._close()
            self._carrier.abort(self._stream)

    def reset(self) -> None:
        """The peer has, or its connection is gone. Closing resets, see mesh.forward.quic.local."""
        if not self.closed:
            self._close()

    def _close(self) -> None:
        self.closed = True
        self._read(False)
        if self._waiting:
            self._loop.remove_writer(self._sock.fileno())
            self._waiting.clear()
        self._sock.close()
