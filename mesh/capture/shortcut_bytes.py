"""Bytes over pairs of sockets, where a short-cut past TCP may lose, change or reorder them.

Tried is what has gone wrong elsewhere: both directions at once, half-closed connections, a direction that goes over to
TCP because its credit is spent, and an end that joins late (TCP_DEFER_ACCEPT). Everything has a deadline: lost bytes
are a sentence, not a hang. Source: design, section 4.
"""

from __future__ import annotations

import os
import random
import socket
import time
from collections.abc import Iterator
from contextlib import suppress

from mesh.capture._bpf import lib

SECONDS_MAX = 5.0  # without any progress to its end: far more than a busy machine needs
PART_BYTES_MAX = 20_000
SOCKETS = 6  # that `carry_all` uses up

Sockets = list[socket.socket]


class Damage(Exception):
    """What became of the bytes, in words."""


def carry_all(sockets: Sockets, address: str) -> None:
    """Everything, with SOCKETS unconnected sockets of a namespace that has this address. Raises OSError and Damage."""
    _exchange(*_connected(sockets, address))
    _spend(*_connected(sockets, address))
    _join_late(*_connected(sockets, address, defer=True))


def _connected(sockets: Sockets, address: str, defer: bool = False) -> tuple[socket.socket, socket.socket]:
    """Client and listener of one connection. `defer`: the accepting end comes to be with the first bytes only."""
    listener, client = sockets.pop(), sockets.pop()
    for each in (listener, client):
        each.settimeout(SECONDS_MAX)
    listener.bind((address, 0))
    if defer:
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, 1)
    listener.listen(1)
    client.connect(listener.getsockname())
    return client, listener


def _exchange(client: socket.socket, listener: socket.socket) -> None:
    with listener.accept()[0] as server:
        for each in (client, server):
            each.setblocking(False)
        _run(_flow(client, server, 200_000), _flow(server, client, 200_000))
        client.shutdown(socket.SHUT_WR)
        _run(_flow(server, client, 50_000), _end(server))
        server.shutdown(socket.SHUT_WR)
        _run(_end(client))


def _spend(client: socket.socket, listener: socket.socket) -> None:
    """The credit is spent, so some bytes go by TCP. The server's answer renews it, but the way stays TCP's."""
    before, after = random.randbytes(lib.CREDIT_BYTES + 2 * PART_BYTES_MAX), random.randbytes(1000)
    with listener.accept()[0] as server:
        for at in range(0, len(before), PART_BYTES_MAX):
            client.sendall(before[at : at + PART_BYTES_MAX])
        server.sendall(b"!")
        client.sendall(after)
        for each in (client, server):
            each.setblocking(False)
        _run(_arrival(server, before + after), _arrival(client, b"!"))
        _run(_flow(server, client, 4 * lib.CREDIT_BYTES))


def _join_late(client: socket.socket, listener: socket.socket) -> None:
    """The first bytes go by TCP, because nobody else is there; those that follow must not overtake them."""
    first, second = random.randbytes(1000), random.randbytes(1000)
    client.sendall(first)
    with listener.accept()[0] as server:
        client.sendall(second)
        for each in (client, server):
            each.setblocking(False)
        _run(_arrival(server, first + second))
        _run(_flow(client, server, 100_000), _flow(server, client, 100_000))


def _run(*flows: Iterator[None]) -> None:
    """Take turns until all are done."""
    end, left = time.monotonic() + SECONDS_MAX, list(flows)
    while left:
        left = [flow for flow in left if next(flow, left) is None]
        os.sched_yield()
        if time.monotonic() > end:
            raise Damage("bytes did not arrive")


def _flow(source: socket.socket, target: socket.socket, size: int) -> Iterator[None]:
    """Random bytes in messages of random size."""
    data, sent = random.randbytes(size), 0
    arrival = _arrival(target, data)
    while next(arrival, arrival) is None:
        if sent < size:
            with suppress(BlockingIOError):
                sent += source.send(data[sent : sent + random.randint(1, PART_BYTES_MAX)])
        yield


def _arrival(target: socket.socket, data: bytes) -> Iterator[None]:
    got = 0
    while got < len(data):
        with suppress(BlockingIOError):
            part = target.recv(PART_BYTES_MAX)
            if not part:
                raise Damage(f"the connection ended after {got} of {len(data)} bytes")
            if part != data[got : got + len(part)]:
                raise Damage("bytes arrived in another order, or changed")
            got += len(part)
        yield


def _end(target: socket.socket) -> Iterator[None]:
    while True:
        with suppress(BlockingIOError):
            if target.recv(1):
                raise Damage("bytes arrived that nobody had sent")
            return
        yield
