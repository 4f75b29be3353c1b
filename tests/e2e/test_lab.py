"""The lab keeps its word without a mesh: real programs talk, in the right cgroup from the start; nothing is left."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.kit import apps, spawn
from tests.kit.lab import Lab
from tests.kit.leftovers import leftovers, sweep
from tests.kit.wait import eventually


@pytest.fixture(scope="module")
def lab():
    with Lab("selftest") as lab:
        yield lab


@pytest.fixture(scope="module")
def client(lab):
    return lab.pod("client")


@pytest.fixture(scope="module")
def server(lab):
    return lab.pod("server")


@pytest.fixture(scope="module")
def talk(server):
    return apps.Talk(server)


def test_a_program_is_in_the_pods_cgroup_and_namespace_from_its_first_instruction(client):
    said = client.run(["sh", "-c", "cat /proc/self/cgroup; readlink /proc/self/ns/net"]).stdout
    assert f"0::/{client.lab.name}/client" in said
    assert f"net:[{Path(client.netns).stat().st_ino}]" in said


def test_a_python_function_runs_in_the_pod_and_its_exception_comes_back(client):
    assert client.python(lambda: Path("/proc/self/cgroup").read_text().endswith(f"{client.lab.name}/client\n"))
    with pytest.raises(ZeroDivisionError):
        client.python(lambda: 1 // 0)


def test_a_function_that_hangs_is_ended(client):
    with pytest.raises(TimeoutError):
        client.python(signal.pause, timeout=0.1)


@pytest.mark.parametrize("family", ["ip", "ip6"])
def test_a_socket_of_the_pod_works_in_the_test_process(client, server, talk, family):
    with client.connect(getattr(server, family), talk.port) as sock, sock.makefile("rw") as stream:
        print("who", file=stream, flush=True)
        assert getattr(client, family) in stream.readline()


def test_the_banner_comes_unasked_and_udp_answers(client, server, talk):
    with client.connect(server.ip, talk.banner_port) as sock:
        assert sock.recv(100) == b"220 server\n"
    with client.socket(kind=socket.SOCK_DGRAM) as sock:
        sock.sendto(b"hello", (server.ip, talk.udp_port))
        assert b'"text": "hello"' in sock.recv(1000)


def test_java_and_go_connect_as_they_do(client, server, talk):
    java = apps.client(client, "java", server.ip, talk.port)
    assert (java["family"], java["peer"], java["reply"]["peer"][0]) == ("inet6", f"::ffff:{server.ip}", client.ip)
    assert apps.client(client, "go", server.ip6, server.ip, talk.port)["peer"] == server.ip6
    assert apps.client(client, "go", server.ip6, server.ip, 9)["error"] == "ECONNREFUSED"
    assert apps.client(client, "bound", client.ip, server.ip, talk.port)["local"] == client.ip


def test_nginx_logs_who_asked_and_allows_by_address(client, server):
    nginx = apps.Nginx(server, allow=[client.ip])
    assert apps.curl(client, f"http://{server.ip}/").body == "server\n"
    assert apps.curl(client, f"http://[{server.ip6}]/").status == 403
    eventually(lambda: len(nginx.requests()) == 2, "both log lines")
    assert [(r["peer"], r["status"]) for r in nginx.requests()] == [(client.ip, 200), (client.ip6, 403)]
    nginx.process.stop()


def test_a_slow_nginx_is_slow(client, server):
    apps.Nginx(server, port=8081, delay=0.15)
    assert 0.15 <= apps.curl(client, f"http://{server.ip}:8081/").took < 2


def test_wrk_drives_nginx(client, server):
    nginx = apps.Nginx(server, port=8082, size=100)
    assert "Requests/sec" in apps.wrk(client, f"http://{server.ip}:8082/", seconds=1)
    assert len(nginx.requests()) > 100


def test_postgresql_serves_and_names_its_clients(client, server):
    postgres = apps.Postgres(server)
    assert apps.psql(client, server.ip, postgres.port, "select inet_client_addr(), 6 * 7") == f"{client.ip}|42"
    assert client.ip in postgres.clients()


def test_the_origin_records_exactly_what_it_saw(client, server):
    origin = apps.Origin(server)
    sent = b"POST /x HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nX-Then: close\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
    with client.connect(server.ip, origin.port) as sock:
        sock.sendall(sent)
        answer = b"".join(iter(lambda: sock.recv(65536), b""))
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b'"body": "abc"' in answer
    assert origin.connections() == [sent]


def test_the_load_client_tells_each_outcome(client, server):
    talk = apps.Talk(server, 7100, 7101, 7102)
    load = apps.Load(client, server.ip, talk.port, kept=3, per_second=50)
    load.flows(exchanges=5, fresh=5)
    talk.process.send(signal.SIGKILL)
    eventually(lambda: load.progress()["broken"] == 3, "the kept connections to break")
    load.flows(fresh=3)
    result = load.stop()
    assert {record["error"] for record in result.broken} <= {"eof", "ECONNRESET"}
    assert result.outcomes() <= {"", "eof", "ECONNRESET", "ECONNREFUSED"}
    assert "ECONNREFUSED" in result.outcomes()


def test_two_labs_live_side_by_side():
    with Lab("one") as one, Lab("two") as two:
        assert one.pod("a").ip != two.pod("a").ip


def test_a_removed_lab_leaves_nothing_and_neither_does_a_failing_one():
    before = leftovers()
    with pytest.raises(ValueError, match="on purpose"), Lab("failing") as lab:
        pod = lab.pod("pod")
        pod.popen(["sleep", "1000"])
        pod.popen(["sh", "-c", "setsid sleep 1000 & sleep 1000"])  # one that leaves its group
        assert len(leftovers()) > len(before)
        raise ValueError("on purpose")
    assert leftovers() == before


CHILD = """
import time
from tests.kit.lab import Lab
with Lab("child") as lab:
    lab.pod("pod").popen(["sleep", "1000"])
    print("up", flush=True)
    time.sleep(1000)
"""


def killed_lab(number: int) -> int:
    """Run a lab in a process of its own, send it a signal in the middle, return its pid."""
    command = [sys.executable, "-c", CHILD]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, preexec_fn=spawn.interruptible)
    with child:
        assert child.stdout
        assert child.stdout.readline() == b"up\n"
        assert leftovers(child.pid)
        os.kill(child.pid, number)
        child.wait(10)
    return child.pid


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_lab_ended_by_a_signal_leaves_nothing(number):
    assert leftovers(killed_lab(number)) == []


DESTRUCTOR = """
import os, time
from tests.kit.lab import Lab
class Ends:
    def __del__(self):
        os.kill(os.getpid(), {number})
        time.sleep(1)
with Lab("child") as lab:
    lab.pod("pod")
    Ends()
    print("swallowed", flush=True)
    time.sleep(1000)
"""


@pytest.mark.parametrize("number", [int(signal.SIGINT), int(signal.SIGTERM)])
def test_an_interrupt_that_comes_where_python_swallows_it_ends_the_lab_all_the_same(number):
    child = subprocess.run(
        [sys.executable, "-c", DESTRUCTOR.format(number=number)],
        capture_output=True,
        text=True,
        timeout=20,
        preexec_fn=spawn.interruptible,
        check=False,
    )
    assert child.stdout == "swallowed\n"
    assert "KeyboardInterrupt" in child.stderr
    assert "Exception ignored" not in child.stderr


def test_a_lab_under_nohup_survives_the_end_of_its_terminal():
    """A shell that ends sends SIGHUP to everybody; who asked for nohup goes on."""
    with Lab("nohup") as lab:
        pod = lab.pod("pod")
        before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
        try:
            with Lab("inner") as inner:
                os.kill(os.getpid(), signal.SIGHUP)
                child = inner.pod("child").popen(["sleep", "1000"])
                ignored = int(Path(f"/proc/{child.pid}/status").read_text().split("SigIgn:")[1].split()[0], 16)
        finally:
            signal.signal(signal.SIGHUP, before)
        assert not ignored & (1 << (signal.SIGHUP - 1)), "its programs end by it all the same"
        assert pod.processes() == []


def test_what_a_killed_lab_left_is_swept():
    pid = killed_lab(signal.SIGKILL)
    assert leftovers(pid)
    sweep()
    assert leftovers(pid) == []
