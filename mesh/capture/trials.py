"""Kernel features tried in earnest, in a throw-away cgroup and network namespace where they concern nobody.

The programs are the real ones: compiled as the agent does, loaded, attached by links. A feature counts when its effect
is seen (an address noted on a socket, an errno chosen by a program), not when its name is known.
Invariant: everything hangs on one ExitStack; the cgroup's name begins with a dot, which no node's can.
"""

from __future__ import annotations

import asyncio
import errno
import mmap
import os
import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path

from mesh.capture import shortcut_trial
from mesh.capture._bpf import lib
from mesh.capture.compile import Compiled, compiled
from mesh.capture.generation import fresh_maps
from mesh.capture.kernel import SEINE_SOL, SEINE_TRUE_CLIENT, SOURCE, relocated
from mesh.capture.objects import KernelError, check
from mesh.capture.pins import cgroup2_root
from mesh.capture.programs import FIXED_HOOKS, POD_HOOK, ROOT_HOOKS, Hook, load, patch_slot, relocate
from mesh.capture.sockets import SocketFactory
from mesh.model import Value
from mesh.node import netlink, netns, sockdiag

PURPOSE = {  # hook -> what cannot be without it
    "connect4": "outbound IPv4 connections cannot be captured",
    "connect6": "outbound IPv6 connections cannot be captured",
    "getpeername4": "applications would see Seine's address instead of their IPv4 peer's",
    "getpeername6": "applications would see Seine's address instead of their IPv6 peer's",
    "getsockname4": "workers could not learn where an IPv4 connection was meant to go",
    "getsockname6": "workers could not learn where an IPv6 connection was meant to go",
    "sockops": "what is known of a connection could not reach its accepting side",
    "sock_create": "Seine could not tell its own connections from applications'",
    "set_sockopt": "applications could not be shown their true client",
    "sk_lookup": "inbound connections cannot be captured",
}
# r1 = -ECONNREFUSED; bpf_set_retval(r1); r0 = 0; exit
REFUSE = struct.pack("<" + "BBhi" * 4, 0xB7, 1, 0, -errno.ECONNREFUSED, 0x85, 0, 0, 187, 0xB7, 0, 0, 0, 0x95, 0, 0, 0)
REFUSE_HOOK = Hook("refuse", lib.BPF_PROG_TYPE_CGROUP_SOCK_ADDR, lib.BPF_CGROUP_INET4_CONNECT)


class Probe(Value, frozen=True):
    """`hint`: when not ok, a sentence on what is wrong and what to do. Not `required`: Seine works without it."""

    name: str
    ok: bool
    hint: str = ""
    required: bool = True


def tried(name: str, hint: str, attempt: Callable[[], object]) -> Probe:
    """A probe that is good when the attempt raises nothing."""
    try:
        attempt()
    except (OSError, KernelError) as error:
        return Probe(name=name, ok=False, hint=f"{getattr(error, 'strerror', None) or error}; {hint}")
    return Probe(name=name, ok=True)


def probes() -> Iterator[Probe]:
    """Everything that has to be tried, in the order of need; needs root. Not from a running event loop."""
    with ExitStack() as undo:
        place = Place(undo)
        yield tried("cgroup can be made at the root of cgroup2", "Seine's own sockets are made in one", place.cgroup)
        yield tried("network namespace can be made and entered", "pods are network namespaces", place.namespace)
        yield tried(
            "BPF programs compile", "the package is python3-bpfcc; linux-libc-dev has the headers", place.compile
        )
        if not place.complete:
            return
        yield tried("BPF array can be mapped into memory", "workers could show no sign of life", place.map_heartbeat)
        for hook in (*ROOT_HOOKS, *FIXED_HOOKS, POD_HOOK):
            hint = f"without it {PURPOSE[hook.name]}"
            yield tried(f"BPF hook {hook.name} loads and attaches", hint, partial(place.attach, hook))
        yield place.shortcut()
        yield tried(
            "sockets are made in a cgroup and handed over", "Seine dials through such sockets", place.make_sockets
        )
        if place.sockets:
            yield from _socket_probes(place)


def _socket_probes(place: Place) -> Iterator[Probe]:
    noted, listed, refused = place.sockets
    yield tried("BPF programs keep notes on sockets", PURPOSE["set_sockopt"], lambda: note(noted))
    hint = "connections that bypass the mesh could not be told from Seine's own"
    yield tried(
        "kernel tells a socket's cgroup (sock_diag)", hint, lambda: find_cgroup(listed, place.path.stat().st_ino)
    )
    hint = "a Service without endpoints could not be refused (bpf_set_retval, Linux 5.18)"
    yield tried("BPF program chooses the error of connect", hint, lambda: place.refuse(refused))
    hint = "connections older than a pod's enrolment could not be ended (CONFIG_INET_DIAG_DESTROY)"
    ending = tried("connection can be ended from outside (SOCK_DESTROY)", hint, end_connection)
    yield Probe(name=ending.name, ok=ending.ok, hint=ending.hint, required=False)


class Place:
    """Where things are tried. Each method is one attempt and raises OSError or KernelError with the reason."""

    def __init__(self, undo: ExitStack) -> None:
        self._undo = undo
        self.path = Path()
        self.sockets: list[socket.socket] = []
        self._cgroup_fd = self._netns_fd = -1
        self._compiled: Compiled | None = None

    @property
    def complete(self) -> bool:
        return self._cgroup_fd >= 0 and self._netns_fd >= 0 and self._compiled is not None

    def cgroup(self) -> None:
        root = cgroup2_root()
        for dead in root.glob(".seine-check-*"):
            if not Path("/proc", dead.name.rpartition("-")[2]).exists():  # a check that was killed
                with suppress(OSError):
                    dead.rmdir()
        self.path = root / f".seine-check-{os.getpid()}"
        self.path.mkdir()
        self._undo.callback(self.path.rmdir)
        self._cgroup_fd = self._keep(os.open(self.path, os.O_RDONLY | os.O_CLOEXEC))

    def namespace(self) -> None:
        self._netns_fd = self._keep(netns.make())
        netns.cookie(f"/proc/self/fd/{self._netns_fd}")

    def compile(self) -> None:
        self._compiled = compiled(SOURCE)
        for _, descriptor in self._compiled.maps.values():
            self._keep(descriptor)

    def map_heartbeat(self) -> None:
        assert self._compiled is not None
        mmap.mmap(self._compiled.maps["heartbeat"][1], mmap.PAGESIZE).close()

    def attach(self, hook: Hook) -> None:
        assert self._compiled is not None
        code = relocate(self._compiled.code[hook.name], dict(self._compiled.maps.values()))
        target = self._cgroup_fd
        if hook is POD_HOOK:
            code, target = patch_slot(code, 0), self._netns_fd
        self._attach(hook, code, target)

    def make_sockets(self) -> None:
        async def make() -> list[int]:
            factory = SocketFactory()
            try:
                await factory.start(self.path)
                return await factory.sockets("/proc/self/ns/net", socket.AF_INET, 3)
            finally:
                await factory.close()

        self.sockets = [self._undo.enter_context(socket.socket(fileno=fd)) for fd in asyncio.run(make())]

    def shortcut(self) -> Probe:
        assert self._compiled is not None
        maps = fresh_maps(self._compiled.maps)
        found = shortcut_trial.problem(relocated(self._compiled, maps), maps, self.path.parent)
        hint = f"{found}; pods that ask for the short-cut would use TCP" if found else ""
        return Probe(name="kernel short-cut carries bytes intact (sk_msg)", ok=not found, hint=hint, required=False)

    def refuse(self, sock: socket.socket) -> None:
        self._attach(REFUSE_HOOK, REFUSE, self._cgroup_fd)
        sock.setblocking(True)
        with socket.create_server(("127.0.0.1", 0)) as server, suppress(ConnectionRefusedError):
            sock.connect(server.getsockname())
            raise OSError(errno.ENOTSUP, "the connection was made although the program refused it")

    def _attach(self, hook: Hook, code: bytes, target: int) -> None:
        program = self._keep(load(hook, code))
        self._keep(check(lib.bpf_attach(program, target, hook.attach), f"cannot attach {hook.name}"))

    def _keep(self, descriptor: int) -> int:
        """Open until the end: a link that nobody holds detaches its program."""
        self._undo.callback(os.close, descriptor)
        return descriptor


def note(sock: socket.socket) -> None:
    """The private socket option is answered by our program, which finds the socket's storage and writes to it."""
    client = struct.pack("=HHI16sI", socket.AF_INET6, 1, 0, bytes(16), 0)
    sock.setsockopt(SEINE_SOL, SEINE_TRUE_CLIENT, client)


def find_cgroup(sock: socket.socket, cgroup: int) -> None:
    sock.bind(("127.0.0.1", 0))
    sock.listen(1)
    port = sock.getsockname()[1]
    with netlink.open_socket(sockdiag.NETLINK_SOCK_DIAG) as diag:
        found = [one.cgroup_id for one in sockdiag.connections(diag, sockdiag.LISTEN) if one.local_port == port]
    if found != [cgroup]:
        raise OSError(errno.ENOTSUP, f"the kernel says {found} instead of {cgroup}")


def end_connection() -> None:
    """A connection of our own over loopback."""
    with ExitStack() as undo:
        server = undo.enter_context(socket.create_server(("127.0.0.1", 0)))
        client = undo.enter_context(socket.create_connection(server.getsockname()))
        undo.enter_context(server.accept()[0])
        diag = undo.enter_context(netlink.open_socket(sockdiag.NETLINK_SOCK_DIAG))
        mine = client.getsockname()[1]
        for one in sockdiag.connections(diag, sockdiag.ESTABLISHED):
            if (one.local_port, one.peer_port) == (mine, server.getsockname()[1]):
                break
        else:
            raise OSError(errno.ENOENT, "the kernel does not list a connection that exists")
        sockdiag.destroy(diag, one)
        client.settimeout(1)
        with suppress(ConnectionAbortedError):
            client.recv(1)
            raise OSError(errno.ENOTSUP, "the connection goes on")
