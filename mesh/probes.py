"""Kubelet's probes reach every pod, whatever its mode: the hooks are told in which cgroup kubelet is.

They go past the mesh, straight into the pod, and are counted (`inbound_kubelet`). Without a kubelet that can be told
from others they are connections like any from the node: fine for an open pod, refused by one that is closed or strict.
Its cgroup stays with the hooks when the agent ends, and when kubelet restarts.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from pathlib import Path

from mesh.capture import Kernel
from mesh.model import Host
from mesh.node.kubelet import PORT, NoKubelet, check_own, listening_cgroup

log = logging.getLogger("seine.agent")
LOOK_SECONDS = 2.0  # a restarted kubelet has the same cgroup in all but a test


class Probes:
    """`hosts`: of the last snapshot."""

    def __init__(self, node: str, kernel: Kernel, root: Path, hosts: Callable[[], Iterable[Host]]) -> None:
        self._node, self._kernel, self._root, self._hosts = node, kernel, root, hosts
        self._known = 0
        self.problem = "kubelet was not looked for yet"  # a sentence: why its probes are like any other connection

    async def run(self) -> None:
        while True:
            self._look()
            await asyncio.sleep(LOOK_SECONDS)

    def _look(self) -> None:
        try:
            cgroup = listening_cgroup(self._port())
            if cgroup != self._known:
                check_own(self._root, cgroup)
                self._kernel.set_kubelet(cgroup)
                self._known = cgroup
            self.problem = ""
        except NoKubelet as error:  # what the hooks know stays: kubelet may be restarting
            if str(error) != self.problem:
                log.info("%s, so that its probes are not told from other connections", error)
            self.problem = str(error)

    def _port(self) -> int:
        own = (each.kubelet_port for each in self._hosts() if each.name == self._node)
        return next(own, 0) or PORT
