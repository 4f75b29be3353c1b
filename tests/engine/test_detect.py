"""What the first bytes make of a connection, and who waits for whom."""

from __future__ import annotations

import ssl

import pytest

from mesh.model import Protocol
from tests.engine.rig import Peer, Rig, Server

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


def client_hello(name: str | None) -> bytes:
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    tls = context.wrap_bio(incoming, outgoing, server_hostname=name)
    with pytest.raises(ssl.SSLWantReadError):
        tls.do_handshake()
    return outgoing.read()


def race(rig: Rig, protocol: Protocol = Protocol.DETECT) -> tuple[Peer, Server]:
    server = Server(rig)
    rig.plan(server.endpoint(), protocol=protocol)
    return rig.client(), server


@pytest.mark.parametrize(
    ("first", "counter"),
    [
        (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", "detected_http1"),
        (b"FOO-BAR /x HTTP/1.0\r\n\r\n", "detected_http1"),
        (PREFACE, "detected_http2"),
        (client_hello("shop.example"), "detected_tls"),
        (b"GET key\r\n", "detected_other"),
        (b"\x00\x00\x00\x08\x04\xd2\x16\x2f", "detected_other"),
        (b"get key\r\n", "detected_other"),
        (b"\x16\x03\x03\x00\x05\x02hello", "detected_other"),
    ],
)
@pytest.mark.parametrize("split", [False, True])
def test_first_bytes_are_recognized_and_arrive(rig: Rig, first: bytes, counter: str, split: bool) -> None:
    client, server = race(rig)
    for at in range(len(first)) if split else [0]:
        client.send(first[at : at + 1] if split else first)
        rig.settle()
    assert server.accept().receive(len(first)) == first
    assert rig.count(counter) == 1


def test_a_server_that_speaks_first_is_heard_at_once(rig: Rig) -> None:
    client, server = race(rig)
    app = server.accept()
    app.send(b"220 mail.example ESMTP\r\n")
    assert client.receive(24) == b"220 mail.example ESMTP\r\n"
    assert rig.count("server_first") == 1
    client.send(b"EHLO me\r\n")
    assert app.receive(9) == b"EHLO me\r\n"


def test_an_ambiguous_beginning_is_held_until_the_server_speaks(rig: Rig) -> None:
    client, server = race(rig)
    app = server.accept()
    client.send(b"QUIT")
    rig.settle()
    assert app.take() == b""
    app.send(b"hello")
    assert client.receive(5) == b"hello"
    assert app.receive(4) == b"QUIT"


def test_an_ambiguous_beginning_is_held_no_longer_than_the_hold_time() -> None:
    with Rig(detect_hold_ms=20) as rig:
        client, server = race(rig)
        client.send(b"QUIT")
        assert server.accept().receive(4) == b"QUIT"
        assert rig.count("detect_timeout") == 1


def test_an_ambiguous_beginning_goes_on_when_the_client_ends(rig: Rig) -> None:
    client, server = race(rig)
    client.send(b"QUIT")
    client.finish()
    assert server.accept().rest() == b"QUIT"


def test_a_request_line_longer_than_a_buffer_is_carried_as_it_is(rig: Rig) -> None:
    client, server = race(rig)
    first = b"GET /" + b"a" * 200_000
    client.send(first)
    assert server.accept().receive(len(first)) == first


def test_a_port_declared_http_is_not_dialled_before_the_client_speaks(rig: Rig) -> None:
    client, server = race(rig, Protocol.HTTP)
    rig.settle()
    assert rig.count("dialled") == 0
    (waiting,) = rig.engine.connections()
    assert waiting.state == "detecting"
    client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    assert server.accept().receive(27) == b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


def test_a_silent_client_of_a_port_declared_http_is_carried_after_the_detect_time() -> None:
    with Rig(detect_timeout_ms=20) as rig:
        client, server = race(rig, Protocol.HTTP)
        app = server.accept()
        app.send(b"hello")
        assert client.receive(5) == b"hello"
        assert rig.count("detect_timeout") == 1


def test_a_client_that_ends_before_it_says_anything_is_carried(rig: Rig) -> None:
    client, server = race(rig, Protocol.HTTP)
    client.finish()
    app = server.accept()
    assert app.rest() == b""
    app.send(b"bye")
    app.close()
    assert client.rest() == b"bye"


@pytest.mark.parametrize("name", ["shop.example", None])
def test_a_tls_connection_is_listed_with_its_name(rig: Rig, name: str | None) -> None:
    client, server = race(rig)
    hello = client_hello(name)
    client.send(hello)
    assert server.accept().receive(len(hello)) == hello
    (listed,) = rig.engine.connections()
    assert (listed.protocol, listed.sni) == ("tls", name or "")


def test_a_name_is_found_in_a_hello_of_two_records_and_what_was_read_is_carried_unchanged(rig: Rig) -> None:
    client, server = race(rig)
    whole = client_hello("shop.example")
    first, second = whole[5:60], whole[60:]
    hello = b"".join(b"\x16\x03\x01" + len(part).to_bytes(2) + part for part in (first, second))
    client.send(hello[:62])
    rig.settle()
    assert server.accept().take() == b"", "held: the name may be in what is still to come"
    client.send(hello[62:])
    rig.settle()
    (listed,) = rig.engine.connections()
    assert (listed.protocol, listed.sni) == ("tls", "shop.example")


def test_a_hello_that_is_never_finished_is_tls_without_a_name() -> None:
    with Rig(detect_hold_ms=20) as rig:
        client, server = race(rig)
        client.send(client_hello("shop.example")[:100])
        assert len(server.accept().receive(100)) == 100
        (listed,) = rig.engine.connections()
        assert (listed.protocol, listed.sni) == ("tls", "")


def test_opaque_bytes_are_not_looked_at(rig: Rig) -> None:
    client, server = race(rig, Protocol.OPAQUE)
    client.send(b"GET / HTTP/1.1\r\n\r\n")
    assert server.accept().receive(18)
    assert rig.count("detected_http1") == 0


def test_a_pods_opaque_port_overrides_the_plan(rig: Rig) -> None:
    rig.engine.add_pod(3, 77, [80])
    client, server = race(rig, Protocol.HTTP)
    app = server.accept()
    app.send(b"hello")
    assert client.receive(5) == b"hello"
