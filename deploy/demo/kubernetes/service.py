"""A service of the demo shop, or somebody who visits it. The standard library alone: it runs in pods.

service.py serve NAME [OTHER ...]   answers on port 8080 who it is, and what the other services say when it asks them
service.py visit URL                asks again and again, and says once a second how that went
"""

from __future__ import annotations

import http.client
import json
import platform
import sys
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

PORT = 8080
TIMEOUT_SECONDS = 5.0
PAUSE_SECONDS = 0.05
VISITS_PER_LINE = 20


class Service(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"  # connections are kept
    name = ""
    others: tuple[str, ...] = ()
    timeout = 60

    def do_GET(self) -> None:  # the name that http.server looks for
        if self.path == "/healthz":
            self._answer(200, {})
            return
        try:
            asked = {other: fetch(f"http://{other}/") for other in self.others}
        except (OSError, http.client.HTTPException, ValueError) as error:
            self._answer(502, {"service": self.name, "pod": platform.node(), "error": str(error)})
            return
        self._answer(200, {"service": self.name, "pod": platform.node(), "asked": asked})

    def _answer(self, status: int, said: object) -> None:
        body = json.dumps(said).encode() + b"\n"
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: the mesh counts requests."""


def fetch(url: str) -> object:
    """The answer's JSON; OSError when it is not 200."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port or 80, timeout=TIMEOUT_SECONDS)
    try:
        connection.request("GET", parts.path or "/")
        answer = connection.getresponse()
        body = answer.read()
    finally:
        connection.close()
    if answer.status != 200:
        raise OSError(f"{url} answers {answer.status}: {body.decode(errors='replace').strip()}")
    return json.loads(body)


def visit(url: str) -> None:
    pause, outcomes = threading.Event(), Counter[str]()
    while not pause.wait(PAUSE_SECONDS):
        try:
            fetch(url)
            outcomes["good"] += 1
        except (OSError, http.client.HTTPException, ValueError) as error:
            outcomes[str(error)] += 1
        if sum(outcomes.values()) % VISITS_PER_LINE == 0:
            sys.stdout.write(json.dumps(outcomes) + "\n")
            sys.stdout.flush()


def main(role: str, *rest: str) -> None:
    if role == "visit":
        visit(*rest)
    Service.name, *others = rest
    Service.others = tuple(others)
    ThreadingHTTPServer(("", PORT), Service).serve_forever()


if __name__ == "__main__":
    main(*sys.argv[1:])
