"""A lab of two nodes keeps its word without a mesh: routed pods, a wire that loses, delays and can be read."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from pyroute2 import IPRoute

from tests.kit import apps
from tests.kit.lab import Lab
from tests.kit.leftovers import leftovers, sweep
from tests.kit.wait import eventually

FAMILIES = ["ip", "ip6"]


@pytest.fixture(scope="module")
def lab():
    with Lab("nodes") as lab:
        lab.make_node("a")
        lab.make_node("b")
        yield lab


@pytest.fixture(scope="module")
def client(lab):
    return lab.pod("client", node=lab.wire.nodes[0])


@pytest.fixture(scope="module")
def server(lab):
    return lab.pod("server", node=lab.wire.nodes[1])


@pytest.fixture(scope="module")
def talk(server):
    return apps.Talk(server)


@pytest.mark.parametrize("family", FAMILIES)
def test_pods_of_two_nodes_reach_each_other_under_their_own_addresses(client, server, talk, family):
    with client.connect(getattr(server, family), talk.port) as sock, sock.makefile("rw") as stream:
        print("who", file=stream, flush=True)
        assert getattr(client, family) in stream.readline()


def test_the_machines_own_namespace_has_no_part_in_it(lab, client, server):
    mine = f"s{lab.owner:x}-{lab.serial:x}"
    with IPRoute() as ip:
        assert not [link for link in ip.get_links() if link.get_attr("IFLA_IFNAME").startswith(mine)]


def test_a_node_whose_routes_are_not_the_labs_is_reached_by_nobody(lab, client):
    stranger = lab.pod("stranger", node=lab.make_node("c", routed=False))
    with pytest.raises(OSError, match="unreachable"):
        client.connect(stranger.ip, 9)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_wire_shows_what_crosses_it(lab, client, server, talk, family):
    with lab.wire.captured() as frames, client.connect(getattr(server, family), talk.port) as sock:
        sock.sendall(b"echo the marked payload\n")
        assert sock.recv(100) == b"the marked payload\n"
    assert frames.complete
    assert len(frames.holding(b"the marked payload")) == 2, "there and back"
    assert not frames.holding(b"what nobody sent")


def test_the_wire_does_not_show_what_stays_on_a_node(lab, client, talk):
    neighbour = lab.pod("neighbour", node=client.node)
    own = apps.Talk(neighbour)
    with lab.wire.captured() as frames, client.connect(neighbour.ip, own.port) as sock:
        sock.sendall(b"echo the marked payload\n")
        assert sock.recv(100) == b"the marked payload\n"
    assert frames.complete
    assert not frames.holding(b"the marked payload")


def test_what_is_longer_than_the_wire_is_cut_by_the_sender(lab, client, server, talk):
    """The node tells the pod by ICMP; the bytes arrive all the same."""
    lab.wire.set_mtu(1400)
    try:
        with lab.wire.captured() as frames, client.connect(server.ip, talk.port) as sock, sock.makefile("rw") as lines:
            text = "x" * 20_000
            print(f"echo {text}", file=lines, flush=True)
            assert lines.readline().strip() == text
    finally:
        lab.wire.set_mtu(1500)
    assert frames.complete


def test_loss_is_what_was_asked_for(lab, client, server, talk):
    def seen():
        for _ in range(100):
            sock.sendto(b"x" * 100, (server.ip, talk.udp_port))
        return lab.wire.passed + lab.wire.lost

    lab.wire.lose(0.2)
    try:
        with client.socket(kind=socket.SOCK_DGRAM) as sock:
            eventually(lambda: seen() > 2000, "two thousand packets to be passed or lost")
    finally:
        lab.wire.lose(0)
    assert 0.15 < lab.wire.lost / (lab.wire.passed + lab.wire.lost) < 0.25, "five standard deviations"


def test_no_loss_loses_nothing_and_tcp_survives_some(lab, client, server, talk):
    lab.wire.lose(0.05)
    before = lab.wire.lost
    try:
        eventually(
            lambda: _chat(client, server, talk) and lab.wire.lost > before, "a packet of a chat to be lost", 30.0
        )
    finally:
        lab.wire.lose(0)
    before = lab.wire.lost
    assert _chat(client, server, talk)
    assert lab.wire.lost == before


def _chat(client, server, talk):
    with client.connect(server.ip, talk.port) as sock, sock.makefile("rw") as stream:
        for number in range(20):
            print(f"echo {number}", file=stream, flush=True)
            assert stream.readline() == f"{number}\n"
    return True


@pytest.mark.parametrize("family", FAMILIES)
def test_a_delay_is_felt_by_every_round_trip(family):
    with Lab("delay") as lab:
        a, b = lab.make_node("a"), lab.make_node("b")
        client, server = lab.pod("client", node=a), lab.pod("server", node=b)
        talk = apps.Talk(server)
        lab.wire.delay(round_trip_ms=30)
        start = time.monotonic()
        with client.connect(getattr(server, family), talk.port) as sock:
            assert time.monotonic() - start >= 0.03
            start = time.monotonic()
            sock.sendall(b"echo x\n")
            assert sock.recv(100) == b"x\n"
            assert time.monotonic() - start >= 0.03
        eventually(lambda: lab.wire.relayed.get("passed", 0) > 5, "the relay to count")
        assert lab.wire.relayed["dropped"] == 0


CHILD = """
import time
from tests.kit.lab import Lab
with Lab("child") as lab:
    a, b = lab.make_node("a"), lab.make_node("b")
    lab.pod("pod", node=a).popen(["sleep", "1000"])
    lab.wire.lose(0.5)
    lab.wire.delay(10)
    print("up", flush=True)
    time.sleep(1000)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_nothing_is_left_of_nodes_and_wire(number):
    child = subprocess.Popen([sys.executable, "-c", CHILD], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    with child:
        assert child.stdout
        assert child.stdout.readline() == b"up\n"
        assert any("relay" in each for each in leftovers(child.pid))
        os.kill(child.pid, number)
        child.wait(10)
    if number == signal.SIGKILL:
        sweep()
    assert leftovers(child.pid) == []
    assert not list(Path("/run/netns").glob(f"lab{child.pid}-*"))
