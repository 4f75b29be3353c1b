"""How a process that an agent has started finds it."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

from mesh.aio.channel import Channel

KNOCK_SECONDS = 0.2


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
