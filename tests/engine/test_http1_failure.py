"""What the client is told when something breaks, and that nothing broken looks whole."""

from __future__ import annotations

import socket

import pytest

from mesh.model import Balancer, Direction, PlanEndpoint, Protocol
from tests.engine.rig import SLOT, Peer, Reset, Rig, Server, refusing_port
from tests.engine.web import GET, OK, answer, answered, asked, feed, finished, get, nothing_more, opened, serving

POST = get("/", "Content-Length: 3", method="POST")


def refusing(id: int) -> PlanEndpoint:
    return PlanEndpoint(id=id, address="127.0.0.1", port=refusing_port())


def told(client: Peer, status: int, reason: str) -> bytes:
    """The engine's own answer, whole."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += client.receive(1)
    assert head.startswith(b"HTTP/1.1 %d " % status), head
    assert b"\r\nx-seine-reason: %s\r\n" % reason.encode() in head
    length = int(head.partition(b"Content-Length: ")[2].partition(b"\r\n")[0])
    assert client.receive(length).endswith(b".\n")
    return head


def outcomes(rig: Rig) -> dict[tuple[int, str], int]:
    found: dict[tuple[int, str], int] = {}
    for series in rig.series():
        if series.count:
            found[series.code, series.flag] = found.get((series.code, series.flag), 0) + series.count
    return found


def test_no_endpoint(rig: Rig) -> None:
    rig.plan(protocol=Protocol.HTTP)
    client = rig.client()
    for _ in range(3):
        client.send(GET)
        told(client, 503, "no_endpoint")
    assert nothing_more(client)  # the connection lives on
    assert outcomes(rig) == {(503, "UH"): 3}


def test_head_is_answered_without_a_body(rig: Rig) -> None:
    rig.plan(protocol=Protocol.HTTP)
    client = rig.client()
    client.send(get(method="HEAD"))
    rig.settle()
    said = client.take()
    assert said.startswith(b"HTTP/1.1 503 ")
    assert said.endswith(b"\r\n\r\n")


def test_three_endpoints_that_refuse(rig: Rig) -> None:
    rig.plan(*(refusing(id) for id in range(1, 6)), protocol=Protocol.HTTP)
    client = rig.client()
    client.send(GET)
    told(client, 503, "connect_failed")
    assert rig.count("dialled") == 3
    assert outcomes(rig) == {(503, "UF"): 1}
    client.send(GET)
    told(client, 503, "connect_failed")


@pytest.mark.parametrize("protocol", [Protocol.HTTP, Protocol.DETECT])
def test_an_endpoint_that_refuses_is_passed_over(rig: Rig, protocol: Protocol) -> None:
    server = Server(rig)
    rig.plan(refusing(1), refusing(2), server.endpoint(), protocol=protocol)
    for _ in range(5):
        client, app = opened(rig, server)
        app.send(answer(b"hi", "Connection: close"))
        assert client.receive(len(OK)) == OK
        client.close()
    assert outcomes(rig) == {(200, "-"): 5}
    assert rig.count("dial_retried") > 0


def test_a_body_that_was_not_sent_for_want_of_an_endpoint_ends_the_connection(rig: Rig) -> None:
    rig.plan(protocol=Protocol.HTTP)
    client = rig.client()
    client.send(POST)
    assert b"Connection: close" in told(client, 503, "no_endpoint")
    client.send(b"abc" + GET)
    assert client.rest() == b""
    assert outcomes(rig) == {(503, "UH"): 1}


def test_a_server_that_closes_without_a_word(rig: Rig) -> None:
    client, app = opened(rig, serving(rig))
    app.close()
    told(client, 503, "server_closed")
    assert outcomes(rig) == {(503, "UC"): 1}
    assert rig.count("http_repeated") == 0  # it was a fresh connection: the server has seen the request
    assert nothing_more(client)


@pytest.mark.parametrize("how", ["finish", "reset"])
@pytest.mark.parametrize("said", [b"HTTP", b"HTTP/1.1 200 OK\r\nContent-Le"])
def test_a_server_that_breaks_off_in_its_head(rig: Rig, said: bytes, how: str) -> None:
    client, app = opened(rig, serving(rig))
    feed(app, said)
    getattr(app, how)()
    told(client, 503, "server_closed")
    assert outcomes(rig) == {(503, "UC"): 1}


BROKEN = {
    "length": b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf",
    "chunked": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
    "until the end": b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhalf",
}


@pytest.mark.parametrize("how", ["finish", "reset"])
@pytest.mark.parametrize("framing", BROKEN)
def test_a_response_that_breaks_off_never_looks_whole(rig: Rig, framing: str, how: str) -> None:
    client, app = opened(rig, serving(rig))
    app.send(BROKEN[framing])
    assert client.receive(len(BROKEN[framing])) == BROKEN[framing]
    getattr(app, how)()
    if framing == "until the end" and how == "finish":
        assert client.rest() == b""
        assert outcomes(rig) == {(200, "-"): 1}
    else:
        assert client.is_reset()
        assert outcomes(rig) == {(200, "UC"): 1}


def used(rig: Rig) -> tuple[Server, Peer, Peer]:
    server = serving(rig)
    return (server, *finished(rig, server))


def test_a_stale_connection_is_noticed_and_replaced(rig: Rig) -> None:
    server, client, app = used(rig)
    app.close()
    rig.wait_for(pool_ended=1)
    answered(client, asked(client, server))
    assert outcomes(rig) == {(200, "-"): 2}


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "PUT", "DELETE", "TRACE"])
def test_what_may_be_repeated_is_repeated_once_on_a_fresh_connection(rig: Rig, method: str) -> None:
    server, client, app = used(rig)
    body = b"abc" if method == "PUT" else b""
    request = get("/", *(["Content-Length: 3"] if body else []), method=method) + body
    client.send(request)
    assert app.receive(len(request)) == request
    app.close()
    again = server.accept()
    assert again.receive(len(request)) == request
    again.send(b"HTTP/1.1 204 No Content\r\n\r\n")
    assert client.receive(27) == b"HTTP/1.1 204 No Content\r\n\r\n"
    assert rig.count("http_repeated") == 1
    requests = [series for series in rig.series() if series.code == 204]
    assert [(series.count, series.request_bytes) for series in requests] == [(1, len(body))]
    client.send(request)  # the connection that was made for it is used as any other
    assert again.receive(len(request)) == request


def test_it_is_repeated_no_more_than_once(rig: Rig) -> None:
    server, client, app = used(rig)
    client.send(GET)
    assert app.receive(len(GET)) == GET
    app.close()
    server.accept().close()
    told(client, 503, "server_closed")
    assert outcomes(rig) == {(200, "-"): 1, (503, "UC"): 1}


def test_what_may_not_be_repeated_is_not(rig: Rig) -> None:
    _, client, app = used(rig)
    client.send(POST + b"abc")
    assert app.receive(len(POST) + 3) == POST + b"abc"
    app.close()
    told(client, 503, "server_closed")
    assert rig.count("http_repeated") == 0


def test_what_is_too_large_to_be_kept_is_not_repeated(rig: Rig) -> None:
    _, client, app = used(rig)
    request = get("/", "Content-Length: 300000", method="PUT")
    client.send(request + bytes(200_000))
    assert app.receive(len(request) + 200_000)[: len(request)] == request
    app.close()
    assert b"Connection: close" in told(client, 503, "server_closed")


def test_a_request_in_part_is_repeated_in_part(rig: Rig) -> None:
    server, client, app = used(rig)
    request = get("/", "Content-Length: 6", method="PUT") + b"abc"
    client.send(request)
    assert app.receive(len(request)) == request
    app.close()
    again = server.accept()
    assert again.receive(len(request)) == request
    client.send(b"def")
    assert again.receive(3) == b"def"
    again.send(OK)
    assert client.receive(len(OK)) == OK


def test_a_server_that_has_begun_to_answer_is_not_asked_again(rig: Rig) -> None:
    _, client, app = used(rig)
    client.send(GET)
    assert app.receive(len(GET)) == GET
    feed(app, b"HTTP/1.1 200")
    app.close()
    told(client, 503, "server_closed")


def test_a_client_that_resets_takes_its_request_with_it(rig: Rig) -> None:
    client, app = opened(rig, serving(rig))
    client.reset()
    assert app.is_reset()
    assert outcomes(rig) == {(0, "DC"): 1}
    assert rig.count("client_reset") == 1


def test_a_client_that_resets_in_the_middle_of_the_response(rig: Rig) -> None:
    client, app = opened(rig, serving(rig))
    app.send(BROKEN["length"])
    client.receive(10)
    client.reset()
    assert app.is_reset()
    assert outcomes(rig) == {(200, "DC"): 1}


@pytest.mark.parametrize("sent", [b"GET / HT", GET[:-1], POST + b"ab"])
def test_a_client_that_ends_in_the_middle_of_its_request(rig: Rig, sent: bytes) -> None:
    server = serving(rig)
    client = rig.client()
    feed(client, sent)
    client.finish()
    with pytest.raises(Reset):
        client.rest()
    app = server.try_accept()
    assert app is None or app.is_reset()
    assert outcomes(rig) == {(0, "DC"): 1}


@pytest.mark.parametrize("sent", [b"", b"\r\n", b"\r"])
def test_a_client_that_ends_between_requests_has_done_nothing_wrong(rig: Rig, sent: bytes) -> None:
    _, client, _ = used(rig)
    feed(client, sent)
    client.finish()
    assert client.rest() == b""
    rig.until(lambda: rig.engine.live() == 0)
    assert outcomes(rig) == {(200, "-"): 1}


def test_a_head_that_takes_too_long() -> None:
    with Rig(head_timeout_ms=30) as rig:
        _, client, _ = used(rig)
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\nX: ")
        assert b"Connection: close" in told(client, 408, "head_timeout")
        assert client.rest() == b""
        assert rig.count("http_head_timeout") == 1
        assert outcomes(rig) == {(200, "-"): 1, (408, "SI"): 1}


def test_a_server_that_takes_too_long() -> None:
    with Rig(stream_idle_ms=30) as rig:
        client, app = opened(rig, serving(rig))
        told(client, 504, "server_timeout")
        assert app.is_reset()
        assert outcomes(rig) == {(504, "UT"): 1}


def test_a_body_that_takes_too_long() -> None:
    with Rig(stream_idle_ms=30) as rig:
        client, app = opened(rig, serving(rig), request=POST)
        told(client, 408, "body_timeout")
        assert app.is_reset()
        assert outcomes(rig) == {(408, "SI"): 1}


def test_a_response_that_stops() -> None:
    with Rig(stream_idle_ms=300) as rig:  # the response must begin within
        client, app = opened(rig, serving(rig))
        app.send(BROKEN["length"])
        assert client.is_reset()
        assert app.is_reset()
        assert outcomes(rig) == {(200, "UT"): 1}


def test_a_client_that_stops_reading() -> None:
    with Rig(stream_idle_ms=100) as rig:
        server = serving(rig)
        client = rig.client(buffer_bytes=8192)
        client.send(GET)
        app = server.accept()
        app.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n")
        while app.offer(bytes(1 << 20)):
            rig.settle()
        assert app.is_reset()
        assert outcomes(rig) == {(200, "SI"): 1}


def test_an_idle_client_is_let_go() -> None:
    with Rig(idle_timeout_ms=300) as rig:  # its request must come within
        _, client, _ = used(rig)
        assert client.rest() == b""
        assert rig.count("idle_timeout") == 1
        assert outcomes(rig) == {(200, "-"): 1}


def test_too_many_interim_responses() -> None:
    with Rig(max_interim=5) as rig:
        client, app = opened(rig, serving(rig))
        hint = b"HTTP/1.1 103 Early Hints\r\n\r\n"
        app.send(hint * 6)
        assert client.receive(len(hint) * 5) == hint * 5
        told(client, 502, "too_many_interim")
        assert outcomes(rig) == {(502, "UPE"): 1}


def silent(rig: Rig) -> tuple[Server, list[socket.socket]]:
    """An app whose backlog is full: the kernel drops what comes, until somebody accepts."""
    server = Server(rig, backlog=0)
    fillers = [socket.socket()]
    for filler in fillers:
        filler.setblocking(False)
        filler.connect_ex((server.address, server.port))
    return server, fillers


@pytest.mark.parametrize("protocol", [Protocol.HTTP, Protocol.DETECT])
def test_an_endpoint_that_does_not_answer_is_passed_over_in_time(protocol: Protocol) -> None:
    with Rig(connect_timeout_ms=30) as rig:
        (dead, fillers), server = silent(rig), Server(rig)
        rig.plan(dead.endpoint(), server.endpoint(), protocol=protocol, balancer=Balancer.ROUND_ROBIN)
        client, app = opened(rig, server)
        answered(client, app)
        assert rig.count("dial_timeout") == 1
        rig.plan(dead.endpoint(), protocol=protocol)
        client.send(GET)
        told(client, 503, "connect_failed")
        for filler in fillers:
            filler.close()


@pytest.mark.parametrize("protocol", [Protocol.HTTP, Protocol.DETECT])
def test_a_request_waits_for_a_slow_connection(protocol: Protocol) -> None:
    """A second: the kernel's first retransmission of a SYN."""
    with Rig(connect_timeout_ms=10_000) as rig:
        server, fillers = silent(rig)
        rig.plan(server.endpoint(), protocol=protocol)
        client = rig.client()
        for piece in (GET[:9], GET[9:] + GET):
            client.send(piece)
            rig.settle()
        for filler in fillers:
            server.accept().close()
            filler.close()
        app = server.accept()
        for _ in range(2):
            assert app.receive(len(GET)) == GET
            answered(client, app)


def test_a_client_that_leaves_while_its_request_waits_for_a_connection() -> None:
    with Rig(connect_timeout_ms=10_000) as rig:
        server, fillers = silent(rig)
        rig.plan(server.endpoint(), protocol=Protocol.HTTP)
        client = rig.client()
        client.send(GET)
        rig.wait_for(dialled=1)
        client.reset()
        rig.until(lambda: rig.engine.live() == 0)
        assert rig.count("upstreams") == rig.count("buffers") == 0
        assert outcomes(rig) == {(0, "DC"): 1}
        for filler in fillers:
            filler.close()


def test_no_socket_to_dial_with() -> None:
    with Rig(stocked=False, stock_wait_ms=30) as rig:
        serving(rig)
        client = rig.client()
        client.send(GET)
        told(client, 503, "connect_failed")


def test_too_many_that_wait_for_a_socket() -> None:
    with Rig(stocked=False, max_waiting=1) as rig:
        serving(rig)
        first, second = rig.client(), rig.client()
        first.send(GET)
        rig.settle()
        second.send(GET)
        assert b"Connection: close" in told(second, 503, "overloaded")
        assert outcomes(rig) == {(503, "UO"): 1}
        assert rig.count("http_overloaded") == rig.count("wait_limited") == 1


def test_no_buffer_for_another_request() -> None:
    with Rig(max_buffers=1) as rig:
        server = serving(rig)
        first, second = rig.client(), rig.client()
        feed(first, b"GET / HT")
        second.send(GET)
        assert b"Connection: close" in told(second, 503, "overloaded")
        feed(first, b"TP/1.1\r\nHost: a\r\n\r\n")
        app = server.accept()
        assert app.receive(len(GET)) == GET
        app.send(OK)
        assert first.receive(len(OK)) == OK


def test_who_has_begun_waits_for_a_buffer() -> None:
    with Rig(max_buffers=1) as rig:
        server = serving(rig)
        first, app = opened(rig, server)
        second = rig.client()
        feed(second, b"GET / HT")
        app.send(OK)
        rig.settle()
        assert first.take() == b""
        feed(second, b"TP/1.1\r\nHost: a\r\n\r\n")
        assert first.receive(len(OK)) == OK


def test_a_client_that_never_reads_its_answers(rig: Rig) -> None:
    """Local answers are short, and nothing waits for room for them."""
    rig.plan(protocol=Protocol.HTTP)
    client = rig.client(buffer_bytes=4096)
    client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
    with pytest.raises((ConnectionResetError, BrokenPipeError)):
        for _ in range(1000):
            client.send(GET * 1000)
    assert rig.count("http_reply_unsent") == 1


def test_clients_that_do_not_move_make_room_when_blocks_run_out() -> None:
    """One reads nothing, one never ends its head: both are the cost of themselves, and nobody else notices."""
    with Rig(max_buffers=2, stuck_ms=300) as rig:  # the third must come within
        server = serving(rig)
        deaf, mute = rig.client(buffer_bytes=8192), rig.client()
        app = asked(deaf, server)
        app.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n")
        while app.offer(bytes(1 << 20)):
            rig.settle()
        feed(mute, GET[:9])
        assert rig.count("buffers") == 2
        third, other = rig.client(), rig.client()
        third.send(GET)
        told(third, 503, "overloaded")
        rig.wait_for(stuck_ended=1)
        again = asked(other, server)
        answered(other, again)
        assert outcomes(rig) == {(200, "UO"): 1, (503, "UO"): 1, (200, "-"): 1}
        feed(mute, GET[9:])  # it had not been waiting for longest
        assert again.receive(len(GET)) == GET


def test_idle_clients_make_room_when_connections_run_out() -> None:
    with Rig(max_connections=2, pool_idle_ms=1100) as rig:
        server = serving(rig)
        old, _ = finished(rig, server)
        rig.wait_for(pool_idle_timeout=1)  # idle for long enough
        young, _ = finished(rig, server)
        fresh = rig.client()
        assert old.rest() == b""
        assert rig.count("idle_reclaimed") == 1
        assert nothing_more(young, fresh)
        late = socket.socket()
        late.connect(rig.gate.getsockname())
        accepted, _ = rig.gate.accept()
        with pytest.raises(OSError, match="connection to"):  # nobody has been idle for long
            rig.engine.adopt(accepted.detach(), SLOT, Direction.OUTBOUND, "10.96.0.1", 80)
        late.close()
