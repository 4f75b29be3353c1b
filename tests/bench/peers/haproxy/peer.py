"""HAProxy (Debian's), explicit: the client calls it on its own loopback. Counter: `show stat` of the stats socket."""

from __future__ import annotations

import csv
import io
import socket
from collections.abc import Mapping

from tests.bench.peer import Mode, Peer, first_line

PORT = 8080
COUNTER = {Mode.HTTP: "req_tot", Mode.TCP: "stot"}


class HAProxy(Peer):
    configs: Mapping[Mode, str] = {Mode.HTTP: "haproxy.cfg", Mode.TCP: "haproxy-tcp.cfg"}

    def start(self) -> None:
        config = self.configured(self.configs[self.place.mode])
        self.running = self.place.client.popen(["haproxy", "-db", "-f", str(config)])
        self.place.client.wait_listening(PORT)

    def address(self) -> tuple[str, int]:
        return "127.0.0.1", PORT

    def carried(self) -> int:
        rows = csv.DictReader(io.StringIO(self._ask("show stat").lstrip("# ")))
        front = next(row for row in rows if (row["pxname"], row["svname"]) == ("in", "FRONTEND"))
        return int(front[COUNTER[self.place.mode]])

    def version(self) -> str:
        return first_line(["haproxy", "-v"])

    def _ask(self, command: str) -> str:
        with socket.socket(socket.AF_UNIX) as one, one.makefile("r") as answer:
            one.settimeout(5)
            one.connect(str(self.place.directory / "haproxy.sock"))
            one.sendall(f"{command}\n".encode())
            return answer.read()
