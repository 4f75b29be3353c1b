"""Agents for the plugin to ask, good ones and others: a socket in a thread that answers as it is told."""

from __future__ import annotations

import array
import os
import socket
import struct
import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

Answer = Callable[[socket.socket], object]


class Agent:
    """`asked`: the questions so far; `namespaces`: inodes of what came with them."""

    def __init__(self, path: Path, answer: bytes | Answer) -> None:
        self.asked: list[bytes] = []
        self.namespaces: list[int] = []
        self._answer = answer
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen(4)
        self._thread = threading.Thread(target=self._serve)

    def __enter__(self) -> Agent:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listener.close()

    def _serve(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            with sock:
                if callable(self._answer):
                    self._answer(sock)
                else:
                    self._converse(sock, self._answer)

    def _converse(self, sock: socket.socket, answer: bytes) -> None:
        head, extra, _, _ = sock.recvmsg(4, socket.CMSG_SPACE(4))
        (fd,) = array.array("i", extra[0][2])
        self.namespaces.append(os.fstat(fd).st_ino)
        os.close(fd)
        left, parts = struct.unpack("=I", head)[0], []
        while left:
            parts.append(sock.recv(left))
            left -= len(parts[-1])
        self.asked.append(b"".join(parts))
        sock.sendall(answer)
