from __future__ import annotations

import asyncio
import logging
import socket
import stat
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from mesh.observe import server as module
from mesh.observe.server import BadRequest, Request, Response, Server, parse_head

HELLO = b"GET /hello?name[]=a&name[]=b HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"", 400),
        (b"GET", 400),
        (b"GET  / HTTP/1.1", 400),
        (b"GET / HTTP/1.1 more", 400),
        (b"GET /\xff HTTP/1.1", 400),
        (b"GET / HTTP/2.0", 505),
        (b"GET / HTTP/1.1\r\nno colon", 400),
        (b"GET / HTTP/1.1\r\n: empty", 400),
        (b"GET / HTTP/1.1\r\n folded: x", 400),
        (b"GET / HTTP/1.1\r\nName : x", 400),
        (b"GET / HTTP/1.1\r\nA: b\nC: d", 400),
        (b"GET http://[ HTTP/1.1", 400),
        (b"GET /?" + b"&".join(b"a=%d" % n for n in range(200)) + b" HTTP/1.1", 400),
        (b"POST / HTTP/1.1\r\nContent-Length: 5", 413),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked", 413),
    ],
)
def test_a_bad_head_is_refused(head: bytes, status: int) -> None:
    with pytest.raises(BadRequest) as caught:
        parse_head(head)
    assert caught.value.status == status


def test_a_good_head() -> None:
    request = parse_head(b"GET /a%20b?x=1&x=2&y= HTTP/1.1\r\nAccept: text/plain;q=0.5\r\nContent-Length: 0")
    assert request == Request(
        method="GET",
        path="/a b",
        query={"x": ["1", "2"]},
        headers={"accept": "text/plain;q=0.5", "content-length": "0"},
    )
    assert (request.one("x"), request.one("z", "none")) == ("2", "none")


async def hello(request: Request) -> Response:
    return Response(",".join(request.query.get("name[]", ["?"])).encode())


async def broken(_: Request) -> Response:
    raise RuntimeError("the handler's own")


ROUTES = {("GET", "/hello"): hello, ("GET", "/broken"): broken, ("POST", "/act"): hello}
Scenario = Callable[[Path, Server], Awaitable[None]]


def serve(tmp_path: Path, scenario: Scenario) -> None:
    async def run() -> None:
        server = Server()
        path = tmp_path / "admin.sock"
        await server.listen_unix(path, ROUTES)
        try:
            async with asyncio.timeout(30):
                await scenario(path, server)
        finally:
            await server.close()

    asyncio.run(run())


async def talk(path: Path, *pieces: bytes) -> bytes:
    reader, writer = await asyncio.open_unix_connection(str(path))
    for piece in pieces:
        writer.write(piece)
        await writer.drain()
        await asyncio.sleep(0)
    answer = await reader.read()
    writer.close()
    return answer


def test_a_request_is_answered_however_it_arrives(tmp_path: Path) -> None:
    async def scenario(path: Path, _: Server) -> None:
        per_byte = [HELLO[n : n + 1] for n in range(len(HELLO))]
        for pieces in ([HELLO], per_byte, [HELLO[:20], HELLO[20:]]):
            head, body = (await talk(path, *pieces)).split(b"\r\n\r\n")
            assert (head.splitlines()[0], body) == (b"HTTP/1.1 200 OK", b"a,b")
            assert b"Content-Length: 3" in head

    serve(tmp_path, scenario)


def test_several_requests_share_a_connection(tmp_path: Path) -> None:
    async def scenario(path: Path, _: Server) -> None:
        kept = b"HEAD /hello HTTP/1.1\r\n\r\nGET /hello HTTP/1.1\r\n\r\n"
        answer = await talk(path, kept + HELLO)
        assert answer.count(b"HTTP/1.1 200 OK") == 3
        assert answer.count(b"\r\n\r\n?") == 1, "HEAD has no body"

    serve(tmp_path, scenario)


@pytest.mark.parametrize(
    ("request_line", "status"),
    [
        ("GET /nothing HTTP/1.1", 404),
        ("DELETE /hello HTTP/1.1", 405),
        ("GET /act HTTP/1.1", 405),
        ("GET /broken HTTP/1.1", 500),
        ("GET /hello HTTP/3.0", 505),
    ],
)
def test_what_cannot_be_answered(
    tmp_path: Path, request_line: str, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL, "seine.admin")

    async def scenario(path: Path, _: Server) -> None:
        answer = await talk(path, f"{request_line}\r\nConnection: close\r\n\r\n".encode())
        assert int(answer.split()[1]) == status

    serve(tmp_path, scenario)


def test_a_head_without_end_is_cut_off(tmp_path: Path) -> None:
    async def scenario(path: Path, _: Server) -> None:
        answer = await talk(path, b"GET / HTTP/1.1\r\nX: " + b"x" * module.HEAD_BYTES_MAX + b"\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 431 ")

    serve(tmp_path, scenario)


def test_who_dawdles_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "REQUEST_SECONDS_MAX", 0.05)

    async def scenario(path: Path, _: Server) -> None:
        assert await talk(path, b"GET /hel") == b""

    serve(tmp_path, scenario)


async def talk_tcp(port: int) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(HELLO)
    answer = await reader.read()
    writer.close()
    return answer


async def talk_or_refused(path: Path) -> bytes:
    try:
        return await talk(path, HELLO)
    except ConnectionError:
        return b""


def test_connections_are_limited_and_the_others_served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CONNECTIONS_MAX", 2)

    async def scenario(path: Path, server: Server) -> None:
        idle = [await asyncio.open_unix_connection(str(path)) for _ in range(2)]
        for reader, writer in idle:  # both count once they were answered
            writer.write(b"GET /hello HTTP/1.1\r\n\r\n")
            await reader.readuntil(b"?")
        assert await talk_or_refused(path) == b""
        port = await server.listen_tcp("127.0.0.1", 0, ROUTES)
        assert (await talk_tcp(port)).endswith(b"a,b"), "another address has places of its own"
        idle[0][1].close()
        while not (answer := await talk_or_refused(path)):
            await asyncio.sleep(0.01)
        assert answer.endswith(b"a,b")
        idle[1][1].close()

    serve(tmp_path, scenario)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_the_socket_is_for_its_owner_only(tmp_path: Path) -> None:
    async def scenario(path: Path, _: Server) -> None:
        assert mode(path) == 0o600

    serve(tmp_path, scenario)


def test_a_living_socket_is_not_taken(tmp_path: Path) -> None:
    async def scenario(path: Path, _: Server) -> None:
        with pytest.raises(OSError, match="an agent of this node name is running"):
            await Server().listen_unix(path, ROUTES)

    serve(tmp_path, scenario)


def test_a_stale_socket_is_replaced(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / "admin.sock"))

    async def scenario(path: Path, _: Server) -> None:
        assert (await talk(path, HELLO)).endswith(b"a,b")

    serve(tmp_path, scenario)


def test_tcp_takes_any_free_port(tmp_path: Path) -> None:
    async def scenario(_: Path, server: Server) -> None:
        port = await server.listen_tcp("127.0.0.1", 0, ROUTES)
        assert (await talk_tcp(port)).endswith(b"a,b")

    serve(tmp_path, scenario)
