"""A stand-in for the agent of a node: answers on a Unix socket what a test told it to."""

from __future__ import annotations

import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path


class _Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True
    answers: dict[str, list[tuple[int, bytes]]]
    asked: list[str]


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def do_GET(self) -> None:
        self.server.asked.append(f"{self.command} {self.path}")
        found = self.server.answers[self.path.partition("?")[0]]
        status, body = found.pop(0) if len(found) > 1 else found[0]
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_GET  # noqa: N815  # the base class looks for this name

    def address_string(self) -> str:
        return "unix"

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def agent(directory: Path, **answers: list[tuple[int, bytes]]) -> Iterator[list[str]]:
    """`status=[(200, b"...")]` answers /status, one after the other, the last one for ever. Yields what was asked."""
    directory.mkdir(parents=True, exist_ok=True)
    server = _Server(str(directory / "admin.sock"), _Handler)
    server.answers = {f"/{path}": found for path, found in answers.items()}
    server.asked = []
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server.asked
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
        (directory / "admin.sock").unlink()
