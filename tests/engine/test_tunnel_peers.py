"""Ends of a tunnel that are not ours, good and bad: Python's ssl and h2 in the place of ztunnel, certificates that no
honest authority signs, and what each of them is told."""

from __future__ import annotations

import contextlib
import datetime
import socket
import ssl
from collections.abc import Callable, Iterator
from dataclasses import replace

import h2.events
import h2.settings
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import ExtendedKeyUsageOID

from mesh.forward.engine import TunnelRefused
from mesh.model import Direction, Mtls, Protocol
from tests.engine.http2 import Http2, Secured, context, fields
from tests.engine.pair import CLIENT, HERE, SERVER, Pair
from tests.engine.rig import SLOT, Peer, Reset
from tests.kit.pki import Authority, Certificate

DAY = datetime.timedelta(days=1)
Odd = Callable[[Authority, str], Certificate]


@pytest.fixture
def pair() -> Iterator[Pair]:
    with Pair() as made:
        yield made.ready()


def connect(pair: Pair) -> socket.socket:
    return socket.create_connection((HERE, pair.tunnel_port))


def secured(pair: Pair, own: Certificate | None, alpn: tuple[str, ...] = ("h2",)) -> Secured:
    return Secured(pair.destination, connect(pair), context(False, own, pair.authority.root, alpn))


def peer(pair: Pair) -> Http2:
    """A proxy of the client's identity that is not ours."""
    end = secured(pair, pair.authority.issue(CLIENT))
    end.handshake()
    return Http2(end, client=True)


def ask(pair: Pair, port: int, **fields: str) -> list[tuple[str, str]]:
    named = {":method": "CONNECT", ":authority": f"{HERE}:{port}"}
    named |= {name.replace("_", ":", 1) if name.startswith("_") else name: value for name, value in fields.items()}
    return list(named.items())


def undisturbed(pair: Pair, client: Peer, app: Peer) -> None:
    client.send(b"still")
    assert app.receive(5) == b"still"


# --- our server, as ztunnel's clients find it


def test_the_server_announces_what_ztunnel_does(pair: Pair) -> None:
    end = peer(pair)
    changed = end.wait(h2.events.RemoteSettingsChanged).changed_settings
    assert {int(code): change.new_value for code, change in changed.items()} == {
        3: 200,
        4: 4 << 20,
        5: 1 << 20,
        6: 65536,
    }


@pytest.mark.parametrize(
    "more", [{}, {"forwarded": 'for="127.0.0.1:4711"', "baggage": "a=b", "traceparent": "00-1-2-01"}]
)
def test_connect_is_answered_when_the_application_stands_and_carries_bytes(pair: Pair, more: dict[str, str]) -> None:
    server, end = pair.serve(), peer(pair)
    stream = end.request(ask(pair, server.port, **more))
    assert end.status(stream) == "200"
    app = server.accept()
    end.h2.send_data(stream, b"hello")
    end.flush()
    assert app.receive(5) == b"hello"
    app.send(b"you too")
    assert end.data(stream) == b"you too"
    (there,) = pair.destination.engine.connections()
    assert (there.identity, there.client_port == 4711) == (CLIENT, bool(more))


def test_who_speaks_for_an_address_of_another_identity_is_not_believed(pair: Pair) -> None:
    server, end = pair.serve(), peer(pair)
    pair.destination.engine.add_source("10.9.9.9", 5, "spiffe://cluster.local/ns/shop/sa/other")
    end.request(ask(pair, server.port, forwarded='for="10.9.9.9:4711"'))
    server.accept()
    (there,) = pair.destination.engine.connections()
    assert there.client == HERE


def test_who_comes_from_the_address_of_another_identity_is_denied(pair: Pair) -> None:
    server, end = pair.serve(), peer(pair)
    pair.destination.engine.add_source(HERE, 5, "spiffe://cluster.local/ns/shop/sa/other")
    assert end.status(end.request(ask(pair, server.port))) == "401"
    assert pair.destination.count("hbone_address_mismatch") == 1


REFUSED = {
    "another pod's address": ("400", {"_authority": "127.0.0.9:80"}),
    "no address": ("400", {"_authority": "web.shop:80"}),
    "no port": ("400", {"_authority": "127.0.0.1"}),
    "port 0": ("400", {"_authority": "127.0.0.1:0"}),
    "port 65536": ("400", {"_authority": "127.0.0.1:65536"}),
    "a port in words": ("400", {"_authority": "127.0.0.1:+80"}),
    "our own port": ("400", {"_authority": "127.0.0.1:15006"}),
    "a mapped address": ("400", {"_authority": "[::ffff:127.0.0.1]:80"}),
    "user information": ("400", {"_authority": "a@127.0.0.1:80"}),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_request_for_this_pod_is_refused(pair: Pair, name: str) -> None:
    status, wrong = REFUSED[name]
    end = peer(pair)
    stream = end.request(ask(pair, 80, **wrong))
    assert end.status(stream) == status
    assert pair.destination.count("hbone_bad_request") == 1


def test_get_is_refused(pair: Pair) -> None:
    end = peer(pair)
    stream = end.request(
        [(":method", "GET"), (":scheme", "https"), (":authority", "127.0.0.1:80"), (":path", "/")], end=True
    )
    assert end.status(stream) == "400"


def test_a_closed_port_is_unavailable_and_the_next_stream_fine(pair: Pair) -> None:
    server, gone, end = pair.serve(), pair.serve(), peer(pair)
    gone.sock.close()
    stream = end.request(ask(pair, gone.port))
    assert end.status(stream) == "503"
    stream = end.request(ask(pair, server.port))
    assert end.status(stream) == "200"


def test_a_pod_without_mutual_tls_has_no_tunnel(pair: Pair) -> None:
    pair.destination.identify(SERVER, mtls=Mtls.DISABLED)
    with pytest.raises((Reset, ssl.SSLError)):
        peer(pair)
    assert pair.destination.count("tunnel_no_identity") == 1


def test_a_strict_pod_refuses_plaintext_at_once_and_takes_tunnels(pair: Pair) -> None:
    pair.destination.identify(SERVER, mtls=Mtls.STRICT)
    client, app = pair.talk()
    client.send(b"x")
    assert app.receive(1) == b"x"
    with socket.create_server((HERE, 0)) as plain:
        plain.setblocking(False)
        pair.destination.engine.add_listener(SLOT, Direction.INBOUND, plain.dup().detach())
        stranger = Peer(pair.destination, socket.create_connection(plain.getsockname()))
        assert stranger.is_reset()
    assert pair.destination.count("plaintext_refused") == 1
    undisturbed(pair, client, app)


def test_plaintext_under_way_ends_when_its_pod_becomes_strict(pair: Pair) -> None:
    server = pair.serve()
    client, app = pair.source.client(), server.accept()
    stranger = pair.destination.client(HERE, server.port, Direction.INBOUND)
    stranger.send(b"x")
    assert server.accept().receive(1) == b"x"
    pair.destination.identify(SERVER, mtls=Mtls.STRICT)
    assert stranger.is_reset()
    undisturbed(pair, client, app)


# --- bad clients of our server


def uris(*texts: str) -> Odd:
    return lambda authority, _: authority.issue(*texts)


def of_another_root(_: Authority, name: str) -> Certificate:
    return Authority("elsewhere").issue(name)


def below(authority: Authority, several: int) -> Authority:
    for number in range(several):
        authority = authority.below(f"authority {number}")
    return authority


def beside(certificate: Certificate, several: int) -> Certificate:
    """Shown with many others: 50 KB."""
    return replace(certificate, beside=(certificate,) * several)


BAD: dict[str, tuple[str, Odd]] = {
    "expired": ("expired", lambda a, name: a.issue(name, begins=-2 * DAY, ends=-DAY)),
    "not valid yet": ("not_yet_valid", lambda a, name: a.issue(name, begins=DAY, ends=2 * DAY)),
    "of another root": ("untrusted", of_another_root),
    "of another root of the same name": ("untrusted", lambda a, name: Authority(a.name).issue(name)),
    "a certificate authority": ("not_a_leaf", lambda a, name: a.issue(name, ca=True)),
    "for mail": ("not_a_leaf", lambda a, name: a.issue(name, purposes=[ExtendedKeyUsageOID.EMAIL_PROTECTION])),
    "without an id": ("not_spiffe", uris()),
    "a host name": ("not_spiffe", lambda a, _: a.issue(dns=["web.shop"])),
    "two ids": ("not_spiffe", lambda a, name: a.issue(name, name + "2")),
    "a port": ("not_spiffe", uris("spiffe://cluster.local:80/ns/shop/sa/client")),
    "a query": ("not_spiffe", uris("spiffe://cluster.local/ns/shop/sa/client?x")),
    "user information": ("not_spiffe", uris("spiffe://x@cluster.local/ns/shop/sa/client")),
    "a fragment": ("not_spiffe", uris("spiffe://cluster.local/ns/shop/sa/client#x")),
    "another path": ("not_spiffe", uris("spiffe://cluster.local/workload/client")),
    "more path": ("not_spiffe", uris("spiffe://cluster.local/ns/shop/sa/client/x")),
    "https": ("not_spiffe", uris("https://cluster.local/ns/shop/sa/client")),
    "an empty name": ("not_spiffe", uris("spiffe://cluster.local/ns//sa/client")),
    "far too long": ("not_spiffe", uris("spiffe://cluster.local/ns/shop/sa/" + "a" * 3000)),
    "a URI with a NUL in it": ("not_spiffe", lambda a, name: a.issue(name + "\0.elsewhere")),
    "a host name with a NUL in it": ("not_spiffe", lambda a, _: a.issue(dns=["web.shop\0.elsewhere"])),
    "in the root's name, with its key id": ("untrusted", lambda a, name: a.impostor(name)),
    "below five authorities": ("chain", lambda a, name: below(a, 5).issue(name)),
    "with a hundred certificates": ("chain", lambda a, name: beside(a.issue(name), 100)),
    "another trust domain": ("trust_domain", uris("spiffe://cluster.other/ns/shop/sa/client")),
}


WEAK: dict[str, tuple[str, Odd]] = {  # which our own engine would not show
    "an RSA key of 1024 bits": ("weak", lambda a, name: a.issue(name, key=rsa.generate_private_key(65537, 1024))),
    "below an RSA key of 1024 bits": (
        "weak",
        lambda a, name: a.below("weak", rsa.generate_private_key(65537, 1024)).issue(name),
    ),
}


@pytest.mark.parametrize("name", BAD | WEAK)
def test_a_client_with_a_bad_certificate_is_refused_with_its_own_reason(pair: Pair, name: str) -> None:
    reason, make = (BAD | WEAK)[name]
    client, app = pair.talk()
    end = secured(pair, make(pair.authority, CLIENT))
    with pytest.raises((Reset, ssl.SSLError)):
        end.handshake()
        Http2(end, client=True).wait(h2.events.RemoteSettingsChanged)
    pair.destination.wait_for(**{f"tls_failed_{reason}": 1})
    (told,) = (event for event in pair.destination.events if isinstance(event, TunnelRefused))
    assert (told.slot, told.direction, told.address) == (SLOT, Direction.INBOUND, HERE)
    undisturbed(pair, client, app)


@pytest.mark.parametrize("name", BAD)
def test_a_server_with_a_bad_certificate_gets_no_byte(name: str) -> None:
    reason, make = BAD[name]
    with Pair() as pair:
        pair.ready()
        server = pair.serve()
        pair.destination.identify(SERVER, make(pair.authority, SERVER))
        client = pair.source.client()
        client.send(b"secret")
        with pytest.raises(Reset):
            client.rest()
        assert pair.source.count(f"tls_failed_{reason}") > 0
        assert server.try_accept() is None


def test_a_client_without_a_certificate_is_refused(pair: Pair) -> None:
    end = secured(pair, None)
    with pytest.raises((Reset, ssl.SSLError)):
        end.handshake()
        Http2(end, client=True).wait(h2.events.RemoteSettingsChanged)
    pair.destination.wait_for(tls_failed_no_certificate=1)


def test_tls_1_2_is_refused(pair: Pair) -> None:
    tls = context(False, pair.authority.issue(CLIENT), pair.authority.root)
    tls.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises((Reset, ssl.SSLError)):
        Secured(pair.destination, connect(pair), tls).handshake()
    pair.destination.wait_for(tls_failed_version=1)


@pytest.mark.parametrize("alpn", [(), ("http/1.1",)])
def test_who_does_not_offer_http_2_is_refused(pair: Pair, alpn: tuple[str, ...]) -> None:
    end = secured(pair, pair.authority.issue(CLIENT), alpn)
    with pytest.raises((Reset, ssl.SSLError)):
        end.handshake()
        Http2(end, client=True).wait(h2.events.RemoteSettingsChanged)
    pair.destination.wait_for(tls_failed_alpn=1)


@pytest.mark.parametrize(
    "words", [b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", b"\x16\x03\x01\xff\xff" + b"\0" * 300, b"\0" * 20000]
)
def test_who_does_not_speak_tls_is_refused(pair: Pair, words: bytes) -> None:
    client, app = pair.talk()
    with connect(pair) as sock:
        sock.sendall(words)
        pair.destination.until(
            lambda: pair.destination.count("tls_failed_broken") + pair.destination.count("tls_failed_version")
        )
    undisturbed(pair, client, app)


@pytest.mark.parametrize("by", ["id", "serial"])
def test_who_is_denied_is_refused(pair: Pair, by: str) -> None:
    own = pair.authority.issue(CLIENT)
    pair.destination.trust(denied=(CLIENT if by == "id" else own.serial,))
    end = secured(pair, own)
    with pytest.raises((Reset, ssl.SSLError)):
        end.handshake()
        Http2(end, client=True).wait(h2.events.RemoteSettingsChanged)
    pair.destination.wait_for(tls_failed_denied=1)


def test_who_never_finishes_its_handshake_is_closed() -> None:
    with Pair(tunnel_handshake_ms=50) as pair, connect(pair.ready()) as sock:
        sock.sendall(b"\x16\x03\x01")
        pair.destination.wait_for(tls_timeout=1)
        assert pair.destination.count("tunnels") == 0


# --- servers that are not ours


def serve(pair: Pair, own: Certificate) -> tuple[Peer, Callable[[], Secured]]:
    """A client of ours on its way to a server of theirs, and that server's end."""
    pair.listener.close()
    pair.destination.engine.remove_pod(SLOT, True)
    theirs = socket.create_server((HERE, pair.tunnel_port))
    pair.source.plan(pair.endpoint(8080), protocol=Protocol.OPAQUE)
    client = pair.source.client()

    def accept() -> Secured:
        accepted, _ = theirs.accept()
        theirs.close()
        tls = context(True, own, pair.authority.root)
        names: list[str] = []
        tls.sni_callback = lambda _socket, name, _context: names.append(name)
        end = Secured(pair.source, accepted, tls, server=True)
        end.handshake()
        assert names == [None]
        return end

    return client, accept


def test_our_client_sends_no_server_name_and_says_what_ztunnel_expects(pair: Pair) -> None:
    client, accept = serve(pair, pair.authority.issue(SERVER))
    end = Http2(accept(), client=False)
    changed = end.wait(h2.events.RemoteSettingsChanged).changed_settings
    assert {int(code): change.new_value for code, change in changed.items()} == {2: 0, 4: 4 << 20, 5: 1 << 20, 6: 16384}
    asked = end.wait(h2.events.RequestReceived)
    said = fields(asked.headers)
    assert said.pop("traceparent").count("-") == 3
    port = client.sock.getsockname()[1]
    assert said == {
        ":method": "CONNECT",
        ":authority": f"{HERE}:8080",
        "forwarded": f'for="{HERE}:{port}"',
        "baggage": "k8s.namespace.name=shop,service.name=x",
    }
    client.send(b"early")
    end.h2.send_headers(asked.stream_id or 0, [(":status", "200")])
    end.flush()
    assert end.data(asked.stream_id or 0) == b"early"


@pytest.mark.parametrize(
    ("status", "counter"), [("401", "dial_denied"), ("503", "dial_refused"), ("400", "dial_failed")]
)
def test_a_refusal_is_a_reset_of_the_client(pair: Pair, status: str, counter: str) -> None:
    client, accept = serve(pair, pair.authority.issue(SERVER))
    end = Http2(accept(), client=False)

    def refused() -> bool:
        end.poll()
        for asked in [event for event in end.events if isinstance(event, h2.events.RequestReceived)]:
            end.events.remove(asked)
            end.h2.send_headers(asked.stream_id or 0, [(":status", status)], end_stream=True)
            end.flush()
        return pair.source.count(counter) > 0

    pair.source.until(refused)
    assert client.is_reset()


def test_a_server_that_goes_away_is_dialled_anew(pair: Pair) -> None:
    client, accept = serve(pair, pair.authority.issue(SERVER))
    end = Http2(accept(), client=False)
    end.wait(h2.events.RequestReceived)
    end.secured.sock.close()
    assert client.is_reset()
    assert pair.source.count("tunnel_cut") == 1


def test_after_a_refusal_the_next_handshake_waits_and_trust_ends_the_wait(pair: Pair) -> None:
    pair.destination.trust(denied=(CLIENT,))
    server = pair.serve()
    assert pair.source.client().is_reset()
    dialled = pair.source.count("tunnels_dialled")
    assert all(pair.source.client().is_reset() for _ in range(20))
    assert pair.source.count("tunnels_dialled") == dialled
    assert pair.source.count("tunnel_held_back") >= 20
    pair.destination.trust()
    pair.source.trust()
    client = pair.source.client()
    client.send(b"x")
    assert server.accept().receive(1) == b"x"


def test_a_stream_that_came_too_late_for_a_tunnel_goes_to_the_same_endpoint_by_another(pair: Pair) -> None:
    tls = context(True, pair.authority.issue(SERVER), pair.authority.root)
    pair.listener.close()
    pair.destination.engine.remove_pod(SLOT, True)
    with socket.create_server((HERE, pair.tunnel_port)) as theirs:
        theirs.setblocking(False)

        def asked() -> tuple[Http2, int]:
            found: list[socket.socket] = []

            def came() -> bool:
                with contextlib.suppress(BlockingIOError):
                    found.append(theirs.accept()[0])
                return bool(found)

            pair.source.until(came)
            secured = Secured(pair.source, found[0], tls, server=True)
            secured.handshake()
            end = Http2(secured, client=False)
            return end, end.wait(h2.events.RequestReceived).stream_id or 0

        pair.source.plan(pair.endpoint(8080), protocol=Protocol.OPAQUE)
        client = pair.source.client()
        first, _ = asked()
        first.h2.close_connection(last_stream_id=0)
        first.flush()
        second, stream = asked()
        second.h2.send_headers(stream, [(":status", "200")])
        second.flush()
        client.send(b"at last")
        assert second.data(stream) == b"at last"
