"""Who knocks at a listening Unix socket: each visitor is a task, and the kernel says who he is.

When nobody can be let in, because no descriptor is free, the door stays shut for a moment: visitors wait in the
socket's queue, and the loop, to which such a socket is readable all the time, does not spin.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import struct
from collections.abc import Callable, Coroutine
from typing import NamedTuple

SHUT_SECONDS = 1.0  # after an accept that failed
_PEER = struct.Struct("3i")  # struct ucred, unix(7)


class Peer(NamedTuple):
    """As the kernel tells it here."""

    pid: int
    uid: int


Receive = Callable[[socket.socket, Peer], Coroutine[None, None, None] | None]


class Doorway:
    """`receive` gives what is to be done for a visitor, whose socket is its own then; None: he is turned away.

    `who`: what visitors are called in the log. The listener is closed with the door.
    """

    def __init__(self, listener: socket.socket, receive: Receive, log: logging.Logger, who: str) -> None:
        listener.setblocking(False)
        self._listener, self._receive, self._log, self._who = listener, receive, log, who
        self._loop = asyncio.get_running_loop()
        self.visits: set[asyncio.Task[None]] = set()

    def open(self) -> None:
        if self._listener.fileno() >= 0:
            self._loop.add_reader(self._listener.fileno(), self._accept)

    def _accept(self) -> None:
        try:
            sock, _ = self._listener.accept()
        except BlockingIOError:  # he is gone already
            return
        except OSError as error:
            self._log.error("%s cannot come in: %s", self._who, error.strerror)
            self._loop.remove_reader(self._listener.fileno())
            self._loop.call_later(SHUT_SECONDS, self.open)
            return
        pid, uid, _ = _PEER.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size))
        work = self._receive(sock, Peer(pid, uid))
        if work is None:
            sock.close()
            return
        visit = self._loop.create_task(work)
        self.visits.add(visit)
        visit.add_done_callback(self.visits.discard)

    def close(self) -> None:
        """Nobody listens from now on, and visits are cancelled."""
        if self._listener.fileno() >= 0:
            self._loop.remove_reader(self._listener.fileno())
            self._listener.close()
        for visit in self.visits:
            visit.cancel()
