"""What every process that an agent starts does first: say that it lives, and find the agent."""

from __future__ import annotations

import asyncio
import os
import socket
from pathlib import Path

from mesh.aio.channel import Channel

KNOCK_SECONDS = 0.2


def hold_lock(lock: int) -> None:
    """For people, write our pid as we know it into the lock file that was locked for us (mesh.forward.programs)."""
    os.ftruncate(lock, 0)
    os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)


async def knock(path: Path) -> Channel:
    """Knock until an agent listens: a restarting one is back within about a second."""
    while True:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            sock.setblocking(False)
            await asyncio.get_running_loop().sock_connect(sock, str(path))
            return Channel(sock)
        except OSError:
            sock.close()
            await asyncio.sleep(KNOCK_SECONDS)
