"""Python's own http.server as an application, run as a script: `pyweb.py PORT VERSION NAME`, VERSION 1.0 or 1.1.

GET answers the name; PUT answers "BYTES SHA256" of the body. With 1.0 every response ends with its connection
and has no length.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer

PART = 1 << 16


class Handler(BaseHTTPRequestHandler):
    name = ""

    def setup(self) -> None:
        super().setup()
        self.connection.setsockopt(6, 1, 1)  # TCP_NODELAY: head and body are two writes

    def do_GET(self) -> None:
        self.reply(f"{self.name}\n")

    def do_PUT(self) -> None:
        seen, digest = 0, hashlib.sha256()
        for part in self.body():
            seen += len(part)
            digest.update(part)
        self.reply(f"{seen} {digest.hexdigest()}\n")

    def body(self) -> Iterator[bytes]:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            left = int(self.headers.get("Content-Length", 0))
            while left and (part := self.rfile.read(min(left, PART))):
                left -= len(part)
                yield part
            return
        while size := int(self.rfile.readline().split(b";")[0], 16):
            yield self.rfile.read(size)
            self.rfile.readline()
        while self.rfile.readline().strip():
            pass  # trailers

    def reply(self, text: str) -> None:
        self.send_response(200)
        if self.protocol_version == "HTTP/1.1":
            self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, format: str, *arguments: object) -> None:
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def server_bind(self) -> None:
        """Without asking a name server for our own name: from a pod none answers, and that takes 20 s to find out."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = "web", self.server_address[1]


def main() -> None:
    port, version, Handler.name = int(sys.argv[1]), sys.argv[2], sys.argv[3]
    Handler.protocol_version = f"HTTP/{version}"
    Server(("", port), Handler).serve_forever()


if __name__ == "__main__":
    main()
