"""Real HTTP/1 programs through the mesh: they work as before, the application sees its true client on every request,
the counts agree with the application's own log, and what is bad never reaches it."""

import hashlib
import json
import socket
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.kit import apps
from tests.kit.lab import Lab, Pod
from tests.kit.manifests import Manifests, Port
from tests.kit.seine import Mesh
from tests.kit.wait import eventually

MIB = 1 << 20
OLD, NEW, CHAT, WITNESS, SHY, GONE = 8000, 8001, 8002, 8003, 8004, 8005


@dataclass
class Town:
    lab: Lab
    mesh: Mesh
    client: Pod
    other: Pod
    server: Pod
    second: Pod
    nginx: apps.Nginx
    nginx2: apps.Nginx
    witness: apps.Origin
    vip: str

    def url(self, port: int = 80, path: str = "/") -> str:
        return f"http://{self.vip}:{port}{path}"

    def requests(self, **labels: str) -> float:
        return self.mesh.metrics().value("seine_requests_total", direction="outbound", **labels)

    def counter(self, name: str) -> float:
        return self.mesh.metrics().value(f"seine_engine_{name}_total")


@pytest.fixture(scope="module")
def town():
    with Lab("http1") as lab:
        client, other, server, second = (lab.pod(name) for name in ("client", "other", "server", "second"))
        nginx, nginx2 = apps.Nginx(server), apps.Nginx(second)
        apps.Nginx(server, SHY, allow=[client.ip])
        witness = apps.Origin(server, WITNESS)
        apps.script(server, "pyweb", OLD, "1.0", "old")
        apps.script(server, "pyweb", NEW, "1.1", "new")
        server.popen([sys.executable, "-m", "tests.kit.chat", str(CHAT)], env={"PYTHONPATH": str(apps.ROOT)})
        server.wait_listening(OLD, NEW, CHAT)
        manifests = Manifests(lab.directory / "source", lab)
        for pod in (client, other, server, second):
            manifests.pod(pod)
        ports = [Port(number, app_protocol="http") for number in (80, NEW, WITNESS, SHY)]
        vip, _ = manifests.service("web", *ports, Port(OLD), Port(CHAT), backends=[server])
        manifests.service("pair", 80, backends=[server, second])
        manifests.service("empty", Port(GONE, app_protocol="http"), backends=[])
        with Mesh(lab, manifests) as mesh:
            mesh.wait_captured(client, other, server, second)
            mesh.wait_service("web", "pair")
            yield Town(lab, mesh, client, other, server, second, nginx, nginx2, witness, vip)


# --- programs


@pytest.mark.parametrize("way", ["service", "pod"])
def test_curl_gets_a_page_and_everybody_counts_it(town, way):
    address = town.vip if way == "service" else town.server.ip
    before, logged = town.requests(), len(town.nginx.requests())
    got = apps.curl(town.client, f"http://{address}/", "-v")
    assert (got.status, got.body, got.peer) == (200, "server\n", address)
    eventually(lambda: town.requests() == before + 1, "the request to be counted")
    (seen,) = town.nginx.requests()[logged:]
    assert (seen["peer"], seen["status"], seen["host"]) == (town.client.ip, 200, address)


def test_a_kept_connection_is_one_connection_everywhere(town):
    before, carried = len(town.nginx.requests()), town.mesh.carried(town.client)
    urls = [town.url(path=f"/?{n}") for n in range(5)]
    assert codes(town.client, urls) == ["200"] * 5
    seen = town.nginx.requests()[before:]
    assert [record["request"] for record in seen] == [f"GET /?{n} HTTP/1.1" for n in range(5)]
    assert len({record["connection"] for record in seen}) == 1
    town.mesh.wait_carried(town.client, carried + 1)


def test_load_generators_lose_nothing_and_all_counts_agree(town):
    before, logged = town.requests(service="web"), len(town.nginx.requests())
    done = town.client.run(["h2load", "--h1", "-n", "3000", "-c", "16", town.url()], 30)
    assert "3000 succeeded, 0 failed, 0 errored" in done.stdout
    assert len(town.nginx.requests()) - logged == 3000
    eventually(lambda: town.requests(service="web") - before == 3000, "all requests to be counted")
    report = apps.wrk(town.client, town.url(), seconds=1, connections=16)
    assert "Non-2xx" not in report
    assert "Socket errors" not in report
    assert town.requests(response_flags="UC") == town.requests(response_flags="UF") == 0


@pytest.mark.parametrize("address", ["service", "pod"])
def test_a_server_of_http_1_0(town, address):
    host = town.vip if address == "service" else town.server.ip
    assert codes(town.client, [f"http://{host}:{OLD}/"] * 5) == ["200"] * 5
    assert apps.curl(town.client, f"http://{host}:{OLD}/").body == "old\n"
    assert apps.curl(town.client, f"http://{host}:{OLD}/", "--http1.0").body == "old\n"


def test_a_websocket(town):
    command = [sys.executable, "-m", "tests.kit.chat", f"ws://{town.vip}:{CHAT}/", "hello", "world"]
    done = town.client.run(["env", f"PYTHONPATH={apps.ROOT}", *command], 20)
    assert done.stdout.split() == ["hello", "world", str(MIB), "closed", "1000"], done.stderr
    eventually(lambda: town.requests(http_response_status_code="101") >= 1, "the upgrade to be counted")


@pytest.mark.parametrize("how", [["-T", "-"], ["-T", "FILE"], ["-T", "FILE", "-H", "Expect: 100-continue"]])
def test_uploads(town, how, tmp_path):
    data = Path(__file__).read_bytes() * 50
    file = town.client.directory / "upload"
    file.write_bytes(data)
    options = [str(file) if option == "FILE" else option for option in how]
    script = f"curl -sg --max-time 10 {' '.join(repr(o) for o in options)} {town.url(NEW)} < {file}"
    for _ in range(2):
        done = town.client.run(["sh", "-c", script])
        assert done.stdout == f"{len(data)} {hashlib.sha256(data).hexdigest()}\n"


def test_a_hundred_megabytes_each_way_in_flat_memory(town):
    size = 100 * MIB
    with (town.nginx.files / "big").open("wb") as file:
        file.truncate(size)
    digest = hashlib.sha256(bytes(size)).hexdigest()
    before = {number: resident(pid) for number, pid in town.mesh.worker_pids().items()}
    command = f"curl -sg {town.url(path='/files/big')} | sha256sum"
    assert town.client.run(["sh", "-c", command], 60).stdout.split()[0] == digest
    upload = ["curl", "-sg", "-T", str(town.nginx.files / "big"), town.url(NEW)]
    assert town.client.run(upload, 60).stdout == f"{size} {digest}\n"
    for number, pid in town.mesh.worker_pids().items():
        assert resident(pid) - before[number] < 4 * MIB


def resident(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) * 1024


def test_a_hundred_clients_that_read_nothing_cost_a_block_each_and_hinder_nobody(town):
    with (town.nginx.files / "big").open("wb") as file:
        file.truncate(100 * MIB)
    before = {number: resident(pid) for number, pid in town.mesh.worker_pids().items()}
    request = f"GET /files/big HTTP/1.1\r\nHost: {town.vip}\r\n\r\n".encode()
    slow = []
    try:
        for _ in range(100):
            sock = town.client.connect(town.vip, 80)
            slow.append(sock)
            sock.sendall(request)
        eventually(lambda: sum(town.mesh.worker_gauge(n, "buffers") for n in before) == 100, "all to be held back", 20)
        got = apps.curl(town.client, town.url())
        assert got.status == 200
        assert got.took < 5, "it waits for none of them"
        grown = sum(resident(pid) - before[number] for number, pid in town.mesh.worker_pids().items())
        assert grown < 100 * 65536 + 4 * MIB
    finally:
        for sock in slow:
            sock.close()
    eventually(lambda: sum(town.mesh.worker_gauge(n, "buffers") for n in before) == 0, "all blocks to be given back")


# --- bytes


def raw(pod: Pod, address: str, port: int, data: bytes, pieces: int = 1) -> bytes:
    """All that comes back after this was said and our half closed."""
    with pod.connect(address, port) as sock:
        sock.settimeout(10)
        size = -(-len(data) // pieces)
        for at in range(0, len(data), size):
            sock.sendall(data[at : at + size])
        sock.shutdown(socket.SHUT_WR)
        got = b""
        while part := sock.recv(65536):
            got += part
        return got


@pytest.mark.parametrize("pieces", [1, 40])
def test_pipelined_requests_are_answered_in_order(town, pieces):
    asks = b"".join(b"GET /%d HTTP/1.1\r\nHost: web\r\n\r\n" % n for n in range(20))
    got = raw(town.client, town.vip, WITNESS, asks, pieces)
    bodies = [json.loads(part) for part in split_bodies(got)]
    assert [body["head"].split()[1] for body in bodies] == [f"/{n}" for n in range(20)]
    assert {body["peer"][0] for body in bodies} == {town.client.ip}


def split_bodies(got: bytes) -> list[bytes]:
    found = []
    while got:
        head, _, got = got.partition(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].split()[0])
        found.append(got[:length])
        got = got[length:]
    return found


BAD = {
    "length_and_coding": b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0",
    "length_duplicate": b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\n12345",
    "coding_malformed": b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: ,chunked\r\n\r\n0\r\n\r\n",
    "bare_lf": b"GET / HTTP/1.1\nHost: a\n\n",
    "folded_line": b"GET / HTTP/1.1\r\nHost: a\r\nX: 1\r\n 2\r\n\r\n",
    "host_duplicate": b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    "chunk_size": b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0x5\r\nhello\r\n0\r\n\r\n",
    "too_many_fields": b"GET / HTTP/1.1\r\nHost: a\r\n" + b"".join(b"X-%d: 1\r\n" % n for n in range(200)) + b"\r\n",
    "line_too_long": b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 20_000 + b"\r\n\r\n",
}


@pytest.mark.parametrize("reason", BAD)
def test_bad_requests_are_refused_counted_and_never_seen_by_the_application(town, reason):
    seen = town.witness.connections()
    counted = town.counter(f"bad_request_{reason}")
    got = raw(town.client, town.vip, WITNESS, BAD[reason] + b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n")
    head, _, body = got.partition(b"\r\n\r\n")
    assert head.startswith((b"HTTP/1.1 4", b"HTTP/1.1 501 "))
    assert f"x-seine-reason: {reason}".encode() in head
    assert got.count(b"HTTP/1.1 ") == 1
    assert body.endswith(b".\n")
    assert town.witness.connections() == seen
    eventually(lambda: town.counter(f"bad_request_{reason}") == counted + 1, "the refusal to be counted")
    assert apps.curl(town.client, town.url(WITNESS)).status == 200


def test_a_service_without_endpoints_is_not_there(town):
    vip, _ = town.mesh.manifests.service("empty", Port(GONE, app_protocol="http"), backends=[])
    assert apps.curl(town.client, f"http://{vip}:{GONE}/").exit == 7, "refused in the kernel"


# --- whom the application sees, and which application


def test_the_application_can_tell_clients_apart_on_every_request(town):
    """nginx allows the one and denies the other; both keep their connections, and the mesh keeps its own."""
    for _ in range(5):
        assert codes(town.client, [town.url(SHY)] * 4) == ["200"] * 4
        assert codes(town.other, [town.url(SHY)] * 4) == ["403"] * 4


def codes(pod: Pod, urls: list[str]) -> list[str]:
    """Each URL's status, all asked by one curl."""
    each = [argument for url in urls for argument in ("-o", "/dev/null", url)]
    return pod.run(["curl", "-sg", "-w", "%{http_code} ", *each]).stdout.split()


def test_requests_of_one_connection_are_spread_over_the_replicas(town):
    before = [len(nginx.requests()) for nginx in (town.nginx, town.nginx2)]
    vip, _ = town.mesh.manifests.service("pair", 80, backends=[town.server, town.second])
    done = town.client.run(["h2load", "--h1", "-n", "1000", "-c", "4", f"http://{vip}/"], 30)
    assert "1000 succeeded, 0 failed, 0 errored" in done.stdout
    shares = [len(nginx.requests()) - old for nginx, old in zip((town.nginx, town.nginx2), before, strict=True)]
    assert sum(shares) == 1000
    assert min(shares) >= 100


def test_an_application_that_restarts_is_found_again(town):
    vip, _ = town.mesh.manifests.service("moving", Port(NEW, app_protocol="http"), backends=[town.second])
    town.mesh.wait_service("moving")
    for name in ("first", "second"):
        process = apps.script(town.second, "pyweb", NEW, "1.1", name)
        town.second.wait_listening(NEW)
        assert apps.curl(town.client, f"http://{vip}:{NEW}/").body == f"{name}\n"
        process.stop()
    got = apps.curl(town.client, f"http://{vip}:{NEW}/", "-i")
    assert got.status == 503
    assert "x-seine-reason: connect_failed" in got.body
