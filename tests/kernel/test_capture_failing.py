"""No living worker: open goes direct, closed refuses, each in the instant in which life ends, for both directions."""

from __future__ import annotations

import errno
import itertools
import shutil
import socket
from collections.abc import Callable, Iterator

import pytest

from mesh.capture import OUTBOUND_PORT, KernelError
from mesh.capture.kernel import SOURCE
from mesh.model import Direction, FailMode, Mtls
from tests.kernel.capturing import Capturing, Enrolled, listen, plain, pod_address, service, tunnelled
from tests.kit.lab import Lab

names = (f"pod{number}" for number in itertools.count())


@pytest.fixture(scope="module")
def capture() -> Iterator[Capturing]:
    with Lab("failing") as lab:
        yield Capturing(lab)


@pytest.fixture(autouse=True)
def _alive(capture: Capturing) -> Iterator[None]:
    yield
    capture.beat()


def workers_gone(enrolled: Enrolled) -> None:
    """The last holder of the listeners ends, and with it they leave the kernel's table."""
    enrolled.outbound.close()
    enrolled.inbound.close()
    for direction in Direction:
        assert not enrolled.capture.kernel.has_listener(enrolled.slot, direction)


def workers_hung(enrolled: Enrolled) -> None:
    enrolled.capture.stop_beating()


ENDS: list[Callable[[Enrolled], None]] = [workers_gone, workers_hung]


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("family", [4, 6])
def test_open_the_hook_picks_a_backend_and_the_app_sees_the_service(capture, end, family):
    client, one, two = (capture.lab.pod(next(names)) for _ in range(3))
    vip = capture.lab.vip()[0 if family == 4 else 1]
    addresses = [pod.ip if family == 4 else pod.ip6 for pod in (one, two)]
    capture.know(service(vip, 80, *((address, 8080) for address in addresses)))
    client = capture.enrol(client)
    end(client)
    with listen(one, addresses[0], 8080) as first, listen(two, addresses[1], 8080) as second:
        apps = [client.pod.connect(vip, 80) for _ in range(24)]
        assert {plain(app.getpeername()) for app in apps} == {(vip, 80)}
        for listener in (first, second):  # 24 picks all alike: once in 8 million runs
            accepted, peer = listener.accept()
            accepted.close()
            assert plain(peer)[0] == (client.pod.ip if family == 4 else client.pod.ip6)
        for app in apps:
            app.close()
    assert client.count("open_balanced") == 24


@pytest.mark.parametrize("end", ENDS)
def test_open_a_pods_address_is_reached_directly_and_the_app_answers_itself(capture, end):
    client, server = (capture.enrol(capture.lab.pod(next(names))) for _ in range(2))
    capture.know(pod_address(server.pod.ip))
    end(client)
    end(server)
    with listen(server.pod, server.pod.ip, 8080) as app, client.pod.connect(server.pod.ip, 8080):
        accepted, peer = app.accept()
        accepted.close()
        assert peer[0] == client.pod.ip
    assert (client.count("open_direct"), server.count("inbound_open")) == (1, 1)


@pytest.mark.parametrize("end", ENDS)
def test_closed_outbound_is_refused(capture, end):
    client = capture.enrol(capture.lab.pod(next(names)), fail_mode=FailMode.CLOSED)
    vip, vip6 = capture.lab.vip()
    capture.know(service(vip, 80, ("10.0.0.1", 80)), service(vip6, 80, ("fd00::1", 80)), pod_address("10.3.3.3"))
    end(client)
    for address in (vip, vip6, f"::ffff:{vip}", "10.3.3.3"):
        with pytest.raises(ConnectionRefusedError):
            client.pod.connect(address, 80)
    assert client.count("closed_refused") == 4


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("family", [4, 6])
def test_closed_inbound_is_reset_though_the_app_listens(capture, end, family):
    outside = capture.lab.pod(next(names))
    server = capture.enrol(capture.lab.pod(next(names)), fail_mode=FailMode.CLOSED)
    end(server)
    address = server.pod.ip if family == 4 else server.pod.ip6
    with listen(server.pod, address, 8080), pytest.raises(ConnectionRefusedError):
        outside.connect(address, 8080)
    assert server.count("inbound_closed") >= 1


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("fail_mode", FailMode)
def test_strict_inbound_is_reset_though_the_app_listens_whatever_the_fail_mode(capture, end, family, fail_mode):
    outside = capture.lab.pod(next(names))
    server = capture.enrol(capture.lab.pod(next(names)), fail_mode=fail_mode, mtls=Mtls.STRICT)
    address = server.pod.ip if family == 4 else server.pod.ip6
    with listen(server.pod, address, 8080):
        with outside.connect(address, 8080):
            server.inbound.accept()[0].close()  # for a worker to refuse or, from a tunnel, to carry
        end(server)
        with pytest.raises(ConnectionRefusedError):
            outside.connect(address, 8080)
    reason = {FailMode.OPEN: "inbound_strict", FailMode.CLOSED: "inbound_closed"}[fail_mode]
    assert [server.count(each) >= 1 for each in ("inbound_strict", "inbound_closed", "inbound_open")] == [
        reason == "inbound_strict",
        reason == "inbound_closed",
        False,
    ]


@pytest.mark.parametrize("end", ENDS)
def test_strict_leaves_alone_what_stays_inside_and_what_is_to_be_skipped(capture, end):
    outside = capture.lab.pod(next(names))
    server = capture.enrol(capture.lab.pod(next(names)), mtls=Mtls.STRICT, skip_inbound_ports=frozenset({9100}))
    capture.know(pod_address(server.pod.ip))
    end(server)
    for client, address, port in (
        (server.pod, "127.0.0.1", 8080),
        (server.pod, server.pod.ip, 8080),
        (outside, server.pod.ip, 9100),
    ):
        with listen(server.pod, "0.0.0.0", port) as app, client.connect(address, port):
            app.accept()[0].close()
    assert server.count("inbound_strict") == 0


@pytest.mark.parametrize("end", ENDS)
def test_a_strict_pods_own_connections_go_by_its_fail_mode(capture, end):
    client, server = capture.enrol(capture.lab.pod(next(names)), mtls=Mtls.STRICT), capture.lab.pod(next(names))
    capture.know(pod_address(server.ip))
    end(client)
    with listen(server, server.ip, 8080) as app, client.pod.connect(server.ip, 8080):
        app.accept()[0].close()
    assert client.count("open_direct") == 1


def test_permissive_becomes_strict_while_the_pod_is_enrolled_and_back(capture):
    outside, server = capture.lab.pod(next(names)), capture.enrol(capture.lab.pod(next(names)))
    capture.stop_beating()
    with listen(server.pod, server.pod.ip, 8080) as app:
        for mode in (Mtls.PERMISSIVE, Mtls.STRICT, Mtls.DISABLED):
            capture.write(server, mtls=mode)
            if mode is Mtls.STRICT:
                with pytest.raises(ConnectionRefusedError):
                    outside.connect(server.pod.ip, 8080)
            else:
                with outside.connect(server.pod.ip, 8080):
                    app.accept()[0].close()


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("fail_mode", FailMode)
def test_whom_a_tunnel_leads_to_is_never_reached_without_one(capture, end, fail_mode):
    """Though somebody listens there and an open pod goes direct everywhere else."""
    client, server = capture.enrol(capture.lab.pod(next(names)), fail_mode=fail_mode), capture.lab.pod(next(names))
    vip, vip6 = capture.lab.vip()
    capture.know(tunnelled(vip, 80), tunnelled(vip6, 80), tunnelled(server.ip), tunnelled(server.ip6))
    everywhere = [(vip, 80), (vip6, 80), (f"::ffff:{vip}", 80), (server.ip, 8080), (server.ip6, 8080)]
    with listen(server, "::", 8080):
        for address, port in everywhere:
            with client.pod.connect(address, port):
                client.outbound.accept()[0].close()
        end(client)
        for address, port in everywhere:
            with pytest.raises(ConnectionRefusedError):
                client.pod.connect(address, port)
        assert server.established(8080) == 0
    reason = {FailMode.OPEN: "tunnel_refused", FailMode.CLOSED: "closed_refused"}[fail_mode]
    assert client.count(reason) == len(everywhere)
    assert client.count("open_direct") == client.count("open_balanced") == 0


def test_the_hook_picks_among_those_who_need_no_tunnel(capture):
    """As mesh.control compiles it: a tunnel's end is no backend."""
    client, near = capture.enrol(capture.lab.pod(next(names))), capture.lab.pod(next(names))
    vip, _ = capture.lab.vip()
    capture.know(service(vip, 80, (near.ip, 8080)), tunnelled("10.7.7.7"))
    capture.stop_beating()
    with listen(near, near.ip, 8080) as app:
        for _ in range(4):
            with client.pod.connect(vip, 80):
                app.accept()[0].close()
    assert client.count("open_balanced") == 4


def test_the_fail_mode_changes_while_the_pod_is_enrolled(capture):
    client = capture.enrol(capture.lab.pod(next(names)), fail_mode=FailMode.CLOSED)
    server = capture.lab.pod(next(names))
    capture.know(pod_address(server.ip))
    capture.stop_beating()
    with listen(server, server.ip, 8080) as app:
        with pytest.raises(ConnectionRefusedError):
            client.pod.connect(server.ip, 8080)
        capture.write(client, fail_mode=FailMode.OPEN)
        with client.pod.connect(server.ip, 8080):
            app.accept()[0].close()


def test_a_worker_that_beats_again_is_alive_again(capture):
    client = capture.enrol(capture.lab.pod(next(names)), fail_mode=FailMode.CLOSED)
    capture.know(pod_address("10.4.4.4"))
    capture.stop_beating()
    with pytest.raises(ConnectionRefusedError):
        client.pod.connect("10.4.4.4", 80)
    capture.beat()
    with client.pod.connect("10.4.4.4", 80):
        client.outbound.accept()[0].close()


def test_nobody_has_ever_beaten(capture):
    client = capture.enrol(capture.lab.pod(next(names)), fail_mode=FailMode.CLOSED)
    capture.know(pod_address("10.4.4.5"))
    capture.beat(0)
    with pytest.raises(ConnectionRefusedError):
        client.pod.connect("10.4.4.5", 80)


def test_open_with_backends_of_another_family_only_is_refused(capture):
    """No backend that the socket could reach: waiting for a time-out would be worse."""
    client = capture.enrol(capture.lab.pod(next(names)))
    vip, _ = capture.lab.vip()
    capture.know(service(vip, 80, ("fd00::1", 80)))
    with client.pod.connect(vip, 80):
        client.outbound.accept()[0].close()
    capture.stop_beating()
    with pytest.raises(ConnectionRefusedError):
        client.pod.connect(vip, 80)
    assert client.count("backend_missing") == 1


@pytest.fixture
def tiny(tmp_path) -> Iterator[Capturing]:
    """A mesh whose tables hold next to nothing."""
    source = tmp_path / "bpf"
    shutil.copytree(SOURCE, source)
    types = (source / "types.h").read_text()
    types = types.replace("DESTINATIONS_MAX = 65536", "DESTINATIONS_MAX = 3")
    types = types.replace("BACKENDS_MAX = 262144", "BACKENDS_MAX = 4")
    (source / "types.h").write_text(types.replace("FLOWS_MAX = 65536", "FLOWS_MAX = 64"))
    with Lab("tiny") as lab:
        yield Capturing(lab, {"source": source})


def test_a_full_table_is_named_and_what_fits_works(tiny):
    client = tiny.enrol(tiny.lab.pod("client"))
    with pytest.raises(KernelError, match="1 of 4 destinations"):
        tiny.know(*(pod_address(f"10.5.5.{n}") for n in range(4)))
    reached = 0
    for n in range(4):
        before = client.count("captured")
        sock = client.pod.socket()
        sock.setblocking(False)
        sock.connect_ex((f"10.5.5.{n}", 80))
        reached += client.count("captured") - before
        sock.close()
    assert reached == 3
    assert client.count("direct_unknown") == 1
    tiny.known.pop()
    tiny.know()


def test_a_service_with_too_many_backends_is_captured_too_and_refused_while_no_worker_lives(tiny):
    client = tiny.enrol(tiny.lab.pod("client"))
    vips = [tiny.lab.vip()[0] for _ in range(2)]
    with pytest.raises(KernelError, match="the backends of 1 have no room"):
        tiny.know(
            service(vips[0], 80, *((f"10.0.0.{n}", 80) for n in range(9))),
            service(vips[1], 80, ("10.0.0.1", 80)),
        )
    for vip in vips:
        with client.pod.connect(vip, 80):
            client.outbound.accept()[0].close()
    tiny.stop_beating()
    with pytest.raises(ConnectionRefusedError):
        client.pod.connect(vips[0], 80)
    assert client.count("backend_missing") == 1


def test_what_ought_to_go_by_tunnel_and_has_no_room_is_refused_from_strict_pods_and_counted_from_others(tiny):
    """The hook does not know who it was: so all that it does not know."""
    strict = tiny.enrol(tiny.lab.pod("strict"), mtls=Mtls.STRICT)
    permissive = tiny.enrol(tiny.lab.pod("permissive"))
    peers = [f"10.5.5.{n}" for n in range(4)]
    with pytest.raises(KernelError, match="1 ought to go by tunnel"):
        tiny.know(*map(tunnelled, peers))
    refused = [address for address in peers if not goes_on(strict, address)]
    assert len(refused) == strict.count("overflow_refused") == 1
    assert goes_on(permissive, refused[0])
    assert permissive.count("direct_overflow") == 1
    assert not goes_on(strict, refused[0], device=b"eth0\0"), "a device is no way around it"
    assert strict.count("direct_overflow") == strict.count("direct_unknown") == strict.count("direct_device") == 0
    tiny.known.pop()
    tiny.know()
    assert goes_on(strict, "10.6.6.6")
    assert strict.count("direct_unknown") == 1


def goes_on(client: Enrolled, address: str, device: bytes = b"") -> bool:
    """Whether a connect is let go, wherever it leads; of a socket that is bound to a device, if one is named."""
    with client.pod.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device)
        sock.setblocking(False)
        return sock.connect_ex((address, 80)) in (0, errno.EINPROGRESS)


def test_a_connection_that_nobody_announced_is_counted(capture):
    """Somebody in the pod connects to our listener itself."""
    client = capture.enrol(capture.lab.pod(next(names)))
    with client.pod.connect("127.0.0.1", 15001):
        carried, _ = client.outbound.accept()
        assert plain(carried.getsockname()) == ("127.0.0.1", 15001)
        carried.close()
    assert client.count("flow_missing") == 1


def test_more_handshakes_under_way_than_the_table_holds_are_counted_and_never_mixed_up(tiny):
    """The accept queue is full, so handshakes wait for room, and their notes push each other out of the table."""
    client = tiny.enrol(tiny.lab.pod("client"))
    tiny.know(pod_address("10.6.6.6"))
    client.outbound.listen(1)
    apps = client.pod.sockets(socket.AF_INET, 200)
    for number, app in enumerate(apps):
        app.setblocking(False)
        app.connect_ex(("10.6.6.6", 1000 + number))
    client.outbound.listen(1024)
    carried = [client.outbound.accept()[0] for _ in apps]  # the kernel sends a SYN again after a second
    for number, app in enumerate(apps):
        app.sendall(str(1000 + number).encode())  # sources do not tell: several may share one port
        app.close()
    lost = 0
    for each in carried:
        address, port = plain(each.getsockname())
        lost += port == OUTBOUND_PORT
        assert port == OUTBOUND_PORT or each.recv(16).decode() == str(port)
        assert port == OUTBOUND_PORT or address == "10.6.6.6"
        each.close()
    assert 0 < lost == client.count("flow_missing")
