"""Which routes lead to the pods of other nodes: what is wanted, compared with what is there. Pure.

Host-gateway mode: a node's network of pods is reached by the node's own address, which must lie on a network that this
machine is connected to; nothing is encapsulated. Rules:

* What is ours carries our protocol number, and nothing else is ever changed. Our metric is behind everybody's, so that
  who comes later with a route of his own neither fails nor waits for us to go.
* `enabled` routes every network of pods except one that somebody else routes: that is a conflict, his route stays.
* `auto` routes a family only while nobody else has a route, other than a default route, that overlaps another node's
  network of pods of that family: where a CNI routes, we do not.
* A rule of policy routing is added only where a rule of somebody else, asked before the table `main`, has an answer for
  a network of pods. Rules for marked traffic, for a user or a port are their makers' exceptions, and are left to them.
* A packet size is written into a route, locked, only where it is smaller than the interface's: unlocked, the kernel
  would not apply it to what it forwards.

Source: rtnetlink(7), ip-route(8), ip-rule(8); ip_dst_mtu_maybe_forward() in include/net/ip.h.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator, Mapping, Sequence
from enum import StrEnum

from msgspec import structs

from mesh.config import NodeRouting
from mesh.model import Host, Value
from mesh.node.tables import LOCAL, MAIN, PROTOCOL, Found, Link, Network, Ranges, Route, Rule, overlap, spelled

DEFAULT_PREFIX_MAX = 1  # VPN clients write the default route as two halves
_HERE = "this machine"
_NOT_FORWARDING = {
    4: "this machine does not forward IPv4, so pods' packets stay on it: sysctl net.ipv4.ip_forward=1",
    6: "this machine does not forward IPv6, so pods' packets stay on it: sysctl net.ipv6.conf.all.forwarding=1",
}


class Standing(StrEnum):
    """How it is with one network of pods."""

    ROUTED = "routed"  # by us
    OTHERS = "others"  # somebody else routes pods here, and we leave it to him
    CONFLICT = "conflict"  # somebody else routes this very network
    UNREACHABLE = "unreachable"  # nothing that we could write would lead there
    FAILED = "failed"  # the kernel refused


class Neighbour(Value):
    """One network of pods of another node."""

    node: str
    cidr: str
    gateway: str
    standing: Standing
    interface: str = ""
    mtu: int = 0  # what a route is limited to; 0: the interface's
    detail: str = ""  # a sentence wherever it is not simply routed

    @property
    def reached(self) -> bool:
        return self.standing in (Standing.ROUTED, Standing.OTHERS)


class Plan(Value):
    """What to do, in this order; afterwards the neighbours stand as they say."""

    put: tuple[Route, ...] = ()
    put_rules: tuple[Rule, ...] = ()
    remove_rules: tuple[Rule, ...] = ()
    remove: tuple[Route, ...] = ()
    neighbours: tuple[Neighbour, ...] = ()


def plan(hosts: Sequence[Host], own: str, found: Found, mode: NodeRouting) -> Plan:
    """`own`: the name of this machine among the hosts."""
    pairs = [] if mode is NodeRouting.DISABLED else list(_neighbours(hosts, own, found, mode))
    wanted = [route for _, route in pairs if route is not None]
    keys = {_key(route) for route in wanted}
    ours = [route for route in found.routes if route.protocol == PROTOCOL]
    rules = [rule for route in wanted if (rule := _needed_rule(route, found)) is not None]
    our_rules = [rule for rule in found.rules if rule.protocol == PROTOCOL]
    return Plan(
        put=tuple(route for route in wanted if route not in ours),
        put_rules=tuple(rule for rule in rules if rule not in our_rules),
        remove_rules=tuple(rule for rule in our_rules if rule not in rules),
        remove=tuple(route for route in ours if _key(route) not in keys),
        neighbours=tuple(neighbour for neighbour, _ in pairs),
    )


def _key(route: Route) -> tuple[str, int, int]:
    """Two routes that share it replace each other."""
    return route.destination, route.table, route.metric


def _neighbours(
    hosts: Sequence[Host], own: str, found: Found, mode: NodeRouting
) -> Iterator[tuple[Neighbour, Route | None]]:
    here = next((host for host in hosts if host.name == own), Host(name=own))
    asked = [(host, ipaddress.ip_network(cidr)) for host in hosts if host.name != own for cidr in host.pod_cidrs]
    taken = {ipaddress.ip_network(text): f"node {host.name}" for host in hosts for text in host.addresses}
    mine = {text.partition("/")[0] for link in found.links for text in link.addresses}
    cut_off = _cut_off([network for _, network in asked], taken | {ipaddress.ip_network(text): _HERE for text in mine})
    foreign = [(route.network, route) for route in found.routes if route.protocol != PROTOCOL]
    rivals = {network: route for network, route in foreign if route.table == MAIN}
    ceded = (
        _ceded([network for _, network in asked if network not in cut_off], foreign) if mode is NodeRouting.AUTO else {}
    )
    for host, network in asked:
        gateway = next((text for text in host.addresses if _version(text) == network.version), "")
        told = Neighbour(node=host.name, cidr=str(network), gateway=gateway, standing=Standing.ROUTED)
        link = _link_to(gateway, found.links)
        if network in cut_off:
            yield _but(told, Standing.UNREACHABLE, cut_off[network]), None
        elif network.version in ceded:
            yield _but(told, Standing.OTHERS, ceded[network.version]), None
        elif network in rivals:
            rival = spelled(rivals[network])
            yield _but(told, Standing.CONFLICT, f"{rival}; that one stays and ours is left out"), None
        elif link is None or gateway in mine:
            yield _but(told, Standing.UNREACHABLE, _no_way(host, gateway, network, link)), None
        else:
            limit = min([link.mtu, *(mtu for mtu in (here.mtu, host.mtu) if mtu)])
            mtu = limit if limit < link.mtu else 0
            detail = "" if network.version in found.forwarding else _NOT_FORWARDING[network.version]
            yield (
                structs.replace(told, interface=link.name, mtu=mtu, detail=detail),
                Route(destination=str(network), gateway=gateway, link=link.index, mtu=mtu),
            )


def _cut_off(networks: Iterable[Network], taken: Mapping[Network, str]) -> dict[Network, str]:
    """A node that says that its pods have the addresses of nodes would draw those nodes' packets to itself."""
    addresses = Ranges(taken)
    held = ((network, addresses.touching(network)) for network in networks)
    return {
        network: f"{network} holds {one.network_address}, an address of {taken[one]}, which a route would cut off"
        for network, one in held
        if one is not None
    }


def _ceded(networks: Iterable[Network], foreign: Iterable[tuple[Network, Route]]) -> dict[int, str]:
    """The families that somebody else routes pods of, each with a sentence."""
    pods = Ranges(networks)
    ceded: dict[int, str] = {}
    for its, route in foreign:
        if its.version not in ceded and its.prefixlen > DEFAULT_PREFIX_MAX and pods.touching(its) is not None:
            ceded[its.version] = f"{spelled(route)}, so all routes to IPv{its.version} pods are left to others"
    return ceded


def _link_to(gateway: str, links: Iterable[Link]) -> Link | None:
    """The interface on whose network the gateway is; the smallest such network decides, as in the kernel."""
    if not gateway:
        return None
    address = ipaddress.ip_address(gateway)
    near = [
        (interface.network.prefixlen, link)
        for link in links
        if link.up
        for interface in map(ipaddress.ip_interface, link.addresses)
        if address in interface.network
    ]
    return max(near, key=lambda each: each[0])[1] if near else None


def _no_way(host: Host, gateway: str, network: Network, link: Link | None) -> str:
    if not gateway:
        return f"node {host.name} has no IPv{network.version} InternalIP to send packets for {network} to"
    if link is not None:
        return f"{gateway}, the InternalIP of node {host.name}, is an address of this machine itself"
    return (
        f"{gateway}, the InternalIP of node {host.name}, is on no network that this machine is connected to; "
        "host-gateway routes need one in common, other networks need a CNI that tunnels or a router"
    )


def _needed_rule(route: Route, found: Found) -> Rule | None:
    """Asks the rules in their order, as the kernel would for a packet to those pods."""
    network = route.network
    for rule in found.rules:
        if rule.version != network.version or rule.protocol == PROTOCOL or rule.exceptional:
            continue
        if rule.destination and not overlap(ipaddress.ip_network(rule.destination), network):
            continue
        if rule.table == MAIN and rule.unconditional and rule.prefix_above < network.prefixlen:
            return None
        answers = (each for each in found.routes if each.table == rule.table and each.table not in (MAIN, LOCAL))
        if any(each.network.prefixlen > rule.prefix_above and overlap(each.network, network) for each in answers):
            return Rule(
                version=network.version,
                priority=rule.priority - 1,  # 0 asks for the machine's own addresses, so nobody else's is there
                table=MAIN,
                destination=route.destination,
                protocol=PROTOCOL,
            )
    return None


def _but(neighbour: Neighbour, standing: Standing, detail: str) -> Neighbour:
    return structs.replace(neighbour, standing=standing, detail=detail)


def _version(address: str) -> int:
    return 6 if ":" in address else 4
