"""Connections between two nodes go by a tunnel whose both ends are proven: real TLS, real HTTP/2, two engines."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest
from msgspec import structs

from mesh.model import Protocol, spiffe_id
from tests.engine.pair import CLIENT, HERE, SERVER, Pair
from tests.engine.rig import SLOT, Reset
from tests.kit.pki import Authority
from tests.kit.signing import OwnSigner

MIB = 1 << 20
MANY = 250  # below the limit of handshakes that come at once
OTHER = spiffe_id("cluster.local", "shop", "other")


@pytest.fixture
def pair() -> Iterator[Pair]:
    with Pair() as made:
        yield made.ready()


def test_bytes_arrive_both_ways_and_both_ends_are_proven(pair: Pair) -> None:
    client, app = pair.talk()
    client.send(b"question")
    assert app.receive(8) == b"question"
    app.send(b"answer")
    assert client.receive(6) == b"answer"
    (there,) = pair.destination.engine.connections()
    assert there.identity == CLIENT
    assert pair.source.count("tls_handshakes") == pair.destination.count("tls_handshakes") == 1


def test_a_half_closed_connection_goes_on_in_the_other_direction(pair: Pair) -> None:
    client, app = pair.talk()
    client.send(b"all I have to say")
    client.finish()
    assert app.rest() == b"all I have to say"
    app.send(b"and now you listen" * 1000)
    app.close()
    assert client.rest() == b"and now you listen" * 1000
    pair.source.until(lambda: not pair.source.engine.live() and not pair.destination.engine.live())
    assert pair.source.count("buffers") == pair.destination.count("buffers") == 0


@pytest.mark.parametrize("who", ["client", "app"])
def test_a_reset_is_passed_on(pair: Pair, who: str) -> None:
    client, app = pair.talk()
    client.send(b"x")
    app.receive(1)
    (client if who == "client" else app).reset()
    assert (app if who == "client" else client).is_reset()


def test_ten_mebibytes_each_way_at_once(pair: Pair) -> None:
    client, app = pair.talk()
    up, down = bytearray(), bytearray()
    data = bytes(range(256)) * (10 * MIB // 256)
    sent = {"up": 0, "down": 0}

    def moved() -> bool:
        sent["up"] += client.offer(data[sent["up"] : sent["up"] + 300_000]) if sent["up"] < len(data) else 0
        sent["down"] += app.offer(data[sent["down"] : sent["down"] + 300_000]) if sent["down"] < len(data) else 0
        up.extend(app.take())
        down.extend(client.take())
        return len(up) == len(down) == len(data)

    pair.source.until(moved)
    assert up == down == data


def test_many_connections_share_a_tunnel_up_to_a_hundred(pair: Pair) -> None:
    server = pair.serve()
    clients = [pair.source.client() for _ in range(150)]
    apps = [server.accept() for _ in clients]
    for number, client in enumerate(clients):
        client.send(f"{number:4}".encode())
    assert sorted(app.receive(4) for app in apps) == sorted(f"{number:4}".encode() for number in range(150))
    assert pair.source.count("tunnels") == 2


def test_http_requests_of_one_connection_are_counted_one_by_one_on_both_nodes(pair: Pair) -> None:
    server = pair.serve(Protocol.HTTP)
    client = pair.source.client()
    app = None
    for _ in range(3):
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        app = app or server.accept()
        assert app.receive(27).startswith(b"GET / HTTP/1.1\r\n")
        app.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        assert client.receive(40).endswith(b"ok")
    assert pair.source.count("http_requests") == pair.destination.count("http_requests") == 3
    assert pair.source.count("hbone_streams") + pair.destination.count("hbone_streams") == 1


def test_a_dead_application_is_a_refused_connection(pair: Pair) -> None:
    server = pair.serve()
    server.sock.close()
    client = pair.source.client()
    with pytest.raises(Reset):
        client.rest()
    assert pair.source.count("hbone_refused") > 0
    assert pair.source.count("dial_refused") > 0


def test_who_is_not_who_should_be_there_is_not_talked_to(pair: Pair) -> None:
    server = pair.serve()
    pair.source.plan(pair.endpoint(server.port, "spiffe://cluster.local/ns/shop/sa/other"), protocol=Protocol.OPAQUE)
    client = pair.source.client()
    client.send(b"secret")
    with pytest.raises(Reset):
        client.rest()
    assert pair.source.count("tls_failed_identity") > 0
    assert server.try_accept() is None


def test_the_loop_goes_on_while_a_handshake_waits_for_its_signature(pair: Pair) -> None:
    pair.destination.sign = False
    server = pair.serve()
    client = pair.source.client()
    client.send(b"patience")
    pair.source.until(lambda: pair.destination.count("tls_signatures"))
    pair.source.settle()
    assert server.try_accept() is None
    pair.destination.sign = True
    assert server.accept().receive(8) == b"patience"


def test_a_signature_that_is_refused_ends_the_handshake_with_its_reason(pair: Pair) -> None:
    pair.source.signer.forget(pair.source.keys[CLIENT])
    pair.serve()
    client = pair.source.client()
    pair.source.wait_for(tls_failed_unsigned=1)
    assert pair.source.count("tls_signature_refused") == 1
    client.close()


def test_handshakes_wait_for_another_signer_when_theirs_has_ended(pair: Pair) -> None:
    """What was asked and not answered is asked of the new one, and so is what was asked of nobody."""
    pair.destination.sign = False
    server = pair.serve()
    client = pair.source.client()
    client.send(b"patience")
    pair.source.until(lambda: pair.destination.count("tls_signatures"))
    pair.destination.signer.close()
    pair.source.until(lambda: not pair.destination.count("signer"))
    another = pair.source.client()
    another.send(b"patience")
    pair.source.settle()
    assert server.try_accept() is None
    pair.destination.signer = OwnSigner()
    pair.destination.signer.know(pair.destination.keys[SERVER])
    pair.destination.engine.set_signer(pair.destination.signer.open().detach())
    pair.destination.sign = True
    assert server.accept().receive(8) == b"patience"
    assert server.accept().receive(8) == b"patience"
    assert pair.destination.count("signer_lost") == 1


def test_a_handshake_without_a_signer_ends_with_that_as_its_reason() -> None:
    with Pair(tunnel_handshake_ms=50) as pair:
        pair.ready()
        pair.source.signer.close()
        pair.serve()
        pair.source.client()
        pair.source.wait_for(tls_failed_unsigned=1)
        pair.source.signer = OwnSigner()


def test_more_requests_than_a_socket_takes_are_asked_one_after_the_other() -> None:
    """A signer that is late: what it has not been asked yet waits in the engine."""
    with Pair(stock_target=2, stock_low=1, connect_timeout_ms=20_000) as pair:
        pair.ready()
        pair.destination.sign = False
        server = pair.serve()
        for slot in range(100, 100 + MANY):
            pair.source.engine.add_pod(slot, 77, identity=CLIENT)
        clients = [pair.source.client(slot=slot) for slot in range(100, 100 + MANY)]
        for client in clients:
            client.send(b"x")
        pair.source.until(lambda: pair.destination.count("tls_signatures") == MANY)
        pair.destination.sign = True
        apps = [server.accept() for _ in clients]
        assert [app.receive(1) for app in apps] == [b"x"] * MANY


@pytest.mark.parametrize("said", [b"", b"x" * 87, b"x" * 89, b"x" * 4000], ids=["nothing", "short", "long", "huge"])
def test_who_says_what_is_no_answer_is_no_signer(pair: Pair, said: bytes) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours:
        pair.source.engine.set_signer(theirs.detach())
        assert pair.source.count("signer") == 1
        ours.send(said) if said else ours.close()
        pair.source.wait_for(signer_lost=1)
    assert pair.source.count("signer") == 0


def test_an_answer_that_nobody_waits_for_is_nobodys(pair: Pair) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    pair.source.engine.set_signer(theirs.detach())
    ours.send(b"\xff" * 88)
    pair.source.settle()
    assert pair.source.count("signer") == 1
    ours.close()


def test_who_is_denied_loses_live_connections(pair: Pair) -> None:
    client, app = pair.talk()
    client.send(b"x")
    app.receive(1)
    pair.destination.trust(denied=(CLIENT,))
    assert client.is_reset()
    assert pair.destination.count("tunnel_denied") == 1


def test_a_tunnel_that_ended_is_resumed_without_a_signature() -> None:
    with Pair(tunnel_idle_ms=1) as pair:
        pair.ready()
        client, app = pair.talk()
        client.send(b"x")
        app.receive(1)
        client.close()
        app.close()
        pair.source.wait_for(tunnel_idle=1)
        again = pair.source.client()
        pair.source.wait_for(tls_handshakes=2)
        assert pair.source.count("tls_resumed") == 1
        assert pair.source.count("tls_signatures") == 1
        again.close()


@pytest.mark.parametrize("how", ["became another", "left and another came"])
def test_a_slot_that_is_another_identity_now_speaks_as_itself_and_not_in_old_tunnels(pair: Pair, how: str) -> None:
    pair.source.identify(OTHER)
    pair.source.identify(CLIENT)
    client, app = pair.talk()
    client.send(b"x")
    app.receive(1)
    if how != "became another":
        pair.source.engine.remove_pod(SLOT, close_connections=False)
    pair.source.engine.add_pod(SLOT, 78, identity=OTHER)
    pair.destination.engine.remove_source(HERE)
    server = pair.serve()
    again = pair.source.client()
    again.send(b"y")
    assert server.accept().receive(1) == b"y"
    assert {one.identity for one in pair.destination.engine.connections()} == {CLIENT, OTHER}


def test_an_address_that_is_another_pods_by_now_is_reached_by_a_tunnel_of_its_own(pair: Pair) -> None:
    """Both have the same service account, hence identity. The first was deleted, and nothing that leads to it ends."""
    server = pair.serve()
    first = pair.source.client()
    server.accept()
    pair.source.plan(structs.replace(pair.endpoint(server.port), id=server.port + 1))
    again = pair.source.client()
    app = server.accept()
    again.send(b"y")
    assert app.receive(1) == b"y"
    assert pair.source.count("tunnels") == 2
    first.close()


def test_what_comes_to_a_pod_that_is_another_one_by_now_is_refused(pair: Pair) -> None:
    client, app = pair.talk()
    client.send(b"x")
    app.receive(1)
    pair.destination.identify(OTHER)  # the tunnel was made to SERVER
    pair.destination.settle()
    late = pair.source.client()
    assert late.is_reset()
    assert pair.source.count("tls_failed_identity") > 0


def test_a_root_that_is_believed_no_more_takes_no_new_streams_and_cuts_nobody_off(pair: Pair) -> None:
    client, app = pair.talk()
    client.send(b"x")
    app.receive(1)
    pair.source.trust(Authority("quite another").root)
    assert pair.source.count("tunnel_distrusted") == 1
    client.send(b"still")
    assert app.receive(5) == b"still"
    assert pair.source.client().is_reset()
    assert pair.source.count("tls_failed_untrusted") > 0


def test_a_session_judged_by_another_trust_is_not_kept() -> None:
    with Pair(tunnel_idle_ms=100) as pair:
        pair.ready()
        client, app = pair.talk()
        client.send(b"x")
        app.receive(1)
        pair.source.trust(Authority("quite another").root)  # while the tunnel is open
        client.close()
        app.close()
        pair.source.until(lambda: pair.source.count("tunnels") == 0)
        assert pair.source.client().is_reset()
        assert pair.source.count("tls_resumed") == 0


@pytest.mark.parametrize("change", ["our certificate", "trust", "the peer"])
def test_nothing_is_resumed_after(change: str) -> None:
    with Pair(tunnel_idle_ms=1) as pair:
        pair.ready()
        client, app = pair.talk()
        client.send(b"x")
        app.receive(1)
        client.close()
        app.close()
        pair.source.wait_for(tunnel_idle=1)
        if change == "our certificate":
            pair.source.identify(CLIENT)
        elif change == "trust":
            pair.source.trust()
        else:
            other = "spiffe://cluster.local/ns/shop/sa/other"
            pair.destination.identify(other)
            pair.source.plan(pair.endpoint(1, other), protocol=Protocol.OPAQUE)
        again = pair.source.client()
        pair.source.wait_for(tls_handshakes=2)
        assert pair.source.count("tls_resumed") == 0
        again.close()


def test_a_reader_that_reads_nothing_holds_up_its_own_stream_only(pair: Pair) -> None:
    server = pair.serve()
    greedy = [pair.source.client(buffer_bytes=4096) for _ in range(4)]
    bulky = [server.accept() for _ in greedy]
    chunk = bytes(1 << 20)
    for app in bulky:
        for _ in range(200):
            app.offer(chunk)
            pair.source.step()
    client = pair.source.client()
    app = server.accept()
    for number in range(20):
        client.send(b"%4d" % number)
        assert app.receive(4) == b"%4d" % number
        app.send(b"%4d" % number)
        assert client.receive(4) == b"%4d" % number
    assert pair.source.count("tunnels") == 1
    held = pair.source.count("buffers") + pair.destination.count("buffers")
    assert held < 4 * 2 * (4 * 16 + 8)  # of each stream, its window of 4 MiB and what is on its way, in blocks


def test_a_tunnel_that_holds_too_much_ends_who_reads_least() -> None:
    with Pair(max_held_bytes=2 << 20) as pair:
        pair.ready()
        server = pair.serve()
        idle, busy = pair.source.client(buffer_bytes=4096), pair.source.client()
        apps = [server.accept(), server.accept()]
        while not pair.source.count("h2_held_limited"):
            apps[0].offer(bytes(1 << 20))
            apps[1].offer(b"y")
            busy.take()
            pair.source.step()
        pair.source.until(lambda: pair.source.count("buffers") < 4)
        assert idle.is_reset()
        apps[1].offer(b"end")
        pair.source.until(lambda: busy.take().endswith(b"end"))


def test_handshakes_that_do_not_end_keep_nobody_else_out_for_long() -> None:
    with Pair(max_handshakes=3, tunnel_handshake_ms=500) as pair:  # within which an honest one must be over
        pair.ready()
        server = pair.serve()
        strangers = [socket.create_connection((HERE, pair.tunnel_port)) for _ in range(6)]
        pair.destination.wait_for(tunnel_limited=3, tls_timeout=3)
        client = pair.source.client()
        client.send(b"x")
        assert server.accept().receive(1) == b"x"
        for stranger in strangers:
            stranger.close()


def test_a_large_download_by_a_slow_reader_keeps_memory_flat(pair: Pair) -> None:
    client, app = pair.talk()
    chunk, sent, got, most = bytes(1 << 20), 0, 0, 0
    total = 32 * MIB  # eight windows
    while got < total:
        sent += app.offer(chunk[: min(len(chunk), total - sent)]) if sent < total else 0
        pair.source.step()
        got += len(client.take(1 << 16))
        most = max(most, pair.source.count("buffers") + pair.destination.count("buffers"))
    assert most < 2 * (4 * 16 + 8)


def test_draining_ends_the_tunnel_after_its_last_stream(pair: Pair) -> None:
    client, app = pair.talk()
    client.send(b"x")
    app.receive(1)
    pair.destination.engine.drain()
    client.send(b"still")
    assert app.receive(5) == b"still"
    other = pair.source.client()  # finds no tunnel that takes it, and nobody who accepts another
    client.finish()
    app.rest()
    app.close()
    client.rest()
    pair.source.until(lambda: pair.destination.count("tunnels") == 0)
    other.close()


def test_a_peer_that_falls_silent_is_given_up() -> None:
    with Pair(tunnel_ping_ms=1, tunnel_silence_ms=200) as pair:  # within which who is not silent must answer
        pair.ready()
        client, app = pair.talk()
        client.send(b"x")
        app.receive(1)
        deaf = pair.destination
        pair.source.neighbours = []  # nobody pumps the other node any more
        pair.source.wait_for(tunnel_silent=1)
        assert client.is_reset()
        assert deaf.count("tunnel_silent") == 0
