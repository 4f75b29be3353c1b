"""What can be read of a node while no agent runs: the pins, and the lock that every agent holds."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

BPFFS = Path("/sys/fs/bpf")


def pinned(node: str, bpffs: Path | None = None) -> bool:
    directory = (bpffs or BPFFS) / "seine" / node
    return directory.is_dir() and any(directory.iterdir())


def sentence(node: str, bpffs: Path | None = None) -> str:
    if pinned(node, bpffs):
        return (
            "agent is not running; hooks are loaded: workers that live serve on, without them new connections of "
            "`open` pods go direct and those of `closed` pods are refused"
        )
    return "agent is not running; hooks are not loaded: no pod of this node is in the mesh"


@contextmanager
def locked(run_dir: Path) -> Iterator[bool]:
    """Holds the lock that every agent of the node holds while it runs; False: an agent has it.

    The kernel frees it with its holder, whatever happened to that.
    """
    try:
        fd = os.open(run_dir / "agent.lock", os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        yield True
        return
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        yield False
    else:
        yield True
    finally:
        os.close(fd)


def agent_runs(run_dir: Path) -> bool:
    with locked(run_dir) as free:
        return not free
