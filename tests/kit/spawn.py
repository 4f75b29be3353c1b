"""Processes of a pod: in its cgroup and network namespace from their first instruction, and gone with it.

Every process leads a session of its own and is ended by process group; what escapes that (a daemon) is
ended through the pod's cgroup. Output goes to a file, never to a pipe that could fill and stall a server.
"""

from __future__ import annotations

import os
import pickle
import pwd
import select
import signal
import socket
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from tests.kit.enter import enter

T = TypeVar("T")

STOP_GRACE_S = 3.0  # nginx and PostgreSQL need well under one; then SIGKILL


class Process:
    """A running program with its log (standard output and error together)."""

    def __init__(self, popen: subprocess.Popen[bytes], name: str, log: Path) -> None:
        self.popen = popen
        self.name = name
        self.log = log

    @property
    def pid(self) -> int:
        return self.popen.pid

    @property
    def alive(self) -> bool:
        return self.popen.poll() is None

    def output(self) -> str:
        return self.log.read_text(errors="replace")

    def send(self, number: int) -> None:
        """To the whole process group; silently nothing when it is gone."""
        try:
            os.killpg(self.pid, number)
        except ProcessLookupError:
            pass

    def wait(self, timeout: float) -> int:
        """Exit status, negative for a signal; TimeoutError names the program."""
        try:
            return self.popen.wait(timeout)
        except subprocess.TimeoutExpired:
            raise TimeoutError(f"{self.name} still runs after {timeout:g} s\n{self.output()[-2000:]}") from None

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Ask, wait a moment, then kill. Safe to repeat."""
        if self.alive:
            self.send(number)
            try:
                self.popen.wait(STOP_GRACE_S)
            except subprocess.TimeoutExpired:
                pass
        self.send(signal.SIGKILL)  # also what is left of the group when its leader went first
        return self.popen.wait()


def interruptible() -> None:
    """In a child: signals that end a program end this one. Who runs us may ignore them, and children inherit that: a
    script's background job ignores SIGINT, nohup SIGHUP."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


def spawn(
    command: Sequence[str],
    log: Path,
    before_exec: Callable[[], None] = interruptible,
    env: Mapping[str, str] | None = None,
) -> Process:
    """Start `command`; `before_exec` runs in the child (it opens no socket and takes no lock)."""
    with log.open("ab") as out:
        popen = subprocess.Popen(
            list(command),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(env or {})},
            preexec_fn=before_exec,
            start_new_session=True,
        )
    return Process(popen, command[0], log)


def entering(cgroup: Path, netns: str, user: str | None) -> Callable[[], None]:
    """A `before_exec` that enters the pod; the user is looked up here, in the parent."""
    entry = pwd.getpwnam(user) if user else None

    def before_exec() -> None:
        interruptible()
        enter(cgroup, netns, entry)

    return before_exec


def call(before: Callable[[], None], fn: Callable[[], T], timeout: float) -> T:
    """The result of `fn()` run in a forked child after `before()`; its exception is raised here."""
    ours, theirs = socket.socketpair()
    pid = os.fork()
    if pid == 0:
        ours.close()
        _answer(theirs, before, fn)
    theirs.close()
    try:
        data = _read_all(ours, timeout)
    finally:
        ours.close()
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    if not data:
        raise RuntimeError("the function's process died without an answer")
    good, value = pickle.loads(data)
    if not good:
        raise value
    result: T = value
    return result


def _answer(channel: socket.socket, before: Callable[[], None], fn: Callable[[], object]) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # the parent's handlers would unwind the parent's lab here
    try:
        before()
        reply = pickle.dumps((True, fn()))
    except BaseException as failure:
        reply = pickle.dumps((False, failure))
    try:
        channel.sendall(reply)
    finally:
        os._exit(0)


def _read_all(channel: socket.socket, timeout: float) -> bytes:
    data = b""
    while True:
        if not select.select([channel], [], [], timeout)[0]:
            raise TimeoutError(f"the function did not return within {timeout:g} s")
        part = channel.recv(1 << 16)
        if not part:
            return data
        data += part


def make_sockets(before: Callable[[], None], family: int, kind: int, count: int) -> list[socket.socket]:
    """Sockets made by a process that ran `before()`, and handed to us: for BPF they are that process's for life."""
    ours, theirs = socket.socketpair()
    pid = os.fork()
    if pid == 0:
        try:
            before()
            made = [socket.socket(family, kind) for _ in range(count)]
            socket.send_fds(theirs, [b"."], [s.fileno() for s in made])
        finally:
            os._exit(0)
    theirs.close()
    with ours:
        ours.settimeout(5)
        _, fds, _, _ = socket.recv_fds(ours, 1, count)
    os.waitpid(pid, 0)
    if len(fds) != count:
        raise RuntimeError("the pod could not make a socket (is its namespace gone?)")
    return [socket.socket(fileno=fd) for fd in fds]
