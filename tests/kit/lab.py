"""A lab: pods as network namespaces with a cgroup each, joined by a bridge, with real programs in them.

    with Lab("shop") as lab:
        client, web = lab.pod("client"), lab.pod("web")
        web.popen(["nginx", ...]); web.wait_listening(80)
        client.run(["curl", web.ip])

Its node is this machine's own namespace. A lab of several nodes makes each in a namespace, on one wire (see wire.py):

        a, b = lab.make_node("a"), lab.make_node("b")
        client, web = lab.pod("client", node=a), lab.pod("web", node=b)
        lab.wire.lose(0.03)

Knows nothing of a mesh and nothing of pytest. Invariant: a thing is registered for removal just before it is made
(every removal accepts that it never came to be) and removed in reverse, also on an exception, SIGINT, SIGTERM or
SIGHUP; after SIGKILL the next lab sweeps it (see leftovers).
"""

from __future__ import annotations

import itertools
import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from tests.kit import leftovers, network, spawn
from tests.kit.enter import inside
from tests.kit.interrupts import Interrupts
from tests.kit.network import Node
from tests.kit.wait import eventually
from tests.kit.wire import Wire

T = TypeVar("T")
Socket = socket.socket  # Pod has a method of that name

RUN_TIMEOUT_S = 10.0  # nothing in a lab may hang: every program has a deadline
_serial = itertools.count()


class Lab:
    """`name` is made unique with the process id; an agent that serves this lab takes it as its node name."""

    def __init__(self, name: str) -> None:
        self.owner, self.serial = os.getpid(), next(_serial)
        self.name = f"lab{self.owner}-{self.serial}-{name}"
        self.directory = Path(tempfile.gettempdir()) / self.name
        self.cgroup = leftovers.cgroup2_root() / self.name
        self.pods: dict[str, Pod] = {}
        self._interrupts = Interrupts()
        self._undo = ExitStack()
        self._vips = itertools.count(1)
        self._logs = itertools.count(1)

    def __enter__(self) -> Self:
        leftovers.sweep()
        self._interrupts.take()
        try:
            self._build()
        except BaseException:
            self.close()
            raise
        return self

    def _build(self) -> None:
        self._undo.callback(shutil.rmtree, self.directory, ignore_errors=True)
        self.directory.mkdir(mode=0o755)  # PostgreSQL's user works below it
        self._undo.callback(leftovers.remove_cgroup, self.cgroup)
        self.cgroup.mkdir()

    def claim_subnet(self) -> network.Subnet:
        return network.claim_subnet(self._undo, self.owner * 7 + self.serial)

    @cached_property
    def node(self) -> Node:
        """The node of pods that name none: this machine's own namespace. Made when first asked for."""
        node = self.machine_node()
        node.build(self._undo)
        return node

    def machine_node(self) -> Node:
        return Node(self.name, f"s{self.owner:x}-{self.serial:x}", self.claim_subnet())

    @cached_property
    def wire(self) -> Wire:
        """What joins the nodes that `make_node` makes."""
        return Wire(self, self._undo)

    def make_node(self, name: str, routed: bool = True) -> Node:
        """A node in a namespace of its own, on the wire. `routed`: it and the other routed ones know each other's
        pods; otherwise somebody has to tell them."""
        netns = network.make_namespace(f"{self.name}-node-{name}", self._undo)
        node = Node(f"{self.name}-{name}", "pods", self.claim_subnet(), netns)
        network.make_router(netns)
        node.build(self._undo)
        self.wire.join(node, routed)
        return node

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Remove everything. Interrupts are ignored: a half-removed lab is what they must not leave."""
        if os.getpid() != self.owner:
            return  # a forked child unwinds: the lab is not its to remove
        self._interrupts.ignore()
        try:
            self._undo.close()
        finally:
            self._interrupts.give_back()

    def at_end(self, action: Callable[..., object], *arguments: object) -> None:
        """Run `action` when the lab is removed, before what was made until now."""
        self._undo.callback(action, *arguments)

    def pod(self, name: str, ipv6: bool = True, node: Node | None = None) -> Pod:
        """A new pod, on the lab's own node or on one that it made."""
        return self._add(Pod(self, name, node or self.node, ipv6))

    def host_pod(self, name: str) -> Pod:
        """A pod with hostNetwork: the machine's own namespace, but a cgroup of its own."""
        return self._add(HostPod(self, name, self.node))

    def _add(self, pod: Pod) -> Pod:
        self.pods[pod.name] = pod
        self._undo.callback(pod.remove)
        pod.build()
        return pod

    def vip(self) -> tuple[str, str]:
        """A fresh pair of Service addresses, IPv4 and IPv6."""
        host = next(self._vips)
        return self.services.vip(host), self.services.vip6(host)

    @cached_property
    def services(self) -> network.Subnet:
        """Whose number Service addresses carry: one plan for all nodes."""
        return self.claim_subnet()

    def log_path(self, name: str) -> Path:
        return self.directory / f"{next(self._logs):03d}-{Path(name).name}.log"


class Pod:
    def __init__(self, lab: Lab, name: str, node: Node, ipv6: bool = True) -> None:
        self.lab, self.name, self.node = lab, name, node
        self.full_name = f"{lab.name}-{name}"
        self.cgroup = lab.cgroup / name
        self.directory = lab.directory / name
        self.netns = f"/run/netns/{self.full_name}"
        host, node.next_host = node.next_host, node.next_host + 1
        self.ip, self.ip6 = node.subnet.ip(host), node.subnet.ip6(host) if ipv6 else ""
        self._host = host
        self._undo = ExitStack()

    def build(self) -> None:
        self._undo.callback(shutil.rmtree, self.directory, ignore_errors=True)
        self.directory.mkdir()
        self._wire()
        self._undo.callback(leftovers.remove_cgroup, self.cgroup)
        self.cgroup.mkdir()

    def _wire(self) -> None:
        network.make_namespace(self.full_name, self._undo)
        self.node.plug(self.netns, self._host, bool(self.ip6), self._undo)

    def remove(self) -> None:
        """Kill its processes, then take it away: cgroup, veth, namespace. Safe to repeat."""
        self.lab.pods.pop(self.name, None)
        self._undo.close()

    def popen(
        self, command: Sequence[str], user: str | None = None, env: Mapping[str, str] | None = None
    ) -> spawn.Process:
        """A program of this pod, running until stopped or until the pod goes."""
        marked = {**(env or {}), leftovers.MARK: self.lab.name}
        process = spawn.spawn(command, self.lab.log_path(command[0]), self._entering(user), marked)
        self._undo.callback(process.stop)
        return process

    def run(
        self, command: Sequence[str], timeout: float = RUN_TIMEOUT_S, user: str | None = None, text: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run a program to its end; its output separately; TimeoutExpired kills it. `text` is its standard input."""
        return subprocess.run(
            list(command),
            input=text if text is not None else "",
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout,
            preexec_fn=self._entering(user),
            env={**os.environ, leftovers.MARK: self.lab.name},
            check=False,
        )

    def python(self, fn: Callable[[], T], timeout: float = RUN_TIMEOUT_S) -> T:
        """The result of `fn()` run in a process of this pod."""
        return spawn.call(self._entering(None), fn, timeout)

    def sockets(self, family: int, count: int, kind: int = socket.SOCK_STREAM) -> list[Socket]:
        """Sockets made by a process of this pod: the kernel treats them as the pod's, the test may hold them."""
        made = spawn.make_sockets(self._entering(None), family, kind, count)
        for one in made:
            one.settimeout(3)
        return made

    def socket(self, family: int = socket.AF_INET, kind: int = socket.SOCK_STREAM) -> Socket:
        return self.sockets(family, 1, kind)[0]

    def connect(self, address: str, port: int) -> Socket:
        """A connection that this pod made; three seconds for this and every later step."""
        made = self.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
        try:
            made.connect((address, port))
        except BaseException:
            made.close()
            raise
        return made

    def inside(self, errand: Callable[[], T]) -> T:
        """An errand of the lab in this pod's namespace (not in its cgroup)."""
        return inside(self.netns, errand)

    def listening(self) -> set[int]:
        return {port for port, state in network.tcp_sockets(self.netns) if state == network.LISTENING}

    def established(self, port: int) -> int:
        """How many connections to that port of this pod are established."""
        return network.tcp_sockets(self.netns).count((port, network.ESTABLISHED))

    def wait_listening(self, *ports: int, timeout: float = 10.0) -> None:
        eventually(lambda: self.listening() >= set(ports), f"{self.name} to listen on {ports}", timeout)

    def processes(self) -> list[int]:
        return [int(line) for line in (self.cgroup / "cgroup.procs").read_text().split()]

    def _entering(self, user: str | None) -> Callable[[], None]:
        return spawn.entering(self.cgroup, self.netns, user)

    def __repr__(self) -> str:
        return f"<pod {self.name} {self.ip}>"


class HostPod(Pod):
    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.netns = f"/proc/{os.getpid()}/ns/net"
        self.ip, self.ip6 = self.node.subnet.ip(1), self.node.subnet.ip6(1)

    def _wire(self) -> None:
        pass
