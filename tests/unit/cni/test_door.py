"""The socket that the plugin asks: who is answered, who is not, and that the others do not notice."""

from __future__ import annotations

import array
import asyncio
import json
import os
import socket
import struct
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from mesh.cni import door
from mesh.cni.door import Door
from mesh.cni.question import QUESTION_BYTES_MAX, Question

ARGS = "K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web;K8S_POD_UID=u-1"
CONFIGURATION = json.dumps({"prevResult": {"ips": [{"address": "10.0.0.7/24"}]}})
GOOD = f"CNI_COMMAND=ADD\0CNI_ARGS={ARGS}\0\0{CONFIGURATION}".encode()


async def answer(question: Question, netns: int) -> str:
    os.fstat(netns)
    return "" if question.name == "web" else "not this one"


def opened(body: Callable[[Door, Path], Awaitable[None]], tmp_path: Path, reply: door.Answer = answer) -> None:
    async def run() -> None:
        made = Door(tmp_path / "cni.sock", reply)
        made.open()
        before = len(os.listdir("/proc/self/fd"))
        try:
            await body(made, tmp_path / "cni.sock")
        finally:
            await made.close()
        await asyncio.sleep(0)
        assert len(os.listdir("/proc/self/fd")) < before, "a descriptor is left"

    asyncio.run(run())


async def ask(path: Path, content: bytes = GOOD, length: int | None = None, descriptors: int = 1) -> bytes:
    """The whole answer."""
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_UNIX) as sock, socket.socket() as sent:
        sock.setblocking(False)
        await loop.sock_connect(sock, str(path))
        numbers = array.array("i", [sent.fileno()] * descriptors)
        ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, numbers)] if descriptors else []
        sock.sendmsg([struct.pack("=I", len(content) if length is None else length)], ancillary)
        await loop.sock_sendall(sock, content)
        sock.shutdown(socket.SHUT_WR)
        parts = []
        try:
            while part := await loop.sock_recv(sock, 4096):
                parts.append(part)
        except ConnectionError:
            pass
        return b"".join(parts)


def test_a_question_gets_its_answer_and_the_socket_is_roots_alone(tmp_path):
    async def body(made: Door, path: Path) -> None:
        assert os.stat(path).st_mode & 0o777 == 0o600
        answers = await asyncio.gather(*(ask(path, GOOD.replace(b"NAME=web", b"NAME=%b" % name))
                                         for name in (b"web", b"other", b"web")))  # fmt: skip
        assert answers == [b"+", b"-not this one", b"+"]
        assert not made.refused

    opened(body, tmp_path)


@pytest.mark.parametrize(
    ("content", "length", "descriptors"),
    [
        (b"", None, 1),
        (b"x", None, 1),
        (GOOD, len(GOOD) + 1, 1),
        (GOOD, QUESTION_BYTES_MAX + 1, 1),
        (GOOD, 0xFFFFFFFF, 1),
        (GOOD, None, 0),
        (GOOD, None, 2),
        (GOOD, None, 30),
    ],
)
def test_nonsense_gets_no_answer_and_costs_nothing(tmp_path, content, length, descriptors):
    async def body(made: Door, path: Path) -> None:
        assert await ask(path, content, length, descriptors) == b""
        assert await ask(path) == b"+"
        assert made.refused == {"nonsense": 1}

    opened(body, tmp_path)


def test_who_says_nothing_is_not_waited_for(tmp_path, monkeypatch):
    monkeypatch.setattr(door, "QUESTION_SECONDS", 0.05)

    async def body(made: Door, path: Path) -> None:
        with socket.socket(socket.AF_UNIX) as silent:
            silent.connect(str(path))
            silent.setblocking(False)
            assert await asyncio.get_running_loop().sock_recv(silent, 1) == b""
        assert made.refused == {"slow": 1}

    opened(body, tmp_path)


def test_a_crowd_is_turned_away(tmp_path, monkeypatch):
    monkeypatch.setattr(door, "WAITING_MAX", 1)
    inside = asyncio.Event()

    async def reply(question: Question, netns: int) -> str:
        await inside.wait()
        return ""

    async def body(made: Door, path: Path) -> None:
        first = asyncio.ensure_future(ask(path))
        while not (made._doorway and made._doorway.visits):
            await asyncio.sleep(0)
        assert await ask(path) == b""
        inside.set()
        assert await first == b"+"
        assert made.refused == {"crowd": 1}

    opened(body, tmp_path, reply)


def test_a_long_reason_fits_the_plugins_line(tmp_path):
    async def reply(question: Question, netns: int) -> str:
        return "ä" * 10_000

    async def body(made: Door, path: Path) -> None:
        said = await ask(path)
        assert said == b"-" + b"?" * door.SENTENCE_BYTES_MAX

    opened(body, tmp_path, reply)


def test_a_closed_door_is_noticed_at_once(tmp_path):
    async def run() -> None:
        made = Door(tmp_path / "cni.sock", answer)
        made.open()
        await made.close()
        with pytest.raises(ConnectionRefusedError):
            await ask(tmp_path / "cni.sock")
        made.open()  # the next agent finds the file
        assert await ask(tmp_path / "cni.sock") == b"+"
        await made.close()

    asyncio.run(run())
