"""Any port of an enrolled pod answers through its worker, and the app sees the true client of what is carried on."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from tests.kernel.capturing import Capturing, Enrolled, listen, plain, set_true_client
from tests.kit.lab import Lab, Pod


@pytest.fixture(scope="module")
def capture() -> Iterator[Capturing]:
    with Lab("inbound") as lab:
        yield Capturing(lab)


@pytest.fixture(scope="module")
def server(capture: Capturing) -> Enrolled:
    return capture.enrol(capture.lab.pod("server"))


@pytest.fixture(scope="module")
def outside(capture: Capturing) -> Pod:
    return capture.lab.pod("outside")


@pytest.mark.parametrize("port", [1, 80, 15001, 15006, 65535])
@pytest.mark.parametrize("family", [4, 6])
def test_any_port_reaches_the_listener_with_both_addresses_true(server, outside, port, family):
    address = server.pod.ip if family == 4 else server.pod.ip6
    with outside.connect(address, port) as client:
        carried, peer = server.inbound.accept()
        assert plain(carried.getsockname()) == (address, port)
        assert plain(peer) == plain(client.getsockname())
        carried.close()


def test_the_node_itself_is_captured_too(server):
    with socket.create_connection((server.pod.ip, 8080), timeout=3):
        carried, peer = server.inbound.accept()
        assert plain(peer)[0] == server.pod.node.subnet.ip(1)
        carried.close()


def test_loopback_and_the_pods_own_calls_reach_the_app(server):
    with listen(server.pod, "0.0.0.0", 8080) as app:
        for address in ("127.0.0.1", server.pod.ip):
            with server.pod.connect(address, 8080):
                app.accept()[0].close()


def test_udp_reaches_the_app(server, outside):
    with server.pod.socket(kind=socket.SOCK_DGRAM) as app, outside.socket(kind=socket.SOCK_DGRAM) as sender:
        app.bind((server.pod.ip, 5353))
        sender.sendto(b"question", (server.pod.ip, 5353))
        assert app.recv(64) == b"question"


def test_skipped_ports_reach_the_app(capture, server, outside):
    capture.write(server, skip_inbound_ports=frozenset({9100}))
    before = server.count("inbound_skipped")
    with listen(server.pod, server.pod.ip, 9100) as app, outside.connect(server.pod.ip, 9100):
        app.accept()[0].close()
    assert server.count("inbound_skipped") == before + 1
    capture.write(server)
    with outside.connect(server.pod.ip, 9100):
        server.inbound.accept()[0].close()


def carry_on(server: Enrolled, client: tuple[str, int], to: tuple[str, int]) -> socket.socket:
    """A worker's local leg to the app."""
    leg = server.socket(socket.AF_INET6 if ":" in to[0] else socket.AF_INET)
    set_true_client(leg, *client)
    leg.connect(to)
    return leg


@pytest.mark.parametrize(
    ("app_at", "client", "to"),
    [
        ("0.0.0.0", "203.0.113.7", "ip"),
        ("::", "203.0.113.7", "ip"),
        ("::", "2001:db8::7", "ip6"),
        ("::", "203.0.113.7", "ip6"),
    ],
    ids=["IPv4 app", "dual-stack app, IPv4 client", "IPv6 client", "IPv4 client over IPv6"],
)
def test_accept_and_getpeername_show_the_true_client(server, app_at, client, to):
    address = getattr(server.pod, to)
    with listen(server.pod, app_at, 8081) as app, carry_on(server, (client, 4242), (address, 8081)):
        accepted, peer = app.accept()
        with accepted:
            assert plain(peer) == (client, 4242)
            assert plain(accepted.getpeername()) == (client, 4242)
            assert plain(accepted.getsockname()) == (address, 8081)


def test_each_client_of_a_pod_has_a_port_space_of_its_own(server):
    with listen(server.pod, "0.0.0.0", 8082) as app:
        legs = [carry_on(server, (f"10.9.8.{n}", 4000 + m), (server.pod.ip, 8082)) for n in (1, 2) for m in (1, 2)]
        accepted = [app.accept()[0] for _ in legs]
        sources = [leg.getsockname()[0] for leg in legs]
        for sock in legs + accepted:
            sock.close()
    assert sources[0] == sources[1] != sources[2] == sources[3]
    assert all(source.startswith("127.") for source in sources)


def test_a_leg_without_a_true_client_shows_itself(server):
    with listen(server.pod, "0.0.0.0", 8083) as app, server.socket() as leg:
        leg.connect((server.pod.ip, 8083))
        accepted, peer = app.accept()
        accepted.close()
        assert peer == leg.getsockname()


def test_an_old_leg_never_speaks_for_a_new_connection(server):
    """The leg is refused, so its note stays published; then the app connects from the very same address and port."""
    leg = server.socket()
    set_true_client(leg, "203.0.113.7", 4242)
    leg.bind((server.pod.ip, 40001))
    with pytest.raises(ConnectionRefusedError):
        leg.connect((server.pod.ip, 8084))
    leg.close()
    with listen(server.pod, "0.0.0.0", 8084) as app, server.pod.socket() as own:
        own.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        own.bind((server.pod.ip, 40001))
        own.connect((server.pod.ip, 8084))
        accepted, peer = app.accept()
        accepted.close()
        assert peer == (server.pod.ip, 40001)


def test_an_apps_socket_cannot_name_a_true_client(server):
    with server.pod.socket() as own, pytest.raises(OSError, match="not available"):
        set_true_client(own, "203.0.113.7", 4242)


def test_a_wrong_true_client_is_refused_and_other_options_work(server):
    with server.socket() as leg:
        for value in (b"short", bytes(28)):
            with pytest.raises(PermissionError):
                leg.setsockopt(0x5E1E, 1, value)
        leg.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        assert leg.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1
