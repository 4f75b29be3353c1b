"""What the applications themselves saw: nginx's and PostgreSQL's logs, and the node's health checks of the web pods.

Rule: nothing here asks the mesh. Logs are read once, line by line as they grow; nginx's is begun anew when it is large,
because a demo may be left running over night.
"""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from tests.kit import apps
from tests.kit.lab import Pod
from tests.kit.wait import eventually

LOG_BYTES_MAX = 16 << 20
CHECKS_PER_SECOND = 1.0  # of each web pod; a kubelet's default is one in 10 s, which a demo of 10 s would hardly see
CHECK_SECONDS_MAX = 1.0  # as a kubelet's

_CONNECTION = re.compile(r"connection received: host=(\S+)")
_STATEMENT = re.compile(r"LOG:  statement: ")


class Tail:
    """The lines of a growing file, each once."""

    def __init__(self, path: Path) -> None:
        self.path, self.offset = path, 0

    def lines(self) -> Iterator[str]:
        with self.path.open("rb") as file:
            file.seek(self.offset)
            for line in file:
                if not line.endswith(b"\n"):
                    return  # it is still being written
                self.offset += len(line)
                yield line.decode(errors="replace")


class NginxLog:
    """Requests by who asked: (address, status) -> number."""

    def __init__(self, nginx: apps.Nginx, bytes_max: int = LOG_BYTES_MAX) -> None:
        self._nginx, self._bytes_max = nginx, bytes_max
        self._tail = Tail(nginx.directory / "access.log")
        self._seen: Counter[tuple[str, int]] = Counter()

    def read(self) -> Counter[tuple[str, int]]:
        self._take(self._tail)
        if self._tail.offset > self._bytes_max:
            self._begin_anew()
        return self._seen

    def _take(self, tail: Tail) -> None:
        records = (json.loads(line) for line in tail.lines())
        self._seen.update((record["peer"], record["status"]) for record in records)

    def _begin_anew(self) -> None:
        """nginx opens its log again on SIGUSR1; once the new file is there it has written its last to the old one."""
        path, old = self._tail.path, self._tail.path.with_suffix(".old")
        path.rename(old)
        os.kill(self._nginx.process.pid, signal.SIGUSR1)
        eventually(path.exists, "nginx to begin a new log")
        self._tail.path = old
        self._take(self._tail)
        old.unlink()
        self._tail = Tail(path)


class PostgresLog:
    """Connections by who made them, and how many statements."""

    def __init__(self, postgres: apps.Postgres) -> None:
        self._tail = Tail(postgres.process.log)
        self._connections: Counter[str] = Counter()
        self._statements = 0

    def read(self) -> tuple[Counter[str], int]:
        for line in self._tail.lines():
            if found := _CONNECTION.search(line):
                self._connections[found[1]] += 1
            self._statements += bool(_STATEMENT.search(line))
        return self._connections, self._statements


class HealthChecks:
    """What a kubelet does: the node itself asks each pod, over a new connection, past every Service."""

    def __init__(self, pods: list[Pod], port: int) -> None:
        self._pods, self._port = pods, port
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.good: Counter[str] = Counter()  # by pod
        self.failures: list[str] = []

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """The last one has ended."""
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.is_set():
            for pod in self._pods:
                self._check(pod)
            self._stop.wait(1 / CHECKS_PER_SECOND)

    def _check(self, pod: Pod) -> None:
        connection = http.client.HTTPConnection(pod.ip, self._port, timeout=CHECK_SECONDS_MAX)
        try:
            connection.request("GET", "/", headers={"User-Agent": "kube-probe/1", "Connection": "close"})
            response = connection.getresponse()
            response.read()
            if response.status != 200:
                raise http.client.HTTPException(f"status {response.status}")
            self.good[pod.name] += 1
        except (OSError, http.client.HTTPException) as failure:
            self.failures.append(f"{pod.name}: {type(failure).__name__} {failure}")
        finally:
            connection.close()
