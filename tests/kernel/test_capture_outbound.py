"""What a pod asks for is what its worker learns, and what the pod sees; all else is left alone."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator

import pytest

from mesh.capture import OUTBOUND_PORT
from mesh.model import Direction
from tests.kernel.capturing import Capturing, Enrolled, listen, plain, pod_address, service, tunnelled
from tests.kit.lab import Lab


@pytest.fixture(scope="module")
def capture() -> Iterator[Capturing]:
    with Lab("outbound") as lab:
        yield Capturing(lab)


@pytest.fixture(scope="module")
def client(capture: Capturing) -> Enrolled:
    return capture.enrol(capture.lab.pod("client"))


@pytest.fixture(scope="module")
def vip(capture: Capturing) -> tuple[str, str]:
    four, six = capture.lab.vip()
    capture.know(service(four, 80, ("10.0.0.1", 80)), service(six, 80, ("fd00::1", 80)))
    return four, six


@pytest.mark.parametrize("family", ["IPv4", "IPv6", "v4-mapped"])
def test_the_worker_learns_what_was_asked_for_and_the_app_sees_it(client, vip, family):
    address = {"IPv4": vip[0], "IPv6": vip[1], "v4-mapped": f"::ffff:{vip[0]}"}[family]
    with client.pod.connect(address, 80) as app:
        carried, peer = client.outbound.accept()
        with carried:
            own = client.pod.ip6 if family == "IPv6" else client.pod.ip
            assert plain(carried.getsockname()) == plain((address, 80))
            assert plain(app.getpeername()) == plain((address, 80))
            assert plain(app.getsockname())[0] == own
            assert plain(peer) == plain(app.getsockname())
            app.sendall(b"request")
            assert carried.recv(64) == b"request"
            carried.sendall(b"answer")
            assert app.recv(64) == b"answer"


def test_listeners_and_dial_sockets_keep_their_own_names(client):
    assert client.outbound.getsockname()[:2] == ("::", 15001)
    with client.socket() as ours:
        ours.bind((client.pod.ip, 0))
        assert ours.getsockname()[0] == client.pod.ip


def test_captured_connections_are_spread_over_loopback(client, vip):
    apps = [client.pod.connect(vip[0], 80) for _ in range(8)]
    carried = [client.outbound.accept()[0] for _ in apps]
    kernels_view = client.pod.inside(established_to_listener)
    for sock in apps + carried:
        sock.close()
    assert len(kernels_view) > 4
    assert all(address.startswith("127.") for address in kernels_view)


def established_to_listener() -> set[str]:
    """Destinations of the namespace's connections to port 15001, as the kernel (not our hooks) sees them."""
    with open("/proc/thread-self/net/tcp") as table:
        rows = [line.split() for line in table][1:]
    remote = [row[2].split(":") for row in rows if row[3] == "01"]
    return {socket.inet_ntoa(bytes.fromhex(ip)[::-1]) for ip, port in remote if int(port, 16) == 15001}


def test_our_own_sockets_are_never_captured(capture, client):
    server = capture.lab.pod("guard")
    capture.know(pod_address(server.ip))
    before = client.count("captured")
    with listen(server, server.ip, 8080) as app, client.socket() as ours:
        ours.connect((server.ip, 8080))
        accepted, _ = app.accept()
        accepted.close()
    assert client.count("captured") == before


def test_a_pods_address_is_captured_on_any_port(capture, client):
    capture.know(pod_address("10.1.2.3"))
    with client.pod.connect("10.1.2.3", 4711):
        carried, _ = client.outbound.accept()
        assert plain(carried.getsockname()) == ("10.1.2.3", 4711)
        carried.close()


def test_a_pod_calling_itself_is_captured(capture, client):
    capture.know(pod_address(client.pod.ip))
    with client.pod.connect(client.pod.ip, 8088):
        carried, _ = client.outbound.accept()
        assert plain(carried.getsockname()) == (client.pod.ip, 8088)
        carried.close()


def test_a_service_without_endpoints_refuses(capture, client):
    four, six = capture.lab.vip()
    capture.know(service(four, 80), service(six, 80))
    before = client.count("refused_empty")
    for address in (four, six, f"::ffff:{four}"):
        with pytest.raises(ConnectionRefusedError):
            client.pod.connect(address, 80)
    assert client.count("refused_empty") == before + 3


def test_a_client_that_sends_its_syn_with_the_first_bytes_is_captured(client, vip):
    with client.pod.socket() as app:
        app.setsockopt(socket.IPPROTO_TCP, 30, 1)  # TCP_FASTOPEN_CONNECT: connect() itself sends nothing
        app.connect((vip[0], 80))
        app.sendall(b"request")
        carried, _ = client.outbound.accept()
        with carried:
            assert plain(carried.getsockname()) == (vip[0], 80)
            assert carried.recv(64) == b"request"
        assert app.getpeername() == (vip[0], 80)


def test_what_is_not_known_goes_direct_and_is_counted(capture, client):
    outside = capture.lab.pod("outside")
    before = client.count("direct_unknown")
    with listen(outside, outside.ip, 8080) as app, client.pod.connect(outside.ip, 8080):
        accepted, peer = app.accept()
        accepted.close()
    assert peer[0] == client.pod.ip
    assert client.count("direct_unknown") == before + 1


def test_loopback_goes_direct_and_is_counted(client):
    before = client.count("direct_loopback")
    with listen(client.pod, "127.0.0.1", 9000) as app, client.pod.connect("127.0.0.1", 9000) as sock:
        accepted, _ = app.accept()
        accepted.close()
        assert sock.getpeername() == ("127.0.0.1", 9000)
    with listen(client.pod, "::1", 9000), client.pod.connect("::1", 9000):
        pass
    with listen(client.pod, "0.0.0.0", 9001), client.pod.connect("0.0.0.0", 9001):
        pass
    assert client.count("direct_loopback") == before + 3


@pytest.mark.parametrize(
    ("address", "reason"), [("169.254.169.254", "direct_link_local"), ("239.1.1.1", "direct_multicast")]
)
def test_link_local_and_multicast_go_direct_though_known(capture, client, address, reason):
    capture.know(pod_address(address))
    before = client.count(reason)
    sock = client.pod.socket()
    sock.setblocking(False)
    sock.connect_ex((address, 80))
    sock.close()
    assert client.count(reason) == before + 1


def test_a_socket_bound_to_a_device_goes_direct(client, vip):
    before = client.count("direct_device")
    sock = client.pod.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"eth0\0")
    sock.setblocking(False)
    sock.connect_ex((vip[0], 80))
    sock.close()
    assert client.count("direct_device") == before + 1


@pytest.mark.parametrize(("family", "address"), [(socket.AF_INET, "10.7.7.8"), (socket.AF_INET6, "fd07::8")])
def test_a_socket_bound_to_a_device_is_refused_where_only_a_tunnel_leads(capture, client, family, address):
    """An application needs no privilege to bind to a device, and would go past strict mutual TLS in plaintext."""
    capture.know(tunnelled(address))
    before = client.count("tunnel_refused")
    with client.pod.socket(family) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"eth0\0")
        with pytest.raises(ConnectionRefusedError):
            sock.connect((address, 80))
    assert client.count("tunnel_refused") == before + 1


def test_skipped_ports_go_direct(capture, client):
    outside = capture.lab.pod("skipped")
    capture.know(pod_address(outside.ip))
    capture.write(client, skip_outbound_ports=frozenset({5432}))
    before = client.count("direct_skipped")
    with listen(outside, outside.ip, 5432) as app, client.pod.connect(outside.ip, 5432):
        accepted, peer = app.accept()
        accepted.close()
    assert peer[0] == client.pod.ip
    assert client.count("direct_skipped") == before + 1
    capture.write(client)
    with client.pod.connect(outside.ip, 5432):
        client.outbound.accept()[0].close()


def test_udp_is_untouched(capture, client, vip):
    outside = capture.lab.pod("udp")
    capture.know(pod_address(outside.ip))
    server = outside.socket(kind=socket.SOCK_DGRAM)
    server.bind((outside.ip, 5353))
    sender = client.pod.socket(kind=socket.SOCK_DGRAM)
    sender.connect((outside.ip, 5353))
    sender.send(b"question")
    data, peer = server.recvfrom(64)
    server.close()
    sender.close()
    assert (data, peer[0]) == (b"question", client.pod.ip)


def test_a_family_that_the_pod_lacks_fails_as_without_a_mesh(capture, vip):
    only4 = capture.enrol(capture.lab.pod("only4", ipv6=False))
    with pytest.raises(OSError, match="unreachable") as failed:
        only4.pod.connect(vip[1], 80)
    assert failed.value.errno == errno.ENETUNREACH
    assert only4.count("direct_no_family") == 1
    with only4.pod.connect(vip[0], 80):
        only4.outbound.accept()[0].close()


@pytest.mark.parametrize(("family", "port"), [("IPv4", 34567), ("IPv6", 34568), ("v4-mapped", 34569)])
def test_a_client_that_bound_its_port_is_captured_and_nobody_calls_it_loopback(client, vip, family, port):
    before = client.count("source_unbound")
    own = client.pod.ip6 if family == "IPv6" else client.pod.ip
    address = {"IPv4": vip[0], "IPv6": vip[1], "v4-mapped": f"::ffff:{vip[0]}"}[family]
    with client.pod.socket(socket.AF_INET if family == "IPv4" else socket.AF_INET6) as sock:
        sock.bind(("", port))
        sock.connect((address, 80))
        carried, peer = client.outbound.accept()
        with carried:
            assert plain(sock.getsockname()) == (own, port)
            assert plain(peer) == plain(carried.getpeername()) == (own, port)
            assert plain(carried.getsockname()) == plain((address, 80))
    assert client.count("source_unbound") == before + 1


def test_a_socket_that_fails_and_connects_elsewhere_forgets_what_it_asked_first(capture, client, vip):
    outside = capture.lab.pod("second")
    sock = client.pod.socket()
    sock.settimeout(None)  # after a non-blocking failure the kernel reports it once more
    with capture.listener(client.pod, 15002) as elsewhere:  # counts as life, but nobody listens where connect is sent
        capture.kernel.set_listener(client.slot, Direction.OUTBOUND, elsewhere.fileno())
        client.outbound.close()
        with pytest.raises(ConnectionRefusedError):
            sock.connect((vip[0], 80))
    client.outbound = capture.listener(client.pod, OUTBOUND_PORT)
    capture.kernel.set_listener(client.slot, Direction.OUTBOUND, client.outbound.fileno())
    with listen(outside, outside.ip, 8080) as app, sock:
        sock.connect((outside.ip, 8080))
        app.accept()[0].close()
        assert sock.getpeername() == (outside.ip, 8080)
