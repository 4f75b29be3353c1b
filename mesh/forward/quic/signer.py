"""Signatures for our handshakes, asked of the signer: by number, answered later.

While there is none, or another one comes, who waits goes on waiting, and is asked for again: its handshake has a limit.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable
from itertools import count

from mesh.forward.signing import protocol

log = logging.getLogger("seine.quic")
Answer = Callable[[bytes], None]
WAITING_MAX = 200  # so many requests fit the socket's buffer of 208 KiB; handshakes at once have a limit well below


class Signer:
    """`key_of`: what the signer calls the key of an identity; empty: there is none."""

    def __init__(self, key_of: Callable[[str], bytes]) -> None:
        self._key_of = key_of
        self._tickets = count(1)
        self._waiting: dict[int, tuple[bytes, Answer]] = {}  # as it is asked, and who waits
        self._sock: socket.socket | None = None

    def meet(self, sock: socket.socket) -> None:
        """A connected socket to the signer, ours from here on, in place of the one before."""
        self.close()
        sock.setblocking(False)
        self._sock = sock
        asyncio.get_running_loop().add_reader(sock.fileno(), self._hear)
        for request, _ in list(self._waiting.values()):
            self._ask(request)

    def close(self) -> None:
        if self._sock is not None:
            asyncio.get_running_loop().remove_reader(self._sock.fileno())
            self._sock.close()
            self._sock = None

    def sign(self, identity: str, content: bytes, answer: Answer) -> None:
        """`answer` is called once; with nothing when it is refused."""
        key = self._key_of(identity)
        if not key or len(self._waiting) >= WAITING_MAX:
            answer(b"")
            return
        ticket = next(self._tickets)
        request = protocol.request(ticket, key, content)
        self._waiting[ticket] = request, answer
        self._ask(request)

    def _ask(self, request: bytes) -> None:
        try:
            if self._sock is not None:
                self._sock.send(request)
        except OSError as error:
            self._lose(error.strerror or "it takes no more")

    def _hear(self) -> None:
        assert self._sock is not None
        try:
            packet = self._sock.recv(protocol.ANSWER_BYTES + 1)
        except BlockingIOError:
            return
        except OSError as error:
            self._lose(error.strerror or "it is gone")
            return
        found = protocol.read_answer(packet)
        if found is None:
            self._lose("it is gone" if not packet else "it said what is no answer")
        elif (waiting := self._waiting.pop(found.ticket, None)) is not None:
            waiting[1](found.signature)

    def _lose(self, why: str) -> None:
        log.warning("the signer: %s; handshakes wait for another one", why)
        self.close()
