"""Nothing is mixed up and nothing else is touched: pods, nodes on one kernel, and sockets that are not ours."""

from __future__ import annotations

import selectors
import socket
from collections.abc import Iterator

import pytest

from tests.kernel.capturing import Capturing, Enrolled, listen, plain, pod_address, service
from tests.kit.lab import Lab, Pod

CONNECTIONS = 500


@pytest.fixture
def lab() -> Iterator[Lab]:
    with Lab("isolation") as lab:
        yield lab


def accept_all(enrolled: Enrolled, count: int) -> list[socket.socket]:
    return [enrolled.outbound.accept()[0] for _ in range(count)]


def connect_all(pod: Pod, targets: list[tuple[str, int]]) -> list[socket.socket]:
    """Every handshake under way at the same time."""
    made = pod.sockets(socket.AF_INET, len(targets))
    waiting = selectors.DefaultSelector()
    for sock, target in zip(made, targets, strict=True):
        sock.setblocking(False)
        sock.connect_ex(target)
        waiting.register(sock, selectors.EVENT_WRITE)
    pending = set(made)
    while pending:
        for key, _ in waiting.select(timeout=5) or pytest.fail(f"{len(pending)} connections hang"):
            waiting.unregister(key.fileobj)
            pending.discard(key.fileobj)
    waiting.close()
    for sock in made:
        sock.setblocking(True)
        sock.settimeout(5)
    return made


def test_hundreds_of_connections_at_once_never_mix_up_where_they_go(lab):
    """Both pods ask for the same addresses, perhaps from the same ports; each says in its bytes what it asked for."""
    capture = Capturing(lab)
    pods = [capture.enrol(lab.pod(name)) for name in ("one", "two")]
    targets = [(f"10.7.{n // 250}.{1 + n % 250}", 1000 + n) for n in range(CONNECTIONS // 2)]
    capture.know(*(pod_address(address) for address, _ in targets))
    apps = {each.slot: connect_all(each.pod, targets) for each in pods}
    for each in pods:
        for sock, target in zip(apps[each.slot], targets, strict=True):
            assert sock.getpeername() == target
            sock.sendall(f"{each.slot} {target}".encode())
        for carried in accept_all(each, len(targets)):
            carried.settimeout(5)
            asked = plain(carried.getsockname())
            assert carried.recv(100).decode() == f"{each.slot} {asked}"
            carried.close()
        for sock in apps[each.slot]:
            sock.close()
        assert each.count("flow_missing") == 0


def test_pods_outside_the_mesh_are_untouched(lab):
    capture = Capturing(lab)
    stranger, server = lab.pod("stranger"), lab.pod("server")
    capture.know(pod_address(server.ip), service("10.8.8.8", 80))
    with listen(server, server.ip, 8080) as app, stranger.connect(server.ip, 8080) as sock:
        accepted, peer = app.accept()
        assert (sock.getpeername(), peer) == ((server.ip, 8080), sock.getsockname())
        assert accepted.getsockname() == (server.ip, 8080)
        accepted.close()
    assert capture.kernel.counters() == {}


def test_two_nodes_on_one_kernel_know_only_their_own_pods(lab):
    with Lab("neighbour") as beside:
        ours, theirs = Capturing(lab), Capturing(beside)
        mine, their = ours.enrol(lab.pod("mine")), theirs.enrol(beside.pod("their"))
        for capture in (ours, theirs):
            capture.know(pod_address("10.6.6.6"))
        for each in (mine, their):
            with each.pod.connect("10.6.6.6", 80):
                carried, _ = each.outbound.accept()
                assert plain(carried.getsockname()) == ("10.6.6.6", 80)
                carried.close()
            assert each.count("captured") == 1
        assert len(ours.kernel.counters()) == len(theirs.kernel.counters()) == 1
        theirs.stop_beating()
        with mine.pod.connect("10.6.6.6", 80):
            mine.outbound.accept()[0].close()


def test_another_nodes_sockets_are_no_loop_guard_here(lab):
    """A socket of node B's fixed cgroup in a pod of node A is an app's socket to A."""
    with Lab("neighbour") as beside:
        ours, theirs = Capturing(lab), Capturing(beside)
        mine = ours.enrol(lab.pod("mine"))
        ours.know(pod_address("10.6.6.7"))
        with theirs.ours(mine.pod) as sock:
            sock.connect(("10.6.6.7", 80))
            mine.outbound.accept()[0].close()
        assert mine.count("captured") == 1
