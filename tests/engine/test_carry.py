"""Bytes: whole, in order, both ways, with ends and resets passed on, and bounded memory."""

from __future__ import annotations

import random

import pytest

from mesh.model import Direction, Protocol
from tests.engine.rig import SERVICE, SOURCE, Peer, Reset, Rig, Server

MIB = 1 << 20
BLOCK = 65536


@pytest.mark.parametrize("protocol", [Protocol.OPAQUE, Protocol.DETECT])
@pytest.mark.parametrize("sizes", [[17], [1] * 17, [5, 3, 9], [BLOCK - 16, 1], [3 * BLOCK + 1]])
def test_what_a_client_sends_arrives_however_it_is_cut(rig: Rig, protocol: Protocol, sizes: list[int]) -> None:
    client, server = rig.pair(protocol)
    data = random.Random(1).randbytes(sum(sizes))
    at = 0
    for size in sizes:
        client.send(data[at : at + size])
        at += size
        rig.settle()
    assert server.receive(len(data)) == data
    server.send(data[::-1])
    assert client.receive(len(data)) == data[::-1]


def test_both_directions_move_megabytes_at_once(rig: Rig) -> None:
    client, server = rig.pair()
    chance = random.Random(2)
    there, back = chance.randbytes(4 * MIB), chance.randbytes(3 * MIB)
    sent = {client: 0, server: 0}
    got = {client: bytearray(), server: bytearray()}
    todo = {client: there, server: back}
    while len(got[server]) < len(there) or len(got[client]) < len(back):
        for peer, data in todo.items():
            sent[peer] += peer.offer(data[sent[peer] : sent[peer] + chance.randrange(1, 300_000)])
            got[peer] += peer.take(chance.randrange(1, 300_000))
        rig.step()
    assert got[server] == there
    assert got[client] == back


def test_a_client_that_is_done_sending_still_gets_its_answer(rig: Rig) -> None:
    client, server = rig.pair()
    client.send(b"question")
    client.finish()
    assert server.rest() == b"question"
    server.send(b"answer" * 100_000)
    server.close()
    assert client.rest() == b"answer" * 100_000
    rig.until(lambda: rig.engine.live() == 0)
    assert rig.flags() == {"-": 1}


def test_a_server_that_is_done_sending_still_hears_the_client(rig: Rig) -> None:
    client, server = rig.pair()
    server.send(b"greeting")
    server.finish()
    assert client.rest() == b"greeting"
    client.send(b"more" * 1000)
    client.finish()
    assert server.rest() == b"more" * 1000
    rig.until(lambda: rig.engine.live() == 0)
    assert rig.flags() == {"-": 1}


def test_an_end_follows_the_bytes_that_were_held_back(rig: Rig) -> None:
    server = Server(rig, buffer_bytes=100_000)
    rig.plan(server.endpoint(), protocol=Protocol.OPAQUE)
    client = rig.client()
    app = server.accept()
    data = random.Random(3).randbytes(3 * MIB)
    sent = 0
    while offered := client.offer(data[sent:]):
        sent += offered
        rig.settle()
    client.finish()
    rig.settle()
    assert app.rest() == data[:sent]


def test_a_reset_by_the_client_resets_the_server(rig: Rig) -> None:
    client, server = rig.pair()
    client.send(b"abc")
    assert server.receive(3) == b"abc"
    client.reset()
    assert server.is_reset()
    assert rig.flags() == {"DC": 1}
    assert rig.count("client_reset") == 1


def test_a_reset_by_the_server_resets_the_client(rig: Rig) -> None:
    client, server = rig.pair()
    server.send(b"abc")
    assert client.receive(3) == b"abc"
    server.reset()
    assert client.is_reset()
    assert rig.flags() == {"UC": 1}


def test_a_servers_last_words_arrive_before_its_reset(rig: Rig) -> None:
    """An HTTP server that refuses a large upload answers and closes with the upload unread: that is a reset."""
    client, server = rig.pair()
    client.send(b"x" * 100_000)
    rig.settle()
    server.send(b"413 too large")
    server.close()
    got = b""
    with pytest.raises(Reset):
        while True:
            rig.step()
            got += client.take()
    assert got == b"413 too large"


def test_a_client_that_resets_while_the_server_reads_nothing_is_let_go(rig: Rig) -> None:
    server = Server(rig, buffer_bytes=100_000)
    rig.plan(server.endpoint(), protocol=Protocol.OPAQUE)
    client = rig.client()
    app = server.accept()
    while client.offer(b"x" * 100_000):
        rig.settle()
    client.reset()
    rig.settle()
    assert app.is_reset()
    rig.until(lambda: rig.engine.live() == 0)


def test_a_consumer_that_does_not_read_stops_its_producer(rig: Rig) -> None:
    server = Server(rig)
    rig.plan(server.endpoint(), protocol=Protocol.OPAQUE)
    client = rig.client(buffer_bytes=100_000)
    app = server.accept()
    chance = random.Random(4)
    data = chance.randbytes(16 * MIB)
    sent = 0
    while offered := app.offer(data[sent : sent + MIB]):
        sent += offered
        rig.settle()
    assert sent < len(data)
    assert rig.count("buffers") == 1  # one block in the one direction, nothing in the other
    pumps = rig.count("pumps")
    rig.settle()
    assert rig.count("pumps") - pumps < 3  # blocked, not spinning
    assert client.receive(sent) == data[:sent]
    rig.settle()
    assert rig.count("buffers") == 0


def test_a_hung_up_side_whose_bytes_nobody_takes_does_not_spin(rig: Rig) -> None:
    server = Server(rig)
    rig.plan(server.endpoint(), protocol=Protocol.OPAQUE)
    client = rig.client(buffer_bytes=100_000)
    app = server.accept()
    client.finish()
    assert app.rest() == b""
    sent = 0
    while offered := app.offer(b"y" * MIB):
        sent += offered
        rig.settle()
    app.close()
    rig.settle()
    pumps = rig.count("pumps")
    for _ in range(20):
        rig.step()
    assert rig.count("pumps") - pumps < 5
    assert client.rest() == b"y" * sent


def test_an_idle_connection_holds_no_buffer(rig: Rig) -> None:
    pairs = [rig.pair() for _ in range(50)]
    for client, server in pairs:
        client.send(b"ping")
        assert server.receive(4) == b"ping"
    rig.settle()
    assert rig.count("buffers") == 0
    assert rig.count("connections") == 50


def test_without_buffers_reading_pauses_and_goes_on() -> None:
    with Rig(max_buffers=1, stuck_ms=60_000) as rig:
        server = Server(rig, buffer_bytes=100_000)
        rig.plan(server.endpoint(), protocol=Protocol.OPAQUE)
        greedy, modest = rig.client(), rig.client()
        apps = [server.accept(), server.accept()]
        sent = 0
        while offered := greedy.offer(b"g" * MIB):
            sent += offered
            rig.settle()
        modest.send(b"modest")
        rig.wait_for(buffers_starved=1)
        pumps = rig.count("pumps")
        rig.settle()
        assert rig.count("pumps") - pumps < 3
        assert apps[0].receive(sent) == b"g" * sent
        assert apps[1].receive(6) == b"modest"


def test_numbers_agree_with_what_was_carried(rig: Rig) -> None:
    client, server = rig.pair()
    client.send(b"x" * 1000)
    assert server.receive(1000)
    server.send(b"y" * 300)
    assert client.receive(300)
    (living,) = rig.series()
    assert (living.opened, living.closed, living.count) == (1, 0, 0)
    assert (living.request_bytes, living.response_bytes) == (1000, 300)
    client.close()
    server.close()
    rig.until(lambda: rig.engine.live() == 0)
    (ended,) = rig.series()
    assert (ended.source, ended.service, ended.direction) == (SOURCE, SERVICE, Direction.OUTBOUND)
    assert (ended.opened, ended.closed, ended.count, sum(ended.histogram)) == (1, 1, 1, 1)
    assert (ended.protocol, ended.code, ended.flag) == ("tcp", 0, "-")


def test_an_idle_connection_is_closed_after_its_time() -> None:
    with Rig(idle_timeout_ms=40) as rig:
        client, server = rig.pair()
        client.send(b"abc")
        assert server.receive(3) == b"abc"
        assert client.is_reset()
        assert server.is_reset()
        assert rig.flags() == {"SI": 1}
        assert rig.count("idle_timeout") == 1


@pytest.mark.parametrize("seed", range(8))
def test_whatever_both_sides_do_nothing_is_lost_or_leaked(seed: int) -> None:
    """Random sends, reads, ends, closes and resets on many connections at once; then everything is gone."""
    chance = random.Random(seed)
    with Rig(seed=seed + 1, max_buffers=16) as rig:
        server = Server(rig)
        rig.plan(server.endpoint(), protocol=chance.choice([Protocol.OPAQUE, Protocol.DETECT, Protocol.HTTP]))
        open_peers: list[Peer] = []
        for _ in range(600):
            if chance.random() < 0.1:
                open_peers.append(rig.client())
            if accepted := server.try_accept():
                open_peers.append(accepted)
            for peer in chance.sample(open_peers, min(3, len(open_peers))):
                try:
                    act(chance, peer, open_peers)
                except (OSError, Reset):
                    open_peers.remove(peer)
                    peer.close()
            if chance.random() < 0.7:
                rig.step()
        for peer in rig.peers:
            peer.close()
        server.sock.close()
        rig.until(lambda: rig.engine.live() == 0)
        assert rig.count("buffers") == 0
        assert sum(series.opened for series in rig.series()) == sum(series.closed for series in rig.series())


def act(chance: random.Random, peer: Peer, open_peers: list[Peer]) -> None:
    match chance.randrange(12):
        case 0:
            peer.finish()
        case 1:
            peer.close()
            open_peers.remove(peer)
        case 2:
            peer.reset()
            open_peers.remove(peer)
        case 3 | 4 | 5 | 6:
            peer.take(chance.randrange(1, 200_000))
        case 7:
            peer.offer(b"GET / HTTP/1.1\r\n")
        case _:
            peer.offer(chance.randbytes(chance.choice([1, 10, 1000, 70_000, 300_000])))
