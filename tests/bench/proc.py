"""What the kernel says about time and memory: /proc in, numbers out.

Process time is utime+stime of /proc/PID/stat: all threads, also ended ones, and exact (the kernel scales the two so
that their sum is the scheduler's own nanosecond count), rounded to 10 ms; with it goes that of children that have
ended, so that a helper's work is not lost with the helper. Busy time of the machine is sampled by the clock tick, 250
times a second and core: over a turn of seconds that is under 1 % off. Steal is not busy: it is the host's doing.
Network work done in soft interrupts is charged to whoever runs at that moment, alike for every peer.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

TICK = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")
PROC = Path("/proc")
SOCKET_CACHES = {"TCP", "TCPv6", "UNIX", "UNIX-STREAM", "sock_inode_cache", "filp", "eventpoll_epi", "eventpoll_pwq"}
GONE = (FileNotFoundError, ProcessLookupError)


def busy_seconds(text: str | None = None) -> float:
    """Of all cores since boot: user, nice, system, irq, softirq."""
    fields = [int(field) for field in (text or (PROC / "stat").read_text()).split("\n", 1)[0].split()[1:]]
    user, nice, system, _idle, _iowait, irq, softirq = fields[:7]
    return (user + nice + system + irq + softirq) / TICK


def _stat(pid: int) -> list[str]:
    """Fields of /proc/PID/stat after the command's name, which may hold spaces and parentheses."""
    return (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()


def process_seconds(pids: Iterable[int]) -> float:
    """One that ended since it was listed is left out: its time is its parent's now."""
    total = 0
    for pid in pids:
        try:
            total += sum(int(field) for field in _stat(pid)[11:15])
        except GONE:
            continue
    return total / TICK


def tree(root: int) -> list[int]:
    """A process and all its descendants, root first."""
    children: dict[int, list[int]] = {}
    for entry in PROC.iterdir():
        if entry.name.isdigit():
            try:
                children.setdefault(int(_stat(int(entry.name))[1]), []).append(int(entry.name))
            except GONE:
                continue  # it ended while we looked
    found = [root]
    for pid in found:
        found.extend(children.get(pid, ()))
    return found


def _kib(text: str, name: str) -> int:
    for line in text.splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1])
    raise ValueError(f"no {name} in {text[:40]!r}")


def pss_kib(pids: Iterable[int]) -> int:
    """Resident memory with shared pages divided among those who share them."""
    return sum(_kib((PROC / str(pid) / "smaps_rollup").read_text(), "Pss") for pid in pids)


def rss_kib(pid: int) -> int:
    """Resident memory, with all that it shares."""
    return _kib((PROC / str(pid) / "status").read_text(), "VmRSS")


def sockets_kib(text: str | None = None) -> float:
    """Kernel memory of all sockets there are, by the slab caches that hold nothing else: unlike kernel_kib it hardly
    moves when programs start and files are read. Only differences mean something."""
    rows = [line.split() for line in (text or (PROC / "slabinfo").read_text()).splitlines()[2:]]
    return sum(int(row[1]) * int(row[3]) for row in rows if row[0] in SOCKET_CACHES) / 1024


def kernel_kib() -> float:
    """Kernel memory that sockets cost, of the whole machine: slab (socks, inodes, files, epoll items, socket storage,
    conntrack) and the TCP buffers that sockstat counts in pages. Only differences mean something."""
    slab = _kib((PROC / "meminfo").read_text(), "Slab")
    tcp = next(line for line in (PROC / "net/sockstat").read_text().splitlines() if line.startswith("TCP:")).split()
    return slab + int(tcp[tcp.index("mem") + 1]) * PAGE / 1024
