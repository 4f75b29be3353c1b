"""A capture: every frame that came in at some ports, in memory, with a bound that is never reached in silence.

Frames are what left a node: several segments of one connection may still be one frame here (they are cut in the card
of a real machine), so a frame can have 64 KiB. `holding` is only a proof of absence while `complete` is true.
"""

from __future__ import annotations

import select
import socket
import struct
import threading
from collections.abc import Sequence

from tests.kit.enter import inside

ETH_P_ALL = 3
SOL_PACKET, PACKET_STATISTICS, PACKET_IGNORE_OUTGOING = 263, 6, 23
SO_RCVBUFFORCE = 33
BUFFER_BYTES = 64 << 20  # what arrives while the test's own thread holds the interpreter
FRAME_BYTES_MAX = 1 << 17
BYTES_MAX = 512 << 20  # a proof is about some requests, not about a benchmark


class Frames:
    def __init__(self, netns: str, ports: Sequence[str]) -> None:
        self.frames: list[bytes] = []
        self._bytes, self._over = 0, False
        self._sockets = inside(netns, lambda: [_listening(port) for port in ports])
        self._ended, self._end = socket.socketpair()
        self._thread = threading.Thread(target=self._read, name="frames")
        self._thread.start()
        self._unheard = 0

    def close(self) -> None:
        """Take what is still queued, then stop."""
        self._end.close()
        self._thread.join()
        for each in self._sockets:
            _, dropped = struct.unpack("II", each.getsockopt(SOL_PACKET, PACKET_STATISTICS, 8))
            self._unheard += dropped
            each.close()
        self._ended.close()

    def _read(self) -> None:
        while self._ended not in select.select([*self._sockets, self._ended], [], [])[0]:
            self._take()
        self._take()

    def _take(self) -> None:
        for each in self._sockets:
            try:
                while True:
                    self._keep(each.recv(FRAME_BYTES_MAX))
            except BlockingIOError:
                continue

    def _keep(self, frame: bytes) -> None:
        if self._bytes + len(frame) > BYTES_MAX:
            self._over = True
            return
        self._bytes += len(frame)
        self.frames.append(frame)

    @property
    def complete(self) -> bool:
        """That no frame was missed; known once the capture has ended."""
        return not self._over and self._unheard == 0 and not self._thread.is_alive()

    def holding(self, text: bytes) -> list[bytes]:
        return [frame for frame in self.frames if text in frame]


def _listening(port: str) -> socket.socket:
    sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)  # 0: hears nothing until it is bound
    sock.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
    sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, BUFFER_BYTES)
    sock.bind((port, ETH_P_ALL))
    sock.setblocking(False)
    return sock
