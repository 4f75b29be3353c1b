"""Pairs of connected loopback TCP sockets: one end for us, one for a worker.

TCP, because its end can be told from its reset in every state (see `messages`). Ours has SO_LINGER with 0 seconds:
closing it before both directions have ended is a reset, and so is this process's death. A stranger on this machine who
connects to the listener meanwhile is recognised by his address and closed.
"""

from __future__ import annotations

import socket
import struct

BUFFER_BYTES = 256 << 10  # of each socket and direction: what a worker that does not read can hold in the kernel
CONNECT_SECONDS = 0.05  # only strangers who fill the backlog can make it last
STRANGERS_MAX = 64  # in one go: else the connection is refused
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class Pairs:
    def __init__(self) -> None:
        self._listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        _buffers(self._listener)  # accepted ones inherit them
        self._listener.bind(("127.0.0.1", 0))
        self._listener.listen(128)
        self._listener.setblocking(False)

    def make(self) -> tuple[socket.socket, socket.socket]:
        """Ours, and the one to give away. Raises OSError."""
        given = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            _buffers(given)
            given.settimeout(CONNECT_SECONDS)
            given.connect(self._listener.getsockname())  # done in 30 us: both ends are this machine
            ours = self._accept(given.getsockname())
        except OSError:
            given.close()
            raise
        for each in (ours, given):
            each.setblocking(False)
            each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        return ours, given

    def _accept(self, name: tuple[str, int]) -> socket.socket:
        for _ in range(STRANGERS_MAX):
            found, address = self._listener.accept()
            if address == name:
                return found
            found.close()
        raise OSError("strangers keep connecting to the listener for workers")

    def close(self) -> None:
        self._listener.close()


def _buffers(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER_BYTES)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER_BYTES)
