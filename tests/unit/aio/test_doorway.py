"""Who is let in, who is not, and that a machine out of descriptors does not make the loop spin."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import socket
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path

import pytest

from mesh.aio import doorway
from mesh.aio.doorway import Doorway, Peer

log = logging.getLogger("test")


class Listener(socket.socket):
    """One whose accept fails as often as it is told."""

    failures = 0
    tried = 0

    def accept(self) -> tuple[socket.socket, object]:
        self.tried += 1
        if self.tried <= self.failures:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return super().accept()


async def greet(sock: socket.socket) -> None:
    with sock:
        sock.send(b"hello")


def run(
    tmp_path: Path,
    body: Callable[[Doorway, Listener], Awaitable[None]],
    receive: Callable[[socket.socket, Peer], Coroutine[None, None, None] | None] = lambda sock, _: greet(sock),
) -> None:
    async def running() -> None:
        with Listener(socket.AF_UNIX) as listener:
            listener.bind(str(tmp_path / "a.sock"))
            listener.listen()
            made = Doorway(listener, receive, log, "a worker")
            made.open()
            try:
                await body(made, listener)
            finally:
                made.close()
                await asyncio.gather(*made.visits, return_exceptions=True)

    asyncio.run(running())


async def said(tmp_path: Path) -> bytes:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, str(tmp_path / "a.sock"))
        return await asyncio.get_running_loop().sock_recv(sock, 16)


def test_a_visitor_is_known_and_received(tmp_path: Path) -> None:
    seen: list[Peer] = []

    def receive(sock: socket.socket, peer: Peer) -> Coroutine[None, None, None]:
        seen.append(peer)
        return greet(sock)

    async def body(_: Doorway, __: Listener) -> None:
        assert await said(tmp_path) == b"hello"

    run(tmp_path, body, receive)
    assert seen == [(os.getpid(), os.getuid())]


def test_who_is_turned_away_hears_nothing(tmp_path: Path) -> None:
    async def body(made: Doorway, _: Listener) -> None:
        assert await said(tmp_path) == b""
        assert not made.visits

    run(tmp_path, body, lambda _, __: None)


def test_while_no_descriptor_is_free_the_door_is_shut_and_the_visitor_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(doorway, "SHUT_SECONDS", 0.2)

    async def body(_: Doorway, listener: Listener) -> None:
        listener.failures = 2
        assert await said(tmp_path) == b"hello"
        assert listener.tried == 3, "it was tried more often than the door was open"

    run(tmp_path, body)
    assert [each.getMessage() for each in caplog.records] == ["a worker cannot come in: Too many open files"] * 2


def test_a_door_that_is_closed_while_it_is_shut_stays_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doorway, "SHUT_SECONDS", 0.05)

    async def body(made: Doorway, listener: Listener) -> None:
        listener.failures = 99
        with socket.socket(socket.AF_UNIX) as visitor:
            visitor.connect(str(tmp_path / "a.sock"))
            await asyncio.sleep(0.01)
            made.close()
            await asyncio.sleep(0.1)
        assert listener.tried == 1

    run(tmp_path, body)


def test_visits_end_with_the_door(tmp_path: Path) -> None:
    async def stay(sock: socket.socket) -> None:
        with sock:
            await asyncio.Event().wait()

    async def body(made: Doorway, _: Listener) -> None:
        waiting = asyncio.ensure_future(said(tmp_path))
        while not made.visits:
            await asyncio.sleep(0.001)
        made.close()
        assert await waiting == b""

    run(tmp_path, body, lambda sock, _: stay(sock))
