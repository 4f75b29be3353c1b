"""Kubelet's probes reach a pod whatever its mode is; nobody else passes with them, whatever address he has."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from mesh.model import FailMode, Mtls
from mesh.node import kubelet as finding
from mesh.node.kubelet import NoKubelet, check_own, listening_cgroup
from tests.kernel.capturing import Capturing, Enrolled, listen, plain
from tests.kit import leftovers, spawn
from tests.kit.lab import Lab
from tests.kit.wait import eventually


class Kubelet:
    """A cgroup on the node, whose processes stand for kubelet once the hooks are told."""

    def __init__(self, capture: Capturing, name: str) -> None:
        self.capture, self.cgroup = capture, capture.lab.cgroup / name
        self.cgroup.mkdir()
        capture.lab.at_end(leftovers.remove_cgroup, self.cgroup)
        self.entering = spawn.entering(self.cgroup, "/proc/self/ns/net", None)

    @property
    def id(self) -> int:
        return self.cgroup.stat().st_ino

    def probe(self, address: str, port: int, source: tuple[str, int] | None = None) -> tuple[int, tuple[str, int]]:
        """0 or the errno, and where it came from."""

        def connect() -> tuple[int, tuple[str, int]]:
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            with socket.socket(family) as sock:
                sock.settimeout(3)
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                if source:
                    sock.bind(source)
                return sock.connect_ex((address, port)), plain(sock.getsockname())

        return spawn.call(self.entering, connect, 10)


@pytest.fixture(scope="module")
def capture() -> Iterator[Capturing]:
    with Lab("probes") as lab:
        yield Capturing(lab)


@pytest.fixture(scope="module")
def kubelet(capture: Capturing) -> Kubelet:
    made = Kubelet(capture, "kubelet")
    capture.kernel.set_kubelet(made.id)
    return made


@pytest.fixture(scope="module")
def stranger(capture: Capturing) -> Kubelet:
    return Kubelet(capture, "stranger")


@pytest.fixture(scope="module")
def server(capture: Capturing) -> Enrolled:
    return capture.enrol(capture.lab.pod("server"))


@pytest.fixture
def dead(capture: Capturing) -> Iterator[None]:
    capture.stop_beating()
    yield
    capture.beat()


Write = Callable[[Capturing, Enrolled], None]
MODES: dict[str, Write] = {
    "closed": lambda capture, pod: capture.write(pod, fail_mode=FailMode.CLOSED),
    "strict": lambda capture, pod: capture.write(pod, mtls=Mtls.STRICT),
}


@pytest.mark.parametrize("write", MODES.values(), ids=MODES)
@pytest.mark.parametrize("family", [4, 6])
def test_while_no_worker_lives_probes_pass_and_others_do_not(capture, server, kubelet, stranger, dead, write, family):
    write(capture, server)
    address = server.pod.ip if family == 4 else server.pod.ip6
    outside = capture.lab.pod(f"outside-{family}-{id(write)}")
    before = server.count("inbound_kubelet")
    with ExitStack() as stack:
        stack.callback(outside.remove)
        app = stack.enter_context(listen(server.pod, address, 8080))
        status, source = kubelet.probe(address, 8080)
        assert status == 0
        accepted, peer = app.accept()
        stack.enter_context(accepted)
        assert plain(peer) == source, "the app sees the node"
        assert server.count("inbound_kubelet") == before + 1
        assert stranger.probe(address, 8080)[0] == errno.ECONNREFUSED, "from the same address, by another process"
        with pytest.raises(ConnectionRefusedError):
            outside.connect(address, 8080)


def test_probes_pass_by_a_living_worker_too(capture, server, kubelet):
    capture.write(server)
    with listen(server.pod, server.pod.ip, 8081) as app:
        status, source = kubelet.probe(server.pod.ip, 8081)
        assert status == 0
        accepted, peer = app.accept()
        accepted.close()
        assert plain(peer) == source


def test_a_tuple_that_somebody_else_takes_over_is_no_probe_any_more(capture, server, kubelet, stranger, dead):
    MODES["closed"](capture, server)
    with listen(server.pod, server.pod.ip, 8082) as app:
        status, source = kubelet.probe(server.pod.ip, 8082)
        assert status == 0
        app.accept()[0].close()
        assert capture.kernel.is_probe(source, (server.pod.ip, 8082))
    gone = (source[0], 0)
    with listen(server.pod, server.pod.ip, 8083):
        mine = stranger.probe(server.pod.ip, 8083, gone)
        assert mine[0] == errno.ECONNREFUSED
    assert kubelet.probe(server.pod.ip, 8084, mine[1])[0] == errno.ECONNREFUSED, "nobody listens, and kubelet hears it"
    assert capture.kernel.is_probe(mine[1], (server.pod.ip, 8084))
    assert stranger.probe(server.pod.ip, 8084, mine[1])[0] == errno.ECONNREFUSED
    assert not capture.kernel.is_probe(mine[1], (server.pod.ip, 8084))


def test_until_the_hooks_are_told_nobody_is_kubelet(capture, server, kubelet, stranger, dead):
    MODES["closed"](capture, server)
    with listen(server.pod, server.pod.ip, 8085):
        capture.kernel.set_kubelet(0)
        assert kubelet.probe(server.pod.ip, 8085)[0] == errno.ECONNREFUSED
        capture.kernel.set_kubelet(stranger.id)
        assert stranger.probe(server.pod.ip, 8085)[0] == 0
    capture.kernel.set_kubelet(kubelet.id)


# --- who it is


@pytest.fixture
def listening(capture: Capturing, stranger: Kubelet) -> Iterator[int]:
    """A port on which a process of the stranger's cgroup listens."""
    with spawn.make_sockets(stranger.entering, socket.AF_INET6, socket.SOCK_STREAM, 1)[0] as sock:
        sock.bind(("::1", 0))
        sock.listen(1)
        yield int(sock.getsockname()[1])


def test_kubelet_is_who_listens_on_its_port(stranger: Kubelet, listening: int) -> None:
    assert listening_cgroup(listening) == stranger.id
    check_own(leftovers.cgroup2_root(), stranger.id)


def test_nobody_and_several_are_told() -> None:
    with socket.socket() as unheard:
        unheard.bind(("127.0.0.1", 0))
        with pytest.raises(NoKubelet, match="nobody listens on kubelet's port"):
            listening_cgroup(unheard.getsockname()[1])


def test_a_cgroup_that_strangers_share_is_not_kubelets(stranger: Kubelet, tmp_path: Path) -> None:
    root = leftovers.cgroup2_root()
    with pytest.raises(NoKubelet, match="the root cgroup"):
        check_own(root, root.stat().st_ino)
    with pytest.raises(NoKubelet, match="not in the tree"):
        check_own(tmp_path, stranger.id)
    joining = spawn.entering(stranger.cgroup, "/proc/self/ns/net", "nobody")
    user = spawn.spawn(["sleep", "600"], stranger.capture.lab.log_path("sleep"), joining, {})
    try:
        eventually(lambda: os.stat(f"/proc/{user.pid}").st_uid != 0, "the user to be there")
        with pytest.raises(NoKubelet, match=r"shares its cgroup .* with a process of uid"):
            check_own(root, stranger.id)
    finally:
        user.stop()
    assert finding.PORT == 10250
