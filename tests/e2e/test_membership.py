"""Pods join and leave while the agent runs; what cannot join is told why; bad input harms nobody else."""

import os
import resource
import signal
import socket
import subprocess
import time
from contextlib import ExitStack
from dataclasses import dataclass

import pytest

from tests.kit import apps, talk
from tests.kit.lab import Lab, Pod
from tests.kit.manifests import Manifests
from tests.kit.seine import COMMAND, Mesh
from tests.kit.wait import eventually


@dataclass
class Town:
    lab: Lab
    mesh: Mesh
    manifests: Manifests
    client: Pod
    server: Pod
    vip: str


@pytest.fixture(scope="module")
def town():
    with Lab("members") as lab:
        client, server = lab.pod("client"), lab.pod("server")
        apps.Talk(server)
        manifests = Manifests(lab.directory / "source", lab).pod(client).pod(server)
        vip, _ = manifests.service("talk", 7000, backends=[server])
        with Mesh(lab, manifests, drain_seconds=1) as mesh:
            mesh.wait_captured(client, server)
            yield Town(lab, mesh, manifests, client, server, vip)


@pytest.fixture
def guest(town):
    """A pod that one test has for itself."""
    pod = town.lab.pod(f"guest-{time.monotonic_ns()}")
    yield pod
    (town.manifests.directory / f"pod-default-{pod.name}.yaml").unlink(missing_ok=True)
    pod.remove()


def serves(town: Town) -> bool:
    return bool(apps.client(town.client, "plain", town.vip, 7000)["reply"]["name"] == "server")


def test_a_pod_enrols_and_leaves_while_its_connections_live_on(town, guest):
    with guest.connect(town.server.ip, 7000) as before:
        assert talk.who(before)["peer"][0] == guest.ip
        town.manifests.pod(guest)
        bypassing = town.mesh.wait_state(guest, "bypassing")
        assert bypassing["bypassing"] == 1
        with guest.connect(town.vip, 7000) as during:
            assert talk.who(during)["name"] == "server"
            assert town.mesh.carried(guest) == 1
            town.manifests.pod(guest, enrolled=False)
            eventually(lambda: town.mesh.pod(guest).get("state") in (None, ""), "the pod to be out")
            with guest.connect(town.server.ip, 7000) as after:
                for sock in (before, during, after):
                    assert talk.ask(sock, "echo still here") == "still here"
    assert town.mesh.carried(guest) == 1, "what came after it left was not carried"


def test_connections_older_than_enrolment_are_closed_on_request(town, guest):
    with ExitStack() as open_ones:
        old = [open_ones.enter_context(guest.connect(town.server.ip, 7000)) for _ in range(3)]
        for sock in old:
            talk.who(sock)
        town.manifests.pod(guest)
        eventually(lambda: town.mesh.pod(guest).get("bypassing") == 3, "all three to be seen")
        done = town.mesh.seine("drain", guest.name)
        assert (done.returncode, done.stdout) == (0, f"3 connections of default/{guest.name} closed\n")
        assert done.stderr.startswith(f"closing 3 connections of default/{guest.name}: ")
        for sock in old:
            with pytest.raises((ConnectionError, EOFError)):
                talk.ask(sock, "echo gone")
    assert town.mesh.wait_state(guest, "captured")["bypassing"] == 0


def test_draining_a_pod_that_is_not_in_the_mesh_fails_with_a_sentence(town):
    done = town.mesh.seine("drain", "shop/nobody")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "seine: shop/nobody: there is no such pod in the mesh on this node\n"


def is_ended(sock: socket.socket) -> bool:
    """By somebody else; waits for no byte."""
    sock.setblocking(False)
    try:
        return not sock.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        return False
    except ConnectionError:
        return True


def test_a_pod_that_becomes_strict_keeps_no_connection_that_goes_past_the_mesh(town, guest):
    """In either direction; what we carry from a pod of this node and what stays inside the pod lives on."""
    apps.Talk(guest)
    stranger = town.lab.pod(f"stranger-{time.monotonic_ns()}")
    with (
        guest.connect(town.server.ip, 7000) as out,
        stranger.connect(guest.ip, 7000) as into,
        guest.connect("127.0.0.1", 7000) as inside,
    ):
        town.manifests.pod(guest)
        assert town.mesh.wait_state(guest, "bypassing")["bypassing"] == 2
        with town.client.connect(guest.ip, 7000) as carried:
            for sock in (out, into, inside, carried):
                talk.who(sock)
            town.manifests.pod(guest, annotations={"seine.dev/mtls": "strict"})
            eventually(lambda: is_ended(out) and is_ended(into), "the connections to be ended")
            for sock in (inside, carried):
                assert talk.ask(sock, "echo still here") == "still here"
    assert town.mesh.wait_state(guest, "captured")["bypassing"] == 0
    stranger.remove()


def test_a_pod_that_joins_again_is_captured_again(town, guest):
    for _ in range(3):
        before = town.mesh.carried(guest)
        town.manifests.pod(guest)
        town.mesh.wait_captured(guest)
        assert apps.client(guest, "plain", town.vip, 7000)["reply"]["peer"][0] == guest.ip
        town.mesh.wait_carried(guest, before + 1)
        town.manifests.pod(guest, enrolled=False)
        eventually(lambda: not town.mesh.pod(guest), "the pod to be out")


def test_an_init_container_is_captured_before_the_pods_own_program_runs(town, guest):
    """In the mesh is the pod, not a program: whatever runs in it, and be it for a moment."""
    town.manifests.pod(guest)
    town.mesh.wait_captured(guest)
    assert guest.processes() == []
    assert apps.client(guest, "plain", town.vip, 7000)["reply"]["name"] == "server"
    town.mesh.wait_carried(guest, 1)
    apps.Talk(guest, 7100, 7101, 7102)
    assert apps.client(town.client, "plain", guest.ip, 7100)["reply"]["name"] == guest.name


def test_a_job_that_is_done_leaves_the_mesh_and_its_address_may_be_anothers(town, guest):
    town.manifests.pod(guest)
    town.mesh.wait_captured(guest)
    assert apps.client(guest, "plain", town.vip, 7000)["reply"]["name"] == "server"
    path = town.manifests.directory / f"pod-default-{guest.name}.yaml"
    path.write_text(path.read_text().replace("Running", "Succeeded"))
    eventually(lambda: not town.mesh.pod(guest), "the pod to be out")
    with guest.connect(town.server.ip, 7000) as sock:
        assert talk.who(sock)["peer"][0] == guest.ip
    assert town.mesh.carried(guest) == 1
    later = path.read_text().replace("Succeeded", "Running").replace(guest.name, f"{guest.name}-later", 1)
    path.write_text(later.replace(f"uid-{guest.full_name}", "uid-later"))
    eventually(lambda: [p["name"] for p in town.mesh.status()["pods"]].count(f"{guest.name}-later"), "its successor")


def test_a_host_network_pod_is_refused_with_a_reason_and_goes_on_as_before(town):
    host = town.lab.host_pod("host")
    town.manifests.pod(host)
    refused = town.mesh.wait_state(host, "refused")
    assert "network namespace" in refused["detail"]
    with host.connect(town.server.ip, 7000) as sock:
        assert talk.who(sock)["peer"][0] == host.ip
    town.manifests.remove("pod-default-host")


def test_a_pod_that_only_names_the_hosts_namespace_is_refused_too(town, guest):
    town.manifests.pod(guest, annotations={"seine.dev/netns": f"/proc/{os.getpid()}/ns/net"})
    refused = town.mesh.wait_state(guest, "refused")
    assert "host" in refused["detail"]


def test_new_and_lost_backends_are_followed_without_a_restart(town, guest):
    apps.Talk(guest)
    vip, _ = town.manifests.service("moving", 7000, backends=[town.server])

    def names() -> set[str]:
        return {apps.client(town.client, "plain", vip, 7000)["reply"]["name"] for _ in range(6)}

    town.mesh.wait_service("moving")
    assert names() == {"server"}
    town.manifests.pod(guest, enrolled=False)
    town.manifests.service("moving", 7000, backends=[guest])
    eventually(lambda: names() == {guest.name}, "the other backend to take over")
    town.manifests.service("moving", 7000, backends=[guest], unready=[town.server])
    town.manifests.service("moving", 7000, backends=[town.server], unready=[guest])
    eventually(lambda: names() == {"server"}, "the first backend to be back")


def test_an_agent_without_free_descriptors_says_so_serves_on_and_recovers(town):
    agent, hard = town.mesh.agent, resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    late = [town.lab.pod(f"late-{number}") for number in range(4)]
    used = len(os.listdir(f"/proc/{agent.pid}/fd"))
    resource.prlimit(agent.pid, resource.RLIMIT_NOFILE, (used + 4, hard))
    try:
        for pod in late:
            town.manifests.pod(pod)
        said = "oo many open files"
        eventually(lambda: said in town.mesh.log() or "free file descriptors" in town.mesh.log(), "the agent to say so")
        for _ in range(5):
            assert serves(town)
        assert agent.alive
    finally:
        resource.prlimit(agent.pid, resource.RLIMIT_NOFILE, (hard, hard))
    town.mesh.wait_captured(town.client, town.server, *late)
    for pod in late:
        town.manifests.remove(f"pod-default-{pod.name}")
        pod.remove()


def test_a_namespace_that_vanishes_harms_nobody_else(town):
    doomed = town.lab.pod("doomed")
    apps.Talk(doomed)
    town.manifests.pod(doomed)
    town.mesh.wait_captured(doomed)
    with town.client.connect(doomed.ip, 7000) as sock:
        assert talk.who(sock)["name"] == "doomed"
        doomed.remove()
        with pytest.raises((ConnectionError, EOFError)):
            talk.ask(sock, "echo anybody")
    eventually(lambda: town.mesh.pod(doomed).get("state") != "captured", "the status to notice")
    assert serves(town)
    town.manifests.remove("pod-default-doomed")
    eventually(lambda: not town.mesh.pod(doomed), "it to be forgotten")


def test_a_broken_file_is_refused_with_its_line_while_the_last_good_state_serves(town):
    name = "service-default-talk"
    good = (town.manifests.directory / f"{name}.yaml").read_text()
    town.manifests.text(name, good.replace("kind: Service", "kind: [Service"))
    errors = eventually(lambda: town.mesh.status()["source"]["errors"], "the error to be told")
    assert f"{name}.yaml:" in errors[0]
    assert serves(town)
    town.manifests.text(name, good)
    eventually(lambda: not town.mesh.status()["source"]["errors"], "the error to be gone")


def test_a_second_agent_of_the_same_node_ends_with_a_sentence(town):
    second = town.mesh.launch()
    assert second.wait(10) != 0
    assert "another agent" in second.output()
    assert serves(town)


def test_an_agent_whose_port_for_metrics_is_taken_ends_with_a_sentence(town):
    other = ["--node", f"{town.mesh.node}-x"]
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        command = [str(COMMAND), "agent", "--metrics-address", f"127.0.0.1:{port}", *other]
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 1
    assert f"127.0.0.1:{port} (Address already in use); --metrics-address gives another" in done.stderr
    subprocess.run([str(COMMAND), "clean", *other], check=True, timeout=30)


def test_clean_is_refused_while_the_agent_runs(town):
    done = town.mesh.seine("clean")
    assert done.returncode != 0
    assert "end it first" in done.stderr + done.stdout
    assert serves(town)


def test_an_app_that_holds_our_port_is_told_and_the_others_go_on(town, guest):
    with guest.socket() as sock:
        sock.bind(("0.0.0.0", 15001))
        sock.listen()
        town.manifests.pod(guest)
        refused = town.mesh.wait_state(guest, "refused")
        assert "15001" in refused["detail"]
    town.mesh.wait_captured(guest)


def test_a_worker_that_ends_by_itself_is_replaced(town):
    pid = town.mesh.worker_pids()[0]
    os.kill(pid, signal.SIGTERM)
    town.mesh.wait_replaced(0, pid)
    town.mesh.wait_ready()
    assert serves(town)
