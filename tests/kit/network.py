"""The wires of a lab: one bridge per node, one veth pair per pod, IPv4 and IPv6; all through netlink.

Rules: every object is registered for removal just before it is made; names carry the process id and
subnets are claimed by an abstract socket (which dies with its process), so parallel labs never meet.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from pyroute2 import IPRoute, NetlinkError, netns

from tests.kit.enter import inside, setns

IFA_F_NODAD = 0x02  # an address usable at once: duplicate address detection takes a second
LISTENING, ESTABLISHED = "0A", "01"  # as /proc/net/tcp shows them
SUBNETS = 128 * 256  # 10.128.0.0/24 ... 10.255.255.0/24 and fd00:5e1e:N::/64


@dataclass(frozen=True)
class Subnet:
    """Number N of the lab's address plan. Hosts are 1 (the bridge) to 254."""

    number: int

    def ip(self, host: int) -> str:
        return f"10.{128 + self.number // 256}.{self.number % 256}.{host}"

    def ip6(self, host: int) -> str:
        return f"fd00:5e1e:{self.number:x}::{host:x}"

    @property
    def cidr(self) -> str:
        return f"{self.ip(0)}/24"

    @property
    def cidr6(self) -> str:
        return f"{self.ip6(0).removesuffix('0')}/64"

    def vip(self, host: int) -> str:
        """Service addresses belong to no interface anywhere: without a mesh they lead nowhere."""
        return f"10.{64 + self.number // 512}.{self.number // 2 % 256}.{host + self.number % 2 * 128}"

    def vip6(self, host: int) -> str:
        return f"fd00:96:{self.number:x}::{host:x}"


def claim_subnet(undo: ExitStack, first: int) -> Subnet:
    """The first free number from `first` on: nobody's claim, and no address of this machine lies in it."""
    with IPRoute() as ip:
        taken = {attr for message in ip.get_addr() for attr in message.get_attrs("IFA_ADDRESS")}
    for number in (n % SUBNETS for n in range(first, first + SUBNETS)):
        claim = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            claim.bind(f"\0seine-lab-subnet-{number}")
        except OSError:
            claim.close()
            continue
        undo.callback(claim.close)
        if Subnet(number).ip(1) not in taken:
            return Subnet(number)
    raise RuntimeError("no subnet left for a lab")


@dataclass(eq=False)
class Node:
    """Where pods live: a bridge in a namespace. The lab's first node is this machine's own namespace (netns None)."""

    name: str
    bridge: str  # its name: 's', the process id in hex, '-', the lab's serial in hex; a pod's veth appends its number
    subnet: Subnet
    netns: str | None = None  # a path
    next_host: int = field(default=2)
    address: str = ""  # on the wire, IPv4 and IPv6; empty where there is none
    address6: str = ""

    def entering(self) -> Callable[[], None]:
        """What a process does before it becomes one of the node's own (its cgroup stays): enters the namespace."""
        path = self.netns
        return lambda: setns(path) if path else None

    def build(self, undo: ExitStack) -> None:
        def make(ip: IPRoute) -> None:
            ip.link("add", ifname=self.bridge, kind="bridge", address=self._mac(), br_mcast_snooping=0)
            index = ip.link_lookup(ifname=self.bridge)[0]
            ip.addr("add", index=index, address=self.subnet.ip(1), prefixlen=24)
            ip.addr("add", index=index, address=self.subnet.ip6(1), prefixlen=64, flags=IFA_F_NODAD)
            ip.link("set", index=index, state="up")

        undo.callback(remove_link, self.bridge, self.netns)
        netlink(self.netns, make)

    def _mac(self) -> str:
        """Fixed: a bridge that takes its first port's address drops everybody's neighbour entries."""
        return f"02:5e:1e:00:{self.subnet.number // 256:02x}:{self.subnet.number % 256:02x}"

    def plug(self, pod_netns: str, host: int, ipv6: bool, undo: ExitStack) -> None:
        """A veth pair from this bridge into the namespace, with addresses and default routes."""
        name = f"{self.bridge}.{host:x}"

        def outside(ip: IPRoute) -> None:
            ip.link("add", ifname=name, kind="veth", peer={"ifname": "eth0", "net_ns_fd": pod_netns})
            bridge = ip.link_lookup(ifname=self.bridge)[0]
            ip.link("set", index=ip.link_lookup(ifname=name)[0], state="up", master=bridge)

        def within(ip: IPRoute) -> None:
            lo, eth0 = (ip.link_lookup(ifname=n)[0] for n in ("lo", "eth0"))
            ip.link("set", index=lo, state="up")
            ip.addr("add", index=eth0, address=self.subnet.ip(host), prefixlen=24)
            ip.link("set", index=eth0, state="up")
            ip.route("add", dst="default", gateway=self.subnet.ip(1))
            if ipv6:
                ip.addr("add", index=eth0, address=self.subnet.ip6(host), prefixlen=64, flags=IFA_F_NODAD)
                ip.route("add", dst="default", gateway=self.subnet.ip6(1), family=socket.AF_INET6)

        undo.callback(remove_link, name, self.netns)
        netlink(self.netns, outside)
        netlink(pod_netns, within)


def netlink(namespace: str | None, errand: Callable[[IPRoute], None]) -> None:
    """Do `errand` with a netlink socket of the namespace (None: our own). pyroute2's own way there forks us."""

    def talk() -> None:
        with IPRoute() as ip:
            errand(ip)

    inside(namespace, talk) if namespace else talk()


def make_namespace(name: str, undo: ExitStack) -> str:
    """A namespace without duplicate address detection; its path."""
    undo.callback(remove_namespace, name)
    netns.create(name)
    path = f"/run/netns/{name}"
    inside(path, lambda: Path("/proc/sys/net/ipv6/conf/default/accept_dad").write_text("0"))
    return path


def make_router(path: str) -> None:
    """What a node is for its pods. Neither family of a new namespace forwards."""

    def switch() -> None:
        for family in ("ipv4", "ipv6"):
            Path(f"/proc/sys/net/{family}/conf/all/forwarding").write_text("1")

    inside(path, switch)
    netlink(path, lambda ip: ip.link("set", index=ip.link_lookup(ifname="lo")[0], state="up"))


def remove_namespace(name: str) -> None:
    if os.path.exists(f"/run/netns/{name}"):
        netns.remove(name)


def remove_link(name: str, namespace: str | None = None) -> None:
    """Nothing when it is gone already: a veth goes with its pod's namespace, in the kernel's own time."""

    def remove(ip: IPRoute) -> None:
        for index in ip.link_lookup(ifname=name):
            try:
                ip.link("del", index=index)
            except NetlinkError:
                if ip.link_lookup(ifname=name):
                    raise

    netlink(namespace, remove)


def tcp_sockets(namespace: str) -> list[tuple[int, str]]:
    """(local port, state in hexadecimal) of every TCP socket of the namespace, read without touching any."""

    def read() -> list[tuple[int, str]]:
        tables = (Path(f"/proc/thread-self/net/{table}").read_text() for table in ("tcp", "tcp6"))
        lines = [line.split() for table in tables for line in table.splitlines()[1:]]
        return [(int(fields[1].rpartition(":")[2], 16), fields[3]) for fields in lines]

    return inside(namespace, read)
