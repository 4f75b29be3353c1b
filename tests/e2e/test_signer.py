"""New tunnels need a signature and no agent: the process with the keys outlives it; one that dies is replaced."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from itertools import product
from pathlib import Path

import pytest

from tests.kit import apps, talk
from tests.kit.lab import Lab, Pod
from tests.kit.seine import Mesh, kill_and_wait
from tests.kit.two_nodes import TwoNodes
from tests.kit.wait import eventually

PODS = 10  # on each node: 10 x 10 pairs of pods, twice for two families, are 200 tunnels


class Town:
    def __init__(self, nodes: TwoNodes) -> None:
        self.nodes = nodes
        self.clients = [nodes.pod(f"client-{number}", nodes.a) for number in range(PODS)]
        self.servers = [nodes.pod(f"server-{number}", nodes.b) for number in range(PODS)]
        for server in self.servers:
            apps.Talk(server)

    @property
    def meshes(self) -> list[Mesh]:
        return list(self.nodes.mesh.values())

    def handshakes(self) -> int:
        """Whole ones, made by node a."""
        counters = [worker["counters"] for worker in self.nodes.mesh[self.nodes.a].status()["workers"]]
        return sum(int(each.get("tls_handshakes", 0)) - int(each.get("tls_resumed", 0)) for each in counters)


def signer(mesh: Mesh) -> dict[str, int]:
    return dict(mesh.status()["identity"]["signer"])


def asked(client: Pod, address: str) -> bool:
    """One new connection, answered by who lives there, who sees the client's own address."""
    with client.connect(address, 7000) as sock:
        return bool(talk.who(sock)["peer"][0] in (client.ip, client.ip6))


@pytest.fixture(scope="module")
def town(tmp_path_factory):
    with Lab("sign") as lab:
        nodes = TwoNodes(lab, tmp_path_factory.mktemp("source"))
        town = Town(nodes)
        with nodes:
            nodes.wait_captured(*town.clients, *town.servers)
            nodes.wait_introduced()
            yield town


@pytest.fixture
def well(town):
    for mesh in town.meshes:
        mesh.heal()
    town.nodes.wait_captured(*town.clients, *town.servers)
    town.nodes.wait_introduced()
    return town


def test_without_their_agents_two_hundred_new_tunnels_are_made(well):
    eventually(lambda: all(signer(mesh)["keys"] for mesh in well.meshes), "the signers to have their keys")
    before, signers = well.handshakes(), [signer(mesh)["pid"] for mesh in well.meshes]
    for mesh in well.meshes:
        mesh.kill_agent()
    answers = [
        asked(client, (server.ip, server.ip6)[family])
        for client, server, family in product(well.clients, well.servers, (0, 1))
    ]
    assert answers == [True] * 2 * PODS**2
    for mesh in well.meshes:
        mesh.start()
    assert [signer(mesh)["pid"] for mesh in well.meshes] == signers, "the successors took them over"
    eventually(lambda: well.handshakes() - before >= 2 * PODS**2, "each of them a handshake with both signatures")
    assert asked(well.clients[0], well.servers[0].ip)


def test_a_signer_that_dies_is_replaced_and_handshakes_wait_for_the_next(well):
    mesh = well.nodes.mesh[well.nodes.a]
    dead = signer(mesh)["pid"]
    late = well.nodes.pod("late", well.nodes.b)
    apps.Talk(late)
    well.nodes.wait_captured(late)
    well.nodes.wait_introduced()
    kill_and_wait(dead)
    assert asked(well.clients[0], late.ip)
    eventually(lambda: signer(mesh)["up"], "another signer")
    found = signer(mesh)
    assert found["pid"] != dead
    assert found["restarts"] == 1
    assert mesh.metrics().value("seine_signer_up") == 1


def test_its_memory_is_nobodys_and_it_has_no_privilege(well):
    pid = signer(well.meshes[0])["pid"]
    assert os.stat(f"/proc/{pid}/mem").st_uid == 0, "not dumpable: its own uid may not read or trace it"
    status = dict(
        line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":\t" in line
    )
    assert status["CapEff"].strip("0") == status["CapBnd"].strip("0") == ""
    assert status["NoNewPrivs"] == "1"
    assert re.search(r"^Max core file size +0 +0 ", Path(f"/proc/{pid}/limits").read_text(), re.MULTILINE)
    assert int(status["VmLck"].split()[0]) >= 256, "its keys are never swapped"


def test_it_ends_when_nobody_is_left_to_ask(well):
    mesh = well.nodes.mesh[well.nodes.b]
    pid = signer(mesh)["pid"]
    mesh.kill_everything()
    eventually(lambda: not os.path.exists(f"/proc/{pid}"), "it to end", 20.0)


KNOCK = """
import socket, sys
from mesh.aio.privileges import drop_privileges
from mesh.forward.signing._signer import ffi, lib
drop_privileges(int(sys.argv[2]))
sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
sock.settimeout(5)
sock.connect(sys.argv[1])
report = ffi.new("struct signing_report *", {"version": lib.SIGNING_VERSION})
body = bytes(ffi.buffer(report))
try:
    sock.send(len(body).to_bytes(4, "little") + b"\\0" + body)
    print(len(sock.recv(4096)))
except ConnectionError:
    print(0)
"""


def test_a_process_with_the_workers_uid_gets_no_key(town):
    mesh = town.meshes[0]
    before = signer(mesh)
    arguments = Path(f"/proc/{before['pid']}/cmdline").read_text().split("\0")
    path, uid = (arguments[arguments.index(name) + 1] for name in ("--agent-socket", "--uid"))
    command = [sys.executable, "-c", KNOCK, path, uid]
    found = subprocess.run(command, capture_output=True, text=True, cwd=apps.ROOT, timeout=30, check=True)
    assert found.stdout == "0\n"
    assert signer(mesh)["pid"] == before["pid"]
    assert "came for the keys and is not the signer" in mesh.log()
