"""Pods that ask for the kernel short-cut: the mesh carries the same bytes, past TCP, and survives the same harm."""

import json
import random
import socket
import threading
from dataclasses import dataclass

import pytest

from tests.kit import apps, bpf, leftovers, talk
from tests.kit.lab import Lab, Pod
from tests.kit.manifests import Manifests
from tests.kit.seine import Mesh
from tests.kit.wait import eventually

DIRECT = 7100  # exempt from capture: no worker between client and server
ASKING = {"seine.dev/shortcut": "enabled"}


@dataclass
class Town:
    """client and server ask for the short-cut, neighbour is enrolled and does not."""

    lab: Lab
    mesh: Mesh
    client: Pod
    server: Pod
    neighbour: Pod
    vip: str

    def used(self, pod: Pod) -> dict[str, int]:
        """The pod's short-cut counters that are not zero, by reason."""
        kernel = self.mesh.pod(pod)["kernel"]
        return {name.removeprefix("shortcut_"): n for name, n in kernel.items() if name.startswith("shortcut_") and n}

    def messages(self, pod: Pod) -> int:
        """The prover's connections count too: a few a second."""
        return self.used(pod).get("messages", 0)


@pytest.fixture(scope="module")
def built():
    with Lab("shortcut") as lab:
        client, server, neighbour = (lab.pod(name) for name in ("client", "server", "neighbour"))
        for pod in (server, neighbour):
            apps.Talk(pod)
        apps.Talk(server, DIRECT, DIRECT + 1, DIRECT + 2)
        manifests = Manifests(lab.directory / "source", lab)
        manifests.pod(client, annotations=ASKING, skip_outbound=[DIRECT])
        manifests.pod(server, annotations=ASKING, skip_inbound=[DIRECT])
        manifests.pod(neighbour)
        vip, _ = manifests.service("talk", 7000, 7001, backends=[server])
        with Mesh(lab, manifests) as mesh:
            yield Town(lab, mesh, client, server, neighbour, vip)


@pytest.fixture
def town(built):
    built.mesh.heal()
    built.mesh.wait_captured(built.client, built.server)
    return built


@pytest.fixture(params=["through a worker", "directly"])
def target(request, town):
    """Where the client connects to."""
    return (town.vip, 7000) if request.param == "through a worker" else (town.server.ip, DIRECT)


# --- the same bytes


def test_both_ways_of_a_conversation_take_the_short_cut(town, target):
    before = town.messages(town.client), town.messages(town.server)
    with town.client.connect(*target) as sock:
        for number in range(10):
            assert talk.ask(sock, f"echo {number}") == str(number)
        facts = talk.who(sock)
        assert (facts["name"], facts["peer"]) == ("server", list(sock.getsockname()))
    after = town.messages(town.client), town.messages(town.server)
    assert min(now - old for old, now in zip(before, after, strict=True)) >= 11


def test_megabytes_arrive_whole_and_in_order_both_ways(town, target):
    size = 8 << 20
    with town.client.connect(*target) as sock:
        sock.sendall(f"send {size}\n".encode())
        with sock.makefile("rb") as stream:
            assert stream.read(size) == talk.pattern(size)
            sock.sendall(f"count {size}\n".encode() + talk.pattern(size))
            assert json.loads(stream.readline())["seen"] == size


def test_a_half_closed_connection_still_brings_the_answer(town, target):
    with town.client.connect(*target) as sock:
        assert talk.ask(sock, "echo one") == "one"
        sock.sendall(b"send 200000\n")
        sock.shutdown(socket.SHUT_WR)
        with sock.makefile("rb") as stream:
            assert stream.read() == talk.pattern(200_000) + b"eof\n"


def test_a_server_that_speaks_first_is_heard(town, target):
    address, port = target
    with town.client.connect(address, port + 1) as sock:
        assert talk.hear(sock) == "220 server"
        assert talk.ask(sock, "echo thanks") == "thanks"


def test_a_servers_close_and_a_servers_reset_both_reach_the_client(town, target):
    with town.client.connect(*target) as sock:
        sock.sendall(b"close\n")
        assert sock.recv(1) == b""
    with town.client.connect(*target) as sock, pytest.raises(ConnectionResetError):
        sock.sendall(b"reset\n")
        sock.recv(1)


def test_two_hundred_connections_are_never_mixed_up(town, target):
    socks = [sock for _ in range(2) for sock in town.client.sockets(socket.AF_INET, 100)]
    sizes = [random.choice((1, 1000, 100_000, 400_000)) for _ in socks]

    def ask(sock: socket.socket, size: int) -> None:
        sock.connect(target)
        answers.append((talk.who(sock)["peer"] == list(sock.getsockname()), received(sock, size)))

    def received(sock: socket.socket, size: int) -> bool:
        sock.sendall(f"send {size}\n".encode())
        with sock, sock.makefile("rb") as stream:
            return stream.read(size) == talk.pattern(size)

    answers: list[tuple[bool, bool]] = []
    threads = [threading.Thread(target=ask, args=each) for each in zip(socks, sizes, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for sock in socks:
        sock.close()
    assert answers == [(True, True)] * len(socks)


def test_a_client_that_does_not_read_stops_the_server(town, target):
    """What lies unread between them is the credit and TCP's own buffers, not the 64 MiB that were asked for."""
    size = 64 << 20
    with town.client.connect(*target) as sock:
        sock.sendall(f"send {size}\n".encode())
        sent = eventually(lambda: settled(lambda: town.used(town.server).get("bytes", 0)), "the server to stop")
        assert sent < 64 << 20
        read = 0
        while read < size:
            part = sock.recv(1 << 20)
            assert part, f"the connection ended after {read}"
            read += len(part)


def settled(number) -> int:
    """The number, if it is the same as a moment ago; else 0."""
    before = number()
    threading.Event().wait(0.1)
    return before if number() == before else 0


def test_http_and_postgresql_are_served_through_their_services(town):
    nginx, postgres = apps.Nginx(town.server, 8090, size=3000), apps.Postgres(town.server)
    web, _ = town.mesh.manifests.service("web", 8090, backends=[town.server])
    base, _ = town.mesh.manifests.service("base", 5432, backends=[town.server])
    town.mesh.wait_service("web", "base")
    before = town.messages(town.server)
    report = apps.wrk(town.client, f"http://{web}:8090/", seconds=1)
    assert "Non-2xx" not in report
    assert "Socket errors" not in report
    assert apps.curl(town.client, f"http://{web}:8090/").body.strip() == "x" * 3000
    assert len(nginx.requests()) > 100
    assert town.messages(town.server) - before > len(nginx.requests())
    assert apps.psql(town.client, base, 5432, "select sum(n) from generate_series(1, 100000) n") == "5000050000"
    rows = apps.psql(town.client, base, 5432, "select n from generate_series(1, 50000) n").split()
    assert rows == [str(n) for n in range(1, 50001)]
    postgres.process.stop()
    nginx.process.stop()


def test_a_pod_that_does_not_ask_for_it_is_carried_as_ever(town):
    with town.client.connect(town.neighbour.ip, 7000) as sock:
        assert talk.who(sock)["name"] == "neighbour"
    assert town.used(town.neighbour) == {}


# --- what is said about it


def test_status_check_and_metrics_speak_of_it(town):
    with town.client.connect(town.vip, 7000) as sock:
        talk.who(sock)
    assert town.mesh.status()["shortcut"] == {"available": True, "detail": ""}
    assert "short-cut for 2 pods: " in town.mesh.seine("status", "--window", "0").stdout
    checked = town.mesh.seine("check").stdout
    assert "√ kernel short-cut is available" in checked
    assert "√ kernel short-cut carries bytes intact" in checked
    samples, used = town.mesh.metrics(), town.used(town.client)
    assert samples.value("seine_shortcut_available") == 1
    assert samples.value("seine_shortcut_messages_total", pod="client") >= used["messages"] > 0
    assert samples.value("seine_shortcut_bytes_total", pod="client") >= used["bytes"] > 0
    assert samples.value("seine_capture_events_total", pod="client", reason="shortcut_bytes") == 0


# --- harm


def test_a_dying_worker_takes_only_its_own_connections_along(town):
    load, direct = apps.Load(town.client, town.vip, 7000, kept=16, per_second=20), None
    direct = apps.Load(town.client, town.server.ip, DIRECT, kept=8)
    load.flows(fresh=5)
    direct.flows()
    pid = town.mesh.worker_pids()[0]
    died = town.mesh.kill_worker(0)
    town.mesh.wait_replaced(0, pid)
    load.flows(fresh=20)
    direct.flows()
    result = load.stop()
    assert [record for record in result.failed_fresh if record["at"] > died] == []
    assert {record["error"] for record in result.kept} <= {"", "ECONNRESET", "eof"}
    assert direct.stop().broken == []


def test_connections_without_a_worker_survive_everything_of_ours(town):
    direct = apps.Load(town.client, town.server.ip, DIRECT, kept=8)
    direct.flows()
    town.mesh.kill_everything()
    direct.flows()
    town.mesh.heal()
    direct.flows()
    assert direct.stop().broken == []


def test_a_new_agent_adopts_open_connections_and_they_stay_in_the_short_cut(town):
    with town.client.connect(town.vip, 7000) as carried, town.client.connect(town.server.ip, DIRECT) as direct:
        for sock in (carried, direct):
            talk.who(sock)
        town.mesh.kill_agent()
        assert talk.who(carried)["name"] == talk.who(direct)["name"] == "server"
        town.mesh.start()
        town.mesh.wait_captured(town.client, town.server)
        before = town.messages(town.client)
        for sock in (carried, direct):
            for number in range(100):
                assert talk.ask(sock, f"echo {number}") == str(number)
        assert town.messages(town.client) - before >= 200


def test_a_pod_that_leaves_the_mesh_keeps_its_open_connections(town):
    with town.client.connect(town.vip, 7000) as carried, town.client.connect(town.server.ip, DIRECT) as direct:
        for sock in (carried, direct):
            talk.who(sock)
        town.mesh.manifests.pod(town.client, enrolled=False, annotations=ASKING, skip_outbound=[DIRECT])
        town.mesh.wait_state(town.client, "")
        for sock in (carried, direct):
            assert talk.who(sock)["name"] == "server"
            assert talk.ask(sock, "echo still here") == "still here"
    town.mesh.manifests.pod(town.client, annotations=ASKING, skip_outbound=[DIRECT])
    town.mesh.wait_captured(town.client)


def test_a_program_that_somebody_took_off_is_put_back(town):
    (pin,) = (pins for root in leftovers.bpf_roots() for pins in (root / "seine" / town.mesh.node).glob("*/ends-*"))
    bpf.detach_shortcut(pin)
    sentence = "shortcut was detached from its sockets"
    eventually(lambda: sentence in town.mesh.status()["repairs"], "the repair to be told")
    before = town.messages(town.client)
    with town.client.connect(town.server.ip, DIRECT) as direct:
        for _ in range(100):
            talk.who(direct)
    assert town.messages(town.client) >= before + 100


def test_a_node_that_is_switched_off_says_so_and_carries_all_the_same(town):
    with town.client.connect(town.server.ip, DIRECT) as direct:
        talk.who(direct)
        town.mesh.agent.stop()
        town.mesh.settings["SEINE_SHORTCUT"] = "disabled"
        try:
            town.mesh.start()
            town.mesh.wait_captured(town.client, town.server)
            before = town.messages(town.client), town.messages(town.server)
            with town.client.connect(town.vip, 7000) as carried:
                for sock in (carried, direct):
                    assert talk.who(sock)["name"] == "server"
            assert (town.messages(town.client), town.messages(town.server)) == before
            off = {"available": False, "detail": "it is switched off on this node"}
            assert town.mesh.status()["shortcut"] == off
            assert "but off: it is switched off on this node" in town.mesh.seine("status", "--window", "0").stdout
            assert "‼ kernel short-cut is available" in town.mesh.seine("check").stdout
        finally:
            town.mesh.agent.stop()
            del town.mesh.settings["SEINE_SHORTCUT"]
            town.mesh.start()
