"""The run directory of a node: the lock that says that an agent runs, and the workers' counters.

What cannot be had there is said in a sentence when the agent starts, room for the counters included: a worker whose
mapped file finds no page on a full disk would die of it (SIGBUS), again and again.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from mesh.forward.engine import stats_bytes


class RunDirError(RuntimeError):
    """A sentence for the operator."""


@contextlib.contextmanager
def _told(run_dir: Path) -> Iterator[None]:
    hints = {
        errno.EACCES: "the agent must run as root",
        errno.ENOSPC: f"the counters of each worker need {stats_bytes() / (1 << 20):.0f} MiB",
    }
    try:
        yield
    except OSError as error:
        hint = hints.get(error.errno or 0)
        raise RunDirError(
            f"the run directory {run_dir} cannot be used: {error.strerror}" + (f" ({hint})" if hint else "")
        ) from None


def lock(run_dir: Path, node: str) -> int:
    """One agent per node name. The lock is the kernel's: it ends with its holder, whatever happened to it."""
    with _told(run_dir):
        run_dir.mkdir(parents=True, exist_ok=True)
        run_dir.chmod(0o711)  # workers must reach the socket in it, and list nothing
        fd = os.open(run_dir / "agent.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        raise RunDirError(
            f"another agent serves node {node!r} (it holds {run_dir}/agent.lock); "
            "end it first, or give this one a name of its own with --node"
        ) from None
    return fd


def reserve(run_dir: Path, workers: int) -> None:
    """Room for the counters of all workers, before anything is captured."""
    for worker in range(workers):
        os.close(open_stats(run_dir, worker))


def open_stats(run_dir: Path, worker: int) -> int:
    """The counter file of a worker number; successors of a worker go on counting in it.

    One of another size is of another version, whose worker may live and have it mapped: it keeps that, shortened it
    would die of it (SIGBUS); its successor gets a new one.
    """
    path = run_dir / f"worker-{worker}.stats"
    with _told(run_dir):
        if path.exists() and path.stat().st_size not in (0, stats_bytes()):
            path.unlink()
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.posix_fallocate(fd, 0, stats_bytes())
        except OSError:
            os.close(fd)
            raise
    return fd
