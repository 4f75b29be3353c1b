"""HTTP/1 by hand: requests and responses as bytes, fed in every way they can be cut."""

from __future__ import annotations

import random

from mesh.model import Protocol
from tests.engine.rig import SLOT, Peer, Rig, Server

CUTS = ("whole", "bytes", "random", "late")
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"
GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


def get(path: str = "/", *fields: str, method: str = "GET", version: str = "1.1") -> bytes:
    lines = [f"{method} {path} HTTP/{version}", "Host: a", *fields]
    return "".join(f"{line}\r\n" for line in lines).encode() + b"\r\n"


def answer(body: bytes = b"hi", *fields: str, status: str = "200 OK", version: str = "1.1") -> bytes:
    lines = [f"HTTP/{version} {status}", f"Content-Length: {len(body)}", *fields]
    return "".join(f"{line}\r\n" for line in lines).encode() + b"\r\n" + body


def pieces(data: bytes, cut: str) -> list[bytes]:
    """`late`: all but the last byte, then that."""
    if cut == "whole":
        return [data]
    if cut == "late":
        return [piece for piece in (data[:-1], data[-1:]) if piece]
    chance, at, found = random.Random(len(data)), 0, []
    while at < len(data):
        size = 1 if cut == "bytes" else chance.randrange(1, 1 + len(data) // 3)
        found.append(data[at : at + size])
        at += size
    return found


def feed(peer: Peer, data: bytes, cut: str = "whole") -> None:
    for piece in pieces(data, cut):
        peer.send(piece)
        peer.rig.settle()


def refused(peer: Peer, data: bytes, cut: str = "whole") -> bool:
    """Whether the engine resets the connection when this is fed, maybe before the end."""
    try:
        feed(peer, data, cut)
    except (ConnectionResetError, BrokenPipeError):
        return True
    return peer.is_reset()


def serving(rig: Rig, protocol: Protocol = Protocol.HTTP) -> Server:
    """An app behind a plan of its own."""
    server = Server(rig)
    rig.plan(server.endpoint(), protocol=protocol)
    return server


def exchange(client: Peer, app: Peer, request: bytes = GET, response: bytes = OK) -> None:
    """One request and its response, both unchanged."""
    client.send(request)
    assert app.receive(len(request)) == request
    answered(client, app, response)


def asked(client: Peer, server: Server, request: bytes = GET) -> Peer:
    """The app's end of a connection made for this request, which it has read."""
    client.send(request)
    app = server.accept()
    assert app.receive(len(request)) == request
    return app


def opened(rig: Rig, server: Server, request: bytes = GET, source: str = "", slot: int = SLOT) -> tuple[Peer, Peer]:
    """A client, and the app's end once it has read the request."""
    client = rig.client(source=source, slot=slot)
    return client, asked(client, server, request)


def answered(client: Peer, app: Peer, response: bytes = OK) -> None:
    app.send(response)
    assert client.receive(len(response)) == response


def finished(rig: Rig, server: Server, source: str = "", slot: int = SLOT) -> tuple[Peer, Peer]:
    """The same after the exchange: the app's connection is in the pool."""
    client, app = opened(rig, server, source=source, slot=slot)
    answered(client, app)
    return client, app


def nothing_more(*peers: Peer) -> bool:
    """Nothing has come that was not asked for, no end either."""
    for peer in peers:
        peer.rig.settle()
    return all(peer.take() == b"" and not peer.ended for peer in peers)
