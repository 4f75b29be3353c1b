"""What `seine check` asks of a machine: one probe per thing that Seine needs, each with a sentence on what to do.

Nothing is concluded from a version or a configuration file where it can be tried; what has to be tried is in `trials`.
Probes change nothing: what they make is theirs alone, and gone when they return.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import resource
import tempfile
from collections.abc import Iterator
from pathlib import Path

from mesh.capture import pins, trials
from mesh.capture.objects import KernelError, mount_bpffs
from mesh.capture.trials import Probe, tried

KERNEL_MIN = (6, 1)  # bpf_set_retval in connect hooks; Debian 12 has 6.1, Ubuntu 24.04 has 6.8
CAPABILITIES = {  # number -> name and why; capabilities(7)
    1: ("CAP_DAC_OVERRIDE", "to write other users' cgroup files"),
    5: ("CAP_KILL", "to end a worker that hangs"),
    6: ("CAP_SETGID", "to start workers without privileges"),
    7: ("CAP_SETUID", "to start workers without privileges"),
    12: ("CAP_NET_ADMIN", "to attach network programs and end connections"),
    21: ("CAP_SYS_ADMIN", "to enter network namespaces and mount the BPF file system"),
    38: ("CAP_PERFMON", "to load BPF programs"),
    39: ("CAP_BPF", "to load BPF programs"),
}
FILES_MIN = 65536  # two descriptors per connection, and a stock of 128 sockets per pod and worker
BACKLOG = 4096  # what a listener asks for


def probes(node: str = "", agent_runs: bool = False) -> Iterator[Probe]:
    """All of them, cheap ones first; about 1.5 s. Not to be called from a running event loop.

    `node`: also whether an agent could start under this name; `agent_runs`: whether one does already.
    """
    yield kernel_version(os.uname().release)
    privileges = capabilities(Path("/proc/self/status").read_text())
    yield privileges
    yield tried("cgroup2 file system is mounted", "mount -t cgroup2 none /sys/fs/cgroup/unified", pins.cgroup2_root)
    yield btf(Path("/sys/kernel/btf/vmlinux"))
    yield open_files(resource.getrlimit(resource.RLIMIT_NOFILE)[1])
    yield backlog(int(Path("/proc/sys/net/core/somaxconn").read_text()))
    if not privileges.ok:
        return  # every other probe would only say the same again
    yield tried("BPF file system is mounted or can be", "Seine keeps its hooks there", _bpffs)
    yield from trials.probes()
    if node:
        yield node_name(node, agent_runs, _left_by(node))


def kernel_version(release: str) -> Probe:
    found = re.match(r"(\d+)\.(\d+)", release)
    good = found is not None and (int(found[1]), int(found[2])) >= KERNEL_MIN
    wanted = ".".join(map(str, KERNEL_MIN))
    hint = f"the kernel is {release}; Debian 12 and Ubuntu 24.04 have a newer one"
    return Probe(name=f"kernel is {wanted} or later", ok=good, hint="" if good else hint)


def capabilities(status: str) -> Probe:
    """From the text of /proc/PID/status."""
    found = re.search(r"^CapEff:\s*([0-9a-f]+)$", status, re.MULTILINE)
    have = int(found[1], 16) if found else 0
    missing = [f"{name} ({why})" for number, (name, why) in CAPABILITIES.items() if not have >> number & 1]
    hint = f"missing: {', '.join(missing)}; run as root (the other probes need it too)" if missing else ""
    return Probe(name="all capabilities of root are there", ok=not missing, hint=hint)


def btf(path: Path) -> Probe:
    hint = f"{path} is missing (CONFIG_DEBUG_INFO_BTF): nothing needs it yet, debugging tools do"
    return _optional("kernel describes its types (BTF)", path.exists(), hint)


def open_files(limit: int) -> Probe:
    good = limit == resource.RLIM_INFINITY or limit >= FILES_MIN
    hint = f"the limit is {limit}: about {limit * 4 // 10} connections per worker; raise it (ulimit -n {FILES_MIN})"
    return _optional(f"limit of open files is {FILES_MIN} or more", good, hint)


def backlog(somaxconn: int) -> Probe:
    hint = (
        f"it is {somaxconn}: more than that many connections at once wait for a retransmission; `sysctl -w` raises it"
    )
    return _optional(f"net.core.somaxconn is {BACKLOG} or more", somaxconn >= BACKLOG, hint)


def node_name(node: str, agent_runs: bool, left: list[Path]) -> Probe:
    """Could an agent start under this name, and would it find a clean place?"""
    if agent_runs:
        hint = "an agent serves it, and a second one would refuse to start; give that one another name with --node"
        return _optional(f"node name {node!r} is free", False, hint)
    hint = f"an earlier agent left {', '.join(map(str, left))}; `seine agent` takes over, `seine clean` removes them"
    return _optional(f"nothing is left of an earlier agent of {node!r}", not left, hint)


def _optional(name: str, good: bool, hint: str) -> Probe:
    return Probe(name=name, ok=good, hint="" if good else hint, required=False)


def _left_by(node: str) -> list[Path]:
    """Its pins and cgroup, wherever the file systems are; nothing is mounted to find out."""
    places = [pins.node_pins(root, node) for root in pins.mounts("bpf")]
    with contextlib.suppress(KernelError):  # no cgroup2 root: a probe of its own says so
        places.append(pins.fixed_cgroup(pins.cgroup2_root(), node))
    return [place for place in places if place.exists()]


def _bpffs() -> None:
    if pins.BPFFS in pins.mounts("bpf"):
        return
    with tempfile.TemporaryDirectory(prefix="seine-check-") as directory:
        mount_bpffs(Path(directory))
        _unmount(directory)


def _unmount(directory: str) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.umount2(os.fsencode(directory), 0) != 0:
        raise OSError(ctypes.get_errno(), f"{directory} cannot be unmounted")
