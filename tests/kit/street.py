"""Two QUIC processes in one event loop, each with a stand-in for its agent and for a worker.

    async with Street() as street:
        reader, writer = await street.a.call(street.b, "10.2.0.1:80")

Sockets, handshakes and datagrams are real; only what the agent and the engine do is played here: what
arrives is served by `Corner.app`. Knows nothing of namespaces: everybody is on 127.0.0.1.
"""

from __future__ import annotations

import asyncio
import os
import socket
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from mesh.aio.channel import Channel, ChannelClosed
from mesh.forward.messages import Identity, Message, SetIdentities, SetSigner, SetTrust
from mesh.forward.quic import messages as say
from mesh.forward.quic.caller import Caller
from mesh.forward.quic.connection import LIMITS, Limits
from mesh.forward.quic.credentials import NodeCredentials
from mesh.forward.quic.messages import Opening, Status
from mesh.forward.quic.node import Node
from mesh.forward.quic.wire import open_socket
from mesh.identity.peer import Unproven, is_denied, prove
from tests.kit.pki import Authority, Certificate
from tests.kit.signing import OwnSigner

DOMAIN = "cluster.local"
TURNS_SECONDS = 0.02  # some turns of the loop, in which what was cancelled closes what it has
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
App = Callable[[Opening, asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Refusal(Exception):
    def __init__(self, status: int, reason: str) -> None:
        super().__init__(f"{status}: {reason}")
        self.status, self.reason = status, reason


def spiffe(name: str) -> str:
    return f"spiffe://{DOMAIN}/ns/default/sa/{name}"


async def echo(opening: Opening, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.close()


async def until(condition: Callable[[], object], what: str, seconds: float = 5.0) -> None:
    """Wait for a condition, bounded; the loop runs meanwhile."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"waited {seconds:g} s for {what}")
        await asyncio.sleep(0.005)


class Corner:
    """One node. `name` is its only pod's service account, at `address`."""

    def __init__(self, name: str, address: str, authority: Authority, limits: Limits, directory: Path) -> None:
        self.name, self.address, self.authority = name, address, authority
        self.identity = spiffe(name)
        self.certificates: dict[str, Certificate] = {self.identity: authority.issue(self.identity)}
        self.roots: tuple[bytes, ...] = (authority.root.der,)
        self.app: App = echo
        self.status = Status.CARRIED  # what the worker answers to arrivals
        self.arrivals: list[Opening] = []
        self.signer = OwnSigner()
        self.reports: list[say.ReportQuic] = []
        self.node = Node(NodeCredentials(prove, is_denied, Unproven, time.time), limits)
        self._directory = directory
        self._tasks: set[asyncio.Task[None]] = set()
        self.caller = Caller(directory / f"{name}.sock", 0, self._arrived)

    async def start(self) -> None:
        ours, theirs = socket.socketpair()
        self.agent, self.channel = Channel(ours), Channel(theirs)
        self.node.meet(self.channel)
        self.udp = open_socket(0)
        door = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        door.bind(str(self._directory / f"{self.name}.sock"))
        door.listen(16)
        self._spawn(self._obey(self.channel))
        self._spawn(self._converse())
        welcome = say.WelcomeQuic(node=self.name, drain_seconds=2, reset_key=b"k" * 32, datagram_bytes=1200)
        self.tell(welcome, [self.udp.fileno(), door.fileno()])
        door.close()
        with self.signer.open() as way:
            self.tell(SetSigner(), [way.fileno()])
        asyncio.get_running_loop().add_reader(self.signer.fd, self.signer.run)
        self.tell_identities()
        self.tell(SetTrust(domain=DOMAIN, roots=self.roots))
        self.tell(say.SetHere(pods=(say.Here(address=self.address, identity=self.identity),)))
        self._spawn(self.node.tend())
        self._spawn(self.node.report())
        self._spawn(self.caller.run())
        await until(lambda: self.node.parts and self.node.parts.door.workers, "the worker to be there")

    @property
    def where(self) -> str:
        return f"127.0.0.1:{self.udp.getsockname()[1]}"

    def tell(self, message: Message, descriptors: list[int] | None = None) -> None:
        self.agent.send(say.encode(message), descriptors)

    def tell_identities(self) -> None:
        for each in self.certificates.values():
            self.signer.know(each)
        known = tuple(Identity(name=name, chain=each.chain) for name, each in self.certificates.items())
        self.tell(SetIdentities(known=known))

    async def _obey(self, channel: Channel) -> None:
        try:
            while True:
                payload, descriptors = await channel.receive()
                self.node.obey(say.decode_to_quic(payload), descriptors)
        except ChannelClosed:
            self.node.part()

    async def _converse(self) -> None:
        """The agent's part."""
        try:
            while True:
                payload, descriptors = await self.agent.receive()
                for fd in descriptors:
                    os.close(fd)
                message = say.decode_from_quic(payload)
                if isinstance(message, say.ReportQuic):
                    self.reports.append(message)
        except ChannelClosed:
            return

    def _spawn(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # --- the worker's part

    def _arrived(self, opening: Opening, fd: int, answer: Callable[[int], None]) -> None:
        self.arrivals.append(opening)
        sock = socket.socket(fileno=fd)
        answer(self.status)
        if self.status != Status.CARRIED:
            sock.close()
            return

        async def serve() -> None:
            reader, writer = await asyncio.open_connection(sock=sock)
            try:
                await self.app(opening, reader, writer)
            except (ConnectionError, asyncio.CancelledError):
                writer.transport.abort()
            else:
                writer.close()

        self._spawn(serve())

    def opening(self, to: Corner, destination: str = "", **changes: str) -> Opening:
        made = Opening(
            source=self.identity,
            target=to.identity,
            destination=destination or f"{to.address}:80",
            client=f"{self.address}:40000",
            node=to.where,
        )
        return msgspec.structs.replace(made, **changes)

    async def ask(self, opening: Opening) -> socket.socket:
        """Raises Refusal."""
        answer: asyncio.Future[tuple[int, str, int]] = asyncio.get_running_loop().create_future()
        self.caller.open(opening, lambda status, reason, fd: answer.set_result((status, reason, fd)))
        status, reason, fd = await asyncio.wait_for(answer, 10)
        if status != Status.CARRIED:
            raise Refusal(status, reason)
        return socket.socket(fileno=fd)

    async def call(self, to: Corner, destination: str = "", **changes: str) -> Streams:
        return await asyncio.open_connection(sock=await self.ask(self.opening(to, destination, **changes)))

    @property
    def counts(self) -> dict[str, int]:
        return dict(self.node._counts)

    async def stop(self) -> None:
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self.node.close()
        asyncio.get_running_loop().remove_reader(self.signer.fd)
        self.signer.close()
        self.agent.close()
        self.channel.close()
        self.udp.close()
        await asyncio.sleep(TURNS_SECONDS)


class Street:
    def __init__(self, limits: Limits = LIMITS) -> None:
        self._directory = tempfile.TemporaryDirectory()
        self.authority = Authority()
        path = Path(self._directory.name)
        self.a = Corner("a", "10.1.0.1", self.authority, limits, path)
        self.b = Corner("b", "10.2.0.1", self.authority, limits, path)

    async def __aenter__(self) -> Self:
        await self.a.start()
        await self.b.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.a.stop()
        await self.b.stop()
        self._directory.cleanup()
