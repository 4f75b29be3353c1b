"""Run as a program in a pod: `probe.py PORT VIP...` asks each address again and again over one kept connection each,
and prints a line `TIME NUMBER ANSWER` whenever another one answers (monotonic seconds), or `TIME NUMBER ! ERROR`.

One round over all of them takes ROUND_S and what the answers take, which is the error of every time that it tells.
"""

from __future__ import annotations

import socket
import sys
import time

ROUND_S = 0.005
CONNECT_S = 0.1  # while nothing is captured, the address leads nowhere
ANSWER_S = 1.0
REQUEST = b"GET / HTTP/1.1\r\nHost: probe\r\n\r\n"


class Probe:
    def __init__(self, number: int, address: str, port: int) -> None:
        self._number, self._to = number, (address, port)
        self._socket: socket.socket | None = None
        self._last = ""

    def ask(self) -> None:
        try:
            if self._socket is None:
                self._socket = socket.create_connection(self._to, timeout=CONNECT_S)
                self._socket.settimeout(ANSWER_S)
                self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._socket.sendall(REQUEST)
            self._tell(body_of(self._socket))
        except (OSError, ValueError) as error:
            if self._socket is not None:
                self._socket.close()
                self._socket = None
            self._tell(f"! {error}")

    def _tell(self, answer: str) -> None:
        if answer != self._last:
            print(f"{time.monotonic():.6f} {self._number} {answer}", flush=True)
        self._last = answer


def body_of(sock: socket.socket) -> str:
    """Of a small response with status 200. Raises OSError and ValueError."""
    data = b""
    while b"\r\n\r\n" not in data:
        part = sock.recv(4096)
        if not part:
            raise ValueError("the connection was closed")
        data += part
    head, _, body = data.partition(b"\r\n\r\n")
    status = head.split(b"\r\n")[0].decode()
    if not status.startswith("HTTP/1.1 200"):
        raise ValueError(status)
    if b"chunked" in head.lower():
        while not body.endswith(b"0\r\n\r\n"):
            body += sock.recv(4096)
        return body.split(b"\r\n")[1].decode().strip()
    length = next(
        int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length")
    )
    while len(body) < length:
        body += sock.recv(4096)
    return body.decode().strip()


def main() -> None:
    port, *addresses = sys.argv[1:]
    probes = [Probe(number, address, int(port)) for number, address in enumerate(addresses)]
    while True:
        for probe in probes:
            probe.ask()
        time.sleep(ROUND_S)


if __name__ == "__main__":
    main()
