"""Two HAProxys (Debian's) with mutual TLS between them; the client calls the near one on its own loopback.

HTTP: both in HTTP mode. MIXED: both in TCP mode, a TLS connection per client's connection. Counters: `show stat` of
both stats sockets; what both have carried counts.
"""

from __future__ import annotations

import csv
import io
import socket
from pathlib import Path

from tests.bench.pair import FAR_PORT, Pair
from tests.bench.peer import Mode, first_line
from tests.kit.lab import Pod
from tests.kit.spawn import Process

PORT, WEB_PORT = 8080, 8081
SUFFIX = {Mode.HTTP: "", Mode.MIXED: "-tcp"}
COUNTER = {Mode.HTTP: "req_tot", Mode.MIXED: "stot"}


class HAProxyPair(Pair):
    modes = frozenset({Mode.HTTP, Mode.MIXED})

    def begin(self, pod: Pod, end: str) -> Process:
        config = self.configured(f"{end}{SUFFIX[self.place.mode]}.cfg", pod)
        return pod.popen(["haproxy", "-db", "-f", str(config)])

    def start(self) -> None:
        super().start()
        self.place.server.wait_listening(FAR_PORT)
        self.place.client.wait_listening(PORT)

    def address(self) -> tuple[str, int]:
        return "127.0.0.1", PORT

    def web_address(self) -> tuple[str, int]:
        return "127.0.0.1", WEB_PORT

    def carried(self) -> int:
        return min(self._counted(pod.directory / "haproxy.sock") for pod in (self.place.client, self.place.server))

    def _counted(self, path: Path) -> int:
        rows = csv.DictReader(io.StringIO(ask(path, "show stat").lstrip("# ")))
        fronts = [row for row in rows if row["svname"] == "FRONTEND" and row["pxname"] in ("in", "web")]
        return sum(int(row[COUNTER[self.place.mode]]) for row in fronts)

    def version(self) -> str:
        return first_line(["haproxy", "-v"])


def ask(path: Path, command: str) -> str:
    with socket.socket(socket.AF_UNIX) as one, one.makefile("r") as answer:
        one.settimeout(5)
        one.connect(str(path))
        one.sendall(f"{command}\n".encode())
        return answer.read()
