"""The prover looks from where the pod's own processes look, says what it saw, and survives what pods do to it.

First a greeter in the pod's namespace that owns the canary addresses stands for a mesh: what it does is in the test's
hand. Then the real hooks, attached to the root as the agent does, and too low on purpose.
"""

from __future__ import annotations

import asyncio
import ctypes
import mmap
import os
import select
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from pyroute2 import IPRoute

from mesh.capture import Kernel, clean, pin_root
from mesh.capture.prover import Proof, prove, state_of
from mesh.capture.sockets import SocketFactory
from mesh.config import CANARY_ADDRESSES, CANARY_PORT
from mesh.model import Destination, Direction, FailMode, PodState, Workload
from mesh.model import Pod as Enrolled
from mesh.node import netns
from tests.kit.lab import Lab, Pod
from tests.kit.leftovers import cgroup2_root, remove_cgroup
from tests.kit.spawn import Process
from tests.kit.wait import eventually

GREETER = """
import socket, sys
listener = socket.socket(socket.AF_INET6)
listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
listener.bind(("::", int(sys.argv[1])))
listener.listen()
while True:
    with listener.accept()[0] as one:
        if sys.argv[2] == "-":
            one.recv(1)
        one.sendall(sys.argv[2].encode() + b"\\n")
"""


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab("prover") as lab:
        yield lab


@pytest.fixture
def pod(lab: Lab) -> Iterator[Pod]:
    """A pod in whose namespace the canary addresses lead somewhere."""
    pod = lab.pod("pod")

    def own_canaries() -> None:
        with IPRoute() as ip:
            for address in CANARY_ADDRESSES:
                ip.addr("add", index=1, address=address, prefixlen=128 if ":" in address else 32)

    pod.inside(own_canaries)
    yield pod
    pod.remove()


@pytest.fixture
def fixed(lab: Lab) -> Iterator[Path]:
    path = cgroup2_root() / f"seine-{lab.name}"
    path.mkdir()
    yield path
    remove_cgroup(path)


def greeter(pod: Pod, says: str) -> Process:
    process = pod.popen(["/usr/bin/python3", "-c", GREETER, str(CANARY_PORT), says])
    pod.wait_listening(CANARY_PORT)
    return process


def enrolled(pod: Pod, **changes: object) -> Enrolled:
    workload = Workload(uid="u", namespace="default", name=pod.name, addresses=(pod.ip, pod.ip6))
    values = {"workload": workload, "netns": pod.netns, "cgroup": str(pod.cgroup), **changes}
    return Enrolled(**values)  # type: ignore[arg-type]


def proof_of(pod: Enrolled, fixed: Path, effective: bool = True) -> Proof:
    async def run() -> Proof:
        factory = SocketFactory()
        await factory.start(fixed)
        try:
            return await prove(pod, node="n1", factory=factory, effective=lambda _: effective)
        finally:
            await factory.close()

    return asyncio.run(run())


def test_a_worker_that_greets_proves_everything(pod, fixed):
    greeter(pod, "seine n1")
    expected = Proof(outbound_v4=True, outbound_v6=True, inbound=True, effective=True)
    assert proof_of(enrolled(pod), fixed) == expected
    eventually(lambda: len(pod.processes()) == 1, "the probe to leave the pod's cgroup to the greeter")


def test_a_family_that_the_pod_has_not_is_not_asked_for(pod, fixed):
    greeter(pod, "seine n1")
    workload = Workload(uid="u", namespace="default", name="v4", addresses=(pod.ip,))
    assert proof_of(enrolled(pod, workload=workload), fixed) == Proof(outbound_v4=True, inbound=True, effective=True)


def test_hooks_that_are_not_in_effect_are_told(pod, fixed):
    greeter(pod, "seine n1")
    proof = proof_of(enrolled(pod), fixed, effective=False)
    assert not proof.good
    assert proof.effective is False
    assert "hooks are not in effect" in proof.detail


def test_connections_that_go_elsewhere_are_a_leak(pod, fixed):
    proof = proof_of(enrolled(pod), fixed)
    assert (proof.outbound_v4, proof.outbound_v6, proof.inbound) == (False, False, False)
    assert f"{CANARY_ADDRESSES[0]} reaches no worker: Connection refused" in proof.detail


def test_another_nodes_worker_is_no_proof(pod, fixed):
    greeter(pod, "seine n2")
    proof = proof_of(enrolled(pod), fixed)
    assert (proof.outbound_v4, proof.outbound_v6, proof.inbound) == (False, False, False)
    assert "somebody else: 'seine n2'" in proof.detail


def test_silence_proves_nothing(pod, fixed):
    greeter(pod, "-")
    proof = proof_of(enrolled(pod), fixed)
    assert (proof.outbound_v4, proof.outbound_v6, proof.inbound) == (None, None, None)
    assert not proof.good
    assert "no worker greeted" in proof.detail


def test_what_only_the_pods_own_cgroup_meets_is_seen(lab, pod, fixed):
    """The reason for the machinery: a program on the pod's cgroup, and a probe from elsewhere sees nothing of it."""
    greeter(pod, "seine n1")
    with connect4_refused(pod.cgroup):
        assert proof_of(enrolled(pod), fixed).outbound_v4 is False
        elsewhere = lab.cgroup / "elsewhere"
        elsewhere.mkdir()
        assert proof_of(enrolled(pod, cgroup=str(elsewhere)), fixed).outbound_v4 is True
        events = elsewhere / "cgroup.events"
        eventually(lambda: "populated 0" in events.read_text(), "the probe to be gone, which answers a moment before")
        elsewhere.rmdir()


def test_an_unknown_cgroup_is_said_and_what_can_be_proven_is(pod, fixed):
    greeter(pod, "seine n1")
    proof = proof_of(enrolled(pod, cgroup=""), fixed)
    assert (proof.outbound_v4, proof.outbound_v6, proof.inbound, proof.effective) == (True, True, True, None)
    assert "cgroup is unknown" in proof.detail


@pytest.mark.parametrize(("part", "path"), [("cgroup", "/sys/fs/cgroup/never-was"), ("netns", "/run/netns/never-was")])
def test_a_pod_that_is_gone_is_told_in_words(pod, fixed, part, path):
    greeter(pod, "seine n1")
    proof = proof_of(enrolled(pod, **{part: path}), fixed)
    assert (proof.outbound_v4, proof.outbound_v6) == (None, None)
    assert f"{path}" in proof.detail


def test_a_frozen_pod_costs_a_bounded_wait_and_leaves_no_process(pod, fixed):
    greeter(pod, "seine n1")
    before = pod.processes()
    (pod.cgroup / "cgroup.freeze").write_text("1")
    try:
        proof = proof_of(enrolled(pod), fixed)
        assert (proof.outbound_v4, proof.outbound_v6) == (None, None)
        assert "frozen" in proof.detail
        eventually(lambda: pod.processes() == before, "the kernel to end the frozen probe")
    finally:
        (pod.cgroup / "cgroup.freeze").write_text("0")


def test_a_frozen_pod_keeps_nobody_elses_sockets_waiting(pod, fixed):
    async def run() -> None:
        factory = SocketFactory()
        await factory.start(fixed)
        probes = [
            asyncio.ensure_future(factory.converse(str(pod.cgroup), pod.netns, CANARY_PORT, [CANARY_ADDRESSES[0]]))
            for _ in range(100)
        ]
        await asyncio.sleep(0)
        made = await factory.sockets(pod.netns, socket.AF_INET, 64)
        assert len(made) == 64
        for fd in made:
            os.close(fd)
        for probe in probes:
            probe.cancel()
        await asyncio.gather(*probes, return_exceptions=True)
        await factory.close()

    (pod.cgroup / "cgroup.freeze").write_text("1")
    try:
        asyncio.run(run())
    finally:
        (pod.cgroup / "cgroup.freeze").write_text("0")


@contextmanager
def real_capture(lab: Lab, pod: Pod, root: Path) -> Iterator[Kernel]:
    """The hooks attached to `root`, the pod enrolled, and a thread in the place of a worker."""
    node, pins = f"{lab.name}-real", pin_root()
    with ExitStack() as undo:
        undo.callback(clean, node, pins, root)
        kernel = Kernel.open(node, cgroup_root=root, pins=pins)
        undo.callback(kernel.close)
        cells = undo.enter_context(mmap.mmap(kernel.heartbeat_fd, mmap.PAGESIZE))
        struct.pack_into("Q", cells, 0, time.clock_gettime_ns(time.CLOCK_MONOTONIC) + 3_600_000_000_000)
        listeners = [socket.socket(fileno=fd) for fd in asyncio.run(listeners_of(pod, kernel.cgroup))]
        for direction, listener in zip(Direction, listeners, strict=True):
            kernel.set_listener(0, direction, listener.fileno())
        kernel.set_destinations({(one, CANARY_PORT): canary(one) for one in CANARY_ADDRESSES})
        namespace = os.open(pod.netns, os.O_RDONLY)
        undo.callback(os.close, namespace)
        kernel.enrol(0, enrolled(pod, enrolled=True), namespace, netns.cookie(pod.netns))
        stop = threading.Event()
        thread = threading.Thread(target=greet, args=(listeners, stop))
        thread.start()
        undo.callback(thread.join)
        undo.callback(stop.set)
        yield kernel


async def listeners_of(pod: Pod, cgroup: Path) -> tuple[int, int]:
    factory = SocketFactory()
    await factory.start(cgroup)
    try:
        return await factory.listeners(pod.netns)
    finally:
        await factory.close()


def canary(address: str) -> Destination:
    return Destination(address=address, port=CANARY_PORT, service=False)


def greet(listeners: list[socket.socket], stop: threading.Event) -> None:
    while not stop.is_set():
        for listener in select.select(listeners, [], [], 0.02)[0]:
            with listener.accept()[0] as one:
                one.sendall(b"seine n1\n")
    for listener in listeners:
        listener.close()


def real_proof(pod: Enrolled, kernel: Kernel) -> Proof:
    async def run() -> Proof:
        factory = SocketFactory()
        await factory.start(kernel.cgroup)
        try:
            return await prove(pod, node="n1", factory=factory, effective=kernel.effective)
        finally:
            await factory.close()

    return asyncio.run(run())


def test_capture_at_the_root_is_proven(lab):
    pod = lab.pod("captured")
    with real_capture(lab, pod, cgroup2_root()) as kernel:
        proof = real_proof(enrolled(pod), kernel)
        assert proof == Proof(outbound_v4=True, outbound_v6=True, inbound=True, effective=True)
        kernel.unenrol(0)
        proof = real_proof(enrolled(pod), kernel)
        assert (proof.outbound_v4, proof.outbound_v6, proof.inbound) == (False, False, False)
    pod.remove()


def test_capture_attached_too_low_is_leaking_although_a_probe_from_there_would_call_it_good(lab):
    pod = lab.pod("leaking")
    low = lab.cgroup / "low"
    low.mkdir()
    neighbour = low / "neighbour"
    neighbour.mkdir()
    with real_capture(lab, pod, low) as kernel:
        proof = real_proof(enrolled(pod), kernel)
        assert (proof.outbound_v4, proof.outbound_v6, proof.effective) == (False, False, False)
        assert "hooks are not in effect" in proof.detail
        assert state_of(proof, True, FailMode.CLOSED, 0) is PodState.LEAKING
        assert real_proof(enrolled(pod, cgroup=str(neighbour)), kernel).good
    pod.remove()


@contextmanager
def connect4_refused(cgroup: Path) -> Iterator[None]:
    """A program on exactly this cgroup that refuses every IPv4 connect: `r0 = 0; exit`."""
    libc = ctypes.CDLL(None, use_errno=True)
    bpf, prog_load, prog_attach, kind, attach = 321, 5, 8, 18, 10  # x86_64; CGROUP_SOCK_ADDR, CGROUP_INET4_CONNECT
    program = ctypes.create_string_buffer(struct.pack("<BBhiBBhi", 0xB7, 0, 0, 0, 0x95, 0, 0, 0))
    licence = ctypes.create_string_buffer(b"Apache-2.0")

    def call(command: int, attr: bytes) -> int:
        fd = int(libc.syscall(bpf, command, ctypes.create_string_buffer(attr.ljust(128, b"\0")), 128))
        assert fd >= 0, os.strerror(ctypes.get_errno())
        return fd

    with ExitStack() as undo:
        load = struct.pack("=IIQQIIQI", kind, 2, ctypes.addressof(program), ctypes.addressof(licence), 0, 0, 0, 0)
        load = load.ljust(68, b"\0") + struct.pack("=I", attach)
        fd = call(prog_load, load)
        undo.callback(os.close, fd)
        target = os.open(cgroup, os.O_RDONLY)
        undo.callback(os.close, target)
        call(prog_attach, struct.pack("=IIII", target, fd, attach, 0))  # goes with the cgroup
        yield
