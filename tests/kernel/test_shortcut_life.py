"""The short-cut over time: its switch, its trial, pods that come and go, agents that follow each other."""

from __future__ import annotations

import os
import random
import re
import shutil
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from mesh.capture import clean, pin_root
from mesh.capture.kernel import SOURCE
from mesh.capture.pins import node_pins
from tests.kernel.capturing import Capturing, Enrolled, listen
from tests.kit.bpf import detach_shortcut
from tests.kit.lab import Lab
from tests.kit.leftovers import cgroup2_root

PORT, ANOTHER = 9000, 9001
SKIPPING = {"skip_outbound_ports": frozenset({PORT, ANOTHER}), "skip_inbound_ports": frozenset({PORT, ANOTHER})}


@pytest.fixture
def lab() -> Iterator[Lab]:
    with Lab("shortlife") as lab:
        yield lab


def enrolled(capture: Capturing) -> tuple[Enrolled, Enrolled]:
    return tuple(capture.enrol(capture.lab.pod(name), shortcut=True, **SKIPPING) for name in ("one", "other"))  # type: ignore[return-value]


@contextmanager
def connected(one: Enrolled, other: Enrolled, port: int = PORT) -> Iterator[tuple[socket.socket, socket.socket]]:
    """No worker between them."""
    with listen(other.pod, other.pod.ip, port) as listener, one.pod.connect(other.pod.ip, port) as client:
        server, _ = listener.accept()
        with server:
            server.settimeout(3)
            yield client, server


def talk(client: socket.socket, server: socket.socket, rounds: int = 1) -> None:
    for _ in range(rounds):
        question, answer = random.randbytes(1000), random.randbytes(2000)
        client.sendall(question)
        assert server.recv(4096) == question
        server.sendall(answer)
        assert client.recv(4096) == answer


def messages(*pods: Enrolled) -> list[int]:
    return [pod.count("shortcut_messages") for pod in pods]


def variant(tmp_path: Path, old: str, new: str, file: str = "shortcut.c") -> Path:
    """The sources with one change."""
    source = tmp_path / "bpf"
    shutil.copytree(SOURCE, source)
    text = (source / file).read_text()
    assert old in text
    (source / file).write_text(text.replace(old, new))
    return source


# --- the switch and the trial


def test_a_node_that_is_switched_off_has_none(lab):
    capture = Capturing(lab, {"shortcut": False})
    one, other = enrolled(capture)
    assert capture.kernel.shortcut.detail == "it is switched off on this node"
    with connected(one, other) as (client, server):
        talk(client, server)
    assert (one.count("shortcut_joined"), messages(one, other)) == (0, [0, 0])


def test_switching_a_node_off_ends_it_for_open_connections(lab):
    capture = Capturing(lab)
    one, other = enrolled(capture)
    with connected(one, other) as (client, server):
        talk(client, server, rounds=5)
        client.sendall(b"unread")
        assert messages(one, other) == [6, 5]
        capture.kernel.close()
        capture.open(shortcut=False)
        client.sendall(b" and more")
        assert server.recv(6) == b"unread"
        assert server.recv(64) == b" and more"
        talk(client, server, rounds=5)
    assert messages(one, other) == [6, 5]
    assert (one.count("shortcut_off"), other.count("shortcut_off")) == (1, 1)


FALL_BACK_PER_MESSAGE = ("mine->way = WAY_TCP;", "")
FAULTS = {
    "falls back for one message only": (*FALL_BACK_PER_MESSAGE, "bytes arrived in another order, or changed"),
    "loses a message": (
        "int reason = redirect",
        "if (ctx->size == 1000) return SK_DROP; int reason = redirect",
        "Permission denied",
    ),
    "changes a message": (
        "int reason = redirect",
        "if (ctx->size == 1000) bpf_msg_pop_data(ctx, 10, 5, 0); int reason = redirect",
        "bytes arrived in another order, or changed",
    ),
    "redirects nothing": ("!= SK_PASS)", "!= 77)", "no message took it"),
    "is refused by the kernel": (
        "int reason = redirect",
        "bpf_bind((void *)ctx, 0, 0); int reason = redirect",
        "shortcut",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_short_cut_that_fails_its_trial_is_off_and_says_why(lab, tmp_path, fault):
    old, new, said = FAULTS[fault]
    capture = Capturing(lab, {"source": variant(tmp_path, old, new)})
    assert not capture.kernel.shortcut.available
    assert said in capture.kernel.shortcut.detail
    one, other = enrolled(capture)
    with connected(one, other) as (client, server):
        talk(client, server)
    assert (one.count("shortcut_joined"), messages(one, other)) == (0, [0, 0])


def test_a_trial_leaves_nothing(lab):
    capture = Capturing(lab)
    assert capture.kernel.slots() == {}
    assert not list(cgroup2_root().glob(f".seine-trial-{os.getpid()}"))
    maps = capture.kernel._maps
    assert [name for name in ("lanes", "ends", "homes", "flows") if maps[name].all_keys()] == []
    assert not any(maps["counters"].read(bytes(4)) or b"")


# --- pods that come and go


def test_a_pod_that_leaves_the_mesh_keeps_its_connections(lab):
    capture = Capturing(lab)
    one, other = enrolled(capture)
    with connected(one, other) as (client, server):
        talk(client, server, rounds=3)
        client.sendall(b"unread")
        capture.kernel.unenrol(one.slot)
        client.sendall(b" and more")
        assert server.recv(6) == b"unread"
        assert server.recv(64) == b" and more"
        talk(client, server, rounds=3)
        assert messages(other) == [3]
        assert other.count("shortcut_gone") == 1


def test_a_pod_that_no_longer_asks_for_it_goes_on_by_tcp(lab):
    capture = Capturing(lab)
    one, other = enrolled(capture)
    with connected(one, other) as (client, server):
        talk(client, server, rounds=3)
        capture.write(other, shortcut=False, **SKIPPING)
        talk(client, server, rounds=3)
        assert messages(other) == [3]
        assert other.count("shortcut_off") == 1
    with connected(one, other) as (client, server):
        talk(client, server)
    assert messages(other) == [3]
    capture.write(other, shortcut=True, **SKIPPING)
    with connected(one, other) as (client, server):
        talk(client, server)
    assert messages(other) == [4]


def test_an_address_that_another_pod_has_now_is_that_pods(lab):
    """A pod goes without a word, and its address comes back with the next one before anybody noticed."""
    capture = Capturing(lab)
    one, _ = enrolled(capture)
    gone = capture.enrol(lab.pod("gone"), shortcut=True)
    address = gone.pod.ip
    gone.outbound.close()
    gone.inbound.close()
    gone.pod.remove()
    lab.node.next_host -= 1
    heir = capture.enrol(lab.pod("heir"), shortcut=True, **SKIPPING)
    assert heir.pod.ip == address
    capture.kernel.unenrol(gone.slot)
    with connected(one, heir) as (client, server):
        talk(client, server)
    assert messages(heir) == [1]


# --- agents that follow each other


def test_open_connections_outlive_the_agent_and_stay_in_the_short_cut(lab):
    capture = Capturing(lab)
    one, other = enrolled(capture)
    with connected(one, other) as (client, server):
        talk(client, server)
        capture.kernel.close()
        client.sendall(b"nobody is there")
        assert server.recv(64) == b"nobody is there"
        capture.open()
        assert capture.kernel.adopted
        assert messages(one, other) == [2, 1]
        talk(client, server)
        assert messages(one, other) == [3, 2]
    with connected(one, other) as (client, server):
        talk(client, server)
    assert messages(one, other) == [4, 3]


@pytest.mark.parametrize("changed", ["end", "pair", "shortcut", "lane"])
def test_an_upgrade_across_a_changed_struct_loses_no_byte(lab, tmp_path, changed):
    """Sockets inside keep the program and the tables they came in with; new ones get the new."""
    old = re.search(rf"struct {changed} \{{[^}}]*\}};", (SOURCE / "types.h").read_text())
    assert old
    capture = Capturing(
        lab, {"source": variant(tmp_path, old[0], old[0].replace("\n};", "\n    __u64 dropped;\n};"), "types.h")}
    )
    one, other = enrolled(capture)
    assert capture.kernel.shortcut.available
    with connected(one, other) as (client, server):
        talk(client, server)
        client.sendall(b"unread")
        capture.kernel.close()
        capture.open()
        assert capture.kernel.shortcut.available
        client.sendall(b" and more")
        assert server.recv(6) + server.recv(64) == b"unread and more"
        talk(client, server)
        with connected(one, other, ANOTHER) as (another, its_server):
            talk(another, its_server)
    assert messages(other)[0] >= 2


def test_uninstalling_loses_no_byte(lab):
    capture = Capturing(lab)
    one, other = enrolled(capture)
    with connected(one, other) as (client, server), ExitStack() as undo:
        undo.callback(capture.open)
        talk(client, server)
        client.sendall(b"unread")
        capture.kernel.close()
        clean(lab.name, pin_root(), cgroup2_root())
        client.sendall(b" and more")
        assert server.recv(6) + server.recv(64) == b"unread and more"
        talk(client, server)


def test_a_program_that_somebody_took_off_is_put_back(lab):
    capture = Capturing(lab)
    one, other = enrolled(capture)
    assert capture.kernel.repair() == []
    (pin,) = node_pins(pin_root(), lab.name).glob("*/ends-*")
    detach_shortcut(pin)
    with connected(one, other) as (client, server):
        talk(client, server)
    assert messages(one, other) == [0, 0]
    assert capture.kernel.repair() == ["shortcut was detached from its sockets"]
    with connected(one, other) as (client, server):
        talk(client, server)
    assert messages(one, other) == [1, 1]
