"""Real clients in an enrolled pod reach everything they reached before, through the mesh, and see no difference."""

import errno
import json
import socket
import struct
import time
from dataclasses import dataclass

import pytest

from tests.kit import apps, talk
from tests.kit.lab import Lab, Pod
from tests.kit.manifests import Manifests
from tests.kit.seine import Mesh
from tests.kit.wait import eventually

NOBODY = 9999  # a port of the Service that no process in the pods listens on
SKIPPED = 7100
AT_ONCE_S = 0.5  # far below any detection timeout (10 s) or retry (1 s), far above a busy machine's noise


@dataclass
class Town:
    """client and server are enrolled, neighbour is known but not enrolled, stranger is in no YAML at all."""

    lab: Lab
    mesh: Mesh
    client: Pod
    server: Pod
    neighbour: Pod
    stranger: Pod
    talk: apps.Talk
    vip: str
    vip6: str


@pytest.fixture(scope="module")
def town():
    with Lab("capture") as lab:
        client, server, neighbour, stranger = (lab.pod(n) for n in ("client", "server", "neighbour", "stranger"))
        talks = [apps.Talk(pod) for pod in (server, neighbour, stranger)]
        apps.Talk(neighbour, SKIPPED, SKIPPED + 1, SKIPPED + 2)
        apps.Talk(server, SKIPPED, SKIPPED + 1, SKIPPED + 2)
        manifests = Manifests(lab.directory / "source", lab)
        manifests.pod(client, skip_outbound=[SKIPPED]).pod(server, skip_inbound=[SKIPPED])
        manifests.pod(neighbour, enrolled=False)
        vip, vip6 = manifests.service("talk", 7000, 7001, NOBODY, backends=[server])
        with Mesh(lab, manifests) as mesh:
            mesh.wait_captured(client, server)
            yield Town(lab, mesh, client, server, neighbour, stranger, talks[0], vip, vip6)


def kernel_count(town: Town, pod: Pod, reason: str) -> int:
    return int(town.mesh.pod(pod)["kernel"].get(reason, 0))


TARGETS = ["vip", "vip6", "pod", "pod6"]


def address_of(town: Town, target: str) -> str:
    return {"vip": town.vip, "vip6": town.vip6, "pod": town.server.ip, "pod6": town.server.ip6}[target]


# --- every way to connect


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("way", ["plain", "java"])
def test_a_client_reaches_the_server_and_both_see_the_addresses_they_expect(town, way, target):
    address = address_of(town, target)
    before = town.mesh.carried(town.client)

    seen = apps.client(town.client, way, address, 7000)

    own = town.client.ip6 if ":" in address else town.client.ip
    mapped = "::ffff:" if way == "java" and ":" not in address else ""
    assert seen["error"] == ""
    assert (seen["peer"], seen["peer_port"]) == (mapped + address, 7000), "the app sees whom it asked for"
    assert seen["local"] == mapped + own, "and its own pod's address"
    assert seen["reply"]["name"] == "server"
    assert seen["reply"]["peer"] == [own, seen["local_port"]], "the server sees the true client, port and all"
    expected = town.server.ip6 if ":" in address else town.server.ip
    assert seen["reply"]["local"] == [expected, 7000], "and that it was itself that was meant"
    town.mesh.wait_carried(town.client, before + 1)


@pytest.mark.parametrize("way", ["go", "race"])
def test_happy_eyeballs_finds_a_family_that_works(town, way):
    seen = apps.client(town.client, way, town.vip6, town.vip, 7000)
    assert seen["error"] == ""
    assert seen["peer"] in (town.vip6, town.vip)
    assert seen["reply"]["name"] == "server"


def test_happy_eyeballs_falls_back_at_once_where_a_pod_has_no_ipv6(town):
    lonely = town.lab.pod("lonely", ipv6=False)
    town.mesh.manifests.pod(lonely)
    town.mesh.wait_captured(lonely)
    start = time.monotonic()
    seen = apps.client(lonely, "go", town.vip6, town.vip, 7000)
    assert (seen["error"], seen["peer"], seen["reply"]["name"]) == ("", town.vip, "server")
    assert time.monotonic() - start < AT_ONCE_S
    alone = apps.client(lonely, "plain", town.vip6, 7000)
    assert alone["error"] in ("ENETUNREACH", "EADDRNOTAVAIL"), "as without a mesh"


def test_an_app_that_binds_its_source_first_keeps_it(town):
    for own, address in ((town.client.ip, town.vip), (town.client.ip6, town.vip6)):
        seen = apps.client(town.client, "bound", own, address, 7000)
        assert (seen["error"], seen["local"], seen["reply"]["peer"][0]) == ("", own, own)


def test_an_app_that_binds_its_source_port_keeps_that_too(town):
    with town.client.socket() as sock:
        sock.bind(("0.0.0.0", 40404))
        sock.connect((town.vip, 7000))
        assert sock.getsockname() == (town.client.ip, 40404)
        assert talk.who(sock)["peer"] == [town.client.ip, 40404]


def test_curl_and_postgresql_work_through_their_services(town):
    apps.Nginx(town.server, allow=[town.client.ip])
    postgres = apps.Postgres(town.server)
    web, _ = town.mesh.manifests.service("web", 80, backends=[town.server])
    base, base6 = town.mesh.manifests.service("base", 5432, backends=[town.server])
    town.mesh.wait_service("web", "base")
    assert apps.curl(town.client, f"http://{web}/").status == 200
    for address in (base, base6):
        own = town.client.ip6 if ":" in address else town.client.ip
        assert apps.psql(town.client, address, 5432, "select host(inet_client_addr())") == own
        assert own in postgres.clients()


def test_nginx_admits_one_client_and_denies_another_by_address(town):
    second = town.lab.pod("second")
    town.mesh.manifests.pod(second)
    town.mesh.wait_captured(second)
    nginx = apps.Nginx(town.server, 8090, allow=[town.client.ip, town.client.ip6])
    for host in (town.server.ip, f"[{town.server.ip6}]"):
        assert apps.curl(town.client, f"http://{host}:8090/").status == 200
        assert apps.curl(second, f"http://{host}:8090/").status == 403
    eventually(lambda: len(nginx.requests()) == 4, "four log lines")
    assert {r["peer"] for r in nginx.requests()} == {town.client.ip, town.client.ip6, second.ip, second.ip6}


# --- what passes through unchanged


@pytest.mark.parametrize("target", TARGETS)
def test_a_server_that_speaks_first_is_heard_at_once(town, target):
    start = time.monotonic()
    with town.client.connect(address_of(town, target), 7001) as sock:
        assert talk.hear(sock) == "220 server"
        assert time.monotonic() - start < AT_ONCE_S
        assert talk.ask(sock, "echo thanks") == "thanks"


def test_a_half_closed_connection_still_brings_the_answer(town):
    with town.client.connect(town.vip, 7000) as sock:
        assert talk.ask(sock, "echo one") == "one"
        sock.shutdown(socket.SHUT_WR)
        assert talk.hear(sock) == "eof"
        assert sock.recv(1) == b""


def test_megabytes_arrive_whole_and_in_order_both_ways(town):
    size = 8 << 20
    with town.client.connect(town.vip, 7000) as sock:
        sock.sendall(f"send {size}\n".encode())
        with sock.makefile("rb") as stream:
            assert stream.read(size) == talk.pattern(size)
            sock.sendall(f"count {size}\n".encode() + talk.pattern(size))
            assert json.loads(stream.readline())["seen"] == size


def test_a_servers_close_and_a_servers_reset_both_reach_the_client(town):
    with town.client.connect(town.vip, 7000) as sock:
        sock.sendall(b"close\n")
        assert sock.recv(1) == b""
    with town.client.connect(town.vip, 7000) as sock, pytest.raises(ConnectionResetError):
        sock.sendall(b"reset\n")
        sock.recv(1)


def test_a_clients_reset_ends_the_servers_connection(town):
    with town.client.connect(town.vip, 7000) as sock:
        talk.who(sock)
        held = eventually(lambda: town.server.established(7000), "the server to hold it")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    eventually(lambda: town.server.established(7000) < held, "the server's side to end")


def test_three_hundred_connections_at_once_are_never_mixed_up(town):
    socks = [sock for _ in range(3) for sock in town.client.sockets(socket.AF_INET, 100)]
    try:
        for sock in socks:
            sock.setblocking(False)
            assert sock.connect_ex((town.vip, 7000)) in (0, errno.EINPROGRESS)
        for sock in socks:
            sock.settimeout(3)
            sock.sendall(b"who\n")
        for sock in socks:
            facts = json.loads(talk.hear(sock))
            assert facts["peer"] == list(sock.getsockname())
    finally:
        for sock in socks:
            sock.close()


def test_udp_of_enrolled_pods_is_untouched(town):
    for family, address in ((socket.AF_INET, town.server.ip), (socket.AF_INET6, town.server.ip6)):
        own = town.client.ip6 if ":" in address else town.client.ip
        with town.client.socket(family, socket.SOCK_DGRAM) as sock:
            sock.sendto(b"unconnected", (address, 7002))
            assert json.loads(sock.recv(1000)) == {"peer": [own, sock.getsockname()[1]], "text": "unconnected"}
            sock.connect((address, 7002))
            sock.send(b"connected")
            assert json.loads(sock.recv(1000))["text"] == "connected"


# --- who is on the other side


@pytest.mark.parametrize("target", TARGETS)
def test_a_pod_reaches_itself_by_its_address_and_by_its_own_service(town, target):
    address = address_of(town, target)
    seen = apps.client(town.server, "plain", address, 7000)
    own = town.server.ip6 if ":" in address else town.server.ip
    assert (seen["error"], seen["peer"], seen["reply"]["name"]) == ("", address, "server")
    assert seen["reply"]["peer"] == [own, seen["local_port"]]


def test_a_pod_outside_the_mesh_is_reached_from_inside(town):
    before = town.mesh.carried(town.client)
    for address, own in ((town.neighbour.ip, town.client.ip), (town.neighbour.ip6, town.client.ip6)):
        seen = apps.client(town.client, "plain", address, 7000)
        assert (seen["error"], seen["reply"]["name"], seen["reply"]["peer"][0]) == ("", "neighbour", own)
    town.mesh.wait_carried(town.client, before + 2)


@pytest.mark.parametrize("outsider", ["neighbour", "stranger"])
def test_a_client_outside_the_mesh_is_carried_by_the_servers_side_and_seen_as_itself(town, outsider):
    pod = getattr(town, outsider)
    before = kernel_count(town, town.server, "inbound_captured")
    for address, own in ((town.server.ip, pod.ip), (town.server.ip6, pod.ip6)):
        seen = apps.client(pod, "plain", address, 7000)
        assert (seen["error"], seen["peer"], seen["reply"]["name"]) == ("", address, "server")
        assert seen["reply"]["peer"] == [own, seen["local_port"]]
    assert kernel_count(town, town.server, "inbound_captured") >= before + 2


def test_an_address_that_nobody_declared_is_left_alone_and_counted(town):
    before = kernel_count(town, town.client, "direct_unknown")
    seen = apps.client(town.client, "plain", town.stranger.ip, 7000)
    assert (seen["error"], seen["reply"]["name"]) == ("", "stranger")
    assert kernel_count(town, town.client, "direct_unknown") == before + 1


@pytest.mark.parametrize(("host", "family"), [("127.0.0.1", socket.AF_INET), ("::1", socket.AF_INET6)])
def test_loopback_stays_inside_the_pod(town, host, family):
    before = kernel_count(town, town.server, "direct_loopback")
    seen = apps.client(town.server, "plain", host, 7000)
    assert (seen["error"], seen["reply"]["peer"][0]) == ("", host)
    assert kernel_count(town, town.server, "direct_loopback") == before + 1


def test_a_socket_bound_to_a_device_goes_direct(town):
    before = kernel_count(town, town.client, "direct_device")
    with town.client.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"eth0\0")
        sock.connect((town.server.ip, 7000))
        assert talk.who(sock)["name"] == "server"
    assert kernel_count(town, town.client, "direct_device") == before + 1


def test_ports_to_be_skipped_are_skipped(town):
    out, into = (kernel_count(town, town.client, "direct_skipped"), kernel_count(town, town.server, "inbound_skipped"))
    carried = town.mesh.carried(town.client)
    assert apps.client(town.client, "plain", town.neighbour.ip, SKIPPED)["reply"]["name"] == "neighbour"
    assert apps.client(town.neighbour, "plain", town.server.ip, SKIPPED)["reply"]["name"] == "server"
    assert kernel_count(town, town.client, "direct_skipped") == out + 1
    assert kernel_count(town, town.server, "inbound_skipped") >= into + 1
    assert town.mesh.carried(town.client) == carried


# --- what fails, fails as it should


def test_a_service_without_endpoints_refuses_at_once(town):
    vips = town.mesh.manifests.service("empty", 7000)
    town.mesh.wait_service("empty")
    before = kernel_count(town, town.client, "refused_empty")
    for way, address in (("plain", vips[0]), ("plain", vips[1]), ("java", vips[0])):
        start = time.monotonic()
        assert apps.client(town.client, way, address, 7000)["error"] == "ECONNREFUSED"
        assert time.monotonic() - start < AT_ONCE_S
    assert kernel_count(town, town.client, "refused_empty") == before + 3


def test_a_port_without_a_listener_resets_the_client(town):
    """The handshake was ours, so it cannot be a refusal any more; it may be so quick that connect() itself says it."""
    with pytest.raises(ConnectionResetError), town.client.connect(town.vip, NOBODY) as sock:
        sock.recv(1)


@pytest.mark.parametrize("port", [15001, 15006])
def test_nobody_but_the_mesh_may_use_its_own_ports(town, port):
    with pytest.raises((ConnectionError, EOFError)), town.client.connect(town.server.ip, port) as sock:
        talk.who(sock)
