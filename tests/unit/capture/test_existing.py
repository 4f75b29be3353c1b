"""Which of a pod's connections go past the mesh, and how their end is spread."""

from __future__ import annotations

import asyncio
import socket

import pytest

from mesh.capture import existing
from mesh.capture.existing import bypasses, destroy
from mesh.model import Direction, Pod, Workload
from mesh.node.sockdiag import CLOSE_WAIT, ESTABLISHED, LISTEN, Connection

OURS, THEIRS = 7, 8
SELF, CLIENT, VIP, OTHER_POD, OUTSIDE = "10.1.0.2", "10.1.0.9", "10.96.0.1", "10.1.0.3", "203.0.113.5"
POD = Pod(
    workload=Workload(uid="u", namespace="default", name="web", addresses=(SELF, "fd00::2")),
    netns="/run/netns/none",
    skip_inbound_ports=frozenset({9000}),
    skip_outbound_ports=frozenset({25}),
)
KNOWN = {(VIP, 80), (VIP, 25), (OTHER_POD, 0)}


def sock(
    local: str, local_port: int, peer: str, peer_port: int, cgroup: int = THEIRS, state: int = ESTABLISHED
) -> Connection:
    return Connection(
        family=socket.AF_INET,
        state=state,
        local=local,
        local_port=local_port,
        peer=peer,
        peer_port=peer_port,
        cgroup_id=cgroup,
        key=b"",
    )


def listener(port: int, cgroup: int = THEIRS) -> Connection:
    return sock("0.0.0.0", port, "0.0.0.0", 0, cgroup, LISTEN)


LISTENERS = [listener(8080), listener(9000), listener(15001, OURS), listener(15006, OURS)]


@pytest.mark.parametrize(
    ("connection", "direction"),
    [
        (sock(SELF, 8080, CLIENT, 40000), Direction.INBOUND),
        (sock(SELF, 8080, OUTSIDE, 40000), Direction.INBOUND),
        (sock("fd00::2", 8080, "fd00::9", 40000), Direction.INBOUND),
        (sock(SELF, 40000, VIP, 80), Direction.OUTBOUND),
        (sock(SELF, 40000, OTHER_POD, 5432), Direction.OUTBOUND),
        # asked to be left alone
        (sock(SELF, 9000, CLIENT, 40000), None),
        (sock(SELF, 40000, VIP, 25), None),
        # nothing that the mesh knows
        (sock(SELF, 40000, OUTSIDE, 443), None),
        (sock(SELF, 40000, VIP, 81), None),
        # carried: our own socket, the client's to our listener, the app's from us
        (sock(SELF, 8080, CLIENT, 40000, OURS), None),
        (sock(SELF, 40000, OTHER_POD, 8080, OURS), None),
        (sock(SELF, 40000, "127.3.4.5", 15001), None),
        (sock("fd00::2", 40000, "::1", 15001), None),
        (sock(SELF, 8080, "127.9.9.9", 40000), None),
        (sock("fd00::2", 8080, "fd00::2", 40000), None),
        # not a conversation any more
        (sock(SELF, 8080, CLIENT, 40000, state=CLOSE_WAIT), None),
    ],
)
def test_a_bypass_is_what_should_be_captured_and_is_not(connection, direction):
    found = bypasses(POD, [*LISTENERS, connection], OURS, KNOWN)
    assert [(one.direction, one.connection) for one in found] == (
        [] if direction is None else [(direction, connection)]
    )


def test_our_own_listeners_make_nothing_inbound():
    assert bypasses(POD, [*LISTENERS, sock(SELF, 15006, CLIENT, 40000)], OURS, KNOWN) == ()


def test_ends_are_spread_evenly_over_the_drain_time(monkeypatch):
    slept: list[float] = []
    ended: list[Connection] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    def end(netns: str, connection: Connection) -> bool:
        ended.append(connection)
        return connection.peer_port != 2  # this one had ended by itself

    monkeypatch.setattr(existing, "_end", end)
    connections = [sock(SELF, 8080, CLIENT, port) for port in range(1, 6)]
    wanted = bypasses(POD, [*LISTENERS, *connections], OURS, KNOWN)
    assert asyncio.run(destroy(POD, wanted, 30.0, sleep)) == 4
    assert ended == connections
    assert slept == [6.0] * 4


def test_nothing_to_end_takes_no_time():
    assert asyncio.run(destroy(POD, (), 30.0)) == 0
