"""A worker's side of the QUIC process, against one that was taken over."""

from __future__ import annotations

import asyncio
import os
import socket
from pathlib import Path

import pytest

from mesh.aio.channel import Channel, ChannelClosed
from mesh.forward.quic import messages as say
from mesh.forward.quic.caller import Caller

SENT = 8  # descriptors with one message
GARBAGE = b"\xff"


def held() -> int:
    return len(os.listdir("/proc/self/fd"))


async def told(door: socket.socket, payload: bytes) -> None:
    """The payload with more descriptors than it may have, and garbage: when the caller leaves, it has read both."""
    sock, _ = await asyncio.get_running_loop().sock_accept(door)
    channel = Channel(sock)
    channel.send(payload, [sock.fileno()] * SENT)
    channel.send(GARBAGE)
    with pytest.raises(ChannelClosed):
        while True:
            await asyncio.wait_for(channel.receive(), 5)
    channel.close()


@pytest.mark.parametrize("payload", [GARBAGE, say.encode(say.Opened(job=7, status=200, reason=""))])
def test_descriptors_that_nobody_asked_for_are_not_kept(tmp_path: Path, payload: bytes) -> None:
    async def body() -> None:
        with socket.socket(socket.AF_UNIX) as door:
            door.bind(str(tmp_path / "door"))
            door.listen()
            door.setblocking(False)
            before = held()
            caller = asyncio.ensure_future(Caller(tmp_path / "door", 0, lambda *_: None).run())
            await told(door, payload)
            caller.cancel()
            await asyncio.wait([caller])
            assert held() == before

    asyncio.run(body())
