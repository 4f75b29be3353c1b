"""A computer of the cluster: its own network namespace, mount namespace and cgroups, and what runs in them.

The folders that Kubernetes' programs have hard-wired are tmpfs of the machine's own, and so is what is written to /etc;
mounts are shared as on a real node (a pod may mount for its node), and there is a BPF file system. All of it lives as
long as the machine's processes: nothing is mounted on the host, so nothing can be left there.
Not here: what a machine is for (control.py, node.py).
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path

from tests.cluster import binaries
from tests.kit import leftovers, network, spawn
from tests.kit.lab import Lab
from tests.kit.wait import eventually

OWN_FOLDERS = ("/run", "/var/lib", "/var/log", "/opt")
MOUNT = f"""
umount --recursive --lazy /run/netns 2>/dev/null || true  # our copy would keep other labs' namespaces alive
mount --make-rshared /
for folder in {" ".join(OWN_FOLDERS)}; do mount -t tmpfs -o mode=755 tmpfs $folder; done
mkdir /run/etc /run/etc.work
mount -t overlay -o lowerdir=/etc,upperdir=/run/etc,workdir=/run/etc.work overlay /etc
mount -t bpf bpf /sys/fs/bpf
mkdir -p /run/netns /run/lock /var/lib/kubelet /var/lib/cni /var/log/containers
exec "$0"
"""


class Machine:
    def __init__(self, lab: Lab, name: str, host: int) -> None:
        """`host`: its number on the lab's segment."""
        self.lab, self.name = lab, name
        self.address, self.address6 = lab.node.subnet.ip(host), lab.node.subnet.ip6(host)
        self.directory = lab.directory / name
        self.netns = f"/run/netns/{lab.name}-{name}"
        self._host = host
        self._undo = ExitStack()
        self._holder: spawn.Process | None = None
        self._processes: list[spawn.Process] = []

    def build(self) -> None:
        self.lab.at_end(self.remove)
        self.directory.mkdir()
        network.make_namespace(f"{self.lab.name}-{self.name}", self._undo)
        network.make_router(self.netns)
        self.lab.node.plug(self.netns, self._host, True, self._undo)
        for root in (leftovers.cgroup2_root(), *leftovers.cgroup1_roots()):
            make_cgroup(root / self.lab.name / self.name)
        pause = str(binaries.folder() / "pause")
        command = ["nsenter", f"--net={self.netns}", "unshare", "--mount", "--propagation=private", "sh", "-ec", MOUNT]
        self._holder = self._spawn([*command, pause], "holder")
        eventually(lambda: Path(f"/proc/{self._pid}/exe").readlink().name == "pause", f"the mounts of {self.name}")

    def start(self, command: Sequence[str], name: str = "") -> spawn.Process:
        """A program of the machine, in a cgroup of its own, as a service manager would give it. Binaries of ours are
        called by their bare names."""
        name = name or Path(command[0]).name
        return self._spawn([*self._entering, *command], name)

    def run(self, command: Sequence[str]) -> None:
        """To its end. CalledProcessError shows what it said."""
        process = self.start(command)
        status = process.wait(60)
        if status:
            raise RuntimeError(f"{' '.join(command)} on {self.name} ended with {status}:\n{process.output()}")

    def path(self, inside: str) -> Path:
        """Where a file of the machine is seen from outside."""
        return Path(f"/proc/{self._pid}/root{inside}")

    def remove(self) -> None:
        """Kill everything that runs here, containers too, and take the machine away. Safe to repeat."""
        leftovers.remove_cgroup(self.cgroup)
        while self._processes:
            self._processes.pop().popen.wait()
        self._undo.close()
        shutil.rmtree(self.directory, ignore_errors=True)

    @property
    def cgroup(self) -> Path:
        """In the cgroup2 tree, where every process of the machine is, on hybrid hosts too."""
        return self.lab.cgroup / self.name

    @property
    def _pid(self) -> int:
        assert self._holder is not None
        return self._holder.pid

    @property
    def _entering(self) -> list[str]:
        return ["nsenter", f"--net={self.netns}", f"--mount=/proc/{self._pid}/ns/mnt", "--wdns=/"]

    def _spawn(self, command: list[str], name: str) -> spawn.Process:
        system = self.cgroup / f"system-{name}"
        make_cgroup(system)

        def join() -> None:
            spawn.interruptible()
            (system / "cgroup.procs").write_text("0")

        path = f"{binaries.folder()}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        marked = {leftovers.MARK: self.lab.name, "PATH": path}
        process = spawn.spawn(command, self.lab.log_path(f"{self.name}-{name}"), join, marked)
        self._processes.append(process)
        return process


def make_cgroup(path: Path) -> None:
    """Usable for processes: cgroup v1 wants cpuset filled in by hand, cgroup v2 wants controllers handed down."""
    if path.exists():
        return
    if not path.parent.exists():
        make_cgroup(path.parent)
    with suppress(OSError):  # not one that a process of the parent's own keeps from being handed down
        controllers = (path.parent / "cgroup.controllers").read_text().split()
        (path.parent / "cgroup.subtree_control").write_text(" ".join(f"+{name}" for name in controllers))
    path.mkdir()
    for name in ("cpuset.cpus", "cpuset.mems"):
        if (path / name).exists() and not (path.parent / "cgroup.controllers").exists():
            (path / name).write_text((path.parent / name).read_text())
