"""Where a pod of this node is: its network namespace and a cgroup of its own, found by the pod's uid.

A container runtime tells nobody but kubelet, but its processes are in a cgroup below one that has the pod's uid in its
name: `.../podUID/CONTAINER` or `...-podU_I_D.slice/cri-containerd-CONTAINER.scope`, under whatever root kubelet was
given. The pod's oldest process is the sandbox's where there is one, so that what is found outlives its containers. The
namespace is held by a descriptor, hence its path means the same namespace until the pod is gone: that is when its
cgroup is, or when processes of another namespace are in it.

A pod that is being started has a namespace and no process yet: who made the namespace may hand it in. It stands until
a process of it is found. If only others are, they are believed after ARRIVED_SECONDS: a dying sandbox of the same pod
may be seen for a while, and a start may have failed after us. Sources: kubelet's cgroup managers, cgroups(7), proc(5).
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from mesh.node import netns

POD = re.compile(r"(?:.*-)?pod([0-9a-z]{8}(?:[-_]?[0-9a-z]+)*)(?:\.slice)?")
ARRIVED_SECONDS = 30.0
DEPTH_MAX = 8  # kind puts kubelet's root three levels below the host's


class Process(NamedTuple):
    started: int  # ticks since boot, so that a reused pid is another process
    pid: int
    leaf: Path  # its cgroup


class Sandbox(NamedTuple):
    netns: str
    cgroup: str  # a leaf


class _Held(NamedTuple):
    fd: int
    inode: int
    since: float
    folder: Path | None = None  # the pod's cgroup
    process: Process | None = None  # None: handed in, and none was found yet


class Sandboxes:
    """`root`: of the cgroup2 tree."""

    def __init__(self, root: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._root, self._clock = root, clock
        self._held: dict[str, _Held] = {}
        self._arrived: dict[str, int] = {}  # descriptors handed in, until somebody looks for the pod

    def hand_in(self, uid: str, fd: int) -> None:
        """The namespace of a pod that is being started; a copy of the descriptor is kept. Raises OSError."""
        self.take_back(uid)
        self._arrived[uid] = os.dup(fd)

    def take_back(self, uid: str) -> None:
        """Nobody has looked for it, or shall."""
        if (fd := self._arrived.pop(uid, None)) is not None:
            os.close(fd)

    def waits(self, uid: str) -> bool:
        """Handed in, and not looked for yet."""
        return uid in self._arrived

    def find(self, uids: Collection[str]) -> Mapping[str, Sandbox]:
        """Of those of these pods that have one now; the others are let go."""
        for uid in self._held.keys() - set(uids):
            self._drop(uid)
        for uid in self._arrived.keys() & set(uids):
            if uid in self._held:
                self._drop(uid)
            fd = self._arrived.pop(uid)
            self._held[uid] = _Held(fd, os.fstat(fd).st_ino, self._clock())
        for uid, held in list(self._held.items()):
            if held.folder is not None and not (held.process and _alive(held.process)):
                self._take(uid, held.folder)
        if missing := set(uids) - {uid for uid, held in self._held.items() if held.process}:
            for uid, folder in pods_below(self._root):
                if uid in missing:
                    self._take(uid, folder)
        return {
            uid: Sandbox(f"/proc/{os.getpid()}/fd/{held.fd}", str(held.process.leaf) if held.process else "")
            for uid, held in self._held.items()
        }

    def close(self) -> None:
        for uid in list(self._held):
            self._drop(uid)
        for uid in list(self._arrived):
            self.take_back(uid)

    def _drop(self, uid: str) -> None:
        os.close(self._held.pop(uid).fd)

    def _take(self, uid: str, folder: Path) -> None:
        """What is there now; what we had stays while containers change, and goes with the pod's cgroup."""
        process = min(processes_of(folder), default=None)
        if process is None:
            if uid in self._held and not folder.is_dir():
                self._drop(uid)
            return
        try:
            fd = os.open(f"/proc/{process.pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:  # it ended meanwhile; the next look finds another
            return
        held = self._held.get(uid)
        inode = os.fstat(fd).st_ino
        if netns.is_host(f"/proc/self/fd/{fd}") or (held is not None and held.inode == inode):
            os.close(fd)
            if held is not None and held.inode == inode:
                self._held[uid] = held._replace(folder=folder, process=process)
            return
        if held is not None and held.process is None and self._clock() - held.since < ARRIVED_SECONDS:
            os.close(fd)
            return
        if held is not None:
            self._drop(uid)
        self._held[uid] = _Held(fd, inode, self._clock(), folder, process)


def pods_below(folder: Path, depth: int = DEPTH_MAX) -> Iterator[tuple[str, Path]]:
    """Uid and cgroup of every pod."""
    try:
        names = [each.name for each in os.scandir(folder) if each.is_dir(follow_symlinks=False)]
    except OSError:  # it went while we looked
        return
    for name in names:
        if (found := POD.fullmatch(name)) is not None:
            yield found[1].replace("_", "-"), folder / name
        elif depth > 1:
            yield from pods_below(folder / name, depth - 1)


def processes_of(folder: Path) -> Iterator[Process]:
    """Of a pod's containers; not of what they have below their own cgroups."""
    try:
        leaves = [folder / each.name for each in os.scandir(folder) if each.is_dir(follow_symlinks=False)]
    except OSError:
        return
    for leaf in leaves:
        try:
            pids = [int(line) for line in (leaf / "cgroup.procs").read_text().split()]
        except OSError:
            continue
        for pid in pids:
            if started := started_at(pid):
                yield Process(started, pid, leaf)


def started_at(pid: int) -> int:
    """0 for a process that is gone, or is a zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0
    return 0 if fields[0] in "ZX" else int(fields[19])


def _alive(process: Process) -> bool:
    return started_at(process.pid) == process.started
