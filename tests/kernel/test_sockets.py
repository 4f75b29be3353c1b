"""Sockets that the agent gets from inside pods: whose they are, what they can do, and what goes wrong in words."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import resource
import signal
import socket
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TypeVar

import pytest

from mesh.capture.sockets import SocketFactory
from mesh.config import INBOUND_PORT, OUTBOUND_PORT
from mesh.node import netns
from tests.kit.lab import Lab, Pod
from tests.kit.leftovers import cgroup2_root, remove_cgroup
from tests.kit.wait import eventually

T = TypeVar("T")
SO_NETNS_COOKIE = 71


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab("sockets") as lab:
        yield lab


@pytest.fixture
def pod(lab: Lab, request: pytest.FixtureRequest) -> Iterator[Pod]:
    pod = lab.pod(f"p{len(lab.pods)}")
    yield pod
    pod.remove()


@pytest.fixture
def fixed(lab: Lab) -> Iterator[Path]:
    """A cgroup as the agent makes it: below the root, without children."""
    path = cgroup2_root() / f"seine-{lab.name}"
    path.mkdir()
    yield path
    remove_cgroup(path)


def with_factory(cgroup: Path, use: Callable[[SocketFactory], Awaitable[T]]) -> T:
    async def run() -> T:
        factory = SocketFactory()
        await factory.start(cgroup)
        try:
            return await use(factory)
        finally:
            await factory.close()

    return asyncio.run(run())


def adopt(fds: list[int]) -> list[socket.socket]:
    return [socket.socket(fileno=fd) for fd in fds]


def close_all(sockets: list[socket.socket]) -> None:
    for sock in sockets:
        sock.close()


def cookie_of(sock: socket.socket) -> int:
    return int.from_bytes(sock.getsockopt(socket.SOL_SOCKET, SO_NETNS_COOKIE, 8), sys.byteorder)


def open_files() -> set[str]:
    return {
        os.readlink(f"/proc/self/fd/{fd}")
        for fd in os.listdir("/proc/self/fd")
        if os.path.lexists(f"/proc/self/fd/{fd}")
    }


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
def test_sockets_live_in_the_pod_and_are_ready_to_dial(pod, fixed, family):
    made = adopt(with_factory(fixed, lambda factory: factory.sockets(pod.netns, family, 3)))
    try:
        for sock in made:
            assert cookie_of(sock) == netns.cookie(pod.netns) != netns.own_cookie()
            assert sock.family == family
            assert not os.get_blocking(sock.fileno())
            assert not os.get_inheritable(sock.fileno())
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    finally:
        close_all(made)


def test_more_sockets_than_fit_into_one_message(pod, fixed):
    made = adopt(with_factory(fixed, lambda factory: factory.sockets(pod.netns, socket.AF_INET, 201)))
    assert len({sock.fileno() for sock in made}) == 201
    assert {cookie_of(sock) for sock in made} == {netns.cookie(pod.netns)}
    close_all(made)


@pytest.mark.parametrize("ipv6", [True, False])
def test_each_listener_accepts_what_the_pod_connects(pod, fixed, ipv6):
    if not ipv6:
        pod.inside(lambda: Path("/proc/sys/net/ipv6/conf/all/disable_ipv6").write_text("1"))
    made = adopt(list(with_factory(fixed, lambda factory: factory.listeners(pod.netns))))
    try:
        assert [sock.getsockname()[1] for sock in made] == [OUTBOUND_PORT, INBOUND_PORT]
        for address in ["127.0.0.1", "::1"] if ipv6 else ["127.0.0.1"]:
            for listener in made:
                client = pod.connect(address, listener.getsockname()[1])
                eventually(partial(accepted, listener), f"a connection to {address}")
                client.close()
    finally:
        close_all(made)


def accepted(listener: socket.socket) -> bool:
    try:
        listener.accept()[0].close()
    except BlockingIOError:
        return False
    return True


def test_a_port_that_the_application_holds_is_named(pod, fixed):
    app = pod.socket()
    app.bind(("0.0.0.0", INBOUND_PORT))
    app.listen()

    async def use(factory: SocketFactory) -> None:
        before = open_files()
        with pytest.raises(OSError) as failure:
            await factory.listeners(pod.netns)
        assert failure.value.errno == errno.EADDRINUSE
        assert failure.value.strerror is not None
        assert f"port {INBOUND_PORT}" in failure.value.strerror
        assert "taken by the application" in failure.value.strerror
        assert open_files() == before  # the outbound listener, made before, is not leaked
        app.close()
        close_all(adopt(list(await factory.listeners(pod.netns))))

    with_factory(fixed, use)


def test_a_listener_of_ours_that_outlived_the_agent_is_not_called_the_applications(pod, fixed):
    async def use(factory: SocketFactory) -> None:
        kept = adopt(list(await factory.listeners(pod.netns)))
        with pytest.raises(OSError, match="by a worker of this node") as failure:
            await factory.listeners(pod.netns)
        assert failure.value.errno == errno.EADDRINUSE
        close_all(kept)

    with_factory(fixed, use)


@pytest.mark.parametrize(
    ("path", "number", "words"),
    [("/run/netns/never-was", errno.ENOENT, "cannot be opened"), ("/proc/self/exe", errno.EINVAL, "cannot be entered")],
)
def test_a_namespace_that_is_none_fails_in_words_and_hurts_nobody_else(pod, fixed, path, number, words):
    async def use(factory: SocketFactory) -> list[int]:
        for call in (factory.sockets(path, socket.AF_INET, 1), factory.listeners(path)):
            with pytest.raises(OSError) as failure:
                await call
            assert failure.value.errno == number
            assert failure.value.strerror is not None
            assert path in failure.value.strerror
            assert words in failure.value.strerror
        return await factory.sockets(pod.netns, socket.AF_INET, 1)

    made = adopt(with_factory(fixed, use))
    assert cookie_of(made[0]) == netns.cookie(pod.netns)
    close_all(made)


def test_hundreds_of_questions_at_once_are_all_answered(lab, pod, fixed):
    other = lab.pod("other")

    async def use(factory: SocketFactory) -> list[list[int]]:
        pods = [pod, other] * 100
        return await asyncio.gather(*(factory.sockets(one.netns, socket.AF_INET, 2) for one in pods))

    answers = [adopt(fds) for fds in with_factory(fixed, use)]
    cookies = [netns.cookie(pod.netns), netns.cookie(other.netns)] * 100
    assert [{cookie_of(sock) for sock in answer} for answer in answers] == [{cookie} for cookie in cookies]
    for answer in answers:
        close_all(answer)
    other.remove()


def test_a_killed_helper_is_replaced_and_nobody_notices(pod, fixed):
    async def use(factory: SocketFactory) -> None:
        first = factory.pid
        os.kill(first, signal.SIGSTOP)  # so that the questions wait in its buffer
        asked = [asyncio.ensure_future(factory.sockets(pod.netns, socket.AF_INET, 1)) for _ in range(10)]
        await asyncio.sleep(0)
        os.kill(first, signal.SIGKILL)
        made = [adopt(fds) for fds in await asyncio.gather(*asked)]
        assert {cookie_of(sock) for answer in made for sock in answer} == {netns.cookie(pod.netns)}
        assert factory.pid != first
        assert (fixed / "cgroup.procs").read_text().split() == [str(factory.pid)]
        for answer in made:
            close_all(answer)

    with_factory(fixed, use)


def test_an_agent_without_free_descriptors_is_told_and_recovers(pod, fixed):
    async def use(factory: SocketFactory) -> list[int]:
        before = open_files()
        with all_but_five_descriptors_taken(), pytest.raises(OSError, match="RLIMIT_NOFILE") as failure:
            await factory.sockets(pod.netns, socket.AF_INET, 64)
        assert failure.value.errno == errno.EMFILE
        assert open_files() == before
        return await factory.sockets(pod.netns, socket.AF_INET, 64)

    close_all(adopt(with_factory(fixed, use)))


@contextlib.contextmanager
def all_but_five_descriptors_taken() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
    taken = []
    try:
        with contextlib.suppress(OSError):
            while True:
                taken.append(os.dup(0))
        for fd in taken[-5:]:
            os.close(fd)
        del taken[-5:]
        yield
    finally:
        for fd in taken:
            os.close(fd)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_sockets_for_a_caller_who_left_are_closed(pod, fixed):
    async def use(factory: SocketFactory) -> None:
        before = open_files()
        asked = asyncio.ensure_future(factory.sockets(pod.netns, socket.AF_INET, 64))
        await asyncio.sleep(0)
        asked.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asked
        close_all(adopt(await factory.sockets(pod.netns, socket.AF_INET, 1)))  # answered after the one cancelled
        assert open_files() == before

    with_factory(fixed, use)


def test_a_cgroup_that_cannot_be_joined_fails_the_start(fixed):
    with pytest.raises(OSError, match=r"cgroup .*/none cannot be opened: No such file"):
        with_factory(fixed / "none", lambda factory: factory.close())


def test_after_its_end_a_factory_makes_nothing(pod, fixed):
    async def use(factory: SocketFactory) -> None:
        await factory.close()
        with pytest.raises(OSError, match="makes no more sockets"):
            await factory.sockets(pod.netns, socket.AF_INET, 1)

    with_factory(fixed, use)


def test_the_helper_is_small_and_goes_with_a_killed_agent(fixed):
    agent = subprocess.Popen([sys.executable, "-c", AGENT, str(fixed)], stdout=subprocess.PIPE, text=True)
    with agent:
        assert agent.stdout is not None
        helper = int(agent.stdout.readline())
        pss = next(
            line for line in Path(f"/proc/{helper}/smaps_rollup").read_text().splitlines() if line.startswith("Pss:")
        )
        assert int(pss.split()[1]) < 10 * 1024
        agent.kill()
    eventually(lambda: not (fixed / "cgroup.procs").read_text(), "the helper to end")


AGENT = """
import asyncio, pathlib, sys
from mesh.capture.sockets import SocketFactory
async def main():
    factory = SocketFactory()
    await factory.start(pathlib.Path(sys.argv[1]))
    print(factory.pid, flush=True)
    await asyncio.sleep(60)
asyncio.run(main())
"""
