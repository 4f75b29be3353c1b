"""The other end of mesh.identity.remote: an authority for nodes elsewhere, behind HTTPS; see mesh.identity.wire.

Who may ask for what is decided by `authorise`, which is handed in: a controller asks its API server whose token it is.
Everything is bounded, and every refusal is counted by reason. Not a web server: two paths, one exchange per connection.
A handshake is over in milliseconds or will never be, so of too many at once the oldest gives way to the newest: whoever
opens connections and says nothing keeps no node out.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections import Counter
from collections.abc import Awaitable, Callable
from http import HTTPStatus

import msgspec

from mesh.config import NODE_NAME
from mesh.identity import wire
from mesh.identity.authority import Authority, AuthorityError
from mesh.identity.wire import Answer, Ask, BadMessage

log = logging.getLogger("seine.identity")
CONNECTIONS_MAX = 256  # each is over in 10 s at most; a thousand nodes ask 33 times a second
HANDSHAKES_MAX = 128  # under way; two cores make 2 000 in a second
HANDSHAKE_SECONDS_MAX = 5.0
DOOR_SECONDS = 0.1  # closed after an accept that failed: no descriptor is free, and the loop must not spin
REQUEST_BYTES_MAX = 4096  # one for the longest SPIFFE id has 2.5 KiB
LOG_SECONDS = 1.0

# Token, node and SPIFFE id (empty: only whom to believe). Raises AuthorityError: why not, and a word for the metric.
Authorise = Callable[[str, str, str], Awaitable[None]]
THEIR_FAULTS = frozenset(
    {"refused", "denied", "token", "audience", "account", "node", "pod", "workload"}
)  # reasons; all others are our own


class Refusal(Exception):
    def __init__(self, status: HTTPStatus, reason: str, sentence: str) -> None:
        super().__init__(sentence)
        self.status, self.reason = status, reason


class AuthorityServer:
    def __init__(self, authority: Authority, authorise: Authorise, clock: Callable[[], float]) -> None:
        self._authority, self._authorise, self._clock = authority, authorise, clock
        self._accepting: asyncio.Task[None] | None = None
        self._handshakes: dict[asyncio.Task[None], None] = {}  # oldest first
        self._connections: set[asyncio.Task[None]] = set()
        self._logged = 0.0
        self.answered: Counter[str] = Counter()  # by what was asked for
        self.refused: Counter[str] = Counter()  # by reason

    async def listen(self, host: str, port: int, context: ssl.SSLContext) -> int:
        """The port, which is chosen when `port` is 0. `host` "": every address of every family."""
        both = host in ("", "::") and socket.has_dualstack_ipv6()
        family = socket.AF_INET6 if both or ":" in host else socket.AF_INET
        listener = socket.create_server((host, port), family=family, dualstack_ipv6=both)
        listener.setblocking(False)
        self._accepting = asyncio.create_task(self._accept(listener, context))
        chosen: int = listener.getsockname()[1]
        return chosen

    async def close(self) -> None:
        tasks = [*self._handshakes, *self._connections]
        if self._accepting is not None:
            tasks.append(self._accepting)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _accept(self, listener: socket.socket, context: ssl.SSLContext) -> None:
        with listener:
            while True:
                try:
                    sock, _ = await asyncio.get_running_loop().sock_accept(listener)
                except OSError:
                    self.refused["descriptors"] += 1
                    await asyncio.sleep(DOOR_SECONDS)
                    continue
                if len(self._handshakes) >= HANDSHAKES_MAX:
                    self.refused["handshakes"] += 1
                    oldest = next(iter(self._handshakes))
                    del self._handshakes[oldest]
                    oldest.cancel()
                task = asyncio.create_task(self._meet(sock, context))
                self._handshakes[task] = None
                task.add_done_callback(self._forget)

    def _forget(self, task: asyncio.Task[None]) -> None:
        self._handshakes.pop(task, None)
        self._connections.discard(task)

    async def _meet(self, sock: socket.socket, context: ssl.SSLContext) -> None:
        task = asyncio.current_task()
        assert task is not None
        try:
            reader, writer = await _shake_hands(sock, context)
        except TimeoutError:
            self.refused["handshake_timeout"] += 1
            return
        except OSError:  # ssl.SSLError is one
            self.refused["handshake"] += 1
            return
        self._handshakes.pop(task, None)
        if len(self._connections) >= CONNECTIONS_MAX:
            self.refused["connections"] += 1
            writer.transport.abort()
            return
        self._connections.add(task)
        await self._exchange(reader, writer)

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(wire.EXCHANGE_SECONDS_MAX):
                await self._serve(reader, writer)
        except TimeoutError:
            self.refused["timeout"] += 1
            writer.transport.abort()
        except OSError:
            self.refused["broken"] += 1
        finally:
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            answer = await self._answer(reader)
            status, body = HTTPStatus.OK, msgspec.json.encode(answer)
            self.answered["sign" if answer.chain else "trust"] += 1
        except Refusal as refusal:
            status, body = refusal.status, msgspec.json.encode(wire.Error(error=str(refusal)))
            self._count(refusal)
        writer.write(wire.head(f"HTTP/1.1 {status.value} {status.phrase}", body) + body)
        await writer.drain()

    def _count(self, refusal: Refusal) -> None:
        self.refused[refusal.reason] += 1
        now = self._clock()
        if now - self._logged >= LOG_SECONDS:
            self._logged = now
            log.warning("a request was refused (%s): %s", refusal.reason, refusal)

    async def _answer(self, reader: asyncio.StreamReader) -> Answer:
        try:
            first, fields, body = await wire.read(reader)
            ask = wire.decode(body, Ask)
        except BadMessage as error:
            raise Refusal(HTTPStatus.BAD_REQUEST, "malformed", str(error)) from None
        if not NODE_NAME.fullmatch(ask.node):
            raise Refusal(
                HTTPStatus.BAD_REQUEST, "malformed", "a node has a name of small letters, digits, '-' and '.'"
            )
        try:
            await self._authorise(_token(fields.get("authorization", "")), ask.node, ask.name)
            return await self._do(first.split(" ")[:2], ask)
        except AuthorityError as error:
            theirs = error.reason in THEIR_FAULTS
            status = HTTPStatus.FORBIDDEN if theirs else HTTPStatus.SERVICE_UNAVAILABLE
            raise Refusal(status, error.reason, str(error)) from None

    async def _do(self, wanted: list[str], ask: Ask) -> Answer:
        if wanted == ["POST", wire.TRUST] and ask.record is not None and ask.record.node == ask.node:
            if any(leaf.until > self._clock() + wire.LEAF_SECONDS_MAX for leaf in ask.record.leafs):
                raise Refusal(HTTPStatus.BAD_REQUEST, "malformed", "no certificate ends so late as this record says")
            trust = await self._authority.trust(ask.record)
            return Answer(now=self._clock(), trust=trust)
        if wanted == ["POST", wire.SIGN] and ask.name:
            if len(ask.request) > REQUEST_BYTES_MAX:
                why = f"the request has {len(ask.request)} bytes; {REQUEST_BYTES_MAX} are the most"
                raise Refusal(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "large", why)
            chain = await self._authority.sign(ask.request, ask.name)
            return Answer(now=self._clock(), chain=chain)
        raise Refusal(HTTPStatus.NOT_FOUND, "malformed", f"there is POST {wire.TRUST} and POST {wire.SIGN}, see there")


async def _shake_hands(
    sock: socket.socket, context: ssl.SSLContext
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Raises TimeoutError and OSError. The socket is closed then."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=wire.HEAD_BYTES_MAX)
    protocol = asyncio.StreamReaderProtocol(reader)
    try:
        async with asyncio.timeout(HANDSHAKE_SECONDS_MAX):
            transport, _ = await loop.connect_accepted_socket(
                lambda: protocol, sock, ssl=context, ssl_shutdown_timeout=HANDSHAKE_SECONDS_MAX
            )
    except BaseException:
        sock.close()
        raise
    return reader, asyncio.StreamWriter(transport, protocol, reader, loop)


def _token(credentials: str) -> str:
    kind, _, token = credentials.partition(" ")
    if kind.lower() != "bearer" or not token:
        raise Refusal(HTTPStatus.UNAUTHORIZED, "token", "there is no bearer token")
    return token
