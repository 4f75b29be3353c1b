"""A pod's connections as the kernel lists them: whose they are, which are too old to be carried, and their end."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from mesh.capture.existing import Bypass, destroy, established
from mesh.capture.sockets import SocketFactory
from mesh.config import INBOUND_PORT
from mesh.model import Direction, Workload
from mesh.model import Pod as Enrolled
from mesh.node import sockdiag
from tests.kernel.capturing import Capturing, pod_address
from tests.kit.lab import Lab, Pod
from tests.kit.leftovers import cgroup2_root, remove_cgroup
from tests.kit.wait import eventually

PORT = 8080


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab("existing") as lab:
        yield lab


@pytest.fixture
def pods(lab: Lab) -> Iterator[tuple[Pod, Pod]]:
    client, server = lab.pod("client"), lab.pod("server")
    yield client, server
    client.remove()
    server.remove()


@pytest.fixture
def fixed(lab: Lab) -> Iterator[Path]:
    path = cgroup2_root() / f"seine-{lab.name}"
    path.mkdir()
    yield path
    remove_cgroup(path)


@pytest.fixture
def undo() -> Iterator[list[socket.socket]]:
    opened: list[socket.socket] = []
    yield opened
    for sock in opened:
        sock.close()


def enrolled(pod: Pod) -> Enrolled:
    return Enrolled(
        workload=Workload(uid=pod.name, namespace="default", name=pod.name, addresses=(pod.ip, pod.ip6)),
        netns=pod.netns,
        cgroup=str(pod.cgroup),
    )


def connect(client: Pod, server: Pod, address: str, undo: list[socket.socket]) -> tuple[socket.socket, socket.socket]:
    """Both ends of a connection between the pods; the server listens on both families."""
    listener = server.socket(socket.AF_INET6)
    undo.append(listener)
    listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    listener.bind(("::", PORT))
    listener.listen()
    near = client.connect(address, PORT)
    far = listener.accept()[0]
    undo += [near, far]
    return near, far


def found(pod: Pod, fixed: Path, *destinations: tuple[str, int]) -> tuple[Bypass, ...]:
    return asyncio.run(established(enrolled(pod), fixed, frozenset(destinations)))


@pytest.mark.parametrize("family", ["ip", "ip6"])
def test_a_connection_older_than_its_capture_is_a_bypass_at_both_ends(pods, fixed, undo, family):
    client, server = pods
    address, source = getattr(server, family), getattr(client, family)
    near, far = connect(client, server, address, undo)
    (outbound,) = found(client, fixed, (address, PORT))
    assert outbound.direction is Direction.OUTBOUND
    assert (outbound.connection.local, outbound.connection.local_port) == near.getsockname()[:2]
    assert (outbound.connection.peer, outbound.connection.peer_port) == (address, PORT)
    (inbound,) = found(server, fixed)
    assert inbound.direction is Direction.INBOUND
    assert (inbound.connection.peer, inbound.connection.peer_port) == (source, far.getpeername()[1])
    assert found(client, fixed) == ()  # a destination that the mesh does not know


@pytest.mark.parametrize("family", ["ip", "ip6"])
@pytest.mark.parametrize("side", [0, 1])
def test_its_end_is_felt_at_both_ends_and_by_nobody_else(pods, fixed, undo, family, side):
    client, server = pods
    address = getattr(server, family)
    near, far = connect(client, server, address, undo)
    pod = pods[side]
    wanted = found(pod, fixed, (address, PORT))
    other = client.connect(address, PORT)
    undo.append(other)
    assert asyncio.run(destroy(enrolled(pod), wanted, 0.0)) == 1
    for end in (near, far):
        with pytest.raises((ConnectionAbortedError, ConnectionResetError)):
            end.recv(1)
    other.sendall(b"x")
    assert asyncio.run(destroy(enrolled(pod), wanted, 0.0)) == 0  # it has ended already
    assert [one for one in found(pod, fixed, (address, PORT)) if one in wanted] == []


def test_sockets_of_the_fixed_cgroup_and_what_they_accept_are_ours(pods, fixed, undo):
    client, server = pods

    async def make() -> list[socket.socket]:
        factory = SocketFactory()
        await factory.start(fixed)
        fds = [*await factory.listeners(server.netns), *await factory.sockets(client.netns, socket.AF_INET, 1)]
        await factory.close()
        return [socket.socket(fileno=fd) for fd in fds]

    outbound, inbound, dial = asyncio.run(make())
    undo += [outbound, inbound, dial]
    dial.settimeout(3)
    dial.connect((server.ip, INBOUND_PORT))
    inbound.settimeout(3)
    undo.append(inbound.accept()[0])
    assert found(client, fixed, (server.ip, 0)) == ()
    assert found(server, fixed) == ()
    with sockdiag.open_inside(server.netns) as sock:
        listed = list(sockdiag.connections(sock, sockdiag.ESTABLISHED, sockdiag.LISTEN))
    assert len(listed) == 3
    assert {one.cgroup_id for one in listed} == {fixed.stat().st_ino}


def test_only_what_was_there_before_capture_is_a_bypass(undo):
    with Lab("before") as lab:
        client, server = lab.pod("client"), lab.pod("server")
        old, _ = connect(client, server, server.ip, undo)
        capture = Capturing(lab)
        capture.know(pod_address(client.ip), pod_address(server.ip))
        ends = [capture.enrol(client), capture.enrol(server)]
        new = client.connect(server.ip, PORT)
        undo += [new, ends[0].outbound.accept()[0]]
        (outbound,) = found(client, capture.kernel.cgroup, (server.ip, 0))
        (inbound,) = found(server, capture.kernel.cgroup, (server.ip, 0))
        port = old.getsockname()[1]
        assert (outbound.connection.local_port, inbound.connection.peer_port) == (port, port)


def test_hundreds_of_connections_are_listed_whole(pods, fixed, undo):
    client, server = pods
    connect(client, server, server.ip, undo)
    listener = undo[0]
    listener.listen(1000)
    for sock in client.sockets(socket.AF_INET, 250) + client.sockets(socket.AF_INET, 250):
        undo.append(sock)
        sock.connect((server.ip, PORT))
    expected = {sock.getsockname()[1] for sock in undo if sock.getsockname()[0] == client.ip}
    eventually(lambda: len(found(server, fixed)) == 501, "all to be established")
    assert {one.connection.peer_port for one in found(server, fixed)} == expected


def test_a_namespace_that_is_gone_fails_in_words(pods, fixed):
    pod = enrolled(pods[0])
    pods[0].remove()
    with pytest.raises(OSError, match=f"the network namespace {pod.netns} cannot be opened"):
        asyncio.run(established(pod, fixed, frozenset()))
    assert not os.path.exists(pod.netns)
