"""A small HTTP/1.1 server for what people and Prometheus ask the agent, on TCP and on a Unix socket.

Not a web server: GET, HEAD and POST without a body, one handler per path, and a limit on everything (request head,
connections, time to send a request, time to take the answer), so that whoever can reach the port costs little.
Paths that change something are POST, and are only given to the Unix socket.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

import msgspec

log = logging.getLogger("seine.admin")

HEAD_BYTES_MAX = 16 << 10  # what we take for one header line elsewhere; Prometheus sends 500 bytes
CONNECTIONS_MAX = 64  # per address, so that who fills the TCP port keeps nobody from the Unix socket
REQUEST_SECONDS_MAX = 10.0
IDLE_SECONDS_MAX = 90.0  # above Prometheus' scrape intervals, so that its connection is kept
ANSWER_SECONDS_MAX = 30.0  # for the peer to take a large answer


class Request(msgspec.Struct, frozen=True):
    method: str
    path: str
    query: dict[str, list[str]]
    headers: dict[str, str]  # lower-case names; of repeated ones the last

    def one(self, name: str, default: str = "") -> str:
        return self.query.get(name, [default])[-1]


class Response(msgspec.Struct, frozen=True):
    body: bytes = b""
    status: int = 200
    content_type: str = "text/plain; charset=utf-8"
    headers: tuple[tuple[str, str], ...] = ()


Handler = Callable[[Request], Awaitable[Response]]
Routes = Mapping[tuple[str, str], Handler]  # {method, path}; HEAD is answered by GET's


class BadRequest(ValueError):
    """Answered with `status` and a closed connection."""

    def __init__(self, status: HTTPStatus, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status


def parse_head(head: bytes) -> Request:
    """Request line and headers, without the empty line; BadRequest for whatever is not plainly well formed."""
    try:
        first, *lines = head.decode("ascii").split("\r\n")
        method, target, version = first.split(" ")
    except ValueError as error:
        raise BadRequest(HTTPStatus.BAD_REQUEST, "the request line is not METHOD TARGET VERSION in ASCII") from error
    if version not in ("HTTP/1.1", "HTTP/1.0"):
        raise BadRequest(HTTPStatus.HTTP_VERSION_NOT_SUPPORTED, f"{version[:20]} is not spoken here")
    headers = {"connection": "close"} if version == "HTTP/1.0" else {}
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon or not name or name != name.strip() or "\n" in line or "\r" in line:
            raise BadRequest(HTTPStatus.BAD_REQUEST, "a header is not NAME: VALUE")
        headers[name.lower()] = value.strip()
    if headers.get("content-length", "0") != "0" or "transfer-encoding" in headers:
        raise BadRequest(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "requests have no body here")
    try:
        parts = urlsplit(target)
        query = parse_qs(parts.query, max_num_fields=100)
    except ValueError as error:
        raise BadRequest(HTTPStatus.BAD_REQUEST, "the target is not a URL") from error
    return Request(method=method, path=unquote(parts.path), query=query, headers=headers)


def encode_response(response: Response, keep: bool, with_body: bool) -> bytes:
    lines = [
        f"HTTP/1.1 {response.status} {HTTPStatus(response.status).phrase}",
        f"Content-Type: {response.content_type}",
        f"Content-Length: {len(response.body)}",
        *(f"{name}: {value}" for name, value in response.headers),
        *([] if keep else ["Connection: close"]),
    ]
    head = "\r\n".join(lines).encode("ascii") + b"\r\n\r\n"
    return head + response.body if with_body else head


def _sentence(status: HTTPStatus, text: str) -> Response:
    return Response(f"{text}\n".encode(), status)


class Server:
    """Listens on as many addresses as wanted, each with routes of its own."""

    def __init__(self) -> None:
        self._servers: list[asyncio.Server] = []
        self._connections: set[asyncio.Task[None]] = set()

    async def listen_tcp(self, host: str, port: int, routes: Routes) -> int:
        """The port, which is chosen when `port` is 0. OSError when it is taken."""
        server = await asyncio.start_server(self._accept(routes), host, port, limit=HEAD_BYTES_MAX)
        self._servers.append(server)
        chosen: int = server.sockets[0].getsockname()[1]
        return chosen

    async def listen_unix(self, path: Path, routes: Routes) -> None:
        """For root only. A socket file that nobody answers behind is replaced; OSError when somebody does."""
        _unlink_stale(path)
        former = os.umask(0o177)
        try:
            server = await asyncio.start_unix_server(self._accept(routes), str(path), limit=HEAD_BYTES_MAX)
        finally:
            os.umask(former)
        self._servers.append(server)

    async def close(self) -> None:
        for server in self._servers:
            server.close()
        for task in list(self._connections):
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    def _accept(self, routes: Routes) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]:
        own: set[asyncio.Task[None]] = set()

        async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task is not None
            if len(own) >= CONNECTIONS_MAX:
                writer.transport.abort()
                return
            own.add(task)
            self._connections.add(task)
            try:
                await _serve(reader, writer, routes)
            except (OSError, EOFError, TimeoutError):
                pass  # the peer left, or dawdled
            finally:
                own.discard(task)
                self._connections.discard(task)
                writer.transport.abort() if writer.is_closing() else writer.close()

        return connected


async def _serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, routes: Routes) -> None:
    keep = True
    while keep:
        request = None
        try:
            async with asyncio.timeout(IDLE_SECONDS_MAX):
                first = await reader.readexactly(1)
            async with asyncio.timeout(REQUEST_SECONDS_MAX):
                head = first + await reader.readuntil(b"\r\n\r\n")
            request = parse_head(head[:-4])
            response = await _answer(request, routes)
        except asyncio.LimitOverrunError:
            response = _sentence(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "the request head is too large")
        except BadRequest as error:
            response = _sentence(error.status, str(error))
        keep = request is not None and request.headers.get("connection", "").lower() != "close"
        writer.write(encode_response(response, keep, request is None or request.method != "HEAD"))
        async with asyncio.timeout(ANSWER_SECONDS_MAX):
            await writer.drain()


async def _answer(request: Request, routes: Routes) -> Response:
    method = "GET" if request.method == "HEAD" else request.method
    handler = routes.get((method, request.path))
    if handler is not None:
        try:
            return await handler(request)
        except Exception:  # whatever a handler trips over, the agent goes on
            log.exception("%s %s failed", request.method, request.path)
            return _sentence(HTTPStatus.INTERNAL_SERVER_ERROR, "the agent failed to answer; its log says why")
    allowed = sorted(known for known, path in routes if path == request.path)
    if allowed:
        return _sentence(HTTPStatus.METHOD_NOT_ALLOWED, f"{request.path} takes {', '.join(allowed)}")
    return _sentence(HTTPStatus.NOT_FOUND, "there is " + ", ".join(sorted({path for _, path in routes})))


def _unlink_stale(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(str(path))
        except FileNotFoundError:
            return
        except ConnectionRefusedError:
            path.unlink(missing_ok=True)
            return
        raise OSError(f"{path} is answered by another process: an agent of this node name is running")
