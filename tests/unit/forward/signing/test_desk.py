"""The agent's side: a signer is told every key, those who ask are introduced, and what is not used is forgotten."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from mesh.aio.channel import Channel
from mesh.forward.signing import desk as signing
from mesh.forward.signing import protocol
from mesh.forward.signing.desk import Desk
from mesh.forward.signing.protocol import Signer
from mesh.identity import certificate
from tests.kit.pki import Authority, Certificate

CONTENT = b" " * 64 + b"TLS 1.3, client CertificateVerify\0" + b"h" * 32
AUTHORITY = Authority()
WEB, DB = AUTHORITY.issue("spiffe://a/ns/b/sa/web"), AUTHORITY.issue("spiffe://a/ns/b/sa/db")


def secrets(*known: Certificate) -> dict[bytes, bytes]:
    return {certificate.key_name(each.ours): certificate.secret(each.ours) for each in known}


class Process:
    """The desk, and a real signer that serves whenever somebody waits for something."""

    def __init__(self, directory: Path) -> None:
        self.desk, self.signer, self.told = Desk(directory), Signer(), 0
        self.desk.changed = self._changed

    def _changed(self) -> None:
        self.told += 1

    async def connect(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.signer.meet(theirs.detach())
        self.task = asyncio.ensure_future(self.desk.converse(Channel(ours), 4711))
        await self.until(lambda: self.desk.member)

    async def until(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(5):
            while not condition():
                self.signer.run(0)
                await asyncio.sleep(0.001)

    async def asked(self, known: Certificate) -> str:
        fd = self.desk.open()
        assert fd is not None
        with socket.socket(fileno=fd) as sock:
            sock.setblocking(False)
            sock.send(protocol.request(1, certificate.key_name(known.ours), CONTENT))
            found: list[bytes] = []

            def came() -> bool:
                try:
                    found.append(sock.recv(4096))
                except BlockingIOError:
                    return False
                return True

            await self.until(came)
        answer = protocol.read_answer(found[0])
        assert answer is not None
        return answer.result

    async def replace(self) -> None:
        """It dies, another one comes."""
        self.signer.close()
        await self.task
        self.signer = Signer()
        await self.connect()


@pytest.fixture
def run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[Callable[[Process], Coroutine[Any, Any, None]]], None]:
    monkeypatch.setattr(signing, "FORGET_SECONDS", 0.0)

    def whole(scenario: Callable[[Process], Coroutine[Any, Any, None]]) -> None:
        async def play() -> None:
            process = Process(tmp_path)
            await scenario(process)
            process.signer.close()
            await process.task

        asyncio.run(play())

    return whole


def test_a_signer_that_comes_is_told_every_key_and_so_is_the_one_after_it(run: Any) -> None:
    async def scenario(process: Process) -> None:
        assert process.desk.open() is None
        process.desk.set_keys(secrets(WEB, DB), complete=True)
        await process.connect()
        for number in (1, 2):
            assert process.told == number
            assert await process.asked(WEB) == await process.asked(DB) == "signed"
            await process.replace()
        await process.until(lambda: process.desk.keys == 2)

    run(scenario)


def test_what_is_new_is_told_at_once_and_what_is_gone_is_forgotten(run: Any) -> None:
    async def scenario(process: Process) -> None:
        await process.connect()
        process.desk.set_keys(secrets(WEB), complete=True)
        assert await process.asked(WEB) == "signed"
        process.desk.set_keys(secrets(DB), complete=True)
        assert await process.asked(DB) == "signed"
        await process.until(lambda: process.desk.keys == 1)
        assert await process.asked(WEB) == "unknown"

    run(scenario)


def test_a_key_that_is_back_in_time_is_not_forgotten(run: Any) -> None:
    async def scenario(process: Process) -> None:
        await process.connect()
        process.desk.set_keys(secrets(WEB), complete=True)
        process.desk.set_keys({}, complete=True)
        process.desk.set_keys(secrets(WEB), complete=True)
        await process.until(lambda: process.desk.keys == 1)
        assert await process.asked(WEB) == "signed"

    run(scenario)


def test_keys_of_a_former_agent_stay_until_ours_are_complete(run: Any) -> None:
    async def scenario(process: Process) -> None:
        process.desk.set_keys(secrets(WEB), complete=True)
        await process.connect()
        assert await process.asked(WEB) == "signed"
        process.desk.member.channel.close()  # type: ignore[union-attr]
        await process.task
        successor = process.desk = Desk(Path("/nowhere"))
        successor.set_keys(secrets(DB), complete=False)
        await process.connect()
        assert await process.asked(WEB) == await process.asked(DB) == "signed"
        successor.set_keys(secrets(DB), complete=True)
        await process.until(lambda: successor.keys == 1)
        assert await process.asked(WEB) == "unknown"

    run(scenario)


def test_counts_go_on_over_successive_signers_and_reports_are_the_sign_of_life(run: Any) -> None:
    async def scenario(process: Process) -> None:
        process.desk.set_keys(secrets(WEB), complete=True)
        await process.connect()
        await process.asked(WEB)
        await process.asked(DB)
        beat = process.desk.beat()
        await process.until(lambda: process.desk.beat() > beat and process.desk.counts.get("unknown"))
        await process.replace()
        await process.asked(WEB)
        await process.until(lambda: process.desk.counts.get("signed") == 2)
        assert process.desk.counts == {"signed": 2, "unknown": 1}

    run(scenario)


def test_who_says_what_is_no_report_is_no_signer(tmp_path: Path) -> None:
    async def scenario() -> None:
        desk = Desk(tmp_path)
        for said in (b"", b"x" * 10, os.urandom(56)):
            ours, theirs = socket.socketpair()
            stranger = Channel(theirs)
            stranger.send(said)
            await asyncio.wait_for(desk.converse(Channel(ours), 1), 2)
            assert desk.present() is None
            stranger.close()

    asyncio.run(scenario())
