"""The agent's side: who connects is given sockets and told everything; who is not wanted drains; counts never fall."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from mesh.aio.channel import Channel
from mesh.forward.messages import Identity, Message, SetIdentities, SetSigner, SetTrust
from mesh.forward.quic import messages as say
from mesh.forward.quic.desk import Desk

Scenario = Callable[["Process"], Coroutine[Any, Any, None]]


class Process:
    """The other end, and the desk."""

    def __init__(self, directory: Path) -> None:
        self.opened = 0
        self.signer = ""  # a file that stands for its socket
        self.desk = Desk("node", directory, os.getuid(), 7.0, self.open_signer, self.udp)
        self.desk.want(True)
        self.door = directory / "tunnels.sock"

    def open_signer(self) -> int | None:
        return os.open(self.signer, os.O_RDONLY) if self.signer else None

    def udp(self, port: int) -> socket.socket:
        assert port == 15008
        self.opened += 1
        return socket.socket(socket.AF_INET, socket.SOCK_DGRAM)

    async def connect(self, reset_key: bytes = b"", descriptors: list[int] | None = None) -> None:
        ours, theirs = socket.socketpair()
        self.channel = Channel(theirs)
        self.task = asyncio.ensure_future(self.desk.converse(Channel(ours), 4711))
        self.say(say.HelloQuic(reset_key=reset_key), descriptors)

    def say(self, message: Message, descriptors: list[int] | None = None) -> None:
        self.channel.send(say.encode(message), descriptors)

    async def hear(self, kind: type) -> tuple[Any, list[int]]:
        payload, descriptors = await asyncio.wait_for(self.channel.receive(), 2)
        message = say.decode_to_quic(payload)
        assert isinstance(message, kind)
        return message, descriptors

    async def end(self) -> None:
        self.channel.close()
        await self.task


def run(tmp_path: Path, scenario: Scenario) -> None:
    async def whole() -> None:
        process = Process(tmp_path)
        await scenario(process)
        process.desk.close()

    asyncio.run(whole())


def test_who_has_nothing_is_given_sockets_and_told_everything(tmp_path: Path) -> None:
    async def scenario(process: Process) -> None:
        desk = process.desk
        desk.set_trust("cluster.local", (b"root",), ("denied",))
        desk.set_identities({"spiffe://a": (b"leaf",)})
        desk.set_here({"10.1.0.1": "spiffe://a"})
        await process.connect()
        welcome, descriptors = await process.hear(say.WelcomeQuic)
        assert (welcome.node, welcome.drain_seconds, len(welcome.reset_key)) == ("node", 7.0, 32)
        assert len(descriptors) == 2
        assert process.door.stat().st_mode & 0o777 == 0o600
        assert (await process.hear(SetTrust))[0].denied == ("denied",)
        assert (await process.hear(SetIdentities))[0].known == (Identity(name="spiffe://a", chain=(b"leaf",)),)
        assert (await process.hear(say.SetHere))[0].pods == (say.Here(address="10.1.0.1", identity="spiffe://a"),)
        for fd in descriptors:
            os.close(fd)
        await process.end()
        assert desk.present() is None

    run(tmp_path, scenario)


def test_changes_are_told_and_nothing_twice(tmp_path: Path) -> None:
    async def scenario(process: Process) -> None:
        desk = process.desk
        await process.connect()
        _, descriptors = await process.hear(say.WelcomeQuic)
        await process.hear(SetIdentities)
        await process.hear(say.SetHere)
        for _ in range(2):
            desk.set_identities({"spiffe://a": (b"1",), "spiffe://b": (b"2",)})
            desk.set_here({"10.1.0.1": "spiffe://a"})
        desk.set_identities({"spiffe://a": (b"renewed",)})
        assert len((await process.hear(SetIdentities))[0].known) == 2
        assert len((await process.hear(say.SetHere))[0].pods) == 1
        change = (await process.hear(SetIdentities))[0]
        assert (change.known, change.gone) == ((Identity(name="spiffe://a", chain=(b"renewed",)),), ("spiffe://b",))
        for fd in descriptors:
            os.close(fd)
        await process.end()

    run(tmp_path, scenario)


def test_it_is_given_a_socket_to_the_signer_and_to_each_that_follows(tmp_path: Path) -> None:
    async def scenario(process: Process) -> None:
        process.signer = "/dev/null"
        await process.connect()
        _, descriptors = await process.hear(say.WelcomeQuic)
        _, first = await process.hear(SetSigner)
        await process.hear(SetIdentities)
        await process.hear(say.SetHere)
        process.desk.renew_signer()
        _, second = await process.hear(SetSigner)
        assert len(first) == len(second) == 1
        for fd in descriptors + first + second:
            os.close(fd)
        await process.end()

    run(tmp_path, scenario)


def test_a_process_that_outlived_the_agent_hands_back_its_port(tmp_path: Path) -> None:
    async def scenario(process: Process) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as held:
            await process.connect(b"its key", [held.fileno()])
            _, descriptors = await process.hear(say.WelcomeQuic)
            assert descriptors == []
            await process.end()
            await process.connect()  # its successor has nothing, and gets that very socket
            welcome, (udp, door) = await process.hear(say.WelcomeQuic)
            assert welcome.reset_key == b"its key"
            assert os.fstat(udp).st_ino == os.fstat(held.fileno()).st_ino
            assert process.opened == 0
            for fd in (udp, door):
                os.close(fd)
            await process.end()

    run(tmp_path, scenario)


def test_while_nobody_is_behind_it_the_door_refuses_at_once(tmp_path: Path) -> None:
    async def scenario(process: Process) -> None:
        await process.connect()
        _, (udp, door) = await process.hear(say.WelcomeQuic)
        with socket.socket(socket.AF_UNIX) as worker:
            worker.connect(str(process.door))
        for fd in (udp, door):
            os.close(fd)
        with socket.socket(socket.AF_UNIX) as worker, pytest.raises(ConnectionRefusedError):
            worker.connect(str(process.door))
        await process.end()

    run(tmp_path, scenario)


def test_who_is_not_wanted_any_more_drains_also_when_it_comes_back(tmp_path: Path) -> None:
    async def scenario(process: Process) -> None:
        for again in range(2):
            await process.connect()
            _, descriptors = await process.hear(say.WelcomeQuic)
            await process.hear(SetIdentities)
            await process.hear(say.SetHere)
            if not again:
                process.desk.want(False)
                process.desk.want(False)
            await process.hear(say.DrainQuic)
            for fd in descriptors:
                os.close(fd)
            await process.end()

    run(tmp_path, scenario)


def test_before_the_source_was_read_nobody_is_sent_away(tmp_path: Path) -> None:
    async def scenario(process: Process) -> None:
        process.desk._decided = process.desk.wanted = False  # as after a start
        await process.connect(b"its key", [])
        await process.hear(say.WelcomeQuic)
        await process.hear(SetIdentities)
        await process.hear(say.SetHere)
        process.desk.set_here({"10.1.0.1": "spiffe://a"})
        await process.hear(say.SetHere)  # and no word of draining
        await process.end()

    run(tmp_path, scenario)


def test_counts_go_on_over_successive_processes_and_reports_are_the_sign_of_life(tmp_path: Path) -> None:
    async def scenario(process: Process) -> None:
        for number in (1, 2):
            await process.connect()
            _, descriptors = await process.hear(say.WelcomeQuic)
            way = say.NodeWay(node="192.0.2.1:15008", way="hbone", reason="silence", seconds=9.0)
            for counted in (3, 5):
                process.say(say.ReportQuic(counts={"streams/client": counted}, levels={"streams": 2}, ways=(way,)))
            while process.desk.beat() < 2:
                await asyncio.sleep(0)
            assert process.desk.counts == {"streams/client": 5 * number}
            assert process.desk.levels == {"streams": 2}
            assert process.desk.ways == (way,)
            for fd in descriptors:
                os.close(fd)
            await process.end()
            assert process.desk.counts == {"streams/client": 5 * number}
            assert process.desk.levels == {}

    run(tmp_path, scenario)


def test_a_port_that_is_taken_is_a_problem_that_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(process: Process) -> None:
        def taken(port: int) -> socket.socket:
            raise OSError(98, "Address already in use")

        process.desk._open_udp = taken
        await process.connect()
        while not process.desk.problem:
            await asyncio.sleep(0)
        assert "15008" in process.desk.problem
        assert "HBONE" in process.desk.problem
        process.task.cancel()
        await asyncio.gather(process.task, return_exceptions=True)
        process.channel.close()

    run(tmp_path, scenario)


def test_without_the_library_nothing_is_started_and_the_operator_is_told(tmp_path: Path) -> None:
    desk = Desk("node", tmp_path, os.getuid(), 7.0, lambda: None, installed=False)
    desk.want(True)
    assert not desk.wanted
    assert "aioquic is not installed" in desk.problem
