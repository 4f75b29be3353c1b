"""The agent's small helper process: makes sockets inside pods, and forks the probes that prove capture.

A script, started by path with `python -I -S` and one descriptor: it imports four modules of the standard library and
nothing of ours, because its memory counts (7 MiB; asyncio alone would add 10). For BPF a socket belongs for life to the
cgroup of the process that created it: that is why sockets are made here, in the fixed cgroup, and handed over.

Rules: requests are answered in order, one datagram each; a probe answers out of order, from a process of its own that
has joined the pod's cgroup, so that a pod's freezer, limits and OOM killer never reach the helper. Single-threaded:
it goes home to its own network namespace after every request. It ends with the agent (end of file, PDEATHSIG).
Source: unix(7) SCM_RIGHTS, setns(2), prctl(2), cgroups(7). `_socket` and `_signal` are what `socket` and `signal` wrap
(1 MiB of enumerations less).
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import _socket as socket
import ctypes
import errno
import os
import struct
import sys

TYPE_CHECKING = False  # mypy takes the name's word; importing typing would cost a MiB
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    T = TypeVar("T")

# Requests: id, kind, family, number (count of sockets or port); then arguments that end with NUL each.
REQUEST = struct.Struct("=IBBH")
# Answers: id, errno (0: good), sockets attached; then a text. Sockets travel as SCM_RIGHTS.
ANSWER = struct.Struct("=IiH")
JOIN, SOCKETS, LISTEN, PROBE = 1, 2, 3, 4
DATAGRAM_BYTES_MAX = 16384  # two paths of PATH_MAX and some addresses
SOCKETS_MAX = 64  # in one answer; the kernel allows 253 (SCM_MAX_FD)
BACKLOG = 4096  # waiting connections of a pod and direction; the kernel caps it at net.core.somaxconn
PROBE_SECONDS = 1.0  # for each address: loopback answers in microseconds, a hung worker never
PROBE_LIFE_SECONDS = 3  # SIGALRM ends a probe that its cgroup's freezer holds
GREETING_BYTES_MAX = 128

CLONE_NEWNET = 0x40000000
PR_SET_PDEATHSIG = 1

libc = ctypes.CDLL(None, use_errno=True)


class SpokenError(OSError):
    """An error that has its sentence already."""


def attempt(what: str, function: Callable[..., T], *arguments: object) -> T:
    try:
        return function(*arguments)
    except OSError as error:
        raise SpokenError(error.errno, f"{what}: {error.strerror}") from None


def enter(fd: int, what: str) -> None:
    if libc.setns(fd, CLONE_NEWNET) != 0:
        number = ctypes.get_errno()
        raise SpokenError(number, f"the network namespace {what} cannot be entered: {os.strerror(number)}")


def visit(netns: str) -> None:
    """Enter the namespace at a path."""
    fd = attempt(f"the network namespace {netns} cannot be opened", os.open, netns, os.O_RDONLY | os.O_CLOEXEC)
    try:
        enter(fd, netns)
    finally:
        os.close(fd)


def join(cgroup: str) -> None:
    fd = attempt(f"the cgroup {cgroup} cannot be opened", os.open, f"{cgroup}/cgroup.procs", os.O_WRONLY | os.O_CLOEXEC)
    try:
        attempt(f"the cgroup {cgroup} cannot be joined", os.write, fd, b"0")
    finally:
        os.close(fd)


def make(family: int, count: int) -> list[socket.socket]:
    """Unconnected TCP sockets, non-blocking, without Nagle's delay."""
    made: list[socket.socket] = []
    try:
        for _ in range(count):
            sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
            made.append(sock)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    except OSError as error:
        for sock in made:
            sock.close()
        raise SpokenError(error.errno, f"no socket can be made: {error.strerror}") from None
    return made


def listen(port: int) -> socket.socket:
    """One listener for both families; for IPv4 alone where the kernel was booted without IPv6."""
    try:
        return listen_at(socket.AF_INET6, "::", port)
    except OSError as error:
        if error.errno not in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL):
            raise
        return listen_at(socket.AF_INET, "0.0.0.0", port)


def listen_at(family: int, address: str, port: int) -> socket.socket:
    sock = make(family, 1)[0]
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # TIME_WAIT of a former listener is no obstacle
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        attempt(f"port {port} cannot be taken", sock.bind, (address, port))
        attempt(f"port {port} cannot be listened on", sock.listen, BACKLOG)
    except OSError:
        sock.close()
        raise
    return sock


def converse(address: str, port: int) -> str:
    """What the peer at an address says first, or the reason why nothing is heard; one line."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    except OSError as error:
        return f"untried {error.strerror}"
    sock.settimeout(PROBE_SECONDS)
    stage = "refused"
    try:
        sock.connect((address, port))
        stage = "silent"
        return "heard " + sock.recv(GREETING_BYTES_MAX).decode("ascii", "replace").strip()
    except OSError as error:  # TimeoutError too
        return f"{stage} {error.strerror or error}"
    finally:
        sock.close()


def probe(wire: socket.socket, number: int, cgroup: str, netns: str, port: int, addresses: list[str]) -> None:
    """In a forked process: become one of the pod's, try the addresses, answer, end."""
    _signal.alarm(PROBE_LIFE_SECONDS)
    try:
        join(cgroup)
        visit(netns)
        lines = [converse(address, port) for address in addresses]
        wire.send(ANSWER.pack(number, 0, 0) + "\n".join(lines).encode())
    except OSError as error:
        wire.send(refusal(number, error))


def refusal(number: int, error: OSError) -> bytes:
    return ANSWER.pack(number, error.errno or errno.EIO, 0) + str(error.strerror or error).encode()


def serve(kind: int, family: int, count: int, words: list[str]) -> list[socket.socket]:
    """The sockets to send with a good answer."""
    if kind == JOIN:
        join(words[0])
        return []
    visit(words[0])
    return make(family, min(count, SOCKETS_MAX)) if kind == SOCKETS else [listen(count)]


def answer(wire: socket.socket, home: int, request: bytes) -> None:
    number, kind, family, count = REQUEST.unpack_from(request)
    words = [os.fsdecode(word) for word in request[REQUEST.size :].split(b"\0")[:-1]]
    if kind == PROBE:
        if os.fork() == 0:
            try:
                probe(wire, number, words[0], words[1], count, words[2:])
            finally:
                os._exit(0)
        return
    made: list[socket.socket] = []
    try:
        made = serve(kind, family, count, words)
        fds = struct.pack(f"{len(made)}i", *[sock.fileno() for sock in made])
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, fds)] if made else []
        wire.sendmsg([ANSWER.pack(number, 0, len(made))], rights)
    except OSError as error:
        wire.send(refusal(number, error))
    finally:
        enter(home, "of the helper")
        for sock in made:
            sock.close()


def main(fd: int) -> None:
    libc.prctl(PR_SET_PDEATHSIG, _signal.SIGKILL, 0, 0, 0)
    _signal.signal(_signal.SIGCHLD, _signal.SIG_IGN)  # the kernel reaps the probes
    wire = socket.socket(fileno=fd)
    home = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        while request := wire.recv(DATAGRAM_BYTES_MAX):
            answer(wire, home, request)
    except (BrokenPipeError, ConnectionResetError):
        pass  # the agent is gone


if __name__ == "__main__":
    main(int(sys.argv[1]))
