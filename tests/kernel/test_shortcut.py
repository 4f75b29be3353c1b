"""Bytes between two sockets of a node skip TCP when both pods ask for it, and nobody can tell but by the clock."""

from __future__ import annotations

import errno
import random
import selectors
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
from pyroute2 import IPRoute

from mesh.capture._bpf import lib
from tests.kernel.capturing import Capturing, Enrolled, listen, plain, pod_address, service, set_true_client
from tests.kit.lab import Lab
from tests.kit.wait import eventually

PORT = 9000  # exempt from capture in both pods: connections to it have no worker between
MESSAGE_BYTES: int = lib.MESSAGE_BYTES
CREDIT_BYTES: int = lib.CREDIT_BYTES
SHORT = ("shortcut_joined", "shortcut_messages", "shortcut_bytes")


@dataclass
class Town:
    """a and b have the short-cut, c is enrolled without it, outside is not enrolled."""

    capture: Capturing
    a: Enrolled
    b: Enrolled
    c: Enrolled


@pytest.fixture(scope="module")
def town() -> Iterator[Town]:
    with Lab("short") as lab:
        capture = Capturing(lab)
        assert capture.kernel.shortcut.detail == ""
        skipping = {"skip_outbound_ports": frozenset({PORT}), "skip_inbound_ports": frozenset({PORT})}
        a, b = (capture.enrol(lab.pod(name), shortcut=True, **skipping) for name in "ab")
        c = capture.enrol(lab.pod("c"), **skipping)
        capture.know(*(pod_address(each.pod.ip) for each in (a, b, c)))
        capture.know(*(pod_address(each.pod.ip6) for each in (a, b, c)))
        yield Town(capture, a, b, c)
        eventually(lambda: not left(capture), "the tables to be empty when all is closed")


def left(capture: Capturing) -> list[bytes]:
    """What is still in the tables."""
    return [key for name in ("lanes", "ends") for key in capture.kernel._maps[name].all_keys()]


class Difference(dict[str, int]):
    """What a pod's short-cut counters grew by; a counter that did not is 0."""

    def __missing__(self, key: str) -> int:
        return 0


@contextmanager
def counted(*pods: Enrolled) -> Iterator[list[Difference]]:
    found = [Difference() for _ in pods]
    before = [pod.capture.kernel.counters()[pod.slot] for pod in pods]
    yield found
    for pod, old, new in zip(pods, before, found, strict=True):
        now = pod.capture.kernel.counters()[pod.slot]
        new |= {name: now[name] - old[name] for name in now if name.startswith("shortcut_") and now[name] != old[name]}


@contextmanager
def connected(a: Enrolled, b: Enrolled, address: str = "", defer: bool = False) -> Iterator[tuple[socket.socket, ...]]:
    """Client in `a`, server in `b`, nobody between them. `defer`: the server's end does not exist yet: the listener."""
    address = address or b.pod.ip
    with listen(b.pod, address.removeprefix("::ffff:"), PORT) as listener, ExitStack() as undo:
        if defer:
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, 5)
        client = undo.enter_context(a.pod.connect(address, PORT))
        if defer:
            yield client, listener
            return
        server = undo.enter_context(listener.accept()[0])
        server.settimeout(3)
        yield client, server


def received(sock: socket.socket, size: int) -> bytes:
    """`size` bytes, or all there are until the end."""
    parts = bytearray()
    while len(parts) < size:
        part = sock.recv(min(65536, size - len(parts)))
        if not part:
            break
        parts += part
    return bytes(parts)


# --- who takes it


@pytest.mark.parametrize("family", ["IPv4", "IPv6", "v4-mapped"])
def test_two_pods_that_ask_for_it_talk_past_tcp(town, family):
    address = {"IPv4": town.b.pod.ip, "IPv6": town.b.pod.ip6, "v4-mapped": f"::ffff:{town.b.pod.ip}"}[family]
    with counted(town.a, town.b) as (a, b), connected(town.a, town.b, address) as (client, server):
        client.sendall(b"question")
        assert server.recv(64) == b"question"
        server.sendall(b"the answer")
        assert client.recv(64) == b"the answer"
    assert a == {"shortcut_joined": 1, "shortcut_messages": 1, "shortcut_bytes": 8}
    assert b == {"shortcut_joined": 1, "shortcut_messages": 1, "shortcut_bytes": 10}


@pytest.mark.parametrize("family", ["IPv4", "IPv6", "v4-mapped"])
def test_a_captured_client_and_its_worker_talk_past_tcp(town, family):
    vip = town.capture.lab.vip()
    town.capture.know(service(vip[0], 80, ("10.0.0.1", 80)), service(vip[1], 80, ("fd00::1", 80)))
    address = {"IPv4": vip[0], "IPv6": vip[1], "v4-mapped": f"::ffff:{vip[0]}"}[family]
    with counted(town.a) as (a,), town.a.pod.connect(address, 80) as client, town.a.outbound.accept()[0] as worker:
        assert plain(worker.getsockname()) == plain((address, 80))
        client.sendall(b"question")
        assert worker.recv(64) == b"question"
        worker.sendall(b"answer")
        assert client.recv(64) == b"answer"
    assert a == {"shortcut_joined": 2, "shortcut_messages": 2, "shortcut_bytes": 14}


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
def test_a_worker_and_the_app_it_dials_talk_past_tcp(town, family):
    six = family == socket.AF_INET6
    address, true_client = (town.b.pod.ip6, town.a.pod.ip6) if six else (town.b.pod.ip, town.a.pod.ip)
    with listen(town.b.pod, address, 8080) as listener, town.b.socket(family) as worker, counted(town.b) as (b,):
        set_true_client(worker, true_client, 4242)
        worker.connect((address, 8080))
        app, peer = listener.accept()
        with app:
            assert plain(peer) == (true_client, 4242)
            worker.sendall(b"question")
            assert app.recv(64) == b"question"
            app.sendall(b"answer")
            assert worker.recv(64) == b"answer"
    assert b == {"shortcut_joined": 2, "shortcut_messages": 2, "shortcut_bytes": 14}


def test_a_client_from_outside_and_the_worker_that_serves_it_use_tcp(town):
    outside = town.capture.lab.pod("outside")
    with counted(town.b) as (b,), outside.connect(town.b.pod.ip, 8080) as client, town.b.inbound.accept()[0] as worker:
        client.sendall(b"question")
        assert worker.recv(64) == b"question"
        worker.sendall(b"answer")
        assert client.recv(64) == b"answer"
    assert b == {}


@pytest.mark.parametrize(("one", "other"), [("a", "c"), ("c", "a"), ("c", "c")])
def test_a_pod_that_does_not_ask_for_it_is_not_touched(town, one, other):
    one, other = getattr(town, one), getattr(town, other)
    with counted(one, other) as (a, b), connected(one, other) as (client, server):
        client.sendall(b"question")
        assert server.recv(64) == b"question"
        server.sendall(b"answer")
        assert client.recv(64) == b"answer"
    assert (a, b) == ({}, {})


def test_the_same_loopback_tuple_in_two_pods_is_two_connections(town):
    with ExitStack() as undo, counted(town.a, town.b) as (a, b):
        ends = []
        for each in (town.a, town.b):
            listener = undo.enter_context(listen(each.pod, "127.0.0.1", 40001))
            client = undo.enter_context(each.pod.socket())
            client.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            client.bind(("127.0.0.1", 40000))
            client.connect(("127.0.0.1", 40001))
            ends.append((client, undo.enter_context(listener.accept()[0])))
        for number, (client, _) in enumerate(ends):
            client.sendall(b"question %d" % number)
        for number, (client, server) in enumerate(ends):
            assert server.recv(64) == b"question %d" % number
            server.sendall(b"answer %d" % number)
            assert client.recv(64) == b"answer %d" % number
    assert a["shortcut_messages"] == b["shortcut_messages"] == 2


def own(pod, change, address):
    """Its loopback gets the address, or loses it."""

    def inside():
        with IPRoute() as ip:
            ip.addr(change, index=1, address=address, prefixlen=32)

    pod.inside(inside)


def test_who_claims_another_pods_address_stays_out(town):
    """b puts a's address on its own loopback and talks to itself: its sockets must never stand for a's."""
    own(town.b.pod, "add", town.a.pod.ip)
    try:
        with (
            counted(town.b) as (b,),
            listen(town.b.pod, town.a.pod.ip, PORT) as listener,
            town.b.pod.connect(town.a.pod.ip, PORT) as client,
            listener.accept()[0] as server,
        ):
            client.sendall(b"question")
            assert server.recv(64) == b"question"
    finally:
        own(town.b.pod, "del", town.a.pod.ip)
    assert b == {}


def test_a_tuple_that_is_used_again_does_not_reach_the_socket_that_had_it(town):
    """The client's end was reset and is gone; the server's app still holds its own. Then comes the same tuple again."""
    with ExitStack() as undo, counted(town.a, town.b) as (a, b):
        listener = undo.enter_context(listen(town.b.pod, town.b.pod.ip, PORT))
        servers = []
        for number in range(2):
            client = undo.enter_context(town.a.pod.socket())
            client.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.bind((town.a.pod.ip, 40010))
            client.connect((town.b.pod.ip, PORT))
            servers.append(undo.enter_context(listener.accept()[0]))
            client.sendall(b"question %d" % number)
            if number == 0:
                client.close()
        servers[1].settimeout(3)
        assert servers[1].recv(64) == b"question 1"
        assert servers[0].recv(64) == b"question 0"
        with pytest.raises(ConnectionResetError):
            servers[0].recv(64)
    assert a["shortcut_messages"] == 2
    assert b["shortcut_joined"] == 2


# --- order


def test_an_end_that_joins_late_gets_everything_in_order(town):
    """TCP_DEFER_ACCEPT: the server's socket comes to be with the first bytes, so these went by TCP, and so must all."""
    for _ in range(20):
        parts = [random.randbytes(random.randint(1, 2000)) for _ in range(20)]
        with counted(town.a, town.b) as (a, b), connected(town.a, town.b, defer=True) as (client, listener):
            for part in parts:
                client.sendall(part)
            with listener.accept()[0] as server:
                server.settimeout(3)
                server.sendall(b"banner")
                assert received(server, sum(map(len, parts))) == b"".join(parts)
                assert client.recv(64) == b"banner"
        assert a == {"shortcut_joined": 1, "shortcut_absent": 1}
        assert b == {"shortcut_joined": 1, "shortcut_messages": 1, "shortcut_bytes": 6}


def test_bytes_whose_sender_waited_for_the_connection_are_not_overtaken(town):
    """It slept in send() when the connection came to be: no program saw those bytes, and TCP has them."""
    with ExitStack() as undo, counted(town.a) as (a,):
        listener = undo.enter_context(listen(town.b.pod, town.b.pod.ip, PORT))
        listener.listen(0)  # one may wait; the kernel drops the next one's SYN, which comes again after a second
        undo.enter_context(town.a.pod.connect(town.b.pod.ip, PORT))
        client = undo.enter_context(town.a.pod.socket())
        client.setblocking(False)
        assert client.connect_ex((town.b.pod.ip, PORT)) == errno.EINPROGRESS
        client.setblocking(True)
        waiter = threading.Thread(target=client.send, args=(b"first",))
        waiter.start()
        eventually(lambda: sleeps_in_send(waiter), "the sender to sleep")
        listener.accept()[0].close()
        server = undo.enter_context(listener.accept()[0])
        waiter.join(3)
        client.sendall(b"second")
        server.settimeout(3)
        assert received(server, 11) == b"firstsecond"
        server.sendall(b"answer")
        assert client.recv(64) == b"answer"
    assert a == {"shortcut_joined": 2, "shortcut_early": 1}


def sleeps_in_send(thread: threading.Thread) -> bool:
    with open(f"/proc/self/task/{thread.native_id}/wchan") as wchan:
        return wchan.read() == "wait_woken"


def test_bytes_that_travelled_with_the_syn_are_not_overtaken(town):
    for each in (town.a, town.b):
        each.pod.inside(lambda: Path("/proc/sys/net/ipv4/tcp_fastopen").write_text("519"))  # both sides, no cookie
    with ExitStack() as undo, counted(town.a) as (a,):
        listener = undo.enter_context(listen(town.b.pod, town.b.pod.ip, PORT))
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_FASTOPEN, 16)
        client = undo.enter_context(town.a.pod.socket())
        client.sendto(b"first", socket.MSG_FASTOPEN, (town.b.pod.ip, PORT))
        client.sendall(b"second")
        client.sendall(b"third")
        server = undo.enter_context(listener.accept()[0])
        server.settimeout(3)
        assert received(server, 16) == b"firstsecondthird"
        server.sendall(b"answer")
        assert client.recv(64) == b"answer"
    assert a == {"shortcut_early": 1}


@pytest.mark.parametrize(("listener", "client"), [("MPTCP", "TCP"), ("TCP", "MPTCP"), ("MPTCP", "MPTCP")])
def test_multipath_tcp_loses_the_short_cut_at_most(town, listener, client):
    """Go listens with MPTCP by default; what such a listener accepts from a plain client is a plain socket."""
    with counted(town.a, town.b) as (a, b), ExitStack() as undo:
        listening = undo.enter_context(of_protocol(town.b, listener))
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((town.b.pod.ip, PORT))
        listening.listen(1)
        connecting = undo.enter_context(of_protocol(town.a, client))
        connecting.connect((town.b.pod.ip, PORT))
        server = undo.enter_context(listening.accept()[0])
        server.settimeout(3)
        for sender, receiver in ((connecting, server), (server, connecting)) * 2:
            data = random.randbytes(50_000)
            sender.sendall(data)
            assert received(receiver, len(data)) == data
    assert a["shortcut_messages"] == b["shortcut_messages"] == (2 if client == "TCP" else 0)


def of_protocol(enrolled: Enrolled, protocol: str) -> socket.socket:
    """A socket of the pod; Lab's own are plain TCP."""
    pod, ours_and_theirs = enrolled.pod, socket.socketpair()
    number = {"TCP": socket.IPPROTO_TCP, "MPTCP": 262}[protocol]

    def make() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM, number) as made:
            socket.send_fds(ours_and_theirs[1], [b"."], [made.fileno()])

    with ours_and_theirs[0], ours_and_theirs[1]:
        pod.python(make)
        _, fds, _, _ = socket.recv_fds(ours_and_theirs[0], 1, 1)
    made = socket.socket(fileno=fds[0])
    made.settimeout(3)
    return made


# --- how much


def test_a_reader_that_never_reads_stops_its_sender(town):
    with counted(town.a) as (a,), connected(town.a, town.b) as (client, server):
        server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        client.setblocking(False)
        sent, part = 0, random.randbytes(10_000)
        with pytest.raises(BlockingIOError):
            while True:
                sent += client.send(part[sent % len(part) :])
        assert sent < 64 << 20
        assert received(server, sent) == (part * (sent // len(part) + 1))[:sent]
    assert a["shortcut_bytes"] <= CREDIT_BYTES
    assert a["shortcut_credit"] == 1
    assert a["shortcut_messages"] == CREDIT_BYTES // (len(part) + MESSAGE_BYTES)


def test_a_flood_of_tiny_messages_is_bounded_too(town):
    """Each costs the kernel far more than its byte."""
    with counted(town.a) as (a,), connected(town.a, town.b) as (client, server):
        for _ in range(1000):
            client.sendall(b".")
        assert received(server, 1000) == b"." * 1000
    assert a["shortcut_messages"] == CREDIT_BYTES // (MESSAGE_BYTES + 1)
    assert a["shortcut_credit"] == 1


def test_an_answer_renews_the_credit(town):
    with counted(town.a) as (a,), connected(town.a, town.b) as (client, server):
        part = random.randbytes(200_000)
        for _ in range(10):
            client.sendall(part)
            assert received(server, len(part)) == part
            server.sendall(b"!")
            assert client.recv(1) == b"!"
    assert a["shortcut_bytes"] == 10 * len(part)
    assert a["shortcut_credit"] == 0


def test_a_direction_that_went_to_tcp_never_comes_back(town):
    with counted(town.a, town.b) as (a, b), connected(town.a, town.b) as (client, server):
        parts = [random.randbytes(50_000) for _ in range(8)]
        for part in parts:
            client.sendall(part)
        for _ in range(3):
            server.sendall(b"!")
            client.sendall(b"more")
        assert received(server, 400_012) == b"".join(parts) + b"more" * 3
        assert received(client, 3) == b"!!!"
    assert a == {"shortcut_joined": 1, "shortcut_messages": 5, "shortcut_bytes": 250_000, "shortcut_credit": 1}
    assert b == {"shortcut_joined": 1, "shortcut_messages": 3, "shortcut_bytes": 3}


# --- how it ends


def test_a_connection_without_a_byte_falls_back_from_nothing(town):
    with counted(town.a, town.b) as (a, b), connected(town.a, town.b) as (client, server):
        client.close()
        assert server.recv(1) == b""
    assert a == b == {"shortcut_joined": 1}


@pytest.mark.parametrize("first", ["client", "server"])
def test_a_half_closed_connection_loses_nothing(town, first):
    """Much is unread when the FIN arrives by TCP: it must not overtake what is in the short-cut's queue."""
    with connected(town.a, town.b) as (client, server):
        one, other = (client, server) if first == "client" else (server, client)
        data, answer = random.randbytes(200_000), random.randbytes(200_000)
        one.sendall(data)
        one.shutdown(socket.SHUT_WR)
        with selectors.DefaultSelector() as ready:
            ready.register(other, selectors.EVENT_READ)
            assert ready.select(3)
        with pytest.raises(BrokenPipeError):
            one.sendall(b"too late")
        assert received(other, len(data)) == data
        assert other.recv(1) == b""
        other.sendall(answer)
        other.shutdown(socket.SHUT_WR)
        assert received(one, 1 << 20) == answer


def test_a_half_closed_connection_that_went_to_tcp_loses_nothing(town):
    with connected(town.a, town.b) as (client, server):
        data = random.randbytes(4 << 20)

        def send() -> None:
            client.sendall(data)
            client.shutdown(socket.SHUT_WR)

        sender = threading.Thread(target=send)
        sender.start()
        assert received(server, 8 << 20) == data
        sender.join(3)


def test_a_close_with_unread_bytes_tells_the_peer(town):
    with connected(town.a, town.b) as (client, server):
        client.sendall(random.randbytes(100_000))
        server.close()
        assert client.recv(1) == b""
        with pytest.raises(BrokenPipeError):
            for _ in range(3):  # the first is answered by a reset
                client.sendall(b"anybody there?")


def test_a_reset_comes_after_the_bytes_before_it(town):
    with connected(town.a, town.b) as (client, server):
        client.sendall(b"last words")
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()
        assert server.recv(64) == b"last words"
        with pytest.raises(ConnectionResetError):
            server.recv(64)


def test_two_hundred_connections_carry_what_they_were_given(town):
    """Random sizes, both ways at once; every connection has its own bytes."""
    with ExitStack() as undo, counted(town.a, town.b) as (a, b):
        listener = undo.enter_context(listen(town.b.pod, town.b.pod.ip, PORT))
        listener.listen(256)
        clients = [undo.enter_context(sock) for _ in range(4) for sock in town.a.pod.sockets(socket.AF_INET, 50)]
        lanes = []
        for client in clients:
            client.connect((town.b.pod.ip, PORT))
            server = undo.enter_context(listener.accept()[0])
            size = random.choice((1_000, 50_000, 600_000))
            lanes += [Stream(client, server, random.randbytes(size)), Stream(server, client, random.randbytes(size))]
        carry(lanes)
    assert a["shortcut_joined"] == b["shortcut_joined"] == 200
    assert min(a["shortcut_messages"], b["shortcut_messages"]) > 200


class Stream:
    """One direction of a connection."""

    def __init__(self, source: socket.socket, target: socket.socket, data: bytes) -> None:
        self.source, self.target, self.data = source, target, data
        self.sent = self.got = 0
        source.setblocking(False)

    def step(self) -> bool:
        """Send one message and read some; True when all has arrived."""
        with suppress(BlockingIOError):
            self.sent += self.source.send(self.data[self.sent : self.sent + random.randint(1, 60_000)])
        with suppress(BlockingIOError):
            part = self.target.recv(random.randint(1, 60_000))
            assert part == self.data[self.got : self.got + len(part)]
            self.got += len(part)
        return self.got == len(self.data)


def carry(streams: list[Stream]) -> None:
    end = time.monotonic() + 30
    while streams:
        streams = [stream for stream in streams if not stream.step()]
        assert time.monotonic() < end, f"{len(streams)} streams are stuck"
