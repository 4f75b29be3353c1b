"""The routing tables of the calling thread's network namespace, read and changed by netlink. Decides nothing.

Importing pyroute2 costs 12 MiB resident, so only those agents import this module that have routes to keep. Every call
blocks for a few milliseconds (50 us per route that the machine has): not for the loop.
Invariant: a removal names our protocol number, and the kernel removes nothing that carries another.
Source: rtnetlink(7), linux/fib_rules.h.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import socket
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pyroute2 import IPRoute, NetlinkError

from mesh.node import netlink
from mesh.node.routing import Plan
from mesh.node.tables import LOCAL, PROTOCOL, Found, Link, Route, Rule

FAMILIES = {4: socket.AF_INET, 6: socket.AF_INET6}
FORWARDING = {4: "ipv4/ip_forward", 6: "ipv6/conf/all/forwarding"}
IFF_UP = 1
UNICAST, BLACKHOLE, UNREACHABLE, PROHIBIT = 1, 6, 7, 8  # kinds of routes; others are of the table `local`, or multicast
TO_TABLE, INVERTED = 1, 2  # FR_ACT_TO_TBL, FIB_RULE_INVERT
RTAX_MTU = 2
EXCEPTIONS = ("FRA_UID_RANGE", "FRA_IP_PROTO", "FRA_SPORT_RANGE", "FRA_DPORT_RANGE", "FRA_TUN_ID")
GROUPS = 1 << 0 | 1 << 4 | 1 << 6 | 1 << 7 | 1 << 8 | 1 << 10 | 1 << 18  # links; addresses, routes and rules of both
GONE = {errno.ESRCH, errno.ENOENT, errno.ENODEV}  # what was to be removed is not there

logging.getLogger("pyroute2").setLevel(logging.WARNING)  # below that, it prints every message of every dump

Failures = dict[Route | Rule, str]


def listen() -> socket.socket:
    """Readable whenever something in the tables has changed; what it was is not worth reading."""
    sock = netlink.open_socket(socket.NETLINK_ROUTE)
    sock.bind((0, GROUPS))
    sock.setblocking(False)
    return sock


def look() -> Found:
    """Raises OSError."""
    with _open() as ip:
        return Found(
            links=tuple(_links(ip)),
            routes=tuple(route for version in FAMILIES for route in _routes(ip, version)),
            rules=tuple(rule for version in FAMILIES for rule in _rules(ip, version)),
            forwarding=frozenset(version for version, name in FORWARDING.items() if _forwards(name)),
        )


def apply(plan: Plan) -> Failures:
    """Carry a plan out, each step for itself: what the kernel refused, with its reason. Raises OSError."""
    failures: Failures = {}
    with _open() as ip:
        for route in plan.put:
            _attempt(failures, route, lambda route=route: ip.route("replace", **_spoken(route)))
        for rule in plan.put_rules:
            _attempt(failures, rule, lambda rule=rule: ip.rule("add", **_spoken_rule(rule)))
        for rule in plan.remove_rules:
            _attempt(failures, rule, lambda rule=rule: ip.rule("del", **_spoken_rule(rule)), GONE)
        for route in plan.remove:
            _attempt(failures, route, lambda route=route: ip.route("del", **_spoken(route)), GONE)
    return failures


def _attempt(failures: Failures, what: Route | Rule, step: Any, fine: Sequence[int] | set[int] = ()) -> None:
    try:
        step()
    except NetlinkError as error:
        if error.code not in fine:
            failures[what] = os.strerror(error.code)


@contextlib.contextmanager
def _open() -> Iterator[Any]:
    try:
        with IPRoute() as ip:
            yield ip
    except NetlinkError as error:
        raise OSError(error.code, f"the kernel refuses to show its routes: {os.strerror(error.code)}") from None


def _links(ip: Any) -> Iterator[Link]:
    addresses: dict[int, list[str]] = defaultdict(list)
    for message in ip.get_addr():
        text = message.get("IFA_LOCAL") or message.get("IFA_ADDRESS")  # IPv6 has only the second
        addresses[message["index"]].append(f"{text}/{message['prefixlen']}")
    for message in ip.get_links():
        yield Link(
            index=message["index"],
            name=str(message.get("IFLA_IFNAME")),
            mtu=message.get("IFLA_MTU"),
            up=bool(message["flags"] & IFF_UP),
            addresses=tuple(addresses[message["index"]]),
        )


def _routes(ip: Any, version: int) -> Iterator[Route]:
    for message in ip.route("dump", family=FAMILIES[version]):
        table = message.get("RTA_TABLE") or message["table"]
        if table == LOCAL or message["type"] not in (UNICAST, BLACKHOLE, UNREACHABLE, PROHIBIT):
            continue
        anywhere = "0.0.0.0" if version == 4 else "::"
        yield Route(
            destination=f"{message.get('RTA_DST') or anywhere}/{message['dst_len']}",
            gateway=str(message.get("RTA_GATEWAY") or ""),
            link=message.get("RTA_OIF") or 0,
            mtu=_locked_mtu(message),
            table=table,
            protocol=message["proto"],
            metric=message.get("RTA_PRIORITY") or 0,
        )


def _locked_mtu(message: Any) -> int:
    metrics = message.get("RTA_METRICS")
    if not metrics or not (metrics.get("RTAX_LOCK") or 0) & 1 << RTAX_MTU:
        return 0
    return int(metrics.get("RTAX_MTU") or 0)


def _rules(ip: Any, version: int) -> Iterator[Rule]:
    for message in ip.rule("dump", family=FAMILIES[version]):
        if message["action"] != TO_TABLE:
            continue
        inverted = bool(message["flags"] & INVERTED)
        marked, to = message.get("FRA_FWMARK"), message.get("FRA_DST")
        exceptional = any(message.get(name) for name in EXCEPTIONS) or bool(message["tos"])
        others = bool(message["src_len"] or message.get("FRA_IIFNAME") or message.get("FRA_OIFNAME") or marked)
        unanswered = message.get("FRA_SUPPRESS_PREFIXLEN")
        yield Rule(
            version=version,
            priority=message.get("FRA_PRIORITY") or 0,
            table=message.get("FRA_TABLE") or message["table"],
            destination=f"{to}/{message['dst_len']}" if to and not inverted else "",
            unconditional=not (others or exceptional or inverted),
            exceptional=(bool(marked) or exceptional) and not inverted,
            prefix_above=-1 if unanswered in (None, 0xFFFFFFFF) else unanswered,
            protocol=message.get("FRA_PROTOCOL") or 0,
        )


def _forwards(name: str) -> bool:
    try:
        return Path(f"/proc/sys/net/{name}").read_text().strip() != "0"
    except OSError:  # a machine without that family forwards none of it
        return False


def _spoken(route: Route) -> dict[str, Any]:
    said: dict[str, Any] = {
        "dst": route.destination,
        "gateway": route.gateway,
        "oif": route.link,
        "table": route.table,
        "proto": PROTOCOL,
        "priority": route.metric,
    }
    if route.mtu:
        said["metrics"] = {"lock": 1 << RTAX_MTU, "mtu": route.mtu}
    return said


def _spoken_rule(rule: Rule) -> dict[str, Any]:
    return {
        "family": FAMILIES[rule.version],
        "dst": rule.destination,
        "table": rule.table,
        "priority": rule.priority,
        "protocol": PROTOCOL,
    }
