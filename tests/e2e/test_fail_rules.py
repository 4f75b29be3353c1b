"""What fails, and what happens then (design.md section 6): as promised for open and closed pods, and nothing hangs.

Traffic goes to a Service's address while things are killed. A load client records every connection with its times;
what may be lost is what a killed process had in flight, so a failure is only ever excused by when it began.
"""

import errno
import json
import signal
import socket
import time
from dataclasses import dataclass

import pytest

from tests.kit import apps, bpf, leftovers, talk
from tests.kit.lab import Lab, Pod
from tests.kit.manifests import Manifests
from tests.kit.seine import Mesh, kill_and_wait
from tests.kit.wait import eventually

AT_ONCE_S = 0.5


@dataclass
class Town:
    """client and server fail open; guarded (a client) and vault (a server) fail closed; neighbour is outside."""

    lab: Lab
    mesh: Mesh
    manifests: Manifests
    client: Pod
    server: Pod
    guarded: Pod
    vault: Pod
    neighbour: Pod
    vip: str
    vip6: str

    @property
    def enrolled(self) -> list[Pod]:
        return [self.client, self.server, self.guarded, self.vault]


@pytest.fixture(scope="module")
def built():
    names = ("client", "server", "guarded", "vault", "neighbour")
    with Lab("fail") as lab:
        client, server, guarded, vault, neighbour = (lab.pod(name) for name in names)
        for pod in (server, vault, neighbour):
            apps.Talk(pod)
        manifests = Manifests(lab.directory / "source", lab).pod(client, fail="open").pod(server, fail="open")
        manifests.pod(guarded, fail="closed").pod(vault, fail="closed").pod(neighbour, enrolled=False)
        vip, vip6 = manifests.service("talk", 7000, backends=[server])
        with Mesh(lab, manifests) as mesh:
            yield Town(lab, mesh, manifests, client, server, guarded, vault, neighbour, vip, vip6)


@pytest.fixture
def town(built):
    """Everything captured at the beginning of each test, whatever the one before it did."""
    built.mesh.heal()
    built.mesh.wait_captured(*built.enrolled)
    return built


def outcomes(pod: Pod, address: str, count: int) -> list[str]:
    """How each of `count` new connections ended: the server's name, or the error."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    return [_outcome(sock, address) for sock in pod.sockets(family, count)]


def _outcome(sock: socket.socket, address: str) -> str:
    with sock:
        try:
            sock.connect((address, 7000))
            return str(talk.who(sock)["name"])
        except TimeoutError:
            return "timeout"
        except OSError as error:
            return errno.errorcode[error.errno or 0]
        except EOFError:
            return "eof"


def assert_only_in_flight_was_lost(result: apps.LoadResult, harmed_at: float) -> None:
    """No connection that began after the harm failed, and none took as long as its deadline."""
    assert [record for record in result.failed_fresh if record["at"] > harmed_at] == []
    assert [record for record in result.fresh if record["error"] == "timeout"] == []
    assert {record["error"] for record in result.kept} <= {"", "ECONNRESET", "eof"}
    assert any(record["at"] > harmed_at for record in result.fresh), "the test must have tried afterwards"


def load_on_both_workers(town: Town) -> tuple[apps.Load, list[int]]:
    """A load, and how many connections each worker has of it; a worker that has just begun may have had none yet."""
    held: list[int] = []
    for _ in range(5):
        load = apps.Load(town.client, town.vip, 7000, kept=32, per_second=50)
        load.flows(exchanges=5, fresh=5)
        held = [town.mesh.worker_gauge(number, "connections") for number in (0, 1)]
        if min(held) >= 2:
            return load, held
        load.stop()
    raise AssertionError(f"one worker takes all connections: {held}")


# --- a worker


def test_a_worker_that_dies_takes_only_its_own_connections_along(town):
    load, held = load_on_both_workers(town)
    died_at = town.mesh.kill_worker(0)
    load.flows(exchanges=10, fresh=25)

    result = load.stop()
    assert_only_in_flight_was_lost(result, died_at)
    assert 1 <= len(result.broken) <= held[0] + 1, f"of {held}"
    assert all(record["at"] < died_at + 1 for record in result.broken), "their ends come at once"


def test_a_dead_worker_is_replaced_within_a_second_and_counters_never_go_back(town):
    assert outcomes(town.client, town.vip, 20) == ["server"] * 20
    seen = [eventually(lambda: town.mesh.carried(town.client), "the count")]
    old = town.mesh.worker_pids()
    for number in (0, 1):
        died_at = town.mesh.kill_worker(number)
        town.mesh.wait_replaced(number, old[number])
        seen.append(town.mesh.carried(town.client))
        town.mesh.wait_ready()
        assert time.monotonic() - died_at < 10, "its start included, on a busy machine; it is under one on an idle one"
        assert outcomes(town.client, town.vip, 5) == ["server"] * 5
        seen.append(town.mesh.carried(town.client))
    assert seen == sorted(seen)
    eventually(lambda: town.mesh.carried(town.client) >= seen[0] + 10, "the last to be counted")


def test_a_worker_that_hangs_is_replaced_and_new_connections_never_notice(town):
    load = apps.Load(town.client, town.vip, 7000, kept=16, per_second=50)
    load.flows(exchanges=5, fresh=5)
    victim = town.mesh.worker_pids()[0]
    town.mesh.freeze(victim)
    frozen_at = time.monotonic()
    town.mesh.wait_replaced(0, victim)
    load.flows(exchanges=5, fresh=25)
    assert_only_in_flight_was_lost(load.stop(), frozen_at)


def test_when_all_workers_hang_new_connections_wait_for_their_successors(town):
    load = apps.Load(town.client, town.vip, 7000, kept=4, per_second=20)
    load.flows(exchanges=5, fresh=5)
    victims = town.mesh.worker_pids()
    town.mesh.freeze(*victims.values())
    frozen_at = time.monotonic()
    for number, pid in victims.items():
        town.mesh.wait_replaced(number, pid)
    load.flows(fresh=20)
    assert_only_in_flight_was_lost(load.stop(), frozen_at)


# --- the agent


def test_fifty_new_connections_after_the_agents_death_and_its_successor_adopts(town):
    load = apps.Load(town.client, town.vip, 7000, kept=8)
    load.flows()
    workers = town.mesh.worker_pids()

    town.mesh.kill_agent()
    assert outcomes(town.client, town.vip, 50) == ["server"] * 50
    assert outcomes(town.guarded, town.vip6, 5) == ["server"] * 5, "closed pods too: the workers live"
    assert outcomes(town.neighbour, town.server.ip, 5) == ["server"] * 5

    town.mesh.start()
    assert town.mesh.status()["adopted"]
    assert town.mesh.worker_pids() == workers
    town.mesh.wait_captured(*town.enrolled)
    load.flows()
    assert load.stop().broken == []
    assert outcomes(town.client, town.vip, 50) == ["server"] * 50


def test_an_agent_is_restarted_under_traffic_without_a_loss(town):
    load = apps.Load(town.client, town.vip, 7000, kept=8, per_second=20)
    load.flows(fresh=2)
    workers, before = town.mesh.worker_pids(), town.mesh.carried(town.client)
    town.mesh.agent.stop(signal.SIGTERM)
    load.flows(fresh=2)
    town.mesh.start()
    load.flows(fresh=2)
    result = load.stop()
    assert (result.broken, result.failed_fresh) == ([], [])
    assert town.mesh.worker_pids() == workers
    assert town.mesh.carried(town.client) > before, "counters go on where they were"
    assert outcomes(town.client, town.vip, 200) == ["server"] * 200, "more than any stock: the successor fills it up"


def test_what_changed_while_no_agent_ran_is_made_up_for(town):
    town.mesh.agent.stop(signal.SIGTERM)
    town.manifests.pod(town.neighbour).pod(town.client, enrolled=False)
    try:
        town.mesh.start()
        town.mesh.wait_captured(town.neighbour)
        assert not town.mesh.pod(town.client)
        before = town.mesh.carried(town.neighbour)
        assert outcomes(town.neighbour, town.vip, 1) == ["server"]
        assert outcomes(town.client, town.server.ip, 1) == ["server"]
        town.mesh.wait_carried(town.neighbour, before + 1)
    finally:
        town.manifests.pod(town.neighbour, enrolled=False).pod(town.client, fail="open")
        eventually(lambda: not town.mesh.pod(town.neighbour), "the old order")


def test_the_agents_helpers_may_die(town):
    helpers = set(town.mesh.processes()) - {town.mesh.agent.pid, *town.mesh.worker_pids().values()}
    assert helpers
    for pid in helpers:
        kill_and_wait(pid)
    assert outcomes(town.client, town.vip, 150) == ["server"] * 150, "more than any stock: it is filled up again"
    late = town.lab.pod("late")
    town.manifests.pod(late)
    town.mesh.wait_captured(late)
    town.manifests.remove("pod-default-late")
    late.remove()


# --- everything


def test_when_everything_is_killed_open_pods_go_direct_in_that_instant(town):
    load = apps.Load(town.client, town.vip, 7000, kept=4, per_second=50)
    load.flows(fresh=5)
    died_at = town.mesh.kill_everything()
    load.flows(fresh=25)
    result = load.stop()
    assert_only_in_flight_was_lost(result, died_at)
    assert len(result.broken) == 4, "what the workers carried dies with them"
    assert {record["server"] for record in result.fresh if record["at"] > died_at} == {"server"}
    for address in (town.vip, town.vip6, town.server.ip, town.server.ip6):
        own = town.client.ip6 if ":" in address else town.client.ip
        seen = apps.client(town.client, "plain", address, 7000)
        assert (seen["error"], seen["peer"]) == ("", address), "the app still sees whom it asked for"
        assert seen["reply"]["peer"] == [own, seen["local_port"]]
    assert outcomes(town.neighbour, town.server.ip, 3) == ["server"] * 3


def test_what_went_direct_meanwhile_is_shown_afterwards_and_closed_on_request(town):
    town.mesh.kill_everything()
    with town.client.connect(town.vip, 7000) as direct:
        assert talk.who(direct)["name"] == "server"
        town.mesh.start()
        assert town.mesh.wait_state(town.client, "bypassing")["bypassing"] == 1
        assert talk.ask(direct, "echo on it goes") == "on it goes"
        assert town.mesh.seine("drain", town.client.name).returncode == 0
        with pytest.raises((ConnectionError, EOFError)):
            talk.ask(direct, "echo gone")
    town.mesh.wait_captured(*town.enrolled)


def test_when_everything_is_killed_closed_pods_are_refused_in_that_instant(town):
    with town.guarded.connect(town.vip, 7000) as carried:
        talk.who(carried)
        town.mesh.kill_everything()
        start = time.monotonic()
        for address in (town.vip, town.vip6, town.server.ip, town.server.ip6, town.neighbour.ip):
            assert outcomes(town.guarded, address, 2) == ["ECONNREFUSED"] * 2, address
        for address in (town.vault.ip, town.vault.ip6):
            assert outcomes(town.neighbour, address, 2) == ["ECONNREFUSED"] * 2, address
            assert outcomes(town.client, address, 2) == ["ECONNREFUSED"] * 2, address
        assert time.monotonic() - start < 2 * AT_ONCE_S
        with pytest.raises((ConnectionError, EOFError)):
            talk.ask(carried, "echo anybody")
    assert outcomes(town.vault, "127.0.0.1", 1) == ["vault"], "its own loopback is nobody's business"


def test_udp_of_a_closed_pod_goes_on_without_us(town):
    town.mesh.kill_everything()
    with town.guarded.socket(kind=socket.SOCK_DGRAM) as sock:
        sock.sendto(b"hello", (town.vault.ip, 7002))
        assert json.loads(sock.recv(1000))["peer"][0] == town.guarded.ip


def test_a_new_agent_captures_again_after_everything_was_killed(town):
    before = town.mesh.carried(town.client)
    town.mesh.kill_everything()
    town.mesh.start()
    assert town.mesh.status()["adopted"]
    town.mesh.wait_captured(*town.enrolled)
    assert outcomes(town.guarded, town.vip, 5) == ["server"] * 5
    assert outcomes(town.client, town.vip, 5) == ["server"] * 5
    town.mesh.wait_carried(town.client, before + 5)


def test_when_everything_hangs_the_fail_rules_hold_after_three_seconds(town):
    town.mesh.freeze(town.mesh.agent.pid, *town.mesh.worker_pids().values())
    frozen_at = time.monotonic()

    def settled() -> bool:
        return _brief(town.client, town.vip) == "server" and _brief(town.guarded, town.vip) == "ECONNREFUSED"

    eventually(settled, "the fail rules to hold", 10.0)  # 3 s, and what a busy machine needs to see it
    assert time.monotonic() - frozen_at > 2.5, "workers that pause for a moment are not dead"
    assert _brief(town.neighbour, town.server.ip) == "server"
    assert _brief(town.neighbour, town.vault.ip) == "ECONNREFUSED"


def _brief(pod: Pod, address: str) -> str:
    sock = pod.socket()
    sock.settimeout(0.2)
    return _outcome(sock, address)


# --- the hooks


def test_hooks_that_somebody_detached_are_put_back(town):
    pins = [path for root in leftovers.bpf_roots() for path in (root / "seine" / town.mesh.node).rglob("links/*")]
    assert pins
    for pin in pins:
        if pin.is_file():
            bpf.detach(pin)
    eventually(lambda: town.mesh.status()["repairs"], "the repair to be told", 10)
    town.mesh.wait_captured(*town.enrolled)
    before = town.mesh.carried(town.client)
    assert outcomes(town.client, town.vip, 3) == ["server"] * 3
    assert outcomes(town.neighbour, town.server.ip6, 3) == ["server"] * 3
    town.mesh.wait_carried(town.client, before + 3)


def test_clean_ends_what_a_dead_agent_left(town):
    town.mesh.kill_agent()
    assert town.mesh.worker_pids()
    done = town.mesh.seine("clean")
    assert done.returncode == 0, done.stderr
    eventually(lambda: not town.mesh.left(), "nothing to be left")
    assert outcomes(town.guarded, town.server.ip, 2) == ["server"] * 2, "out of the mesh, nothing is closed"
