"""Sockets made inside pods: listeners for the two directions, and unconnected ones for dialling.

The work is done by `mesh/capture/helper.py`, a small process in the fixed cgroup (which makes every socket ours for
BPF); here are the questions to it. They are pipelined, and answered in order. When the helper dies it is started again
by the next question; a question that its death interrupted is asked once more, then fails with a sentence.
Invariant: every descriptor that arrives is returned to exactly one caller or closed, also when the caller has left.
Source: unix(7): SOCK_SEQPACKET keeps datagrams whole, SCM_RIGHTS carries the sockets.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
import subprocess
import sys
from array import array
from collections.abc import Iterable
from pathlib import Path

from mesh.capture import helper
from mesh.config import INBOUND_PORT, OUTBOUND_PORT
from mesh.node import sockdiag

PROBES_MAX = 16  # processes at once; each may hang in a frozen cgroup for seconds, and must not keep sockets waiting
QUESTIONS_MAX = 64  # unanswered at once: their datagrams fit into the socket's default buffer (212 KiB) many times
ANSWER_BYTES_MAX = 4096
_RIGHTS_BYTES = socket.CMSG_SPACE(helper.SOCKETS_MAX * 4)


class HelperDiedError(OSError):
    """The helper process ended before it answered."""

    def __init__(self) -> None:
        super().__init__(errno.EPIPE, "the helper process that makes sockets in pods died")


class SocketFactory:
    """Owns the helper process. `start` first; every other call may raise OSError, whose strerror is a sentence."""

    def __init__(self) -> None:
        self.cgroup = Path()  # the fixed cgroup; what the helper makes belongs to it
        self._process: subprocess.Popen[bytes] | None = None
        self._wire: socket.socket | None = None
        self._questions: dict[int, asyncio.Future[tuple[str, list[int]]]] = {}
        self._last = 0
        self._closed = False
        self._starting = asyncio.Lock()
        self._turn = asyncio.Semaphore(QUESTIONS_MAX)
        self._probe_turn = asyncio.Semaphore(PROBES_MAX)

    async def start(self, cgroup: Path) -> None:
        """Start the helper in `cgroup`, a cgroup2 directory without children."""
        self.cgroup = cgroup
        await self._ready()

    @property
    def pid(self) -> int:
        """The helper's process id; 0 while there is none."""
        return self._process.pid if self._process else 0

    async def listeners(self, netns: str) -> tuple[int, int]:
        """The outbound and the inbound listener of a pod: non-blocking, both families."""
        made: list[int] = []
        try:
            for port in (OUTBOUND_PORT, INBOUND_PORT):
                made += (await self._ask(helper.LISTEN, 0, port, (netns,)))[1]
        except OSError as error:
            _close_all(made)
            raise _explained(error, netns, self.cgroup) from None
        except BaseException:
            _close_all(made)
            raise
        return made[0], made[1]

    async def sockets(self, netns: str, family: int, count: int) -> list[int]:
        """`count` unconnected TCP sockets of AF_INET or AF_INET6: non-blocking, TCP_NODELAY. All or an error."""
        made: list[int] = []
        try:
            while len(made) < count:
                batch = min(helper.SOCKETS_MAX, count - len(made))
                made += (await self._ask(helper.SOCKETS, family, batch, (netns,)))[1]
        except BaseException:
            _close_all(made)
            raise
        return made

    async def converse(self, cgroup: str, netns: str, port: int, addresses: Iterable[str]) -> list[str]:
        """What a process in that cgroup and namespace hears from port `port` of each address.

        One word and a text for each: "heard GREETING"; "silent REASON": connected, then nothing; "refused REASON":
        not connected; "untried REASON": no socket to try with.
        """
        tried = list(addresses)
        async with self._probe_turn:
            text, _ = await self._insist(helper.PROBE, 0, port, (cgroup, netns, *tried))
        return text.split("\n")

    async def close(self) -> None:
        """End the helper for good. The sockets it made live on."""
        self._closed = True
        self._lost()

    async def _ask(self, kind: int, family: int, number: int, words: tuple[str, ...]) -> tuple[str, list[int]]:
        async with self._turn:
            return await self._insist(kind, family, number, words)

    async def _insist(self, kind: int, family: int, number: int, words: tuple[str, ...]) -> tuple[str, list[int]]:
        try:
            await self._ready()
            return await self._exchange(kind, family, number, words)
        except HelperDiedError:
            await self._ready()
            return await self._exchange(kind, family, number, words)

    async def _exchange(self, kind: int, family: int, number: int, words: tuple[str, ...]) -> tuple[str, list[int]]:
        if self._wire is None:
            raise HelperDiedError
        self._last = key = (self._last + 1) & 0xFFFFFFFF
        future: asyncio.Future[tuple[str, list[int]]] = asyncio.get_running_loop().create_future()
        self._questions[key] = future
        try:
            self._wire.send(helper.REQUEST.pack(key, kind, family, number) + b"".join(map(_word, words)))
            return await future
        except (BrokenPipeError, ConnectionResetError):
            self._lost()
            raise HelperDiedError from None
        except asyncio.CancelledError:
            if future.done() and not future.cancelled() and future.exception() is None:
                _close_all(future.result()[1])
            raise
        finally:
            self._questions.pop(key, None)

    async def _ready(self) -> None:
        if self._closed:
            raise OSError(errno.ESHUTDOWN, "the agent ends and makes no more sockets")
        async with self._starting:
            if self._wire is None:
                self._spawn()
                try:
                    await self._exchange(helper.JOIN, 0, 0, (str(self.cgroup),))
                except BaseException:
                    self._lost()
                    raise

    def _spawn(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            command = [sys.executable, "-I", "-S", helper.__file__, str(theirs.fileno())]
            # A process group of its own: Ctrl-C at the agent's terminal must not end it before the agent.
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, pass_fds=[theirs.fileno()], process_group=0
            )
        ours.setblocking(False)
        self._wire = ours
        asyncio.get_running_loop().add_reader(ours.fileno(), self._read)

    def _read(self) -> None:
        assert self._wire is not None
        try:
            data, rights, _, _ = self._wire.recvmsg(ANSWER_BYTES_MAX, _RIGHTS_BYTES, socket.MSG_CMSG_CLOEXEC)
        except BlockingIOError:
            return
        except OSError:
            data, rights = b"", []
        if data:
            self._answered(data, _descriptors(rights))
        else:
            self._lost()

    def _answered(self, data: bytes, made: list[int]) -> None:
        key, number, count = helper.ANSWER.unpack_from(data)
        text = data[helper.ANSWER.size :].decode(errors="replace")
        future = self._questions.get(key)
        if future is None or future.done():
            _close_all(made)  # whoever asked has left
        elif number:
            future.set_exception(OSError(number, text))
        elif len(made) != count:  # the kernel drops what finds no free descriptor
            _close_all(made)
            future.set_exception(OSError(errno.EMFILE, "the agent has no free file descriptors (limit RLIMIT_NOFILE)"))
        else:
            future.set_result((text, made))

    def _lost(self) -> None:
        """End what is left of the helper; whoever waits for it is told."""
        if self._wire is not None:
            asyncio.get_running_loop().remove_reader(self._wire.fileno())
            self._wire.close()
            self._wire = None
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
        for future in self._questions.values():
            if not future.done():
                future.set_exception(HelperDiedError())


def _word(word: str) -> bytes:
    return os.fsencode(word) + b"\0"


def _descriptors(ancillary: list[tuple[int, int, bytes]]) -> list[int]:
    numbers = array("i")
    for level, kind, data in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            numbers.frombytes(data[: len(data) - len(data) % numbers.itemsize])
    return numbers.tolist()


def _close_all(descriptors: Iterable[int]) -> None:
    for fd in descriptors:
        with contextlib.suppress(OSError):
            os.close(fd)


def _explained(error: OSError, netns: str, cgroup: Path) -> OSError:
    """What an operator can do about a listener that cannot be made."""
    if error.errno != errno.EADDRINUSE:
        return error
    place = f"{error.strerror}: in the pod's network namespace it is taken by"
    if _ours_listens(netns, cgroup):
        return OSError(error.errno, f"{place} a worker of this node, which must hand its listener back first")
    reason = "the application, or by an agent of another node name; the pod cannot be captured meanwhile"
    return OSError(error.errno, f"{place} {reason}")


def _ours_listens(netns: str, cgroup: Path) -> bool:
    try:
        ours = cgroup.stat().st_ino
        with sockdiag.open_inside(netns) as sock:
            return any(one.cgroup_id == ours for one in sockdiag.connections(sock, sockdiag.LISTEN))
    except OSError:
        return False  # only the wording of another error depends on it
