"""A signature comes from the signer or not at all; who waits goes on waiting when another one comes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import closing

from mesh.forward.quic.signer import WAITING_MAX, Signer
from mesh.identity import certificate
from tests.kit.pki import Authority
from tests.kit.signing import OwnSigner

CONTENT = b" " * 64 + b"TLS 1.3, client CertificateVerify\0" + b"h" * 32
WEB = "spiffe://cluster.local/ns/shop/sa/web"
KNOWN = Authority().issue(WEB)


def key_of(name: str) -> bytes:
    return certificate.key_name(KNOWN.ours) if name == WEB else b""


def play(scenario: Callable[[Signer, OwnSigner, list[bytes]], Coroutine[None, None, None]]) -> None:
    async def whole() -> None:
        signer, own = Signer(key_of), OwnSigner()
        own.know(KNOWN)
        await scenario(signer, own, [])
        signer.close()
        own.close()

    asyncio.run(whole())


async def until(heard: list[bytes], count: int, own: OwnSigner) -> None:
    async with asyncio.timeout(2):
        while len(heard) < count:
            own.run()
            await asyncio.sleep(0.001)


def test_answers_find_who_asked() -> None:
    async def scenario(signer: Signer, own: OwnSigner, heard: list[bytes]) -> None:
        signer.meet(own.open())
        for _ in range(3):
            signer.sign(WEB, CONTENT, heard.append)
        await until(heard, 3, own)
        assert all(heard)

    play(scenario)


def test_what_is_refused_and_who_is_unknown_is_answered_with_nothing() -> None:
    async def scenario(signer: Signer, own: OwnSigner, heard: list[bytes]) -> None:
        signer.sign("spiffe://somebody/else", CONTENT, heard.append)
        assert heard == [b""]
        signer.meet(own.open())
        signer.sign(WEB, b"no handshake", heard.append)
        await until(heard, 2, own)
        assert heard == [b"", b""]

    play(scenario)


def test_who_asked_without_a_signer_or_one_that_ended_waits_for_the_next() -> None:
    async def scenario(signer: Signer, own: OwnSigner, heard: list[bytes]) -> None:
        signer.sign(WEB, CONTENT, heard.append)
        dying = own.open()
        with own.open() as closed:
            signer.meet(dying)
            signer.sign(WEB, CONTENT, heard.append)
            closed.close()
        own.close()
        async with asyncio.timeout(2):
            while signer._sock is not None:  # its end is noticed
                await asyncio.sleep(0.001)
        with closing(OwnSigner()) as successor:
            successor.know(KNOWN)
            signer.meet(successor.open())
            await until(heard, 2, successor)
        assert all(heard)

    play(scenario)


def test_a_silent_signer_is_asked_so_often_and_no_more() -> None:
    async def scenario(signer: Signer, own: OwnSigner, heard: list[bytes]) -> None:
        signer.meet(own.open())
        for _ in range(WAITING_MAX + 1):
            signer.sign(WEB, CONTENT, heard.append)
        assert heard == [b""]
        await until(heard, WAITING_MAX + 1, own)
        assert all(heard[1:])

    play(scenario)
