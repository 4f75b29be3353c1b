"""A small TCP and UDP server for pods, run as a script: `talk.py PORT BANNER_PORT UDP_PORT NAME`.

PORT waits for the client: it answers each line. BANNER_PORT does the same but speaks first ("220 NAME\\n").
Lines: `who` (JSON: the server's name, and both addresses as getpeername and getsockname show them), `echo TEXT`,
`send N` (N bytes), `count N` (reads N bytes, answers how many and their checksum), `close`, `reset`. A client that
shuts down its sending half gets `eof` and then the end. UDP_PORT answers each datagram with JSON {peer, text}.
Standard library only: it starts in tens of milliseconds.
"""

from __future__ import annotations

import json
import socket
import struct
import sys
import threading
import zlib
from typing import Any, BinaryIO

READ_S = 3600.0  # longer than any test


def plain(address: Any) -> list[Any]:
    """[host, port], with a v4-mapped host as IPv4: what the client is, whatever socket the server uses."""
    return [address[0].removeprefix("::ffff:"), address[1]]


def ask(sock: socket.socket, line: str) -> str:
    """For clients: say a line, hear a line. EOFError when the server ends instead."""
    sock.sendall(line.encode() + b"\n")
    return hear(sock)


def hear(sock: socket.socket) -> str:
    heard = b""
    while not heard.endswith(b"\n"):
        part = sock.recv(1)  # byte by byte: what follows the line stays in the socket
        if not part:
            raise EOFError(f"the connection ended after {heard!r}")
        heard += part
    return heard.decode().rstrip("\n")


def who(sock: socket.socket) -> dict[str, Any]:
    """The server's name, and both addresses as it sees them."""
    facts: dict[str, Any] = json.loads(ask(sock, "who"))
    return facts


def listener(port: int, kind: int) -> socket.socket:
    made = socket.socket(socket.AF_INET6, kind)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    made.bind(("::", port))
    return made


def pattern(size: int) -> bytes:
    """Bytes whose order can be checked."""
    block = bytes(i % 251 for i in range(4096))
    return (block * (size // len(block) + 1))[:size]


def count(stream: BinaryIO, wanted: int) -> dict[str, int]:
    seen = check = 0
    while seen < wanted:
        part = stream.read(min(65536, wanted - seen))
        if not part:
            break
        seen, check = seen + len(part), zlib.crc32(part, check)
    return {"seen": seen, "crc": check}


def answer(name: str, sock: socket.socket, stream: BinaryIO, verb: str, rest: str) -> bytes:
    if verb == "who":
        names = {"peer": plain(sock.getpeername()), "local": plain(sock.getsockname())}
        return json.dumps({"name": name, **names}).encode() + b"\n"
    if verb == "echo":
        return rest.encode() + b"\n"
    if verb == "send":
        return pattern(int(rest))
    if verb == "count":
        return json.dumps(count(stream, int(rest))).encode() + b"\n"
    return b"what?\n"


def serve(name: str, sock: socket.socket, greeting: bytes) -> None:
    with sock, sock.makefile("rb") as stream:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.settimeout(READ_S)  # so that Python waits with poll: who sleeps in recv() must not be in the short-cut
        try:
            sock.sendall(greeting)
            for line in iter(stream.readline, b""):
                verb, _, rest = line.decode().strip().partition(" ")
                if verb == "close":
                    return
                if verb == "reset":
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    return
                sock.sendall(answer(name, sock, stream, verb, rest))
            sock.sendall(b"eof\n")
        except OSError:
            pass  # the client went; the next one is served


def accept(name: str, listening: socket.socket, greeting: bytes) -> None:
    while True:
        sock, _ = listening.accept()
        threading.Thread(target=serve, args=(name, sock, greeting), daemon=True).start()


def datagrams(sock: socket.socket) -> None:
    while True:
        data, peer = sock.recvfrom(65536)
        sock.sendto(json.dumps({"peer": plain(peer), "text": data.decode()}).encode(), peer)


def main() -> None:
    port, banner_port, udp_port = (int(arg) for arg in sys.argv[1:4])
    name = sys.argv[4]
    threading.Thread(target=datagrams, args=(listener(udp_port, socket.SOCK_DGRAM),), daemon=True).start()
    silent, speaking = (listener(p, socket.SOCK_STREAM) for p in (port, banner_port))
    for one in (silent, speaking):
        one.listen(1024)
    threading.Thread(target=accept, args=(name, speaking, f"220 {name}\n".encode()), daemon=True).start()
    accept(name, silent, b"")


if __name__ == "__main__":
    main()
