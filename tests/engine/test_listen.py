"""Listeners: accepting, refusing what is not meant for us, and what happens when we cannot accept."""

from __future__ import annotations

import os
import resource
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from mesh.model import Direction, Protocol
from tests.engine.rig import PATIENCE_SECONDS, SLOT, Peer, Rig, Server


def gate(rig: Rig, direction: Direction = Direction.OUTBOUND, family: int = 4, port: int = 0) -> tuple[str, int]:
    """A listener of the pod. Without a hook the destination of what it accepts is its own address."""
    address = "::" if family == 6 else "127.0.0.1"
    listener = socket.create_server(
        (address, port), family=socket.AF_INET6 if family == 6 else socket.AF_INET, dualstack_ipv6=family == 6
    )
    listener.setblocking(False)
    name = listener.getsockname()
    rig.engine.add_listener(SLOT, direction, listener.detach())
    return "127.0.0.1", name[1]


def connect(rig: Rig, address: tuple[str, int]) -> Peer:
    return Peer(rig, socket.create_connection(address, timeout=PATIENCE_SECONDS))


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("direction", list(Direction))
def test_an_accepted_connection_goes_where_it_was_going(rig: Rig, family: int, direction: Direction) -> None:
    server = Server(rig)
    address = gate(rig, direction, family)
    rig.plan(server.endpoint(), address=address[0], port=address[1], protocol=Protocol.OPAQUE)
    client = connect(rig, address)
    client.send(b"hello")
    app = server.accept()
    assert app.receive(5) == b"hello"
    (listed,) = rig.engine.connections()
    assert (listed.client, listed.client_port) == client.sock.getsockname()[:2]
    assert (listed.address, listed.port, listed.direction) == (*address, direction)


def test_both_legs_send_without_delay(rig: Rig) -> None:
    server = Server(rig)
    address = gate(rig)
    rig.plan(server.endpoint(), address=address[0], port=address[1], protocol=Protocol.OPAQUE)
    known = set(os.listdir("/proc/self/fd"))
    client = connect(rig, address)
    rig.wait_for(accepted=1)
    ours = set(os.listdir("/proc/self/fd")) - known
    assert {no_delay(int(fd)) for fd in ours if name_of(int(fd)) == client.sock.getpeername()} == {1}


def name_of(fd: int) -> object:
    """The local address of a socket, if it is one."""
    try:
        with socket.socket(fileno=os.dup(fd)) as sock:
            return sock.getsockname()
    except OSError:
        return None


def no_delay(fd: int) -> int:
    with socket.socket(fileno=os.dup(fd)) as sock:
        return sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


@pytest.mark.parametrize("setting", ["outbound_port", "inbound_port", "tunnel_port"])
def test_our_own_ports_are_no_destination(setting: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    with Rig(**{setting: port}) as rig:
        assert connect(rig, gate(rig, port=port)).is_reset()
        assert rig.count("loop") == 1
        assert rig.engine.live() == 0


def test_a_canary_is_greeted() -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    with Rig(canary_port=port) as rig:
        assert connect(rig, gate(rig, Direction.INBOUND, port=port)).rest() == b"seine rig\n"
        assert rig.count("canary") == 1


def test_the_canary_port_of_another_address_is_nothing_special() -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    with Rig(canary_port=port) as rig:
        server = Server(rig)
        address = gate(rig, Direction.OUTBOUND, port=port)
        rig.plan(server.endpoint(), address=address[0], port=address[1])
        connect(rig, address)
        server.accept()


@contextmanager
def descriptors_left(count: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest = os.dup(0)
    os.close(lowest)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest + count, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_without_descriptors_accepting_pauses_and_recovers(rig: Rig) -> None:
    server = Server(rig)
    address = gate(rig)
    rig.plan(server.endpoint(), address=address[0], port=address[1], protocol=Protocol.OPAQUE)
    rig.settle()
    client = socket.socket()
    client.setblocking(False)
    client.connect_ex(address)
    with descriptors_left(0):
        rig.wait_for(accept_no_descriptors=3)
        assert rig.count("pumps") < 60  # it waits between the tries
    peer = Peer(rig, client)
    peer.send(b"late")
    assert server.accept().receive(4) == b"late"


def test_beyond_the_limit_connections_stay_in_the_queue() -> None:
    with Rig(max_connections=2) as rig:
        server = Server(rig)
        address = gate(rig)
        rig.plan(server.endpoint(), address=address[0], port=address[1], protocol=Protocol.OPAQUE)
        clients = [connect(rig, address) for _ in range(3)]
        rig.wait_for(accept_limited=2)
        assert rig.engine.live() == 2
        clients[0].close()
        clients[1].close()
        for _ in range(2):
            server.accept().close()
        clients[2].send(b"late")
        assert server.accept().receive(4) == b"late"


def test_adopting_beyond_the_limit_is_refused() -> None:
    with Rig(max_connections=1) as rig:
        rig.plan(Server(rig).endpoint())
        rig.client()
        with pytest.raises(BlockingIOError):
            rig.client()
        assert rig.peers[-1].is_reset()
        assert rig.flags() == {}


def test_a_burst_is_left_for_the_other_worker() -> None:
    """One listener, two engines: whoever is awake takes no more than its batch before the other can."""
    with Rig(budget=1) as one, Rig(budget=1) as two:
        server = Server(one)
        listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        listener.setblocking(False)
        address = listener.getsockname()
        for rig, fd in ((one, os.dup(listener.fileno())), (two, listener.detach())):
            rig.settle()
            rig.engine.add_listener(SLOT, Direction.OUTBOUND, fd)
            rig.plan(server.endpoint(), address=address[0], port=address[1], protocol=Protocol.OPAQUE)
        for _ in range(20):
            connect(one, address)
        for _ in range(200):
            one.step()
            two.step()
        assert one.count("accepted") + two.count("accepted") == 20
        assert min(one.count("accepted"), two.count("accepted")) >= 5


def test_a_listener_can_be_replaced(rig: Rig) -> None:
    server = Server(rig)
    first, second = gate(rig), gate(rig)
    for address in (first, second):
        rig.plan(server.endpoint(), address=address[0], port=address[1], protocol=Protocol.OPAQUE)
    with pytest.raises(ConnectionRefusedError):
        connect(rig, first)
    connect(rig, second)
    server.accept()


def test_a_listener_for_nobody_is_closed(rig: Rig) -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    address = listener.getsockname()
    with pytest.raises(FileNotFoundError):
        rig.engine.add_listener(99, Direction.OUTBOUND, listener.detach())
    with pytest.raises(ConnectionRefusedError):
        connect(rig, address)


def test_a_descriptor_that_is_no_listener_pauses_alone(rig: Rig) -> None:
    one, other = socket.socketpair()
    one.setblocking(False)
    other.send(b"x")
    rig.engine.add_listener(SLOT, Direction.OUTBOUND, one.detach())
    rig.wait_for(accept_failed=2)
    assert rig.count("pumps") < 40
    other.close()
