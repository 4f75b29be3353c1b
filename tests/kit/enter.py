"""Enter a pod: put the calling process into the pod's cgroup, then into its network namespace.

Rule: this happens before exec and before the first socket, because for BPF a socket belongs for life to the
cgroup and the namespace that its creator was in. `inside` is for the lab's own errands only (netlink, /proc/net):
a thread changes its namespace, never its cgroup, so what it makes does not count as the pod's.
Source: setns(2), cgroups(7); os.setns exists only from Python 3.12.
"""

from __future__ import annotations

import ctypes
import os
import pwd
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


def setns(path: str) -> None:
    """Move the calling thread into the network namespace at `path`."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if _libc.setns(fd, CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), f"cannot enter the network namespace {path}")
    finally:
        os.close(fd)


def enter(cgroup: Path, netns: str, user: pwd.struct_passwd | None = None) -> None:
    """Make the calling process one of the pod's, as `user` when given (root otherwise)."""
    fd = os.open(cgroup / "cgroup.procs", os.O_WRONLY | os.O_CLOEXEC)
    os.write(fd, b"0")
    os.close(fd)
    setns(netns)
    if user is not None:
        os.setgroups([user.pw_gid])
        os.setgid(user.pw_gid)
        os.setuid(user.pw_uid)


def inside(netns: str, errand: Callable[[], T]) -> T:
    """Run a short errand of the lab itself in a thread that has entered the namespace."""
    results: list[T] = []
    failures: list[BaseException] = []

    def body() -> None:
        try:
            setns(netns)
            results.append(errand())
        except BaseException as failure:  # handed to the caller below, whatever it is
            failures.append(failure)

    thread = threading.Thread(target=body)
    thread.start()
    thread.join()
    if failures:
        raise failures[0]
    return results[0]
