"""The socket that the plugin asks: one question and one answer per connection. The layout is in cext/cni/ask.h.

Only root may knock. Whoever is slow, says too much or nonsense gets no answer, which the plugin takes for an agent that
is away; the others do not notice. The pod's namespace comes as a descriptor with the first bytes, and is the
answerer's until the answer was given.
"""

from __future__ import annotations

import array
import asyncio
import logging
import os
import socket
import struct
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path

from mesh.aio.doorway import Doorway, Peer
from mesh.cni.question import QUESTION_BYTES_MAX, BadQuestion, Question, read

log = logging.getLogger("seine.cni")
QUESTION_SECONDS = 2.0  # to be asked; a plugin writes it at once
WAITING_MAX = 256  # a node has 110 pods, and they do not all start in 5 s
SENTENCE_BYTES_MAX = 500  # SENTENCE_BYTES of ask.h, less the sign and the end
_LENGTH = struct.Struct("=I")

Answer = Callable[[Question, int], Awaitable[str]]


class Door:
    """`answer`: a sentence why the pod must not start, "" if it may. It gets the namespace's descriptor."""

    def __init__(self, path: Path, answer: Answer) -> None:
        self._path, self._answer = path, answer
        self._doorway: Doorway | None = None
        self.refused: Counter[str] = Counter()  # by reason, those who got no answer

    def open(self) -> None:
        self._path.unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.bind(str(self._path))
        self._path.chmod(0o600)
        listener.listen(64)
        self._doorway = Doorway(listener, self._receive, log, "a CNI plugin")
        self._doorway.open()

    async def close(self) -> None:
        """Nobody listens from now on, so that the next plugin knows at once that the agent is away."""
        if self._doorway is not None:
            self._doorway.close()
            await asyncio.gather(*self._doorway.visits, return_exceptions=True)

    def _receive(self, sock: socket.socket, peer: Peer) -> Coroutine[None, None, None] | None:
        assert self._doorway is not None
        reason = "stranger" if peer.uid != 0 else "crowd" if len(self._doorway.visits) >= WAITING_MAX else ""
        if reason:
            self.refused[reason] += 1
            return None
        sock.setblocking(False)
        return self._talk(sock)

    async def _talk(self, sock: socket.socket) -> None:
        descriptors: list[int] = []
        try:
            async with asyncio.timeout(QUESTION_SECONDS):
                question = read(await _receive(sock, descriptors))
            if len(descriptors) != 1:
                raise BadQuestion(f"it came with {len(descriptors)} descriptors instead of one")
            sentence = await self._answer(question, descriptors[0])
            said = b"-" + sentence.encode("ascii", "replace")[:SENTENCE_BYTES_MAX] if sentence else b"+"
            await asyncio.get_running_loop().sock_sendall(sock, said)
        except BadQuestion as error:
            self.refused["nonsense"] += 1
            log.error("a CNI plugin's question is not understood: %s", error)
        except TimeoutError:
            self.refused["slow"] += 1
        except OSError:  # the plugin has given up meanwhile
            self.refused["gone"] += 1
        finally:
            for fd in descriptors:
                os.close(fd)
            sock.close()


async def _receive(sock: socket.socket, descriptors: list[int]) -> bytes:
    """The question; descriptors that come with it are the caller's to close. Raises BadQuestion and OSError."""
    loop = asyncio.get_running_loop()
    head = await _first(sock, descriptors)
    while len(head) < _LENGTH.size:
        head += await _some(loop, sock, _LENGTH.size - len(head))
    (length,) = _LENGTH.unpack(head)
    if length > QUESTION_BYTES_MAX:
        raise BadQuestion(f"it has {length} bytes, and more than {QUESTION_BYTES_MAX} are not read")
    parts, left = [], length
    while left:
        parts.append(await _some(loop, sock, left))
        left -= len(parts[-1])
    return b"".join(parts)


async def _some(loop: asyncio.AbstractEventLoop, sock: socket.socket, most: int) -> bytes:
    if not (data := await loop.sock_recv(sock, most)):
        raise BadQuestion("it ends in the middle")
    return data


async def _first(sock: socket.socket, descriptors: list[int]) -> bytes:
    """Of the length, with what descriptors came along."""
    loop, arrived = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(sock, arrived.set)
    try:
        await arrived.wait()
    finally:
        loop.remove_reader(sock)
    room = socket.CMSG_SPACE(4 * array.array("i").itemsize)
    data, extra, _, _ = sock.recvmsg(_LENGTH.size, room, socket.MSG_CMSG_CLOEXEC)
    for level, kind, content in extra:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            numbers = array.array("i")
            numbers.frombytes(content[: len(content) - len(content) % numbers.itemsize])
            descriptors.extend(numbers)
    if not data:
        raise BadQuestion("it is empty")
    return data
