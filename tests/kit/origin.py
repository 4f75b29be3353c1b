"""An HTTP/1.1 origin for pods that records exactly the bytes it saw: `origin.py PORT DIRECTORY NAME`.

Connection N's bytes are in DIRECTORY/N.in as they came. It reads heads and bodies in the plainest way (Content-Length,
chunked), and answers 200 with a JSON body {connection, request, name, peer, head, body} unless the request says
otherwise: `X-Answer: BASE64` sends these bytes raw; `X-Delay: SECONDS` waits first; `X-Then: close` ends it.
It is a witness, not a server: it judges nothing.
"""

from __future__ import annotations

import base64
import itertools
import json
import socket
import sys
import threading
import time
from pathlib import Path
from typing import Any

from tests.kit.talk import listener, plain

numbers = itertools.count()


class Recorder:
    """Reads a socket and keeps what it read."""

    def __init__(self, sock: socket.socket, path: Path) -> None:
        self.sock, self.buffer = sock, b""
        self.file = path.open("wb", buffering=0)

    def more(self) -> None:
        part = self.sock.recv(65536)
        if not part:
            raise EOFError
        self.file.write(part)
        self.buffer += part

    def until(self, mark: bytes) -> bytes:
        while mark not in self.buffer:
            self.more()
        got, _, self.buffer = self.buffer.partition(mark)
        return got

    def exactly(self, count: int) -> bytes:
        while len(self.buffer) < count:
            self.more()
        got, self.buffer = self.buffer[:count], self.buffer[count:]
        return got


def read_body(recorder: Recorder, headers: dict[str, str]) -> bytes:
    if headers.get("transfer-encoding", "").lower() != "chunked":
        return recorder.exactly(int(headers.get("content-length", 0)))
    body = b""
    while size := int(recorder.until(b"\r\n").split(b";")[0], 16):
        body += recorder.exactly(size)
        recorder.exactly(2)
    while recorder.until(b"\r\n"):
        pass  # trailers
    return body


def read_request(recorder: Recorder, sock: socket.socket) -> tuple[str, dict[str, str], bytes]:
    head = recorder.until(b"\r\n\r\n").decode("latin-1")
    fields = (line.partition(":") for line in head.split("\r\n")[1:])
    headers = {name.strip().lower(): value.strip() for name, _, value in fields}
    if headers.get("expect", "").lower() == "100-continue":
        sock.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
    return head, headers, read_body(recorder, headers)


def response(headers: dict[str, str], facts: dict[str, Any], head_only: bool) -> bytes:
    if "x-answer" in headers:
        return base64.b64decode(headers["x-answer"])
    body = json.dumps(facts).encode()
    start = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    return start + (b"" if head_only else body)


def serve(sock: socket.socket, number: int, folder: Path, name: str) -> None:
    recorder = Recorder(sock, folder / f"{number}.in")
    try:
        for request in itertools.count():
            head, headers, body = read_request(recorder, sock)
            facts = {"connection": number, "request": request, "name": name, "peer": plain(sock.getpeername())}
            time.sleep(float(headers.get("x-delay", 0)))
            facts |= {"head": head, "body": body.decode("latin-1")}
            sock.sendall(response(headers, facts, head.startswith("HEAD ")))
            if headers.get("x-then") == "close":
                return
    except (OSError, EOFError, ValueError):
        pass  # a client's end, or bytes that are no HTTP: recorded, which is all we are for
    finally:
        recorder.file.close()
        sock.close()


def main() -> None:
    port, folder, name = int(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
    listening = listener(port, socket.SOCK_STREAM)
    listening.listen(1024)
    while True:
        sock, _ = listening.accept()
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        threading.Thread(target=serve, args=(sock, next(numbers), folder, name), daemon=True).start()


if __name__ == "__main__":
    main()
