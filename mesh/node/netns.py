"""Network namespaces by path: who they are, what is in them, and how to do an errand inside.

A namespace's *cookie* is never used again while the machine runs; its inode may be, and its path may come to mean
another namespace at any time. So the cookie is the identity, and path plus inode say whether it is still there.
Invariant: no thread that goes on living ever changes its namespace; errands run in a thread of their own.
Source: setns(2), SO_NETNS_COOKIE (Linux 5.14), rtnetlink(7).
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import ipaddress
import os
import socket
import struct
import threading
from collections.abc import Callable
from typing import TypeVar

from mesh.node import netlink

T = TypeVar("T")

CLONE_NEWNET = 0x40000000
SO_NETNS_COOKIE = 71
RTM_NEWLINK = 16
RTM_GETADDR = 22
IFF_UP = 1
LOOPBACK = 1  # the index of `lo`, the first interface of every namespace
IFA_ADDRESS = 1
IFA_LOCAL = 2
_IFADDRMSG = struct.Struct("=BBBBI")  # family, prefix length, flags, scope, interface
_IFINFOMSG = struct.Struct("=BxHiII")  # family, type, interface, flags, which flags to change
_HOSTS = ("/proc/1/ns/net", "/proc/self/ns/net")  # the machine's, and the agent's own when that differs

_libc = ctypes.CDLL(None, use_errno=True)


def make() -> int:
    """A descriptor of a new, empty namespace, which is gone with its last descriptor. Raises OSError."""

    def leave() -> int:
        if _libc.unshare(CLONE_NEWNET) != 0:
            number = ctypes.get_errno()
            raise OSError(number, f"no network namespace can be made: {os.strerror(number)}")
        return os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)

    return _in_a_thread(leave)


def enter(path: str) -> None:
    """Move the calling thread for good. Only for threads and children that end after their errand. Raises OSError."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise OSError(error.errno, f"the network namespace {path} cannot be opened: {error.strerror}") from None
    try:
        if _libc.setns(fd, CLONE_NEWNET) != 0:
            number = ctypes.get_errno()
            reason = "it is no network namespace" if number == errno.EINVAL else os.strerror(number)
            raise OSError(number, f"the network namespace {path} cannot be entered: {reason}")
    finally:
        os.close(fd)


def inside(path: str, errand: Callable[[], T]) -> T:
    """The result of a short errand run in a thread that has entered the namespace; its exception is raised here."""

    def visit() -> T:
        enter(path)
        return errand()

    return _in_a_thread(visit)


def _in_a_thread(errand: Callable[[], T]) -> T:
    results: list[T] = []
    failures: list[Exception] = []

    def body() -> None:
        try:
            results.append(errand())
        except Exception as failure:  # noqa: BLE001 (raised again in the caller, whatever it is)
            failures.append(failure)

    thread = threading.Thread(target=body, name="netns")
    thread.start()
    thread.join()
    if failures:
        raise failures[0]
    return results[0]


def loopback_up() -> None:
    """Switch on `lo` of the calling thread's namespace: a new one has it down. Raises OSError."""
    body = _IFINFOMSG.pack(socket.AF_UNSPEC, 0, LOOPBACK, IFF_UP, IFF_UP)
    with netlink.open_socket(socket.NETLINK_ROUTE) as sock:
        list(netlink.request(sock, RTM_NEWLINK, netlink.NLM_F_ACK, body))


def cookie(path: str) -> int:
    """The namespace's identity in this kernel's life; what bpf_get_netns_cookie answers. Raises OSError."""
    return inside(path, own_cookie)


def own_cookie() -> int:
    """The cookie of the calling thread's namespace."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        (value,) = struct.unpack("Q", sock.getsockopt(socket.SOL_SOCKET, SO_NETNS_COOKIE, 8))
    return int(value)


def inode(path: str) -> int:
    """Which namespace the path means now; unique among the living ones. Raises OSError."""
    try:
        return os.stat(path).st_ino
    except OSError as error:
        raise OSError(error.errno, f"the network namespace {path} cannot be opened: {error.strerror}") from None


def is_host(path: str) -> bool:
    """True for the machine's namespace and the agent's own: all host-network pods share it, so it is never enrolled."""
    hosts = set()
    for host in _HOSTS:
        with contextlib.suppress(PermissionError):  # some sandboxes hide process 1; the agent's own is the host's there
            hosts.add(inode(host))
    return inode(path) in hosts


def gone(path: str, was: int) -> bool:
    """True when the path has vanished, or means another namespace than the one with inode `was`."""
    try:
        return inode(path) != was
    except OSError:
        return True


def addresses(path: str) -> tuple[str, ...]:
    """The addresses of a namespace's interfaces, loopback's too, in canonical text. Raises OSError."""
    return inside(path, own_addresses)


def own_addresses() -> tuple[str, ...]:
    """The addresses of the calling thread's namespace."""
    found: set[str] = set()
    with netlink.open_socket(socket.NETLINK_ROUTE) as sock:
        for body in netlink.request(sock, RTM_GETADDR, netlink.NLM_F_DUMP, _IFADDRMSG.pack(0, 0, 0, 0, 0)):
            values = netlink.attributes(body, _IFADDRMSG.size)
            raw = values.get(IFA_LOCAL) or values.get(IFA_ADDRESS)  # IPv6 has only the second
            if raw:
                found.add(str(ipaddress.ip_address(raw)))
    return tuple(sorted(found))
