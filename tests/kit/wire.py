"""The wire between a lab's nodes: one Ethernet segment in a namespace of its own. It can lose, delay and be read.

Each node has the interface eth0 on it, and each is a router for its own pods: between pods of two nodes there are
three hops of IP, as there are between real nodes. Frames are lost and read at the node's port in the wire's namespace,
where no sender notices; ARP and neighbour discovery are never lost, which would cost a second each and prove nothing.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from pyroute2 import IPRoute

from tests.kit import leftovers, network, spawn
from tests.kit.enter import inside, setns
from tests.kit.frames import Frames
from tests.kit.loss import Loss
from tests.kit.network import IFA_F_NODAD, Node, netlink
from tests.kit.wait import eventually

if TYPE_CHECKING:
    from tests.kit.lab import Lab

SEGMENT = "wire"  # the bridge
RT_SCOPE_UNIVERSE = 0  # and not the link's own fe80::
ROOT = Path(__file__).resolve().parents[2]


class Wire:
    def __init__(self, lab: Lab, undo: ExitStack) -> None:
        self._lab, self._undo = lab, undo
        self.subnet = lab.claim_subnet()
        self.nodes: list[Node] = []
        self._routed: list[Node] = []
        self._loss: Loss | None = None
        self._relay: spawn.Process | None = None
        self.netns = network.make_namespace(f"{lab.name}-wire", undo)
        inside(self.netns, _no_ipv6)
        netlink(self.netns, lambda ip: _bridge(ip, SEGMENT))

    # --- nodes

    def join(self, node: Node, routed: bool) -> None:
        """Plug a node in. The routes are the lab's own, static ones."""
        number = len(self.nodes) + 1
        assert node.netns is not None
        path = node.netns

        def outside(ip: IPRoute) -> None:
            ip.link("add", ifname=_port(number), kind="veth", peer={"ifname": "eth0", "net_ns_fd": path})
            ip.link("set", index=_index(ip, _port(number)), state="up", master=_index(ip, SEGMENT))

        netlink(self.netns, outside)
        self.renumber(node, number)
        self.nodes.append(node)
        if self._relay:
            raise RuntimeError("the wire has a delay already: make all nodes first")
        if self._loss:
            self._lossy(node)
        if routed:
            for other in self._routed:
                add_routes(other, node)
                add_routes(node, other)
            self._routed.append(node)

    def renumber(self, node: Node, host: int) -> None:
        """Give a node that address on the wire, and no other; routes by an old one go with it."""
        node.address, node.address6 = self.subnet.ip(host), self.subnet.ip6(host)

        def change(ip: IPRoute) -> None:
            eth0 = _index(ip, "eth0")
            ip.flush_addr(index=eth0, scope=RT_SCOPE_UNIVERSE)
            ip.link("set", index=eth0, state="up")
            ip.addr("add", index=eth0, address=node.address, prefixlen=24)
            ip.addr("add", index=eth0, address=node.address6, prefixlen=64, flags=IFA_F_NODAD)

        netlink(node.netns, change)

    def set_mtu(self, mtu: int, *nodes: Node) -> None:
        """Of the nodes' ends (all nodes' unless named): what is longer they drop, or never send."""
        for node in nodes or self.nodes:
            netlink(node.netns, lambda ip: ip.link("set", index=_index(ip, "eth0"), mtu=mtu))

    # --- harm

    def lose(self, probability: float) -> None:
        """Drop each IP packet with that probability, in every direction, from now on; 0: no more."""
        if self._loss is None:
            self._loss = Loss(self._undo)
            for node in self.nodes:
                self._lossy(node)
        self._loss.set(probability)

    def _lossy(self, node: Node) -> None:
        """Packets are lost one by one: what was left to be cut into segments is cut before the wire."""
        assert self._loss is not None
        loss, port = self._loss, _port(self.nodes.index(node) + 1)
        netlink(node.netns, lambda ip: ip.link("set", index=_index(ip, "eth0"), gso_max_segs=1))
        netlink(self.netns, lambda ip: loss.attach(ip, _index(ip, port)))

    @property
    def passed(self) -> int:
        """Packets that the loss let through, of all directions."""
        return self._loss.passed if self._loss else 0

    @property
    def lost(self) -> int:
        return self._loss.lost if self._loss else 0

    def delay(self, round_trip_ms: float) -> None:
        """Every frame takes half of it from node to node: the relay (see relay.py) takes the segment's place."""
        if self._relay:
            raise RuntimeError("the wire has a delay already")
        taps = [f"tap{number}" for number in range(1, len(self.nodes) + 1)]
        self._counters = self._lab.directory / "relay.json"
        command = [sys.executable, "-m", "tests.kit.relay", str(round_trip_ms / 2000), str(self._counters), *taps]
        env = {leftovers.MARK: self._lab.name, "PYTHONPATH": str(ROOT)}
        self._relay = spawn.spawn(command, self._lab.log_path("relay"), lambda: setns(self.netns), env)
        self._undo.callback(self._relay.stop)
        netlink(self.netns, self._through_relay)

    def _through_relay(self, ip: IPRoute) -> None:
        """Each port leaves the segment for a bridge that it shares with its tap alone."""
        assert self._relay is not None
        for number in range(1, len(self.nodes) + 1):
            tap = f"tap{number}"
            try:
                eventually(partial(ip.link_lookup, ifname=tap), f"the relay to make {tap}")
            except TimeoutError as reason:
                raise RuntimeError(f"{reason}\n{self._relay.output()}") from None
            _bridge(ip, f"half{number}")
            for name in (tap, _port(number)):
                ip.link("set", index=_index(ip, name), state="up", master=_index(ip, f"half{number}"))

    @property
    def relayed(self) -> dict[str, int]:
        """What the relay did in its last tenth of a second and before: frames `passed`, and `dropped` by its bound."""
        found: dict[str, int] = json.loads(self._counters.read_text()) if self._counters.exists() else {}
        return found

    # --- proof

    @contextmanager
    def captured(self) -> Iterator[Frames]:
        """Every frame that a node sends meanwhile."""
        ports = [_port(number) for number in range(1, len(self.nodes) + 1)]
        frames = Frames(self.netns, ports)
        try:
            yield frames
        finally:
            frames.close()


def add_routes(at: Node, to: Node) -> None:
    """At one node, the routes to another's pods by that node's address: host-gateway mode, made by hand."""

    def add(ip: IPRoute) -> None:
        ip.route("replace", dst=to.subnet.cidr, gateway=to.address)
        ip.route("replace", dst=to.subnet.cidr6, gateway=to.address6)

    netlink(at.netns, add)


def _port(number: int) -> str:
    """The wire's end of the cable to a node."""
    return f"port{number}"


def _index(ip: IPRoute, name: str) -> int:
    found = ip.link_lookup(ifname=name)
    if not found:
        raise RuntimeError(f"there is no interface {name}")
    return int(found[0])


def _bridge(ip: IPRoute, name: str) -> None:
    ip.link("add", ifname=name, kind="bridge", br_mcast_snooping=0)
    ip.link("set", index=_index(ip, name), state="up")


def _no_ipv6() -> None:
    """A segment has no addresses, and says nothing of its own."""
    for name in ("all", "default"):
        Path(f"/proc/sys/net/ipv6/conf/{name}/disable_ipv6").write_text("1")
