"""Pairs of connections that say "reset" when they mean it, and are nobody else's."""

from __future__ import annotations

import select
import socket

import pytest

from mesh.forward.quic.local import Pairs


@pytest.fixture
def pairs():
    made = Pairs()
    yield made
    made.close()


def received(sock: socket.socket) -> bytes:
    assert select.select([sock], [], [], 2)[0]
    return sock.recv(100)


def test_bytes_and_half_closes_pass_both_ways(pairs: Pairs) -> None:
    ours, given = pairs.make()
    with ours, given:
        ours.send(b"to the worker")
        assert received(given) == b"to the worker"
        given.shutdown(socket.SHUT_WR)
        assert received(ours) == b""
        ours.send(b"still")
        assert received(given) == b"still"


def test_closing_ours_early_is_a_reset_also_after_the_worker_has_ended_its_half(pairs: Pairs) -> None:
    ours, given = pairs.make()
    with given:
        given.shutdown(socket.SHUT_WR)
        assert received(ours) == b""
        ours.close()
        with pytest.raises(ConnectionResetError):
            received(given)


def test_closing_ours_when_both_have_ended_is_none(pairs: Pairs) -> None:
    ours, given = pairs.make()
    with given:
        ours.shutdown(socket.SHUT_WR)
        given.shutdown(socket.SHUT_WR)
        assert received(ours) == b""
        ours.close()
        assert received(given) == b""


def test_strangers_who_connect_meanwhile_get_nothing(pairs: Pairs) -> None:
    strangers = [socket.create_connection(pairs._listener.getsockname()) for _ in range(5)]
    ours, given = pairs.make()
    with ours, given:
        ours.send(b"secret")
        assert received(given) == b"secret"
        for each in strangers:
            try:
                assert received(each) == b""
            except ConnectionResetError:
                pass
            each.close()
