"""The routing tables of a machine as values: interfaces, routes, rules of policy routing; and which of them are ours.

Nothing here reads or writes one (mesh.node.routes does) or decides anything (mesh.node.routing does).
Source: rtnetlink(7), linux/rtnetlink.h, linux/fib_rules.h.
"""

from __future__ import annotations

import ipaddress
from bisect import bisect_right
from collections.abc import Iterable
from itertools import accumulate

from mesh.model import Value

PROTOCOL = 158  # "who made this route"; free in linux/rtnetlink.h and in iproute2's rt_protos
METRIC = 32768  # above DHCP clients' and NetworkManager's, which reach 20 000
MAIN, LOCAL = 254, 255  # the tables
MAKERS = {2: "the kernel", 3: "by hand", 4: "static", 9: "router advertisement", 12: "BIRD", 16: "DHCP", 186: "BGP"}

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class Link(Value):
    """An interface."""

    index: int
    name: str
    mtu: int
    up: bool
    addresses: tuple[str, ...] = ()  # as "192.0.2.7/24"


class Route(Value):
    destination: str  # "10.244.1.0/24"
    gateway: str = ""
    link: int = 0  # the interface's index
    mtu: int = 0  # locked; 0: the interface's
    table: int = MAIN
    protocol: int = PROTOCOL
    metric: int = METRIC

    @property
    def network(self) -> Network:
        return ipaddress.ip_network(self.destination)


class Rule(Value):
    """Of policy routing: asks `table`. Kinds that ask no table are not listed."""

    version: int  # 4 or 6
    priority: int
    table: int
    destination: str = ""  # for packets to that network; "": to anybody
    unconditional: bool = True  # for every packet (to `destination`)
    exceptional: bool = False  # for marked packets, for a user, a port or a protocol
    prefix_above: int = -1  # answers of the table with a shorter or equal prefix do not count
    protocol: int = 0


class Found(Value):
    """What netlink says of this machine at one moment."""

    links: tuple[Link, ...] = ()
    routes: tuple[Route, ...] = ()  # those that lead somewhere, of all tables but `local`
    rules: tuple[Rule, ...] = ()  # in the order in which they are asked
    forwarding: frozenset[int] = frozenset({4, 6})  # families that this machine forwards


def spelled(route: Route) -> str:
    """Somebody else's route, as the beginning of a sentence."""
    maker = MAKERS.get(route.protocol, f"protocol {route.protocol}")
    way = f" via {route.gateway}" if route.gateway else ""
    table = f" in table {route.table}" if route.table != MAIN else ""
    return f"{route.destination} is routed{way} by somebody else ({maker}){table}"


def overlap(one: Network, other: Network) -> bool:
    return one.version == other.version and one.overlaps(other)


class Ranges:
    """Some networks, to be asked for one that overlaps another: thousands of nodes meet thousands of routes."""

    def __init__(self, networks: Iterable[Network]) -> None:
        ordered = sorted(networks, key=_first)
        self._firsts = [_first(network) for network in ordered]
        self._longest: list[Network] = list(accumulate(ordered, _later))

    def touching(self, network: Network) -> Network | None:
        """Of all that begin before it ends, the one that ends last."""
        count = bisect_right(self._firsts, _last(network))
        return self._longest[count - 1] if count and _last(self._longest[count - 1]) >= _first(network) else None


def _later(one: Network, other: Network) -> Network:
    return max(one, other, key=_last)


def _first(network: Network) -> tuple[int, int]:
    return network.version, int(network.network_address)


def _last(network: Network) -> tuple[int, int]:
    return network.version, int(network.broadcast_address)
