"""What a lab could leave behind, how to see it, and how to sweep what a killed run left.

Everything a lab makes carries its process id in its name, and every process it starts carries MARK in its
environment (agent and workers inherit it), so what belongs to whom is never guessed.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path

from pyroute2 import IPRoute, NetlinkError

from tests.kit.wait import eventually

MARK = "LAB_OF_SEINE"  # not SEINE_*, which an agent takes for a setting
NETNS, RUN = Path("/run/netns"), Path("/run/seine")
_LAB = re.compile(r"^(?:seine-)?lab(\d+)-\d+-")  # labPID-SERIAL-NAME; a pod's name may follow
_LINK = re.compile(r"^s([0-9a-f]+)-[0-9a-f]+(?:\.[0-9a-f]+)?$")


@cache
def cgroup2_root() -> Path:
    """Where this machine mounts cgroup v2; on hybrid hosts that is not /sys/fs/cgroup."""
    for line in Path("/proc/mounts").read_text().splitlines():
        if line.split()[2] == "cgroup2":
            return Path(line.split()[1])
    raise RuntimeError("no cgroup2 file system is mounted on this machine")


@cache
def cgroup1_roots() -> tuple[Path, ...]:
    """One per controller, on hybrid hosts; container runtimes make their cgroups in all of them."""
    mounts = (line.split() for line in Path("/proc/mounts").read_text().splitlines())
    return tuple(Path(fields[1]) for fields in mounts if fields[2] == "cgroup")


def bpf_roots() -> list[Path]:
    mounts = (line.split() for line in Path("/proc/mounts").read_text().splitlines())
    return [Path(fields[1]) for fields in mounts if fields[2] == "bpf"]


def remove_cgroup(path: Path) -> None:
    """Kill everything below, children first, and remove; nothing when it is gone."""
    if not path.exists():
        return
    for child in path.iterdir():
        if child.is_dir():
            remove_cgroup(child)
    (path / "cgroup.kill").write_text("1")
    eventually(lambda: "populated 0" in (path / "cgroup.events").read_text(), f"{path} to be empty")
    path.rmdir()


def remove_cgroup1(path: Path) -> None:
    """Whoever was in it is in the cgroup2 tree too, and was killed there; nothing when it is gone."""
    for folder, _, _ in os.walk(path, topdown=False):
        os.rmdir(folder)


def _owner(name: str) -> int | None:
    found = _LAB.match(name)
    return int(found[1]) if found else None


def _link_owner(name: str) -> int | None:
    found = _LINK.match(name)
    return int(found[1], 16) if found else None


def _places() -> Iterator[Path]:
    """Every directory entry that may be a lab's: namespaces, cgroups, run directories, pins, files."""
    pins, files = (root / "seine" for root in bpf_roots()), Path(tempfile.gettempdir())
    for folder in (NETNS, RUN, cgroup2_root(), *cgroup1_roots(), *pins, files):
        if folder.is_dir():
            yield from folder.iterdir()


def _links() -> list[str]:
    with IPRoute() as ip:
        return [str(link.get_attr("IFLA_IFNAME")) for link in ip.get_links()]


def _marked() -> Iterator[tuple[int, str, str]]:
    """(pid, name of the lab, command) of every process that a lab started."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            environment = (folder / "environ").read_bytes().split(b"\0")
            command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue  # it ended meanwhile
        for entry in environment:
            if entry.startswith(MARK.encode() + b"=") and command:
                yield int(folder.name), entry.decode().partition("=")[2], command


def marked_with(lab: str) -> dict[int, str]:
    """Processes that the lab of that name started, in pods and outside, by pid; with their command; not our own."""
    return {pid: command for pid, name, command in _marked() if name == lab and pid != os.getpid()}


def leftovers(owner: int | None = None) -> list[str]:
    """One sentence per thing that labs of process `owner` (default: this one) left."""
    me = owner if owner is not None else os.getpid()
    found = [f"{path} is left" for path in _places() if _owner(path.name) == me]
    found += [f"network link {name} is left" for name in _links() if _link_owner(name) == me]
    found += [f"process {pid} is left: {command}" for pid, lab, command in _marked() if _owner(lab) == me and pid != me]
    return found


def _is_dead(owner: int | None) -> bool:
    return owner is not None and not Path(f"/proc/{owner}").exists()


def sweep() -> list[str]:
    """Remove what labs of dead processes left (they were killed by SIGKILL); sentences of what was done."""
    done = []
    for pid, lab, command in list(_marked()):
        if _is_dead(_owner(lab)):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            done.append(f"killed {pid}: {command}")
    for path in list(_places()):
        if _is_dead(_owner(path.name)):
            with suppress(FileNotFoundError):  # another run sweeps too
                remove(path)
            done.append(f"removed {path}")
    for name in _links():
        if _is_dead(_link_owner(name)):
            with IPRoute() as ip, suppress(NetlinkError):
                for index in ip.link_lookup(ifname=name):
                    ip.link("del", index=index)
            done.append(f"removed link {name}")
    return done


def remove(path: Path) -> None:
    """Whatever kind of place it is."""
    if path.parent == NETNS:
        from tests.kit.network import remove_namespace

        remove_namespace(path.name)
    elif path.parent == cgroup2_root():
        remove_cgroup(path)
    elif path.parent in cgroup1_roots():
        remove_cgroup1(path)
    else:
        shutil.rmtree(path, ignore_errors=True)
