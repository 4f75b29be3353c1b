"""One exchange after another: what the app gets, what the client gets, and which connections live on.

Every message is fed whole, byte by byte, cut at random and with its last byte late, on ports that are declared HTTP and
on ports where the first bytes decide.
"""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from mesh.model import Protocol
from tests.engine.rig import Rig
from tests.engine.web import CUTS, GET, OK, answer, feed, get, nothing_more, serving

CLOSE, KEEP = "Connection: close", "Connection: keep-alive"


@dataclass(frozen=True)
class Talk:
    """`None`: as it was sent. `client`, `app`: whether that connection lives on."""

    name: str
    request: bytes = GET
    response: bytes = OK
    forwarded: bytes | None = None
    delivered: bytes | None = None
    client: bool = True
    app: bool = True
    app_closes: bool = False
    code: int = 200
    bodies: tuple[int, int] = (0, 2)


CHUNKS = b"5\r\nhello\r\n6;a=b\r\n world\r\n0\r\n"
POST = get("/p", "Content-Length: 11", method="POST") + b"hello world"
CHUNKED = get("/p", "Transfer-Encoding: chunked", method="POST") + CHUNKS
CHUNKED_OK = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + CHUNKS
BARE_OK = b"HTTP/1.1 200 OK\r\n\r\n"
OLD_OK = b"HTTP/1.0 200 OK\r\n\r\nuntil the end"

TALKS = [
    Talk("a plain GET"),
    Talk("an unknown method", get(method="BREW")),
    Talk("a body of known length", POST, bodies=(11, 2)),
    Talk("an empty body of known length", get("/", "Content-Length: 0", method="POST")),
    Talk("a chunked body", CHUNKED + b"\r\n", bodies=(len(CHUNKS) + 2, 2)),
    Talk("a chunked body with trailers", CHUNKED + b"X-Sum: 1\r\n\r\n", bodies=(len(CHUNKS) + 12, 2)),
    Talk("a chunked response", response=CHUNKED_OK + b"\r\n", bodies=(0, len(CHUNKS) + 2)),
    Talk("a chunked response with trailers", response=CHUNKED_OK + b"X-Sum: 1\r\n\r\n", bodies=(0, len(CHUNKS) + 12)),
    Talk("an empty response", response=answer(b""), bodies=(0, 0)),
    Talk("HEAD", get(method="HEAD"), BARE_OK[:-2] + b"Content-Length: 1000\r\n\r\n", bodies=(0, 0)),
    Talk("HEAD, chunked", get(method="HEAD"), CHUNKED_OK[: -len(CHUNKS)], bodies=(0, 0)),
    Talk("204", response=b"HTTP/1.1 204 No Content\r\n\r\n", code=204, bodies=(0, 0)),
    Talk("304", response=b"HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n", code=304, bodies=(0, 0)),
    Talk("an error of the app's", response=answer(b"oh", status="500 Internal Server Error"), code=500),
    Talk("a response without a reason phrase", response=b"HTTP/1.1 200\r\nContent-Length: 2\r\n\r\nhi"),
    Talk("interim responses", response=b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" * 3 + OK),
    Talk("the client ends it", get("/", CLOSE), OK, GET, answer(b"hi", CLOSE), client=False),
    Talk("the app ends it", GET, answer(b"hi", CLOSE), None, OK, app=False),
    Talk("both end it", get("/", CLOSE), answer(b"hi", CLOSE), GET, answer(b"hi", CLOSE), client=False, app=False),
    Talk("keep-alive said aloud", get("/", KEEP), answer(b"hi", KEEP), GET, OK),
    Talk("fields of the connection", get("/", "Connection: X-Mine", "X-Mine: 1", "Keep-Alive: 5"), OK, GET),
    Talk("other fields of the connection", GET, answer(b"hi", "Connection: X-Mine", "X-Mine: 1"), None, OK),
    Talk("an empty line before", b"\r\n" + GET, OK, GET),
    Talk(
        "a body until the end",
        response=BARE_OK + b"until the end",
        delivered=BARE_OK[:-2] + b"Connection: close\r\n\r\nuntil the end",
        client=False,
        app=False,
        app_closes=True,
        bodies=(0, 13),
    ),
    Talk(
        "an app of HTTP/1.0",
        response=OLD_OK,
        delivered=OLD_OK.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"),
        client=False,
        app=False,
        app_closes=True,
        bodies=(0, 13),
    ),
    Talk(
        "an app of HTTP/1.0 that tells the length",
        GET,
        answer(version="1.0"),
        None,
        answer(b"hi", KEEP, version="1.0"),
        app=False,
    ),
    Talk("an app of HTTP/1.0 that keeps alive", GET, answer(b"hi", KEEP, version="1.0")),
    Talk("a client of HTTP/1.0", get(version="1.0"), OK, None, answer(b"hi", CLOSE), client=False),
    Talk("a client of HTTP/1.0 that keeps alive", get("/", KEEP, version="1.0"), OK, None, answer(b"hi", KEEP)),
    Talk(
        "a client of HTTP/1.0 gets no interim response",
        get("/", KEEP, version="1.0"),
        b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" * 2 + OK,
        None,
        answer(b"hi", KEEP),
    ),
    Talk("an upgrade nobody takes", get("/", "Upgrade: h3", "Connection: upgrade")),
    Talk("426", GET, answer(b"hi", "Upgrade: x", "Connection: upgrade", status="426 Upgrade Required"), code=426),
]


@pytest.mark.parametrize("protocol", [Protocol.HTTP, Protocol.DETECT])
@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("talk", TALKS, ids=lambda talk: talk.name)
def test_talk(rig: Rig, talk: Talk, cut: str, protocol: Protocol) -> None:
    if protocol is Protocol.DETECT and talk.request.startswith(b"\r\n"):
        return  # nothing says that this is HTTP
    server = serving(rig, protocol)
    client = rig.client()
    feed(client, talk.request, cut)
    app = server.accept()
    forwarded = talk.request if talk.forwarded is None else talk.forwarded
    assert app.receive(len(forwarded)) == forwarded
    feed(app, talk.response, cut)
    if talk.app_closes:
        app.close()
    delivered = talk.response if talk.delivered is None else talk.delivered
    if talk.client:
        assert client.receive(len(delivered)) == delivered
        assert nothing_more(client)
    else:
        assert client.rest() == delivered
        client.close()
        rig.until(lambda: rig.engine.live() == 0)
    assert rig.count("pooled") == talk.app
    assert rig.count("buffers") == 0
    assert_counted(rig, talk)


def assert_counted(rig: Rig, talk: Talk) -> None:
    (requests,) = [series for series in rig.series() if series.count]
    assert (requests.count, requests.code, requests.flag, requests.protocol) == (1, talk.code, "-", "http1")
    assert (requests.request_bytes, requests.response_bytes) == talk.bodies
    (connections,) = [series for series in rig.series() if series.opened]
    assert (connections.endpoint, connections.code, connections.opened) == (0, 0, 1)
    assert connections.closed == (not talk.client)


@pytest.mark.parametrize("cut", CUTS)
def test_requests_in_a_pipeline_are_answered_in_order_one_at_a_time(rig: Rig, cut: str) -> None:
    server = serving(rig)
    client = rig.client()
    requests = [get(f"/{n}", "Content-Length: 3", method="PUT") + b"abc" for n in range(20)]
    feed(client, b"".join(requests), cut)
    app = server.accept()
    for number, request in enumerate(requests):
        assert app.receive(len(request)) == request
        assert nothing_more(app)
        response = answer(b"%d" % number)
        app.send(response)
        assert client.receive(len(response)) == response
    assert nothing_more(client)
    assert rig.count("dialled") == 1


def test_a_pipeline_longer_than_a_block_arrives_whole(rig: Rig) -> None:
    server = serving(rig)
    client = rig.client()
    requests = [get(f"/{n}", f"X-Fill: {'x' * (n % 977)}") for n in range(500)]
    client.send(b"".join(requests))
    app = server.accept()
    for request in requests:
        assert app.receive(len(request)) == request
        app.send(OK)
    assert client.receive(len(OK) * len(requests)) == OK * len(requests)


@pytest.mark.parametrize("trailing", [b"GET /next", GET, b"\r\n"])
@pytest.mark.parametrize("request_", [GET, POST, CHUNKED + b"\r\n"])
def test_what_follows_a_request_is_no_part_of_it(rig: Rig, request_: bytes, trailing: bytes) -> None:
    server = serving(rig)
    client = rig.client()
    client.send(request_ + trailing)
    app = server.accept()
    assert app.receive(len(request_)) == request_
    assert nothing_more(app)
    app.send(OK)
    assert client.receive(len(OK)) == OK


def test_hundreds_of_exchanges_on_one_connection_and_nothing_of_them_reaches_python(rig: Rig) -> None:
    server = serving(rig)
    client = rig.client()
    client.send(GET)
    app = server.accept()
    asked = len(rig.events) + rig.count("need_sockets")
    for _ in range(300):
        assert app.receive(len(GET)) == GET
        app.send(OK)
        assert client.receive(len(OK)) == OK
        client.send(GET)
    assert rig.count("dialled") == 1
    assert rig.count("pool_reused") >= 299
    assert rig.count("need_plan") == 0
    assert len(rig.events) + rig.count("need_sockets") == asked
