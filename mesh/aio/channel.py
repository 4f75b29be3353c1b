"""Messages with file descriptors between two local processes.

A frame is a 5-byte head (payload length u32, descriptor count u8, little endian) and a payload. Descriptors travel
with the first byte of their frame (SCM_RIGHTS, unix(7)); a stream socket never merges bytes across them, so they
arrive in frame order and never later than their frame.
Bias: a peer that does not read is closed rather than waited for; its backlog is bounded.
"""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from array import array
from collections import deque
from collections.abc import Iterable, Sequence

HEAD = struct.Struct("<IB")
DESCRIPTORS_MAX = 250  # the kernel allows 253 per message (SCM_MAX_FD)
PAYLOAD_BYTES_MAX = 64 << 20  # a plan of 100 000 endpoints is about 10 MiB
BACKLOG_BYTES_MAX = 256 << 20  # more unread than this: the peer hangs
READ_BYTES = 256 << 10
_ANCILLARY_BYTES = socket.CMSG_SPACE(DESCRIPTORS_MAX * 4)


class ChannelClosed(ConnectionError):
    """The peer is gone, or said something that is no frame."""


class Channel:
    """One end of a connected stream socket. `receive` has one reader; `send` never waits."""

    def __init__(self, sock: socket.socket, loop: asyncio.AbstractEventLoop | None = None) -> None:
        sock.setblocking(False)
        self._sock = sock
        self._loop = loop or asyncio.get_running_loop()
        self._buffer = bytearray()
        self._descriptors: deque[int] = deque()
        self._outgoing: deque[tuple[memoryview, list[int]]] = deque()
        self._outgoing_bytes = 0
        self._writing = False
        self._closed = False
        self._readable = asyncio.Event()
        self._loop.add_reader(sock.fileno(), self._readable.set)

    @property
    def closed(self) -> bool:
        return self._closed

    def send(self, payload: bytes, descriptors: Sequence[int] | None = None) -> None:
        """Send one frame, or queue what does not go at once. The caller keeps its descriptors. Raises ChannelClosed."""
        if self._closed:
            raise ChannelClosed("the peer is gone")
        descriptors = descriptors or ()
        frame = memoryview(HEAD.pack(len(payload), len(descriptors)) + payload)
        if not self._outgoing:
            try:
                sent = self._send_some(frame, descriptors)
            except OSError:
                self.close()
                return
            frame, descriptors = frame[sent:], () if sent else descriptors
        if frame:
            self._queue(frame, descriptors)

    def _send_some(self, frame: memoryview, descriptors: Sequence[int]) -> int:
        """How much of it is gone, descriptors with the first byte; 0: nothing goes now."""
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array("i", descriptors))] if descriptors else []
        try:
            return self._sock.sendmsg([frame], rights)
        except BlockingIOError:
            return 0

    def _queue(self, frame: memoryview, descriptors: Sequence[int]) -> None:
        """Duplicates what the caller may close. A message that is lost would be missed: the channel ends instead."""
        if self._outgoing_bytes + len(frame) > BACKLOG_BYTES_MAX:
            self.close()
            raise ChannelClosed("the peer does not read")
        copies: list[int] = []
        try:
            for fd in descriptors:
                copies.append(os.dup(fd))
        except OSError as error:
            close_all(copies)
            self.close()
            raise ChannelClosed(f"a message that must wait finds no descriptor: {error.strerror}") from None
        self._outgoing.append((frame, copies))
        self._outgoing_bytes += len(frame)
        self._watch_writable(True)

    def _flush(self) -> None:
        try:
            while self._outgoing:
                frame, descriptors = self._outgoing[0]
                sent = self._send_some(frame, descriptors)
                if not sent:
                    return
                self._outgoing.popleft()
                close_all(descriptors)
                self._outgoing_bytes -= sent
                if sent < len(frame):
                    self._outgoing.appendleft((frame[sent:], []))
        except OSError:
            self.close()
        else:
            self._watch_writable(False)

    def _watch_writable(self, wanted: bool) -> None:
        if wanted and not self._writing:
            self._loop.add_writer(self._sock.fileno(), self._flush)
        elif self._writing and not wanted:
            self._loop.remove_writer(self._sock.fileno())
        self._writing = wanted

    async def receive(self) -> tuple[bytes, list[int]]:
        """The next payload and its descriptors, which now belong to the caller. Raises ChannelClosed at the end."""
        while (frame := self._take_frame()) is None:
            if self._closed:
                raise ChannelClosed("the peer is gone")
            if not self._read_some():
                self._readable.clear()
                await self._readable.wait()
        return frame

    def _take_frame(self) -> tuple[bytes, list[int]] | None:
        if len(self._buffer) < HEAD.size:
            return None
        length, count = HEAD.unpack_from(self._buffer)
        if length > PAYLOAD_BYTES_MAX or count > DESCRIPTORS_MAX:
            self.close()
            raise ChannelClosed("the peer sent no frame of ours")
        if len(self._buffer) < HEAD.size + length:
            return None
        payload = bytes(self._buffer[HEAD.size : HEAD.size + length])
        del self._buffer[: HEAD.size + length]
        if len(self._descriptors) < count:
            self.close()
            raise ChannelClosed("descriptors were lost on the way: is the limit of open files reached?")
        return payload, [self._descriptors.popleft() for _ in range(count)]

    def _read_some(self) -> bool:
        """False when nothing is there now. Rights cut short (no free descriptor) show as a wrong count."""
        try:
            data, ancillary, _, _ = self._sock.recvmsg(READ_BYTES, _ANCILLARY_BYTES, socket.MSG_CMSG_CLOEXEC)
        except BlockingIOError:
            return False
        except OSError:
            data, ancillary = b"", []
        for level, kind, rights in ancillary:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                numbers = array("i")
                numbers.frombytes(rights[: len(rights) - len(rights) % numbers.itemsize])
                self._descriptors.extend(numbers)
        if not data:
            self.close()
            raise ChannelClosed("the peer is gone")
        self._buffer += data
        return True

    def close(self) -> None:
        """Idempotent; wakes the reader; descriptors on their way are closed."""
        if self._closed:
            return
        self._closed = True
        self._loop.remove_reader(self._sock.fileno())
        self._watch_writable(False)
        self._readable.set()
        for _, descriptors in self._outgoing:
            close_all(descriptors)
        self._outgoing.clear()
        close_all(self._descriptors)
        self._descriptors.clear()
        self._sock.close()


def close_all(descriptors: Iterable[int]) -> None:
    for fd in descriptors:
        os.close(fd)
