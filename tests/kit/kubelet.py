"""Cgroups as kubelet makes them for pods, in the lab's part of the tree."""

from __future__ import annotations

import subprocess
from contextlib import ExitStack
from pathlib import Path

from tests.kit import leftovers, spawn
from tests.kit.lab import HostPod, Pod

UID = "6f1c0a52-77aa-4e1b-9c39-0a1b2c3d4e5f"
LAYOUTS = {
    "cgroupfs": "kubepods/burstable/pod{0}",
    "systemd": "kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{1}.slice",
    "kind": "kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-pod{1}.slice",
}


class Kubelet:
    """Cgroups of one pod, and processes in them."""

    def __init__(self, root: Path, layout: str, undo: ExitStack, uid: str = UID) -> None:
        self._undo = undo
        self.folder = root / LAYOUTS[layout].format(uid, uid.replace("-", "_"))
        self._make(root, self.folder)

    def _make(self, root: Path, folder: Path) -> None:
        for each in [*reversed(folder.relative_to(root).parents), folder.relative_to(root)]:
            if not (root / each).is_dir():
                (root / each).mkdir()
                self._undo.callback(leftovers.remove_cgroup, root / each)

    def container(self, name: str, pod: Pod | HostPod) -> subprocess.Popen[bytes]:
        """One process that waits."""
        leaf = self.folder / name
        self._make(self.folder, leaf)
        child = subprocess.Popen(["sleep", "600"], preexec_fn=spawn.entering(leaf, pod.netns, None))
        self._undo.callback(child.wait)
        self._undo.callback(child.kill)
        return child

    def end(self, child: subprocess.Popen[bytes]) -> None:
        child.kill()
        child.wait()
