"""The programs that serve a node beside its agent: their names, how they are started, and what says that they live.

That is a lock file: the descriptor with the lock is inherited by the process and held by nobody else, thus locked means
alive (flock(2)). Where the agent starts nobody itself, it offers the files of who is wanted to the uid of a launcher
(mesh.launcher), which may make none there: by their owner.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

QUIC_LOCK, SIGNER_LOCK = "quic.lock", "signer.lock"
RETIRE = signal.SIGUSR2  # to the last worker of a node: go, but let in who comes meanwhile


@dataclass(frozen=True)
class Program:
    """`name` is for people; `command` follows `python -m`."""

    name: str
    lock: Path
    command: tuple[str, ...]

    def take(self) -> int | None:
        """The descriptor with the lock, or None while a living process holds it."""
        return _locked(os.open(self.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))

    def take_offered(self) -> int | None:
        """The same for who may make no file there; None also while it is not offered."""
        try:
            return _locked(os.open(self.lock, os.O_RDWR | os.O_CLOEXEC))
        except (FileNotFoundError, PermissionError):
            return None

    def offer(self, uid: int) -> None:
        """Let processes of that uid take the lock from now on; others, but root, no longer can."""
        fd = os.open(self.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            if os.fstat(fd).st_uid != uid:
                os.fchown(fd, uid, uid)
        finally:
            os.close(fd)

    def is_alive(self) -> bool:
        lock = self.take()
        if lock is not None:
            os.close(lock)
        return lock is None

    def start(self, lock: int, uid: int, *, outlives_us: bool) -> subprocess.Popen[bytes]:
        """Hands the lock over: it is closed here, whether or not it starts."""
        command = [sys.executable, "-m", *self.command, "--uid", str(uid), "--lock", str(lock)]
        try:
            return subprocess.Popen(command, pass_fds=[lock], stdin=subprocess.DEVNULL, start_new_session=outlives_us)
        finally:
            os.close(lock)


def worker(run_dir: Path, number: int) -> Program:
    command = ("mesh.worker", "--worker", str(number), "--agent-socket", str(run_dir / "agent.sock"))
    return Program(f"worker {number}", run_dir / f"worker-{number}.lock", command)


def quic(run_dir: Path) -> Program:
    return Program("the QUIC process", run_dir / QUIC_LOCK, ("mesh.quic", "--agent-socket", str(run_dir / "quic.sock")))


def signer(run_dir: Path) -> Program:
    command = ("mesh.signer", "--agent-socket", str(run_dir / "signer.sock"))
    return Program("the signer", run_dir / SIGNER_LOCK, command)


def holder(lock: Path) -> int | None:
    """Whose lock it is, by his id as we see it, whichever container he is in; None: nobody's, or not ours to know."""
    try:
        wanted = os.stat(lock)
    except FileNotFoundError:
        return None
    mine = str(os.getpid())
    for process in os.listdir("/proc"):
        if process.isdigit() and process != mine and _has_open(process, wanted):
            return int(process)
    return None


def holds(pid: int, lock: Path) -> bool:
    """Whether that process has the lock's file open. Where the agent starts it, the file is root's: only who was
    started with it can, whatever other processes of his uid do."""
    try:
        return _has_open(str(pid), os.stat(lock))
    except FileNotFoundError:
        return False


def _has_open(process: str, wanted: os.stat_result) -> bool:
    folder = f"/proc/{process}/fd"
    try:
        for name in os.listdir(folder):
            with contextlib.suppress(FileNotFoundError):  # closed meanwhile
                if os.path.samestat(os.stat(f"{folder}/{name}"), wanted):
                    return True
    except (FileNotFoundError, ProcessLookupError, PermissionError):  # it ended, or is not ours to look at
        pass
    return False


def _locked(fd: int) -> int | None:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        return None
    return fd
