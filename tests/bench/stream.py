"""Bytes over plain TCP, run in the pods as a script: a source, a client that drinks, a holder of idle connections.

    stream.py source PORT FILE                      serves until killed; FILE says how many connections it has had
    stream.py drink HOST PORT CONNECTIONS SECONDS   prints {"bytes", "seconds", "whole_bytes"}: the first two without
                                                    a second of warm-up
    stream.py hold HOST PORT CONNECTIONS http|tcp   one exchange on each, prints "ready", holds them until killed

In Python on purpose: each call moves 256 KiB, so the interpreter is a per cent of the cost. The client speaks first
(one byte that says what it wants), which every proxy carries alike. Standard library only: it is started by path.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import socket
import sys
import time

BLOCK = 1 << 18  # above every socket buffer's first size, so that a call fills what there is
WARM_UP_S = 1.0  # receive windows and proxies' buffers have grown by then
MORE, IDLE = b"m", b"i"  # first byte of a connection: send without end; echo this and wait
REQUEST = b"GET / HTTP/1.1\r\nHost: web\r\n\r\n"
TIMEOUT_S = 20.0


class Source:
    def __init__(self, port: int, path: str) -> None:
        self.selector = selectors.DefaultSelector()
        self.listener = socket.create_server(("", port), backlog=4096)
        self.count = 0
        self.file = os.open(path, os.O_WRONLY | os.O_CREAT, 0o644)
        self.block = os.urandom(BLOCK)
        self.selector.register(self.listener, selectors.EVENT_READ)

    def run(self) -> None:
        while True:
            for key, _ in self.selector.select():
                one = key.fileobj
                assert isinstance(one, socket.socket)
                if one is self.listener:
                    self.accept()
                else:
                    self.serve(one, bool(key.events & selectors.EVENT_WRITE))

    def accept(self) -> None:
        one, _ = self.listener.accept()
        one.setblocking(False)
        self.selector.register(one, selectors.EVENT_READ)
        self.count += 1
        os.pwrite(self.file, b"%d" % self.count, 0)

    def serve(self, one: socket.socket, writing: bool) -> None:
        try:
            if writing:
                one.send(self.block)
                return
            asked = one.recv(1)
            if asked == MORE:
                self.selector.modify(one, selectors.EVENT_WRITE)
            elif asked == IDLE:
                one.send(IDLE)
        except BlockingIOError:
            return
        except OSError:
            asked = b""
        if not asked:
            self.selector.unregister(one)
            one.close()


def drink(host: str, port: int, connections: int, seconds: float) -> None:
    selector, total, buffer = selectors.DefaultSelector(), 0, bytearray(BLOCK)
    for _ in range(connections):
        one = socket.create_connection((host, port), TIMEOUT_S)
        one.sendall(MORE)
        one.setblocking(False)
        selector.register(one, selectors.EVENT_READ, one)
    begin = time.monotonic() + WARM_UP_S
    now = started = 0.0
    warm_up = 0
    while now < begin + seconds:
        for key, _ in selector.select(TIMEOUT_S) or _silent():
            try:
                got = key.data.recv_into(buffer)
            except BlockingIOError:
                continue  # "readable" is a hint: there may be nothing behind it (select(2): BUGS)
            if not got:
                raise SystemExit("a connection ended early")
            total += got
        now = time.monotonic()
        if not started and now >= begin:
            started, warm_up = now, total
    print(json.dumps({"bytes": total - warm_up, "seconds": now - started, "whole_bytes": total}))


def _silent() -> list[tuple[selectors.SelectorKey, int]]:
    raise SystemExit(f"not a byte for {TIMEOUT_S:g} s")


def hold(host: str, port: int, connections: int, kind: str) -> None:
    held = []
    for _ in range(connections):
        one = socket.create_connection((host, port), TIMEOUT_S)
        one.sendall(REQUEST if kind == "http" else IDLE)
        answer = one.recv(4096)
        if not answer.startswith(b"HTTP/1.1 200 " if kind == "http" else IDLE):
            raise SystemExit(f"wrong answer: {answer[:80]!r}")
        held.append(one)
    print("ready", flush=True)
    signal.pause()


def main(command: str, *rest: str) -> None:
    if command == "source":
        Source(int(rest[0]), rest[1]).run()
    elif command == "drink":
        drink(rest[0], int(rest[1]), int(rest[2]), float(rest[3]))
    else:
        hold(rest[0], int(rest[1]), int(rest[2]), rest[3])


if __name__ == "__main__":
    main(*sys.argv[1:])
