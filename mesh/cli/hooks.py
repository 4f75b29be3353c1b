"""What can be read of a node while no agent runs: the pins, and the lock that every agent holds."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

BPFFS = Path("/sys/fs/bpf")


def pinned(node: str, bpffs: Path | None = None) -> bool | None:
    """Whether hooks of that node are loaded; None: only root can see."""
    directory = (bpffs or BPFFS) / "seine" / node
    try:
        return directory.is_dir() and any(directory.iterdir())
    except PermissionError:
        return None


def sentence(run_dir: Path, bpffs: Path | None = None) -> str:
    """What is known of a node whose agent does not answer."""
    loaded = pinned(run_dir.name, bpffs)
    if loaded is None:
        return "agent is not running; whether its hooks are loaded only root can see"
    state = (
        "hooks are loaded: workers that live serve on, without them new connections of `open` pods go direct and those "
        "of `closed` pods are refused"
        if loaded
        else "hooks are not loaded: no pod of this node is in the mesh"
    )
    return f"agent is not running; {state}{_elsewhere(run_dir)}"


def _elsewhere(run_dir: Path) -> str:
    """Whoever forgot --node is helped by the names that are there."""
    if not run_dir.parent.is_dir():
        return ""
    names = sorted(each.name for each in run_dir.parent.iterdir() if each != run_dir and agent_runs(each))
    return f"; agents that run on this machine: {', '.join(names)} (ask for one with --node)" if names else ""


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
    """False also for who may not know."""
    try:
        with locked(run_dir) as free:
            return not free
    except PermissionError:
        return False
