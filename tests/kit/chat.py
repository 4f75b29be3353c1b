"""A WebSocket server that echoes, run as a script: `chat.py PORT`; and its client: `chat.py URL TEXT...`.

The client says each text, then 1 MiB, and prints what came back. Both are the `websockets` package: real framing,
masking, ping and close on both ends.
"""

from __future__ import annotations

import asyncio
import sys

from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve

BULK = bytes(1 << 20)


async def echo(socket: ServerConnection) -> None:
    async for message in socket:
        await socket.send(message)


async def serving(port: int) -> None:
    async with serve(echo, "", port) as server:
        await server.serve_forever()


async def talking(url: str, texts: list[str]) -> None:
    async with connect(url, proxy=None) as socket:
        for text in texts:
            await socket.send(text)
            say(await socket.recv())
        await socket.send(BULK)
        say(len(await socket.recv()))
        await (await socket.ping())
    say("closed", socket.close_code)


def say(*what: object) -> None:
    sys.stdout.write(" ".join(map(str, what)) + "\n")


if __name__ == "__main__":
    asyncio.run(serving(int(sys.argv[1])) if sys.argv[1].isdigit() else talking(sys.argv[1], sys.argv[2:]))
