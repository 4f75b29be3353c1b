"""The parser's vectors end to end: what the client is told, what becomes of its connection, what the app has seen of it
(nothing), and what was counted.

A refused request is followed by a good one in the same breath: it must be neither carried nor answered.
"""

from __future__ import annotations

import pytest

from mesh.model import Protocol
from tests.engine.http1.judge import Case, cases, data_of
from tests.engine.rig import Peer, Reset, Rig
from tests.engine.web import GET, OK, feed, nothing_more, opened, refused, serving

CASES = cases()
CUTS = ("whole", "random")
BIG = 40_000  # bytes: cutting these at random is for the parser's own tests


PREFACE = "request_lines: preface of HTTP/2"  # another protocol, for which there is detection


def of(part: str, wanted: str) -> list[Case]:
    return [case for case in CASES if case.message.part == part and wanted in case.wanted and case.name != PREFACE]


def name(case: object) -> str:
    return ascii(case.name) if isinstance(case, Case) else str(case)


def last_words(client: Peer, case: Case, side: str) -> None:
    said = client.rest()
    head, _, body = said.partition(b"\r\n\r\n")
    reason = case.wanted["refused"]
    status = case.wanted["status"] if side == "request" else 502
    assert head.startswith(b"HTTP/1.1 %d " % status), said
    assert b"\r\nx-seine-reason: " + reason.encode() in head
    assert b"\r\nConnection: close" in head
    assert reason.encode() in body
    assert body.endswith(b".\n")


def counted(rig: Rig, case: Case, side: str, flag: str) -> None:
    reason, status = case.wanted["refused"], case.wanted["status"]
    assert rig.count(f"bad_{side}_{reason}") == 1
    assert [name for name in rig.counts() if name.startswith("bad_")] == [f"bad_{side}_{reason}"]
    found = [(series.count, series.code, series.flag) for series in rig.series() if series.count]
    assert found == [(1, status if side == "request" else 502, flag)]


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("case", of("request", "refused"), ids=name)
def test_a_bad_request_is_refused_and_the_app_sees_nothing(rig: Rig, case: Case, cut: str) -> None:
    data = case.message.data
    server = serving(rig)
    client = rig.client()
    feed(client, data + GET, cut if len(data) < BIG else "whole")
    last_words(client, case, "request")
    assert rig.count("dialled") == 0
    assert server.try_accept() is None
    counted(rig, case, "request", "DPE")
    client.close()
    rig.until(lambda: rig.engine.live() == 0)
    assert rig.count("buffers") == 0


@pytest.mark.parametrize("case", of("request", "refused"), ids=name)
def test_a_bad_request_on_a_used_connection_does_no_harm_to_the_good_one_before(rig: Rig, case: Case) -> None:
    client, app = opened(rig, serving(rig))
    app.send(OK)
    assert client.receive(len(OK)) == OK
    client.send(case.message.data)
    last_words(client, case, "request")
    assert nothing_more(app)  # it is in the pool
    assert rig.count(f"bad_request_{case.wanted['refused']}") == 1


@pytest.mark.parametrize("case", of("request", "accepted"), ids=name)
def test_a_good_request_arrives(rig: Rig, case: Case) -> None:
    data, wanted = case.message.data, case.wanted["accepted"]
    head = data_of(wanted["forwarded"]) if "forwarded" in wanted else data[: wanted.get("length", len(data))]
    server = serving(rig)
    client = rig.client()
    client.send(data)
    app = server.accept()
    rig.settle()
    assert lines(app.take()) == lines(head.lstrip(b"\r\n"))
    assert rig.count("http_requests") == 1


def lines(head: bytes) -> list[bytes]:
    """Without Connection, of which each hop has its own."""
    return [line for line in head.split(b"\r\n") if not line.lower().startswith(b"connection:")]


@pytest.mark.parametrize("case", of("request", "pending"), ids=name)
def test_a_request_without_an_end_is_given_up_in_time(case: Case) -> None:
    with Rig(head_timeout_ms=20, detect_timeout_ms=20) as rig:
        server = serving(rig)
        client = rig.client()
        client.send(case.message.data)
        said = client.rest()
        assert server.try_accept() is None
        if len(case.message.data) > 2:
            assert said.startswith(b"HTTP/1.1 408 ")
            assert b"x-seine-reason: head_timeout" in said
            assert rig.count("http_head_timeout") == 1
        else:
            assert said == b""  # an empty line is no request


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("case", of("chunked", "refused"), ids=name)
def test_a_bad_chunked_body_is_refused(rig: Rig, case: Case, cut: str) -> None:
    data = case.message.data
    server = serving(rig)
    head = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    client = rig.client()
    client.send(head + data + GET if cut == "whole" else head)
    if cut == "whole":
        last_words(client, case, "request")
        assert server.try_accept() is None
    else:
        app = server.accept()
        assert app.receive(len(head)) == head
        feed(client, data + GET, cut if len(data) < BIG else "whole")
        last_words(client, case, "request")
        with pytest.raises(Reset):
            seen = app.rest()
            assert data.startswith(seen)  # never a complete message
            assert seen == b""
    counted(rig, case, "request", "DPE")


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("case", of("response", "refused"), ids=name)
def test_a_bad_response_is_not_passed_on(rig: Rig, case: Case, cut: str) -> None:
    method, upgrade = case.message.method.upper(), case.message.upgrade
    request = b"%s %s HTTP/1.1\r\nHost: a:1\r\n" % (method.encode(), b"a:1" if method == "CONNECT" else b"/")
    request += b"Upgrade: x\r\nConnection: upgrade\r\n" if upgrade else b""
    client, app = opened(rig, serving(rig), request=request + b"\r\n")
    assert refused(app, case.message.data, cut if len(case.message.data) < BIG else "whole")
    said = client.take()
    assert said.startswith(b"HTTP/1.1 502 ")
    assert b"\r\nx-seine-reason: " + case.wanted["refused"].encode() in said
    assert b"Connection: close" not in said
    counted(rig, case, "response", "UPE")
    assert rig.count("pooled") == 0


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("case", of("chunked", "refused"), ids=name)
def test_a_bad_chunked_response_never_looks_complete(rig: Rig, case: Case, cut: str) -> None:
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    client, app = opened(rig, serving(rig))
    if cut == "whole":
        app.send(head + case.message.data)
        rig.until(lambda: rig.count("http_local_replies"))
        assert client.take().startswith(b"HTTP/1.1 502 ")
        return
    app.send(head)
    assert client.receive(len(head)) == head
    assert refused(app, case.message.data, "random" if len(case.message.data) < BIG else "whole")
    assert client.is_reset()
    (series,) = [series for series in rig.series() if series.count]
    assert (series.code, series.flag) == (200, "UPE")


def test_other_connections_do_not_notice(rig: Rig) -> None:
    """The corpus on one side, a bystander's exchanges on the other."""
    client, app = opened(rig, serving(rig))
    app.send(OK)
    assert client.receive(len(OK)) == OK
    for case in of("request", "refused")[::5]:
        bad = rig.client()
        bad.send(case.message.data)
        client.send(GET)
        assert app.receive(len(GET)) == GET
        app.send(OK)
        assert client.receive(len(OK)) == OK
        bad.rest()
        bad.close()
    assert rig.count("dialled") == 1


@pytest.mark.parametrize("protocol", [Protocol.HTTP, Protocol.DETECT])
def test_a_request_is_refused_as_well_where_the_first_bytes_decide(rig: Rig, protocol: Protocol) -> None:
    server = serving(rig, protocol)
    client = rig.client()
    client.send(b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n")
    assert client.rest().startswith(b"HTTP/1.1 400 ")
    app = server.try_accept()
    assert app is None or app.is_reset()
