"""A lab with the hooks of capture in it, and the test in the place of a worker: it holds the pods' listeners.

    with Lab("x") as lab:
        capture = Capturing(lab)
        client = capture.enrol(lab.pod("client"))
        capture.know(service(vip, 80, [...]))
        client.pod.connect(vip, 80); carried = client.outbound.accept()

Life is a number in the heartbeat map: `beat` writes one an hour ahead, so that no test depends on the clock.
"""

from __future__ import annotations

import mmap
import os
import socket
import struct
import time
from dataclasses import dataclass, field
from typing import Any

from mesh.capture import INBOUND_PORT, OUTBOUND_PORT, SEINE_SOL, SEINE_TRUE_CLIENT, Kernel, clean, pin_root
from mesh.model import Destination, Direction, Workload
from mesh.model import Pod as ModelPod
from mesh.node import netns
from tests.kit import spawn
from tests.kit.lab import Lab, Pod
from tests.kit.leftovers import cgroup2_root

HOUR_NS = 3_600_000_000_000


def service(address: str, port: int, *backends: tuple[str, int]) -> Destination:
    return Destination(address=address, port=port, service=True, backends=backends)


def pod_address(address: str) -> Destination:
    return Destination(address=address, port=0, service=False)


def tunnelled(address: str, port: int = 0) -> Destination:
    """A pod's address, or a Service's with its port, behind which everybody is reached by tunnel."""
    return Destination(address=address, port=port, service=bool(port), guarded=True, tunnelled=True)


def model(pod: Pod, **settings: Any) -> ModelPod:
    """The pod as the agent would describe it."""
    addresses = tuple(address for address in (pod.ip, pod.ip6) if address)
    workload = Workload(uid=pod.full_name, namespace="lab", name=pod.name, addresses=addresses)
    return ModelPod(workload=workload, netns=pod.netns, cgroup=str(pod.cgroup), enrolled=True, **settings)


@dataclass
class Enrolled:
    """A pod in the mesh, with the two listeners that a worker would hold."""

    capture: Capturing
    slot: int
    pod: Pod
    outbound: socket.socket
    inbound: socket.socket

    def count(self, reason: str) -> int:
        return self.capture.kernel.counters()[self.slot][reason]

    def socket(self, family: int = socket.AF_INET) -> socket.socket:
        """One of ours in this pod's namespace, as from the stock."""
        return self.capture.ours(self.pod, family)


@dataclass
class Capturing:
    lab: Lab
    how: dict[str, Any] = field(default_factory=dict)
    kernel: Kernel = field(init=False)
    enrolled: list[Enrolled] = field(default_factory=list)
    known: list[Destination] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.lab.at_end(clean, self.lab.name, pin_root(), cgroup2_root())
        self.open(**self.how)
        self.lab.at_end(self.close)

    def open(self, **how: Any) -> None:
        self.open_without_a_beat(**how)
        self.beat()

    def open_without_a_beat(self, **how: Any) -> None:
        self.kernel = Kernel.open(self.lab.name, cgroup_root=cgroup2_root(), pins=pin_root(), **how)

    def close(self) -> None:
        for each in self.enrolled:
            each.outbound.close()
            each.inbound.close()
        self.kernel.close()

    def beat(self, at: int | None = None) -> None:
        """A worker's sign of life; by default one that lasts."""
        with mmap.mmap(self.kernel.heartbeat_fd, mmap.PAGESIZE) as cells:
            struct.pack_into("Q", cells, 0, time.clock_gettime_ns(time.CLOCK_MONOTONIC) + HOUR_NS if at is None else at)

    def stop_beating(self) -> None:
        """As if every worker hung since four seconds."""
        self.beat(time.clock_gettime_ns(time.CLOCK_MONOTONIC) - 4_000_000_000)

    def ours(self, pod: Pod, family: int = socket.AF_INET) -> socket.socket:
        """A socket made in the fixed cgroup and the pod's namespace."""
        made = spawn.make_sockets(spawn.entering(self.kernel.cgroup, pod.netns, None), family, socket.SOCK_STREAM, 1)[0]
        made.settimeout(3)
        return made

    def listener(self, pod: Pod, port: int) -> socket.socket:
        made = self.ours(pod, socket.AF_INET6)
        made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind(("::", port))
        made.listen(1024)
        return made

    def enrol(self, pod: Pod, **settings: Any) -> Enrolled:
        slot = len(self.enrolled)
        made = Enrolled(self, slot, pod, self.listener(pod, OUTBOUND_PORT), self.listener(pod, INBOUND_PORT))
        self.enrolled.append(made)
        self.kernel.set_listener(slot, Direction.OUTBOUND, made.outbound.fileno())
        self.kernel.set_listener(slot, Direction.INBOUND, made.inbound.fileno())
        self.write(made, **settings)
        return made

    def write(self, enrolled: Enrolled, **settings: Any) -> None:
        """Enrol, or enrol again with other settings."""
        fd = os.open(enrolled.pod.netns, os.O_RDONLY)
        self.kernel.enrol(enrolled.slot, model(enrolled.pod, **settings), fd, netns.cookie(enrolled.pod.netns))
        os.close(fd)

    def know(self, *destinations: Destination) -> None:
        """Destinations in addition to those already known."""
        self.known += destinations
        self.kernel.set_destinations({(each.address, each.port): each for each in self.known})


def listen(pod: Pod, address: str, port: int) -> socket.socket:
    """An app's listening socket in a pod."""
    made = pod.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.bind((address, port))
    made.listen(64)
    return made


def set_true_client(sock: socket.socket, address: str, port: int) -> None:
    """What a worker says of a dial socket before it connects."""
    mapped = socket.inet_pton(socket.AF_INET6, address if ":" in address else f"::ffff:{address}")
    sock.setsockopt(
        SEINE_SOL, SEINE_TRUE_CLIENT, struct.pack("=HHI16sI", socket.AF_INET6, socket.htons(port), 0, mapped, 0)
    )


def plain(name: tuple[Any, ...]) -> tuple[str, int]:
    """A socket name without scope and flow, IPv4 unmapped."""
    return name[0].removeprefix("::ffff:"), name[1]
