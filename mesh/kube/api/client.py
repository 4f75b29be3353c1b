"""Requests to the API server, one at a time over one connection that is kept: the only sockets of this package.

A dead server is noticed by TCP within DEAD_SECONDS, whether or not it owes us an answer, and a live one that says
nothing by `silence` (Stalled). Everything that may go wrong on the way is an OSError, AccessError or BadResponse.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import time
from collections.abc import AsyncGenerator

from mesh.kube.api.access import Access, AccessError, Credentials, tls
from mesh.kube.api.decode import Garbage, refusal
from mesh.kube.api.http1 import Response

CONNECT_SECONDS = 10.0
DEAD_SECONDS = 30  # kernels retry for a quarter of an hour
READ_BYTES = 1 << 18
STATUS_BYTES_MAX = 1 << 16
USER_AGENT = "seine-agent"
BY_CLOCK = {9: "is not valid yet", 10: "has ended"}  # X509_V_ERR_CERT_NOT_YET_VALID, X509_V_ERR_CERT_HAS_EXPIRED


class Stalled(OSError):
    """A sentence: nothing came for too long."""


class Session:
    """`silence`: seconds without a byte after which an answer is given up. `skew_seconds`: by how much the server's
    clock was ahead of ours at its last answer."""

    def __init__(self, access: Access, silence: float) -> None:
        self._access, self._silence = access, silence
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self._secured_by: Credentials | None = None
        self.skew_seconds = 0.0

    async def ask(
        self, target: str, method: str = "GET", body: bytes = b"", content_type: str = "application/json"
    ) -> Answer:
        """The answer's head; its body is read from it, to its end or not at all."""
        found = await self._access.credentials()  # a token is replaced more often than a connection
        if self._secured_by != (secured_by := found.without_token()):
            self.close()
        reader, writer = self._streams or await self._connect(found)
        self._streams, self._secured_by = None, secured_by  # until the answer is complete
        try:
            writer.write(_head(found, target, method, len(body), content_type) + body)
            await writer.drain()
            answer = Answer(self, reader, writer, self._silence)
            await answer.begin()
            self.skew_seconds = answer.skew_seconds
        except BaseException:
            writer.transport.abort()
            raise
        if answer.status == 401:
            self._access.forget()
            self._secured_by = None
        return answer

    def keep(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._streams = (reader, writer)

    def close(self) -> None:
        if self._streams is not None:
            self._streams[1].transport.abort()
            self._streams = None

    async def _connect(self, found: Credentials) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        context = tls(found)
        name = (found.server_name or found.host) if context else None
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                reader, writer = await asyncio.open_connection(
                    found.host, found.port, ssl=context, server_hostname=name, limit=READ_BYTES
                )
        except TimeoutError:
            raise Stalled(f"{found.server} did not answer within {CONNECT_SECONDS:.0f} s") from None
        except ssl.SSLCertVerificationError as error:
            if error.verify_code not in BY_CLOCK:
                raise
            validity = f"its certificate {BY_CLOCK[error.verify_code]} by this node's clock"
            raise AccessError(f"{found.server}: {validity} ({time.ctime()}); is the clock right?") from None
        _watch_over(writer.get_extra_info("socket"))
        return reader, writer


class Answer:
    def __init__(
        self, session: Session, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, silence: float
    ) -> None:
        self._session, self._reader, self._writer, self._silence = session, reader, writer, silence
        self._response = Response()
        self._early: list[bytes] = []

    @property
    def status(self) -> int:
        return self._response.status

    @property
    def skew_seconds(self) -> float:
        said = self._response.date
        return 0.0 if said is None else said - time.time()

    async def begin(self) -> None:
        while not self.status:
            self._early += await self._receive()

    async def pieces(self) -> AsyncGenerator[bytes, None]:
        """The body as it comes. Whoever stops before its end closes the connection."""
        try:
            while True:
                for piece in self._early:
                    yield piece
                self._early = []
                if self._response.complete:
                    break
                self._early = await self._receive()
        finally:
            if self._response.complete and self._response.reusable:
                self._session.keep(self._reader, self._writer)
            else:
                self._writer.transport.abort()  # TLS would have to wait for the other side to say goodbye

    async def read(self, most: int) -> bytes:
        """The whole body. Raises Garbage when it is larger."""
        parts, size = [], 0
        async with contextlib.aclosing(self.pieces()) as pieces:
            async for piece in pieces:
                parts.append(piece)
                size += len(piece)
                if size > most:
                    raise Garbage(f"an answer of more than {most} bytes")
        return b"".join(parts)

    async def refuse(self) -> Exception:
        """What an answer other than 200 means."""
        return refusal(self.status, await self.read(STATUS_BYTES_MAX))

    async def _receive(self) -> list[bytes]:
        try:
            async with asyncio.timeout(self._silence):
                data = await self._reader.read(READ_BYTES)
        except TimeoutError:
            raise Stalled(f"nothing came for {self._silence:.0f} s") from None
        if not data:
            self._response.end()
            return []
        return self._response.feed(data)


def _head(credentials: Credentials, target: str, method: str, length: int, content_type: str) -> bytes:
    host = f"[{credentials.host}]" if ":" in credentials.host else credentials.host
    lines = [
        f"{method} {credentials.prefix}{target} HTTP/1.1",
        f"Host: {host}:{credentials.port}",
        f"User-Agent: {USER_AGENT}",
        "Accept: application/json",
    ]
    if credentials.token:
        lines.append(f"Authorization: Bearer {credentials.token}")
    if length:
        lines += [f"Content-Type: {content_type}", f"Content-Length: {length}"]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("ascii")


def _watch_over(sock: socket.socket) -> None:
    """Asked every 10 s when idle; gone when it owes us an acknowledgement for DEAD_SECONDS."""
    for option, value in (
        (socket.TCP_KEEPIDLE, 10),
        (socket.TCP_KEEPINTVL, 10),
        (socket.TCP_USER_TIMEOUT, DEAD_SECONDS * 1000),
    ):
        sock.setsockopt(socket.IPPROTO_TCP, option, value)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
