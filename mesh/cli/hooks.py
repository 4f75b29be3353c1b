"""What can be read of a node while no agent runs: the pins, and the lock that every agent holds."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

BPFFS = Path("/sys/fs/bpf")


def pinned(node: str, bpffs: Path = BPFFS) -> bool:
    directory = bpffs / "seine" / node
    return directory.is_dir() and any(directory.iterdir())


def sentence(node: str, bpffs: Path = BPFFS) -> str:
    if pinned(node, bpffs):
        return (
            "agent is not running; hooks are loaded: workers that live serve on, without them new connections of "
            "`open` pods go direct and those of `closed` pods are refused"
        )
    return "agent is not running; hooks are not loaded: no pod of this node is in the mesh"


def agent_runs(run_dir: Path) -> bool:
    """Whether somebody holds the node's lock. The kernel frees it with its holder, whatever happened to it."""
    try:
        fd = os.open(run_dir / "agent.lock", os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False
