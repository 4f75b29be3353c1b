"""Bodies large and slow, answers that come early, half-closed clients, 100-continue, and tunnels after an upgrade."""

from __future__ import annotations

import random

import pytest

from mesh.model import Protocol
from tests.engine.rig import Peer, Reset, Rig, Server
from tests.engine.web import GET, OK, answer, answered, exchange, feed, get, nothing_more, opened, serving

MIB = 1 << 20
UPGRADE = get("/chat", "Upgrade: websocket", "Connection: Upgrade")
FORWARDED_UPGRADE = get("/chat", "Upgrade: websocket", "Connection: upgrade")
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n"
EXPECT = get("/up", "Content-Length: 5", "Expect: 100-continue", method="PUT")
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


def chunked(data: bytes, size: int) -> bytes:
    parts = [data[at : at + size] for at in range(0, len(data), size)]
    return b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"


def poured(rig: Rig, source: Peer, data: bytes, sink: Peer, size: int) -> bytes:
    """What has arrived of `size` bytes while `data` is sent, both a bit at a time."""
    chance, sent, got = random.Random(7), 0, bytearray()
    while sent < len(data) or len(got) < size:
        sent += source.offer(data[sent : sent + chance.randrange(1, 300_000)])
        got += sink.take(chance.randrange(1, 300_000))
        rig.step()
        assert rig.count("buffers") <= 2
    return bytes(got)


def test_large_bodies_arrive_whole_in_bounded_memory(rig: Rig) -> None:
    body = random.Random(1).randbytes(5 * MIB)
    client, app = opened(rig, serving(rig), request=get("/", f"Content-Length: {len(body)}", method="POST"))
    assert poured(rig, client, body, app, len(body)) == body
    response = answer(body[::-1])
    assert poured(rig, app, response, client, len(response)) == response
    exchange(client, app)


@pytest.mark.parametrize("size", [1, 77, 65_536, 200_000])
def test_chunked_bodies_arrive_as_they_were_cut(rig: Rig, size: int) -> None:
    body = chunked(random.Random(2).randbytes(min(size * 50_000, 2 * MIB)), size)
    client, app = opened(rig, serving(rig), request=get("/", "Transfer-Encoding: chunked", method="POST"))
    assert poured(rig, client, body, app, len(body)) == body
    response = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + body
    assert poured(rig, app, response, client, len(response)) == response
    exchange(client, app)


def test_a_client_that_reads_nothing_holds_its_server_back(rig: Rig) -> None:
    server = serving(rig)
    client = rig.client(buffer_bytes=8192)
    client.send(GET)
    app = server.accept()
    app.receive(len(GET))
    body = bytes(64 * MIB)
    app.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body))
    sent = 0
    while offered := app.offer(body[sent : sent + MIB]):
        sent += offered
        rig.settle()
    assert sent < 32 * MIB  # the kernel's buffers and one block
    assert rig.count("buffers") == 1
    bystander, other = opened(rig, server)
    other.send(OK)
    assert bystander.receive(len(OK)) == OK
    got = 0
    while got < sent:
        got += len(client.take())
        rig.step()


def test_a_server_that_reads_nothing_holds_its_client_back(rig: Rig) -> None:
    server = Server(rig, buffer_bytes=8192)
    rig.plan(server.endpoint(), protocol=Protocol.HTTP)
    client = rig.client()
    client.send(get("/", "Content-Length: 100000000", method="POST"))
    app = server.accept()
    sent = 0
    while offered := client.offer(bytes(MIB)):
        sent += offered
        rig.settle()
    assert sent < 32 * MIB
    assert rig.count("buffers") == 1
    app.send(answer(b"no", "Connection: close", status="413 Content Too Large"))  # and still reads nothing
    rig.until(lambda: rig.count("http_early_response"))
    assert client.take().startswith(b"HTTP/1.1 413 ")


def test_a_response_may_begin_before_its_request_has_ended(rig: Rig) -> None:
    client, app = opened(rig, serving(rig), request=get("/", "Transfer-Encoding: chunked", method="POST"))
    app.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    client.receive(len(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"))
    for word in (b"ping", b"pong", b"echo"):
        client.send(chunked(word, 9)[:-5])
        assert app.receive(9) == chunked(word, 9)[:-5]
        app.send(chunked(word, 9)[:-5])
        assert client.receive(9) == chunked(word, 9)[:-5]
    client.send(b"0\r\n\r\n")
    assert app.receive(5) == b"0\r\n\r\n"
    app.send(b"0\r\n\r\n")
    assert client.receive(5) == b"0\r\n\r\n"
    exchange(client, app)


def test_a_server_that_answers_early_and_reads_on_gets_the_rest(rig: Rig) -> None:
    client, app = opened(rig, serving(rig), request=get("/", "Content-Length: 2000000", method="POST"))
    answered(client, app)
    assert nothing_more(client)
    assert poured(rig, client, bytes(2_000_000), app, 2_000_000) == bytes(2_000_000)
    exchange(client, app)
    assert rig.count("http_early_response") == 1
    assert rig.count("dialled") == 1


@pytest.mark.parametrize("how", ["finish", "reset", "surplus"])
def test_a_server_that_answers_early_and_breaks_off_ends_the_connection(rig: Rig, how: str) -> None:
    client, app = opened(rig, serving(rig), request=get("/", "Content-Length: 2000000", method="POST"))
    answered(client, app)
    app.send(OK) if how == "surplus" else getattr(app, how)()
    assert client.rest() == b""
    client.close()
    rig.until(lambda: rig.engine.live() == 0)
    assert rig.flags() == {"-": 1}


def test_a_server_that_answers_early_and_is_done_ends_the_connection(rig: Rig) -> None:
    """What the client still sends is discarded, so that it can read the answer."""
    client, app = opened(rig, serving(rig), request=get("/", "Content-Length: 9000000", method="POST"))
    client.send(bytes(MIB))
    refusal = answer(b"enough", "Connection: close", status="413 Content Too Large")
    answered(client, app, refusal)
    client.send(bytes(7 * MIB))
    rig.settle()
    assert client.rest() == b""
    client.close()
    rig.until(lambda: rig.engine.live() == 0)
    assert rig.count("http_early_response") == 1
    assert rig.count("upstreams") == 0


def test_a_client_that_sends_on_and_on_after_the_answer_is_cut_off() -> None:
    with Rig(max_linger_bytes=MIB) as rig:
        client, app = opened(rig, serving(rig), request=get("/", "Content-Length: 900000000", method="POST"))
        app.send(answer(b"no", "Connection: close", status="413 Content Too Large"))
        with pytest.raises((ConnectionResetError, BrokenPipeError)):
            client.send(bytes(64 * MIB))
        assert rig.count("http_linger_limited") == 1


def test_a_client_that_keeps_its_half_open_after_the_answer_is_let_go() -> None:
    with Rig(linger_ms=20) as rig:
        client, app = opened(rig, serving(rig), request=get("/", "Content-Length: 9", method="POST"))
        app.send(answer(b"no", "Connection: close"))
        assert client.rest() == answer(b"no", "Connection: close")
        rig.until(lambda: rig.engine.live() == 0)


def test_a_client_that_is_done_sending_still_gets_its_answer(rig: Rig) -> None:
    server = serving(rig)
    client = rig.client()
    client.send(GET)
    client.finish()
    app = server.accept()
    assert app.receive(len(GET)) == GET
    assert nothing_more(app)
    app.send(OK)
    assert client.rest() == OK
    rig.until(lambda: rig.engine.live() == 0)
    assert rig.count("pooled") == 1
    assert rig.flags() == {"-": 1}


def test_a_pipeline_that_ends_with_its_clients_sending_is_answered(rig: Rig) -> None:
    server = serving(rig)
    client = rig.client()
    client.send(GET * 3)
    client.finish()
    app = server.accept()
    for _ in range(3):
        assert app.receive(len(GET)) == GET
        app.send(OK)
    assert client.rest() == OK * 3


@pytest.mark.parametrize("cut", ["whole", "bytes"])
def test_a_body_waits_for_the_servers_consent(rig: Rig, cut: str) -> None:
    server = serving(rig)
    client = rig.client()
    feed(client, EXPECT, cut)
    app = server.accept()
    assert app.receive(len(EXPECT)) == EXPECT
    feed(app, CONTINUE, cut)
    assert client.receive(len(CONTINUE)) == CONTINUE
    feed(client, b"hello", cut)
    assert app.receive(5) == b"hello"
    feed(app, OK, cut)
    assert client.receive(len(OK)) == OK
    exchange(client, app)


def test_a_body_that_the_server_does_not_want_is_not_waited_for(rig: Rig) -> None:
    """Whether the client sends it all the same or asks something else: nothing unambiguous can follow."""
    client, app = opened(rig, serving(rig), request=EXPECT)
    app.send(answer(b"no", status="417 Expectation Failed"))
    assert client.rest() == answer(b"no", "Connection: close", status="417 Expectation Failed")
    client.send(b"hello" + GET)
    rig.settle()
    assert rig.count("dialled") == 1
    assert app.rest() == b""


@pytest.mark.parametrize("cut", ["whole", "bytes"])
@pytest.mark.parametrize("early", [b"", b"frame"])
def test_an_upgrade_becomes_a_tunnel(rig: Rig, cut: str, early: bytes) -> None:
    server = serving(rig)
    client = rig.client()
    feed(client, UPGRADE + early, cut)
    app = server.accept()
    assert app.receive(len(FORWARDED_UPGRADE)) == FORWARDED_UPGRADE
    assert nothing_more(app)  # what the client sends too early waits for the server's word
    feed(app, SWITCH + b"welcome", cut)
    assert client.receive(len(SWITCH) + 7) == SWITCH + b"welcome"
    if early:
        assert app.receive(len(early)) == early
    talk_freely(rig, client, app)
    assert rig.count("http_upgraded") == 1
    (request,) = [series for series in rig.series() if series.count]
    assert (request.code, request.count) == (101, 1)
    assert (request.request_bytes, request.response_bytes) == (len(early) + 3 * MIB + 4, 7 + 3 * MIB)


def talk_freely(rig: Rig, client: Peer, app: Peer) -> None:
    data = random.Random(3).randbytes(3 * MIB)
    assert poured(rig, client, data, app, len(data)) == data
    assert poured(rig, app, data[::-1], client, len(data)) == data[::-1]
    app.finish()
    assert client.rest() == b""
    client.send(b"bye.")
    client.finish()
    assert app.rest() == b"bye."
    rig.until(lambda: rig.engine.live() == 0)
    assert rig.count("upstreams") == rig.count("pooled") == 0


def test_an_upgrade_that_is_declined_is_an_ordinary_exchange(rig: Rig) -> None:
    client, app = opened(rig, serving(rig), request=FORWARDED_UPGRADE)
    app.send(OK)
    assert client.receive(len(OK)) == OK
    exchange(client, app)


def test_connect_becomes_a_tunnel(rig: Rig) -> None:
    client, app = opened(rig, serving(rig), request=b"CONNECT db:5432 HTTP/1.1\r\nHost: db:5432\r\n\r\n")
    app.send(b"HTTP/1.1 200 Connected\r\n\r\n")
    assert client.receive(26) == b"HTTP/1.1 200 Connected\r\n\r\n"
    talk_freely(rig, client, app)


def test_connect_that_is_refused_is_an_ordinary_exchange(rig: Rig) -> None:
    client, app = opened(rig, serving(rig), request=b"CONNECT db:5432 HTTP/1.1\r\nHost: db:5432\r\n\r\n")
    app.send(answer(b"no", status="403 Forbidden"))
    assert client.receive(len(answer(b"no", status="403 Forbidden"))).endswith(b"no")
    exchange(client, app)


def test_a_server_that_switches_in_the_middle_of_a_request_is_not_believed(rig: Rig) -> None:
    request = get("/", "Content-Length: 9", "Upgrade: x", "Connection: upgrade", method="POST")
    client, app = opened(rig, serving(rig), request=request)
    app.send(SWITCH)
    with pytest.raises(Reset):
        client.rest()
    assert rig.count("http_upgraded") == 0
